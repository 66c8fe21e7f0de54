/* SPDX-License-Identifier: MIT
 *
 * attnq.c: scalar attention over one block of quantized keys and values, the definition of op ATTNQ. Sums are kept in
 * double and rounded once. */
#include "kernels/kvq.h"
#include "kernels/ref/attn_scalar.h"
#include "kernels/rows.h"
#include "kernels/unpack.h"
#include <math.h>

static double element(const lm_attn_args *a, int stored, bool values, int32_t pos, int32_t e) {
    const size_t scales = lm_kvq_scales_bytes(a->d, a->group, a->scale_type);
    const char *half = (const char *)a->kt + (values ? lm_kvq_half_bytes(stored, a->d, a->group, a->scale_type) : 0);
    const int64_t at = (int64_t)(e / a->group) * LM_KV_BLOCK + pos;
    bool high;
    const size_t where =
        values ? lm_kvq_value_at(stored, a->d, pos, e, &high) : lm_kvq_key_at(stored, a->d, pos, e, &high);
    const uint8_t byte = ((const uint8_t *)half + 2 * scales)[where];
    const unsigned code = stored == 8 ? byte : high ? byte >> 4 : byte & 0x0f;
    return (double)lm_unpack_scale(half, a->scale_type, at) * code +
           (double)lm_unpack_scale(half + scales, a->scale_type, at);
}

static void one_row(const lm_attn_args *a, int stored, int32_t r, double *s) {
    const float *q = a->q + r * a->ldq;
    float *acc = a->acc + (int64_t)r * a->d, max = -INFINITY;
    double *total = s + LM_KV_BLOCK, sum = 0;
    const int32_t n = a->limit[r];
    for (int32_t p = 0; p < n; p++) {
        s[p] = 0;
        for (int32_t e = 0; e < a->d; e++) s[p] += (double)q[e] * element(a, stored, false, p, e);
        max = (float)s[p] > max ? (float)s[p] : max;
    }
    for (int32_t e = 0; e < a->d; e++) total[e] = 0;
    for (int32_t p = 0; p < n; p++) {
        const double weight = (double)expf((float)s[p] - max);
        sum += weight;
        for (int32_t e = 0; e < a->d; e++) total[e] += weight * element(a, stored, true, p, e);
    }
    for (int32_t e = 0; e < a->d; e++) acc[e] = (float)total[e];
    a->m[r] = max;
    a->l[r] = (float)sum;
}

static void chunk_8(const lm_attn_args *a, void *scratch) {
    for (int32_t r = 0; r < a->r; r++) one_row(a, 8, r, scratch);
}
static void chunk_4(const lm_attn_args *a, void *scratch) {
    for (int32_t r = 0; r < a->r; r++) one_row(a, 4, r, scratch);
}
const lm_attn_impl lm_attnq_affine8__scalar = {scratch_bytes, chunk_8, merge, 0};
const lm_attn_impl lm_attnq_affine4__scalar = {scratch_bytes, chunk_4, merge, 0};
