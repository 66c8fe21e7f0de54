/* SPDX-License-Identifier: MIT
 * panel_fixed.h: what the MATMAT rows on fixed point share: activations as 16-bit integers against the exact affine
 * codes, as words (vpdpwssd) or, with FX_BYTES, as two planes of bytes (AMX tiles). Whoever adds the integers, the bits
 * are the same.
 *
 * Activations: blocks of KC inputs, within a block a record a row, so that any number of neighbouring rows makes a
 * tile. Weights: panels of NR = 32 outputs, KC inputs at a time: rows are transposed while still packed, then every
 * word gives its codes as bytes, four inputs of an output in a lane, or as words, two inputs in a lane. Per group,
 * codes times x are summed as integers, converted once and multiplied by scale * step. Every output: one chain over the
 * groups, in each the scaled sum first, then the bias; so M, tiles, blocks and the split of N leave no trace in the
 * bits. */
#ifndef LM_X86_PANEL_FIXED_H
#define LM_X86_PANEL_FIXED_H
#include "kernels/x86/fixed16.h"
#include "kernels/x86/panel.h"

#if defined(FX_BYTES)
#define KC 512
#define LANE_INPUTS 4
#else
#define KC 384 /* a panel and a tile of rows stay in the first-level cache */
#define LANE_INPUTS 2
#endif
#define KC_GROUPS (KC / 32)
_Static_assert(KC_GROUPS <= MM_GROUPS, "a block's scales come in one call");

/* One row's part of a block of inputs. */
typedef struct fx_row {
#if defined(FX_BYTES)
    _Alignas(64) int8_t plane[2][KC]; /* high, low, in the order of fx_codes */
#else
    _Alignas(64) int16_t word[KC]; /* in the order of fx_codes, in every four of it the second and third exchanged */
#endif
    float steps[KC_GROUPS], sums[KC_GROUPS];
} fx_row;

typedef struct fx_panel {
    _Alignas(64) uint32_t codes[KC / LANE_INPUTS * NR]; /* [four or two inputs][NR] */
    float scales[KC_GROUPS * NR], biases[KC_GROUPS * NR];
} fx_panel;

/* Inputs of a block, the last of which may be shorter. In words: blocks of about the same length, of whole groups and
 * lines. */
static int64_t block_inputs(const lm_weight *w) {
#if defined(FX_BYTES)
    (void)w;
    return KC;
#else
    const int64_t blocks = (w->k + KC - 1) / KC, unit = w->group > 64 ? w->group : 64;
    return ((w->k + blocks - 1) / blocks + unit - 1) / unit * unit;
#endif
}
static int64_t blocks_of(const lm_weight *w) {
    return (w->k + block_inputs(w) - 1) / block_inputs(w);
}
/* Tiles of 16 rows may look past the last one. */
static size_t prep_bytes(const lm_weight *w, int64_t m) {
    return sizeof(fx_row) * (size_t)(blocks_of(w) * m + 15);
}

/* ---- activations ---- */

