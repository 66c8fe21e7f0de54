/* SPDX-License-Identifier: MIT
 * attention.c: rotation, storing keys and values, and attention over block lists.
 *
 * Every row's sum over positions runs in chunks of LM_KV_BLOCK positions, each computed by the kernel on its own and
 * merged in order of position. How the work is cut among threads never changes that order. */
#include "backend/cpu/cpu.h"
#include "kernels/kvq.h"
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define TILE_ROWS 96 /* query rows of a tile unless the kernel wishes more: widening a block for them costs little */
#define FEW_ROWS 15  /* up to here the float32 rows, which read a block as it is, are faster than any that pack it */

/* ---------------------------------------------------------------- queries */

typedef struct q_job {
    cpu_backend *c;
    const lm_attn_shape *s;
    float *q;
    int64_t ldq, m, rows;
    const float *norm, *cos, *sin;
} q_job;

static void rotate_heads(const cpu_backend *c, const lm_attn_shape *s, float *x, int32_t heads, const float *norm,
                         const float *cos, const float *sin) {
    for (int32_t h = 0; h < heads; h++) {
        float *p = x + (int64_t)h * s->d;
        if (norm) c->row->rms_norm(p, norm, s->norm_eps, s->d, p);
        c->row->rope(p, cos, sin, s->rope_dims / 2);
    }
}

static void run_q(void *context, int64_t task, int worker) {
    q_job *j = context;
    (void)worker;
    int64_t half = j->s->rope_dims / 2;
    for (int64_t i = task * j->rows; i < (task + 1) * j->rows && i < j->m; i++)
        rotate_heads(j->c, j->s, j->q + i * j->ldq, j->s->heads, j->norm, j->cos + i * half, j->sin + i * half);
}

lm_status cpu_q_norm_rope(lm_backend *b, const lm_attn_shape *s, float *q, int64_t ldq, int64_t m, const float *q_norm,
                          const float *cos, const float *sin, lm_error *err) {
    (void)err;
    q_job j = {cpu_of(b), s, q, ldq, m, 16, q_norm, cos, sin};
    lm_pool_run(j.c->pool, (m + j.rows - 1) / j.rows, run_q, &j);
    return LM_OK;
}

/* ---------------------------------------------------------------- keys and values */

lm_format cpu_kv_format(lm_dtype dtype) {
    return dtype == LM_DTYPE_F16 ? LM_FORMAT_F16 : dtype == LM_DTYPE_BF16 ? LM_FORMAT_BF16 : LM_FORMAT_F32;
}

static size_t head_part(const lm_attn_shape *s, lm_dtype dtype) {
    return (size_t)s->d * LM_KV_BLOCK * lm_dtype_bytes(dtype);
}
/* A head's keys inside a layer's part of a block; its values follow. */
static char *head_keys(const lm_attn_shape *s, const lm_attn_segment *g, int64_t pos, int32_t head) {
    const size_t bytes = g->quant.bits ? lm_kvq_head_bytes(g->quant, s->d, g->kv_dtype) : 2 * head_part(s, g->kv_dtype);
    return (char *)g->blocks[pos / LM_KV_BLOCK] + g->offset + bytes * (size_t)head;
}

typedef struct kv_job {
    cpu_backend *c;
    const lm_attn_shape *s;
    float *k;
    const float *v;
    int64_t ldkv;
    const lm_attn_segment *segments;
    int n_segments;
    const float *norm, *cos, *sin;
} kv_job;

/* Rows of one segment and head, whose keys are rotated already, quantized in runs that stay within a block. */
static void store_quantized(const kv_job *j, const lm_attn_segment *g, int32_t h, void *scratch) {
    const lm_attn_shape *s = j->s;
    for (int64_t i = 0, n; i < g->n; i += n) {
        const int32_t at = (int32_t)(g->pos[i] % LM_KV_BLOCK);
        const int64_t from = (g->row + i) * j->ldkv + (int64_t)h * s->d;
        for (n = 1; i + n < g->n && n < LM_KVQ_ROWS && at + n < LM_KV_BLOCK && g->pos[i + n] == g->pos[i] + n;) n++;
        lm_kvq_store(g->quant, g->kv_dtype, head_keys(s, g, g->pos[i], h), j->k + from, j->v + from, j->ldkv, s->d, at,
                     (int32_t)n, scratch);
    }
}

