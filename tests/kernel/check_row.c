/* SPDX-License-Identifier: MIT
 *
 * check_row.c: op ROW: norms, activations, rotation, reductions, at any length, beside canaries and unreadable pages.
 */
#include "check.h"
#include <string.h>

typedef struct row_case {
    const lm_row_impl *impl;
    float *x, *w, *y; /* inputs and in-out */
    int64_t n, index;
    float a, max, sum;
} row_case;

static void call_rms(void *arg) {
    row_case *t = arg;
    t->impl->rms_norm(t->x, t->w, t->a, t->n, t->y);
}
static void call_swiglu(void *arg) {
    row_case *t = arg;
    t->impl->swiglu(t->x, t->w, t->n, t->y);
}
static void call_add(void *arg) {
    row_case *t = arg;
    t->impl->add(t->y, t->x, t->n);
}
static void call_axpy(void *arg) {
    row_case *t = arg;
    t->impl->axpy(t->y, t->a, t->x, t->n);
}
static void call_rope(void *arg) {
    row_case *t = arg;
    t->impl->rope(t->y, t->x, t->w, t->n / 2);
}
static void call_lse(void *arg) {
    row_case *t = arg;
    t->impl->logsumexp(t->x, t->n, &t->max, &t->sum);
}
static void call_argmax(void *arg) {
    row_case *t = arg;
    t->index = t->impl->argmax(t->x, t->n);
}

static float *input(check *c, int64_t n, check_kind kind) {
    float *x = check_at_edge(c, (size_t)n * 4, 0);
    check_fill(c, kind, x, (size_t)n);
    return x;
}

static row_case make(check *c, int64_t n, check_kind kind) {
    row_case t = {.impl = c->row->impl, .n = n, .a = check_uniform(c, -2, 2)};
    t.x = input(c, n, kind), t.w = input(c, n, kind), t.y = check_at_edge(c, (size_t)n * 4, 0);
    check_fill(c, kind, t.y, (size_t)n);
    return t;
}

/* The scalar row on copies of what it writes. */
static row_case reference(check *c, const row_case *t) {
    row_case r = *t;
    r.impl = c->ref->impl;
    r.y = check_aligned(c, (size_t)t->n * 4);
    memcpy(r.y, t->y, (size_t)t->n * 4);
    return r;
}

static bool both(check *c, const char *stage, void (*fn)(void *), row_case *got, row_case *want) {
    c->stage = stage;
    return check_run(c, fn, got) && check_run(c, fn, want);
}

static void rms(check *c, int64_t n, check_kind kind) {
    row_case t = make(c, n, kind == CHECK_EXTREME ? CHECK_MIXED : kind), want = reference(c, &t);
    t.a = want.a = 1e-6f;
    if (!both(c, "rms_norm", call_rms, &t, &want)) return;
    /* Scale: half the relative error of the sum of squares, which a handful of chains keep to a few ulp. */
    for (int64_t i = 0; i < n; i++) {
        double tolerance = 0x1p-23 * 4 * fabs((double)want.y[i]) + 0x1p-140;
        if (!check_close(c, "rms_norm", i, (double)t.y[i], (double)want.y[i], tolerance)) return;
    }
    memcpy(want.y, t.x, (size_t)n * 4); /* y may be x */
    row_case in_place = t;
    in_place.x = in_place.y = want.y;
    if (check_run(c, call_rms, &in_place)) check_bits(c, "in place", want.y, t.y, (size_t)n * 4);
}

static void swiglu(check *c, int64_t n, check_kind kind) {
    row_case t = make(c, n, kind), want = reference(c, &t);
    for (int64_t i = 0; i < n; i += 5) t.x[i] = check_uniform(c, -90, 90);
    if (!both(c, "swiglu", call_swiglu, &t, &want)) return;
    for (int64_t i = 0; i < n; i++) {
        double tolerance = 0x1p-23 * 3 * fabs((double)want.y[i]) + 0x1p-120 * (1 + fabs((double)t.w[i]));
        if (!check_close(c, "swiglu", i, (double)t.y[i], (double)want.y[i], tolerance)) return;
    }
    float *expected = t.y;
    t.y = t.x;
    if (check_run(c, call_swiglu, &t)) check_bits(c, "in place", t.y, expected, (size_t)n * 4);
}

static void sums(check *c, int64_t n, check_kind kind) {
    row_case t = make(c, n, kind), want = reference(c, &t);
    if (both(c, "add", call_add, &t, &want)) check_bits(c, "sum", t.y, want.y, (size_t)n * 4);
    float *before = check_aligned(c, (size_t)n * 4);
    memcpy(before, t.y, (size_t)n * 4);
    if (!both(c, "axpy", call_axpy, &t, &want)) return;
    for (int64_t i = 0; i < n; i++) {
        double size = fabs((double)before[i]) + fabs((double)t.a * (double)t.x[i]);
        if (!check_close(c, "axpy", i, (double)t.y[i], (double)want.y[i], 3 * 0x1p-24 * size + 0x1p-148)) return;
    }
}