/* Words of two vectors of 16 integers in the order of fx_codes. */
static vi order_of(int bits) {
    static const uint8_t orders[][16] = {{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15},
                                         {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15},
                                         {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15},
                                         {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
    const uint8_t *order = orders[bits < 5 ? bits - 2 : 3];
    uint16_t word[32];
    for (int i = 0; i < 32; i++) {
        const int at = LANE_INPUTS == 2 && (i % 4 == 1 || i % 4 == 2) ? i ^ 3 : i;
        word[i] = (uint16_t)(2 * (at / 16 * 16 + order[at % 16]));
    }
    return vi_load(word);
}

/* Lane i: the largest, or the sum, of v[i]. */
INLINE vi across(const vi v[16], vi (*join)(vi, vi)) {
    vi t[8], u[4];
    UNROLL for (int i = 0; i < 8; i++) t[i] =
        join(_mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
    UNROLL for (int i = 0; i < 4; i++) u[i] =
        join(_mm512_unpacklo_epi64(t[2 * i], t[2 * i + 1]), _mm512_unpackhi_epi64(t[2 * i], t[2 * i + 1]));
    UNROLL for (int i = 0; i < 4; i += 2) u[i] =
        join(_mm512_shuffle_i32x4(u[i], u[i + 1], 0x88), _mm512_shuffle_i32x4(u[i], u[i + 1], 0xdd));
    return join(_mm512_shuffle_i32x4(u[0], u[2], 0x88), _mm512_shuffle_i32x4(u[0], u[2], 0xdd));
}
INLINE vi larger(vi a, vi b) {
    return _mm512_max_epi32(a, b);
}
INLINE vi added(vi a, vi b) {
    return _mm512_add_epi32(a, b);
}

/* As fx_group, for up to 16 groups at once: x[0..n) to integers, steps and sums of `to` from `at` on. */
static void prep_groups(const float *x, int64_t n, int64_t group, vi order, fx_row *to, int64_t at) {
    vi v[16];
    const vi magnitude = vi_set1(0x7fffffff);
    const int64_t g0 = at / group, groups = n / group;
    for (int64_t g = 0; g < 16; g++) {
        v[g] = vi_zero();
        for (int64_t k = g * group; k < (g + 1) * group && g < groups; k += VL)
            v[g] = larger(v[g], vi_and(vi_load(x + k), magnitude));
    }
    const vf max = vf_bits(across(v, larger)), top = vf_set1((float)FX_TOP);
    const __mmask16 tiny = _mm512_cmp_ps_mask(max, vf_set1(0x1p-60f), _CMP_LT_OQ); /* else 1 / step would overflow */
    const __mmask16 some = _mm512_cmp_ps_mask(max, vf_zero(), _CMP_NEQ_UQ);
    const vf up = _mm512_mask_blend_ps(tiny, vf_set1(1.0f), vf_set1(0x1p64f)), raised = vf_mul(max, up);
    _Alignas(64) float factors[2][16];
    vf_store(factors[0], _mm512_maskz_div_ps(some, top, raised));
    vf_store(factors[1], up);
    const vf step = _mm512_div_ps(_mm512_div_ps(raised, top), up);
    for (int64_t g = 0; g < groups; g++) {
        const vf factor = vf_set1(factors[0][g]), raise = vf_set1(factors[1][g]);
        v[g] = vi_zero();
        for (int64_t k = g * group; k < (g + 1) * group; k += 2 * VL) {
            const vi a = _mm512_cvtps_epi32(vf_mul(vf_mul(vf_load(x + k), raise), factor));
            const vi b = _mm512_cvtps_epi32(vf_mul(vf_mul(vf_load(x + k + VL), raise), factor));
            const vi words = _mm512_permutex2var_epi16(a, order, b);
            v[g] = added(v[g], _mm512_madd_epi16(words, _mm512_set1_epi16(1)));
#if defined(FX_BYTES)
            const vi high = _mm512_srai_epi16(_mm512_add_epi16(words, _mm512_set1_epi16(128)), 8);
            _mm256_store_si256((__m256i *)(void *)(to->plane[0] + at + k), _mm512_cvtepi16_epi8(high));
            _mm256_store_si256((__m256i *)(void *)(to->plane[1] + at + k), _mm512_cvtepi16_epi8(words));
#else
            vi_store(to->word + at + k, words);
#endif
        }
    }
    vf_store_n(to->steps + g0, step, groups);
    vf_store_n(to->sums + g0, vf_mul(step, vf_from_int(across(v, added))), groups); /* below 2^24: exact */
}

static void prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    const vi order = order_of(lm_unpack_bits(w->format));
    const int64_t each = block_inputs(w), most = 16 * w->group;
    for (int64_t i = m0; i < m1; i++)
        for (int64_t k = 0; k < w->k; k += each) {
            fx_row *to = (fx_row *)xp + k / each * m + i;
            const int64_t n = w->k - k < each ? w->k - k : each;
            for (int64_t at = 0; at < n; at += most)
                prep_groups(x + i * ldx + k + at, n - at < most ? n - at : most, w->group, order, to, at);
        }
}

/* ---- weights ---- */

/* Four codes of every lane. */
INLINE void put_codes(uint32_t *to, vi codes) {
#if defined(FX_BYTES)
    vi_store(to, codes);
#else
    const vi low = vi_set1(0x00ff00ff);
    vi_store(to, vi_and(codes, low));
    vi_store(to + NR, vi_and(vi_shr(codes, 8), low));
#endif
}

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
            put_codes(out + (k + i * codes + 4 * part) / LANE_INPUTS * NR, fx_codes(t[i], bits, part));
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
#endif