/* A task is one kv head of one segment: threads then never write into one another's cache lines. */
static void run_kv(void *context, int64_t task, int worker) {
    kv_job *j = context;
    const lm_attn_shape *s = j->s;
    const lm_attn_segment *g = &j->segments[task / s->kv_heads];
    int32_t h = (int32_t)(task % s->kv_heads);
    int64_t half = s->rope_dims / 2;
    size_t part = head_part(s, g->kv_dtype);
    const lm_kv_impl *kv = j->c->kv[cpu_kv_format(g->kv_dtype)];
    for (int64_t i = 0; i < g->n; i++) {
        int64_t row = g->row + i;
        float *key = j->k + row * j->ldkv + (int64_t)h * s->d;
        const float *value = j->v + row * j->ldkv + (int64_t)h * s->d;
        rotate_heads(j->c, s, key, 1, j->norm, j->cos + row * half, j->sin + row * half);
        if (g->quant.bits) continue;
        char *kt = head_keys(s, g, g->pos[i], h);
        kv->store(kt, kt + part, key, value, s->d, (int32_t)(g->pos[i] % LM_KV_BLOCK));
    }
    if (g->quant.bits) store_quantized(j, g, h, cpu_worker_scratch(j->c, worker));
}

lm_status cpu_kv_store(lm_backend *b, const lm_attn_shape *s, float *k, const float *v, int64_t ldkv,
                       const lm_attn_segment *segments, int n_segments, const float *k_norm, const float *cos,
                       const float *sin, lm_error *err) {
    kv_job j = {cpu_of(b), s, k, v, ldkv, segments, n_segments, k_norm, cos, sin};
    int64_t rows = 0;
    bool quantized = false;
    for (int i = 0; i < n_segments; i++) rows += segments[i].n, quantized = quantized || segments[i].quant.bits;
    if (quantized) LM_TRY(cpu_reserve_worker(j.c, cpu_round64(lm_kvq_scratch_bytes(s->d)), err));
    int64_t tasks = (int64_t)n_segments * s->kv_heads;
    if (rows * s->d * s->kv_heads < 4096) { /* a few rows: less work than waking a thread */
        for (int64_t t = 0; t < tasks; t++) run_kv(&j, t, 0);
        return LM_OK;
    }
    lm_pool_run(j.c->pool, tasks, run_kv, &j);
    return LM_OK;
}

/* ---------------------------------------------------------------- attention */

/* A tile: some rows of one segment for one kv head, all its query heads: R = rows * group query rows. */
typedef struct attn_tile {
    const lm_attn_segment *g;
    int64_t i0, rows; /* rows [i0, i0+rows) of the segment */
    int32_t head;
    int64_t chunks; /* 1 + last position / LM_KV_BLOCK */
} attn_tile;

/* A tile whose chunks are computed apart, to be merged by whoever finishes the last one. */
typedef struct attn_split {
    attn_tile tile;
    int64_t first; /* its first task, and partial result */
    _Atomic int64_t left;
} attn_split;

typedef struct attn_job {
    cpu_backend *c;
    const lm_attn_shape *s;
    const float *q;
    int64_t ldq;
    float *out;
    int64_t ldo;
    const lm_attn_segment *segments;
    int n_segments;
    int64_t tile_rows, n_tiles;
    int32_t group;
    attn_split *splits; /* split work: [n_tiles] */
    float *partials;    /* split work: per (tile, chunk): R * (D + 2) floats */
    int64_t units;      /* split work: (tile, chunk) pairs */
} attn_job;

/* Decode and prefill may use different rows of the kernel table, but not under --batch-invariant. */
static const lm_attn_impl *impl_of(const cpu_backend *c, const lm_attn_segment *g, int64_t r) {
    const lm_format format = cpu_kv_format(g->kv_dtype);
    if (g->quant.bits) return c->attnq[lm_kvq_format(g->quant.bits)];
    return !c->batch_invariant && r <= FEW_ROWS ? c->attn_few[format] : c->attn[format];
}
static const lm_attn_impl *impl_of_tile(const attn_job *j, const attn_tile *t) {
    return impl_of(j->c, t->g, t->rows * j->group);
}

