/* SPDX-License-Identifier: MIT
 * attn_scalar.h: what the scalar rows of ops ATTN and ATTNQ share. merge is the definition of lm_attn_impl's merge. */
#ifndef LM_KERNELS_REF_ATTN_SCALAR_H
#define LM_KERNELS_REF_ATTN_SCALAR_H
#include "kernels/kernel.h"

/* Doubles: the scores of a block, then the sums of d dimensions. */
static size_t scratch_bytes(int32_t d, int32_t r) {
    (void)r;
    return ((size_t)LM_KV_BLOCK + ((size_t)d + 7) / 8 * 8) * sizeof(double);
}

static void merge(float *to, float a, const float *from, float b, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const float y = from[i] * b;
        to[i] = a == 0.0f ? y : to[i] * a + y;
    }
}
#endif
