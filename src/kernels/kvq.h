/* SPDX-License-Identifier: MIT
 * kvq.h: quantized keys and values of one head in a block of LM_KV_BLOCK positions: how they lie, and the scalar code
 * that stores and reads them. Codes, scales and biases are those of mx.quantize along the head
 * (docs/formats/affine.md), rounded to `type`; only their places are ours, made for kernels that multiply four bytes of
 * a lane at once:
 *
 *   key scales   [D/group][256] of type        value scales  [D/group][256]
 *   key biases   [D/group][256]                value biases  [D/group][256]
 *   key codes    [256/64][D/4][64][4]          value codes   [D/64][256/4][64][4]: positions in fours
 *
 * Codes of 5, 6 and 8 bits have a byte each. Those of 2, 3 and 4 bits share one: a byte holds dimensions e and e + 4
 * (values: positions p and p + 4), the lower one in the low half; [D/4] is [D/8] then, [256/4] is [256/8]. The last
 * [64] of the value codes is D % 64 where that isn't 0. */
#ifndef LM_KERNELS_KVQ_H
#define LM_KERNELS_KVQ_H
#include "base/types.h"
#include <stdbool.h>

#define LM_KVQ_TILE 64 /* positions of a tile of keys, dimensions of a tile of values */

/** Whether mx.quantize has this, for a head of d dimensions. */
static inline bool lm_kvq_valid(lm_kvq q, int64_t d) {
    const bool bits = q.bits == 2 || q.bits == 3 || q.bits == 4 || q.bits == 5 || q.bits == 6 || q.bits == 8;
    return bits && (q.group == 32 || q.group == 64 || q.group == 128) && d > 0 && d % q.group == 0;
}
/** Bits that a code takes in memory: 4 or 8. */
static inline int lm_kvq_stored_bits(int bits) {
    return bits > 4 ? 8 : 4;
}
/** The row of op ATTNQ. */
static inline lm_format lm_kvq_format(int bits) {
    return bits > 4 ? LM_FORMAT_AFFINE8 : LM_FORMAT_AFFINE4;
}

/* The pieces below: bytes from the beginning of the head's part. `stored` is 4 or 8. */
static inline size_t lm_kvq_scales_bytes(int32_t d, int32_t group, lm_dtype type) {
    return (size_t)(d / group) * LM_KV_BLOCK * (type == LM_DTYPE_F32 ? 4 : 2);
}
static inline size_t lm_kvq_codes_bytes(int stored, int32_t d) {
    return (size_t)d * LM_KV_BLOCK / 8 * (size_t)stored;
}
/** Of keys (values: the same again, behind them). */
static inline size_t lm_kvq_half_bytes(int stored, int32_t d, int32_t group, lm_dtype type) {
    return 2 * lm_kvq_scales_bytes(d, group, type) + lm_kvq_codes_bytes(stored, d);
}
/** Bytes of one head in a block, a multiple of 64. */
static inline size_t lm_kvq_head_bytes(lm_kvq q, int32_t d, lm_dtype type) {
    return 2 * lm_kvq_half_bytes(lm_kvq_stored_bits(q.bits), d, q.group, type);
}
/** Byte of a code among the codes of keys or values. Stored in 4 bits: the low half where `*high` is false. */
static inline size_t lm_kvq_key_at(int stored, int32_t d, int32_t pos, int32_t e, bool *high) {
    const int32_t run = stored == 8 ? 4 : 8;
    *high = stored == 4 && e % 8 >= 4;
    return (size_t)(pos / LM_KVQ_TILE) * (LM_KVQ_TILE * 4 / (size_t)run) * (size_t)d +
           (size_t)(e / run) * 4 * LM_KVQ_TILE + (size_t)(pos % LM_KVQ_TILE * 4 + e % 4);
}
/** Dimensions of the tile of values that dimension e is in. */
static inline int32_t lm_kvq_value_width(int32_t d, int32_t e) {
    const int32_t first = e / LM_KVQ_TILE * LM_KVQ_TILE;
    return d - first < LM_KVQ_TILE ? d - first : LM_KVQ_TILE;
}
static inline size_t lm_kvq_value_at(int stored, int32_t d, int32_t pos, int32_t e, bool *high) {
    const int32_t run = stored == 8 ? 4 : 8, first = e / LM_KVQ_TILE * LM_KVQ_TILE;
    *high = stored == 4 && pos % 8 >= 4;
    return (size_t)first * (LM_KV_BLOCK * 4 / (size_t)run) + (size_t)(pos / run * 4 * lm_kvq_value_width(d, e)) +
           (size_t)((e - first) * 4 + pos % 4);
}

/** Quantizes the keys and values of positions [pos, pos + n) of a head (float32, rows ld apart, rounded to `type`
 * first) into its part of a block. `scratch`: lm_kvq_scratch_bytes. */
void lm_kvq_store(lm_kvq q, lm_dtype type, void *head, const float *keys, const float *values, int64_t ld, int32_t d,
                  int32_t pos, int32_t n, void *scratch);
/** At most so many positions a call of lm_kvq_store. */
#define LM_KVQ_ROWS 64
size_t lm_kvq_scratch_bytes(int32_t d);

/** Moves one half (keys, or values) of n positions from `first` on between a head's part and mlx's arrays: codes packed
 * [n][d * bits / 8], scales and biases [n][d / group] of `type`. */
void lm_kvq_read(lm_kvq q, lm_dtype type, const void *head, bool values, int32_t d, int32_t first, int32_t n,
                 void *packed, void *scales, void *biases);
void lm_kvq_write(lm_kvq q, lm_dtype type, void *head, bool values, int32_t d, int32_t first, int32_t n,
                  const void *packed, const void *scales, const void *biases);

/** Key and value of one position of a head that isn't quantized (op KV's layout), as float32. */
void lm_kv_load(lm_dtype type, const void *kt, const void *v, int32_t d, int32_t pos, float *key, float *value);
#endif
