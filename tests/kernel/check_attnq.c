/* SPDX-License-Identifier: MIT
 *
 * check_attnq.c: op ATTNQ. A head ends at an unreadable page; what isn't stored has all bits set, so that scales are
 * NaN there; and a row's result must have the same bits alone, among others, and beside rows that see more. */
#include "attn_case.h"
#include "kernels/unpack.h"

static double scale_of(const attn_case *t, int half, int32_t p, int32_t g) {
    return (double)lm_unpack_scale(t->scales[half], t->a.scale_type, (int64_t)p * (t->a.d / t->a.group) + g);
}
static double bias_of(const attn_case *t, int half, int32_t p, int32_t g) {
    return (double)lm_unpack_scale(t->biases[half], t->a.scale_type, (int64_t)p * (t->a.d / t->a.group) + g);
}
static double code_of(const attn_case *t, int half, int32_t p, int32_t e) {
    return lm_unpack_code(t->codes[half], t->quant.bits, (int64_t)p * t->a.d + e);
}

/* Stores n positions of random keys and values, and reads them back in mlx's order: writing what was read must give the
 * same bytes again. */
static void store(check *c, attn_case *t, check_kind kind, void *head, int32_t n) {
    const int32_t d = t->a.d;
    const size_t bytes = lm_kvq_head_bytes(t->quant, d, t->a.scale_type), groups = (size_t)(d / t->a.group);
    float *x = malloc((size_t)2 * LM_KVQ_ROWS * (size_t)d * 4);
    void *scratch = check_aligned(c, lm_kvq_scratch_bytes(d)), *again = check_aligned(c, bytes);
    if (!x) exit(2);
    memset(head, 0xff, bytes);
    for (int32_t p = 0, step; p < n; p += step) {
        step = check_int(c, 1, LM_KVQ_ROWS);
        if (step > n - p) step = n - p;
        check_fill(c, kind, x, (size_t)2 * LM_KVQ_ROWS * (size_t)d);
        lm_kvq_store(t->quant, t->a.scale_type, head, x, x + d, 2 * d, d, p, step, scratch);
    }
    memset(again, 0xff, bytes);
    for (int half = 0; half < 2; half++) {
        t->codes[half] = check_aligned(c, (size_t)LM_KV_BLOCK * (size_t)d);
        t->scales[half] = check_aligned(c, LM_KV_BLOCK * groups * 4);
        t->biases[half] = check_aligned(c, LM_KV_BLOCK * groups * 4);
        lm_kvq_read(t->quant, t->a.scale_type, head, half, d, 0, n, t->codes[half], t->scales[half], t->biases[half]);
        lm_kvq_write(t->quant, t->a.scale_type, again, half, d, 0, n, t->codes[half], t->scales[half], t->biases[half]);
    }
    check_bits(c, "what was read, written again", again, head, bytes);
    free(x);
}

static attn_case make(check *c, check_kind kind, int32_t d, int32_t r, limits how) {
    static const int wide[] = {8, 5, 6}, narrow[] = {4, 3, 2};
    static const lm_dtype types[] = {LM_DTYPE_F16, LM_DTYPE_BF16, LM_DTYPE_F32};
    attn_case t = {.a = {.d = d, .r = r}};
    const int pick = check_int(c, 0, 5) % 3; /* most of them the widest */
    t.quant.bits = (c->row->format == LM_FORMAT_AFFINE8 ? wide : narrow)[check_int(c, 0, 1) ? 0 : pick];
    do t.quant.group = 32 << check_int(c, 0, 2);
    while (d % t.quant.group);
    t.a.group = t.quant.group;
    t.a.scale_type = types[check_int(c, 0, 2)];
    limits_of(c, &t, how);
    void *head = check_at_edge(c, lm_kvq_head_bytes(t.quant, d, t.a.scale_type), 0);
    store(c, &t, kind, head, most(&t));
    t.a.kt = head;
    queries_of(c, &t, kind);
    return t;
}

/* ---------------------------------------------------------------- against scalar */

/* Half a step of 16-bit fixed point, relative to the largest number of a group; 0 where inputs aren't rounded. */
static double half_step(const check *c) {
    return c->row->numerics == LM_NUMERICS_F32 ? 0 : 0.5 / 32639;
}

