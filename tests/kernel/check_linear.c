/* SPDX-License-Identifier: MIT
 *
 * check_linear.c: ops MATVEC and MATMAT: every group size and scale type, tails in M, N and K, odd addresses, weights
 * that end at an unreadable page; and the same bits for a row of activations whatever surrounds it. */
#include "check.h"
#include "kernels/unpack.h"
#include <string.h>

typedef struct shape {
    int64_t m, n, k;
} shape;

static const lm_dtype scale_types[] = {LM_DTYPE_F16, LM_DTYPE_BF16, LM_DTYPE_F32};

static void put_scale(lm_dtype type, void *p, size_t i, float v) {
    check_put(type == LM_DTYPE_F16 ? LM_FORMAT_F16 : type == LM_DTYPE_BF16 ? LM_FORMAT_BF16 : LM_FORMAT_F32, p, i, v);
}

/* Random weights in the style of mlx: scales of both signs, biases that put codes on both sides of zero. */
static lm_weight make_weight(check *c, int32_t group, lm_dtype type, int64_t n, int64_t k, size_t gap) {
    const lm_format format = c->row->format;
    const int bits = lm_unpack_bits(format);
    lm_weight w = {.n = n, .k = k, .format = format, .name = "test", .row_bytes = (size_t)(k * bits / 8)};
    const size_t bytes = w.row_bytes * (size_t)n;
    uint8_t *data = check_at_edge(c, bytes, gap);
    w.data = data, w.bytes = bytes;
    if (!group) {
        for (size_t i = 0; i < (size_t)(n * k); i++) check_put(format, data, i, check_uniform(c, -1, 1));
        return w;
    }
    for (size_t i = 0; i < bytes; i++) data[i] = (uint8_t)check_random(c);
    if (lm_format_is_mx(format)) {
        const size_t all = (size_t)(n * (k / group));
        uint8_t *bytes_of = check_at_edge(c, all, gap);
        /* NaN is left to elements() */
        for (size_t i = 0; i < all; i++)
            bytes_of[i] = (uint8_t)(format == LM_FORMAT_NVFP4 ? check_int(c, 0, 0x7e) : check_int(c, 122, 132));
        for (size_t i = 0; format == LM_FORMAT_MXFP8 && i < bytes; i++)
            if ((data[i] & 0x7f) == 0x7f) data[i] ^= 0x11;
        w.scales = bytes_of, w.group = group, w.scale_type = LM_DTYPE_U8;
        w.bytes += all;
        return w;
    }
    const size_t size = type == LM_DTYPE_F32 ? 4 : 2, count = (size_t)(n * (k / group));
    void *scales = check_at_edge(c, size * count, gap), *biases = check_at_edge(c, size * count, gap);
    for (size_t i = 0; i < count; i++) {
        float s = (check_int(c, 0, 1) ? 1.0f : -1.0f) * check_uniform(c, 0.01f, 0.2f);
        put_scale(type, scales, i, s);
        put_scale(type, biases, i, -s * (float)(1 << (bits - 1)) * check_uniform(c, 0.8f, 1.2f));
    }
    w.scales = scales, w.biases = biases, w.group = group, w.scale_type = type;
    w.bytes += 2 * size * count;
    return w;
}

/* What was summed for output n of row x: sum |w x|, or, `terms`, sum (|scale q| + |bias|) |x|, which is what a kernel
 * that applies scales to sums of codes adds up, and matters where one x outweighs all others. */
static double summed(const lm_weight *w, const float *row, int64_t n, const float *x, bool terms) {
    double sum = 0;
    for (int64_t k = 0; k < w->k; k++) {
        double size = fabs((double)row[k]);
        if (terms && w->biases) {
            double bias = (double)lm_unpack_scale(w->biases, w->scale_type, n * (w->k / w->group) + k / w->group);
            size = fabs((double)row[k] - bias) + fabs(bias);
        }
        sum += size * fabs((double)x[k]);
    }
    return sum;
}

/* Few ulps of what was summed. An honest chain of additions over the smallest K here uses up to 0.7 of it, over a
 * model's K below 0.4; a wrong weight or a lost input shows as thousands. Float formats with `mixed` magnitudes: one
 * large term early in a chain of 128 additions makes all the later ones round at its size, about sqrt(128) / 2 ulps. */
