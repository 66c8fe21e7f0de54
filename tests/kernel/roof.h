/* SPDX-License-Identifier: MIT
 * roof.h: what one core and the memory reach at best, for the shares in the tables of bench_linear and check_kernels.
 * Matrix peaks are those of tiles whose operands come from caches (kernels/peak.h). static only. */
#ifndef LM_TESTS_ROOF_H
#define LM_TESTS_ROOF_H
#include "base/clock.h"
#include "kernels/kernel.h"
#include "kernels/peak.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define ROOF_MEMORY ((size_t)256 << 20) /* read for the roof */
#define ROOF_PANELS ((size_t)256 << 10)
#define ROOF_COPY ((size_t)32 << 10)

typedef struct roof {
    double peak[LM_PEAK_COUNT], tiles[2]; /* 1e9 operations a second; tiles: AMX, of bfloat16 and of bytes. 0: none */
    double narrow;                        /* float32 by AVX2 */
    double gbytes, copy;                  /* GB/s read from memory; read and written by a copy within a cache */
} roof;

/* Seconds of this thread alone: a busy machine shows less. */
static inline double roof_seconds(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t)) return lm_now_seconds();
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Best of some runs, in 1e9 operations a second. */
static inline double roof_peak(lm_peak kind, uint32_t flags) {
    const lm_peak_impl *impl = lm_peak_select(kind, flags);
    if (!impl) return 0;
    const lm_peak_tiles *t = &impl->tiles;
    const int64_t strips = (int64_t)(ROOF_PANELS / t->strip_bytes), rounds = 200;
    char *few = aligned_alloc(64, t->few_bytes + t->sums_bytes + (size_t)strips * t->strip_bytes);
    if (!few) abort();
    memset(few, 0, t->few_bytes + t->sums_bytes + (size_t)strips * t->strip_bytes);
    char *sums = few + t->few_bytes, *panels = sums + t->sums_bytes;
    double best = 0;
    for (int i = 0; i < 10; i++) {
        double s = roof_seconds();
        for (int64_t r = 0; r < rounds; r++) t->run(few, panels, strips, i % 2, sums);
        s = (double)(rounds * strips) * t->operations / (roof_seconds() - s);
        if (s > best) best = s;
    }
    free(few);
    return best * 1e-9;
}

/* With requests in advance and without, which is faster depends on the machine; large pages where the system has them.
 */
static inline double roof_read(double seconds) {
    const size_t words = ROOF_MEMORY / sizeof(uint64_t);
    uint64_t *p = aligned_alloc((size_t)2 << 20, ROOF_MEMORY);
    volatile uint64_t sink;
    if (!p) abort();
#if defined(__linux__)
    (void)madvise(p, ROOF_MEMORY, MADV_HUGEPAGE);
#endif
    memset(p, 1, ROOF_MEMORY);
    double best = 0;
    const double end = lm_now_seconds() + seconds;
    for (int round = 0; round < 4 || lm_now_seconds() < end; round++) {
        uint64_t a = 0, b = 0, c = 0, d = 0;
        double t = roof_seconds();
        for (size_t i = 0; i < words; i += 8) {
            if (round % 2) __builtin_prefetch(p + i + 512, 0, 3);
            a |= p[i] | p[i + 1], b |= p[i + 2] | p[i + 3], c |= p[i + 4] | p[i + 5], d |= p[i + 6] | p[i + 7];
        }
        sink = a | b | c | d;
        t = (double)ROOF_MEMORY / (roof_seconds() - t);
        if (t > best) best = t;
    }
    (void)sink;
    free(p);
    return best * 1e-9;
}

static inline double roof_copy(void) {
    enum { ROUNDS = 2000 };
    char *p = aligned_alloc(64, 2 * ROOF_COPY);
    if (!p) abort();
    memset(p, 1, 2 * ROOF_COPY);
    double best = 0;
    for (int i = 0; i < 20; i++) {
        double t = roof_seconds();
        for (int r = 0; r < ROUNDS; r++) {
            memcpy(p + ROOF_COPY, p, ROOF_COPY);
            __asm__ __volatile__("" ::"r"(p) : "memory");
        }
        t = 2.0 * (double)ROOF_COPY * ROUNDS / (roof_seconds() - t);
        if (t > best) best = t;
    }
    free(p);
    return best * 1e-9;
}

