/* SPDX-License-Identifier: MIT
 * panel_fixed.h: what the MATMAT rows on bytes share (vpdpbusd, AMX tiles): activations in two planes of bytes
 * (fixed16.h) against the exact affine codes. Whoever adds the integers, the bits are the same.
 *
 * Activations: blocks of KC inputs, within a block a record a row, so that any number of neighbouring rows makes a
 * tile. Weights: panels of NR = 32 outputs, KC inputs at a time: rows are transposed while still packed, then every
 * word gives its codes as bytes, four inputs of an output in a lane. Per group, codes times high and times low bytes
 * are summed as integers, joined, converted once and multiplied by scale * step. Every output: one chain over the
 * groups, in each the scaled sum first, then the bias; so M, tiles, blocks and the split of N leave no trace in the
 * bits. */
#ifndef LM_X86_PANEL_FIXED_H
#define LM_X86_PANEL_FIXED_H
#include "kernels/x86/fixed16.h"
#include "kernels/x86/panel.h"

#define MR 7
#define KC 512
#define KC_GROUPS (KC / 32)
_Static_assert(KC_GROUPS <= MM_GROUPS, "a block's scales come in one call");

/* One row's part of a block of inputs. */
typedef struct fx_row {
    _Alignas(64) int8_t plane[2][KC]; /* high, low, in the order of fx_codes */
    float steps[KC_GROUPS], sums[KC_GROUPS];
} fx_row;

typedef struct fx_panel {
    _Alignas(64) uint32_t codes[KC / 4 * NR]; /* [four inputs][NR] */
    float scales[KC_GROUPS * NR], biases[KC_GROUPS * NR];
} fx_panel;

static int64_t blocks_of(const lm_weight *w) {
    return (w->k + KC - 1) / KC;
}
/* Tiles of 16 rows may look past the last one. */
static size_t prep_bytes(const lm_weight *w, int64_t m) {
    return sizeof(fx_row) * (size_t)(blocks_of(w) * m + 15);
}

/* ---- activations ---- */

/* Bytes of 16 inputs in the order of fx_codes. */
static __m128i order_of(int bits) {
    switch (bits) {
    case 2: return _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    case 3: return _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
    case 4: return _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    default: return _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    }
}

static void prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    const __m128i order = order_of(lm_unpack_bits(w->format));
    for (int64_t i = m0; i < m1; i++)
        for (int64_t k = 0; k < w->k; k += w->group) {
            fx_row *to = (fx_row *)xp + k / KC * m + i;
            const int64_t at = k % KC, g = at / w->group;
            int8_t *high = to->plane[0] + at, *low = to->plane[1] + at;
            to->steps[g] = fx_group(x + i * ldx + k, w->group, high, low, &to->sums[g]);
            for (int64_t j = 0; j < w->group; j += 16) {
                __m128i *h = (__m128i *)(void *)(high + j), *l = (__m128i *)(void *)(low + j);
                _mm_store_si128(h, _mm_shuffle_epi8(_mm_load_si128(h), order));
                _mm_store_si128(l, _mm_shuffle_epi8(_mm_load_si128(l), order));
            }
        }
}

/* ---- weights ---- */

/* Outputs n..n+VL (those past n_last repeat it), inputs k0..k0+kc, to lanes of a panel from `lane` on. next_n, next_k:
 * where the strip after this one begins; it is asked for. */
INLINE void strip(int bits, const lm_weight *w, int64_t n, int64_t n_last, int64_t k0, int64_t kc, int64_t next_n,
                  int64_t next_k, fx_panel *to, int lane, mm_groups *s) {
    const int64_t all = w->k / w->group, scale_bytes = w->scale_type == LM_DTYPE_F32 ? 4 : 2;
    const intptr_t ahead = (next_n - n) * (intptr_t)w->row_bytes + (next_k - k0) * bits / 8;
    const int codes = mv_lane_codes(bits), block = VL * codes, groups = (int)(kc / w->group);
    const uint8_t *row[VL];
    for (int i = 0; i < VL; i++)
        row[i] = (const uint8_t *)w->data + (size_t)(n + i < n_last ? n + i : n_last) * w->row_bytes +
                 (size_t)(k0 * bits / 8);
    uint32_t *out = to->codes + lane;
    for (int64_t k = 0; k < kc; k += block) {
        const int64_t there = kc - k < block ? kc - k : block;
        vi t[VL];
        UNROLL for (int i = 0; i < VL; i++) {
            _mm_prefetch((const char *)((uintptr_t)(row[i] + k * bits / 8) + (uintptr_t)ahead), _MM_HINT_T0);
            t[i] = fx_load(row[i] + k * bits / 8, bits, there * bits / 8);
        }
        vi_transpose(t);
        UNROLL for (int i = 0; i < VL; i++) UNROLL for (int part = 0; part < codes / 4; part++) if (i * codes < there)
            vi_store(out + (k + i * codes + 4 * part) / 4 * NR, fx_codes(t[i], bits, part));
    }
    for (int64_t i = 0; i < VL; i++) {
        const uintptr_t at = (uintptr_t)(((next_n + i) * all + next_k / w->group) * scale_bytes);
        _mm_prefetch((const char *)((uintptr_t)w->scales + at), _MM_HINT_T0);
        _mm_prefetch((const char *)((uintptr_t)w->biases + at), _MM_HINT_T0);
    }
    mm_scales(w, n, n_last, k0 / w->group, groups, s);
    for (int g = 0; g < groups; g++) {
        vf_store(to->scales + g * NR + lane, vf_load(s->scales[g]));
        vf_store(to->biases + g * NR + lane, vf_load(s->biases[g]));
    }
}