static double unit(const check *c, bool mixed) {
    switch (c->row->numerics) {
    case LM_NUMERICS_BF16: return 0x1p-8; /* both inputs rounded to 8 bits */
    case LM_NUMERICS_F16: return 0x1p-11;
    default: return (mixed && !lm_format_is_affine(c->row->format) ? 8 : 2) * 0x1p-23;
    }
}

static void one(check *c, int32_t group, lm_dtype type, shape s, size_t gap, check_kind kind) {
    const lm_weight w = make_weight(c, group, type, s.n, s.k, gap);
    const int64_t ldx = (s.k + 15) & ~(int64_t)15, ldy = ((s.n + 15) & ~(int64_t)15) + 16;
    float *x = check_aligned(c, (size_t)(s.m * ldx) * 4), *row = check_aligned(c, (size_t)s.k * 4);
    float *got = check_aligned(c, (size_t)(s.m * ldy) * 4), *want = check_aligned(c, (size_t)(s.m * ldy) * 4);
    for (int64_t i = 0; i < s.m; i++) check_fill(c, kind, x + i * ldx, (size_t)s.k); /* NaN past each row */
    const uint32_t blank = lm_f32_bits(got[s.n]);
    if (!check_linear_call(c, c->row->impl, &w, x, ldx, s.m, 0, got, ldy) ||
        !check_linear_call(c, c->ref->impl, &w, x, ldx, s.m, 0, want, ldy))
        return;
    for (int64_t n = 0; n < s.n; n++) {
        lm_weight_row(&w, n, row);
        for (int64_t i = 0; i < s.m; i++)
            check_close(c, "y", i * s.n + n, (double)got[i * ldy + n], (double)want[i * ldy + n],
                        unit(c, kind != CHECK_PLAIN || lm_format_is_mx(w.format)) *
                                summed(&w, row, n, x + i * ldx, kind != CHECK_PLAIN) +
                            0x1p-120);
    }
    for (int64_t i = 0; i < s.m; i++)
        for (int64_t n = s.n; n < ldy; n++)
            if (lm_f32_bits(got[i * ldy + n]) != blank) check_fail(c, "wrote past output %d", (int)s.n);
    check_frames(c);
    c->stage = "row-invariance";
    check_linear_invariant(c, c->row->impl, &w, x, ldx, s.m);
    check_release(c);
}

typedef struct timed {
    const lm_linear_impl *impl;
    const lm_weight *w;
    const float *x;
    void *xp, *scratch;
    float *y;
    int64_t m;
} timed;

static void call(void *arg) {
    const timed *t = arg;
    t->impl->prep(t->w, t->x, t->w->k, 0, t->m, t->m, t->xp);
    t->impl->run(t->w, t->xp, t->m, 0, t->w->n, t->y, t->w->n, t->scratch);
}

static void bench(check *c) {
    const lm_linear_impl *impl = c->row->impl;
    const int64_t m = c->row->op == LM_OP_MATVEC ? 1 : 512, n = 1536, k = 576;
    const lm_format format = c->row->format;
    const int group = format == LM_FORMAT_NVFP4 ? 16 : lm_format_is_affine(format) || lm_format_is_mx(format) ? 32 : 0;
    const lm_weight w = make_weight(c, group, LM_DTYPE_F16, n, k, 1);
    float *x = check_aligned(c, (size_t)(m * k) * 4);
    check_fill(c, CHECK_PLAIN, x, (size_t)(m * k));
    timed t = {impl,
               &w,
               x,
               check_aligned(c, impl->prep_bytes(&w, m)),
               check_aligned(c, impl->scratch_bytes(&w, m) + 64),
               check_aligned(c, (size_t)(m * n) * 4),
               m};
    check_bench(c, m == 1 ? "1 x 1536 x 576, from cache" : "512 x 1536 x 576", call, &t, (double)w.bytes,
                2.0 * (double)(m * n * k));
    check_release(c);
}

