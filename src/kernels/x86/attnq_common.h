/* SPDX-License-Identifier: MIT
 * attnq_common.h: what the vector rows of op ATTNQ share, in the vector words of lanes_*.h: scales, softmax, merging,
 * and the rows' entries. Rows are taken up to three at a time; each is computed by chains of its own, so that their
 * company changes no bit. */
#ifndef LM_KERNELS_X86_ATTNQ_COMMON_H
#define LM_KERNELS_X86_ATTNQ_COMMON_H
#include "kernels/kvq.h"
#include "kernels/rows.h"
#include "kernels/x86/attn_merge.h"
#include "kernels/x86/unroll.h"
#include <string.h>

#define ROWS 3 /* of a tile */

/* One half of a head, keys or values, and what a tile needs to know. */
typedef struct half {
    const char *scales, *biases;
    const uint8_t *codes;
    lm_dtype type;
    int32_t d, group;
} half;

INLINE half half_of(const lm_attn_args *a, int stored, bool values) {
    const size_t scales = lm_kvq_scales_bytes(a->d, a->group, a->scale_type);
    const char *base = (const char *)a->kt + (values ? lm_kvq_half_bytes(stored, a->d, a->group, a->scale_type) : 0);
    return (half){base, base + scales, (const uint8_t *)base + 2 * scales, a->scale_type, a->d, a->group};
}

/* Scales or biases of group g from position pos on: a vector, or its first n and zeros. */
INLINE vf load_scales(const half *h, const char *from, int32_t g, int32_t pos) {
    const size_t at = (size_t)g * LM_KV_BLOCK + (size_t)pos;
    if (h->type == LM_DTYPE_F32) return vf_load((const float *)(const void *)from + at);
    const vh x = vf_load_u16(from + 2 * at);
    return h->type == LM_DTYPE_F16 ? vf_from_f16(x) : vf_from_bf16(x);
}

INLINE int32_t round_up(int32_t n, int32_t to) {
    return (n + to - 1) / to * to;
}

/* s[0, n) becomes exp(s - max), zeros from n on up to LM_KV_BLOCK's next whole vector. */
static void softmax(float *s, int32_t n, float *max_out, float *sum_out) {
    const vf lowest = vf_set1(-__builtin_inff());
    vf max = lowest, sum = vf_zero();
    for (int32_t p = 0; p < n; p += VF_LANES) {
        vf x = vf_load(s + p);
        if (n - p < VF_LANES) x = vf_keep(x, n - p, lowest);
        max = vf_max(x, max);
    }
    const float largest = vf_largest(max);
    const vf shift = vf_set1(largest);
    for (int32_t p = 0; p < n; p += VF_LANES) {
        vf e = vf_exp(vf_sub(vf_load(s + p), shift));
        if (n - p < VF_LANES) e = vf_keep(e, n - p, vf_zero());
        vf_store(s + p, e);
        sum = vf_add(sum, e);
    }
    *max_out = largest;
    *sum_out = vf_sum(sum);
}

/* to[p] = e[p] * scale of group g, zero from n on up to `end`; returns the sum of e * bias. */
INLINE float weigh(const half *h, const float *e, int32_t g, int32_t n, int32_t end, float *to) {
    vf all = vf_zero();
    int32_t p = 0;
    for (; p < n; p += VF_LANES) {
        const vf x = vf_load(e + p);
        vf weight = vf_mul(x, load_scales(h, h->scales, g, p)), bias = vf_mul(x, load_scales(h, h->biases, g, p));
        if (n - p < VF_LANES) weight = vf_keep(weight, n - p, vf_zero()), bias = vf_keep(bias, n - p, vf_zero());
        vf_store(to + p, weight);
        all = vf_add(all, bias);
    }
    for (; p < end; p += VF_LANES) vf_store(to + p, vf_zero());
    return vf_sum(all);
}

/* tile_MR: MR rows of a tile, for either width of stored codes; the including file's tile() has both as constants. */
#define DEFINE_TILE(mr)                                                                      \
    static void tile_##mr(const rows *t, const lm_attn_args *a, int stored, int32_t first) { \
        stored == 8 ? tile(t, a, 8, mr, first) : tile(t, a, 4, mr, first);                   \
    }

/* The rows of a level, from the including file's chunk(args, stored, scratch) and scratch_bytes. */
#define DEFINE_ATTNQ(level)                                                            \
    static void chunk_8(const lm_attn_args *a, void *scratch) {                        \
        chunk(a, 8, scratch);                                                          \
    }                                                                                  \
    static void chunk_4(const lm_attn_args *a, void *scratch) {                        \
        chunk(a, 4, scratch);                                                          \
    }                                                                                  \
    const lm_attn_impl lm_attnq_affine8__##level = {scratch_bytes, chunk_8, merge, 0}; \
    const lm_attn_impl lm_attnq_affine4__##level = {scratch_bytes, chunk_4, merge, 0};
#endif
