/* SPDX-License-Identifier: MIT
 * peak.h: what one thread's matrix instructions reach: on registers alone, and in tiles whose operands come from
 * caches, as any product larger than the registers must have it. The roofs of `benchmark --ceilings`. Not kernels:
 * nothing computes with them. */
#ifndef LM_KERNELS_PEAK_H
#define LM_KERNELS_PEAK_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum lm_peak { LM_PEAK_F32, LM_PEAK_BF16, LM_PEAK_INT8, LM_PEAK_COUNT } lm_peak;

/** A tile of sums: rows of one operand, `few`, stay in the first-level cache; strips of the other lie one behind the
 * other, as many as the second-level cache is to hold. All three are 64-byte aligned. */
typedef struct lm_peak_tiles {
    /** Multiplies `few` with each of n strips. `ahead`: asks the cache in advance (which is faster depends on the
     * machine). */
    void (*run)(const void *few, const void *strips, int64_t n, bool ahead, void *sums);
    double operations; /* of a strip */
    size_t few_bytes, strip_bytes, sums_bytes;
} lm_peak_tiles;

typedef struct lm_peak_impl {
    void (*run)(int64_t rounds); /* on registers */
    double operations;           /* of a round: additions and multiplications */
    lm_peak_tiles tiles;
} lm_peak_impl;

extern const lm_peak_impl lm_peak_f32__avx2, lm_peak_f32__avx512, lm_peak_bf16__bf16, lm_peak_int8__vnni,
    lm_peak_bf16__amx, lm_peak_int8__amx;
extern const lm_peak_impl lm_peak_f32__neon, lm_peak_int8__dotprod, lm_peak_int8__i8mm; /* bf16: as on x86-64 */

/** The widest of a kind that `cpu` (LM_CPU_*) can run, or NULL. */
const lm_peak_impl *lm_peak_select(lm_peak kind, uint32_t cpu);
#endif
