/* SPDX-License-Identifier: MIT
 *
 * attnq__neon.c: attention over a block of quantized keys and values at the neon level. */
#if defined(__aarch64__)
#include "kernels/arm/lanes_neon.h"

#include "kernels/x86/attnq_body.h"

DEFINE_ATTNQ(neon)
#endif
