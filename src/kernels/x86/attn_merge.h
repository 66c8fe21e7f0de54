/* SPDX-License-Identifier: MIT
 * attn_merge.h: lm_attn_impl's merge by vectors (lanes_*.h come first): whatever keys and values are kept in, chunks
 * are joined by the same roundings. */
#ifndef LM_X86_ATTN_MERGE_H
#define LM_X86_ATTN_MERGE_H
#include <stdint.h>

static inline vf merged(vf to, float a, vf from, float b) {
    const vf y = vf_mul(from, vf_set1(b));
    return a == 0.0f ? y : vf_add(vf_mul(to, vf_set1(a)), y);
}

static void merge(float *to, float a, const float *from, float b, int64_t n) {
    int64_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES) vf_store(to + i, merged(vf_load(to + i), a, vf_load(from + i), b));
    const int32_t rest = (int32_t)(n - i);
    if (rest) vf_store_n(to + i, rest, merged(vf_load_n(to + i, rest), a, vf_load_n(from + i, rest), b));
}
#endif
