/* SPDX-License-Identifier: MIT
 *
 * row__neon.c: norms, activations, rotation and reductions at the neon level: row_body.h with these vector words. */
#if defined(__aarch64__)
#include "kernels/arm/lanes_neon.h"

#include "kernels/x86/row_body.h"

DEFINE_ROW(lm_row__neon)
#endif
