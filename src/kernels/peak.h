/* SPDX-License-Identifier: MIT
 * peak.h: what one thread's matrix instructions reach on registers alone: the roof of `benchmark --ceilings`. Not
 * kernels: nothing computes with them. */
#ifndef LM_KERNELS_PEAK_H
#define LM_KERNELS_PEAK_H
#include <stdint.h>

typedef enum lm_peak { LM_PEAK_F32, LM_PEAK_BF16, LM_PEAK_INT8, LM_PEAK_COUNT } lm_peak;

typedef struct lm_peak_impl {
    void (*run)(int64_t rounds);
    double operations; /* of a round: additions and multiplications */
} lm_peak_impl;

extern const lm_peak_impl lm_peak_f32__avx2, lm_peak_f32__avx512, lm_peak_bf16__bf16, lm_peak_int8__vnni,
    lm_peak_bf16__amx, lm_peak_int8__amx;
extern const lm_peak_impl lm_peak_f32__neon, lm_peak_int8__dotprod, lm_peak_int8__i8mm; /* bf16: as on x86-64 */

/** The widest of a kind that `cpu` (LM_CPU_*) can run, or NULL. */
const lm_peak_impl *lm_peak_select(lm_peak kind, uint32_t cpu);
#endif
