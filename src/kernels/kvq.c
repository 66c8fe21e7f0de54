/* SPDX-License-Identifier: MIT
 *
 * kvq.c: storing and reading quantized keys and values. Quantizing itself is op QUANT's; what is left is moving bytes,
 * once a token. */
#include "kernels/kvq.h"
#include "kernels/quant_group.h"
#include <string.h>

/* ---------------------------------------------------------------- places */

typedef struct half {
    char *scales, *biases;
    uint8_t *codes;
    int stored;
    size_t size; /* of a scale */
} half;

static half half_of(lm_kvq q, lm_dtype type, void *head, bool values, int32_t d) {
    const int stored = lm_kvq_stored_bits(q.bits);
    char *base = (char *)head + (values ? lm_kvq_half_bytes(stored, d, q.group, type) : 0);
    const size_t scales = lm_kvq_scales_bytes(d, q.group, type);
    return (half){base, base + scales, (uint8_t *)base + 2 * scales, stored, type == LM_DTYPE_F32 ? 4 : 2};
}

static void put_nibble(uint8_t *byte, bool high, unsigned code) {
    *byte = (uint8_t)(high ? (*byte & 0x0f) | code << 4 : (*byte & 0xf0) | code);
}

static void put_code(const half *h, bool values, int32_t d, int32_t pos, int32_t e, unsigned code) {
    bool high;
    const size_t at =
        values ? lm_kvq_value_at(h->stored, d, pos, e, &high) : lm_kvq_key_at(h->stored, d, pos, e, &high);
    if (h->stored == 8)
        h->codes[at] = (uint8_t)code;
    else
        put_nibble(&h->codes[at], high, code);
}

/* Scales and biases of one position. */
static void put_scales(const half *h, int32_t groups, int32_t pos, const char *scales, const char *biases) {
    for (int32_t g = 0; g < groups; g++) {
        const size_t to = ((size_t)g * LM_KV_BLOCK + (size_t)pos) * h->size;
        memcpy(h->scales + to, scales + (size_t)g * h->size, h->size);
        memcpy(h->biases + to, biases + (size_t)g * h->size, h->size);
    }
}

/* ---------------------------------------------------------------- storing */

/* Bytes of one position's key: fours of dimensions, a tile's width apart. */
static void put_key_bytes(const half *h, int32_t d, int32_t pos, const uint8_t *codes) {
    bool high;
    uint8_t *to = h->codes + lm_kvq_key_at(8, d, pos, 0, &high);
    for (int32_t e = 0; e < d; e += 4, to += 4 * LM_KVQ_TILE) memcpy(to, codes + e, 4);
}

/* Bytes of four positions' values from one that is a multiple of four on: transposed in fours. */
static void put_value_bytes(const half *h, int32_t d, int32_t pos, const uint8_t *codes) {
    bool high;
    for (int32_t first = 0; first < d; first += LM_KVQ_TILE) {
        const int32_t width = lm_kvq_value_width(d, first);
        uint8_t *to = h->codes + lm_kvq_value_at(8, d, pos, first, &high);
        const uint8_t *from = codes + first;
        for (int32_t e = 0; e < width; e++, to += 4) {
            to[0] = from[e];
            to[1] = from[e + d];
            to[2] = from[e + 2 * d];
            to[3] = from[e + 3 * d];
        }
    }
}

static void put_rows(const half *h, lm_kvq q, bool values, int32_t d, int32_t pos, int32_t n, const uint8_t *packed,
                     const char *scales, const char *biases) {
    const size_t row = (size_t)d * (size_t)q.bits / 8;
    const int32_t groups = d / q.group;
    for (int32_t i = 0; i < n; i++) {
        const size_t at = (size_t)i * (size_t)groups * h->size;
        const uint8_t *from = packed + (size_t)i * row;
        put_scales(h, groups, pos + i, scales + at, biases + at);
        if (q.bits == 8 && !values) {
            put_key_bytes(h, d, pos + i, from);
        } else if (q.bits == 8 && (pos + i) % 4 == 0 && n - i >= 4) {
            put_value_bytes(h, d, pos + i, from);
            for (int32_t j = 1; j < 4; j++)
                put_scales(h, groups, pos + i + j, scales + at + (size_t)j * (size_t)groups * h->size,
                           biases + at + (size_t)j * (size_t)groups * h->size);
            i += 3;
        } else {
            for (int32_t e = 0; e < d; e++) put_code(h, values, d, pos + i, e, lm_unpack_code(from, q.bits, e));
        }
    }
}

