/* SPDX-License-Identifier: MIT
 * gguf_out_rows.c: rows of MLX tensors as ggml's blocks of 32: the lossless way where MLX's codes are ggml's, else
 * float32 and ggml's reference rounding. The arithmetic is float32 in the order of the reference; the build forbids
 * contraction. docs/formats/gguf.md has the byte maps. */
#include "base/half.h"
#include "convert/gguf_out.h"
#include "kernels/kernel.h"
#include <math.h>
#include <string.h>

#define BLOCK 32

size_t cv_gguf_row_bytes(uint32_t type, int64_t columns) {
    int block = 1, bytes = 1;
    lm_ggml_type(type, &block, &bytes);
    return (size_t)(columns / block) * (size_t)bytes;
}

float cv_gguf_float_at(const lm_tensor *t, int64_t i) {
    const uint8_t *p = t->data;
    switch (t->dtype) {
    case LM_DTYPE_F16: return lm_f16_to_f32(lm_load_u16(p + 2 * i));
    case LM_DTYPE_BF16: return lm_bf16_to_f32(lm_load_u16(p + 2 * i));
    default: return lm_load_f32(p + 4 * i);
    }
}

static void put_u16(uint8_t *to, uint16_t v) {
    to[0] = (uint8_t)v;
    to[1] = (uint8_t)(v >> 8);
}

/* A float16 of the file; false if it is not finite. */
static bool put_f16(uint8_t *to, float f) {
    uint16_t h = lm_f32_to_f16(f);
    put_u16(to, h);
    return (h & 0x7c00) != 0x7c00;
}

/* ---------------------------------------------------------------- reading */

/* Code `i` of a row: bits [i * bits, (i + 1) * bits) of its little-endian bit string. */
static unsigned code_at(const uint8_t *row, int bits, int64_t i) {
    int64_t at = i * bits;
    int shift = (int)(at & 7);
    unsigned v = row[at >> 3];
    if (shift + bits > 8) v |= (unsigned)row[(at >> 3) + 1] << 8; /* a code never spans three bytes */
    return (v >> shift) & ((1u << bits) - 1);
}

static const uint8_t *code_row(const cv_gguf_matrix *m, int64_t row) {
    return (const uint8_t *)m->weight->data + row * (m->columns * m->bits / 8);
}

/* mxfp4, nvfp4, mxfp8: the engine's own definition of the format. */
static void row_small(const cv_gguf_matrix *m, int64_t row, float *to) {
    lm_weight w = {.data = m->weight->data,
                   .scales = m->scales->data,
                   .n = row + 1, /* a stack of experts is one tall matrix */
                   .k = m->columns,
                   .row_bytes = (size_t)(m->columns * lm_format_bits(m->format) / 8),
                   .group = (int32_t)m->group,
                   .format = m->format,
                   .scale_type = LM_DTYPE_U8};
    lm_weight_row(&w, row, to);
}

void cv_gguf_row_float(const cv_gguf_matrix *m, int64_t row, float *to) {
    if (m->small) {
        row_small(m, row, to);
        return;
    }
    if (!m->bits) {
        for (int64_t i = 0; i < m->columns; i++) to[i] = cv_gguf_float_at(m->weight, row * m->columns + i);
        return;
    }
    const uint8_t *codes = code_row(m, row);
    int64_t groups = m->columns / m->group;
    for (int64_t g = 0; g < groups; g++) {
        float scale = cv_gguf_float_at(m->scales, row * groups + g),
              bias = cv_gguf_float_at(m->biases, row * groups + g);
        for (int64_t i = g * m->group; i < (g + 1) * m->group; i++)
            to[i] = scale * (float)code_at(codes, m->bits, i) + bias;
    }
}

/* ---------------------------------------------------------------- ggml's rounding */

/* d = max |x| / 127; codes round half away from zero. */
static bool encode_q8_0(const float *x, uint8_t *to) {
    float most = 0;
    for (int i = 0; i < BLOCK; i++) most = fmaxf(most, fabsf(x[i]));
    float d = most / 127.0f, inverse = d != 0 ? 1.0f / d : 0.0f;
    for (int i = 0; i < BLOCK; i++) to[2 + i] = (uint8_t)(int8_t)roundf(x[i] * inverse);
    return put_f16(to, d);
}

static uint8_t nibble(float v) {
    int q = (int)v; /* v is at least 0: this truncates */
    return (uint8_t)(q > 15 ? 15 : q < 0 ? 0 : q);
}

