/* SPDX-License-Identifier: MIT
 *
 * attn_case.h: what the tests of ops ATTN and ATTNQ share: a call, limits of many shapes, queries, and that a row's
 * bits don't depend on its company. */
#ifndef LM_TESTS_KERNEL_ATTN_CASE_H
#define LM_TESTS_KERNEL_ATTN_CASE_H
#include "check.h"
#include "kernels/kvq.h"
#include <string.h>

typedef struct attn_case {
    lm_attn_args a;
    const lm_attn_impl *impl;
    void *scratch;
    lm_format type; /* ATTN: of keys and values */
    lm_kvq quant;   /* ATTNQ; and the same numbers in mlx's order, [LM_KV_BLOCK] positions: keys, values */
    uint8_t *codes[2];
    void *scales[2], *biases[2];
} attn_case;

static void call(void *arg) {
    const attn_case *t = arg;
    t->impl->chunk(&t->a, t->scratch);
}

/* Outputs and scratch anew for `r` rows; keys, values and queries as they are. */
static void outputs(check *c, attn_case *t, const lm_attn_impl *impl, int32_t r) {
    t->impl = impl;
    t->a.r = r;
    t->a.m = check_aligned(c, (size_t)r * 4);
    t->a.l = check_aligned(c, (size_t)r * 4);
    t->a.acc = check_aligned(c, (size_t)r * (size_t)t->a.d * 4);
    t->scratch = check_aligned(c, impl->scratch_bytes(t->a.d, r));
}

static int32_t most(const attn_case *t) {
    int32_t n = 0;
    for (int32_t r = 0; r < t->a.r; r++) n = t->a.limit[r] > n ? t->a.limit[r] : n;
    return n;
}

typedef enum limits { FULL, CAUSAL, GROUPED, RANDOM, ONE, ZERO, LIMITS } limits;

static int32_t limit_of(check *c, limits kind, int32_t r, int32_t rows, int32_t start) {
    int32_t n = LM_KV_BLOCK;
    if (kind == CAUSAL) n = start + r;
    if (kind == GROUPED) n = start + r / 3;
    if (kind == RANDOM) n = check_int(c, 0, LM_KV_BLOCK);
    if (kind == ONE) n = r == rows / 2 ? 1 : 0;
    if (kind == ZERO) n = 0;
    return n > LM_KV_BLOCK ? LM_KV_BLOCK : n;
}

/* The limits of t->a.r rows. */
static void limits_of(check *c, attn_case *t, limits how) {
    int32_t *limit = check_aligned(c, (size_t)t->a.r * 4);
    const int32_t start = check_int(c, 0, LM_KV_BLOCK - 1);
    for (int32_t i = 0; i < t->a.r; i++) limit[i] = limit_of(c, how, i, t->a.r, start);
    t->a.limit = limit;
}

/* t->a.r queries that end at an unreadable page, scaled as a model scales them, at times with a gap between rows. */
static void queries_of(check *c, attn_case *t, check_kind kind) {
    const int32_t d = t->a.d;
    t->a.ldq = d + check_int(c, 0, 1) * 16;
    float *q = check_at_edge(c, ((size_t)(t->a.r - 1) * (size_t)t->a.ldq + (size_t)d) * 4, 0);
    for (int32_t i = 0; i < t->a.r; i++) {
        check_fill(c, kind, q + i * t->a.ldq, (size_t)d);
        for (int32_t j = 0; j < d; j++) q[i * t->a.ldq + j] /= sqrtf((float)d);
    }
    t->a.q = q;
}

/* For a bench: r plain queries that see the whole block. */
static void bench_queries(check *c, attn_case *t, int32_t r) {
    const int32_t d = t->a.d;
    int32_t *limit = check_aligned(c, (size_t)r * 4);
    float *q = check_aligned(c, (size_t)r * (size_t)d * 4);
    for (int32_t i = 0; i < r; i++) limit[i] = LM_KV_BLOCK;
    check_fill(c, CHECK_PLAIN, q, (size_t)r * (size_t)d);
    t->a.ldq = d, t->a.q = q, t->a.limit = limit;
    outputs(c, t, c->row->impl, r);
}

