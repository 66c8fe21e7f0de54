/* SPDX-License-Identifier: MIT
 *
 * row__avx512.c: norms, activations, rotation and reductions at the avx512 level: row_body.h with these vector words.
 */
#if defined(__x86_64__)
#include "kernels/x86/lanes_avx512.h"

#include "kernels/x86/row_body.h"

DEFINE_ROW(lm_row__avx512)
#endif
