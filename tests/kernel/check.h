/* SPDX-License-Identifier: MIT
 *
 * check.h: the harness of the kernel tests. For every row of kernels.def that the current CPU level adds, main calls
 * the module of the row's op; the module compares the row with the scalar row of the same op and format on random and
 * extreme inputs, and reports through the functions below. A failure is recorded once per row with its reason; a crash
 * inside check_run fails that row only.
 *
 * Run:  check_kernels [--seed N] [--filter TEXT] [--bench | --table]     with LM_CPU=scalar|avx2|avx512|... naming the
 * level Exit: 0 all passed, 1 something failed, 77 this processor lacks the level. */
#ifndef LM_TESTS_KERNEL_CHECK_H
#define LM_TESTS_KERNEL_CHECK_H
#include "base/half.h"
#include "kernels/kernel.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct check_block check_block;
typedef struct check {
    uint64_t seed, state; /* state: of the generator, set from seed and the row's name before each row */
    bool bench, table;    /* table: a line of Markdown for each figure, nothing else; linear rows: bench_linear */
    const struct roof *top;
    const char *filter;
    const lm_kernel_row *row, *ref; /* under test; its scalar row */
    const char *stage;              /* what is being tested, for messages; set it before each part */
    double used;                    /* largest share of a tolerance that any comparison of this row used */
    char used_by[64];               /* the stage of that */
    int64_t comparisons;            /* numbers compared for this row: 0 is a failure too */
    int failures;                   /* of this row; the first few are printed */
    int figures;                    /* that check_bench printed for this row: with --table, 0 is a failure */
    check_block *blocks;            /* live allocations of this row */
} check;

/* One module per op: tests c->row. Add a module: a file check_NAME.c, a line here. */
#define CHECK_MODULES(X)  \
    X(attn, LM_OP_ATTN)   \
    X(attnq, LM_OP_ATTNQ) \
    X(row, LM_OP_ROW)     \
    X(kv, LM_OP_KV)       \
    X(quantize, LM_OP_QUANT)
#define CHECK_DECLARE(name, op) void check_##name(check *c);
CHECK_MODULES(CHECK_DECLARE)
#if CHECK_HAS_LINEAR
void check_linear(check *c); /* MATVEC and MATMAT */
#endif

/* The loops that ceilings are measured with (kernels/peak.h); returns how many fail. */
int check_peaks(uint32_t flags);

/* ---- inputs ---- */
uint64_t check_random(check *c);
int32_t check_int(check *c, int32_t low, int32_t high); /* both included */
float check_uniform(check *c, float low, float high);
typedef enum check_kind {
    CHECK_PLAIN,   /* about normal, sigma 1 */
    CHECK_SMALL,   /* around 2^-12: float16 subnormals once products are stored */
    CHECK_MIXED,   /* magnitudes from 2^-20 to 2^10, zeros of both signs */
    CHECK_EXTREME, /* as MIXED with float32 denormals, 1e30 and -1e30 */
    CHECK_KINDS
} check_kind;
void check_fill(check *c, check_kind kind, float *x, size_t n);
/* Element `i` of a vector of format F32, F16 or BF16, from and to float32 (scalar conversions). */
float check_get(lm_format type, const void *p, size_t i);
void check_put(lm_format type, void *p, size_t i, float x);
size_t check_size(lm_format type);

/* ---- memory: framed by canaries that check_frames verifies; freed when the row's test ends ---- */
/* 64-byte aligned, filled with NaN bytes (0xff), 256 canary bytes on each side. */
void *check_aligned(check *c, size_t bytes);
/* Ends `gap` bytes before an unreadable page, so that any over-read past the gap is a crash; any alignment. */
void *check_at_edge(check *c, size_t bytes, size_t gap);
/* Fails the row if any frame was written. Call after each kernel call or set of calls. */
void check_frames(check *c);
void check_release(check *c); /* frees the row's blocks before its end (after check_frames) */

/* ---- running and comparing ---- */
/* Calls fn(arg); a SIGSEGV, SIGBUS, SIGILL or SIGFPE inside it fails the row and returns false. */
bool check_run(check *c, void (*fn)(void *), void *arg);
void check_fail(check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* |got - want| <= tolerance; equal infinities pass, two NaNs pass. Remembers the share used. */
bool check_close(check *c, const char *what, int64_t index, double got, double want, double tolerance);
bool check_bits(check *c, const char *what, const void *got, const void *want, size_t bytes);
/* Distance in units of the last place of float32. */
double check_ulps(float got, double want);

/* y[M, N] of a linear row must have the same bits for every split of N (at n_step) and M (prep at m_step), for each row
 * of x alone, and for each row at another place among other rows. Calls the row through check_run. x is [m, ldx]. */
void check_linear_invariant(check *c, const lm_linear_impl *impl, const lm_weight *w, const float *x, int64_t ldx,
                            int64_t m);
/* One guarded prep + run of rows [0, m), columns split at multiples of `step` columns (0: not split). */
bool check_linear_call(check *c, const lm_linear_impl *impl, const lm_weight *w, const float *x, int64_t ldx, int64_t m,
                       int64_t step, float *y, int64_t ldy);

/* With --bench: times fn(arg) for about 0.3 s and prints the median of its batches with GB/s and GFLOP/s (0: not
 * shown). */
void check_bench(check *c, const char *what, void (*fn)(void *), void *arg, double bytes, double flops);
#endif
