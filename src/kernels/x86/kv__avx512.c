/* SPDX-License-Identifier: MIT
 *
 * kv__avx512.c: storing keys and values at the avx512 level: kv_body.h with these vector words. */
#if defined(__x86_64__)
#include "kernels/x86/lanes_avx512.h"

#include "kernels/x86/kv_body.h"

const lm_kv_impl lm_kv_f32__avx512 = {store_f32};
const lm_kv_impl lm_kv_f16__avx512 = {store_f16};
const lm_kv_impl lm_kv_bf16__avx512 = {store_bf16};
#endif
