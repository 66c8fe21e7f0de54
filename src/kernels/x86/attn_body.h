/* SPDX-License-Identifier: MIT
 *
 * attn_body.h: attention over one block, written once for every vector width. attn__avx2.c and attn__avx512.c define
 * the vector words (lanes_*.h), NV_WIDE_LOG2 and NV_TALL_LOG2, and include this.
 *
 * Scores and weighted values are the same product C[r, n] = sum_k A[r, k] * B[k, n]: A = q over d with B = kt, then
 * A = e over positions with B = v. A tile keeps mr rows times nv vectors of C in registers and adds one k after
 * another, each by one fused multiply-add. An element of C is therefore the same chain of roundings in every tile
 * shape, and tiles may be chosen by R, by limits and by the end of a block without changing a bit.
 *
 * Few rows (decode): B is read once in its own type and widened in registers. Many rows (prefill): the block is widened
 * once into panels of float32 in scratch. Values of positions past a row's limit never meet that row: rows of a tile
 * share the positions that all of them see; what a row sees beyond that is added to it alone. */
#ifndef LM_KERNELS_X86_ATTN_BODY_H
#define LM_KERNELS_X86_ATTN_BODY_H
#include "kernels/rows.h"
#include "kernels/x86/attn_merge.h"
#include <stdbool.h>

#define MR_MAX 6                         /* rows of a tile */
#define MR_WIDE 3                        /* up to here tiles are wide: 1 << NV_WIDE_LOG2 vectors */
#define PANEL (VF_LANES << NV_TALL_LOG2) /* columns of a widened panel: the width of a tall tile */
#define MANY_ROWS 16                     /* from here on widening the block once is cheaper */
#define ROW_BLOCK (8 * MR_MAX)           /* rows whose scores are held at once: 48 KiB, within a second-level cache */
#define LINE 64                          /* bytes of a cache line */
#define AHEAD 4096                       /* bytes from where a stream is read to where it is fetched */
_Static_assert(LM_KV_STRIP % PANEL == 0, "panels of keys lie within a strip");
#define INLINE static inline __attribute__((always_inline))
/* Tiles must be unrolled to live in registers. Sanitizers' checks in unrolled tiles take compilers minutes: not there.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNROLL _Pragma("GCC unroll 1")
#elif defined(__clang__)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer) || \
    __has_feature(undefined_behavior_sanitizer)
#define UNROLL _Pragma("clang loop unroll(disable)")
#else
#define UNROLL _Pragma("clang loop unroll(full)")
#endif
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

typedef enum elem { F32, F16, BF16 } elem;
INLINE size_t elem_bytes(elem type) {
    return type == F32 ? 4 : 2;
}

/* n elements, VF_LANES of them or fewer. */
INLINE vf load_elems(elem type, const char *p, int32_t n) {
    if (type == F32)
        return n == VF_LANES ? vf_load((const float *)(const void *)p) : vf_load_n((const float *)(const void *)p, n);
    vh h = n == VF_LANES ? vf_load_u16(p) : vf_load_u16_n(p, n);
    return type == F16 ? vf_from_f16(h) : vf_from_bf16(h);
}

/* Bytes that will be wanted soon, fetched into the cache while a product runs: `bytes` at each k, from `at` on, and
 * from k = turn on from `then` on. */
typedef struct fetch {
    const char *at, *then; /* NULL: nothing */
    int32_t bytes, turn;
} fetch;

typedef struct product {
    const float *a; /* [mr, k] */
    const char *b;  /* [k, n] elements of the tile's type */
    float *c;       /* [mr, n] */
    int64_t lda, ldb, ldc;
    int32_t k;
    bool resume;        /* go on from what c holds */
    const fetch *ahead; /* or NULL */
} product;
typedef void (*tile_fn)(const product *p, int32_t column, int32_t lanes);

