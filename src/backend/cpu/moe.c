/* SPDX-License-Identifier: MIT
 * moe.c: mixture of experts: route every row, group the rows by expert, one product per expert over its rows, then sum
 * each row's experts, the lowest id first. A row's result never depends on which other rows chose its expert.
 *
 * Experts are taken in batches whose (row, choice) pairs fit a buffer of fixed size, so that many rows can be computed
 * at once, each expert's weights being read once for all of them, in little memory. */
#include "backend/cpu/cpu.h"
#include <math.h>
#include <string.h>

#define BATCH_PAIRS 1536    /* (row, choice) pairs of a batch of experts, unless one expert has more */
#define TASKS_PER_THREAD 16 /* of a stage: ranges of outputs of experts, none longer than this share of its work */
#define TASKS_FEW 32 /* of a stage of few rows: between tasks no time is lost, so as many as make the end short */

typedef struct route {
    int32_t expert;
    float weight;
    int64_t slot; /* place among the expert-sorted rows */
} route;

typedef struct moe_expert {
    int32_t id;
    int64_t first, n; /* its rows among the batch's */
    const lm_linear_impl *gate, *up, *down;
    size_t xp_gate, xp_up, xp_down; /* offsets of its preparations */
    int64_t step1, step2;           /* outputs per task of the two stages */
    int64_t task1, task2;           /* first task of each stage */
    _Atomic int64_t left;           /* tasks of the first stage, and the preparation after them, that aren't done */
} moe_expert;

typedef struct moe_job {
    cpu_backend *c;
    const lm_moe_weights *w;
    const float *router, *x;
    int64_t hidden, m;
    float *y;
    route *routes;   /* [M, top_k], ascending by expert */
    int64_t *sorted; /* [M*top_k]: source row of each slot */
    int64_t *count;  /* [experts + 1]: rows of each, then where they begin among the slots */
    int64_t base, n; /* slots of this batch: [base, base + n) */
    moe_expert *e;   /* the batch's active experts, most rows first, so that the last tasks are short ones; few rows: by
                        id, so that all threads meet experts of one row, which memory limits, and of several */
    int32_t *order;  /* their ids */
    int32_t n_active;
    char *prep;
    float *h, *up, *out; /* of this batch: [n, ffn], the same, [n, hidden] */
    size_t gather;       /* offset of the gathered rows in a worker's scratch */
    int64_t tasks1, tasks2;
    int32_t n_prep; /* experts up to here have a preparation of their own */
    bool few;
} moe_job;

/* softmax over all experts, then the k largest, the lowest index first among equals. */
static void route_row(const moe_job *j, int64_t i) {
    const lm_moe_weights *w = j->w;
    const float *logit = j->router + i * w->n_experts;
    route *r = j->routes + i * w->top_k;
    float max, sum, total = 0;
    j->c->row->logsumexp(logit, w->n_experts, &max, &sum);
    int32_t n = 0;
    for (int32_t e = 0; e < w->n_experts; e++) {
        int32_t at = n;
        while (at > 0 && logit[r[at - 1].expert] < logit[e]) at--;
        if (at >= w->top_k) continue;
        if (n < w->top_k) n++;
        memmove(r + at + 1, r + at, (size_t)(n - at - 1) * sizeof *r);
        r[at].expert = e;
    }
    for (int32_t t = 0; t < w->top_k; t++) {
        r[t].weight = expf(logit[r[t].expert] - max) / sum;
        total += r[t].weight;
    }
    if (w->norm_topk)
        for (int32_t t = 0; t < w->top_k; t++) r[t].weight /= total;
    for (int32_t t = 1; t < w->top_k; t++)
        for (int32_t at = t; at > 0 && r[at - 1].expert > r[at].expert; at--) {
            const route other = r[at];
            r[at] = r[at - 1];
            r[at - 1] = other;
        }
}

static void run_route(void *context, int64_t task, int worker) {
    moe_job *j = context;
    (void)worker;
    for (int64_t i = task * 32; i < (task + 1) * 32 && i < j->m; i++) route_row(j, i);
}

/* Counting sort of (row, choice) pairs by expert; rows keep their order within one. Leaves in count[e] where expert e's
 * slots begin. */
