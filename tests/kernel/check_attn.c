/* SPDX-License-Identifier: MIT
 *
 * check_attn.c: op ATTN. Positions past the largest limit hold NaN, keys and values end at an unreadable page, and a
 * row's result must have the same bits alone, among others, and beside rows that see NaN where it must not look. */
#include "attn_case.h"

/* Sets elements of position p of keys and values to x. */
static void poison(attn_case *t, int32_t p, float x) {
    for (int32_t d = 0; d < t->a.d; d++) {
        check_put(t->type, (void *)(uintptr_t)t->a.kt, lm_kv_key_at(t->a.d, d, p), x);
        check_put(t->type, (void *)(uintptr_t)t->a.v, (size_t)p * (size_t)t->a.d + (size_t)d, x);
    }
}

static attn_case make(check *c, check_kind kind, int32_t d, int32_t r, limits how) {
    attn_case t = {.a = {.d = d, .r = r}, .type = c->row->format};
    const size_t elements = (size_t)d * LM_KV_BLOCK, size = check_size(t.type);
    float *x = malloc(elements * 4);
    limits_of(c, &t, how);
    /* Values by position may end where the largest limit ends: nothing behind may be touched. */
    const size_t v_elements = (size_t)most(&t) * (size_t)d;
    void *kt = check_at_edge(c, elements * size, 0);
    void *v = check_at_edge(c, elements * size, (size_t)check_int(c, 0, 1));
    if (!x) exit(2);
    check_fill(c, kind, x, elements);
    for (size_t i = 0; i < elements; i++) check_put(t.type, kt, i, x[i]);
    check_fill(c, kind, x, elements);
    for (size_t i = 0; i < v_elements; i++) check_put(t.type, v, i, x[i]);
    free(x);
    t.a.kt = kt, t.a.v = v;
    queries_of(c, &t, kind);
    for (int32_t p = most(&t); p < LM_KV_BLOCK; p++) poison(&t, p, NAN);
    return t;
}

/* What the roundings of one row may add up to, from what was summed. Exponentials add 2 ulp and the rounding of their
 * argument. */
typedef struct bounds {
    double score[LM_KV_BLOCK], e[LM_KV_BLOCK];
    double m, l;
} bounds;

/* What a class may lose besides: the rounding of queries and of e to its inputs, the error of an exponential that is no
 * finer than that needs, and numbers that bfloat16 products take for zero.
 */
typedef struct losses {
    double input, exponential, least;
} losses;

static losses losses_of(lm_numerics class) {
    switch (class) {
    case LM_NUMERICS_BF16: return (losses){0x1p-8, 0x1p-18, 0x1p-125};
    case LM_NUMERICS_F16: return (losses){0x1p-15, 0x1p-23, 0x1p-125};
    default: return (losses){0, 0, 0};
    }
}

static void row_bounds(const attn_case *t, int32_t r, const losses *loss, bounds *b) {
    const double eps = 0x1p-23;
    const int32_t n = t->a.limit[r];
    double s[LM_KV_BLOCK], max = -(double)INFINITY, largest = 0;
    for (int32_t p = 0; p < n; p++) {
        double sum = 0, size = 0, small = 0;
        for (int32_t d = 0; d < t->a.d; d++) {
            double x =
                (double)t->a.q[r * t->a.ldq + d] * (double)check_get(t->type, t->a.kt, lm_kv_key_at(t->a.d, d, p));
            sum += x, size += fabs(x);
            small += loss->least * (1 + fabs((double)t->a.q[r * t->a.ldq + d]) +
                                    fabs((double)check_get(t->type, t->a.kt, lm_kv_key_at(t->a.d, d, p))));
        }
        s[p] = sum;
        b->score[p] = (chain(t->a.d) + loss->input) * size + small + 0x1p-140;
        max = sum > max ? sum : max;
    }
    for (int32_t p = 0; p < n; p++) /* any score that may be the maximum */
        if (s[p] + b->score[p] >= max - b->score[p] && b->score[p] > largest) largest = b->score[p];
    b->m = largest;
    b->l = 0;
    for (int32_t p = 0; p < n; p++) {
        double e = exp(s[p] - max), error = b->score[p] + largest + eps * (2 + fabs(s[p] - max));
        error += loss->exponential;
        b->e[p] = error < 1 ? e * error : fmax(1, e * exp(fmin(error, 80)));
        if (b->e[p] < 0x1p-125) b->e[p] = 0x1p-125;
        b->l += b->e[p] + 2 * eps * e;
        b->e[p] += (chain(n) + loss->input) * e;
    }
}

