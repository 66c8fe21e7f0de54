/* SPDX-License-Identifier: MIT
 * linear_matvec__avx512.c: MATVEC rows, float32 class (matvec.h). */
#if defined(__x86_64__)
#include "kernels/x86/vec_avx512.h"

#include "kernels/x86/matvec.h"

LM_MATVEC_FLOAT(F32, f32, __avx512);
LM_MATVEC_FLOAT(F16, f16, __avx512);
LM_MATVEC_FLOAT(BF16, bf16, __avx512);
LM_MATVEC_AFFINE(2, __avx512);
LM_MATVEC_AFFINE(3, __avx512);
LM_MATVEC_AFFINE(4, __avx512);
LM_MATVEC_AFFINE(5, __avx512);
LM_MATVEC_AFFINE(6, __avx512);
LM_MATVEC_AFFINE(8, __avx512);
#else
typedef int lm_empty_translation_unit;
#endif
