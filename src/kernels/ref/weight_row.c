/* SPDX-License-Identifier: MIT
 * weight_row.c: what each weight format means, as float32 (docs/formats/affine.md, mx.md). Never optimized: every
 * linear kernel is compared with it. */
#include "kernels/kernel.h"
#include "kernels/unpack.h"

void lm_weight_row(const lm_weight *w, int64_t n, float *out) {
    lm_unpack_run(w, n, 0, w->k, out);
}