static bool usable(const attn_case *t, int32_t r) { /* sums past float32 are not compared */
    for (int32_t p = 0; p < t->a.limit[r]; p++) {
        double size = 0;
        for (int32_t d = 0; d < t->a.d; d++)
            size += fabs((double)t->a.q[r * t->a.ldq + d] *
                         (double)check_get(t->type, t->a.kt, lm_kv_key_at(t->a.d, d, p)));
        if (!(size < 1e37)) return false;
    }
    for (int32_t p = 0; p < t->a.limit[r]; p++)
        for (int32_t d = 0; d < t->a.d; d++)
            if (!(fabsf(check_get(t->type, t->a.v, (size_t)p * (size_t)t->a.d + (size_t)d)) < 1e34f)) return false;
    return true;
}

static void compare_row(check *c, const attn_case *got, const attn_case *want, int32_t r) {
    static bounds b;
    const int32_t n = got->a.limit[r], dims = got->a.d;
    if (n && !usable(got, r)) return;
    const losses loss = losses_of(c->row->numerics);
    row_bounds(got, r, &loss, &b);
    check_close(c, "max", r, (double)got->a.m[r], (double)want->a.m[r], b.m);
    check_close(c, "sum", r, (double)got->a.l[r], (double)want->a.l[r], b.l);
    for (int32_t d = 0; d < dims; d++) {
        double tolerance = 0;
        for (int32_t p = 0; p < n; p++) {
            double v = fabs((double)check_get(got->type, got->a.v, (size_t)p * (size_t)dims + (size_t)d));
            tolerance += v * b.e[p] + loss.least;
        }
        tolerance += 0x1p-140;
        if (!check_close(c, "value", (int64_t)r * dims + d, (double)got->a.acc[(int64_t)r * dims + d],
                         (double)want->a.acc[(int64_t)r * dims + d], tolerance))
            return;
    }
}

static void compare(check *c, attn_case t) {
    attn_case want = t;
    outputs(c, &t, c->row->impl, t.a.r);
    outputs(c, &want, c->ref->impl, t.a.r);
    if (!check_run(c, call, &t) || !check_run(c, call, &want)) return;
    /* Bounds take D times the work of the kernels: a few rows of each call. */
    const int32_t step = t.a.r > 8 ? t.a.r / 5 : 1;
    for (int32_t r = 0; r < t.a.r; r += step) compare_row(c, &t, &want, r);
    check_rows_of_limit_0(c, &t);
    check_frames(c);
}

static void invariant(check *c, attn_case t) {
    if (!same_in_any_company(c, &t)) return;
    /* NaN and inf at positions that only the rows of the largest limit see. */
    const int32_t from = last_few(&t), end = most(&t);
    attn_case clean = t;
    for (int32_t p = from; p < end; p++) poison(&t, p, p & 1 ? NAN : INFINITY);
    outputs(c, &t, c->row->impl, t.a.r);
    if (!check_run(c, call, &t)) return;
    same_before(c, &t, &clean, from);
    check_frames(c);
}

/* Merging has one definition, to the bit. */
static void merging(check *c) {
    const lm_attn_impl *impl = c->row->impl, *ref = c->ref->impl;
    for (int32_t n = 1; n < 140; n++) {
        float *got = check_at_edge(c, (size_t)n * 4, 0), *from = check_at_edge(c, (size_t)n * 4, 0);
        float *want = check_aligned(c, (size_t)n * 4);
        check_fill(c, (check_kind)(n % 2 ? CHECK_PLAIN : CHECK_MIXED), got, (size_t)n);
        check_fill(c, CHECK_PLAIN, from, (size_t)n);
        memcpy(want, got, (size_t)n * 4);
        const float a = n % 3 ? check_uniform(c, 0, 1) : 0, b = check_uniform(c, 0, 1);
        if (n % 3 == 0) got[n / 2] = NAN;
        impl->merge(got, a, from, b, n);
        ref->merge(want, a, from, b, n);
        check_bits(c, "merge", got, want, (size_t)n * 4);
        check_frames(c);
        check_release(c);
    }
}

/* ---------------------------------------------------------------- bench */

typedef struct attn_bench {
    attn_case t;
    char *kt, *v;
    size_t stride, chunks, next;
} attn_bench;

static void call_next(void *arg) { /* another block each time, as a walk through a cache */
    attn_bench *b = arg;
    b->t.a.kt = b->kt + b->next * b->stride;
    b->t.a.v = b->v + b->next * b->stride;
    b->next = (b->next + 1) % b->chunks;
    call(&b->t);
}

