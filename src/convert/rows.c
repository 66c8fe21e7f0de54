/* SPDX-License-Identifier: MIT
 * rows.c: slices of source tensors as float32, whatever they lie in: floats of another type, float8 with block scales,
 * packed words. Every step rounds where mlx rounds. */
#include "base/half.h"
#include "convert/plan.h"
#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- plain floats */

static void load(lm_dtype type, const uint8_t *from, int64_t n, float *to) {
    if (type == LM_DTYPE_BF16)
        for (int64_t i = 0; i < n; i++) to[i] = lm_bf16_to_f32(lm_load_u16(from + 2 * i));
    else if (type == LM_DTYPE_F16)
        for (int64_t i = 0; i < n; i++) to[i] = lm_f16_to_f32(lm_load_u16(from + 2 * i));
    else
        memcpy(to, from, (size_t)n * sizeof *to);
}

void cv_store(lm_dtype type, const float *from, int64_t n, uint8_t *to) {
    if (type == LM_DTYPE_F32) {
        memcpy(to, from, (size_t)n * sizeof *from);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint16_t half = type == LM_DTYPE_BF16 ? lm_f32_to_bf16(from[i]) : lm_f32_to_f16(from[i]);
        memcpy(to + 2 * i, &half, 2);
    }
}

/* Rounds to a type in place. */
static void round_to(lm_dtype type, float *x, int64_t n) {
    if (type == LM_DTYPE_BF16)
        for (int64_t i = 0; i < n; i++) x[i] = lm_bf16_to_f32(lm_f32_to_bf16(x[i]));
    else if (type == LM_DTYPE_F16)
        for (int64_t i = 0; i < n; i++) x[i] = lm_f16_to_f32(lm_f32_to_f16(x[i]));
}

void cv_cast(lm_dtype from_type, const void *from, lm_dtype to_type, int64_t n, uint8_t *to) {
    float piece[256];
    const uint8_t *p = from;
    size_t in = lm_dtype_bytes(from_type), out = lm_dtype_bytes(to_type);
    for (int64_t i = 0; i < n; i += 256) {
        int64_t m = n - i < 256 ? n - i : 256;
        load(from_type, p + (size_t)i * in, m, piece);
        cv_store(to_type, piece, m, to + (size_t)i * out);
    }
}

/* ---------------------------------------------------------------- float8 and float4 */

/* e4m3 as mlx decodes it: the bits of a float16 with a smaller exponent, so the code of NaN reads 480. */
static float e4m3(uint8_t code) {
    float magnitude = lm_f16_to_f32((uint16_t)((code & 0x7f) << 7)) * 256.0f;
    return code & 0x80 ? -magnitude : magnitude;
}

static float e8m0(uint8_t code) {
    return code == 255 ? lm_bits_f32(0x7fc00000u) : ldexpf(1.0f, (int)code - 127);
}

