/* SPDX-License-Identifier: MIT
 *
 * attnq__avx2.c: attention over a block of quantized keys and values at the avx2 level. */
#if defined(__x86_64__)
#include "kernels/x86/lanes_avx2.h"

#include "kernels/x86/attnq_body.h"

DEFINE_ATTNQ(avx2)
#endif
