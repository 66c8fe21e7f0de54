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

/* Scales and biases of one position. */
static void put_scales(const half *h, int32_t groups, int32_t pos, const char *scales, const char *biases) {
    for (int32_t g = 0; g < groups; g++) {
        const size_t to = ((size_t)g * LM_KV_BLOCK + (size_t)pos) * h->size;
        memcpy(h->scales + to, scales + (size_t)g * h->size, h->size);
        memcpy(h->biases + to, biases + (size_t)g * h->size, h->size);
    }
}

/* ---------------------------------------------------------------- storing */

/* Codes [from, from + n) of a packed row, a byte each. */
static void unpack(const uint8_t *row, int bits, int32_t from, int32_t n, uint8_t *out) {
    if (bits == 8) {
        memcpy(out, row + from, (size_t)n);
    } else if (bits == 4) {
        for (int32_t i = 0; i < n; i += 2) {
            const uint8_t two = row[(from + i) / 2];
            out[i] = two & 0x0f, out[i + 1] = two >> 4;
        }
    } else {
        for (int32_t i = 0; i < n; i++) out[i] = (uint8_t)lm_unpack_code(row, bits, from + i);
    }
}

/* Dimensions [first, first + width) of one key: fours, a tile's width apart. */
static void put_key(const half *h, int32_t d, int32_t pos, int32_t first, int32_t width, const uint8_t *codes) {
    bool high;
    uint8_t *to = h->codes + lm_kvq_key_at(h->stored, d, pos, first, &high);
    const int32_t run = h->stored == 8 ? 4 : 8;
    for (int32_t e = 0; e < width; e += run, to += 4 * LM_KVQ_TILE)
        for (int i = 0; i < 4; i++)
            to[i] = h->stored == 8 ? codes[e + i] : (uint8_t)(codes[e + i] | codes[e + 4 + i] << 4);
}

/* A run of positions' values, 4 or 8 as bytes hold: codes[run][LM_KVQ_TILE]. */
static void put_value_run(const half *h, int32_t d, int32_t pos, int32_t first, int32_t width,
                          const uint8_t codes[8][LM_KVQ_TILE]) {
    bool high;
    uint8_t *to = h->codes + lm_kvq_value_at(h->stored, d, pos, first, &high);
    for (int32_t e = 0; e < width; e++, to += 4)
        for (int i = 0; i < 4; i++)
            to[i] = h->stored == 8 ? codes[i][e] : (uint8_t)(codes[i][e] | codes[4 + i][e] << 4);
}

/* One position's values; their neighbours in shared bytes stay. */
static void put_value(const half *h, int32_t d, int32_t pos, int32_t first, int32_t width, const uint8_t *codes) {
    bool high;
    uint8_t *to = h->codes + lm_kvq_value_at(h->stored, d, pos, first, &high);
    for (int32_t e = 0; e < width; e++, to += 4)
        *to = h->stored == 8 ? codes[e] : (uint8_t)(high ? (*to & 0x0f) | codes[e] << 4 : (*to & 0xf0) | codes[e]);
}

static void put_rows(const half *h, lm_kvq q, bool values, int32_t d, int32_t pos, int32_t n, const uint8_t *packed,
                     const char *scales, const char *biases) {
    const size_t row = (size_t)d * (size_t)q.bits / 8, groups = (size_t)(d / q.group);
    uint8_t codes[8][LM_KVQ_TILE];
    for (int32_t i = 0; i < n; i++) {
        const size_t at = (size_t)i * groups * h->size;
        put_scales(h, (int32_t)groups, pos + i, scales + at, biases + at);
    }
    for (int32_t i = 0, run; i < n; i += run) {
        run = values ? (h->stored == 8 ? 4 : 8) : 1;
        if ((pos + i) % run || n - i < run) run = 1;
        for (int32_t first = 0; first < d; first += LM_KVQ_TILE) {
            const int32_t width = lm_kvq_value_width(d, first);
            for (int32_t r = 0; r < run; r++) unpack(packed + (size_t)(i + r) * row, q.bits, first, width, codes[r]);
            if (run > 1)
                put_value_run(h, d, pos + i, first, width, (const uint8_t(*)[LM_KVQ_TILE])codes);
            else if (values)
                put_value(h, d, pos + i, first, width, codes[0]);
            else
                put_key(h, d, pos + i, first, width, codes[0]);
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
        key[e] = lm_unpack_scale(kt, type, (int64_t)lm_kv_key_at(d, e, pos));
        value[e] = lm_unpack_scale(v, type, (int64_t)pos * d + e);
    }
}
