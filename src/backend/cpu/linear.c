/* SPDX-License-Identifier: MIT
 * linear.c: fused groups of products over the pool. Activations are prepared once per kind of weight, then all
 * (weight, output range) tasks of the group run in one parallel region. */
#include "backend/cpu/cpu.h"
#include <string.h>

#define TASK_BYTES (64 * 1024) /* of weights, of a task of few rows */

const lm_linear_impl *cpu_linear_impl(const cpu_backend *c, const lm_weight *w, int64_t m) {
    if (c->batch_invariant) return c->matmat[w->format];
    if (m <= c->matvec_rows[w->format]) return c->matvec[w->format];
    if (m <= c->few_rows[w->format]) return c->few[w->format];
    return c->matmat[w->format];
}

typedef struct linear_task_item {
    const lm_linear_item *item;
    const lm_linear_impl *impl;
    void *xp;
    int64_t step;       /* outputs per task */
    int64_t first_task; /* tasks before this item's */
    bool prepare;       /* this item's preparation is its own; false: it shares an earlier one */
} linear_task_item;

typedef struct linear_job {
    cpu_backend *c;
    const float *x;
    int64_t ldx, m;
    linear_task_item items[CPU_MAX_ITEMS];
    int n;
    int64_t prep_rows, prep_tasks;
} linear_job;

static bool same_preparation(const linear_task_item *a, const linear_task_item *b) {
    const lm_weight *u = a->item->w, *v = b->item->w;
    return a->impl == b->impl && u->format == v->format && u->group == v->group && u->k == v->k;
}

static void run_prep(void *context, int64_t task, int worker) {
    linear_job *j = context;
    (void)worker;
    int64_t m0 = task * j->prep_rows, m1 = m0 + j->prep_rows < j->m ? m0 + j->prep_rows : j->m;
    for (int i = 0; i < j->n; i++) {
        linear_task_item *t = &j->items[i];
        if (t->prepare) t->impl->prep(t->item->w, j->x, j->ldx, m0, m1, j->m, t->xp);
    }
}

static void add_bias(const lm_linear_item *it, int64_t m, int64_t n0, int64_t n1) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t n = n0; n < n1; n++) it->y[i * it->ldy + n] += it->bias[n];
}

static void run_task(void *context, int64_t task, int worker) {
    linear_job *j = context;
    int i = j->n - 1;
    while (j->items[i].first_task > task) i--;
    linear_task_item *t = &j->items[i];
    const lm_weight *w = t->item->w;
    int64_t n0 = (task - t->first_task) * t->step, n1 = n0 + t->step < w->n ? n0 + t->step : w->n;
    t->impl->run(w, t->xp, j->m, n0, n1, t->item->y, t->item->ldy, cpu_worker_scratch(j->c, worker));
    if (t->item->bias) add_bias(t->item, j->m, n0, n1);
}

/* A few rows: a worker goes through its lane without a break in the stream, so tasks are as small as the end of a
 * product, where threads wait for each other, would have them. */
static int64_t small_step(const lm_linear_impl *impl, const lm_weight *w) {
    const int64_t each = (int64_t)w->bytes / w->n, step = impl->n_step > 16 ? impl->n_step : 16;
    const int64_t steps = TASK_BYTES / (each * step);
    return (steps < 1 ? 1 : steps) * step;
}

/* Outputs per task, a multiple of the kernel's step: as many tasks for every thread, and enough of them. With many rows
 * a task is wide enough that the rows are streamed few times. */
static int64_t task_step(const cpu_backend *c, const lm_linear_impl *impl, const lm_weight *w, int64_t m) {
    if (m <= CPU_FEW) return small_step(impl, w);
    const int64_t n = w->n;
    const int64_t even = n / c->threads;
    int64_t want = even / 6;
    if (m >= 32 && want < 128) want = even < 128 ? even : 128;
    /* many rows don't stay in a cache: whoever can serves more outputs by a pass over them */
    if (m >= 256 && want < impl->n_pass) want = even < impl->n_pass ? even : impl->n_pass;
    if (want < impl->n_step) want = impl->n_step;
    const int64_t rounds = (n + want * c->threads - 1) / (want * c->threads), tasks = rounds * c->threads;
    return (n + tasks * impl->n_step - 1) / (tasks * impl->n_step) * impl->n_step;
}