static void group_rows(moe_job *j) {
    const int32_t k = j->w->top_k, experts = j->w->n_experts;
    int64_t *count = j->count;
    memset(count, 0, (size_t)(experts + 1) * sizeof *count);
    for (int64_t p = 0; p < j->m * k; p++) count[j->routes[p].expert + 1]++;
    for (int32_t e = 0; e < experts; e++) count[e + 1] += count[e];
    for (int64_t p = 0; p < j->m * k; p++) {
        j->routes[p].slot = count[j->routes[p].expert]++;
        j->sorted[j->routes[p].slot] = p / k;
    }
    for (int32_t e = experts; e > 0; e--) count[e] = count[e - 1];
    count[0] = 0;
}

/* Takes experts from id `from` on into the batch while their slots fit; returns the id after the last. */
static int32_t next_batch(moe_job *j, int32_t from) {
    const int64_t *count = j->count;
    int32_t end = from;
    j->base = count[from];
    j->n_active = 0;
    for (; end < j->w->n_experts && (j->n_active == 0 || count[end + 1] - j->base <= BATCH_PAIRS); end++) {
        const int64_t rows = count[end + 1] - count[end];
        if (!rows) continue;
        int32_t at = j->n_active++;
        for (; !j->few && at > 0 && count[j->order[at - 1] + 1] - count[j->order[at - 1]] < rows; at--)
            j->order[at] = j->order[at - 1];
        j->order[at] = end;
    }
    j->n = count[end] - j->base;
    for (int32_t i = 0; i < j->n_active; i++) {
        const int32_t e = j->order[i];
        j->e[i] = (moe_expert){.id = e, .first = count[e] - j->base, .n = count[e + 1] - count[e]};
    }
    return end;
}

static void gather_rows(const moe_job *j, const moe_expert *e, float *to) {
    for (int64_t i = 0; i < e->n; i++)
        memcpy(to + i * j->hidden, j->x + j->sorted[j->base + e->first + i] * j->hidden,
               (size_t)j->hidden * sizeof(float));
}

static void run_prep1(void *context, int64_t task, int worker) {
    moe_job *j = context;
    moe_expert *e = &j->e[task];
    const lm_weight *gate = &j->w->gate[e->id], *up = &j->w->up[e->id];
    if (task > 0 && e->xp_gate == j->e[0].xp_gate) return; /* one row, prepared with the first expert */
    float *rows = (float *)(void *)((char *)cpu_worker_scratch(j->c, worker) + j->gather);
    gather_rows(j, e, rows);
    e->gate->prep(gate, rows, j->hidden, 0, e->n, e->n, j->prep + e->xp_gate);
    if (e->xp_up != e->xp_gate) e->up->prep(up, rows, j->hidden, 0, e->n, e->n, j->prep + e->xp_up);
}

static int32_t expert_of(const moe_job *j, int64_t task, bool second) {
    int32_t a = 0, b = j->n_active - 1;
    while (a < b) {
        int32_t mid = (a + b + 1) / 2;
        if ((second ? j->e[mid].task2 : j->e[mid].task1) <= task)
            a = mid;
        else
            b = mid - 1;
    }
    return a;
}

/* Expert e's outputs of both stages need one another: whoever ends its last task of the first prepares the second. */
static void end_task1(moe_job *j, moe_expert *e) {
    if (atomic_fetch_sub(&e->left, 1) != 2) return;
    const int64_t ffn = j->w->ffn;
    e->down->prep(&j->w->down[e->id], j->h + e->first * ffn, ffn, 0, e->n, e->n, j->prep + e->xp_down);
    atomic_store_explicit(&e->left, 0, memory_order_release);
}

static void run_stage1(void *context, int64_t task, int worker) {
    moe_job *j = context;
    moe_expert *e = &j->e[expert_of(j, task, false)];
    int64_t ffn = j->w->ffn, n0 = (task - e->task1) * e->step1, n1 = n0 + e->step1 < ffn ? n0 + e->step1 : ffn;
    float *h = j->h + e->first * ffn, *u = j->up + e->first * ffn;
    void *scratch = cpu_worker_scratch(j->c, worker);
    e->gate->run(&j->w->gate[e->id], j->prep + e->xp_gate, e->n, n0, n1, h, ffn, scratch);
    e->up->run(&j->w->up[e->id], j->prep + e->xp_up, e->n, n0, n1, u, ffn, scratch);
    for (int64_t r = 0; r < e->n; r++) j->c->row->swiglu(h + r * ffn + n0, u + r * ffn + n0, n1 - n0, h + r * ffn + n0);
    end_task1(j, e);
}