INLINE void tile(const product *p, int32_t column, int32_t lanes, elem type, int mr, int nv) {
    const size_t size = elem_bytes(type), ldb = (size_t)p->ldb * size;
    const char *b = p->b + (size_t)column * size;
    const float *a = p->a;
    const int64_t lda = p->lda;
    float *c = p->c + column;
    vf sum[MR_MAX][8];
    UNROLL for (int r = 0; r < mr; r++) {
        UNROLL for (int j = 0; j < nv; j++) {
            const float *from = c + r * p->ldc + j * VF_LANES;
            sum[r][j] = !p->resume ? vf_zero() : lanes == VF_LANES ? vf_load(from) : vf_load_n(from, lanes);
        }
    }
    fetch ahead = {.turn = -1};
    if (p->ahead && column == 0) ahead = *p->ahead; /* a product's first tile fetches for all */
    for (int32_t k = 0; k < p->k; k++, b += ldb, a++) {
        if (k == ahead.turn) ahead.at = ahead.then;
        if (ahead.at) {
            for (int32_t i = 0; i < ahead.bytes; i += LINE) __builtin_prefetch(ahead.at + i, 0, 3);
            ahead.at += ahead.bytes;
        }
        if (mr <= MR_WIDE) { /* few rows: hold their factors, let the columns pass */
            vf factor[MR_WIDE];
            UNROLL for (int r = 0; r < mr; r++) factor[r] = vf_set1(a[r * lda]);
            UNROLL for (int j = 0; j < nv; j++) {
                vf x = load_elems(type, b + (size_t)j * VF_LANES * size, lanes);
                UNROLL for (int r = 0; r < mr; r++) sum[r][j] = vf_fma(factor[r], x, sum[r][j]);
            }
        } else {
            vf x[4];
            UNROLL for (int j = 0; j < nv; j++) x[j] = load_elems(type, b + (size_t)j * VF_LANES * size, lanes);
            UNROLL for (int r = 0; r < mr; r++) {
                vf factor = vf_set1(a[r * lda]);
                UNROLL for (int j = 0; j < nv; j++) sum[r][j] = vf_fma(factor, x[j], sum[r][j]);
            }
        }
    }
    UNROLL for (int r = 0; r < mr; r++) {
        UNROLL for (int j = 0; j < nv; j++) {
            float *to = c + r * p->ldc + j * VF_LANES;
            if (lanes == VF_LANES)
                vf_store(to, sum[r][j]);
            else
                vf_store_n(to, lanes, sum[r][j]);
        }
    }
}

/* Tiles of every shape: [rows - 1][0] takes the last lanes of a row, [rows - 1][1 + i] takes 2^i whole vectors. */
#define WHOLE(type, mr, nv)                                                                  \
    static void tile_##type##_##mr##x##nv(const product *p, int32_t column, int32_t lanes) { \
        (void)lanes;                                                                         \
        tile(p, column, VF_LANES, type, mr, nv);                                             \
    }
#define LAST(type, mr)                                                                       \
    static void tile_##type##_##mr##_last(const product *p, int32_t column, int32_t lanes) { \
        tile(p, column, lanes, type, mr, 1);                                                 \
    }
#define SHAPES_2(type, mr) LAST(type, mr) WHOLE(type, mr, 1) WHOLE(type, mr, 2)
#define NAMES_2(type, mr) tile_##type##_##mr##_last, tile_##type##_##mr##x1, tile_##type##_##mr##x2
#define SHAPES_4(type, mr) SHAPES_2(type, mr) WHOLE(type, mr, 4)
#define NAMES_4(type, mr) NAMES_2(type, mr), tile_##type##_##mr##x4
#define SHAPES_8(type, mr) SHAPES_4(type, mr) WHOLE(type, mr, 8)
#define NAMES_8(type, mr) NAMES_4(type, mr), tile_##type##_##mr##x8
#if NV_WIDE_LOG2 == 3 && NV_TALL_LOG2 == 2
#define WIDE_SHAPES SHAPES_8
#define WIDE_NAMES NAMES_8
#define TALL_SHAPES SHAPES_4
#define TALL_NAMES NAMES_4
#elif NV_WIDE_LOG2 == 2 && NV_TALL_LOG2 == 1
#define WIDE_SHAPES SHAPES_4
#define WIDE_NAMES NAMES_4
#define TALL_SHAPES SHAPES_2
#define TALL_NAMES NAMES_2
#endif
typedef tile_fn tile_set[MR_MAX][2 + NV_WIDE_LOG2];
#define TILES(type)                                                                                            \
    WIDE_SHAPES(type, 1)                                                                                       \
    WIDE_SHAPES(type, 2)                                                                                       \
    WIDE_SHAPES(type, 3)                                                                                       \
    TALL_SHAPES(type, 4)                                                                                       \
    TALL_SHAPES(type, 5)                                                                                       \
    TALL_SHAPES(type, 6)                                                                                       \
    static const tile_set tiles_##type = {{WIDE_NAMES(type, 1)}, {WIDE_NAMES(type, 2)}, {WIDE_NAMES(type, 3)}, \
                                          {TALL_NAMES(type, 4)}, {TALL_NAMES(type, 5)}, {TALL_NAMES(type, 6)}};