static int64_t common_multiple(int64_t a, int64_t b) {
    int64_t x = a, y = b;
    while (y) {
        int64_t r = x % y;
        x = y;
        y = r;
    }
    return a / x * b;
}

lm_status cpu_linear(lm_backend *b, const float *x, int64_t ldx, int64_t m, const lm_linear_item *items, int n_items,
                     lm_error *err) {
    cpu_backend *c = cpu_of(b);
    linear_job j = {.c = c, .x = x, .ldx = ldx, .m = m, .n = n_items};
    if (m == 0 || n_items == 0) return LM_OK;
    if (n_items > CPU_MAX_ITEMS) return lm_fail(err, LM_ARG, "linear: %d items, at most %d", n_items, CPU_MAX_ITEMS);
    size_t prep_bytes = 0, scratch = 0, offsets[CPU_MAX_ITEMS];
    int64_t tasks = 0;
    for (int i = 0; i < n_items; i++) {
        linear_task_item *t = &j.items[i];
        *t = (linear_task_item){.item = &items[i], .impl = cpu_linear_impl(c, items[i].w, m), .prepare = true};
        offsets[i] = prep_bytes;
        for (int p = 0; p < i && t->prepare; p++)
            if (same_preparation(t, &j.items[p])) {
                t->prepare = false;
                offsets[i] = offsets[p];
            }
        if (t->prepare) prep_bytes += cpu_round64(t->impl->prep_bytes(items[i].w, m));
        size_t s = t->impl->scratch_bytes(items[i].w, m);
        if (s > scratch) scratch = s;
        t->step = task_step(c, t->impl, items[i].w, m);
        t->first_task = tasks;
        tasks += (items[i].w->n + t->step - 1) / t->step;
    }
    LM_TRY(cpu_reserve(c, &c->prep, prep_bytes, "prepared activations", err));
    LM_TRY(cpu_reserve_worker(c, scratch, err));
    for (int i = 0; i < n_items; i++) j.items[i].xp = (char *)c->prep.data + offsets[i];
    /* rows per preparation task: a common multiple of the kernels' steps, about 4 tasks per thread */
    int64_t multiple = 1, want = m / ((int64_t)c->threads * 4);
    for (int i = 0; i < n_items; i++) multiple = common_multiple(multiple, j.items[i].impl->m_step);
    j.prep_rows = (want / multiple < 1 ? 1 : want / multiple) * multiple;
    lm_pool_run(c->pool, (m + j.prep_rows - 1) / j.prep_rows, run_prep, &j);
    if (m <= CPU_FEW)
        cpu_run_lanes(c, tasks, run_task, &j);
    else
        lm_pool_run(c->pool, tasks, run_task, &j);
    return LM_OK;
}

/* The part of w's tasks [first, first + n) that lies in lane [begin, end) of all tasks. */
static cpu_range lane_range(const lm_weight *w, int64_t step, int64_t first, int64_t begin, int64_t end) {
    const int64_t a = (begin - first) * step, b = (end - first) * step;
    return (cpu_range){w, a < 0 ? 0 : a, b < w->n ? b : w->n};
}

void cpu_linear_next(lm_backend *b, const lm_weight *const *weights, int n_weights, int64_t m) {
    cpu_backend *c = cpu_of(b);
    if (m > CPU_FEW || c->threads < 2 || n_weights > CPU_MAX_ITEMS) return;
    int64_t step[CPU_MAX_ITEMS], first[CPU_MAX_ITEMS], tasks = 0;
    for (int i = 0; i < n_weights; i++) {
        step[i] = small_step(cpu_linear_impl(c, weights[i], m), weights[i]);
        first[i] = tasks;
        tasks += (weights[i]->n + step[i] - 1) / step[i];
    }
    for (int t = 0; t < c->threads; t++) {
        const int64_t begin = cpu_lane_begin(c, tasks, t), end = cpu_lane_begin(c, tasks, t + 1);
        cpu_range ranges[CPU_AHEAD_PIECES];
        int n = 0;
        for (int i = 0; i < n_weights && n < CPU_AHEAD_PIECES; i++) {
            const cpu_range r = lane_range(weights[i], step[i], first[i], begin, end);
            if (r.n0 < r.n1) ranges[n++] = r;
        }
        cpu_ahead_set(c, t, ranges, n);
    }
}
