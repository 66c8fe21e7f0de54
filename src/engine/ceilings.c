/* SPDX-License-Identifier: MIT
 * ceilings.c: what this machine can do at most, measured, and what a token or a prompt needs of it: bytes read and
 * operations done. `benchmark --ceilings` prints speed as shares of the one in units of the other. */
#include "base/clock.h"
#include "base/cpu.h"
#include "base/pool.h"
#include "engine/engine.h"
#include "kernels/peak.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#define ANONYMOUS_BYTES ((size_t)512 << 20) /* far more than caches hold */
#define HUGE_PAGE ((size_t)2 << 20)
#define PIECE ((size_t)1 << 20) /* bytes of one item of work */
#define REPEATS 5
#define AHEAD 4096 /* bytes */
#define PEAK_SECONDS 0.04
#define MIN_PANELS ((size_t)128 << 10) /* bytes of strips that a thread multiplies with */
#define MAX_PANELS ((size_t)1 << 20)

/* ---------------------------------------------------------------- needs */

static double weight_reads(const lm_model *m, double *operations) {
    const lm_hparams *h = &m->h;
    double bytes = 0, ops = 0;
    for (int64_t i = 0; i < h->layers; i++) {
        const lm_layer *l = &m->layer[i];
        const lm_weight *dense[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down, &l->router};
        for (size_t j = 0; j < sizeof dense / sizeof *dense; j++)
            bytes += (double)dense[j]->bytes, ops += 2.0 * (double)dense[j]->n * (double)dense[j]->k;
        if (!l->e_gate) continue;
        const lm_weight *experts[] = {l->e_gate, l->e_up, l->e_down}; /* alike: the first stands for all */
        for (int j = 0; j < 3; j++) {
            bytes += (double)h->top_k * (double)experts[j]->bytes;
            ops += 2.0 * (double)h->top_k * (double)experts[j]->n * (double)experts[j]->k;
        }
    }
    *operations = ops;
    return bytes;
}

double lm_engine_plan_token_bytes(const lm_engine *e, int64_t depth) {
    if (!e->model) return 0;
    double ops, kv = (double)lm_model_block_bytes(e->model, e->kv_dtype, e->kv_quant) / LM_KV_BLOCK;
    return weight_reads(e->model, &ops) + (double)e->model->head.bytes + kv * (double)depth;
}

double lm_engine_plan_prompt_operations(const lm_engine *e, int64_t n_tokens) {
    if (!e->model) return 0;
    const lm_hparams *h = &e->model->h;
    double ops, n = (double)n_tokens;
    weight_reads(e->model, &ops);
    double pairs =
        n * (n + 1) / 2; /* a query and a position that it sees: a product with the key, one with the value */
    return ops * n + 4.0 * pairs * (double)(h->layers * h->heads * h->head_dim) +
           2.0 * (double)h->vocab * (double)h->hidden;
}

/* ---------------------------------------------------------------- reading */

typedef struct region {
    const uint64_t *data;
    size_t words;
} region;

typedef struct read_job {
    const region *regions; /* a piece each, or less */
    _Atomic uint64_t sink;
} read_job;

static uint64_t read_words(const uint64_t *p, size_t n, size_t streams, bool ahead) {
    const size_t words = n / streams / 8 * 8; /* of a stream */
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = 0; i < words; i += 8)
        for (size_t s = 0; s < streams; s++) {
            const uint64_t *q = p + s * words + i;
            if (ahead) __builtin_prefetch(q + AHEAD / sizeof *q, 0, 3);
            a |= q[0] | q[1], b |= q[2] | q[3], c |= q[4] | q[5], d |= q[6] | q[7];
        }
    return a | b | c | d;
}

/* What reads fastest differs from machine to machine: one stream, one with requests in advance, several side by side.
 */
static void read_plain(void *context, int64_t item, int worker) {
    read_job *j = context;
    const region *r = &j->regions[item];
    atomic_fetch_or(&j->sink, read_words(r->data, r->words, 1, false));
    (void)worker;
}
static void read_ahead(void *context, int64_t item, int worker) {
    read_job *j = context;
    const region *r = &j->regions[item];
    atomic_fetch_or(&j->sink, read_words(r->data, r->words, 1, true));
    (void)worker;
}
static void read_streams(void *context, int64_t item, int worker) {
    read_job *j = context;
    const region *r = &j->regions[item];
    atomic_fetch_or(&j->sink, read_words(r->data, r->words, 4, true));
    (void)worker;
}

