/* SPDX-License-Identifier: MIT
 * few_rows.h: the parts of linear_matmat__vnni.c for up to LM_FEW_ROWS rows of activations, compiled apart because they
 * keep activations in planes of bytes and not in words. They are no rows of the table of their own: the bits are the
 * same, and who picks is the row itself. */
#ifndef LM_X86_FEW_ROWS_H
#define LM_X86_FEW_ROWS_H
#include "kernels/kernel.h"

#define LM_FEW_ROWS 32

extern const lm_linear_impl lm_matmat_few2__vnni, lm_matmat_few3__vnni, lm_matmat_few4__vnni, lm_matmat_few5__vnni,
    lm_matmat_few6__vnni, lm_matmat_few8__vnni;
#endif
