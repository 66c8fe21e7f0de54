/* SPDX-License-Identifier: MIT
 * linear_matvec__vnni.c: MATVEC rows of class F16: activations in two planes of bytes (fixed16.h) against the exact
 * codes by vpdpbusd. run: a block of 16 lanes times E codes (as in matvec.h); sums of codes times high bytes, shifted,
 * take those times low bytes on top, are converted once, and multiplied by scale * step. Scales and biases are taken
 * for 16 groups at a time. Every output: one chain over blocks and one over biases, whatever runs beside it. One row is
 * what takes most of a generated token: two vector ports are kept busy with little beside products (docs/speed/amx.md).
 */
#if defined(__x86_64__)
#include "base/cpu.h"
#include "kernels/x86/planes.h"

#define QV_OUTS 4           /* outputs together, at most, which share the loads of x */
#define QV_SHORT 1024       /* below this K a row of weights is over before memory has answered */
#define QV_LONG 6144        /* where K is larger, planes crowd the first-level cache */
#define QV_AHEAD 4096       /* bytes of weights that are asked for in advance, at least */
#define QV_AHEAD_LOOP 8192  /* where one row of 4 bits goes block by block */
#define QV_SCALES_AHEAD 256 /* bytes of scales and of biases that are asked for in advance */
#define QV_PASS 16          /* outputs of one pass where there are several */

typedef struct qv_shape {
    int64_t groups, block;
    int64_t planes, stride; /* bytes of a prepared row's planes, and of all of it */
    size_t ahead;
    int shift, outs; /* outs: outputs together for one row of x */
    bool unroll;     /* one row: all blocks of VL groups at once; leaves no trace in the bits */
    vi lane_group;
} qv_shape;

static size_t qv_scratch_bytes(const lm_weight *w, int64_t m) {
    (void)w, (void)m;
    return 0;
}

/* ---- products --------------------------------------------------------------------------------------------------- */

INLINE qv_shape qv_shape_of(const lm_weight *w, int bits) {
    qv_shape s = {.groups = w->k / w->group, .block = VL * mv_lane_codes(bits)};
    s.shift = w->group == 32 ? 5 : w->group == 64 ? 6 : 7;
    s.planes = qv_planes(w), s.stride = qv_stride(w);
    /* One run of memory comes fastest; where the arithmetic is what takes time, outputs side by side spare some. */
    s.outs = w->k > QV_LONG ? 2 : bits % 4 || w->k < QV_SHORT ? QV_OUTS : 1;
    /* two: requests go whole sets of rows ahead, else they would fall on a neighbour that is being read just now */
    const size_t set = (size_t)s.outs * w->row_bytes;
    s.ahead = s.outs == 1 ? QV_AHEAD : s.outs == 2 ? (QV_AHEAD + set - 1) / set * set : QV_AHEAD + set - w->row_bytes;
    /* Processors with tiles have two vector ports, and every instruction counts. Where there are four, memory is what
     * takes time at 4 bits, and gives more when it is read block by block and asked further ahead. */
    s.unroll = bits == 8 || (lm_cpu_flags() & LM_CPU_AMX) != 0;
    if (s.outs == 1 && !s.unroll) s.ahead = QV_AHEAD_LOOP;
    int32_t lane_group[VL];
    for (int j = 0; j < VL; j++) lane_group[j] = s.block < w->group ? 0 : j * mv_lane_codes(bits) >> s.shift;
    s.lane_group = vi_load(lane_group);
    return s;
}

/* Where a pass over some outputs reads. */
typedef struct qv_at {
    const char *codes, *x;
    uintptr_t ask; /* what is to be in a cache later on: an address that may lie behind all weights */
} qv_at;

#if !LM_PLAIN_LOOPS
/* pointer as one register: else gcc makes every address from its parts again */
#define QV_KEEP(pointer) __asm__("" : "+r"(pointer))
/* one load of v: where weights aren't aligned in their file, it takes two lines, and a second load two more */
#define QV_ONCE(v) __asm__("" : "+v"(v))
/* what pointer is used for comes after v: requests at an even pace, not all at once */
#define QV_AFTER(pointer, v) __asm__("" : "+r"(pointer) : "v"(v))
#else
#define QV_KEEP(pointer) (void)(pointer)
#define QV_ONCE(v) (void)(v)
#define QV_AFTER(pointer, v) (void)(pointer), (void)(v)
#endif