static double read_rate(lm_pool *pool, const region *regions, size_t n) {
    void (*const ways[])(void *, int64_t, int) = {read_plain, read_ahead, read_streams};
    read_job j = {.regions = regions};
    double best = 0, bytes = 0;
    for (size_t i = 0; i < n; i++) bytes += (double)(regions[i].words * sizeof(uint64_t));
    for (int i = 0; i < REPEATS; i++)
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            double t = lm_now_seconds();
            lm_pool_run(pool, (int64_t)n, ways[w], &j);
            t = lm_now_seconds() - t;
            if (t > 0 && bytes / t > best) best = bytes / t;
        }
    return best;
}

/* Whole cache lines of data, in pieces; list NULL: only counts them. */
static void add_pieces(region *list, size_t *n, const void *data, size_t bytes) {
    const size_t skip = (64 - (uintptr_t)data % 64) % 64;
    bytes = bytes > skip ? (bytes - skip) / 64 * 64 : 0;
    for (size_t at = 0; at < bytes; at += PIECE) {
        const void *from = (const char *)data + skip + at;
        if (list) list[*n] = (region){from, (bytes - at < PIECE ? bytes - at : PIECE) / sizeof(uint64_t)};
        ++*n;
    }
}

/* Codes or floats of every weight; list NULL: only counts. Scales and biases are a few percent of that: left out. */
static size_t weight_regions(const lm_model *m, region *list) {
    size_t n = 0;
    for (int64_t i = 0; i < m->h.layers; i++) {
        const lm_layer *l = &m->layer[i];
        const lm_weight *w[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
        for (size_t j = 0; j < sizeof w / sizeof *w; j++)
            add_pieces(list, &n, w[j]->data, (size_t)w[j]->n * w[j]->row_bytes);
        for (int64_t x = 0; l->e_gate && x < m->h.experts; x++) {
            const lm_weight *e[] = {&l->e_gate[x], &l->e_up[x], &l->e_down[x]};
            for (int j = 0; j < 3; j++) add_pieces(list, &n, e[j]->data, (size_t)e[j]->n * e[j]->row_bytes);
        }
    }
    add_pieces(list, &n, m->head.data, (size_t)m->head.n * m->head.row_bytes);
    return n;
}

/* ---------------------------------------------------------------- peaks */

typedef struct peak_job {
    const lm_peak_impl *impl;
    int64_t rounds;
    /* of tiles: every worker's own few, strips and sums; NULL: on registers */
    char *panels;
    size_t per_worker;
    int64_t strips;
    bool ahead;
} peak_job;

static void run_peak(void *context, int64_t item, int worker) {
    const peak_job *j = context;
    (void)item;
    if (!j->panels) {
        j->impl->run(j->rounds);
        return;
    }
    const lm_peak_tiles *t = &j->impl->tiles;
    char *few = j->panels + (size_t)worker * j->per_worker, *sums = few + t->few_bytes, *strips = sums + t->sums_bytes;
    for (int64_t r = 0; r < j->rounds; r++) t->run(few, strips, j->strips, j->ahead, sums);
}

static double peak_rate(lm_pool *pool, peak_job *j, double operations) {
    double t = 0, best = 0;
    for (;;) { /* rounds that take long enough to be timed */
        t = lm_now_seconds();
        run_peak(j, 0, 0);
        t = lm_now_seconds() - t;
        if (t > PEAK_SECONDS / 4 || j->rounds > INT64_MAX / 8) break;
        j->rounds *= 2;
    }
    const int64_t items = lm_pool_threads(pool) * 4; /* of which a thread that is late takes fewer */
    for (int i = 0; i < REPEATS; i++) {
        t = lm_now_seconds();
        lm_pool_run(pool, items, run_peak, j);
        t = lm_now_seconds() - t;
        double rate = (double)items * (double)j->rounds * operations / (t > 0 ? t : 1);
        if (rate > best) best = rate;
    }
    return best;
}

/* Half of the second-level cache: the other half is for what comes and goes. */
static size_t panel_bytes(void) {
    long cache = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE)
    cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    const size_t bytes = cache > 0 ? (size_t)cache / 2 : 2 * MIN_PANELS;
    return bytes < MIN_PANELS ? MIN_PANELS : bytes > MAX_PANELS ? MAX_PANELS : bytes;
}

