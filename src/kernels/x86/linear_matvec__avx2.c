/* SPDX-License-Identifier: MIT
 * linear_matvec__avx2.c: MATVEC rows, float32 class (matvec.h). */
#if defined(__x86_64__)
#include "kernels/x86/vec_avx2.h"

#include "kernels/x86/matvec.h"

LM_MATVEC_FLOAT(F32, f32, __avx2);
LM_MATVEC_FLOAT(F16, f16, __avx2);
LM_MATVEC_FLOAT(BF16, bf16, __avx2);
LM_MATVEC_AFFINE(2, __avx2);
LM_MATVEC_AFFINE(3, __avx2);
LM_MATVEC_AFFINE(4, __avx2);
LM_MATVEC_AFFINE(5, __avx2);
LM_MATVEC_AFFINE(6, __avx2);
LM_MATVEC_AFFINE(8, __avx2);
#else
typedef int lm_empty_translation_unit;
#endif