/* Panels of outputs n..end, inputs k0..k0+kc; `last` is the last output there is. */
INLINE void unpack(int bits, const lm_weight *w, int64_t n, int64_t end, int64_t last, int64_t k0, int64_t kc,
                   fx_panel *panels, mm_groups *s) {
    for (int64_t at = n; at < end; at += VL) {
        const bool row_of_strips_ends = at + VL >= end, k_ends = k0 + kc >= w->k;
        const int64_t next_n = row_of_strips_ends && !k_ends ? n : at + VL;
        const int64_t next_k = !row_of_strips_ends ? k0 : k_ends ? 0 : k0 + kc;
        strip(bits, w, at, last, k0, kc, next_n, next_k, &panels[(at - n) / NR], (int)((at - n) % NR), s);
    }
}

/* ---- products ---- */

/* sum += codes times x, four inputs a lane. Written out: around gcc 12's intrinsic sums travel through memory. */
INLINE vi multiply_add(vi sum, vi codes, vi x) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(x));
    return sum;
}

INLINE vi four_inputs(const int8_t *x) {
    uint32_t four;
    memcpy(&four, x, 4);
    return vi_set1(four);
}

/* y += (256 high + low) step scale + all bias */
INLINE void add_group(vi high, vi low, vf scale, vf bias, vf step, vf all, float *y) {
    const vf d = vf_from_int(_mm512_add_epi32(vi_shl(high, 8), low));
    vf_store(y, vf_fma(bias, all, vf_fma(d, vf_mul(scale, step), vf_load(y))));
}

/* sums[rows][NR] += rows x[0..rows) times a panel, `groups` groups of `quads` times four inputs. */
INLINE void inner(int rows, int groups, int quads, const fx_row *x, const fx_panel *p, float *sums) {
    for (int g = 0; g < groups; g++) {
        vi high[MR][2], low[MR][2];
        UNROLL for (int r = 0; r < rows; r++) high[r][0] = high[r][1] = low[r][0] = low[r][1] = vi_zero();
        const uint32_t *codes = p->codes + g * quads * NR;
        const int8_t *from = x->plane[0] + 4 * g * quads;
        for (int q = 0; q < quads; q++) {
            const vi w0 = vi_load(codes + q * NR), w1 = vi_load(codes + q * NR + VL);
            UNROLL for (int r = 0; r < rows; r++) {
                const int8_t *at = from + r * (int64_t)sizeof(fx_row) + 4 * q;
                vi v = four_inputs(at);
                high[r][0] = multiply_add(high[r][0], w0, v);
                high[r][1] = multiply_add(high[r][1], w1, v);
                v = four_inputs(at + KC);
                low[r][0] = multiply_add(low[r][0], w0, v);
                low[r][1] = multiply_add(low[r][1], w1, v);
            }
        }
        const vf scale0 = vf_load(p->scales + g * NR), scale1 = vf_load(p->scales + g * NR + VL);
        const vf bias0 = vf_load(p->biases + g * NR), bias1 = vf_load(p->biases + g * NR + VL);
        UNROLL for (int r = 0; r < rows; r++) {
            const vf step = vf_set1(x[r].steps[g]), all = vf_set1(x[r].sums[g]);
            add_group(high[r][0], low[r][0], scale0, bias0, step, all, sums + r * NR);
            add_group(high[r][1], low[r][1], scale1, bias1, step, all, sums + r * NR + VL);
        }
    }
}

/* As inner, for 1 to MR rows. */
static void few_rows(int64_t rows, int groups, int quads, const fx_row *x, const fx_panel *p, float *sums) {
    /* clang-format off */
    switch (rows) {
#define ROWS(r) case r: inner(r, groups, quads, x, p, sums); break;
    ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6)
#undef ROWS
    default: inner(MR, groups, quads, x, p, sums); break;
    }
    /* clang-format on */
}

/* sums = y, or zeros; and back. */
static inline void begin_sums(int64_t rows, float *sums, const float *y, int64_t ldy, int64_t cols, bool add) {
    for (int64_t r = 0; r < rows; r++) {
        vf_store(sums + r * NR, add ? vf_load_n(y + r * ldy, cols) : vf_zero());
        vf_store(sums + r * NR + VL, add && cols > VL ? vf_load_n(y + r * ldy + VL, cols - VL) : vf_zero());
    }
}
static inline void end_sums(int64_t rows, const float *sums, float *y, int64_t ldy, int64_t cols) {
    for (int64_t r = 0; r < rows; r++) {
        vf_store_n(y + r * ldy, vf_load(sums + r * NR), cols);
        if (cols > VL) vf_store_n(y + r * ldy + VL, vf_load(sums + r * NR + VL), cols - VL);
    }
}
#endif
