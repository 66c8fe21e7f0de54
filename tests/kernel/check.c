/* SPDX-License-Identifier: MIT
 *
 * check.c: main of the kernel tests, and the tools of check.h: inputs, framed memory, comparisons, bench. */
#include "check.h"
#include "roof.h"
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------- inputs */

uint64_t check_random(check *c) { /* splitmix64 */
    uint64_t z = c->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int32_t check_int(check *c, int32_t low, int32_t high) {
    return low + (int32_t)(check_random(c) % (uint64_t)((int64_t)high - low + 1));
}

float check_uniform(check *c, float low, float high) {
    return low + (high - low) * (float)(check_random(c) >> 40) * 0x1p-24f;
}

static float about_normal(check *c) {
    float sum = 0;
    for (int i = 0; i < 4; i++) sum += check_uniform(c, -1, 1);
    return sum * 0.866f;
}

void check_fill(check *c, check_kind kind, float *x, size_t n) {
    static const float extremes[] = {1e30f, -1e30f, 0x1p-140f, -0x1p-149f, 0x1p-126f, 0.0f, -0.0f, 65504.0f};
    for (size_t i = 0; i < n; i++) {
        x[i] = about_normal(c);
        if (kind == CHECK_SMALL) x[i] *= 0x1p-12f;
        if (kind == CHECK_MIXED || kind == CHECK_EXTREME) {
            x[i] = ldexpf(x[i], check_int(c, -20, 10));
            if (check_int(c, 0, 15) == 0) x[i] = check_int(c, 0, 1) ? 0.0f : -0.0f;
        }
        if (kind == CHECK_EXTREME && check_int(c, 0, 7) == 0) x[i] = extremes[check_int(c, 0, 7)];
    }
}

size_t check_size(lm_format type) {
    return type == LM_FORMAT_F32 ? 4 : 2;
}

float check_get(lm_format type, const void *p, size_t i) {
    const char *at = (const char *)p + i * check_size(type);
    if (type == LM_FORMAT_F32) return lm_load_f32(at);
    return type == LM_FORMAT_F16 ? lm_f16_to_f32(lm_load_u16(at)) : lm_bf16_to_f32(lm_load_u16(at));
}

void check_put(lm_format type, void *p, size_t i, float x) {
    char *at = (char *)p + i * check_size(type);
    uint16_t h = type == LM_FORMAT_F16 ? lm_f32_to_f16(x) : lm_f32_to_bf16(x);
    if (type == LM_FORMAT_F32)
        memcpy(at, &x, 4);
    else
        memcpy(at, &h, 2);
}

/* ---------------------------------------------------------------- memory */

#define FRAME 256
#define CANARY 0xc5
struct check_block {
    check_block *next;
    unsigned char *base, *data;
    size_t mapped, bytes, before, after; /* canary bytes on both sides of data */
};

static void *add_block(check *c, size_t bytes, size_t gap, bool at_edge) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t need = bytes + gap + FRAME + (at_edge ? 0 : FRAME + 64);
    check_block *b = calloc(1, sizeof *b);
    size_t readable = (need + page - 1) / page * page;
    unsigned char *base = mmap(NULL, readable + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (!b || base == MAP_FAILED || mprotect(base + readable, page, PROT_NONE)) {
        fprintf(stderr, "check_kernels: no memory for %zu bytes\n", bytes);
        exit(2);
    }
    unsigned char *data = at_edge ? base + readable - gap - bytes : base + (FRAME + 63) / 64 * 64;
    size_t after = at_edge ? gap : FRAME;
    *b = (check_block){c->blocks, base, data, readable + page, bytes, FRAME, after};
    if (data < base + FRAME) b->before = (size_t)(data - base);
    memset(data - b->before, CANARY, b->before);
    memset(data, 0xff, bytes);
    memset(data + bytes, CANARY, after);
    c->blocks = b;
    return data;
}

void *check_aligned(check *c, size_t bytes) {
    return add_block(c, bytes, 0, false);
}
void *check_at_edge(check *c, size_t bytes, size_t gap) {
    return add_block(c, bytes, gap, true);
}

static bool all_canary(const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != CANARY) return false;
    return true;
}

void check_frames(check *c) {
    for (check_block *b = c->blocks; b; b = b->next) {
        if (!all_canary(b->data - b->before, b->before)) check_fail(c, "wrote before a buffer of %zu bytes", b->bytes);
        if (!all_canary(b->data + b->bytes, b->after)) check_fail(c, "wrote past a buffer of %zu bytes", b->bytes);
    }
}

