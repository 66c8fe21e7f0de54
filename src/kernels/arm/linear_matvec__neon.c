/* SPDX-License-Identifier: MIT
 * linear_matvec__neon.c: MATVEC rows, float32 class (matvec.h). */
#if defined(__aarch64__)
#include "kernels/arm/vec_neon.h"

#include "kernels/x86/matvec.h"

LM_MATVEC_FLOAT(F32, f32, __neon);
LM_MATVEC_FLOAT(F16, f16, __neon);
LM_MATVEC_FLOAT(BF16, bf16, __neon);
LM_MATVEC_AFFINE(2, __neon);
LM_MATVEC_AFFINE(3, __neon);
LM_MATVEC_AFFINE(4, __neon);
LM_MATVEC_AFFINE(5, __neon);
LM_MATVEC_AFFINE(6, __neon);
LM_MATVEC_AFFINE(8, __neon);
#else
typedef int lm_empty_translation_unit;
#endif