INLINE qv_at qv_start(int bits, int outs, const lm_weight *w, const qv_shape *s, const char *xp, int64_t n, int64_t k) {
    const char *row = (const char *)w->data + (size_t)n * w->row_bytes;
    const size_t in = (size_t)k * (size_t)bits / 8;
    return (qv_at){row + in, xp + 2 * k, (uintptr_t)row + s->ahead + in * (outs == QV_OUTS ? QV_OUTS : 1)};
}

/* Asks for weights ahead of block b after `at`. Four rows that are read side by side are asked for as one stream:
 * memory gives most when it is asked in the order in which it lies. */
INLINE void qv_ask(int bits, int outs, const lm_weight *w, qv_at at, int64_t b) {
    const int bytes = VL * mv_lane_codes(bits) * bits / 8;
    if (outs < QV_OUTS) {
        UNROLL for (int o = 0; o < outs; o++)
            _mm_prefetch((const char *)(at.ask + (size_t)o * w->row_bytes + (size_t)(b * bytes)), _MM_HINT_T0);
        return;
    }
    UNROLL for (int i = 0; i < outs * bytes; i += 64)
        _mm_prefetch((const char *)(at.ask + (size_t)(outs * b * bytes + i)), _MM_HINT_T0);
}

/* A block's codes against its x: sums of codes times high bytes, 256 times that, and codes times low bytes on top. */
INLINE vi qv_dot(int bits, vi v, const char *x) {
    const int parts = mv_lane_codes(bits) / 4;
    vi sum = vi_zero();
    QV_ONCE(v);
    UNROLL for (int i = 0; i < parts; i++) sum = _mm512_dpbusd_epi32(sum, fx_codes(v, bits, i), vi_load(x + 128 * i));
    sum = vi_shl(sum, 8);
    UNROLL for (int i = 0; i < parts; i++) sum =
        _mm512_dpbusd_epi32(sum, fx_codes(v, bits, i), vi_load(x + 128 * i + 64));
    return sum;
}

/* A block of `there` codes: lane sums times scale and step, onto sum. */
INLINE void qv_add_block(int bits, int rows, int outs, const lm_weight *w, const qv_shape *s, qv_at at, int64_t there,
                         vi index, vf scale[QV_OUTS][MV_ROWS], vf sum[QV_OUTS][MV_ROWS]) {
    qv_ask(bits, outs, w, at, 0);
    UNROLL for (int o = 0; o < outs; o++) {
        const vi v = fx_load((const uint8_t *)at.codes + (size_t)o * w->row_bytes, bits, there * bits / 8);
        UNROLL for (int r = 0; r < rows; r++) {
            const vf d = vf_from_int(qv_dot(bits, v, at.x + r * s->stride));
            sum[o][r] = vf_fma(d, vf_permute(scale[o][r], index), sum[o][r]);
        }
    }
}

/* All blocks of VL groups of 1 << shift inputs, one row, one output: places and the groups' lanes are constants. */
INLINE vf qv_set(int bits, int shift, const lm_weight *w, qv_at at, vf scale, vf sum) {
    const int block = VL * mv_lane_codes(bits), blocks = (VL << shift) / block, bytes = block * bits / 8;
    QV_KEEP(at.codes);
    QV_KEEP(at.ask);
    QV_KEEP(at.x);
    if (block <= 1 << shift) { /* one group in all lanes */
        _Alignas(64) float each[VL];
        vf_store(each, scale);
        for (int i = 0; i < blocks; i += 4) {
            UNROLL for (int b = 0; b < 4; b++) {
                const vi v = fx_load((const uint8_t *)at.codes + b * bytes, bits, bytes);
                const vf d = vf_from_int(qv_dot(bits, v, at.x + 2 * b * block));
                QV_AFTER(at.ask, d);
                qv_ask(bits, 1, w, at, b);
                sum = vf_fma(d, vf_set1(each[(i + b) * block >> shift]), sum);
            }
            at.codes += 4 * bytes, at.ask += 4 * bytes, at.x += 8 * block;
        }
        return sum;
    }
    UNROLL for (int b = 0; b < blocks; b++) {
        int32_t lane_group[VL];
        UNROLL for (int j = 0; j < VL; j++) lane_group[j] = (b * block + j * mv_lane_codes(bits)) >> shift;
        const vi v = fx_load((const uint8_t *)at.codes + b * bytes, bits, bytes);
        const vf d = vf_from_int(qv_dot(bits, v, at.x + 2 * b * block));
        QV_AFTER(at.ask, d);
        qv_ask(bits, 1, w, at, b);
        sum = vf_fma(d, vf_permute(scale, vi_load(lane_group)), sum);
    }
    return sum;
}

