/* SPDX-License-Identifier: MIT
 * stream_fixed.h: panel_fixed.h's products for so few rows of activations that memory limits them: weights are read
 * once, in the order in which they lie, and no panel is made of them. Four outputs at a time: the lanes' integer sums
 * of a block are transposed and added until a vector holds, for every four lanes of codes, the sum of each output. The
 * sums of four such vectors, sixteen outputs, make those of a group. From there on every output goes through
 * panel_fixed.h's chain over groups: the same integers, the same roundings, so the same bits. */
#ifndef LM_X86_STREAM_FIXED_H
#define LM_X86_STREAM_FIXED_H
#include "kernels/x86/fixed_bytes.h"
#include "kernels/x86/planes.h"

#define ST_ROWS 2 /* rows of activations, at most */

#define ST_OUTS 4     /* outputs together */
#define ST_AHEAD 4096 /* bytes of weights that are asked for in advance */
#define ST_SETS (VL / ST_OUTS)

/* Four lanes of codes lie within a group, and the rows are few. */
static bool st_serves(const lm_weight *w, int64_t m) {
    return m <= ST_ROWS && w->group >= 4 * mv_lane_codes(lm_unpack_bits(w->format));
}

static int64_t st_blocks(const lm_weight *w) {
    return mv_up(w->k, qv_block(w)) / qv_block(w);
}
/* Vectors of sums, [row][block][set of outputs], then scales of sixteen groups. */
static size_t st_scratch_bytes(const lm_weight *w, int64_t m) {
    return (size_t)(m * (st_blocks(w) + 1)) * ST_SETS * sizeof(vi) + sizeof(mm_groups);
}

/* What is asked for: weights in the order in which they lie, although rows are read side by side, and at an even pace,
 * a part of it while sums are scaled. */
typedef struct st_ask {
    uintptr_t at, upto;
} st_ask;

INLINE void st_more(st_ask *a, int64_t bytes) {
    for (a->upto += (uintptr_t)bytes; a->at < a->upto; a->at += 64) _mm_prefetch((const char *)a->at, _MM_HINT_T0);
}