static void run_stage2(void *context, int64_t task, int worker) {
    moe_job *j = context;
    moe_expert *e = &j->e[expert_of(j, task, true)];
    cpu_ahead_hold(j->c, false); /* what comes after this may be asked for again */
    cpu_wait(j->c, &e->left, worker);
    int64_t n0 = (task - e->task2) * e->step2, n1 = n0 + e->step2 < j->hidden ? n0 + e->step2 : j->hidden;
    e->down->run(&j->w->down[e->id], j->prep + e->xp_down, e->n, n0, n1, j->out + e->first * j->hidden, j->hidden,
                 cpu_worker_scratch(j->c, worker));
}

/* Adds the batch's experts to the rows of y. */
static void run_sum(void *context, int64_t task, int worker) {
    moe_job *j = context;
    (void)worker;
    for (int64_t i = task * 8; i < (task + 1) * 8 && i < j->m; i++) {
        float *y = j->y + i * j->hidden;
        if (j->base == 0) memset(y, 0, (size_t)j->hidden * sizeof(float));
        for (int32_t t = 0; t < j->w->top_k; t++) {
            const route *r = &j->routes[i * j->w->top_k + t];
            if (r->slot >= j->base && r->slot < j->base + j->n)
                j->c->row->axpy(y, r->weight, j->out + (r->slot - j->base) * j->hidden, j->hidden);
        }
    }
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* In rows: what reading an expert's weights costs beside multiplying one row with them. */
static int64_t expert_cost(const moe_expert *e) {
    return e->n + 16;
}

/* One row: all experts that take it alike share its preparation. */
static bool same_row(const moe_job *j, const moe_expert *a, const moe_expert *b) {
    const lm_weight *g = j->w->gate, *u = j->w->up;
    return j->m == 1 && a->gate == b->gate && a->up == b->up && g[a->id].format == g[b->id].format &&
           g[a->id].group == g[b->id].group && u[a->id].format == u[b->id].format && u[a->id].group == u[b->id].group;
}

/* Kernels, preparation offsets and task ranges of every active expert. */
static void plan_experts(moe_job *j, size_t *prep_bytes, size_t *scratch, int64_t *most) {
    cpu_backend *c = j->c;
    size_t p1 = 0, p2 = 0;
    int64_t all = 0;
    *scratch = 0, *most = 0, j->tasks1 = 0, j->tasks2 = 0, j->n_prep = 0;
    for (int32_t i = 0; i < j->n_active; i++) all += expert_cost(&j->e[i]);
    for (int32_t i = 0; i < j->n_active; i++) {
        moe_expert *e = &j->e[i];
        const lm_weight *g = &j->w->gate[e->id], *u = &j->w->up[e->id], *d = &j->w->down[e->id];
        e->gate = cpu_linear_impl(c, g, e->n);
        e->up = cpu_linear_impl(c, u, e->n);
        e->down = cpu_linear_impl(c, d, e->n);
        if (i > 0 && same_row(j, e, &j->e[0])) {
            e->xp_gate = j->e[0].xp_gate, e->xp_up = j->e[0].xp_up;
        } else {
            e->xp_gate = e->xp_up = p1;
            p1 += cpu_round64(e->gate->prep_bytes(g, e->n));
            if (e->up != e->gate || u->format != g->format || u->group != g->group) {
                e->xp_up = p1;
                p1 += cpu_round64(e->up->prep_bytes(u, e->n));
            }
            j->n_prep = i + 1;
        }
        e->xp_down = p2;
        p2 += cpu_round64(e->down->prep_bytes(d, e->n));
        *scratch = larger(*scratch, larger(e->gate->scratch_bytes(g, e->n),
                                           larger(e->up->scratch_bytes(u, e->n), e->down->scratch_bytes(d, e->n))));
        const int64_t most_tasks = (j->few ? TASKS_FEW : TASKS_PER_THREAD) * c->threads;
        const int64_t parts = (expert_cost(e) * most_tasks + all - 1) / all;
        int64_t s1 = e->gate->n_step > e->up->n_step ? e->gate->n_step : e->up->n_step, s2 = e->down->n_step;
        e->step1 = (j->w->ffn / parts / s1 < 1 ? 1 : j->w->ffn / parts / s1) * s1;
        e->step2 = (j->hidden / parts / s2 < 1 ? 1 : j->hidden / parts / s2) * s2;
        e->task1 = j->tasks1;
        e->task2 = j->tasks2;
        const int64_t tasks = (j->w->ffn + e->step1 - 1) / e->step1;
        atomic_init(&e->left, tasks + 1);
        j->tasks1 += tasks;
        j->tasks2 += (j->hidden + e->step2 - 1) / e->step2;
        if (e->n > *most) *most = e->n;
    }
    for (int32_t i = 0; i < j->n_active; i++) j->e[i].xp_down += p1; /* both kinds are alive together */
    *prep_bytes = p1 + p2;
}

static lm_status run_batch(moe_job *j, lm_error *err) {
    cpu_backend *c = j->c;
    size_t prep, scratch;
    int64_t most;
    plan_experts(j, &prep, &scratch, &most);
    LM_TRY(cpu_reserve(c, &c->prep, prep, "prepared activations", err));
    j->prep = c->prep.data;
    j->gather = cpu_round64(scratch);
    LM_TRY(cpu_reserve_worker(c, j->gather + cpu_round64((size_t)most * (size_t)j->hidden * sizeof(float)), err));
    lm_pool_run(c->pool, j->n_prep, run_prep1, j);
    cpu_run_lanes2(c, j->few, j->tasks1, run_stage1, j->tasks2, run_stage2, j);
    lm_pool_run(c->pool, (j->m + 7) / 8, run_sum, j);
    return LM_OK;
}

/* Slots of the largest batch there can be. */
static int64_t largest_batch(const moe_job *j) {
    int64_t most = 0;
    for (int32_t e = 0; e < j->w->n_experts; e++)
        if (j->count[e + 1] - j->count[e] > most) most = j->count[e + 1] - j->count[e];
    const int64_t pairs = j->m * j->w->top_k, limit = most > BATCH_PAIRS ? most : BATCH_PAIRS;
    return pairs < limit ? pairs : limit;
}

/* A piece of scratch of n elements of `size` bytes. */
static void *piece(char **at, size_t n, size_t size) {
    void *p = *at;
    *at += cpu_round64(n * size);
    return p;
}

lm_status cpu_moe(lm_backend *b, const lm_moe_weights *w, const float *router, const float *x, int64_t hidden,
                  int64_t m, float *y, lm_error *err) {
    cpu_backend *c = cpu_of(b);
    if (m == 0) return LM_OK;
    const size_t pairs = (size_t)m * (size_t)w->top_k, experts = (size_t)w->n_experts;
    const size_t tables = cpu_round64(pairs * sizeof(route)) + cpu_round64(pairs * sizeof(int64_t)) +
                          cpu_round64((experts + 1) * sizeof(int64_t)) + cpu_round64(experts * sizeof(moe_expert)) +
                          cpu_round64(experts * sizeof(int32_t));
    LM_TRY(cpu_reserve(c, &c->routing, tables, "routing of experts", err));
    moe_job j = {.c = c, .w = w, .router = router, .x = x, .hidden = hidden, .m = m, .y = y, .few = m <= CPU_FEW};
    cpu_ahead_hold(c, true); /* till it is known which experts come, and again till they have been read */
    char *at = c->routing.data;
    j.routes = piece(&at, pairs, sizeof(route));
    j.sorted = piece(&at, pairs, sizeof(int64_t));
    j.count = piece(&at, experts + 1, sizeof(int64_t));
    j.e = piece(&at, experts, sizeof(moe_expert));
    j.order = piece(&at, experts, sizeof(int32_t));
    lm_pool_run(c->pool, (m + 31) / 32, run_route, &j);
    group_rows(&j);
    const size_t n = (size_t)largest_batch(&j), ffn = cpu_round64(n * (size_t)w->ffn * sizeof(float));
    const bool one = n == pairs; /* y may be x: with more batches than one it can't be written yet */
    const size_t out = cpu_round64(n * (size_t)hidden * sizeof(float)), sums = (size_t)(m * hidden) * sizeof(float);
    LM_TRY(cpu_reserve(c, &c->shared, 2 * ffn + out + (one ? 0 : sums), "expert rows", err));
    at = c->shared.data;
    j.h = piece(&at, n * (size_t)w->ffn, sizeof(float));
    j.up = piece(&at, n * (size_t)w->ffn, sizeof(float));
    j.out = piece(&at, n * (size_t)hidden, sizeof(float));
    if (!one) j.y = (float *)(void *)at;
    for (int32_t e = 0; e < w->n_experts;) {
        e = next_batch(&j, e);
        if (j.n_active) LM_TRY(run_batch(&j, err));
    }
    if (!one) memcpy(y, j.y, sums);
    return LM_OK;
}