static attn_tile tile_at(const attn_job *j, int64_t index) {
    attn_tile t = {0};
    for (int i = 0; i < j->n_segments; i++) {
        const lm_attn_segment *g = &j->segments[i];
        int64_t tiles = (g->n + j->tile_rows - 1) / j->tile_rows, all = tiles * j->s->kv_heads;
        if (index < all) {
            /* later rows see more positions: hand them out first */
            int64_t tile = tiles - 1 - index / j->s->kv_heads;
            t.g = g;
            t.head = (int32_t)(index % j->s->kv_heads);
            t.i0 = tile * j->tile_rows;
            t.rows = t.i0 + j->tile_rows < g->n ? j->tile_rows : g->n - t.i0;
            t.chunks = g->pos[t.i0 + t.rows - 1] / LM_KV_BLOCK + 1;
            return t;
        }
        index -= all;
    }
    return t;
}

/* Scaled queries of a tile, dense [R, D]. */
static void gather_queries(const attn_job *j, const attn_tile *t, float *q) {
    int32_t d = j->s->d;
    int64_t n = (int64_t)j->group * d;
    for (int64_t i = 0; i < t->rows; i++) {
        const float *from = j->q + (t->g->row + t->i0 + i) * j->ldq + (int64_t)t->head * n;
        for (int64_t e = 0; e < n; e++) q[i * n + e] = from[e] * j->s->scale;
    }
}

static const char *chunk_keys(const attn_job *j, const attn_tile *t, int64_t chunk) {
    return head_keys(j->s, t->g, chunk * LM_KV_BLOCK, t->head);
}

static void run_chunk(const attn_job *j, const attn_tile *t, int64_t chunk, const void *next, const float *q,
                      int32_t *limit, float *m, float *l, float *acc, void *scratch) {
    const lm_attn_shape *s = j->s;
    for (int64_t i = 0; i < t->rows; i++) {
        int64_t seen = t->g->pos[t->i0 + i] + 1 - chunk * LM_KV_BLOCK;
        int32_t v = (int32_t)(seen < 0 ? 0 : seen > LM_KV_BLOCK ? LM_KV_BLOCK : seen);
        for (int32_t g = 0; g < j->group; g++) limit[i * j->group + g] = v;
    }
    const char *kt = chunk_keys(j, t, chunk);
    lm_attn_args a = {.kt = kt,
                      .next = next,
                      .v = kt + head_part(s, t->g->kv_dtype),
                      .q = q,
                      .limit = limit,
                      .m = m,
                      .l = l,
                      .acc = acc,
                      .ldq = s->d,
                      .d = s->d,
                      .r = (int32_t)(t->rows * j->group),
                      .group = t->g->quant.group,
                      .scale_type = t->g->kv_dtype};
    impl_of_tile(j, t)->chunk(&a, scratch);
}

/* Merges the chunk (m, l, acc) into the running (rm, rl, racc), row by row. */
static void merge_chunk(const lm_attn_impl *impl, int64_t r, int32_t d, float *rm, float *rl, float *racc,
                        const float *m, const float *l, const float *acc) {
    for (int64_t i = 0; i < r; i++) {
        if (l[i] == 0.0f) continue;
        float top = rm[i] > m[i] ? rm[i] : m[i];
        float a = expf(rm[i] - top), b = expf(m[i] - top);
        rm[i] = top;
        rl[i] = rl[i] * a + l[i] * b;
        impl->merge(racc + i * d, a, acc + i * d, b, d);
    }
}

static void write_tile(const attn_job *j, const attn_tile *t, const float *l, const float *acc) {
    const int32_t d = j->s->d;
    const lm_attn_impl *impl = impl_of_tile(j, t);
    for (int64_t i = 0; i < t->rows; i++) {
        float *out = j->out + (t->g->row + t->i0 + i) * j->ldo + (int64_t)t->head * j->group * d;
        for (int32_t g = 0; g < j->group; g++) {
            int64_t r = i * j->group + g;
            impl->merge(out + g * d, 0.0f, acc + r * d, 1.0f / l[r], d);
        }
    }
}

