/* SPDX-License-Identifier: MIT
 *
 * check_peak.c: the loops of kernels/peak.h compute nothing that anybody needs, but they count operations: a tile whose
 * operands are all ones must sum to the number of products that it claims. */
#include "base/half.h"
#include "check.h"
#include "kernels/peak.h"
#include <string.h>

enum { STRIPS = 3 };

static void fill_ones(lm_peak kind, char *p, size_t bytes) {
    const float one = 1;
    const uint16_t half = lm_f32_to_bf16(1);
    for (size_t i = 0; i < bytes; i++) {
        if (kind == LM_PEAK_F32) p[i] = ((const char *)&one)[i % 4];
        if (kind == LM_PEAK_BF16) p[i] = ((const char *)&half)[i % 2];
        if (kind == LM_PEAK_INT8) p[i] = 1;
    }
}

static int check_tiles(lm_peak kind, const lm_peak_impl *impl, bool ahead) {
    const lm_peak_tiles *t = &impl->tiles;
    const size_t inputs = t->few_bytes + STRIPS * t->strip_bytes, outputs = t->sums_bytes / 4;
    const double want = t->operations / 2 / (double)outputs;
    char *memory = aligned_alloc(64, inputs + t->sums_bytes), *sums = memory + inputs;
    if (!memory) return printf("  FAIL peak: no memory\n"), 1;
    fill_ones(kind, memory, inputs);
    memset(sums, 0xff, t->sums_bytes);
    t->run(memory, memory + t->few_bytes, STRIPS, ahead, sums);
    int failures = 0;
    for (size_t i = 0; i < outputs && !failures; i++) {
        const double got =
            kind == LM_PEAK_INT8 ? (double)(int32_t)lm_load_u32(sums + 4 * i) : (double)lm_load_f32(sums + 4 * i);
        if (got == want) continue;
        printf("  FAIL peak of kind %d: sum %zu is %g, expected %g\n", (int)kind, i, got, want);
        failures = 1;
    }
    free(memory);
    return failures;
}

int check_peaks(uint32_t flags) {
    int failures = 0;
    for (int kind = 0; kind < LM_PEAK_COUNT; kind++) {
        const lm_peak_impl *impl = lm_peak_select((lm_peak)kind, flags);
        if (!impl) continue;
        impl->run(3);
        for (int ahead = 0; ahead < 2; ahead++) failures += check_tiles((lm_peak)kind, impl, ahead);
    }
    return failures;
}
