/* SPDX-License-Identifier: MIT
 * cpu.h: what this processor and its system can run, as profiles rather than single CPUID bits, under the LM_CPU mask.
 */
#ifndef LM_BASE_CPU_H
#define LM_BASE_CPU_H
#include <stdbool.h>
#include <stdint.h>

/* Profiles. AVX2 = AVX2+FMA+F16C+BMI2; AVX512 = F/BW/DQ/VL/CD on top of AVX2; both checked with XGETBV. NEON = what
 * every AArch64 has; DOTPROD = sdot; I8MM = smmla on top; ARM_BF16 = bfmmla on top of all. A level's name is unique
 * within its architecture only: "bf16" is the level of the processor that runs. */
/* clang-format off */
#define LM_CPU_MAP_X86(X) \
    X(AVX2, "avx2", 0) X(AVX512, "avx512", 1) X(VNNI, "vnni", 2) X(BF16, "bf16", 3) X(AMX, "amx", 4)
#define LM_CPU_MAP_ARM(X) \
    X(NEON, "neon", 5) X(DOTPROD, "dotprod", 6) X(I8MM, "i8mm", 7) X(ARM_BF16, "bf16", 8)
/* clang-format on */
/* What this architecture can have, in order. */
#if defined(__aarch64__)
#define LM_CPU_MAP LM_CPU_MAP_ARM
#else
#define LM_CPU_MAP LM_CPU_MAP_X86
#endif
enum {
#define LM_X(name, text, bit) LM_CPU_##name = 1u << (bit),
    LM_CPU_MAP_X86(LM_X) LM_CPU_MAP_ARM(LM_X)
#undef LM_X
};

/** Profiles of the processor itself. */
uint32_t lm_cpu_detect(void);
/** Profiles in use: detected, cut by the environment's LM_CPU: "scalar" (nothing), "avx2", "avx512", "vnni", "bf16",
 *  "amx" (AArch64: "neon", "dotprod", "i8mm", "bf16"): that level and everything below it; or a comma list of exact
 *  profiles with a leading '=' ("=avx2,vnni"). Unset or unknown: everything. Read once. */
uint32_t lm_cpu_flags(void);
/** False where LM_CPU has a word that is no profile of this architecture; it counts for nothing then. */
bool lm_cpu_mask_known(void);
/** For tests: replaces the mask (0: scalar; ~0u: all that was detected). */
void lm_cpu_set_mask(uint32_t mask);
/** "avx2+avx512" into text. */
void lm_cpu_flags_text(uint32_t flags, char *text, int size);
/** The processor's own name ("AMD EPYC ..."), cut to size. */
void lm_cpu_name(char *text, int size);
#endif
