/* SPDX-License-Identifier: MIT
 * linear_matvec_mx__avx2.c: MATVEC rows of mxfp4, nvfp4, mxfp8, float32 class (matvec_mx.h). */
#if defined(__x86_64__)
#include "kernels/x86/vec_avx2.h"
/* after the vector */
#include "kernels/x86/matvec_mx.h"

LM_MATVEC_MX(MXFP4, mxfp4, __avx2);
LM_MATVEC_MX(NVFP4, nvfp4, __avx2);
LM_MATVEC_MX(MXFP8, mxfp8, __avx2);
#else
typedef int lm_empty_translation_unit;
#endif