/* Every element, every scale byte and NaN of both by one-hot activations: the products are the elements. */
static void elements(check *c, int32_t group) {
    const int64_t n = 256, k = 4 * group;
    lm_weight w = make_weight(c, group, LM_DTYPE_U8, n, k, 3);
    uint8_t *data = (uint8_t *)(uintptr_t)w.data, *scales = (uint8_t *)(uintptr_t)w.scales;
    for (size_t i = 0; i < w.row_bytes * (size_t)n; i++) data[i] = (uint8_t)(i * 7 + i / 256);
    for (int64_t i = 0; i < n * (k / group); i++) {
        int s = (int)(i * 5 + i / 256) & 255;
        scales[i] = (uint8_t)(s > 240 && s < 255 ? s - 128 : s); /* products that overflow are left out */
    }
    float *x = check_aligned(c, (size_t)(k * k) * 4), *row = check_aligned(c, (size_t)k * 4);
    float *y = check_aligned(c, (size_t)(k * n) * 4);
    for (int64_t i = 0; i < k * k; i++) x[i] = i / k == i % k ? 1.0f : 0.0f;
    if (!check_linear_call(c, c->row->impl, &w, x, k, k, 0, y, n)) return;
    /* vdpbf16ps takes what is below 2^-126 for zero */
    const double least = c->row->numerics == LM_NUMERICS_F32 ? 0x1p-133 : 0x1p-125;
    for (int64_t i = 0; i < n; i++) {
        bool nan = false; /* of any element: 0 * NaN is part of every sum */
        lm_weight_row(&w, i, row);
        for (int64_t j = 0; j < k; j++) nan = nan || isnan(row[j]);
        for (int64_t j = 0; j < k; j++) {
            double want = nan ? (double)NAN : (double)row[j];
            check_close(c, "element", i * k + j, (double)y[j * n + i], want, fabs(want) * unit(c, false) + least);
        }
    }
    check_release(c);
}

static void check_mx(check *c, const shape *shapes, size_t n_shapes) {
    const int32_t group = c->row->format == LM_FORMAT_NVFP4 ? 16 : 32;
    for (size_t i = 0; i < 2 * n_shapes && !c->failures; i++) {
        shape s = shapes[i / 2];
        if (i % 2) s.k -= group; /* ends within blocks of the kernels */
        check_kind kind = (check_kind)(i % CHECK_KINDS);
        c->stage = kind == CHECK_PLAIN ? "plain" : "mixed";
        one(c, group, LM_DTYPE_U8, s, i % 4, kind);
    }
    c->stage = "elements";
    if (!c->failures) elements(c, group);
}

void check_linear(check *c) {
    static const shape affine[] = {{1, 1, 128},    {2, 16, 128},   {3, 17, 256}, {5, 33, 384}, {7, 70, 640},
                                   {13, 140, 896}, {29, 40, 1152}, {4, 9, 9728}, {41, 70, 640}};
    static const shape floats[] = {{1, 1, 1},    {2, 16, 2},     {3, 17, 31},    {5, 33, 64}, {7, 70, 127},
                                   {13, 9, 257}, {29, 140, 576}, {16, 32, 1000}, {4, 9, 9728}};
    if (lm_format_is_mx(c->row->format)) {
        check_mx(c, affine, sizeof affine / sizeof affine[0]);
        bench(c);
        return;
    }
    if (!lm_format_is_affine(c->row->format)) {
        for (size_t i = 0; i < sizeof floats / sizeof floats[0] && !c->failures; i++)
            for (int kind = 0; kind < CHECK_KINDS && !c->failures; kind++) {
                c->stage = kind == CHECK_PLAIN ? "plain" : "mixed";
                one(c, 0, LM_DTYPE_F32, floats[i], (i + (size_t)kind) % 4, (check_kind)kind);
            }
        bench(c);
        return;
    }
    for (int32_t group = 32; group <= 128; group *= 2)
        for (size_t t = 0; t < 3; t++)
            for (size_t i = 0; i < sizeof affine / sizeof affine[0] && !c->failures; i++) {
                shape s = affine[i];
                if (i % 2 && group < 128) s.k -= group; /* ends within blocks of the kernels */
                check_kind kind = t == i % 3 ? (check_kind)(i % CHECK_KINDS) : CHECK_PLAIN;
                c->stage = kind == CHECK_PLAIN ? "plain" : "mixed";
                one(c, group, scale_types[t], s, (i + t) % 4, kind);
            }
    bench(c);
}
