/* SPDX-License-Identifier: MIT
 *
 * attn__neon.c: attention over one block at the neon level: the rows of attn_body.h with these vector words. */
#if defined(__aarch64__)
#include "kernels/arm/lanes_neon.h"
#define NV_WIDE_LOG2 3 /* vectors of a tile of up to 3 rows, as a power of two: what 32 registers hold */
#define NV_TALL_LOG2 2 /* and of up to 6 rows */
#include "kernels/x86/attn_body.h"

DEFINE_ATTN(F32, lm_attn_f32__neon)
DEFINE_ATTN(F16, lm_attn_f16__neon)
DEFINE_ATTN(BF16, lm_attn_bf16__neon)
#endif
