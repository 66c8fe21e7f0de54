/* SPDX-License-Identifier: MIT
 * attn__amx.c: attention over one block on AMX tiles (attn_pairs.h): bfloat16 keys and values in class BF16 (two
 * products), float16 ones as high + low parts in class F16. 2 x 2 tiles of sums: 32 rows by 32 columns. */
#if defined(__x86_64__)
#include "kernels/x86/tiles.h"
#define PAIRS_MR (2 * BLOCK)
#define PAIRS_STEP BLOCK
#define PAIRS_ROWS 192 /* of a call: packing a block is a fifth of the work of 96 */
#define PAIRS_BEGIN() tiles_begin(16)
#define PAIRS_END() tiles_end()
#include "kernels/x86/attn_pairs.h"

/* Tiles 0..3: sums; 4, 5: rows of a; 6, 7: columns of b. `two`: more than 16 rows. */
INLINE void load_rows(const char *from, const left *a, bool two) {
    TILE_LOAD(4, from, a->row);
    if (two) TILE_LOAD(5, from + a->rows, a->row);
}
INLINE void load_columns(const uint32_t *b) {
    TILE_LOAD(6, b, NR * 4);
    TILE_LOAD(7, b + VL, NR * 4);
}
INLINE void multiply(bool two) {
    TILE_MULTIPLY(0, 4, 6);
    TILE_MULTIPLY(1, 4, 7);
    if (two) {
        TILE_MULTIPLY(2, 5, 6);
        TILE_MULTIPLY(3, 5, 7);
    }
}

/* sums[32, 32] of a[32, 2*pairs] * b[pairs, 32]. The first 16 rows of sums alone unless `two`. */
INLINE void inner(bool split, bool two, int32_t pairs, left a, right b, float *sums, int64_t stride) {
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (int32_t i = 0; i < pairs; i += BLOCK) {
        const size_t at = (size_t)(i / BLOCK) * a.along;
        load_columns(b.high + (size_t)i * NR);
        load_rows(a.low + at, &a, two);
        multiply(two);
        load_rows(a.high + at, &a, two);
        multiply(two);
        if (split) {
            load_columns(b.low + (size_t)i * NR);
            multiply(two);
        }
    }
    TILE_STORE(0, sums, stride * 4);
    TILE_STORE(1, sums + VL, stride * 4);
    if (two) {
        TILE_STORE(2, sums + BLOCK * stride, stride * 4);
        TILE_STORE(3, sums + BLOCK * stride + VL, stride * 4);
    }
}

INLINE void product_scores(bool split, int32_t rows, int32_t pairs, left a, right b, float *c, int64_t ldc) {
    if (rows > BLOCK)
        inner(split, true, pairs, a, b, c, ldc);
    else
        inner(split, false, pairs, a, b, c, ldc);
}

INLINE void product(bool split, int32_t rows, int32_t pairs, left a, right b, float *c, int64_t ldc, int32_t cols) {
    _Alignas(64) float sums[PAIRS_MR * NR];
    product_scores(split, rows, pairs, a, b, sums, NR);
    /* columns back to their order: four of the first half, four of the second, and so on */
    const vi first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
             second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    for (int32_t r = 0; r < rows; r++) {
        const vi a0 = vi_load(sums + r * NR), a1 = vi_load(sums + r * NR + VL);
        float *to = c + r * ldc;
        vf_store_n(to, vf_add(vf_bits(_mm512_permutex2var_epi64(a0, first, a1)), vf_zero()), cols);
        if (cols > VL)
            vf_store_n(to + VL, vf_add(vf_bits(_mm512_permutex2var_epi64(a0, second, a1)), vf_zero()), cols - VL);
    }
}

DEFINE_ATTN_PAIRS(false, , lm_attn_bf16__amx);
DEFINE_ATTN_PAIRS(true, _split, lm_attn_f16_split__amx);
#else
typedef int lm_empty_translation_unit;
#endif
