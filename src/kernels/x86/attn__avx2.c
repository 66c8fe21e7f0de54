/* SPDX-License-Identifier: MIT
 *
 * attn__avx2.c: attention over one block at the avx2 level: the rows of attn_body.h with these vector words. */
#if defined(__x86_64__)
#include "kernels/x86/lanes_avx2.h"
#define NV_WIDE_LOG2 2 /* vectors of a tile of up to 3 rows, as a power of two: what the registers hold */
#define NV_TALL_LOG2 1 /* and of up to 6 rows */
#include "kernels/x86/attn_body.h"

DEFINE_ATTN(F32, lm_attn_f32__avx2)
DEFINE_ATTN(F16, lm_attn_f16__avx2)
DEFINE_ATTN(BF16, lm_attn_bf16__avx2)
#endif
