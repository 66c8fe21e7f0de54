/* SPDX-License-Identifier: MIT
 * linear_matmat_words__amx.c: MATMAT rows of class F16 for affine weights and many rows of activations: both sides as
 * 16-bit fixed point (panel_words.h), two planes of bytes each, on AMX tiles of bytes. Four products of tiles make an
 * exact product, so the only roundings are those of the two sides; and where linear_matmat_bytes__amx.c scales sums for
 * every group, here a block of up to WD_INPUTS inputs is one sum.
 *
 * Activations: blocks of 16 rows; per 64 inputs a tile of high and one of low bytes, both signed; then the blocks'
 * steps. Three tiles of sums: high high, high low + low high, low low. While tiles multiply a block of inputs, vectors
 * join and scale the sums of the one before. Every output is one chain over the blocks of inputs, so M and the split of
 * N leave no trace in the bits. */
#if defined(__x86_64__)
#include "kernels/x86/panel_words.h"
#include "kernels/x86/tiles.h"

#define OUTPUTS 128   /* unpacked together, for */
#define MOST_STEPS 13 /* tiles of inputs (whole blocks of them), so that they stay in the second-level cache */
#define MOST_BLOCKS (MOST_STEPS)
#define JOINED 4 /* rows whose sums are joined after a step */
#define FROM_ROWS 33

typedef struct aw_scratch {
    _Alignas(64) uint32_t panel[OUTPUTS / VL][MOST_STEPS * 2 * WD_TILE];
    _Alignas(64) float steps[OUTPUTS / VL][MOST_BLOCKS][VL];
    _Alignas(64) int32_t products[3][WD_TILE];
    _Alignas(64) float edge[WD_TILE]; /* sums of fewer rows or outputs than a tile has */
    wd_scratch words;
} aw_scratch;

static int64_t at_most(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* ---- activations ---- */

static int64_t steps_of(int64_t k) {
    return (k + WD_STEP - 1) / WD_STEP;
}
static int64_t blocks_of(const lm_weight *w) {
    return (w->k + wd_block(w) - 1) / wd_block(w);
}
/* Bytes of the tiles of 16 rows, and with their steps. */
static int64_t tiles_bytes(const lm_weight *w) {
    return steps_of(w->k) * 2 * BLOCK * WD_STEP;
}
static int64_t rows_bytes(const lm_weight *w) {
    return tiles_bytes(w) + blocks_of(w) * BLOCK * (int64_t)sizeof(float);
}
static size_t prep_bytes(const lm_weight *w, int64_t m) {
    return (size_t)(rows_bytes(w) * ((m + BLOCK - 1) / BLOCK));
}
static size_t scratch_bytes(const lm_weight *w, int64_t m) {
    (void)w, (void)m;
    return (sizeof(aw_scratch) + 63) & ~(size_t)63;
}

/* 64 integers, a quarter in every vector, to bytes in order: high to `to`, low to the tile behind. */
INLINE void put_bytes(const vi q[4], int8_t *to) {
    const vi order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const vi half = _mm512_set1_epi16(128), low = _mm512_set1_epi16(255);
    const vi a = _mm512_packs_epi32(q[0], q[1]), b = _mm512_packs_epi32(q[2], q[3]);
    const vi highs = _mm512_packs_epi16(_mm512_srai_epi16(_mm512_add_epi16(a, half), 8),
                                        _mm512_srai_epi16(_mm512_add_epi16(b, half), 8));
    const vi lows = _mm512_packus_epi16(vi_and(a, low), vi_and(b, low));
    vi_store(to, _mm512_permutexvar_epi32(order, highs));
    vi_store(to + BLOCK * WD_STEP, _mm512_permutexvar_epi32(order, lows));
}

/* x[0..n) to a row of tiles, zeros to their end; returns the step. */
INLINE float prep_row(const float *x, int64_t n, int8_t *to) {
    const vi magnitude = vi_set1(0x7fffffff);
    vi top[2] = {vi_zero(), vi_zero()};
    for (int64_t k = 0; k < n; k += 2 * VL) /* groups are of 32 or more */
        UNROLL for (int i = 0; i < 2; i++) top[i] =
            _mm512_max_epi32(top[i], vi_and(vi_load(x + k + i * VL), magnitude));
    const float max = lm_bits_f32((uint32_t)_mm512_reduce_max_epi32(_mm512_max_epi32(top[0], top[1])));
    const float up = max < 0x1p-60f ? 0x1p64f : 1.0f; /* else 1 / step would overflow */
    const vf factor = vf_set1(max == 0 ? 0 : (float)FX_TOP / (max * up)), raise = vf_set1(up);
    for (int64_t k = 0; k < n; k += WD_STEP) {
        vi q[4];
        UNROLL for (int i = 0; i < 4; i++) {
            const vf v = i < 2 || k + WD_STEP <= n ? vf_load(x + k + i * VL) : vf_zero();
            q[i] = _mm512_cvtps_epi32(vf_mul(vf_mul(v, raise), factor));
        }
        put_bytes(q, to + k * 2 * BLOCK);
    }
    return max * up / (float)FX_TOP / up;
}

/* Rows that are missing become zeros. */
static void prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    const int64_t each = wd_block(w), bytes = rows_bytes(w);
    (void)m;
    for (int64_t i = m0; i < m1; i += BLOCK) {
        int8_t *to = (int8_t *)xp + i / BLOCK * bytes;
        float *steps = (float *)(void *)(to + tiles_bytes(w));
        if (m1 - i < BLOCK) memset(to, 0, (size_t)bytes);
        for (int64_t r = 0; r < at_most(m1 - i, BLOCK); r++)
            for (int64_t k = 0, b = 0; k < w->k; k += each, b++)
                steps[b * BLOCK + r] =
                    prep_row(x + (i + r) * ldx + k, at_most(w->k - k, each), to + k * 2 * BLOCK + r * WD_STEP);
    }
}

