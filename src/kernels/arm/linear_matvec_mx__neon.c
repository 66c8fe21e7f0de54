/* SPDX-License-Identifier: MIT
 * linear_matvec_mx__neon.c: MATVEC rows of mxfp4, nvfp4, mxfp8, float32 class (matvec_mx.h). */
#if defined(__aarch64__)
#include "kernels/arm/vec_neon.h"
/* after the vector */
#include "kernels/x86/matvec_mx.h"

LM_MATVEC_MX(MXFP4, mxfp4, __neon);
LM_MATVEC_MX(NVFP4, nvfp4, __neon);
LM_MATVEC_MX(MXFP8, mxfp8, __neon);
#else
typedef int lm_empty_translation_unit;
#endif
