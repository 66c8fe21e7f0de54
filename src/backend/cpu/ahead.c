/* SPDX-License-Identifier: MIT
 * ahead.c: weights asked for before they are needed. While few rows are computed, memory is what limits a step, and
 * between products it would lie idle: whoever waits then asks for what it will read first of the next product.
 *
 * The caller of the back end writes down for every worker which bytes those are; the worker reads that whenever it has
 * nothing to do, possibly while the next are being written. What it then makes of a mixture are requests that help
 * nobody, and a request is never wrong. */
#include "backend/cpu/cpu.h"
#include <sched.h>

#define UNIT 1024                /* bytes of one look: well below a microsecond */
#define MOST ((size_t)192 << 10) /* bytes that a worker asks for: a part of its own cache */

#if defined(__x86_64__) || defined(__aarch64__)
#define ASK(at) __builtin_prefetch((const void *)(at), 0, 3)
#else
#define ASK(at) ((void)(at))
#endif

#define SPINS 2000 /* looks before whoever waits offers its core */

#define GET(x) atomic_load_explicit(&(x), memory_order_relaxed)
#define SET(x, to) atomic_store_explicit(&(x), to, memory_order_relaxed)

bool cpu_ahead_look(void *context, int worker) {
    cpu_backend *c = context;
    cpu_ahead *a = &c->ahead[worker];
    if (GET(c->ahead_held)) return false;
    const uint32_t turn = atomic_load_explicit(&a->turn, memory_order_acquire);
    if (turn != a->seen) a->seen = turn, a->piece = 0, a->at = 0;
    if (a->piece == CPU_AHEAD_PIECES) return false;
    const cpu_ahead_piece *p = &a->pieces[a->piece];
    const size_t bytes = GET(p->bytes), row = GET(p->row_bytes), scales = GET(p->scale_bytes);
    if (a->at >= bytes || row == 0) {
        a->piece++, a->at = 0;
        return true;
    }
    const uintptr_t data = GET(p->data) + a->at, s = GET(p->scales), b = GET(p->biases);
    for (uintptr_t i = 0; i < UNIT; i += 64) ASK(data + i);
    const size_t from = a->at / row * scales, to = (a->at + UNIT + row) / row * scales;
    for (size_t i = from; s && i < to && i < from + UNIT; i += 64) {
        ASK(s + i);
        if (b) ASK(b + i);
    }
    a->at += UNIT;
    return true;
}

static size_t scale_bytes(const lm_weight *w) {
    return w->scales ? (size_t)(w->k / w->group) * lm_dtype_bytes(w->scale_type) : 0;
}

static void set_piece(cpu_ahead_piece *p, const lm_weight *w, int64_t n0, int64_t n1, size_t most) {
    const int64_t rows = n1 > n0 ? n1 - n0 : 0;
    const size_t bytes = (size_t)rows * w->row_bytes;
    const size_t scales = scale_bytes(w);
    const size_t first = (size_t)n0 * scales;
    SET(p->data, (uintptr_t)w->data + (size_t)n0 * w->row_bytes);
    SET(p->scales, w->scales ? (uintptr_t)w->scales + first : 0);
    SET(p->biases, w->biases ? (uintptr_t)w->biases + first : 0);
    SET(p->row_bytes, w->row_bytes);
    SET(p->scale_bytes, scales);
    SET(p->bytes, bytes < most ? bytes : most);
}

void cpu_ahead_set(cpu_backend *c, int worker, const cpu_range *ranges, int n) {
    cpu_ahead *a = &c->ahead[worker];
    size_t most = MOST;
    for (int i = 0; i < CPU_AHEAD_PIECES; i++) {
        if (i < n)
            set_piece(&a->pieces[i], ranges[i].w, ranges[i].n0, ranges[i].n1, most);
        else
            SET(a->pieces[i].bytes, 0);
        most -= GET(a->pieces[i].bytes);
    }
    atomic_store_explicit(&a->turn, GET(a->turn) + 1, memory_order_release);
}

void cpu_ahead_hold(cpu_backend *c, bool held) {
    if (GET(c->ahead_held) != held) SET(c->ahead_held, held);
}

/* ---------------------------------------------------------------- lanes */

typedef struct lanes_job {
    cpu_backend *c;
    cpu_task *fn[2];
    void *context;
} lanes_job;

static void run_lanes(void *context, int64_t item, int worker) {
    lanes_job *j = context;
    cpu_backend *c = j->c;
    (void)item;
    for (int kind = 0; kind < 2 && j->fn[kind]; kind++)
        for (int i = 0; i < c->threads; i++) {
            cpu_lane *lane = &c->lanes[kind * c->threads + (worker + i) % c->threads];
            for (int64_t t; (t = atomic_fetch_add(&lane->next, 1)) < lane->end;) j->fn[kind](j->context, t, worker);
        }
}

static void set_lanes(cpu_backend *c, int kind, bool apart, int64_t n) {
    for (int t = 0; t < c->threads; t++) {
        const int64_t begin = apart ? cpu_lane_begin(c, n, t) : t ? n : 0;
        atomic_store_explicit(&c->lanes[kind * c->threads + t].next, begin, memory_order_relaxed);
        c->lanes[kind * c->threads + t].end = apart ? cpu_lane_begin(c, n, t + 1) : n;
    }
}

void cpu_run_lanes(cpu_backend *c, int64_t n, cpu_task *fn, void *context) {
    lanes_job j = {c, {fn, NULL}, context};
    set_lanes(c, 0, true, n);
    lm_pool_run(c->pool, n < c->threads ? n : c->threads, run_lanes, &j);
}

void cpu_run_lanes2(cpu_backend *c, bool apart, int64_t n, cpu_task *fn, int64_t n2, cpu_task *fn2, void *context) {
    lanes_job j = {c, {fn, fn2}, context};
    set_lanes(c, 0, apart, n);
    set_lanes(c, 1, apart, n2);
    lm_pool_run(c->pool, c->threads, run_lanes, &j);
}

void cpu_wait(cpu_backend *c, const _Atomic int64_t *left, int worker) {
    for (int spins = 0; atomic_load_explicit(left, memory_order_acquire) > 0; spins++) {
        if (spins >= SPINS) {
            sched_yield(); /* who computes it may be waiting for this very core */
        } else if (!cpu_ahead_look(c, worker)) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
    }
}