static void rope(check *c, int64_t n, check_kind kind) {
    if (n < 2) return;
    row_case t = make(c, n & ~(int64_t)1, kind == CHECK_EXTREME ? CHECK_MIXED : kind), want;
    for (int64_t i = 0; i < t.n; i++) t.x[i] = cosf((float)i), t.w[i] = sinf((float)i);
    want = reference(c, &t);
    float *before = check_aligned(c, (size_t)t.n * 4);
    memcpy(before, t.y, (size_t)t.n * 4);
    if (!both(c, "rope", call_rope, &t, &want)) return;
    const int64_t half = t.n / 2;
    for (int64_t i = 0; i < t.n; i++) {
        int64_t j = i % half;
        double size = fabs((double)before[j]) + fabs((double)before[j + half]);
        if (!check_close(c, "rope", i, (double)t.y[i], (double)want.y[i], 0x1p-23 * size + 0x1p-148)) return;
    }
}

static void logsumexp(check *c, int64_t n, check_kind kind) {
    row_case t = make(c, n, kind), want;
    c->stage = "logsumexp";
    for (int64_t i = 0; i < n; i += 3) t.x[i] = -INFINITY;
    for (int pass = 0; pass < 2; pass++) {
        want = reference(c, &t);
        if (!both(c, "logsumexp", call_lse, &t, &want)) return;
        check_close(c, "maximum", 0, (double)t.max, (double)want.max, 0);
        /* Terms to 2 ulp, and chains of 64 additions. */
        check_close(c, "logsumexp", 0, (double)t.sum, (double)want.sum, 0x1p-23 * 4 * (double)want.sum);
        for (int64_t i = 0; i < n; i++) t.x[i] = -INFINITY; /* once more: nothing but -inf */
    }
    if (t.sum != 0) check_fail(c, "a row of -inf sums to %g", (double)t.sum);
}

static void argmax(check *c, int64_t n, check_kind kind) {
    row_case t = make(c, n, kind), want;
    for (int pass = 0; pass < 6; pass++) {
        if (pass == 1 && n > 1) t.x[n - 1] = t.x[check_int(c, 0, (int32_t)n - 2)] = 1e31f; /* a tie */
        if (pass == 2)                                                                     /* many ties */
            for (int64_t i = 0; i < n; i++) t.x[i] = (float)check_int(c, 0, 3);
        if (pass == 3)
            for (int64_t i = 0; i < n; i += 1 + check_int(c, 0, 3)) t.x[i] = check_int(c, 0, 1) ? NAN : -INFINITY;
        if (pass == 4)
            for (int64_t i = 0; i < n; i++) t.x[i] = i < n / 2 ? NAN : -INFINITY;
        if (pass == 5)
            for (int64_t i = 0; i < n; i++) t.x[i] = NAN;
        want = reference(c, &t);
        if (!both(c, "argmax", call_argmax, &t, &want)) return;
        c->comparisons++;
        if (t.index != want.index)
            check_fail(c, "pass %d of %lld values: expected %lld, got %lld", pass, (long long)n, (long long)want.index,
                       (long long)t.index);
    }
}

/* The vector exponential through logsumexp: a row {0, x} sums to 1 + exp(x), a row {x, 0} too; x alone through swiglu:
 * gate = -x gives 1 / (1 + exp(x)) times gate. Here: swiglu against double over the whole range. */
static void exponential(check *c) {
    enum { N = 4096 };
    row_case t = make(c, N, CHECK_PLAIN);
    double worst = 0;
    c->stage = "exponential";
    for (int part = 0; part < 64; part++) {
        for (int i = 0; i < N; i++) t.x[i] = -87.0f + 174.0f * ((float)(part * N + i) / (64 * N)), t.w[i] = 1;
        if (!check_run(c, call_swiglu, &t)) return;
        for (int i = 0; i < N; i++) {
            double want = (double)t.x[i] / (1 + exp(-(double)t.x[i]));
            double ulps = check_ulps(t.y[i], want);
            worst = ulps > worst ? ulps : worst;
            check_close(c, "silu", i, ulps, 0, 3); /* exp 1, sum 1/2, quotient 1/2, and their cross terms */
        }
    }
}

static void benches(check *c) {
    c->stage = "bench";
    row_case t = make(c, 9728, CHECK_PLAIN);
    check_bench(c, "rms_norm 9728", call_rms, &t, 12.0 * 9728, 0);
    check_bench(c, "swiglu 9728", call_swiglu, &t, 12.0 * 9728, 0);
    check_bench(c, "add 9728", call_add, &t, 12.0 * 9728, 0);
    check_bench(c, "axpy 9728", call_axpy, &t, 12.0 * 9728, 0);
    check_release(c);
    t = make(c, 151936, CHECK_PLAIN);
    check_bench(c, "logsumexp 151936", call_lse, &t, 4.0 * 151936, 0);
    check_bench(c, "argmax 151936", call_argmax, &t, 4.0 * 151936, 0);
    check_release(c);
    t = make(c, 128, CHECK_PLAIN);
    check_bench(c, "rope 128", call_rope, &t, 16.0 * 128, 0);
}

void check_row(check *c) {
    static const int64_t sizes[] = {1,  2,  3,  7,   8,   9,   15,  16,   17,   31,   32,  33,
                                    63, 64, 65, 100, 127, 128, 576, 1023, 2048, 2560, 2561};
    static void (*const tests[])(check *, int64_t, check_kind) = {rms, swiglu, sums, rope, logsumexp, argmax};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int kind = 0; kind < CHECK_KINDS; kind++)
            for (size_t j = 0; j < sizeof tests / sizeof tests[0]; j++) {
                tests[j](c, sizes[i], (check_kind)kind);
                check_release(c);
            }
    logsumexp(c, 151936, CHECK_PLAIN);
    argmax(c, 151936, CHECK_PLAIN);
    exponential(c);
    check_release(c);
    if (c->bench) benches(c);
}
