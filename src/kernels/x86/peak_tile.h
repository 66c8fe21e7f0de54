/* SPDX-License-Identifier: MIT
 * peak_tile.h: the second roof of peak.h: a tile of sums in registers, one operand from the first-level cache, the
 * other streamed from panels in the second-level one. Nothing of a kernel's other work: no unpacking, no packing, no
 * adding to outputs. Expects VEC, ROWS, VECS (a tile: ROWS x VECS vectors), ZERO(), LOAD(p), A_BYTES and SPREAD(p) (an
 * operand of a row, for every lane), ADD(sum, a, b), OPERATIONS (of one ADD). static only. */
#ifndef LM_X86_PEAK_TILE_H
#define LM_X86_PEAK_TILE_H
#include "kernels/peak.h"
#include "kernels/x86/unroll.h"

#define STEPS 256 /* of a strip */
#define STEP_BYTES (VECS * sizeof(VEC))
#define AHEAD 2048 /* bytes; past the last panel it is a hint at what isn't read */

INLINE void strip(const char *few, const char *panel, bool ahead, char *sums) {
    VEC sum[ROWS][VECS];
    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int v = 0; v < VECS; v++) sum[r][v] = ZERO();
    for (int k = 0; k < STEPS; k++, panel += STEP_BYTES, few += ROWS * A_BYTES) {
        VEC b[VECS];
        if (ahead)
            for (size_t at = 0; at < STEP_BYTES; at += 64) __builtin_prefetch(panel + AHEAD + at, 0, 3);
        UNROLL for (int v = 0; v < VECS; v++) b[v] = LOAD(panel + (size_t)v * sizeof(VEC));
        UNROLL for (int r = 0; r < ROWS; r++) {
            const VEC a = SPREAD(few + r * A_BYTES);
            UNROLL for (int v = 0; v < VECS; v++) sum[r][v] = ADD(sum[r][v], a, b[v]);
        }
    }
    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int v = 0; v < VECS; v++)
        STORE(sums + (size_t)(r * VECS + v) * sizeof(VEC), sum[r][v]);
}

static void blocked(const void *few, const void *strips, int64_t n, bool ahead, void *sums) {
    for (int64_t i = 0; i < n; i++) {
        const char *panel = (const char *)strips + (size_t)i * STEPS * STEP_BYTES;
        if (ahead)
            strip(few, panel, true, sums);
        else
            strip(few, panel, false, sums);
    }
}

#define BLOCKED                                                                                            \
    {                                                                                                      \
        blocked, (double)STEPS *ROWS *VECS *(OPERATIONS), (size_t)STEPS *ROWS *A_BYTES, STEPS *STEP_BYTES, \
            ROWS *VECS * sizeof(VEC)                                                                       \
    }
#endif
