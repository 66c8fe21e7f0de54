/* SPDX-License-Identifier: MIT
 *
 * attn.c: scalar attention over one block, the definition of op ATTN. Sums are kept in double and rounded once, so that
 * the vector rows are judged against something better than themselves. */
#include "base/half.h"
#include "kernels/ref/attn_scalar.h"
#include "kernels/rows.h"
#include <math.h>

typedef float (*load_fn)(const void *base, size_t index);

static inline float load_f32(const void *base, size_t i) {
    return lm_load_f32((const char *)base + 4 * i);
}
static inline float load_f16(const void *base, size_t i) {
    return lm_f16_to_f32(lm_load_u16((const char *)base + 2 * i));
}
static inline float load_bf16(const void *base, size_t i) {
    return lm_bf16_to_f32(lm_load_u16((const char *)base + 2 * i));
}

static inline void one_row(const lm_attn_args *a, int32_t r, double *s, load_fn load) {
    const float *q = a->q + r * a->ldq;
    float *acc = a->acc + (int64_t)r * a->d, max = -INFINITY;
    double *total = s + LM_KV_BLOCK, sum = 0;
    int32_t n = a->limit[r];
    for (int32_t p = 0; p < n; p++) s[p] = 0;
    for (int32_t d = 0; d < a->d; d++)
        for (int32_t p = 0; p < n; p++) s[p] += (double)q[d] * (double)load(a->kt, lm_kv_key_at(a->d, d, p));
    for (int32_t p = 0; p < n; p++) max = (float)s[p] > max ? (float)s[p] : max;
    for (int32_t d = 0; d < a->d; d++) total[d] = 0;
    for (int32_t p = 0; p < n; p++) {
        double e = (double)expf((float)s[p] - max);
        sum += e;
        for (int32_t d = 0; d < a->d; d++) total[d] += e * (double)load(a->v, (size_t)p * (size_t)a->d + (size_t)d);
    }
    for (int32_t d = 0; d < a->d; d++) acc[d] = (float)total[d];
    a->m[r] = max;
    a->l[r] = (float)sum;
}

#define DEFINE_ATTN(type)                                                       \
    static void chunk_##type(const lm_attn_args *a, void *scratch) {            \
        for (int32_t r = 0; r < a->r; r++) one_row(a, r, scratch, load_##type); \
    }                                                                           \
    const lm_attn_impl lm_attn_##type##__scalar = {scratch_bytes, chunk_##type, merge, 0}
DEFINE_ATTN(f32);
DEFINE_ATTN(f16);
DEFINE_ATTN(bf16);