size_t lm_kvq_scratch_bytes(int32_t d) {
    /* rows in float32, their codes, and scales and biases of groups of 32 in float32 */
    return (size_t)LM_KVQ_ROWS * (size_t)d * (4 + 1) + 2 * (size_t)LM_KVQ_ROWS * (size_t)(d / 32) * 4 + 64;
}

static void quantize_half(lm_kvq q, lm_dtype type, void *head, bool values, const float *x, int64_t ld, int32_t d,
                          int32_t pos, int32_t n, void *scratch) {
    const half h = half_of(q, type, head, values, d);
    const lm_quant_spec spec = {LM_QUANT_AFFINE, q.bits, q.group, LM_QUANT_RULE_CPU};
    float *rows = scratch;
    char *scales = (char *)(rows + (size_t)n * (size_t)d),
         *biases = scales + (size_t)n * (size_t)(d / q.group) * h.size;
    char *packed = biases + (size_t)n * (size_t)(d / q.group) * h.size;
    for (int32_t i = 0; i < n; i++)
        for (int32_t e = 0; e < d; e++) rows[(size_t)i * (size_t)d + (size_t)e] = lm_quant_round(x[i * ld + e], type);
    lm_quantize_rows(&spec, rows, type, n, d, packed, scales, biases);
    put_rows(&h, q, values, d, pos, n, (const uint8_t *)packed, scales, biases);
}

void lm_kvq_store(lm_kvq q, lm_dtype type, void *head, const float *keys, const float *values, int64_t ld, int32_t d,
                  int32_t pos, int32_t n, void *scratch) {
    quantize_half(q, type, head, false, keys, ld, d, pos, n, scratch);
    quantize_half(q, type, head, true, values, ld, d, pos, n, scratch);
}

/* ---------------------------------------------------------------- mlx's arrays */

void lm_kvq_write(lm_kvq q, lm_dtype type, void *head, bool values, int32_t d, int32_t first, int32_t n,
                  const void *packed, const void *scales, const void *biases) {
    const half h = half_of(q, type, head, values, d);
    put_rows(&h, q, values, d, first, n, packed, scales, biases);
}

static void append_code(uint8_t *row, int bits, int64_t i, unsigned code) {
    const int64_t bit = i * bits;
    const unsigned shifted = code << (bit & 7);
    row[bit >> 3] |= (uint8_t)shifted;
    if (shifted > 0xff) row[(bit >> 3) + 1] |= (uint8_t)(shifted >> 8);
}

void lm_kvq_read(lm_kvq q, lm_dtype type, const void *head, bool values, int32_t d, int32_t first, int32_t n,
                 void *packed, void *scales, void *biases) {
    const half h = half_of(q, type, (void *)(uintptr_t)head, values, d); /* only read from */
    const size_t row = (size_t)d * (size_t)q.bits / 8;
    const int32_t groups = d / q.group;
    memset(packed, 0, (size_t)n * row);
    for (int32_t i = 0; i < n; i++) {
        const int32_t pos = first + i;
        for (int32_t e = 0; e < d; e++) {
            bool high;
            const uint8_t byte = h.codes[values ? lm_kvq_value_at(h.stored, d, pos, e, &high)
                                                : lm_kvq_key_at(h.stored, d, pos, e, &high)];
            const unsigned code = h.stored == 8 ? byte : high ? byte >> 4 : byte & 0x0f;
            append_code((uint8_t *)packed + (size_t)i * row, q.bits, e, code);
        }
        for (int32_t g = 0; g < groups; g++) {
            const size_t from = ((size_t)g * LM_KV_BLOCK + (size_t)pos) * h.size;
            const size_t to = ((size_t)i * (size_t)groups + (size_t)g) * h.size;
            memcpy((char *)scales + to, h.scales + from, h.size);
            memcpy((char *)biases + to, h.biases + from, h.size);
        }
    }
}

void lm_kv_load(lm_dtype type, const void *kt, const void *v, int32_t d, int32_t pos, float *key, float *value) {
    for (int32_t e = 0; e < d; e++) {
        key[e] = lm_unpack_scale(kt, type, (int64_t)e * LM_KV_BLOCK + pos);
        value[e] = lm_unpack_scale(v, type, (int64_t)pos * d + e);
    }
}
