/* SPDX-License-Identifier: MIT
 * linear_matmat_bytes__amx.c: MATMAT rows of class F16 for affine weights on AMX tiles of bytes (tdpbsud):
 * panel_fixed.h, and the same bits as its vpdpbusd rows. A tile takes 16 rows of one plane of x against 64 inputs (a
 * group of 32: half a tile) of 16 outputs. While one group is multiplied, the sums of the one before are scaled. */
#if defined(__x86_64__)
#include "kernels/x86/few_rows.h"
#include "kernels/x86/fixed_bytes.h"
#include "kernels/x86/tiles.h"

#define PANELS_N 8 /* panels unpacked together */
#define FEW 8      /* rows up to which vpdpbusd is done sooner */

typedef struct ab_scratch {
    fx_panel panel[PANELS_N];
    _Alignas(64) int32_t products[4][BLOCK * VL]; /* high with both halves of a panel, low with both */
    _Alignas(64) float sums[BLOCK * NR];
    mm_groups groups;
} ab_scratch;

/* Tiles 0, 1: high; 2, 3: low. `quads`: fours of inputs of a group. */
INLINE void multiply_group(int quads, const int8_t *x, const uint32_t *codes) {
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (int q = 0; q < quads; q += 16) {
        TILE_LOAD(4, x + 4 * q, sizeof(fx_row));
        TILE_LOAD(6, codes + q * NR, NR * 4);
        TILE_MULTIPLY_BYTES(0, 4, 6);
        TILE_LOAD(7, codes + q * NR + VL, NR * 4);
        TILE_MULTIPLY_BYTES(1, 4, 7);
        TILE_LOAD(5, x + KC + 4 * q, sizeof(fx_row));
        TILE_MULTIPLY_BYTES(2, 5, 6);
        TILE_MULTIPLY_BYTES(3, 5, 7);
    }
}

INLINE void add_products(int64_t rows, int g, const fx_row *x, const fx_panel *p, ab_scratch *s) {
    const vf scale0 = vf_load(p->scales + g * NR), scale1 = vf_load(p->scales + g * NR + VL);
    const vf bias0 = vf_load(p->biases + g * NR), bias1 = vf_load(p->biases + g * NR + VL);
    for (int64_t r = 0; r < rows; r++) {
        const vf step = vf_set1(x[r].steps[g]), all = vf_set1(x[r].sums[g]);
        const int64_t at = r * VL;
        add_group(vi_load(s->products[0] + at), vi_load(s->products[2] + at), scale0, bias0, step, all,
                  s->sums + r * NR);
        add_group(vi_load(s->products[1] + at), vi_load(s->products[3] + at), scale1, bias1, step, all,
                  s->sums + r * NR + VL);
    }
}

/* sums[rows][NR] += up to 16 rows of x times a panel. */
static void many_rows(int64_t rows, int groups, int quads, const fx_row *x, const fx_panel *p, ab_scratch *s) {
    for (int g = 0; g < groups; g++) {
        multiply_group(quads, x->plane[0] + 4 * g * quads, p->codes + g * quads * NR);
        if (g) add_products(rows, g - 1, x, p, s);
        TILE_STORE(0, s->products[0], 64);
        TILE_STORE(1, s->products[1], 64);
        TILE_STORE(2, s->products[2], 64);
        TILE_STORE(3, s->products[3], 64);
    }
    add_products(rows, groups - 1, x, p, s);
}

INLINE void run(int bits, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, int64_t ldy,
                void *scratch) {
    ab_scratch *s = scratch;
    const int quads = w->group / 4;
    const int64_t each = block_inputs(w);
    tiles_begin(quads < 16 ? quads : 16);
    for (int64_t n = n0; n < n1; n += PANELS_N * NR)
        for (int64_t k0 = 0; k0 < w->k; k0 += each) {
            const int64_t kc = w->k - k0 < each ? w->k - k0 : each,
                          end = n1 - n < PANELS_N * NR ? n1 : n + PANELS_N * NR;
            const int groups = (int)(kc / w->group);
            const fx_row *x = (const fx_row *)xp + k0 / each * m;
            unpack(bits, w, n, end, n1 - 1, k0, kc, s->panel, &s->groups);
            for (int64_t i = 0; i < m; i += BLOCK)
                for (int64_t p = n; p < end; p += NR) {
                    const int64_t rows = m - i < BLOCK ? m - i : BLOCK, cols = end - p < NR ? end - p : NR;
                    const fx_panel *panel = &s->panel[(p - n) / NR];
                    begin_sums(rows, s->sums, y + i * ldy + p, ldy, cols, k0 > 0);
                    many_rows(rows, groups, quads, x + i, panel, s);
                    end_sums(rows, s->sums, y + i * ldy + p, ldy, cols);
                }
        }
    tiles_end();
}

LM_MATMAT_WITH_FEW(lm_matmat_affine2_bytes__amx, 2, FEW, sizeof(ab_scratch));
LM_MATMAT_WITH_FEW(lm_matmat_affine3_bytes__amx, 3, FEW, sizeof(ab_scratch));
LM_MATMAT_WITH_FEW(lm_matmat_affine4_bytes__amx, 4, FEW, sizeof(ab_scratch));
LM_MATMAT_WITH_FEW(lm_matmat_affine5_bytes__amx, 5, FEW, sizeof(ab_scratch));
LM_MATMAT_WITH_FEW(lm_matmat_affine6_bytes__amx, 6, FEW, sizeof(ab_scratch));
LM_MATMAT_WITH_FEW(lm_matmat_affine8_bytes__amx, 8, FEW, sizeof(ab_scratch));
#else
typedef int lm_empty_translation_unit;
#endif
