/* SPDX-License-Identifier: MIT
 *
 * kv__neon.c: storing keys and values at the neon level: kv_body.h with these vector words. */
#if defined(__aarch64__)
#include "kernels/arm/lanes_neon.h"

#include "kernels/x86/kv_body.h"

const lm_kv_impl lm_kv_f32__neon = {store_f32};
const lm_kv_impl lm_kv_f16__neon = {store_f16};
const lm_kv_impl lm_kv_bf16__neon = {store_bf16};
#endif
