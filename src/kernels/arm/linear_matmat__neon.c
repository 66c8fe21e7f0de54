/* SPDX-License-Identifier: MIT
 * linear_matmat__neon.c: MATMAT rows, float32 class (matmat.h). */
#if defined(__aarch64__)
#include "kernels/arm/vec_neon.h"
#define MR 12 /* with 2 vectors of outputs: 24 of 32 registers */
#include "kernels/x86/matmat.h"

LM_MATMAT(F32, f32, __neon);
LM_MATMAT(F16, f16, __neon);
LM_MATMAT(BF16, bf16, __neon);
LM_MATMAT(AFFINE2, affine2, __neon);
LM_MATMAT(AFFINE3, affine3, __neon);
LM_MATMAT(AFFINE4, affine4, __neon);
LM_MATMAT(AFFINE5, affine5, __neon);
LM_MATMAT(AFFINE6, affine6, __neon);
LM_MATMAT(AFFINE8, affine8, __neon);
LM_MATMAT(MXFP4, mxfp4, __neon);
LM_MATMAT(NVFP4, nvfp4, __neon);
LM_MATMAT(MXFP8, mxfp8, __neon);
#else
typedef int lm_empty_translation_unit;
#endif