typedef struct bounds {
    double s[LM_KV_BLOCK], score[LM_KV_BLOCK], e[LM_KV_BLOCK], weight[LM_KV_BLOCK];
    double max, m, l;
    bool usable; /* sums past float32 are not compared */
} bounds;

static void score_bounds(const check *c, const attn_case *t, int32_t r, bounds *b) {
    const float *q = t->a.q + r * t->a.ldq;
    b->max = -(double)INFINITY, b->usable = true;
    for (int32_t p = 0; p < t->a.limit[r]; p++) {
        double sum = 0, size = 0, fixed = 0;
        for (int32_t g = 0, e = 0; g < t->a.d / t->a.group; g++) {
            const double scale = scale_of(t, 0, p, g), bias = bias_of(t, 0, p, g);
            double codes = 0, largest = 0;
            for (; e < (g + 1) * t->a.group; e++) {
                const double x = (double)q[e], code = code_of(t, 0, p, e);
                sum += x * (scale * code + bias);
                size += fabs(x) * (fabs(scale) * code + fabs(bias));
                codes += fabs(scale) * code;
                largest = fmax(largest, fabs(x));
            }
            fixed += largest * half_step(c) * codes;
        }
        b->s[p] = sum;
        b->score[p] = (chain(t->a.d) + 4 * 0x1p-23) * size + fixed + 0x1p-130;
        b->max = sum > b->max ? sum : b->max;
        b->usable = b->usable && size < 1e36;
    }
}

static void weight_bounds(const attn_case *t, int32_t r, bounds *b) {
    const double eps = 0x1p-23;
    double largest = 0;
    const int32_t n = t->a.limit[r];
    for (int32_t p = 0; p < n; p++)
        if (b->s[p] + b->score[p] >= b->max - b->score[p] && b->score[p] > largest) largest = b->score[p];
    b->m = largest, b->l = 0;
    for (int32_t p = 0; p < n; p++) {
        const double e = exp(b->s[p] - b->max), error = b->score[p] + largest + eps * (3 + fabs(b->s[p] - b->max));
        b->weight[p] = e;
        b->e[p] = error < 1 ? e * error : fmax(1, e * exp(fmin(error, 80)));
        if (b->e[p] < 0x1p-125) b->e[p] = 0x1p-125;
        b->l += b->e[p] + (2 * eps + chain(n)) * e;
    }
}

static void compare_values(check *c, const attn_case *got, const attn_case *want, int32_t r, const bounds *b) {
    const int32_t n = got->a.limit[r], dims = got->a.d;
    for (int32_t e = 0; e < dims; e++) {
        const int32_t g = e / got->a.group;
        double tolerance = 0x1p-130, largest = 0, codes = 0;
        for (int32_t p = 0; p < n; p++) {
            const double scale = fabs(scale_of(got, 1, p, g)), bias = fabs(bias_of(got, 1, p, g));
            const double code = code_of(got, 1, p, e);
            if (!(255 * scale + bias < 1e34)) return;
            tolerance += (scale * code + bias) * (b->e[p] + (chain(n) + 4 * 0x1p-23) * b->weight[p]);
            largest = fmax(largest, scale * (b->weight[p] + b->e[p]));
            codes += code;
        }
        tolerance += largest * half_step(c) * codes;
        if (!check_close(c, "value", (int64_t)r * dims + e, (double)got->a.acc[(int64_t)r * dims + e],
                         (double)want->a.acc[(int64_t)r * dims + e], tolerance))
            return;
    }
}

static void compare(check *c, attn_case t) {
    static bounds b;
    attn_case want = t;
    outputs(c, &t, c->row->impl, t.a.r);
    outputs(c, &want, c->ref->impl, t.a.r);
    if (!check_run(c, call, &t) || !check_run(c, call, &want)) return;
    const int32_t step = t.a.r > 8 ? t.a.r / 5 : 1; /* bounds take more than the kernels do: a few rows of each call */
    for (int32_t r = 0; r < t.a.r; r += step) {
        score_bounds(c, &t, r, &b);
        if (!b.usable) continue;
        weight_bounds(&t, r, &b);
        check_close(c, "max", r, (double)t.a.m[r], (double)want.a.m[r], b.m);
        check_close(c, "sum", r, (double)t.a.l[r], (double)want.a.l[r], b.l);
        compare_values(c, &t, &want, r, &b);
    }
    check_rows_of_limit_0(c, &t);
    check_frames(c);
}

