/* SPDX-License-Identifier: MIT
 * cpu.h: state shared by the files of the CPU back end. */
#ifndef LM_BACKEND_CPU_H
#define LM_BACKEND_CPU_H
#include "backend/backend.h"
#include "base/pool.h"
#include "kernels/kernel.h"
#include <stdatomic.h>

#define CPU_MAX_ITEMS 8
#define CPU_STAGES 16 /* clocks of profile.c */

/** A buffer that grows and is never given back before the back end is destroyed. */
typedef struct cpu_scratch {
    void *data;
    size_t bytes;
} cpu_scratch;

typedef struct cpu_stage {
    double seconds;
    uint64_t calls, bytes;
} cpu_stage;

#define CPU_AHEAD_PIECES 3

/** Rows of a weight that a worker will read, and how their bytes lie (ahead.c). */
typedef struct cpu_ahead_piece {
    _Atomic uintptr_t data, scales, biases;
    _Atomic size_t bytes, row_bytes, scale_bytes; /* of data in all; of a row */
} cpu_ahead_piece;
typedef struct cpu_ahead {
    _Alignas(64) _Atomic uint32_t turn; /* changes when pieces have */
    cpu_ahead_piece pieces[CPU_AHEAD_PIECES];
    /* the worker's own */
    _Alignas(64) uint32_t seen;
    int piece;
    size_t at;
} cpu_ahead;

#define CPU_FEW 32 /* rows: memory limits a product, so every thread is to read one run of it (cpu_run_lanes) */

/** Tasks that a worker takes one after the other before it helps others. */
typedef struct cpu_lane {
    _Alignas(64) _Atomic int64_t next;
    int64_t end;
} cpu_lane;

typedef void cpu_task(void *context, int64_t task, int worker);

typedef struct cpu_range {
    const lm_weight *w;
    int64_t n0, n1; /* outputs */
} cpu_range;

typedef struct cpu_backend {
    lm_backend base;
    lm_backend ops; /* base's functions as they are without clocks */
    cpu_stage stages[CPU_STAGES];
    lm_pool *pool;
    int threads;
    uint32_t flags;
    bool batch_invariant;
    lm_numerics numerics;
    const lm_linear_impl *matvec[LM_FORMAT_COUNT], *matmat[LM_FORMAT_COUNT];
    int matvec_rows[LM_FORMAT_COUNT];           /* up to so many rows MATVEC is the faster one */
    const lm_linear_impl *few[LM_FORMAT_COUNT]; /* MATMAT for more rows than that, ... */
    int few_rows[LM_FORMAT_COUNT];              /* ... up to so many; 0: none */
    const lm_attn_impl *attn[LM_FORMAT_COUNT];
    const lm_attn_impl *attn_few[LM_FORMAT_COUNT]; /* for few query rows, unless batch_invariant */
    const lm_attn_impl *attnq[LM_FORMAT_COUNT];
    const lm_kv_impl *kv[LM_FORMAT_COUNT];
    const lm_row_impl *row;
    cpu_scratch prep;    /* prepared activations of one linear call */
    cpu_scratch shared;  /* attention partials, MoE buffers */
    cpu_scratch routing; /* MoE: who goes where */
    cpu_scratch worker;  /* threads times worker_bytes */
    size_t worker_bytes;
    cpu_ahead *ahead; /* [threads] */
    _Atomic bool ahead_held;
    cpu_lane *lanes; /* [2][threads] */
} cpu_backend;

static inline cpu_backend *cpu_of(lm_backend *b) {
    return (cpu_backend *)b;
}
static inline size_t cpu_round64(size_t n) {
    return (n + 63) & ~(size_t)63;
}

/** Makes s at least `bytes` long (content is lost). */
lm_status cpu_reserve(cpu_backend *c, cpu_scratch *s, size_t bytes, const char *what, lm_error *err);
/** Makes every worker's scratch at least `bytes` long. */
lm_status cpu_reserve_worker(cpu_backend *c, size_t bytes, lm_error *err);
static inline void *cpu_worker_scratch(const cpu_backend *c, int worker) {
    return (char *)c->worker.data + (size_t)worker * c->worker_bytes;
}
/** The first of n tasks in worker t's lane; t = threads: n. */
static inline int64_t cpu_lane_begin(const cpu_backend *c, int64_t n, int t) {
    return n * t / c->threads;
}
/** fn(context, task, worker) for tasks [0, n): each worker goes through a lane of neighbours in order, so that it reads
 * one run of memory, and then takes over what is left in the others' lanes. */
void cpu_run_lanes(cpu_backend *c, int64_t n, cpu_task *fn, void *context);
/** The same of two kinds of tasks: a worker begins with the second when nobody has to take one of the first any more.
 * Some of those may still be running: what a task of the second kind needs of them is for it to wait for (cpu_wait).
 * `apart`: in lanes; else tasks are claimed in turn. */
void cpu_run_lanes2(cpu_backend *c, bool apart, int64_t n, cpu_task *fn, int64_t n2, cpu_task *fn2, void *context);
/** Until *left is 0: asks for what comes next, and leaves the core to others if it takes long. */
void cpu_wait(cpu_backend *c, const _Atomic int64_t *left, int worker);
/** What `worker` will read first of the next product: it asks for that when it waits. */
void cpu_ahead_set(cpu_backend *c, int worker, const cpu_range *ranges, int n);
/** While held, nobody asks for any of that: it would be gone again before it is needed. */
void cpu_ahead_hold(cpu_backend *c, bool held);
/** The pool's idle function: asks for a little more of that; false: nothing left. */
bool cpu_ahead_look(void *context, int worker);
/** Kernel of a weight for m rows. */
const lm_linear_impl *cpu_linear_impl(const cpu_backend *c, const lm_weight *w, int64_t m);
/** The kernel format of a KV element type. */
lm_format cpu_kv_format(lm_dtype dtype);

lm_status cpu_linear(lm_backend *b, const float *x, int64_t ldx, int64_t m, const lm_linear_item *items, int n_items,
                     lm_error *err);
void cpu_linear_next(lm_backend *b, const lm_weight *const *weights, int n_weights, int64_t m);
lm_status cpu_q_norm_rope(lm_backend *b, const lm_attn_shape *s, float *q, int64_t ldq, int64_t m, const float *q_norm,
                          const float *cos, const float *sin, lm_error *err);
lm_status cpu_kv_store(lm_backend *b, const lm_attn_shape *s, float *k, const float *v, int64_t ldkv,
                       const lm_attn_segment *segments, int n_segments, const float *k_norm, const float *cos,
                       const float *sin, lm_error *err);
lm_status cpu_kv_quantize(lm_backend *b, const lm_attn_shape *s, int64_t layers, lm_kvq quant, lm_dtype kv_dtype,
                          const void *from, void *to, int32_t n, lm_error *err);
lm_status cpu_attention(lm_backend *b, const lm_attn_shape *s, const float *q, int64_t ldq,
                        const lm_attn_segment *segments, int n_segments, float *out, int64_t ldo, lm_error *err);
lm_status cpu_moe(lm_backend *b, const lm_moe_weights *w, const float *router, const float *x, int64_t hidden,
                  int64_t m, float *y, lm_error *err);
void cpu_profile(lm_backend *b, bool on);
size_t cpu_stages(const lm_backend *b, lm_stage *out, size_t room);
#endif