TILES(F32)
TILES(F16)
TILES(BF16)

/* C[mr, n] for any n: the widest tiles first. */
static void multiply(const tile_set tiles, int mr, const product *p, int32_t n) {
    int32_t j = 0;
    for (int level = mr <= MR_WIDE ? NV_WIDE_LOG2 : NV_TALL_LOG2; level >= 0; level--)
        for (; n - j >= VF_LANES << level; j += VF_LANES << level) tiles[mr - 1][1 + level](p, j, VF_LANES);
    if (j < n) tiles[mr - 1][0](p, j, n - j);
}

/* Rows [first, first + count) of the call, which a tile takes together. */
typedef struct group {
    int32_t first, count, least, most; /* least and most limit among them */
} group;

static group next_group(const lm_attn_args *a, int32_t first, int32_t end) {
    int32_t left = end - first, parts = (left + MR_MAX - 1) / MR_MAX; /* 8 rows are 4 and 4, not 6 and 2 */
    group g = {first, (left + parts - 1) / parts, LM_KV_BLOCK, 0};
    for (int32_t r = first; r < first + g.count; r++) {
        if (a->limit[r] < g.least) g.least = a->limit[r];
        if (a->limit[r] > g.most) g.most = a->limit[r];
    }
    return g;
}

/* s[0..n) becomes exp(s - max); lane i of the sum takes positions i, i + VF_LANES, ... in order. */
static void softmax(float *s, int32_t n, float *max_out, float *sum_out) {
    const vf lowest = vf_set1(-__builtin_inff());
    const int32_t whole = n - n % VF_LANES, rest = n - whole;
    vf max = lowest, sum = vf_zero();
    for (int32_t p = 0; p < whole; p += VF_LANES) max = vf_max(vf_load(s + p), max);
    if (rest) max = vf_max(vf_keep(vf_load_n(s + whole, rest), rest, lowest), max);
    const float largest = vf_largest(max);
    const vf shift = vf_set1(largest);
    for (int32_t p = 0; p < whole; p += VF_LANES) {
        vf e = vf_exp(vf_sub(vf_load(s + p), shift));
        vf_store(s + p, e);
        sum = vf_add(sum, e);
    }
    if (rest) {
        vf e = vf_keep(vf_exp(vf_sub(vf_load_n(s + whole, rest), shift)), rest, vf_zero());
        vf_store_n(s + whole, rest, e);
        sum = vf_add(sum, e);
    }
    *max_out = largest;
    *sum_out = vf_sum(sum);
}

/* Columns [column, column + n) of acc for one group: the positions that all rows see together, then each row's own. */
static void weigh_values(const tile_set tiles, const lm_attn_args *a, const group *g, const float *e, const char *v,
                         int64_t ldv, size_t row_bytes, int32_t column, int32_t n, const fetch *ahead) {
    product p = {.a = e,
                 .b = v,
                 .c = a->acc + (int64_t)g->first * a->d + column,
                 .lda = LM_KV_BLOCK,
                 .ldb = ldv,
                 .ldc = a->d,
                 .k = g->least,
                 .ahead = ahead};
    multiply(tiles, g->count, &p, n);
    p.ahead = NULL;
    p.resume = true;
    for (int32_t r = 0; r < g->count; r++) {
        p.k = a->limit[g->first + r] - g->least;
        if (p.k <= 0) continue;
        p.a = e + (int64_t)r * LM_KV_BLOCK + g->least;
        p.b = v + (size_t)g->least * row_bytes;
        p.c = a->acc + (int64_t)(g->first + r) * a->d + column;
        multiply(tiles, 1, &p, n);
    }
}