static attn_bench bench_data(check *c, int32_t d, int32_t r, size_t chunks) {
    attn_bench b = {.t = {.a = {.d = d}, .type = c->row->format}, .chunks = chunks};
    const size_t elements = (size_t)d * LM_KV_BLOCK;
    b.stride = elements * check_size(b.t.type);
    b.kt = check_aligned(c, b.stride * chunks);
    b.v = check_aligned(c, b.stride * chunks);
    for (size_t i = 0; i < elements * chunks; i++) {
        check_put(b.t.type, b.kt, i, (float)(i % 61) * 0.01f - 0.3f);
        check_put(b.t.type, b.v, i, (float)(i % 67) * 0.01f - 0.3f);
    }
    bench_queries(c, &b.t, r);
    return b;
}

static void bench_decode(check *c, int32_t d, int32_t r, size_t chunks, const char *what) {
    attn_bench b = bench_data(c, d, r, chunks);
    const double elements = (double)d * LM_KV_BLOCK;
    check_bench(c, what, call_next, &b, 2.0 * (double)b.stride, 4.0 * (double)r * elements);
    check_release(c);
}

/* PROMPT new positions behind DEPTH old ones, for one key/value head: tiles of TILE positions times `group` heads, each
 * against every block that it sees. */
enum { PROMPT = 512, DEPTH = 2048, TILE = 64 };
static int32_t seen(int32_t position, int32_t chunk) { /* positions of a chunk that a query sees */
    int32_t n = position + 1 - chunk * LM_KV_BLOCK;
    return n < 0 ? 0 : n > LM_KV_BLOCK ? LM_KV_BLOCK : n;
}

static void call_prompt(void *arg) {
    attn_bench *b = arg;
    const int32_t group = b->t.a.r / TILE;
    int32_t *limit = (int32_t *)(uintptr_t)b->t.a.limit;
    for (int32_t first = DEPTH; first < DEPTH + PROMPT; first += TILE)
        for (int32_t chunk = 0; chunk * LM_KV_BLOCK < first + TILE; chunk++) {
            for (int32_t i = 0; i < b->t.a.r; i++) limit[i] = seen(first + i / group, chunk);
            b->t.a.kt = b->kt + (size_t)chunk * b->stride;
            b->t.a.v = b->v + (size_t)chunk * b->stride;
            call(&b->t);
        }
}

static void bench_prompt(check *c, int32_t d, int32_t group, const char *what) {
    attn_bench b = bench_data(c, d, TILE * group, (DEPTH + PROMPT) / LM_KV_BLOCK);
    const double pairs = PROMPT * (DEPTH + (PROMPT + 1) / 2.0);
    check_bench(c, what, call_prompt, &b, 0, 4.0 * d * group * pairs);
    check_release(c);
}

void check_attn(check *c) {
    static const int32_t dims[] = {64, 80, 96, 128, 256, 1, 7, 17, 40, 65};
    static const int32_t rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 15, 16, 17, 31, 48, 49, 70};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++)
        for (size_t j = 0; j < sizeof rows / sizeof rows[0]; j++) {
            const limits how = (limits)((i + j) % LIMITS);
            const check_kind kind = (check_kind)check_int(c, 0, CHECK_KINDS - 1);
            c->stage = "against scalar";
            compare(c, make(c, kind, dims[i], rows[j], how));
            check_release(c);
            if (c->failures) return;
        }
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++)
        for (int how = 0; how < LIMITS; how++) {
            c->stage = "row-invariance";
            invariant(c,
                      make(c, (check_kind)check_int(c, 0, CHECK_KINDS - 1), dims[i], check_int(c, 2, 70), (limits)how));
            check_release(c);
            if (c->failures) return;
        }
    c->stage = "merge";
    merging(c);
    if (!c->bench || c->failures) return;
    c->stage = "bench";
    bench_decode(c, 64, 3, 1200, "decode: 3 heads, D 64 (SmolLM2), cold");
    bench_decode(c, 64, 3, 2, "decode: 3 heads, D 64, in cache");
    bench_decode(c, 128, 4, 600, "decode: 4 heads, D 128 (Qwen3-4B), cold");
    bench_decode(c, 128, 4, 2, "decode: 4 heads, D 128, in cache");
    bench_prompt(c, 64, 3, "512 rows at depth 2048: 3 heads, D 64");
    bench_prompt(c, 128, 4, "512 rows at depth 2048: 4 heads, D 128");
}