/* VL scales or biases from `at` on, those that are there; zeros for the others. */
INLINE vf qv_load(const lm_weight *w, const void *p, int64_t at, __mmask16 there) {
    const uint8_t *from = (const uint8_t *)p + (w->scale_type == LM_DTYPE_F32 ? 4 : 2) * at;
    if (w->scale_type == LM_DTYPE_F32) return _mm512_maskz_loadu_ps(there, from);
    const __m256i v = _mm256_maskz_loadu_epi16(there, from);
    if (w->scale_type == LM_DTYPE_F16) return _mm512_cvtph_ps(v);
    return vf_bits(vi_shl(_mm512_cvtepu16_epi32(v), 16));
}

/* Scales times steps of the VL groups from g on, those that are there; their biases times sums, onto bias_sum. */
INLINE void qv_scales(int rows, int outs, const lm_weight *w, const qv_shape *s, const char *xp, int64_t n, int64_t g,
                      __mmask16 there, vf scale[QV_OUTS][MV_ROWS], vf bias_sum[QV_OUTS][MV_ROWS]) {
    const size_t scale_bytes = w->scale_type == LM_DTYPE_F32 ? 4 : 2;
    UNROLL for (int o = 0; o < outs; o++) {
        const int64_t at = (n + o) * s->groups + g;
        const uintptr_t ahead = (uintptr_t)at * scale_bytes + QV_SCALES_AHEAD;
        _mm_prefetch((const char *)((uintptr_t)w->scales + ahead), _MM_HINT_T0);
        _mm_prefetch((const char *)((uintptr_t)w->biases + ahead), _MM_HINT_T0);
        const vf a = qv_load(w, w->scales, at, there), b = qv_load(w, w->biases, at, there);
        UNROLL for (int r = 0; r < rows; r++) {
            const float *steps = (const float *)(const void *)(xp + r * s->stride + s->planes);
            const float *sums = steps + mv_up(s->groups, VL);
            scale[o][r] = vf_mul(a, vf_load(steps + g));
            bias_sum[o][r] = vf_fma(b, vf_load(sums + g), bias_sum[o][r]);
        }
    }
}

/* Outputs n..n+outs of `rows` rows: lanes whose sums they are. shift: s->shift as a constant, or 0 where it isn't. */
INLINE void qv_outs(int bits, int shift, int rows, int outs, const lm_weight *w, const qv_shape *s, const char *xp,
                    int64_t n, vf out[QV_OUTS][MV_ROWS]) {
    vf sum[QV_OUTS][MV_ROWS], bias_sum[QV_OUTS][MV_ROWS], scale[QV_OUTS][MV_ROWS];
    UNROLL for (int o = 0; o < outs; o++) UNROLL for (int r = 0; r < rows; r++) sum[o][r] = bias_sum[o][r] = vf_zero();
    const int64_t block = VL * mv_lane_codes(bits);
    const int bytes = VL * mv_lane_codes(bits) * bits / 8;
    int64_t g = 0;
    if (shift) {
        for (; g + VL <= s->groups; g += VL) {
            qv_scales(rows, outs, w, s, xp, n, g, 0xffff, scale, bias_sum);
            sum[0][0] = qv_set(bits, shift, w, qv_start(bits, outs, w, s, xp, n, g << shift), scale[0][0], sum[0][0]);
        }
    }
    for (; g < s->groups; g += VL) {
        qv_scales(rows, outs, w, s, xp, n, g, vf_mask(s->groups - g), scale, bias_sum);
        const int64_t end = (g + VL) << s->shift < w->k ? (g + VL) << s->shift : w->k;
        int64_t k = g << s->shift;
        qv_at at = qv_start(bits, outs, w, s, xp, n, k);
        vi index = s->lane_group;
        const vi next = vi_set1((uint32_t)(s->block >> s->shift));
        for (; k + block <= end; k += block) {
            if (s->block < w->group) index = vi_set1((uint32_t)((k >> s->shift) - g));
            qv_add_block(bits, rows, outs, w, s, at, block, index, scale, sum);
            index = _mm512_add_epi32(index, next);
            at.codes += bytes, at.ask += (outs == QV_OUTS ? QV_OUTS : 1) * bytes, at.x += 2 * block;
        }
        if (k < end) qv_add_block(bits, rows, outs, w, s, at, end - k, index, scale, sum);
    }
    UNROLL for (int o = 0; o < outs; o++) UNROLL for (int r = 0; r < rows; r++) out[o][r] =
        vf_add(sum[o][r], bias_sum[o][r]);
}

