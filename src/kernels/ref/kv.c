/* SPDX-License-Identifier: MIT
 *
 * kv.c: scalar storing of one token's key and value, the definition of op KV. */
#include "base/half.h"
#include "kernels/rows.h"

static void store_f32(void *kt, void *v, const float *key, const float *value, int32_t d, int32_t pos) {
    for (int32_t i = 0; i < d; i++) {
        memcpy((char *)kt + 4 * lm_kv_key_at(d, i, pos), key + i, 4);
        memcpy((char *)v + 4 * ((size_t)pos * (size_t)d + (size_t)i), value + i, 4);
    }
}

static inline void store_16(void *kt, void *v, const float *key, const float *value, int32_t d, int32_t pos,
                            uint16_t (*convert)(float)) {
    for (int32_t i = 0; i < d; i++) {
        uint16_t k = convert(key[i]), u = convert(value[i]);
        memcpy((char *)kt + 2 * lm_kv_key_at(d, i, pos), &k, 2);
        memcpy((char *)v + 2 * ((size_t)pos * (size_t)d + (size_t)i), &u, 2);
    }
}

static void store_f16(void *kt, void *v, const float *key, const float *value, int32_t d, int32_t pos) {
    store_16(kt, v, key, value, d, pos, lm_f32_to_f16);
}

static void store_bf16(void *kt, void *v, const float *key, const float *value, int32_t d, int32_t pos) {
    store_16(kt, v, key, value, d, pos, lm_f32_to_bf16);
}

const lm_kv_impl lm_kv_f32__scalar = {store_f32};
const lm_kv_impl lm_kv_f16__scalar = {store_f16};
const lm_kv_impl lm_kv_bf16__scalar = {store_bf16};