void check_release(check *c) {
    check_frames(c);
    while (c->blocks) {
        check_block *b = c->blocks;
        c->blocks = b->next;
        munmap(b->base, b->mapped);
        free(b);
    }
}

/* ---------------------------------------------------------------- comparing */

void check_fail(check *c, const char *fmt, ...) {
    va_list args;
    if (c->failures++ >= 4) return; /* the first ones say enough */
    printf("    FAIL %s: %s: ", c->row->name, c->stage);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n");
}

bool check_close(check *c, const char *what, int64_t index, double got, double want, double tolerance) {
    double difference = fabs(got - want);
    c->comparisons++;
    if ((isnan(got) && isnan(want)) || (isinf(want) && got == want)) return true;
    double share = difference > 0 ? difference / tolerance : 0;
    if (isfinite(share) && share > c->used) {
        c->used = share;
        snprintf(c->used_by, sizeof c->used_by, "%s", what);
    }
    if (difference <= tolerance) return true;
    check_fail(c, "%s[%lld]: expected %.9g, got %.9g: off by %.3g, allowed %.3g", what, (long long)index, want, got,
               difference, tolerance);
    return false;
}

bool check_bits(check *c, const char *what, const void *got, const void *want, size_t bytes) {
    c->comparisons++;
    if (!memcmp(got, want, bytes)) return true;
    size_t i = 0;
    while (((const char *)got)[i] == ((const char *)want)[i]) i++;
    check_fail(c, "%s: bits differ from byte %zu of %zu on", what, i, bytes);
    return false;
}

double check_ulps(float got, double want) {
    int exponent;
    if ((double)got == want || (isnan(got) && isnan(want))) return 0;
    frexp(want, &exponent);
    if (exponent < -125) exponent = -125;
    return fabs((double)got - want) / ldexp(1.0, exponent - 24);
}

/* ---------------------------------------------------------------- bench */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* "cold": what is read comes from memory; else arithmetic where there is any; else a copy within a cache is the roof.
 */
static void table_line(check *c, const char *what, double bytes, double flops) {
    const bool cold = strstr(what, "cold");
    roof_line(c->row, what, bytes,
              cold        ? c->top->gbytes
              : flops > 0 ? 0
                          : c->top->copy,
              flops, cold ? 0 : roof_of(c->row, c->top));
}

void check_bench(check *c, const char *what, void (*fn)(void *), void *arg, double bytes, double flops) {
    enum { BATCHES = 15 };
    double times[BATCHES];
    int64_t calls = 1;
    if (!c->bench || c->failures) return;
    for (;; calls *= 2) { /* a batch takes 20 ms or more */
        double start = roof_seconds();
        for (int64_t i = 0; i < calls; i++) fn(arg);
        if (roof_seconds() - start > 0.02) break;
    }
    int n = 0;
    for (double begin = roof_seconds(); n < BATCHES && (n < 3 || roof_seconds() - begin < 1); n++) {
        double start = roof_seconds();
        for (int64_t i = 0; i < calls; i++) fn(arg);
        times[n] = (roof_seconds() - start) / (double)calls;
    }
    qsort(times, (size_t)n, sizeof times[0], by_value);
    double t = times[n / 2];
    c->figures++;
    if (c->table) {
        table_line(c, what, bytes / t * 1e-9, flops / t * 1e-9);
        return;
    }
    printf("    bench %-44s %10.3f us", what, t * 1e6);
    if (bytes > 0) printf("  %7.2f GB/s", bytes / t * 1e-9);
    if (flops > 0) printf("  %7.2f GFLOP/s", flops / t * 1e-9);
    printf("  (spread %.0f%%)\n", 100 * (n > 3 ? times[n - 2] - times[1] : times[n - 1] - times[0]) / t);
}

/* ---------------------------------------------------------------- main */

static void run_module(check *c) {
#define CHECK_CALL(name, its_op) \
    if (c->row->op == (its_op)) check_##name(c);
    CHECK_MODULES(CHECK_CALL)
#if CHECK_HAS_LINEAR
    if (c->row->op == LM_OP_MATVEC || c->row->op == LM_OP_MATMAT) check_linear(c);
#else
    if (c->row->op == LM_OP_MATVEC || c->row->op == LM_OP_MATMAT) check_fail(c, "no module tests this op");
#endif
}

