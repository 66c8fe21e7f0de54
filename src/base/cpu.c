/* SPDX-License-Identifier: MIT
 *
 * cpu.c: asks the processor (CPUID) and the system (XGETBV, arch_prctl, HWCAP, sysctl) what may be executed, and cuts
 * the answer by LM_CPU. Compiled without instruction-set flags: nothing wide may run before this has answered. */
#include "base/cpu.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *text;
    uint32_t flag;
} profiles[] = {
#define LM_X(name, text, bit) {text, 1u << (bit)},
    LM_CPU_MAP(LM_X)
#undef LM_X
};
#define N_PROFILES (sizeof profiles / sizeof profiles[0])

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

typedef struct regs {
    unsigned a, b, c, d;
} regs;

static regs cpuid(unsigned leaf, unsigned sub) {
    regs r = {0, 0, 0, 0};
    if (!__get_cpuid_count(leaf, sub, &r.a, &r.b, &r.c, &r.d)) memset(&r, 0, sizeof r);
    return r;
}

/* Which register files the system saves: bits 1-2 SSE and AVX, 5-7 AVX-512, 17-18 AMX tiles. */
static uint64_t saved_state(void) {
    uint32_t lo, hi;
    __asm__ __volatile__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Linux hands out the 8 KiB of tile state only to processes that ask. Other systems: not used. */
static bool amx_permitted(void) {
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

static bool has(unsigned reg, int bit) {
    return (reg >> bit) & 1;
}

uint32_t lm_cpu_detect(void) {
    regs one = cpuid(1, 0), seven = cpuid(7, 0), seven1 = {0, 0, 0, 0};
    if (seven.a >= 1) seven1 = cpuid(7, 1);
    uint32_t flags = 0;
    if (!has(one.c, 27)) return 0; /* OSXSAVE */
    uint64_t saved = saved_state();
    bool fma = has(one.c, 12), f16c = has(one.c, 29), avx = has(one.c, 28);
    bool bmi = has(seven.b, 3) && has(seven.b, 8), avx2 = has(seven.b, 5);
    if ((saved & 0x6) != 0x6 || !(avx && avx2 && fma && f16c && bmi)) return 0;
    flags |= LM_CPU_AVX2;
    bool f = has(seven.b, 16), dq = has(seven.b, 17), cd = has(seven.b, 28), bw = has(seven.b, 30),
         vl = has(seven.b, 31);
    if ((saved & 0xe6) != 0xe6 || !(f && dq && cd && bw && vl)) return flags;
    flags |= LM_CPU_AVX512;
    if (!has(seven.c, 11)) return flags; /* AVX512_VNNI */
    flags |= LM_CPU_VNNI;
    if (!has(seven1.a, 5)) return flags; /* AVX512_BF16 */
    flags |= LM_CPU_BF16;
    bool tile = has(seven.d, 24), tile_bf16 = has(seven.d, 22), tile_int8 = has(seven.d, 25);
    if ((saved & 0x60000) == 0x60000 && tile && tile_bf16 && tile_int8 && amx_permitted()) flags |= LM_CPU_AMX;
    return flags;
}

void lm_cpu_name(char *text, int size) {
    char brand[49] = {0};
    if (size <= 0) return;
    if (cpuid(0x80000000u, 0).a >= 0x80000004u)
        for (unsigned i = 0; i < 3; i++) {
            regs r = cpuid(0x80000002u + i, 0);
            memcpy(brand + 16 * i, &r, 16);
        }
    const char *start = brand + strspn(brand, " ");
    snprintf(text, (size_t)size, "%s", *start ? start : "x86-64");
    for (size_t n = strlen(text); n > 0 && text[n - 1] == ' '; n--) text[n - 1] = 0;
}

#elif defined(__aarch64__)
/* Each level stands on the one before it; no processor is known that has a later one alone. */
static uint32_t levels(bool dotprod, bool i8mm, bool bf16) {
    uint32_t flags = LM_CPU_NEON;
    if (!dotprod) return flags;
    flags |= LM_CPU_DOTPROD;
    if (!i8mm) return flags;
    flags |= LM_CPU_I8MM;
    return bf16 ? flags | LM_CPU_ARM_BF16 : flags;
}

#if defined(__linux__)
#include <sys/auxv.h>
static bool has(unsigned long word, int bit) {
    return (word >> bit) & 1;
}
uint32_t lm_cpu_detect(void) {
    /* Bits of the kernel's ABI (asm/hwcap.h); older headers lack the names. */
    enum { ASIMD = 1, ASIMDDP = 20, I8MM = 13, BF16 = 14 };
    const unsigned long hwcap = getauxval(AT_HWCAP), hwcap2 = getauxval(AT_HWCAP2);
    if (!has(hwcap, ASIMD)) return 0;
    return levels(has(hwcap, ASIMDDP), has(hwcap2, I8MM), has(hwcap2, BF16));
}
void lm_cpu_name(char *text, int size) {
    if (size > 0) snprintf(text, (size_t)size, "aarch64");
}
#elif defined(__APPLE__)
#include <sys/sysctl.h>
/* Unknown to an older system: false, and NEON remains. */
static bool feature(const char *name) {
    int value = 0;
    size_t length = sizeof value;
    return sysctlbyname(name, &value, &length, NULL, 0) == 0 && value != 0;
}
uint32_t lm_cpu_detect(void) {
    return levels(feature("hw.optional.arm.FEAT_DotProd"), feature("hw.optional.arm.FEAT_I8MM"),
                  feature("hw.optional.arm.FEAT_BF16"));
}
void lm_cpu_name(char *text, int size) {
    size_t length = size > 0 ? (size_t)size : 0;
    if (length && sysctlbyname("machdep.cpu.brand_string", text, &length, NULL, 0) != 0)
        snprintf(text, (size_t)size, "aarch64");
}
#else
uint32_t lm_cpu_detect(void) {
    return levels(false, false, false); /* nobody to ask: what the architecture promises */
}
void lm_cpu_name(char *text, int size) {
    if (size > 0) snprintf(text, (size_t)size, "aarch64");
}
#endif
#else
uint32_t lm_cpu_detect(void) {
    return 0;
}
void lm_cpu_name(char *text, int size) {
    if (size > 0) snprintf(text, (size_t)size, "unknown processor");
}
#endif

/* Flags of one word of LM_CPU; 0 if there is no such profile. */
static uint32_t find_profile(const char *word, size_t length) {
    for (size_t i = 0; i < N_PROFILES; i++)
        if (strlen(profiles[i].text) == length && !memcmp(profiles[i].text, word, length)) return profiles[i].flag;
    return 0;
}

static uint32_t mask_of_list(const char *list) {
    uint32_t mask = 0;
    while (*list) {
        size_t length = strcspn(list, ",");
        mask |= find_profile(list, length);
        list += length + (list[length] == ',');
    }
    return mask;
}

/* "avx512" keeps avx2 as well: levels lie in order of their bits. */
static uint32_t mask_of_text(const char *text) {
    if (!text || !*text) return ~0u;
    if (!strcmp(text, "scalar")) return 0;
    if (*text == '=') return mask_of_list(text + 1);
    uint32_t flag = find_profile(text, strlen(text));
    if (!flag) return ~0u;
    return flag | (flag - 1);
}

bool lm_cpu_mask_known(void) {
    const char *text = getenv("LM_CPU");
    if (!text || !*text || !strcmp(text, "scalar")) return true;
    if (*text != '=') return find_profile(text, strlen(text)) != 0;
    for (const char *list = text + 1; *list;) {
        const size_t length = strcspn(list, ",");
        if (!find_profile(list, length)) return false;
        list += length + (list[length] == ',');
    }
    return true;
}

/* Bit 32 says that the low half is known. Two threads that race compute the same value. */
#define KNOWN ((uint64_t)1 << 32)
static _Atomic uint64_t in_use;

uint32_t lm_cpu_flags(void) {
    uint64_t state = atomic_load_explicit(&in_use, memory_order_relaxed);
    if (!(state & KNOWN)) {
        uint64_t expected = state;
        state = (lm_cpu_detect() & mask_of_text(getenv("LM_CPU"))) | KNOWN;
        /* A mask set meanwhile by lm_cpu_set_mask stands. */
        if (!atomic_compare_exchange_strong(&in_use, &expected, state)) state = expected;
    }
    return (uint32_t)state;
}

void lm_cpu_set_mask(uint32_t mask) {
    atomic_store(&in_use, (lm_cpu_detect() & mask) | KNOWN);
}

void lm_cpu_flags_text(uint32_t flags, char *text, int size) {
    if (size <= 0) return;
    size_t used = 0, room = (size_t)size;
    text[0] = 0;
    for (size_t i = 0; i < N_PROFILES; i++) {
        if (!(flags & profiles[i].flag)) continue;
        int n = snprintf(text + used, room - used, "%s%s", used ? "+" : "", profiles[i].text);
        if (n < 0 || (size_t)n >= room - used) return;
        used += (size_t)n;
    }
    if (!used) snprintf(text, room, "scalar");
}
