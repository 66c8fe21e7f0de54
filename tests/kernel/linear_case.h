/* SPDX-License-Identifier: MIT
 * linear_case.h: random weights and activations for the tests and the bench of the linear kernels. static only. */
#ifndef LM_TESTS_LINEAR_CASE_H
#define LM_TESTS_LINEAR_CASE_H
#include "base/half.h"
#include "kernels/rows.h"
#include "kernels/unpack.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The linear rows of kernels.def. */
#define LM_LINEAR_MATVEC(row) row,
#define LM_LINEAR_MATMAT(row) row,
#define LM_LINEAR_ATTN(row)
#define LM_LINEAR_ATTNQ(row)
#define LM_LINEAR_ROW(row)
#define LM_LINEAR_KV(row)
#define LM_LINEAR_QUANT(row)
#define LM_LINEAR_INIT(...) \
    { __VA_ARGS__ }
static const lm_kernel_row linear_rows[] = {
#define KERNEL(op, format, symbol, needs, layout, numerics, rank)                                                  \
    LM_LINEAR_##op(LM_LINEAR_INIT(LM_OP_##op, LM_FORMAT_##format, #symbol, &(symbol), (needs), LM_LAYOUT_##layout, \
                                  LM_NUMERICS_##numerics, (rank)))
#include "kernels/kernels.def"
};
#define N_LINEAR_ROWS (sizeof linear_rows / sizeof linear_rows[0])

static uint64_t linear_seed = 20261123;
static uint32_t linear_random(void) {
    linear_seed ^= linear_seed << 13, linear_seed ^= linear_seed >> 7, linear_seed ^= linear_seed << 17;
    return (uint32_t)(linear_seed >> 32);
}
/* About normal. */
static float linear_normal(void) {
    int sum = 0;
    for (int i = 0; i < 4; i++) sum += (int)(linear_random() >> 8 & 0xffff) - 32768;
    return (float)sum / 37837.0f;
}

typedef struct linear_case {
    lm_weight w;
    int64_t m, ldx, ldy;
    float *x, *y;
    void *memory[3]; /* of data, scales, biases: each ends with its last byte, so that sanitizers see over-reads */
} linear_case;

static void *linear_aligned(size_t bytes) {
    void *p = NULL;
    if (posix_memalign(&p, 64, (bytes + 63) & ~(size_t)63)) abort();
    return p;
}

static void linear_put(void *to, lm_dtype type, float v) {
    uint16_t h = type == LM_DTYPE_BF16 ? lm_f32_to_bf16(v) : lm_f32_to_f16(v);
    if (type == LM_DTYPE_F32)
        memcpy(to, &v, 4);
    else
        memcpy(to, &h, 2);
}

