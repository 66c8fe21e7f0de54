/* SPDX-License-Identifier: MIT
 * linear_matmat__avx2.c: MATMAT rows, float32 class (matmat.h). */
#if defined(__x86_64__)
#include "kernels/x86/vec_avx2.h"
#define MR 6
#include "kernels/x86/matmat.h"

LM_MATMAT(F32, f32, __avx2);
LM_MATMAT(F16, f16, __avx2);
LM_MATMAT(BF16, bf16, __avx2);
LM_MATMAT(AFFINE2, affine2, __avx2);
LM_MATMAT(AFFINE3, affine3, __avx2);
LM_MATMAT(AFFINE4, affine4, __avx2);
LM_MATMAT(AFFINE5, affine5, __avx2);
LM_MATMAT(AFFINE6, affine6, __avx2);
LM_MATMAT(AFFINE8, affine8, __avx2);
LM_MATMAT(MXFP4, mxfp4, __avx2);
LM_MATMAT(NVFP4, nvfp4, __avx2);
LM_MATMAT(MXFP8, mxfp8, __avx2);
#else
typedef int lm_empty_translation_unit;
#endif
