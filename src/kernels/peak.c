/* SPDX-License-Identifier: MIT
 * peak.c: the choice among the loops of peak.h. */
#include "kernels/peak.h"
#include "base/cpu.h"
#include <stddef.h>

const lm_peak_impl *lm_peak_select(lm_peak kind, uint32_t cpu) {
#if LM_X86
    switch (kind) {
    case LM_PEAK_F32:
        if (cpu & LM_CPU_AVX512) return &lm_peak_f32__avx512;
        return cpu & LM_CPU_AVX2 ? &lm_peak_f32__avx2 : NULL;
    case LM_PEAK_BF16:
        if (cpu & LM_CPU_AMX) return &lm_peak_bf16__amx;
        return cpu & LM_CPU_BF16 ? &lm_peak_bf16__bf16 : NULL;
    case LM_PEAK_INT8:
        if (cpu & LM_CPU_AMX) return &lm_peak_int8__amx;
        return cpu & LM_CPU_VNNI ? &lm_peak_int8__vnni : NULL;
    default: return NULL;
    }
#elif LM_ARM
    switch (kind) {
    case LM_PEAK_F32: return cpu & LM_CPU_NEON ? &lm_peak_f32__neon : NULL;
    case LM_PEAK_BF16: return cpu & LM_CPU_ARM_BF16 ? &lm_peak_bf16__bf16 : NULL;
    case LM_PEAK_INT8:
        if (cpu & LM_CPU_I8MM) return &lm_peak_int8__i8mm;
        return cpu & LM_CPU_DOTPROD ? &lm_peak_int8__dotprod : NULL;
    default: return NULL;
    }
#else
    (void)kind, (void)cpu;
    return NULL;
#endif
}