/* What the roundings of a sum of n may add up to, relative to its magnitudes: such a chain walks at random. */
static double chain(int32_t n) {
    return 0x1p-23 * (1 + 0.75 * sqrt(n));
}

static void check_rows_of_limit_0(check *c, const attn_case *t) {
    for (int32_t r = 0; r < t->a.r; r++) {
        if (t->a.limit[r]) continue;
        bool zero = isinf(t->a.m[r]) && t->a.m[r] < 0 && lm_f32_bits(t->a.l[r]) == 0;
        for (int32_t d = 0; d < t->a.d; d++) zero = zero && lm_f32_bits(t->a.acc[(int64_t)r * t->a.d + d]) == 0;
        if (!zero) check_fail(c, "row %d of limit 0 is not -inf, 0, 0", (int)r);
    }
}

/* Rows picked[0..n) of t as a call of their own must give the bits that t gave. */
static bool same_as(check *c, const attn_case *t, const int32_t *picked, int32_t n, const char *what) {
    const size_t row = (size_t)t->a.d * 4;
    attn_case part = *t;
    int32_t *limit = check_aligned(c, (size_t)n * 4);
    float *q = check_aligned(c, (size_t)n * row);
    for (int32_t i = 0; i < n; i++) {
        limit[i] = t->a.limit[picked[i]];
        memcpy(q + (int64_t)i * t->a.d, t->a.q + picked[i] * t->a.ldq, row);
    }
    part.a.q = q, part.a.ldq = t->a.d, part.a.limit = limit;
    outputs(c, &part, t->impl, n);
    if (!check_run(c, call, &part)) return false;
    bool same = true;
    for (int32_t i = 0; i < n && same; i++) {
        const int32_t r = picked[i];
        same = check_bits(c, what, part.a.m + i, t->a.m + r, 4) && check_bits(c, what, part.a.l + i, t->a.l + r, 4) &&
               check_bits(c, what, part.a.acc + (int64_t)i * t->a.d, t->a.acc + (int64_t)r * t->a.d, row);
    }
    return same;
}

/* Computes t by the row under test, then its rows alone, reversed, and picked: false where any bit differs. */
static bool same_in_any_company(check *c, attn_case *t) {
    int32_t picked[128], n = 0;
    outputs(c, t, c->row->impl, t->a.r);
    if (!check_run(c, call, t)) return false;
    for (int32_t r = 0; r < t->a.r; r++)
        if (!same_as(c, t, &r, 1, "a row alone")) return false;
    for (int32_t r = t->a.r - 1; r >= 0; r--) picked[n++] = r;
    if (!same_as(c, t, picked, n, "rows in reverse")) return false;
    for (int32_t tries = 0; tries < 6; tries++) {
        n = check_int(c, 1, t->a.r < 64 ? t->a.r + 40 : 128);
        for (int32_t i = 0; i < n; i++) picked[i] = check_int(c, 0, t->a.r - 1);
        if (!same_as(c, t, picked, n, "rows picked at random, some twice")) return false;
    }
    return true;
}

/* The first position of the last few that only rows of the largest limit see. */
static int32_t last_few(const attn_case *t) {
    const int32_t end = most(t);
    return end > 9 ? end - 9 : 0;
}

/* Rows whose limits end at `from` or before must not notice what else has changed since `clean`. */
static void same_before(check *c, const attn_case *t, const attn_case *clean, int32_t from) {
    for (int32_t r = 0; r < t->a.r; r++) {
        const int64_t d = t->a.d;
        if (t->a.limit[r] > from) continue;
        check_bits(c, "max beside rows that see NaN", t->a.m + r, clean->a.m + r, 4);
        check_bits(c, "values beside rows that see NaN", t->a.acc + r * d, clean->a.acc + r * d, (size_t)d * 4);
    }
}
#endif
