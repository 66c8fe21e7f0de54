/* SPDX-License-Identifier: MIT
 * attn__bf16.c: attention over one block of bfloat16 keys and values by vdpbf16ps, class BF16 (attn_pairs.h). */
#if defined(__x86_64__)
#define PAIRS_MR 14 /* rows of a tile: with two vectors of columns 28 sums in registers */
#define PAIRS_STEP 1
#define PAIRS_PASS true
#define PAIRS_BEGIN()
#define PAIRS_END()
#include "kernels/x86/attn_pairs.h"

INLINE void tile(int rows, int32_t pairs, const uint16_t *a, const uint32_t *b, float *c, int64_t ldc, int32_t cols,
                 bool resume) {
    vf sum[PAIRS_MR][2];
    UNROLL for (int r = 0; r < rows; r++) {
        sum[r][0] = resume ? vf_load_n(c + r * ldc, cols) : vf_zero();
        sum[r][1] = resume && cols > VL ? vf_load_n(c + r * ldc + VL, cols - VL) : vf_zero();
    }
    for (int32_t k = 0; k < pairs; k++, a += 2, b += NR) {
        const __m512bh w0 = (__m512bh)vi_load(b), w1 = (__m512bh)vi_load(b + VL);
        UNROLL for (int r = 0; r < rows; r++) {
            uint32_t pair;
            __builtin_memcpy(&pair, a + r * A_STRIDE, sizeof pair);
            const __m512bh x = (__m512bh)vi_set1(pair);
            sum[r][0] = _mm512_dpbf16_ps(sum[r][0], x, w0);
            sum[r][1] = _mm512_dpbf16_ps(sum[r][1], x, w1);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        vf_store_n(c + r * ldc, vf_add(sum[r][0], vf_zero()), cols);
        if (cols > VL) vf_store_n(c + r * ldc + VL, vf_add(sum[r][1], vf_zero()), cols - VL);
    }
}

static void product_of(int32_t rows, int32_t pairs, const uint16_t *a, const uint32_t *b, float *c, int64_t ldc,
                       int32_t cols, bool resume) {
    /* clang-format off */
    switch (rows) {
#define ROWS(r) case r: tile(r, pairs, a, b, c, ldc, cols, resume); break;
    ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6) ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12) ROWS(13)
#undef ROWS
    default: tile(PAIRS_MR, pairs, a, b, c, ldc, cols, resume); break;
    }
    /* clang-format on */
}

INLINE void product(bool split, int32_t rows, int32_t pairs, left a, right b, float *c, int64_t ldc, int32_t cols,
                    bool resume) {
    (void)split; /* three products of pairs are no faster than one of float32 here: no such row */
    product_of(rows, pairs, a.high, b.high, c, ldc, cols, resume);
}

INLINE void product_scores(bool split, int32_t rows, int32_t pairs, left a, right b, float *c, int64_t ldc,
                           bool resume) {
    product(split, rows, pairs, a, b, c, ldc, NR, resume);
}

DEFINE_ATTN_PAIRS(false, , lm_attn_bf16__bf16);
#else
typedef int lm_empty_translation_unit;
#endif
