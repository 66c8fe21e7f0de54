/* SPDX-License-Identifier: MIT
 * ahead.c: weights asked for before they are needed. While few rows are computed, memory is what limits a step, and
 * between products it would lie idle: whoever waits then asks for what it will read first of the next product.
 *
 * The caller of the back end writes down for every worker which bytes those are; the worker reads that whenever it has
 * nothing to do, possibly while the next are being written. What it then makes of a mixture are requests that help
 * nobody, and a request is never wrong. */
#include "backend/cpu/cpu.h"

#define UNIT 1024                /* bytes of one look: well below a microsecond */
#define MOST ((size_t)192 << 10) /* bytes that a worker asks for: a part of its own cache */

#if defined(__x86_64__) || defined(__aarch64__)
#define ASK(at) __builtin_prefetch((const void *)(at), 0, 3)
#else
#define ASK(at) ((void)(at))
#endif

#define GET(x) atomic_load_explicit(&(x), memory_order_relaxed)
#define SET(x, to) atomic_store_explicit(&(x), to, memory_order_relaxed)

bool cpu_ahead_look(void *context, int worker) {
    cpu_ahead *a = &((cpu_backend *)context)->ahead[worker];
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

static void set_piece(cpu_ahead_piece *p, const lm_weight *w, int64_t n0, int64_t n1, size_t most) {
    const int64_t rows = n1 > n0 ? n1 - n0 : 0;
    const size_t bytes = (size_t)rows * w->row_bytes;
    const size_t scales = w->scales ? (size_t)(w->k / w->group) * lm_dtype_bytes(w->scale_type) : 0;
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

/* ---------------------------------------------------------------- lanes */

typedef struct lanes_job {
    cpu_backend *c;
    void (*fn)(void *, int64_t, int);
    void *context;
} lanes_job;

static void run_lanes(void *context, int64_t item, int worker) {
    lanes_job *j = context;
    cpu_backend *c = j->c;
    (void)item;
    for (int i = 0; i < c->threads; i++) {
        cpu_lane *lane = &c->lanes[(worker + i) % c->threads];
        for (int64_t t; (t = atomic_fetch_add(&lane->next, 1)) < lane->end;) j->fn(j->context, t, worker);
    }
}

void cpu_run_lanes(cpu_backend *c, int64_t n, void (*fn)(void *, int64_t, int), void *context) {
    lanes_job j = {c, fn, context};
    for (int t = 0; t < c->threads; t++) {
        atomic_store_explicit(&c->lanes[t].next, cpu_lane_begin(c, n, t), memory_order_relaxed);
        c->lanes[t].end = cpu_lane_begin(c, n, t + 1);
    }
    lm_pool_run(c->pool, n < c->threads ? n : c->threads, run_lanes, &j);
}
