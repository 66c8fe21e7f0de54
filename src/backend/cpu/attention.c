/* SPDX-License-Identifier: MIT
 * attention.c: rotation, storing keys and values, and attention over block lists.
 *
 * Every row's sum over positions runs in chunks of LM_KV_BLOCK positions, each computed by the kernel on its own and
 * merged in order of position. How the work is cut among threads never changes that order. */
#include "backend/cpu/cpu.h"
#include <math.h>
#include <string.h>

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

/* A head's keys inside a layer's part of a block; its values follow. */
static char *head_keys(const lm_attn_shape *s, const lm_attn_segment *g, int64_t pos, int32_t head) {
    size_t part = (size_t)s->d * LM_KV_BLOCK * lm_dtype_bytes(g->kv_dtype);
    return (char *)g->blocks[pos / LM_KV_BLOCK] + g->offset + 2 * part * (size_t)head;
}
static size_t head_part(const lm_attn_shape *s, lm_dtype dtype) {
    return (size_t)s->d * LM_KV_BLOCK * lm_dtype_bytes(dtype);
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

/* A task is one kv head of one segment: threads then never write into one another's cache lines. */
static void run_kv(void *context, int64_t task, int worker) {
    kv_job *j = context;
    (void)worker;
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
        char *kt = head_keys(s, g, g->pos[i], h);
        kv->store(kt, kt + part, key, value, s->d, (int32_t)(g->pos[i] % LM_KV_BLOCK));
    }
}

lm_status cpu_kv_store(lm_backend *b, const lm_attn_shape *s, float *k, const float *v, int64_t ldkv,
                       const lm_attn_segment *segments, int n_segments, const float *k_norm, const float *cos,
                       const float *sin, lm_error *err) {
    (void)err;
    kv_job j = {cpu_of(b), s, k, v, ldkv, segments, n_segments, k_norm, cos, sin};
    int64_t rows = 0;
    for (int i = 0; i < n_segments; i++) rows += segments[i].n;
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
    int64_t chunks;  /* 1 + last position / LM_KV_BLOCK */
    int64_t partial; /* first partial result of this tile (split work only) */
} attn_tile;

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
    size_t kernel_scratch, worker_bytes;
    float *partials; /* split work: per (tile, chunk): R * (D + 2) floats */
} attn_job;

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
                      .r = (int32_t)(t->rows * j->group)};
    j->c->attn[cpu_kv_format(t->g->kv_dtype)]->chunk(&a, scratch);
}

/* Merges the chunk (m, l, acc) into the running (rm, rl, racc), row by row. */
static void merge_chunk(int64_t r, int32_t d, float *rm, float *rl, float *racc, const float *m, const float *l,
                        const float *acc) {
    for (int64_t i = 0; i < r; i++) {
        if (l[i] == 0.0f) continue;
        if (rl[i] == 0.0f) {
            rm[i] = m[i];
            rl[i] = l[i];
            memcpy(racc + i * d, acc + i * d, (size_t)d * sizeof(float));
            continue;
        }
        float top = rm[i] > m[i] ? rm[i] : m[i];
        float a = expf(rm[i] - top), b = expf(m[i] - top);
        rm[i] = top;
        rl[i] = rl[i] * a + l[i] * b;
        for (int32_t e = 0; e < d; e++) racc[i * d + e] = racc[i * d + e] * a + acc[i * d + e] * b;
    }
}