static linear_case linear_make(lm_format format, int group, lm_dtype scale_type, int64_t m, int64_t n, int64_t k,
                               int odd) {
    linear_case c = {.m = m, .ldx = (k + 31) & ~(int64_t)15, .ldy = (n + 31) & ~(int64_t)15};
    int bits = lm_unpack_bits(format);
    bool affine = lm_format_is_affine(format);
    lm_weight *w = &c.w;
    *w = (lm_weight){.n = n, .k = k, .format = format, .layout = LM_LAYOUT_MLX, .name = "test"};
    w->row_bytes = (size_t)k * (size_t)bits / 8;
    size_t bytes = w->row_bytes * (size_t)n;
    c.memory[0] = malloc(bytes + (size_t)odd);
    uint8_t *data = (uint8_t *)c.memory[0] + odd;
    w->data = data;
    w->bytes = bytes;
    if (lm_format_is_mx(format)) {
        w->group = format == LM_FORMAT_NVFP4 ? 16 : 32, w->scale_type = LM_DTYPE_U8;
        size_t count = (size_t)(n * (k / w->group));
        uint8_t *scales = c.memory[1] = malloc(count);
        for (size_t i = 0; i < bytes; i++) data[i] = (uint8_t)(linear_random() & 0xf7);
        for (size_t i = 0; i < count; i++)
            scales[i] = (uint8_t)((format == LM_FORMAT_NVFP4 ? 0x30 : 122) + linear_random() % 8);
        w->scales = scales;
        w->bytes += count;
    } else if (affine) {
        w->group = group, w->scale_type = scale_type;
        size_t size = scale_type == LM_DTYPE_F32 ? 4 : 2, count = (size_t)(n * (k / group));
        for (int i = 1; i < 3; i++) c.memory[i] = malloc(size * count + (size_t)odd);
        uint8_t *scales = (uint8_t *)c.memory[1] + odd, *biases = (uint8_t *)c.memory[2] + odd;
        for (size_t i = 0; i < bytes; i++) data[i] = (uint8_t)linear_random();
        for (size_t i = 0; i < count; i++) {
            float s = (linear_random() & 1 ? 1.0f : -1.0f) * (0.5f + fabsf(linear_normal())) * 0.05f;
            linear_put(scales + i * size, scale_type, s);
            linear_put(biases + i * size, scale_type, -s * (float)(1 << (bits - 1)) * (1 + 0.2f * linear_normal()));
        }
        w->scales = scales, w->biases = biases;
        w->bytes += 2 * size * count;
    } else {
        lm_dtype type = format == LM_FORMAT_F32 ? LM_DTYPE_F32 : format == LM_FORMAT_F16 ? LM_DTYPE_F16 : LM_DTYPE_BF16;
        for (int64_t i = 0; i < n * k; i++) linear_put(data + i * (bits / 8), type, linear_normal() * 0.1f);
    }
    c.x = linear_aligned((size_t)(m * c.ldx) * 4);
    c.y = linear_aligned((size_t)(m * c.ldy) * 4);
    for (int64_t i = 0; i < m * c.ldx; i++) c.x[i] = i % c.ldx < k ? linear_normal() : NAN;
    return c;
}

static void linear_free(linear_case *c) {
    for (int i = 0; i < 3; i++) free(c->memory[i]);
    free(c->x), free(c->y);
}

/* Runs a row over [0, n) in `parts` pieces cut at multiples of n_step. */
static inline void linear_run(const lm_linear_impl *impl, const linear_case *c, const float *x, int64_t m, float *y,
                              int parts) {
    void *xp = linear_aligned(impl->prep_bytes(&c->w, m) + 64),
         *scratch = linear_aligned(impl->scratch_bytes(&c->w, m) + 64);
    memset(xp, 0xff, impl->prep_bytes(&c->w, m));
    memset(scratch, 0xff, impl->scratch_bytes(&c->w, m));
    int64_t m_half = m / 2 / impl->m_step * impl->m_step;
    if (m_half) impl->prep(&c->w, x, c->ldx, 0, m_half, m, xp);
    impl->prep(&c->w, x, c->ldx, m_half, m, m, xp);
    int64_t steps = (c->w.n + impl->n_step - 1) / impl->n_step, each = (steps + parts - 1) / parts * impl->n_step;
    for (int64_t n0 = 0; n0 < c->w.n; n0 += each)
        impl->run(&c->w, xp, m, n0, n0 + each < c->w.n ? n0 + each : c->w.n, y, c->ldy, scratch);
    free(xp), free(scratch);
}

/* Largest error against y_ref in units of 2^-23 * sum |w x|. */
static inline double linear_error(const linear_case *c, const float *y, const float *y_ref) {
    double worst = 0;
    float *row = linear_aligned((size_t)c->w.k * 4);
    for (int64_t n = 0; n < c->w.n; n++) {
        lm_weight_row(&c->w, n, row);
        for (int64_t i = 0; i < c->m; i++) {
            double sum = 0;
            for (int64_t k = 0; k < c->w.k; k++) sum += fabs((double)row[k] * (double)c->x[i * c->ldx + k]);
            double e = fabs((double)y[i * c->ldy + n] - (double)y_ref[i * c->ldy + n]) / (sum * 0x1p-23 + 1e-300);
            if (!(e <= worst)) worst = e;
        }
    }
    free(row);
    return worst;
}
#endif
