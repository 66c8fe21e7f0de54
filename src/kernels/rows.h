/* SPDX-License-Identifier: MIT
 * rows.h: declares the symbol of every row of kernels.def with the type that its op has. A file that defines a row
 * includes this, so that a wrong type is a compile error. */
#ifndef LM_KERNELS_ROWS_H
#define LM_KERNELS_ROWS_H
#include "kernels/kernel.h"

#define LM_IMPL_MATVEC lm_linear_impl
#define LM_IMPL_MATMAT lm_linear_impl
#define LM_IMPL_ATTN lm_attn_impl
#define LM_IMPL_ATTNQ lm_attn_impl
#define LM_IMPL_ROW lm_row_impl
#define LM_IMPL_KV lm_kv_impl
#define LM_IMPL_QUANT lm_quant_impl
#define KERNEL(op, format, symbol, needs, layout, numerics, rank) extern const LM_IMPL_##op symbol;
#include "kernels/kernels.def"
#endif