INLINE int32_t min32(int32_t a, int32_t b) {
    return a < b ? a : b;
}
INLINE int32_t round_up(int32_t n, int32_t step) {
    return (n + step - 1) / step * step;
}

static int32_t largest_limit(const lm_attn_args *a) {
    int32_t most = 0;
    for (int32_t r = 0; r < a->r; r++) most = a->limit[r] > most ? a->limit[r] : most;
    return most;
}

/* Keys in strips and the values behind them are one stream, read once: each product fetches AHEAD bytes ahead of
 * itself, at its end the first bytes of what comes after it. k rows of `bytes` bytes from b on, then `then`. */
INLINE fetch stream(const void *b, int32_t bytes, int32_t k, const void *then) {
    const int32_t rows = AHEAD / bytes;
    return (fetch){(const char *)b + (size_t)rows * (size_t)bytes, then, bytes, k > rows ? k - rows : 0};
}

/* Scores of all rows against the keys of one strip. */
INLINE void strip_scores(const lm_attn_args *a, elem type, const tile_set tiles, int32_t strip, int32_t most,
                         float *s) {
    const size_t size = elem_bytes(type);
    const int32_t wide = VF_LANES << (a->r <= MR_WIDE ? NV_WIDE_LOG2 : NV_TALL_LOG2), step = min32(wide, LM_KV_STRIP);
    const char *keys = (const char *)a->kt + lm_kv_key_at(a->d, 0, strip) * size;
    const int32_t bytes = LM_KV_STRIP * (int32_t)size;
    const bool last = strip + LM_KV_STRIP >= most;
    const fetch ahead = stream(keys, bytes, a->d, last ? a->v : keys + (size_t)bytes * (size_t)a->d);
    for (int32_t pos = strip; pos < min32(most, strip + LM_KV_STRIP); pos += step)
        for (int32_t r = 0; r < a->r;) {
            group g = next_group(a, r, a->r);
            product p = {.a = a->q + r * a->ldq,
                         .b = keys + (size_t)(pos - strip) * size,
                         .c = s + (int64_t)r * LM_KV_BLOCK + pos,
                         .lda = a->ldq,
                         .ldb = LM_KV_STRIP,
                         .ldc = LM_KV_BLOCK,
                         .k = a->d};
            if (r == 0 && pos == strip) p.ahead = &ahead;
            if (g.most > pos) multiply(tiles, g.count, &p, min32(g.most - pos, step));
            r += g.count;
        }
}

static void few_rows(const lm_attn_args *a, elem type, const tile_set tiles, float *s) {
    const size_t size = elem_bytes(type);
    const int32_t most = largest_limit(a);
    for (int32_t strip = 0; strip < most; strip += LM_KV_STRIP) strip_scores(a, type, tiles, strip, most, s);
    for (int32_t r = 0; r < a->r; r++) softmax(s + (int64_t)r * LM_KV_BLOCK, a->limit[r], &a->m[r], &a->l[r]);
    for (int32_t r = 0; r < a->r;) {
        group g = next_group(a, r, a->r);
        const fetch ahead = stream(a->v, a->d * (int32_t)size, g.least, a->next);
        weigh_values(tiles, a, &g, s + (int64_t)r * LM_KV_BLOCK, (const char *)a->v, a->d, (size_t)a->d * size, 0, a->d,
                     r == 0 ? &ahead : NULL);
        r += g.count;
    }
}

/* b[k, n] (ldb elements apart) to float32 panels of PANEL columns: panel j is [k, PANEL] at to + j*stride. Columns past
 * n are zero up to a whole vector. */