/* All of them, of one thread. */
static inline roof roof_measure(double seconds) {
    const uint32_t flags = lm_cpu_flags(), plain = flags & ~(uint32_t)LM_CPU_AMX;
    roof top = {.gbytes = roof_read(seconds), .copy = roof_copy()};
    for (int i = 0; i < LM_PEAK_COUNT; i++) top.peak[i] = roof_peak((lm_peak)i, plain);
    top.narrow = roof_peak(LM_PEAK_F32, flags & LM_CPU_AVX2);
    if (flags & LM_CPU_AMX)
        for (int i = 0; i < 2; i++) top.tiles[i] = roof_peak(i ? LM_PEAK_INT8 : LM_PEAK_BF16, flags);
    return top;
}

/* What the instructions of a row could reach: two products of bytes, or three of bfloat16, make one of class F16, two
 * of bfloat16 one of attention. 0: no such loop (scalar rows). */
static inline double roof_of(const lm_kernel_row *row, const roof *top) {
    if (!row->needs) return 0;
    if (row->needs == LM_CPU_AMX && row->numerics == LM_NUMERICS_BF16)
        return top->tiles[0] / (row->op == LM_OP_ATTN ? 2 : 1);
    if (row->needs == LM_CPU_AMX) return lm_format_is_affine(row->format) ? top->tiles[1] / 2 : top->tiles[0] / 3;
    if (row->needs == LM_CPU_VNNI || row->needs == LM_CPU_DOTPROD || row->needs == LM_CPU_I8MM)
        return top->peak[LM_PEAK_INT8] / 2;
    if (row->numerics == LM_NUMERICS_BF16) return top->peak[LM_PEAK_BF16];
    return row->needs == LM_CPU_AVX2 ? top->narrow : top->peak[LM_PEAK_F32];
}

static inline void roof_heading(const roof *top) {
    printf(
        "One thread: read %.1f GB/s, a copy in cache %.1f GB/s; products from caches: float32 %.1f, bf16 %.1f GFLOP/s, "
        "int8 %.1f GOP/s",
        top->gbytes, top->copy, top->peak[LM_PEAK_F32], top->peak[LM_PEAK_BF16], top->peak[LM_PEAK_INT8]);
    if (top->tiles[0] > 0) printf("; tiles: bf16 %.1f GFLOP/s, int8 %.1f GOP/s", top->tiles[0], top->tiles[1]);
    printf("\n\n| op | row | class | what | GB/s | of read or copy | GFLOP/s | of peak "
           "|\n|---|---|---|---|---:|---:|---:|---:|\n");
}

/* What the library calls a row, which may come from another table than its own. */
static inline lm_kernel_info roof_info(const lm_kernel_row *row) {
    size_t count;
    const lm_kernel_row *rows = lm_kernel_rows(&count);
    lm_kernel_info info = {.op = "?", .name = row->name, .format = lm_format_name(row->format), .numerics = "?"};
    for (size_t i = 0; i < count; i++)
        if (rows[i].op == row->op && rows[i].format == row->format && !strcmp(rows[i].name, row->name))
            lm_kernel_get_info(i, &info);
    return info;
}

/* A line of the table. Each figure 0: left out. */
static inline void roof_line(const lm_kernel_row *row, const char *what, double gbytes, double of_bytes, double gflops,
                             double of_flops) {
    const lm_kernel_info info = roof_info(row);
    const double figures[2][2] = {{gbytes, of_bytes}, {gflops, of_flops}};
    printf("| %s | %s", info.op, info.name);
    if (!row->needs) printf(" %s", info.format);
    printf(" | %s | %s |", info.numerics, what);
    for (int i = 0; i < 2; i++) {
        if (figures[i][0] > 0)
            printf(" %.3g |", figures[i][0]);
        else
            printf(" |");
        if (figures[i][0] > 0 && figures[i][1] > 0)
            printf(" %.0f %% |", 100 * figures[i][0] / figures[i][1]);
        else
            printf(" |");
    }
    printf("\n");
    fflush(stdout);
}
#endif
