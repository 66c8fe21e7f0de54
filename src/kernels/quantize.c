/* SPDX-License-Identifier: MIT
 * quantize.c: quantizing by the best row that this processor has. All rows give the same bytes. */
#include "kernels/quantize.h"
#include "kernels/kernel.h"

void lm_quantize_rows(const lm_quant_spec *spec, const float *w, lm_dtype dtype, int64_t n, int64_t k, void *packed,
                      void *scales, void *biases) {
    const lm_kernel_row *row =
        lm_kernel_select(LM_OP_QUANT, LM_FORMAT_F32, LM_LAYOUT_MLX, LM_NUMERICS_F32, lm_cpu_flags());
    ((const lm_quant_impl *)row->impl)->rows(spec, w, dtype, n, k, packed, scales, biases);
}