/* ---- products ---- */

/* What is to be done with the sums of a block of inputs: 16 rows at `to` = (their own values +) products * steps. */
typedef struct finish {
    const float *x_steps, *w_steps;
    float *to;
    int64_t ld;
    __mmask16 add; /* lanes that have values already: all or none */
} finish;

/* Rows r to r + JOINED. */
INLINE void join(const finish *f, const int32_t *products, int64_t r) {
    const vf w_step = vf_load(f->w_steps), high = vf_set1(256);
    const int64_t ld = f->ld;
    const __mmask16 add = f->add;
    const float *x_steps = f->x_steps + r;
    float *to = f->to + r * ld;
    UNROLL for (int i = 0; i < JOINED; i++, to += ld) {
        const int32_t *at = products + (r + i) * VL;
        const vi upper = _mm512_add_epi32(vi_shl(vi_load(at), 8), vi_load(at + WD_TILE));
        const vf v = vf_fma(vf_from_int(upper), high, vf_from_int(vi_load(at + 2 * WD_TILE)));
        const vf scale = vf_mul(w_step, vf_set1(x_steps[i]));
        vf_store(to, vf_fma(v, scale, _mm512_maskz_loadu_ps(add, to)));
    }
}

/* Products of `steps` tiles of inputs, while `before`, unless NULL, is finished: from the second step on, when the sums
 * that were stored last are there. */
static void multiply(int64_t steps, const int8_t *x, const uint32_t *w, const finish *before, int32_t *products) {
    int64_t r = before ? 0 : BLOCK;
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    for (int64_t i = 0; i < steps; i++) {
        TILE_LOAD(4, x + i * 2 * BLOCK * WD_STEP, WD_STEP);
        TILE_LOAD(6, w + i * 2 * WD_TILE, VL * 4);
        TILE_LOAD(5, x + (i * 2 + 1) * BLOCK * WD_STEP, WD_STEP);
        TILE_LOAD(7, w + (i * 2 + 1) * WD_TILE, VL * 4);
        TILE_MULTIPLY_SIGNED(0, 4, 6);
        TILE_MULTIPLY_SIGNED(1, 5, 6);
        TILE_MULTIPLY_BYTES(1, 4, 7);
        TILE_MULTIPLY_BYTES(2, 5, 7);
        if (i && r < BLOCK) {
            join(before, products, r);
            r += JOINED;
        }
    }
    for (; r < BLOCK; r += JOINED) join(before, products, r);
    TILE_STORE(0, products, VL * 4);
    TILE_STORE(1, products + WD_TILE, VL * 4);
    TILE_STORE(2, products + 2 * WD_TILE, VL * 4);
}