/* Lane sums of four outputs to sums of four lanes: lane 4 i + o is the sum of output o's lanes 4 i to 4 i + 3. */
INLINE vi st_fours(const vi v[ST_OUTS]) {
    const vi a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    const vi b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

/* A block of four outputs' weights against `rows` rows: a vector of sums each, `apart` vectors apart. */
INLINE void st_block(int bits, int rows, const uint8_t *const row[ST_OUTS], int64_t bytes, const char *x,
                     int64_t stride, vi *out, int64_t apart) {
    vi v[ST_OUTS], high[ST_ROWS][ST_OUTS], low[ST_ROWS][ST_OUTS];
    UNROLL for (int o = 0; o < ST_OUTS; o++) {
        v[o] = fx_load(row[o], bits, bytes);
        UNROLL for (int r = 0; r < rows; r++) high[r][o] = low[r][o] = vi_zero();
    }
    UNROLL for (int part = 0; part < mv_lane_codes(bits) / 4; part++) {
        vi q[ST_OUTS];
        UNROLL for (int o = 0; o < ST_OUTS; o++) q[o] = fx_codes(v[o], bits, part);
        UNROLL for (int r = 0; r < rows; r++) {
            const vi h = vi_load(x + r * stride + 128 * part), l = vi_load(x + r * stride + 128 * part + 64);
            UNROLL for (int o = 0; o < ST_OUTS; o++) {
                high[r][o] = multiply_add(high[r][o], q[o], h);
                low[r][o] = multiply_add(low[r][o], q[o], l);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int o = 0; o < ST_OUTS; o++) v[o] = _mm512_add_epi32(vi_shl(high[r][o], 8), low[r][o]);
        vi_store(out + r * apart, st_fours(v));
    }
}

/* Outputs n..n+ST_OUTS (those past `last` repeat it): sums of all blocks, ST_SETS vectors apart. */
INLINE void st_outs(int bits, int rows, const lm_weight *w, const char *xp, int64_t n, int64_t last, vi *out,
                    int64_t apart, st_ask *ask) {
    const int64_t block = VL * mv_lane_codes(bits), stride = qv_stride(w);
    const int64_t bytes = block * bits / 8;
    const uint8_t *row[ST_OUTS];
    for (int o = 0; o < ST_OUTS; o++)
        row[o] = (const uint8_t *)w->data + (size_t)(n + o < last ? n + o : last) * w->row_bytes;
    int64_t k = 0;
    for (; k + block <= w->k; k += block) {
        st_more(ask, ST_OUTS * bytes * 3 / 4);
        st_block(bits, rows, row, bytes, xp + 2 * k, stride, out, apart);
        UNROLL for (int o = 0; o < ST_OUTS; o++) row[o] += bytes;
        out += ST_SETS;
    }
    if (k < w->k) st_block(bits, rows, row, (w->k - k) * bits / 8, xp + 2 * k, stride, out, apart);
}

/* The two halves [a0 a2 b0 b2], [a1 a3 b1 b3] of quarters. */
INLINE vi st_even(vi a, vi b) {
    return _mm512_shuffle_i32x4(a, b, 0x88);
}
INLINE vi st_odd(vi a, vi b) {
    return _mm512_shuffle_i32x4(a, b, 0xdd);
}

/* Sums of sixteen outputs for group `g`, of `fours` fours of lanes: v is a row's [block][set]. */
INLINE vi st_group(int fours, const vi *v, int64_t g) {
    if (fours == 1 || fours == 2) {
        const vi *b = v + g * fours / 4 * ST_SETS;
        const int first = (int)(g * fours % 4);
        const vi e0 = st_even(b[0], b[1]), e1 = st_even(b[2], b[3]), o0 = st_odd(b[0], b[1]), o1 = st_odd(b[2], b[3]);
        if (fours == 2)
            return first ? st_odd(_mm512_add_epi32(e0, o0), _mm512_add_epi32(e1, o1))
                         : st_even(_mm512_add_epi32(e0, o0), _mm512_add_epi32(e1, o1));
        return first == 0   ? st_even(e0, e1)
               : first == 1 ? st_even(o0, o1)
               : first == 2 ? st_odd(e0, e1)
                            : st_odd(o0, o1);
    }
    vi s[ST_SETS];
    const vi *b = v + g * (fours / 4) * ST_SETS;
    UNROLL for (int i = 0; i < ST_SETS; i++) s[i] = fours == 8 ? _mm512_add_epi32(b[i], b[i + ST_SETS]) : b[i];
    const vi a = _mm512_add_epi32(st_even(s[0], s[1]), st_odd(s[0], s[1]));
    const vi c = _mm512_add_epi32(st_even(s[2], s[3]), st_odd(s[2], s[3]));
    return _mm512_add_epi32(st_even(a, c), st_odd(a, c));
}

/* y of sixteen outputs, one row: the chain over groups g0..g0+groups, from y on. */
INLINE vf st_chain(int fours, const vi *v, const mm_groups *s, const float *steps, const float *sums, int64_t g0,
                   int64_t groups, int64_t more, st_ask *ask, vf y) {
    for (int64_t g = 0; g < groups; g++) {
        st_more(ask, more);
        const vf d = vf_from_int(st_group(fours, v, g0 + g));
        const vf scale = vf_mul(vf_load(s->scales[g]), vf_set1(steps[g0 + g]));
        y = vf_fma(vf_load(s->biases[g]), vf_set1(sums[g0 + g]), vf_fma(d, scale, y));
    }
    return y;
}

/* Asks for the scales and biases of the sixteen outputs after n. */
static inline void st_ask_scales(const lm_weight *w, int64_t n) {
    const int64_t bytes = w->k / w->group * (w->scale_type == LM_DTYPE_F32 ? 4 : 2);
    for (int64_t at = (n + VL) * bytes; at < (n + 2 * VL) * bytes; at += 64) {
        _mm_prefetch((const char *)((uintptr_t)w->scales + (uintptr_t)at), _MM_HINT_T0);
        _mm_prefetch((const char *)((uintptr_t)w->biases + (uintptr_t)at), _MM_HINT_T0);
    }
}

INLINE void st_run(int bits, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y,
                   int64_t ldy, void *scratch) {
    mm_groups *s = scratch;
    vi *sums = (vi *)(void *)((char *)scratch + sizeof(mm_groups));
    const int fours = w->group / (4 * mv_lane_codes(bits));
    const int64_t stride = qv_stride(w), apart = st_blocks(w) * ST_SETS, groups = w->k / w->group;
    const int64_t more = VL * w->group * bits / 8 / 4 / m; /* bytes asked for with a group's sums */
    for (int64_t n = n0; n < n1; n += VL) {
        st_ask ask = {(uintptr_t)w->data + (uintptr_t)n * w->row_bytes + ST_OUTS * w->row_bytes + ST_AHEAD, 0};
        ask.upto = ask.at;
        st_ask_scales(w, n);
        for (int set = 0; set < ST_SETS; set++) {
            if (m == 1)
                st_outs(bits, 1, w, xp, n + set * ST_OUTS, n1 - 1, sums + set, apart, &ask);
            else
                st_outs(bits, 2, w, xp, n + set * ST_OUTS, n1 - 1, sums + set, apart, &ask);
        }
        vf to[ST_ROWS];
        for (int64_t i = 0; i < m; i++) to[i] = vf_zero();
        for (int64_t g = 0; g < groups; g += MM_GROUPS) {
            const int64_t there = groups - g < MM_GROUPS ? groups - g : MM_GROUPS;
            mm_scales(w, n, n1 - 1, g, there, s);
            for (int64_t i = 0; i < m; i++) {
                const float *steps = (const float *)(const void *)((const char *)xp + i * stride + qv_planes(w));
                const float *all = steps + qv_groups(w);
                const vi *v = sums + i * apart;
                /* clang-format off */
                switch (fours) {
                case 1: to[i] = st_chain(1, v, s, steps, all, g, there, more, &ask, to[i]); break;
                case 2: to[i] = st_chain(2, v, s, steps, all, g, there, more, &ask, to[i]); break;
                case 4: to[i] = st_chain(4, v, s, steps, all, g, there, more, &ask, to[i]); break;
                default: to[i] = st_chain(8, v, s, steps, all, g, there, more, &ask, to[i]); break;
                }
                /* clang-format on */
            }
        }
        for (int64_t i = 0; i < m; i++) vf_store_n(y + i * ldy + n, to[i], n1 - n);
    }
}
#endif
