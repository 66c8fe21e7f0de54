/* SPDX-License-Identifier: MIT
 * linear_matmat__vnni.c: MATMAT rows of class F16 for affine weights: panel_fixed.h with vpdpwssd, two inputs a lane.
 * A tile's outputs stay in registers through a block of inputs. Few rows are linear_matmat_few__vnni.c's, with the same
 * bits. */
#if defined(__x86_64__)
#include "kernels/x86/few_rows.h"
#include "kernels/x86/panel_fixed.h"

#define MR 7 /* with two vectors of outputs: 14 sums of integers, 14 of floats, 3 operands */

typedef struct fx_scratch {
    fx_panel panel;
    mm_groups groups;
} fx_scratch;

/* sum += codes times x, two inputs a lane. Written out: around gcc 12's intrinsic sums travel through memory. */
INLINE vi multiply_add(vi sum, vi codes, vi x) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(x));
    return sum;
}

INLINE vi two_inputs(const int16_t *x) {
    uint32_t two;
    memcpy(&two, x, 4);
    return vi_set1(two);
}

/* y + d step scale + all bias */
INLINE vf add_group(vi d, vf scale, vf bias, vf step, vf all, vf y) {
    return vf_fma(bias, all, vf_fma(vf_from_int(d), vf_mul(scale, step), y));
}

/* y[rows][cols] (+)= rows x[0..rows) times a panel, `groups` groups of `pairs` times two inputs. */
INLINE void inner(int rows, int groups, int pairs, const fx_row *x, const fx_panel *p, float *y, int64_t ldy,
                  int64_t cols, bool add) {
    vf sum[MR][2];
    UNROLL for (int r = 0; r < rows; r++) {
        sum[r][0] = add ? vf_load_n(y + r * ldy, cols) : vf_zero();
        sum[r][1] = add && cols > VL ? vf_load_n(y + r * ldy + VL, cols - VL) : vf_zero();
    }
    const uint32_t *codes = p->codes;
    for (int g = 0; g < groups; g++) {
        vi d[MR][2];
        UNROLL for (int r = 0; r < rows; r++) d[r][0] = d[r][1] = vi_zero();
        const int16_t *from = x->word + 2 * g * pairs;
        for (int i = 0; i < pairs; i++, codes += NR, from += 2) {
            const vi w0 = vi_load(codes), w1 = vi_load(codes + VL);
            UNROLL for (int r = 0; r < rows; r++) {
                const vi v = two_inputs(from + r * (int64_t)(sizeof(fx_row) / sizeof *from));
                d[r][0] = multiply_add(d[r][0], w0, v);
                d[r][1] = multiply_add(d[r][1], w1, v);
            }
        }
        const vf scale0 = vf_load(p->scales + g * NR), scale1 = vf_load(p->scales + g * NR + VL);
        const vf bias0 = vf_load(p->biases + g * NR), bias1 = vf_load(p->biases + g * NR + VL);
        UNROLL for (int r = 0; r < rows; r++) {
            const vf step = vf_set1(x[r].steps[g]), all = vf_set1(x[r].sums[g]);
            sum[r][0] = add_group(d[r][0], scale0, bias0, step, all, sum[r][0]);
            sum[r][1] = add_group(d[r][1], scale1, bias1, step, all, sum[r][1]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        vf_store_n(y + r * ldy, sum[r][0], cols);
        if (cols > VL) vf_store_n(y + r * ldy + VL, sum[r][1], cols - VL);
    }
}

/* As inner, for 1 to MR rows. */
static void tile(int64_t rows, int groups, int pairs, const fx_row *x, const fx_panel *p, float *y, int64_t ldy,
                 int64_t cols, bool add) {
    /* clang-format off */
    switch (rows) {
#define ROWS(r) case r: inner(r, groups, pairs, x, p, y, ldy, cols, add); break;
    ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6)
#undef ROWS
    default: inner(MR, groups, pairs, x, p, y, ldy, cols, add); break;
    }
    /* clang-format on */
}

/* Outputs of the tile after this one: nobody else asks for lines that are so far apart. */
INLINE void ask_for(float *y, int64_t ldy, int64_t rows) {
    for (int64_t r = 0; r < rows; r++) {
        __asm__ volatile("prefetchw %0" : : "m"(y[r * ldy]));
        __asm__ volatile("prefetchw %0" : : "m"(y[r * ldy + VL]));
    }
}

/* Panel by panel: one stays in the first-level cache while all rows pass. */
INLINE void run(int bits, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, int64_t ldy,
                void *scratch) {
    fx_scratch *s = scratch;
    const int64_t each = block_inputs(w);
    const int64_t tiles = (m + MR - 1) / MR; /* of about the same height */
    for (int64_t n = n0; n < n1; n += NR)
        for (int64_t k0 = 0; k0 < w->k; k0 += each) {
            const int64_t kc = w->k - k0 < each ? w->k - k0 : each, end = n1 - n < NR ? n1 : n + NR, cols = end - n;
            const fx_row *x = (const fx_row *)xp + k0 / each * m;
            unpack(bits, w, n, end, n1 - 1, k0, kc, &s->panel, &s->groups);
            for (int64_t t = 0; t < tiles; t++) {
                const int64_t i = m * t / tiles, next = m * (t + 1) / tiles, after = m * (t + 2) / tiles;
                if (next < m && cols == NR) ask_for(y + next * ldy + n, ldy, after - next);
                tile(next - i, (int)(kc / w->group), w->group / 2, x + i, &s->panel, y + i * ldy + n, ldy, cols,
                     k0 > 0);
            }
        }
}

LM_MATMAT_WITH_FEW(lm_matmat_affine2__vnni, 2, LM_FEW_ROWS, sizeof(fx_scratch));
LM_MATMAT_WITH_FEW(lm_matmat_affine3__vnni, 3, LM_FEW_ROWS, sizeof(fx_scratch));
LM_MATMAT_WITH_FEW(lm_matmat_affine4__vnni, 4, LM_FEW_ROWS, sizeof(fx_scratch));
LM_MATMAT_WITH_FEW(lm_matmat_affine5__vnni, 5, LM_FEW_ROWS, sizeof(fx_scratch));
LM_MATMAT_WITH_FEW(lm_matmat_affine6__vnni, 6, LM_FEW_ROWS, sizeof(fx_scratch));
LM_MATMAT_WITH_FEW(lm_matmat_affine8__vnni, 8, LM_FEW_ROWS, sizeof(fx_scratch));
#else
typedef int lm_empty_translation_unit;
#endif
