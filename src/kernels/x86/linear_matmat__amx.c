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
#define AHEAD 2 /* steps of 32 inputs by which operands are asked for */

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

/* Rows that are missing become zeros: their products are never stored. Tile by tile: lines are written in order. */
INLINE void prep_block(const float *x, int64_t ldx, int64_t rows, int64_t k, uint16_t *high, uint16_t *low) {
    for (int64_t k0 = 0; k0 < k; k0 += 32)
        for (int64_t r = 0; r < BLOCK; r++) {
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
/* The products of what is loaded, and between them the tiles at panel (two) and rows (with `two` rows + next as well),
 * unless NULL, asked for. */
INLINE void multiply(bool two, const uint32_t *panel, const uint16_t *rows, size_t next) {
    TILE_MULTIPLY(0, 4, 6);
    if (panel) TILE_ASK(panel);
    TILE_MULTIPLY(1, 4, 7);
    if (panel) TILE_ASK(panel + BLOCK * VL);
    if (two) TILE_MULTIPLY(2, 5, 6);
    if (rows) TILE_ASK(rows);
    if (two) TILE_MULTIPLY(3, 5, 7);
    if (rows && two) TILE_ASK(rows + next);
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

/* What a step reads: a tile of activations and two of a panel, in parts. */
typedef struct operands {
    const uint16_t *high, *low;
    const uint32_t *panel, *rest;
} operands;

/* `steps` steps on from o. */
INLINE operands step_on(operands o, int64_t steps) {
    return (operands){o.high + steps * TILE_HALVES, o.low + steps * TILE_HALVES, o.panel + steps * BLOCK * NR,
                      o.rest + steps * BLOCK * NR};
}

/* `steps` x 32 inputs onto the sums; next: halves to the second block of rows; after: what follows o's last step. What
 * comes AHEAD steps later is asked for: loads of tiles alone don't run far enough ahead of products to hide the
 * second-level cache on a core whose other thread is busy. On a quiet one it costs a twentieth of the products. */
INLINE void inner(bool split, bool two, int64_t steps, operands o, size_t next, operands after) {
    for (int64_t i = 0; i < steps; i++, o = step_on(o, 1)) {
        const int64_t beyond = i + AHEAD - steps;
        const operands ahead = beyond < 0 ? step_on(o, AHEAD) : step_on(after, beyond);
        load_panel(o.panel);
        if (split) {
            load_rows(o.low, next, two);
            multiply(two, NULL, ahead.low, next);
        }
        load_rows(o.high, next, two);
        multiply(two, ahead.panel, ahead.high, next);
        if (split) {
            load_panel(o.rest);
            multiply(two, ahead.rest, NULL, 0);
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

/* Asks for the codes of VL outputs from n on, inputs [k0, k0 + kc): they come from memory, in short runs. */
INLINE void ask_codes(const lm_weight *w, lm_format format, int64_t n, int64_t k0, int64_t kc) {
    const int bits = lm_unpack_bits(format);
    const char *from = (const char *)w->data + (size_t)n * w->row_bytes + (size_t)(k0 * bits / 8);
    for (int i = 0; i < VL; i++, from += w->row_bytes)
        for (int64_t at = 0; at < kc * bits / 8; at += 64) __builtin_prefetch(from + at, 0, 2);
}

/* Outputs [n, end) of inputs [k0, k0 + kc) to the panels of `part`; the low halves to those of the other. */
INLINE void unpack(bool split, lm_format format, const lm_weight *w, int64_t n, int64_t end, int64_t n1, int64_t k0,
                   int part, amx_scratch *s) {
    const int64_t kc = at_most(w->k - k0, BP_KC);
    for (int64_t at = n; at < end; at += VL) {
        const size_t to = (size_t)((at - n) / VL % 2) * VL;
        if (at + 2 * VL <= end) ask_codes(w, format, at + VL, k0, kc);
        bp_strip(w, format, !split, at, n1 - 1, k0, kc, &s->words, s->panel[part][(at - n) / NR] + to,
                 split ? s->panel[1][(at - n) / NR] + to : NULL);
    }
}

/* Rows i and on, inputs k0 and on, panel p of `part`. low is read with split alone. */
INLINE operands operands_at(bool split, const lm_weight *w, const uint16_t *xp, int64_t m, int64_t i, int64_t k0,
                            int part, int64_t p, const amx_scratch *s) {
    const uint16_t *high = xp + block_halves(w) * (size_t)(i / BLOCK) + (size_t)(k0 / 32) * TILE_HALVES;
    const size_t low = split ? block_halves(w) * blocks_of(m) : 0;
    return (operands){high, high + low, s->panel[part][p], s->panel[1][p]};
}

/* Inputs [k0, k0 + kc) of rows i and on, panel p; `after`: the block that follows. */
INLINE void block(bool split, bool two, const lm_weight *w, const uint16_t *xp, int64_t m, int64_t i, int64_t k0,
                  int64_t kc, int64_t p, const amx_scratch *s, bool add, float *c, int64_t ldc, operands after) {
    begin(two, add, c, ldc);
    operands o = operands_at(split, w, xp, m, i, k0, 0, p, s);
    for (int part = 0; part * BP_KC < kc; part++) {
        const int64_t left = kc - part * BP_KC;
        const operands then = left > BP_KC ? operands_at(split, w, xp, m, i, k0 + (part + 1) * BP_KC, 1, p, s) : after;
        inner(split, two, (at_most(left, BP_KC) + 31) / 32, o, block_halves(w), then);
        o = then;
    }
    end(two, c, ldc);
}

/* Activations pass once per PANELS_N panels and, unless split takes the room, two blocks of inputs: where they come
 * from memory, they and y are what the tiles wait for. */
INLINE void run(bool split, lm_format format, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1,
                float *y, int64_t ldy, void *scratch) {
    amx_scratch *s = scratch;
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
                    const bool more = p + NR < last; /* panels of these rows; else the next ones, if any */
                    const operands after = operands_at(split, w, xp, m, more || i + 2 * BLOCK >= m ? i : i + 2 * BLOCK,
                                                       k0, 0, more ? (p - n) / NR + 1 : 0, s);
                    const bool edge = rows % BLOCK || cols<NR, add = k0> 0;
                    float *to = y + i * ldy + p, *c = edge ? s->edge : to;
                    const int64_t ldc = edge ? NR : ldy;
                    if (edge && add) copy_edge(c, NR, to, ldy, rows, cols);
                    if (rows > BLOCK)
                        block(split, true, w, xp, m, i, k0, kc, (p - n) / NR, s, add, c, ldc, after);
                    else
                        block(split, false, w, xp, m, i, k0, kc, (p - n) / NR, s, add, c, ldc, after);
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