/* ---------------------------------------------------------------- row-invariance */

static void invariant(check *c, attn_case t) {
    if (!same_in_any_company(c, &t)) return;
    /* Positions that only the rows of the largest limit see: NaN scales. */
    const int32_t from = last_few(&t), end = most(&t);
    attn_case clean = t;
    uint8_t ones[1024];
    memset(ones, 0xff, sizeof ones);
    for (int32_t p = from; p < end; p++)
        for (int half = 0; half < 2; half++)
            lm_kvq_write(t.quant, t.a.scale_type, (void *)(uintptr_t)t.a.kt, half, t.a.d, p, 1,
                         t.codes[half] + (size_t)p * (size_t)(t.a.d * t.quant.bits / 8), ones, ones);

    outputs(c, &t, c->row->impl, t.a.r);
    if (!check_run(c, call, &t)) return;
    for (int32_t r = 0; r < t.a.r; r++)
        if (t.a.limit[r] > from && isfinite(t.a.acc[(int64_t)r * t.a.d]) && isfinite(t.a.l[r]))
            check_fail(c, "row %d sees NaN and is finite", (int)r);
    same_before(c, &t, &clean, from);
    check_frames(c);
}

/* ---------------------------------------------------------------- bench */

typedef struct attnq_bench {
    attn_case t;
    char *heads;
    size_t stride, chunks, next;
} attnq_bench;

static void call_next(void *arg) { /* another block each time, as a walk through a cache */
    attnq_bench *b = arg;
    b->t.a.kt = b->heads + b->next * b->stride;
    b->next = (b->next + 1) % b->chunks;
    b->t.a.next = b->heads + b->next * b->stride;
    call(&b->t);
}

static attnq_bench bench_data(check *c, int32_t d, int32_t r, size_t chunks) {
    attnq_bench b = {.t = {.a = {.d = d, .group = 64, .scale_type = LM_DTYPE_F16}}, .chunks = chunks};
    b.t.quant = (lm_kvq){c->row->format == LM_FORMAT_AFFINE8 ? 8 : 4, 64};
    b.stride = lm_kvq_head_bytes(b.t.quant, d, LM_DTYPE_F16);
    b.heads = check_aligned(c, b.stride * chunks);
    store(c, &b.t, CHECK_PLAIN, b.heads, LM_KV_BLOCK);
    for (size_t i = 1; i < chunks; i++) memcpy(b.heads + i * b.stride, b.heads, b.stride);
    bench_queries(c, &b.t, r);
    return b;
}

static void bench(check *c, int32_t d, int32_t r, size_t chunks, const char *what) {
    attnq_bench b = bench_data(c, d, r, chunks);
    check_bench(c, what, call_next, &b, (double)b.stride, 4.0 * (double)r * d * LM_KV_BLOCK);
    check_release(c);
}

void check_attnq(check *c) {
    static const int32_t dims[] = {64, 96, 128, 256, 32, 160};
    static const int32_t rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 16, 31, 48};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++)
        for (size_t j = 0; j < sizeof rows / sizeof rows[0]; j++) {
            c->stage = "against scalar";
            compare(
                c, make(c, (check_kind)check_int(c, 0, CHECK_KINDS - 1), dims[i], rows[j], (limits)((i + j) % LIMITS)));
            check_release(c);
            if (c->failures) return;
        }
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++)
        for (int how = 0; how < LIMITS; how++) {
            c->stage = "row-invariance";
            invariant(c, make(c, CHECK_PLAIN, dims[i], check_int(c, 2, 40), (limits)how));
            check_release(c);
            if (c->failures) return;
        }
    if (!c->bench) return;
    c->stage = "bench";
    bench(c, 64, 3, 1200, "decode: 3 heads, D 64 (SmolLM2), cold");
    bench(c, 64, 3, 2, "decode: 3 heads, D 64, in cache");
    bench(c, 128, 2, 600, "decode: 2 heads, D 128 (Qwen3-0.6B), cold");
    bench(c, 128, 4, 600, "decode: 4 heads, D 128 (Qwen3-4B), cold");
    bench(c, 128, 4, 2, "decode: 4 heads, D 128, in cache");
    bench(c, 64, 96, 12, "96 rows, D 64");
    bench(c, 128, 96, 12, "96 rows, D 128");
}