/* d = x / -8 for the first value x of the largest magnitude, which so gets code 0. */
static bool encode_q4_0(const float *x, uint8_t *to) {
    float most = 0, extreme = 0;
    for (int i = 0; i < BLOCK; i++)
        if (most < fabsf(x[i])) {
            most = fabsf(x[i]);
            extreme = x[i];
        }
    float d = extreme / -8.0f, inverse = d != 0 ? 1.0f / d : 0.0f;
    for (int i = 0; i < BLOCK / 2; i++) {
        float low = x[i] * inverse, high = x[i + BLOCK / 2] * inverse;
        to[2 + i] = (uint8_t)(nibble(low + 8.5f) | nibble(high + 8.5f) << 4);
    }
    return put_f16(to, d);
}

/* m = the smallest value, d = the span / 15. */
static bool encode_q4_1(const float *x, uint8_t *to) {
    float least = x[0], most = x[0];
    for (int i = 1; i < BLOCK; i++) {
        if (x[i] < least) least = x[i];
        if (x[i] > most) most = x[i];
    }
    float d = (most - least) / 15.0f, inverse = d != 0 ? 1.0f / d : 0.0f;
    for (int i = 0; i < BLOCK / 2; i++) {
        float low = (x[i] - least) * inverse, high = (x[i + BLOCK / 2] - least) * inverse;
        to[4 + i] = (uint8_t)(nibble(low + 0.5f) | nibble(high + 0.5f) << 4);
    }
    bool ok = put_f16(to, d);
    return put_f16(to + 2, least) && ok;
}

static bool encode_block(uint32_t type, const float *x, uint8_t *to) {
    for (int i = 0; i < BLOCK; i++)
        if (!isfinite(x[i])) return false;
    return type == LM_GGML_Q8_0 ? encode_q8_0(x, to) : type == LM_GGML_Q4_0 ? encode_q4_0(x, to) : encode_q4_1(x, to);
}

bool cv_gguf_encode(uint32_t type, const float *from, int64_t n, uint8_t *to) {
    bool ok = true;
    if (type == LM_GGML_F32) {
        memcpy(to, from, (size_t)n * 4);
        return true;
    }
    if (type == LM_GGML_F16 || type == LM_GGML_BF16) {
        for (int64_t i = 0; i < n; i++) {
            if (type == LM_GGML_F16)
                ok = put_f16(to + 2 * i, from[i]) && ok;
            else
                put_u16(to + 2 * i, lm_f32_to_bf16(from[i]));
            ok = ok && isfinite(from[i]);
        }
        return ok;
    }
    size_t bytes = cv_gguf_row_bytes(type, BLOCK);
    for (int64_t i = 0; i < n; i += BLOCK, to += bytes) ok = encode_block(type, from + i, to) && ok;
    return ok;
}

/* ---------------------------------------------------------------- codes kept */

/* A block's 16 bytes of nibbles from 32 codes of at most 4 bits. */
static void pack_nibbles(const uint8_t *codes, int bits, int64_t first, uint8_t *to) {
    for (int64_t i = 0; i < BLOCK / 2; i++)
        to[i] = (uint8_t)(code_at(codes, bits, first + i) | code_at(codes, bits, first + i + BLOCK / 2) << 4);
}

bool cv_gguf_row_codes(const cv_gguf_matrix *m, uint32_t type, int64_t row, uint8_t *to) {
    const uint8_t *codes = code_row(m, row);
    int64_t groups = m->columns / m->group;
    bool ok = true;
    for (int64_t i = 0; i < m->columns; i += BLOCK) {
        int64_t g = row * groups + i / m->group; /* a wider group gives its scale to each of its blocks */
        ok = put_f16(to, cv_gguf_float_at(m->scales, g)) && ok;
        to += 2;
        if (type == LM_GGML_Q4_1) {
            ok = put_f16(to, cv_gguf_float_at(m->biases, g)) && ok;
            to += 2;
        }
        if (type == LM_GGML_Q8_0) {
            for (int64_t k = 0; k < BLOCK; k++) to[k] = (uint8_t)(codes[i + k] ^ 0x80); /* code - 128 as int8 */
            to += BLOCK;
        } else {
            pack_nibbles(codes, m->bits, i, to);
            to += BLOCK / 2;
        }
    }
    return ok;
}
