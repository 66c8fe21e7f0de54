/* SPDX-License-Identifier: MIT
 * linear_matmat__amx.c: MATMAT rows on AMX tiles (tdpbf16ps), in two classes.
 *   BF16: activations and dequantized weights rounded to bfloat16.
 *   F16 (suffix _split): both kept as high + low bfloat16 parts; high*high + low*high + high*low, whose error, about
 *   2^-16 of each product, is below that of float16 inputs. For float16 weights.
 *
 * Activations: blocks of 16 rows, [k/32][16][32] bfloat16: a tile each. Weights: panels of panel_bf16.h, BP_KC inputs
 * of up to PANELS_N * NR outputs in the second-level cache. 2 x 2 tiles of sums: 4 loads for 4 products. Every output
 * is one chain over all inputs, kept in y between passes; so M and the split of N leave no trace in the bits. */
#if defined(__x86_64__)
#include "kernels/x86/panel_bf16.h"
#include "kernels/x86/tiles.h"

#define PANELS_N 16     /* panels dequantized together */
#define N_PASS (4 * NR) /* of a task: few, so that a core that another guest slows down takes fewer of them */
#define TILE_HALVES (BLOCK * 32)

typedef struct amx_scratch {
    _Alignas(64) uint32_t panel[2][PANELS_N][BP_KC / 2 * NR];
    _Alignas(64) float edge[2 * BLOCK * NR]; /* sums of fewer rows or outputs than tiles have */
    bp_words words;
} amx_scratch;

/* ---- activations ---- */

static int64_t steps_of(const lm_weight *w) {
    return (w->k + 31) / 32;
}
/* Halves of one block of rows, one part. */
static size_t block_halves(const lm_weight *w) {
    return (size_t)steps_of(w) * TILE_HALVES;
}
static size_t blocks_of(int64_t m) {
    return (size_t)((m + BLOCK - 1) / BLOCK);
}
static size_t prep_bytes(const lm_weight *w, int64_t m) {
    return block_halves(w) * 2 * blocks_of(m);
}
static size_t prep_bytes_split(const lm_weight *w, int64_t m) {
    return 2 * prep_bytes(w, m);
}
static size_t scratch_bytes(const lm_weight *w, int64_t m) {
    (void)w, (void)m;
    return (sizeof(amx_scratch) + 63) & ~(size_t)63;
}

/* Rows that are missing become zeros: their products are never stored. */
INLINE void prep_block(const float *x, int64_t ldx, int64_t rows, int64_t k, uint16_t *high, uint16_t *low) {
    for (int64_t r = 0; r < BLOCK; r++)
        for (int64_t k0 = 0; k0 < k; k0 += 32) {
            const float *from = x + r * ldx + k0;
            size_t at = (size_t)(k0 / 32) * TILE_HALVES + (size_t)r * 32;
            vf a = vf_zero(), b = vf_zero();
            if (r < rows) {
                a = vf_load_n(from, k - k0);
                if (k - k0 > VL) b = vf_load_n(from + VL, k - k0 - VL);
            }
            vi rounded = to_bf16(a, b);
            vi_store(high + at, rounded);
            if (low) vi_store(low + at, bf16_rest(a, b, rounded));
        }
}

static void prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    (void)m;
    for (int64_t i = m0; i < m1; i += BLOCK)
        prep_block(x + i * ldx, ldx, m1 - i < BLOCK ? m1 - i : BLOCK, w->k,
                   (uint16_t *)xp + block_halves(w) * (size_t)(i / BLOCK), NULL);
}
static void prep_split(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    uint16_t *low = (uint16_t *)xp + block_halves(w) * blocks_of(m);
    for (int64_t i = m0; i < m1; i += BLOCK) {
        size_t at = block_halves(w) * (size_t)(i / BLOCK);
        prep_block(x + i * ldx, ldx, m1 - i < BLOCK ? m1 - i : BLOCK, w->k, (uint16_t *)xp + at, low + at);
    }
}

/* ---- products ---- */

/* Tiles 4, 5: activations; 6, 7: weights; 0..3: sums. `two`: two blocks of rows. */
INLINE void load_rows(const uint16_t *a, size_t next, bool two) {
    TILE_LOAD(4, a, 64);
    if (two) TILE_LOAD(5, a + next, 64);
}
INLINE void load_panel(const uint32_t *b) {
    TILE_LOAD(6, b, NR * 4);
    TILE_LOAD(7, b + VL, NR * 4);
}
INLINE void multiply(bool two) {
    TILE_MULTIPLY(0, 4, 6);
    TILE_MULTIPLY(1, 4, 7);
    if (two) {
        TILE_MULTIPLY(2, 5, 6);
        TILE_MULTIPLY(3, 5, 7);
    }
}

/* Sums to begin with: zeros, or those of the inputs before. */
INLINE void begin(bool two, bool add, const float *c, int64_t ldc) {
    const size_t row = (size_t)ldc * sizeof(float);
    if (!add) {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
        return;
    }
    TILE_LOAD(0, c, row);
    TILE_LOAD(1, c + VL, row);
    if (two) {
        TILE_LOAD(2, c + BLOCK * ldc, row);
        TILE_LOAD(3, c + BLOCK * ldc + VL, row);
    }
}
INLINE void end(bool two, float *c, int64_t ldc) {
    const size_t row = (size_t)ldc * sizeof(float);
    TILE_STORE(0, c, row);
    TILE_STORE(1, c + VL, row);
    if (two) {
        TILE_STORE(2, c + BLOCK * ldc, row);
        TILE_STORE(3, c + BLOCK * ldc + VL, row);
    }
}