/* A worker's scratch: q [R,D], racc [R,D], acc [R,D], rm, rl, m, l [R], limit [R], then the kernel's own. */
typedef struct tile_scratch {
    float *q, *racc, *acc, *rm, *rl, *m, *l;
    int32_t *limit;
    void *kernel;
} tile_scratch;

static size_t tile_scratch_layout(int64_t r, int32_t d, char *base, tile_scratch *out) {
    size_t rd = cpu_round64((size_t)r * (size_t)d * sizeof(float)), rr = cpu_round64((size_t)r * sizeof(float));
    if (out) {
        out->q = (float *)(void *)base;
        out->racc = (float *)(void *)(base + rd);
        out->acc = (float *)(void *)(base + 2 * rd);
        out->rm = (float *)(void *)(base + 3 * rd);
        out->rl = (float *)(void *)(base + 3 * rd + rr);
        out->m = (float *)(void *)(base + 3 * rd + 2 * rr);
        out->l = (float *)(void *)(base + 3 * rd + 3 * rr);
        out->limit = (int32_t *)(void *)(base + 3 * rd + 4 * rr);
        out->kernel = base + 3 * rd + 5 * rr;
    }
    return 3 * rd + 5 * rr;
}

/* The first chunk, of which every row sees something, is where the sums begin. */
static void run_tile(void *context, int64_t task, int worker) {
    attn_job *j = context;
    attn_tile t = tile_at(j, task);
    int64_t r = t.rows * j->group;
    tile_scratch s;
    tile_scratch_layout(j->tile_rows * j->group, j->s->d, cpu_worker_scratch(j->c, worker), &s);
    gather_queries(j, &t, s.q);
    const attn_tile after = tile_at(j, task + j->c->threads); /* what this thread may take next */
    for (int64_t chunk = 0; chunk < t.chunks; chunk++) {
        const void *next = chunk + 1 < t.chunks ? chunk_keys(j, &t, chunk + 1)
                           : after.g            ? chunk_keys(j, &after, 0)
                                                : NULL;
        if (chunk == 0) {
            run_chunk(j, &t, chunk, next, s.q, s.limit, s.rm, s.rl, s.racc, s.kernel);
            continue;
        }
        run_chunk(j, &t, chunk, next, s.q, s.limit, s.m, s.l, s.acc, s.kernel);
        merge_chunk(impl_of_tile(j, &t), r, j->s->d, s.rm, s.rl, s.racc, s.m, s.l, s.acc);
    }
    write_tile(j, &t, s.rl, s.racc);
}

/* Split work: few tiles, many chunks. Every (tile, chunk) is a task; the last one of a tile to end merges them all, in
 * order. */
static float *partial_at(const attn_job *j, int64_t index) {
    return j->partials + index * j->tile_rows * j->group * (j->s->d + 2);
}

static attn_split *split_at(const attn_job *j, int64_t task) {
    int64_t a = 0, b = j->n_tiles - 1;
    while (a < b) {
        int64_t mid = (a + b + 1) / 2;
        if (j->splits[mid].first <= task)
            a = mid;
        else
            b = mid - 1;
    }
    return &j->splits[a];
}

static void merge_split(const attn_job *j, const attn_split *split) {
    const attn_tile *t = &split->tile;
    const int64_t r = t->rows * j->group, r_max = j->tile_rows * j->group;
    float *sum = partial_at(j, split->first);
    for (int64_t chunk = 1; chunk < t->chunks; chunk++) {
        const float *p = partial_at(j, split->first + chunk);
        merge_chunk(impl_of_tile(j, t), r, j->s->d, sum, sum + r_max, sum + 2 * r_max, p, p + r_max, p + 2 * r_max);
    }
    write_tile(j, t, sum + r_max, sum + 2 * r_max);
}

