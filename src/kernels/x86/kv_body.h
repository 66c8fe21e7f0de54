/* SPDX-License-Identifier: MIT
 *
 * kv_body.h: op KV written once for every vector width. Values are converted and stored as vectors; keys are converted
 * as vectors and then scattered, one element to each of D rows of the transposed strip. */
#ifndef LM_KERNELS_X86_KV_BODY_H
#define LM_KERNELS_X86_KV_BODY_H
#include "kernels/rows.h"
#include <string.h>

static void store_f32(void *kt, void *v, const float *key, const float *value, int32_t d, int32_t pos) {
    char *to = (char *)kt + 4 * lm_kv_key_at(d, 0, pos);
    for (int32_t i = 0; i < d; i++, to += 4 * LM_KV_STRIP) memcpy(to, key + i, 4);
    memcpy((char *)v + 4 * (size_t)pos * (size_t)d, value, 4 * (size_t)d);
}

static inline void store_16(void *kt, void *v, const float *key, const float *value, int32_t d, int32_t pos,
                            vh (*convert)(vf)) {
    char *kto = (char *)kt + 2 * lm_kv_key_at(d, 0, pos), *vto = (char *)v + 2 * (size_t)pos * (size_t)d;
    const int32_t rest = d % VF_LANES, whole = d - rest;
    for (int32_t i = 0; i < d; i += VF_LANES) {
        const int32_t n = i < whole ? VF_LANES : rest;
        uint16_t k[VF_LANES];
        if (i < whole) {
            vf_store_u16(k, convert(vf_load(key + i)));
            vf_store_u16(vto + 2 * (size_t)i, convert(vf_load(value + i)));
        } else {
            vf_store_u16(k, convert(vf_load_n(key + i, rest)));
            vf_store_u16_n(vto + 2 * (size_t)i, rest, convert(vf_load_n(value + i, rest)));
        }
        for (int32_t j = 0; j < n; j++, kto += 2 * LM_KV_STRIP) memcpy(kto, k + j, 2);
    }
}

static void store_f16(void *kt, void *v, const float *key, const float *value, int32_t d, int32_t pos) {
    store_16(kt, v, key, value, d, pos, vf_to_f16);
}

static void store_bf16(void *kt, void *v, const float *key, const float *value, int32_t d, int32_t pos) {
    store_16(kt, v, key, value, d, pos, vf_to_bf16);
}
#endif
