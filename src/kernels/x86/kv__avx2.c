/* SPDX-License-Identifier: MIT
 *
 * kv__avx2.c: storing keys and values at the avx2 level: kv_body.h with these vector words. */
#if defined(__x86_64__)
#include "kernels/x86/lanes_avx2.h"

#include "kernels/x86/kv_body.h"

const lm_kv_impl lm_kv_f32__avx2 = {store_f32};
const lm_kv_impl lm_kv_f16__avx2 = {store_f16};
const lm_kv_impl lm_kv_bf16__avx2 = {store_bf16};
#endif