INLINE void widen(elem type, const char *b, int32_t k, int32_t n, int64_t ldb, float *to, int64_t stride) {
    const size_t size = elem_bytes(type);
    for (int32_t j = 0; j < n; j += PANEL, to += stride)
        for (int32_t i = 0; i < k; i++) {
            const char *from = b + ((size_t)i * (size_t)ldb + (size_t)j) * size;
            for (int32_t c = 0; c < min32(PANEL, n - j); c += VF_LANES) {
                const char *at = from + (size_t)c * size;
                const int32_t left = n - j - c;
                vf_store(to + (int64_t)i * PANEL + c,
                         left >= VF_LANES ? load_elems(type, at, VF_LANES) : load_elems(type, at, left));
            }
        }
}

/* Rows [first, end), at most ROW_BLOCK of them, against the widened panels k and v. */
static void row_block(const lm_attn_args *a, int32_t first, int32_t end, const float *k, const float *v, float *s) {
    group groups[ROW_BLOCK];
    int32_t count = 0;
    for (int32_t r = first; r < end; r += groups[count++].count) groups[count] = next_group(a, r, end);
    for (int32_t pos = 0; pos < LM_KV_BLOCK; pos += PANEL, k += (int64_t)a->d * PANEL)
        for (const group *g = groups; g < groups + count; g++) {
            if (g->most <= pos) continue;
            product p = {.a = a->q + g->first * a->ldq,
                         .b = (const char *)k,
                         .c = s + (int64_t)(g->first - first) * LM_KV_BLOCK + pos,
                         .lda = a->ldq,
                         .ldb = PANEL,
                         .ldc = LM_KV_BLOCK,
                         .k = a->d};
            multiply(tiles_F32, g->count, &p, round_up(min32(g->most - pos, PANEL), VF_LANES));
        }
    for (int32_t r = first; r < end; r++)
        softmax(s + (int64_t)(r - first) * LM_KV_BLOCK, a->limit[r], &a->m[r], &a->l[r]);
    const fetch next = {a->next, NULL, LINE, -1}; /* a line of the next keys a position */
    for (int32_t d = 0; d < a->d; d += PANEL, v += (int64_t)LM_KV_BLOCK * PANEL)
        for (const group *g = groups; g < groups + count; g++)
            weigh_values(tiles_F32, a, g, s + (int64_t)(g->first - first) * LM_KV_BLOCK, (const char *)v, PANEL,
                         PANEL * sizeof(float), d, min32(PANEL, a->d - d), d == 0 && g->first == 0 ? &next : NULL);
}

INLINE void many_rows(const lm_attn_args *a, elem type, float *scratch) {
    const int32_t most = largest_limit(a);
    float *s = scratch, *k = s + ROW_BLOCK * LM_KV_BLOCK, *v = k + (int64_t)a->d * LM_KV_BLOCK;
    for (int32_t strip = 0; strip < most; strip += LM_KV_STRIP)
        widen(type, (const char *)a->kt + lm_kv_key_at(a->d, 0, strip) * elem_bytes(type), a->d,
              min32(most - strip, LM_KV_STRIP), LM_KV_STRIP, k + (int64_t)strip * a->d, (int64_t)a->d * PANEL);
    widen(type, (const char *)a->v, most, a->d, a->d, v, (int64_t)LM_KV_BLOCK * PANEL);
    for (int32_t r = 0; r < a->r; r += ROW_BLOCK) row_block(a, r, min32(r + ROW_BLOCK, a->r), k, v, s);
}

static size_t scratch_bytes(int32_t d, int32_t r) {
    size_t floats = (size_t)min32(r, ROW_BLOCK) * LM_KV_BLOCK;
    if (r >= MANY_ROWS) floats = ((size_t)ROW_BLOCK + (size_t)d + (size_t)round_up(d, PANEL)) * LM_KV_BLOCK;
    return floats * sizeof(float);
}

#define DEFINE_ATTN(type, symbol)                                    \
    static void chunk_##type(const lm_attn_args *a, void *scratch) { \
        if (a->r >= MANY_ROWS)                                       \
            many_rows(a, type, scratch);                             \
        else                                                         \
            few_rows(a, type, tiles_##type, scratch);                \
    }                                                                \
    const lm_attn_impl symbol = {scratch_bytes, chunk_##type, merge, 0};
#endif