/* vf_sum of each of four, added up in its order. */
INLINE __m128 qv_sums(const vf v[4]) {
    const vf a = vf_add(_mm512_shuffle_f32x4(v[0], v[1], 0x44), _mm512_shuffle_f32x4(v[0], v[1], 0xee));
    const vf b = vf_add(_mm512_shuffle_f32x4(v[2], v[3], 0x44), _mm512_shuffle_f32x4(v[2], v[3], 0xee));
    vf c = vf_add(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
    c = vf_add(c, _mm512_permute_ps(c, 0xee));
    c = vf_add(c, _mm512_movehdup_ps(c));
    const vi first = _mm512_castsi128_si512(_mm_setr_epi32(0, 4, 8, 12));
    return _mm512_castps512_ps128(vf_permute(c, first));
}

/* Up to MV_ROWS rows, an output at a time. */
INLINE void qv_rows(int bits, int rows, const lm_weight *w, const qv_shape *s, const char *xp, int64_t n0, int64_t n1,
                    float *y, int64_t ldy) {
    vf out[QV_OUTS][MV_ROWS];
    for (int64_t n = n0; n < n1; n++) {
        qv_outs(bits, 0, rows, 1, w, s, xp, n, out);
        UNROLL for (int r = 0; r < rows; r++) y[r * ldy + n] = vf_sum(out[0][r]);
    }
}

/* One row, `outs` outputs at a time. */
INLINE void qv_row(int bits, int shift, int outs, const lm_weight *w, const qv_shape *s, const char *xp, int64_t n0,
                   int64_t n1, float *y) {
    vf out[QV_OUTS][MV_ROWS], all[QV_OUTS];
    int64_t n = n0;
    for (; n + QV_OUTS <= n1; n += QV_OUTS) {
        for (int i = 0; i < QV_OUTS; i += outs) {
            qv_outs(bits, shift, 1, outs, w, s, xp, n + i, out);
            UNROLL for (int o = 0; o < outs; o++) all[i + o] = out[o][0];
        }
        _mm_storeu_ps(y + n, qv_sums(all));
    }
    qv_rows(bits, 1, w, s, xp, n, n1, y, 0);
}

/* Up to MV_ROWS rows against outputs n0..n1. */
INLINE void qv_some(int bits, const lm_weight *w, const qv_shape *s, const char *x, int64_t m, int64_t n0, int64_t n1,
                    float *y, int64_t ldy) {
    if (m == 1 && s->outs == QV_OUTS) {
        qv_row(bits, 0, QV_OUTS, w, s, x, n0, n1, y);
    } else if (m == 1 && s->outs == 2) {
        qv_row(bits, 0, 2, w, s, x, n0, n1, y);
    } else if (m == 1 && bits % 4 == 0) {
        switch (s->unroll ? s->shift : 0) {
        case 0: qv_row(bits, 0, 1, w, s, x, n0, n1, y); break;
        case 5: qv_row(bits, 5, 1, w, s, x, n0, n1, y); break;
        case 6: qv_row(bits, 6, 1, w, s, x, n0, n1, y); break;
        default: qv_row(bits, 7, 1, w, s, x, n0, n1, y); break;
        }
    } else {
#define ROWS(rows) qv_rows(bits, rows, w, s, x, n0, n1, y, ldy)
        MV_NEXT_ROWS(m, ROWS)
#undef ROWS
    }
}

INLINE void qv_run(int bits, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y,
                   int64_t ldy) {
    const qv_shape s = qv_shape_of(w, bits);
    /* more rows than one pass takes: all passes over a few outputs, whose weights then come from a cache */
    const int64_t each = m > MV_ROWS ? QV_PASS : n1 - n0;
    for (int64_t n = n0; n < n1; n += each)
        for (int64_t i = 0; i < m; i += MV_ROWS)
            qv_some(bits, w, &s, (const char *)xp + i * s.stride, m - i, n, n1 - n < each ? n1 : n + each, y + i * ldy,
                    ldy);
}

#define LM_MATVEC_VNNI(bits)                                                                                      \
    static void run_affine##bits(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, \
                                 int64_t ldy, void *scratch) {                                                    \
        (void)scratch;                                                                                            \
        qv_run(bits, w, xp, m, n0, n1, y, ldy);                                                                   \
    }                                                                                                             \
    const lm_linear_impl lm_matvec_affine##bits##__vnni = {                                                       \
        1, 1, qv_prep_bytes, qv_prep, qv_scratch_bytes, run_affine##bits, 0, 0}

LM_MATVEC_VNNI(2);
LM_MATVEC_VNNI(3);
LM_MATVEC_VNNI(4);
LM_MATVEC_VNNI(5);
LM_MATVEC_VNNI(6);
LM_MATVEC_VNNI(8);
#else
typedef int lm_empty_translation_unit;
#endif