/* `steps` x 32 inputs onto the sums. high, low: activations' parts; next: halves to the second block of rows. */
INLINE void inner(bool split, bool two, int64_t steps, const uint16_t *high, const uint16_t *low, size_t next,
                  const uint32_t *panel, const uint32_t *rest) {
    for (int64_t i = 0; i < steps; i++) {
        load_panel(panel + i * BLOCK * NR);
        if (split) {
            load_rows(low + i * TILE_HALVES, next, two);
            multiply(two);
        }
        load_rows(high + i * TILE_HALVES, next, two);
        multiply(two);
        if (split) {
            load_panel(rest + i * BLOCK * NR);
            multiply(two);
        }
    }
}

/* y[rows, cols] to the edge's buffer, or back. */
static void copy_edge(float *to, int64_t ldt, const float *from, int64_t ldf, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c += VL)
            vf_store_n(to + r * ldt + c, vf_load_n(from + r * ldf + c, cols - c), cols - c);
}

static int64_t at_most(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Outputs [n, end) of inputs [k0, k0 + kc) to the panels of `part`; the low halves to those of the other. */
INLINE void unpack(bool split, lm_format format, const lm_weight *w, int64_t n, int64_t end, int64_t n1, int64_t k0,
                   int part, amx_scratch *s) {
    const int64_t kc = at_most(w->k - k0, BP_KC);
    for (int64_t at = n; at < end; at += VL) {
        const size_t to = (size_t)((at - n) / VL % 2) * VL;
        bp_strip(w, format, !split, at, n1 - 1, k0, kc, &s->words, s->panel[part][(at - n) / NR] + to,
                 split ? s->panel[1][(at - n) / NR] + to : NULL);
    }
}

/* Inputs [k0, k0 + kc) of rows i and on, panel p. */
INLINE void block(bool split, bool two, const lm_weight *w, const uint16_t *high, const uint16_t *low, int64_t i,
                  int64_t k0, int64_t kc, int64_t p, const amx_scratch *s, bool add, float *c, int64_t ldc) {
    const size_t next = block_halves(w), from = next * (size_t)(i / BLOCK);
    begin(two, add, c, ldc);
    for (int part = 0; part * BP_KC < kc; part++) {
        const int64_t k = k0 + part * BP_KC, steps = (at_most(kc - part * BP_KC, BP_KC) + 31) / 32;
        const size_t at = from + (size_t)(k / 32) * TILE_HALVES;
        inner(split, two, steps, high + at, low + at, next, s->panel[part][p], s->panel[1][p]);
    }
    end(two, c, ldc);
}

/* Activations pass once per PANELS_N panels and, unless split takes the room, two blocks of inputs: where they come
 * from memory, they and y are what the tiles wait for. */
INLINE void run(bool split, lm_format format, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1,
                float *y, int64_t ldy, void *scratch) {
    amx_scratch *s = scratch;
    const uint16_t *high = xp, *low = high + block_halves(w) * blocks_of(m);
    const int64_t pass = split ? BP_KC : 2 * BP_KC;
    tiles_begin(16);
    for (int64_t n = n0; n < n1; n += PANELS_N * NR)
        for (int64_t k0 = 0; k0 < w->k; k0 += pass) {
            const int64_t last = at_most(n1, n + PANELS_N * NR), kc = at_most(w->k - k0, pass);
            for (int part = 0; part * BP_KC < kc; part++)
                unpack(split, format, w, n, last, n1, k0 + part * BP_KC, part, s);
            for (int64_t i = 0; i < m; i += 2 * BLOCK)
                for (int64_t p = n; p < last; p += NR) {
                    const int64_t rows = at_most(m - i, 2 * BLOCK), cols = at_most(last - p, NR);
                    const bool edge = rows % BLOCK || cols<NR, add = k0> 0;
                    float *to = y + i * ldy + p, *c = edge ? s->edge : to;
                    const int64_t ldc = edge ? NR : ldy;
                    if (edge && add) copy_edge(c, NR, to, ldy, rows, cols);
                    if (rows > BLOCK)
                        block(split, true, w, high, low, i, k0, kc, (p - n) / NR, s, add, c, ldc);
                    else
                        block(split, false, w, high, low, i, k0, kc, (p - n) / NR, s, add, c, ldc);
                    if (edge) copy_edge(to, ldy, c, NR, rows, cols);
                }
        }
    tiles_end();
}

#define LM_MATMAT_AMX(FORMAT, name, suffix, split)                                                                  \
    static void run_##name##suffix(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, \
                                   int64_t ldy, void *scratch) {                                                    \
        run(split, LM_FORMAT_##FORMAT, w, xp, m, n0, n1, y, ldy, scratch);                                          \
    }                                                                                                               \
    const lm_linear_impl lm_matmat_##name##suffix##__amx = {                                                        \
        NR, BLOCK, prep_bytes##suffix, prep##suffix, scratch_bytes, run_##name##suffix, N_PASS, 0}

LM_MATMAT_AMX(BF16, bf16, , false);
LM_MATMAT_AMX(F16, f16, _split, true);
LM_MATMAT_AMX(AFFINE2, affine2, , false);
LM_MATMAT_AMX(AFFINE3, affine3, , false);
LM_MATMAT_AMX(AFFINE4, affine4, , false);
LM_MATMAT_AMX(AFFINE5, affine5, , false);
LM_MATMAT_AMX(AFFINE6, affine6, , false);
LM_MATMAT_AMX(AFFINE8, affine8, , false);
LM_MATMAT_AMX(MXFP4, mxfp4, , false);
LM_MATMAT_AMX(NVFP4, nvfp4, , false);
LM_MATMAT_AMX(MXFP8, mxfp8, , false);
#else
typedef int lm_empty_translation_unit;
#endif