/* Tests one row; the seed of its inputs depends on the row alone, so that --filter repeats a failure. */
static bool test_row(check *c, const lm_kernel_row *row) {
    c->row = row;
    c->ref = lm_kernel_select(row->op, row->format, row->layout, LM_NUMERICS_F32, 0);
    c->state = c->seed;
    for (const char *s = row->name; *s; s++) c->state = c->state * 31 + (unsigned char)*s;
    c->state += (uint64_t)row->op * 1000 + row->format;
    c->stage = "start";
    c->used = 0, c->used_by[0] = 0, c->failures = 0, c->comparisons = 0, c->figures = 0;
    if (c->ref)
        run_module(c);
    else
        check_fail(c, "no scalar row to compare with");
    if (!c->comparisons && !c->failures) check_fail(c, "nothing was compared");
    if (c->table && !c->figures && !c->failures) check_fail(c, "no line in the table");
    check_release(c);
    if (c->table && !c->failures) return true;
    printf("  %-4s %-34s %-8s", c->failures ? "FAIL" : "ok", row->name, lm_format_name(row->format));
    printf(" %9lld compared, %3.0f%% of tolerance used%s%s\n", (long long)c->comparisons, 100 * c->used,
           *c->used_by ? " by " : "", c->used_by);
    fflush(stdout);
    return c->failures == 0;
}

/* Under every level the choice for each op and format must be a runnable row, and no runnable row may rank higher. */
static int test_selection(uint32_t flags) {
    int failures = 0;
    size_t count;
    const lm_kernel_row *rows = lm_kernel_rows(&count);
    for (size_t i = 0; i < count; i++) {
        const lm_kernel_row *best =
            lm_kernel_select(rows[i].op, rows[i].format, rows[i].layout, rows[i].numerics, flags);
        bool runnable = !(rows[i].needs & ~flags);
        if (best && !(best->needs & ~flags) && (!runnable || best->rank >= rows[i].rank)) continue;
        printf("  FAIL selection: %s is passed over\n", rows[i].name);
        failures++;
    }
    return failures;
}

/* The profile that LM_CPU names, 0 if none; `*known` false for "scalar", unset and lists. */
static uint32_t named_level(const char *text) {
    char name[64];
    for (int bit = 0; text && bit < 32; bit++) {
        lm_cpu_flags_text(1u << bit, name, sizeof name);
        if (!strcmp(name, text) && strcmp(name, "scalar")) return 1u << bit;
    }
    return 0;
}

static bool parse(check *c, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--bench"))
            c->bench = true;
        else if (!strcmp(argv[i], "--table"))
            c->bench = c->table = true;
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
            c->seed = strtoull(argv[++i], NULL, 0);
        else if (!strcmp(argv[i], "--filter") && i + 1 < argc)
            c->filter = argv[++i];
        else
            return false;
    }
    return true;
}

int main(int argc, char **argv) {
    check c = {.seed = 1}; /* the same inputs each time; other seeds by hand */
    const char *level = getenv("LM_CPU");
    const uint32_t flags = lm_cpu_flags(), named = named_level(level);
    int failed = 0, tested = 0, elsewhere = 0;
    size_t count;
    const lm_kernel_row *rows = lm_kernel_rows(&count);
    if (!parse(&c, argc, argv)) {
        fprintf(stderr, "usage: [LM_CPU=level] check_kernels [--seed N] [--filter TEXT] [--bench | --table]\n");
        return 2;
    }
    roof top = {0};
    if (c.table) top = roof_measure(0.5);
    c.top = &top;
    if (!c.table) printf("%s; seed %llu\n", lm_cpu_description(), (unsigned long long)c.seed);
    if (named & ~lm_cpu_detect()) {
        printf("skipped: this processor cannot run level %s natively\n", level);
        return 77;
    }
    failed += test_selection(flags);
    failed += check_peaks(flags);
    for (size_t i = 0; i < count; i++) {
        /* With a level named, only the rows that it adds to the level below. */
        bool runs = !(rows[i].needs & ~flags), added = !named || (rows[i].needs & named);
        if (!runs) elsewhere++;
        if (c.table && (rows[i].op == LM_OP_MATVEC || rows[i].op == LM_OP_MATMAT)) continue;
        if (!runs || !added || (c.filter && !strstr(rows[i].name, c.filter))) continue;
        failed += !test_row(&c, &rows[i]);
        tested++;
    }
    if (!c.table)
        printf("level %s: %d rows tested natively, %d failed; %d rows of the table need more than this level\n",
               level ? level : "(all)", tested, failed, elsewhere);
    return failed ? 1 : 0;
}