/* y[rows, cols] to the edge's buffer, or back. */
static void copy_edge(float *to, int64_t ldt, const float *from, int64_t ldf, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++) vf_store_n(to + r * ldt, vf_load_n(from + r * ldf, cols), cols);
}

/* y[m][n..end) (+)= x times the panels: inputs of blocks b0..b1. */
static void rows_times_panels(const lm_weight *w, const void *xp, int64_t m, int64_t n, int64_t end, int64_t b0,
                              int64_t b1, float *y, int64_t ldy, aw_scratch *s) {
    const int64_t tiles = wd_block(w) / WD_STEP, last = steps_of(w->k);
    finish before, *there = NULL;
    for (int64_t i = 0; i < m; i += BLOCK) {
        const int8_t *x = (const int8_t *)xp + i / BLOCK * rows_bytes(w);
        const float *x_steps = (const float *)(const void *)(x + tiles_bytes(w));
        for (int64_t p = n; p < end; p += VL) {
            const int64_t strip = (p - n) / VL, rows = at_most(m - i, BLOCK), cols = at_most(end - p, VL);
            const bool edge = rows < BLOCK || cols < VL;
            float *to = y + i * ldy + p;
            if (edge && b0) copy_edge(s->edge, VL, to, ldy, rows, cols);
            for (int64_t b = b0; b < b1; b++) {
                const int64_t at = b * tiles, steps = at_most(tiles, last - at);
                multiply(steps, x + at * 2 * BLOCK * WD_STEP, s->panel[strip] + (b - b0) * tiles * 2 * WD_TILE, there,
                         s->products[0]);
                before = (finish){x_steps + b * BLOCK, s->steps[strip][b - b0], edge ? s->edge : to, edge ? VL : ldy,
                                  b ? 0xffff : 0};
                there = &before;
            }
            if (edge) {
                for (int64_t r = 0; r < BLOCK; r += JOINED) join(there, s->products[0], r);
                copy_edge(to, ldy, s->edge, VL, rows, cols);
                there = NULL;
            }
        }
    }
    for (int64_t r = 0; there && r < BLOCK; r += JOINED) join(there, s->products[0], r);
}

INLINE void run(int bits, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, int64_t ldy,
                void *scratch) {
    aw_scratch *s = scratch;
    const int64_t each = wd_block(w), blocks = blocks_of(w), tiles = each / WD_STEP, together = MOST_STEPS / tiles;
    tiles_begin(16);
    for (int64_t n = n0; n < n1; n += OUTPUTS)
        for (int64_t b0 = 0; b0 < blocks; b0 += together) {
            const int64_t end = at_most(n1, n + OUTPUTS), b1 = at_most(blocks, b0 + together);
            for (int64_t p = n; p < end; p += VL)
                for (int64_t b = b0; b < b1; b++) {
                    const bool here = b + 1 < b1; /* the next strip: of these outputs, ... */
                    const int64_t next_k = (here ? b + 1 : b0) * each;
                    wd_ask(bits, w, here ? p : p + VL, n1 - 1, next_k, at_most(w->k - next_k, each));
                    wd_strip(bits, w, p, n1 - 1, b * each, at_most(w->k - b * each, each), &s->words,
                             s->panel[(p - n) / VL] + (b - b0) * tiles * 2 * WD_TILE, s->steps[(p - n) / VL][b - b0]);
                }
            rows_times_panels(w, xp, m, n, end, b0, b1, y, ldy, s);
        }
    tiles_end();
}

#define LM_MATMAT_WORDS(bits)                                                                                     \
    static void run_affine##bits(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, \
                                 int64_t ldy, void *scratch) {                                                    \
        run(bits, w, xp, m, n0, n1, y, ldy, scratch);                                                             \
    }                                                                                                             \
    const lm_linear_impl lm_matmat_affine##bits##_words__amx = {                                                  \
        NR, BLOCK, prep_bytes, prep, scratch_bytes, run_affine##bits, OUTPUTS, FROM_ROWS}

LM_MATMAT_WORDS(2);
LM_MATMAT_WORDS(3);
LM_MATMAT_WORDS(4);
LM_MATMAT_WORDS(5);
LM_MATMAT_WORDS(6);
LM_MATMAT_WORDS(8);
#else
typedef int lm_empty_translation_unit;
#endif