static void write_tile(const attn_job *j, const attn_tile *t, const float *l, const float *acc) {
    int32_t d = j->s->d;
    for (int64_t i = 0; i < t->rows; i++) {
        float *out = j->out + (t->g->row + t->i0 + i) * j->ldo + (int64_t)t->head * j->group * d;
        for (int32_t g = 0; g < j->group; g++) {
            int64_t r = i * j->group + g;
            for (int32_t e = 0; e < d; e++) out[g * d + e] = acc[r * d + e] / l[r];
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

static void run_tile(void *context, int64_t task, int worker) {
    attn_job *j = context;
    attn_tile t = tile_at(j, task);
    int64_t r = t.rows * j->group;
    tile_scratch s;
    tile_scratch_layout(j->tile_rows * j->group, j->s->d, cpu_worker_scratch(j->c, worker), &s);
    gather_queries(j, &t, s.q);
    memset(s.rl, 0, (size_t)r * sizeof(float));
    const attn_tile after = tile_at(j, task + j->c->threads); /* what this thread may take next */
    for (int64_t chunk = 0; chunk < t.chunks; chunk++) {
        const void *next = chunk + 1 < t.chunks ? chunk_keys(j, &t, chunk + 1)
                           : after.g            ? chunk_keys(j, &after, 0)
                                                : NULL;
        run_chunk(j, &t, chunk, next, s.q, s.limit, s.m, s.l, s.acc, s.kernel);
        merge_chunk(r, j->s->d, s.rm, s.rl, s.racc, s.m, s.l, s.acc);
    }
    write_tile(j, &t, s.rl, s.racc);
}

/* Split work: few tiles, many chunks. First every (tile, chunk) on its own, then a merge per tile. */
static float *partial_at(const attn_job *j, int64_t index) {
    return j->partials + index * j->tile_rows * j->group * (j->s->d + 2);
}

static attn_tile split_at(const attn_job *j, int64_t task, int64_t *chunk) {
    int64_t first = 0;
    for (int64_t i = 0; i < j->n_tiles; i++) {
        attn_tile t = tile_at(j, i);
        if (task < first + t.chunks) {
            *chunk = task - first;
            t.partial = first;
            return t;
        }
        first += t.chunks;
    }
    *chunk = 0;
    return (attn_tile){0};
}

static void run_split_chunk(void *context, int64_t task, int worker) {
    attn_job *j = context;
    int64_t chunk, r_max = j->tile_rows * j->group;
    attn_tile t = split_at(j, task, &chunk);
    tile_scratch s;
    tile_scratch_layout(r_max, j->s->d, cpu_worker_scratch(j->c, worker), &s);
    gather_queries(j, &t, s.q);
    float *p = partial_at(j, t.partial + chunk);
    int64_t next_chunk;
    const attn_tile after = split_at(j, task + j->c->threads, &next_chunk); /* what this thread may take next */
    const void *next = after.g ? chunk_keys(j, &after, next_chunk) : NULL;
    run_chunk(j, &t, chunk, next, s.q, s.limit, s.m, s.l, s.acc, s.kernel);
    int64_t r = t.rows * j->group;
    memcpy(p, s.m, (size_t)r * sizeof(float));
    memcpy(p + r_max, s.l, (size_t)r * sizeof(float));
    memcpy(p + 2 * r_max, s.acc, (size_t)(r * j->s->d) * sizeof(float));
}

static void run_split_merge(void *context, int64_t task, int worker) {
    attn_job *j = context;
    int64_t first = 0, r_max = j->tile_rows * j->group;
    attn_tile t = tile_at(j, task);
    for (int64_t i = 0; i < task; i++) first += tile_at(j, i).chunks;
    tile_scratch s;
    tile_scratch_layout(r_max, j->s->d, cpu_worker_scratch(j->c, worker), &s);
    int64_t r = t.rows * j->group;
    memset(s.rl, 0, (size_t)r * sizeof(float));
    for (int64_t chunk = 0; chunk < t.chunks; chunk++) {
        const float *p = partial_at(j, first + chunk);
        merge_chunk(r, j->s->d, s.rm, s.rl, s.racc, p, p + r_max, p + 2 * r_max);
    }
    write_tile(j, &t, s.rl, s.racc);
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
    int64_t longest = 0, units = 0;
    for (int i = 0; i < n_segments; i++)
        if (segments[i].n > longest) longest = segments[i].n;
    j.tile_rows = 96 / j.group < 1 ? 1 : 96 / j.group;
    if (j.tile_rows > longest) j.tile_rows = longest;
    if (longest == 0) return LM_OK;
    for (int i = 0; i < n_segments; i++) j.n_tiles += (segments[i].n + j.tile_rows - 1) / j.tile_rows * s->kv_heads;
    int64_t r = j.tile_rows * j.group;
    size_t kernel = 0;
    for (int i = 0; i < n_segments; i++) {
        size_t n = c->attn[cpu_kv_format(segments[i].kv_dtype)]->scratch_bytes(s->d, (int32_t)r);
        if (n > kernel) kernel = n;
    }
    LM_TRY(cpu_reserve_worker(c, tile_scratch_layout(r, s->d, NULL, NULL) + kernel, err));
    bool split = j.n_tiles < (int64_t)c->threads * 8;
    if (split) {
        for (int64_t i = 0; i < j.n_tiles; i++) units += tile_at(&j, i).chunks;
        split = units > j.n_tiles;
    }
    if (!split || c->threads == 1) {
        lm_pool_run(c->pool, j.n_tiles, run_tile, &j);
        return LM_OK;
    }
    LM_TRY(cpu_reserve(c, &c->shared, (size_t)(units * r * (s->d + 2)) * sizeof(float), "attention partials", err));
    j.partials = c->shared.data;
    lm_pool_run(c->pool, units, run_split_chunk, &j);
    lm_pool_run(c->pool, j.n_tiles, run_split_merge, &j);
    return LM_OK;
}
