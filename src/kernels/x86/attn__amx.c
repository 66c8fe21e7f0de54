/* SPDX-License-Identifier: MIT
 * attn__amx.c: attention over one block on AMX tiles (attn_pairs.h): bfloat16 keys and values in class BF16 (two
 * products), float16 ones as high + low parts in class F16. 2 x 2 tiles of sums: 32 rows by 32 columns. */
#if defined(__x86_64__)
#include "kernels/x86/tiles.h"
#define PAIRS_MR (2 * BLOCK)
#define PAIRS_STEP BLOCK
#define PAIRS_BEGIN() tiles_begin(16)
#define PAIRS_END() tiles_end()
#include "kernels/x86/attn_pairs.h"

/* Tiles 0..3: sums; 4, 5: rows of a; 6, 7: columns of b. `two`: more than 16 rows. */
INLINE void load_rows(const uint16_t *a, bool two) {
    TILE_LOAD(4, a, A_STRIDE * 2);
    if (two) TILE_LOAD(5, a + BLOCK * A_STRIDE, A_STRIDE * 2);
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
        load_columns(b.high + (size_t)i * NR);
        load_rows(a.low + 2 * i, two);
        multiply(two);
        load_rows(a.high + 2 * i, two);
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

INLINE void tiles(bool split, int32_t rows, int32_t pairs, left a, right b, float *sums, int64_t stride) {
    if (rows > BLOCK)
        inner(split, true, pairs, a, b, sums, stride);
    else
        inner(split, false, pairs, a, b, sums, stride);
}

INLINE void product(bool split, int32_t rows, int32_t pairs, left a, right b, float *c, int64_t ldc, int32_t cols,
                    bool resume) {
    _Alignas(64) float sums[PAIRS_MR * NR];
    tiles(split, rows, pairs, a, b, sums, NR);
    for (int32_t r = 0; r < rows; r++)
        for (int32_t i = 0; i < cols; i += VL) {
            const vf sum = vf_load(sums + r * NR + i);
            float *to = c + r * ldc + i;
            vf_store_n(to, vf_add(sum, resume ? vf_load_n(to, cols - i) : vf_zero()), cols - i);
        }
}

INLINE void product_scores(bool split, int32_t rows, int32_t pairs, left a, right b, float *c, int64_t ldc,
                           bool resume) {
    if (resume)
        product(split, rows, pairs, a, b, c, ldc, NR, true);
    else
        tiles(split, rows, pairs, a, b, c, ldc);
}

DEFINE_ATTN_PAIRS(false, , lm_attn_bf16__amx);
DEFINE_ATTN_PAIRS(true, _split, lm_attn_f16_split__amx);
#else
typedef int lm_empty_translation_unit;
#endif