static void run_split(void *context, int64_t task, int worker) {
    attn_job *j = context;
    const int64_t r_max = j->tile_rows * j->group, then = task + j->c->threads; /* what this thread may take next */
    attn_split *split = split_at(j, task);
    tile_scratch s;
    tile_scratch_layout(r_max, j->s->d, cpu_worker_scratch(j->c, worker), &s);
    gather_queries(j, &split->tile, s.q);
    const void *next = NULL;
    if (then < j->units) {
        const attn_split *after = split_at(j, then);
        next = chunk_keys(j, &after->tile, then - after->first);
    }
    float *p = partial_at(j, task);
    run_chunk(j, &split->tile, task - split->first, next, s.q, s.limit, p, p + r_max, p + 2 * r_max, s.kernel);
    if (atomic_fetch_sub(&split->left, 1) == 1) merge_split(j, split);
}

static lm_status plan_split(attn_job *j, lm_error *err) {
    cpu_backend *c = j->c;
    const size_t table = cpu_round64((size_t)j->n_tiles * sizeof(attn_split));
    const size_t r = (size_t)(j->tile_rows * j->group), sums = (size_t)j->units * r * ((size_t)j->s->d + 2);
    LM_TRY(cpu_reserve(c, &c->shared, table + sums * sizeof(float), "attention partials", err));
    j->splits = c->shared.data;
    j->partials = (float *)(void *)((char *)c->shared.data + table);
    int64_t first = 0;
    for (int64_t i = 0; i < j->n_tiles; i++) {
        attn_split *split = &j->splits[i];
        split->tile = tile_at(j, i);
        split->first = first;
        atomic_init(&split->left, split->tile.chunks);
        first += split->tile.chunks;
    }
    return LM_OK;
}

lm_status cpu_attention(lm_backend *b, const lm_attn_shape *s, const float *q, int64_t ldq,
                        const lm_attn_segment *segments, int n_segments, float *out, int64_t ldo, lm_error *err) {
    cpu_backend *c = cpu_of(b);
    attn_job j = {.c = c,
                  .s = s,
                  .q = q,
                  .ldq = ldq,
                  .out = out,
                  .ldo = ldo,
                  .segments = segments,
                  .n_segments = n_segments,
                  .group = s->heads / s->kv_heads};
    int64_t longest = 0;
    for (int i = 0; i < n_segments; i++)
        if (segments[i].n > longest) longest = segments[i].n;
    int rows = 0;
    for (int i = 0; i < n_segments; i++)
        if (segments[i].n * j.group > TILE_ROWS && impl_of(c, &segments[i], TILE_ROWS)->rows > rows)
            rows = impl_of(c, &segments[i], TILE_ROWS)->rows;
    if (!rows) rows = TILE_ROWS;
    j.tile_rows = rows / j.group < 1 ? 1 : rows / j.group;
    if (j.tile_rows > longest) j.tile_rows = longest;
    if (longest == 0) return LM_OK;
    for (int i = 0; i < n_segments; i++) j.n_tiles += (segments[i].n + j.tile_rows - 1) / j.tile_rows * s->kv_heads;
    int64_t r = j.tile_rows * j.group;
    size_t kernel = 0;
    for (int i = 0; i < n_segments; i++)
        for (int few = 0; few < 2; few++) { /* a segment's last tile may have few rows */
            size_t n = impl_of(c, &segments[i], few ? 1 : r)->scratch_bytes(s->d, (int32_t)r);
            if (n > kernel) kernel = n;
        }
    LM_TRY(cpu_reserve_worker(c, tile_scratch_layout(r, s->d, NULL, NULL) + kernel, err));
    bool split = j.n_tiles < (int64_t)c->threads * 8 && c->threads > 1;
    for (int64_t i = 0; i < j.n_tiles && split; i++) j.units += tile_at(&j, i).chunks;
    if (!split || j.units == j.n_tiles) {
        lm_pool_run(c->pool, j.n_tiles, run_tile, &j);
        return LM_OK;
    }
    LM_TRY(plan_split(&j, err));
    lm_pool_run(c->pool, j.units, run_split, &j);
    return LM_OK;
}