static lm_status tiles_rate(lm_pool *pool, const lm_peak_impl *impl, double *out, lm_error *err) {
    const lm_peak_tiles *t = &impl->tiles;
    peak_job j = {.impl = impl, .strips = (int64_t)(panel_bytes() / t->strip_bytes)};
    j.per_worker = t->few_bytes + t->sums_bytes + (size_t)j.strips * t->strip_bytes;
    j.per_worker = (j.per_worker + 4095) & ~(size_t)4095;
    const size_t bytes = j.per_worker * (size_t)lm_pool_threads(pool);
    void *memory;
    *out = 0;
    if (posix_memalign(&memory, HUGE_PAGE, bytes)) return lm_fail_nomem(err, bytes, "measuring matrix peaks");
#if defined(__linux__)
    (void)madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    memset(memory, 0, bytes); /* zeros: as fast as any other number, and sums stay finite */
    j.panels = memory;
    for (int ahead = 0; ahead < 2; ahead++) {
        j.ahead = ahead, j.rounds = 1;
        const double rate = peak_rate(pool, &j, (double)j.strips * t->operations);
        if (rate > *out) *out = rate;
    }
    free(memory);
    return LM_OK;
}

/* On registers, and in tiles from caches. */
static lm_status measure_peaks(lm_pool *pool, lm_ceilings *out, lm_error *err) {
    double *const registers[] = {&out->peak_f32, &out->peak_bf16, &out->peak_int8};
    double *const blocked[] = {&out->blocked_f32, &out->blocked_bf16, &out->blocked_int8};
    for (int k = 0; k < LM_PEAK_COUNT; k++) {
        const lm_peak_impl *impl = lm_peak_select((lm_peak)k, lm_cpu_flags());
        peak_job j = {.impl = impl, .rounds = 1 << 16};
        *registers[k] = *blocked[k] = 0;
        if (!impl) continue;
        *registers[k] = peak_rate(pool, &j, impl->operations);
        LM_TRY(tiles_rate(pool, impl, blocked[k], err));
    }
    return LM_OK;
}

/* ---------------------------------------------------------------- all */

typedef struct spaces {
    void *memory; /* ANONYMOUS_BYTES */
    region *anonymous, *weights;
    size_t n_anonymous, n_weights;
} spaces;

static void spaces_free(spaces *s) {
    free(s->memory);
    free(s->anonymous);
    free(s->weights);
}

static lm_status spaces_create(const lm_engine *e, spaces *s, lm_error *err) {
    memset(s, 0, sizeof *s);
    size_t n = 0;
    add_pieces(NULL, &s->n_anonymous, NULL, ANONYMOUS_BYTES);
    s->n_weights = weight_regions(e->model, NULL);
    s->anonymous = malloc(s->n_anonymous * sizeof *s->anonymous);
    s->weights = malloc(s->n_weights * sizeof *s->weights);
    if (!s->anonymous || !s->weights || posix_memalign(&s->memory, HUGE_PAGE, ANONYMOUS_BYTES)) {
        s->memory = NULL;
        spaces_free(s);
        return lm_fail_nomem(err, ANONYMOUS_BYTES, "measuring read bandwidth");
    }
#if defined(__linux__)
    (void)madvise(s->memory, ANONYMOUS_BYTES, MADV_HUGEPAGE); /* small pages where the system has no large ones */
#endif
    memset(s->memory, 1, ANONYMOUS_BYTES);
    add_pieces(s->anonymous, &n, s->memory, ANONYMOUS_BYTES);
    weight_regions(e->model, s->weights);
    return LM_OK;
}

static lm_status measure(int threads, const spaces *s, lm_ceilings *out, lm_error *err) {
    lm_pool *pool;
    LM_TRY(lm_pool_create(threads, &pool, err));
    out->threads = threads;
    out->read_anonymous = read_rate(pool, s->anonymous, s->n_anonymous);
    out->read_weights = read_rate(pool, s->weights, s->n_weights);
    const lm_status status = measure_peaks(pool, out, err);
    lm_pool_destroy(pool);
    return status;
}

lm_status lm_engine_measure_ceilings(const lm_engine *e, lm_ceilings *out, size_t room, size_t *n, lm_error *err) {
    *n = 0;
    if (!e->model) return lm_fail(err, LM_ARG, "ceilings: the engine was opened without weights");
    spaces s;
    LM_TRY(spaces_create(e, &s, err));
    const int all = lm_backend_threads(e->backend);
    lm_status status = LM_OK;
    /* 1, 2, 4, ... and all of them, which come last */
    for (int threads = 1; status == LM_OK && *n<room; threads = threads * 2> all ? all : threads * 2) {
        status = measure(*n + 1 == room ? all : threads, &s, &out[*n], err);
        ++*n;
        if (threads == all) break;
    }
    spaces_free(&s);
    return status;
}