static float e2m1(unsigned code) {
    static const float values[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    return code & 8 ? -values[code & 7] : values[code & 7];
}

/* bfloat16(float8 * block scale), which is how mlx-lm decodes DeepSeek's weights, whatever the scale's type. */
static void read_fp8_row(const cv_plan *plan, const cv_part *part, int64_t row, int64_t k, const float *table,
                         float *to) {
    const uint8_t *w = (const uint8_t *)part->weight->data + row * k, *scales = part->scales->data;
    lm_dtype type = part->scales->dtype;
    int64_t step = plan->fp8_block[1], blocks = (k + step - 1) / step, first = row / plan->fp8_block[0] * blocks;
    for (int64_t b = 0; b < blocks; b++) {
        float scale;
        load(type, scales + (size_t)(first + b) * lm_dtype_bytes(type), 1, &scale);
        int64_t end = (b + 1) * step < k ? (b + 1) * step : k;
        for (int64_t i = b * step; i < end; i++) to[i] = table[w[i]] * scale;
    }
    round_to(LM_DTYPE_BF16, to, k);
}

/* ---------------------------------------------------------------- packed words */

/* Element i of a row occupies bits [i*bits, (i+1)*bits) of its bytes. */
static unsigned element(const uint8_t *row, int64_t i, int bits) {
    int64_t at = i * bits;
    unsigned two = row[at / 8];
    if (at % 8 + bits > 8) two |= (unsigned)row[at / 8 + 1] << 8;
    return two >> (at % 8) & ((1u << bits) - 1);
}

static void read_affine_row(const cv_item *item, int64_t row, float *to) {
    const cv_part *p = &item->parts[0];
    const uint8_t *w = (const uint8_t *)p->weight->data + row * item->k * item->from.bits / 8;
    int64_t groups = item->k / item->from.group;
    size_t size = lm_dtype_bytes(p->scales->dtype);
    for (int64_t g = 0; g < groups; g++) {
        float s, b, *out = to + g * item->from.group;
        load(p->scales->dtype, (const uint8_t *)p->scales->data + (size_t)(row * groups + g) * size, 1, &s);
        load(p->scales->dtype, (const uint8_t *)p->biases->data + (size_t)(row * groups + g) * size, 1, &b);
        round_to(item->type, &s, 1);
        round_to(item->type, &b, 1);
        for (int i = 0; i < item->from.group; i++)
            out[i] = s * (float)element(w, g * item->from.group + i, item->from.bits);
        round_to(item->type, out, item->from.group);
        for (int i = 0; i < item->from.group; i++) out[i] += b;
    }
    round_to(item->type, to, item->k);
}

static void read_fp_row(const cv_item *item, int64_t row, float *to) {
    const cv_part *p = &item->parts[0];
    const uint8_t *w = (const uint8_t *)p->weight->data + row * item->k * item->from.bits / 8;
    int64_t groups = item->k / item->from.group;
    const uint8_t *scales = (const uint8_t *)p->scales->data + row * groups;
    for (int64_t i = 0; i < item->k; i++) {
        uint8_t code = scales[i / item->from.group];
        float s = item->from.mode == LM_QUANT_NVFP4 ? e4m3(code) : e8m0(code);
        to[i] = s * (item->from.bits == 8 ? e4m3(w[i]) : e2m1(element(w, i, 4)));
    }
    round_to(item->type, to, item->k);
}

/* ---------------------------------------------------------------- rows of an item */

static void read_part(const cv_plan *plan, const cv_item *item, const cv_part *part, int64_t row, int64_t n,
                      const float *table, float *to) {
    lm_dtype type = part->weight->dtype;
    if (type == LM_DTYPE_F8_E4M3) {
        for (int64_t i = 0; i < n; i++) read_fp8_row(plan, part, row + i, item->k, table, to + i * item->k);
        if (item->type != LM_DTYPE_BF16) round_to(item->type, to, n * item->k);
        return;
    }
    load(type, (const uint8_t *)part->weight->data + (size_t)(row * item->k) * lm_dtype_bytes(type), n * item->k, to);
    if (item->type != type) round_to(item->type, to, n * item->k);
}

void cv_rows_read(const cv_plan *plan, const cv_item *item, int64_t row, int64_t n, float *to) {
    float table[256];
    if (item->from.bits) {
        for (int64_t i = 0; i < n; i++)
            if (item->from.mode == LM_QUANT_AFFINE)
                read_affine_row(item, row + i, to + i * item->k);
            else
                read_fp_row(item, row + i, to + i * item->k);
        return;
    }
    for (int i = 0; plan->fp8 && i < 256; i++) table[i] = e4m3((uint8_t)i);
    int64_t per_part = item->rows / item->n_parts;
    while (n > 0) {
        int64_t in_part = row % per_part, some = per_part - in_part < n ? per_part - in_part : n;
        read_part(plan, item, &item->parts[row / per_part], in_part, some, table, to);
        row += some;
        n -= some;
        to += some * item->k;
    }
}
