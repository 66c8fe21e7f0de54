/* SPDX-License-Identifier: MIT
 *
 * Workers spin for a short while for the next job, then yield, then sleep on a condition variable. Items are claimed
 * one by one from a ticket that holds the job's number and how many items are left. The caller waits for items, not for
 * workers: a worker that the system has put aside holds nothing up unless it has claimed an item, and if it wakes late
 * it finds a newer number in the ticket and leaves. */
#include "base/pool.h"
#include "base/topology.h"
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define MAX_THREADS 1024
/* Decode hands out hundreds of jobs a token, a few microseconds apart: SPINS bridge that without a system call. Whoever
 * waits longer offers its core with every further look, because what it waits for may need that core: on a busy machine
 * the system likes to put the threads of one process together. After YIELDS looks a worker sleeps. */
#define SPINS 2000
#define YIELDS 200

struct lm_pool {
    int threads;
    pthread_t *handles;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    _Atomic uint64_t ticket; /* job number << 32 | items left */
    _Atomic int64_t done;    /* items finished of the current job */
    _Atomic int sleeping;
    _Atomic bool stop;
    /* The job. Written only while no item is left, and a ticket never shows the same value twice: so a successful claim
     * vouches for what was read since the ticket was. (A next-item ticket would not do: a late worker could read the
     * next job's larger n beside the old, used-up ticket.) */
    _Atomic uint32_t n;
    _Atomic(void *) context;
    void (*_Atomic fn)(void *, int64_t, int);
    _Atomic(void *) idle_context; /* written before idle is */
    bool (*_Atomic idle)(void *, int);
};

typedef struct worker_start {
    lm_pool *pool;
    int worker;
} worker_start;

static inline void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static uint32_t job_of(uint64_t ticket) {
    return (uint32_t)(ticket >> 32);
}

static void claim_items(lm_pool *p, uint32_t job, int worker) {
    uint64_t t = atomic_load(&p->ticket);
    while (job_of(t) == job && (uint32_t)t > 0) {
        uint32_t n = atomic_load_explicit(&p->n, memory_order_relaxed);
        void *context = atomic_load_explicit(&p->context, memory_order_relaxed);
        void (*fn)(void *, int64_t, int) = atomic_load_explicit(&p->fn, memory_order_relaxed);
        if (!atomic_compare_exchange_weak(&p->ticket, &t, t - 1)) continue;
        fn(context, (int64_t)(n - (uint32_t)t), worker);
        atomic_fetch_add(&p->done, 1);
        t = atomic_load(&p->ticket);
    }
}

/* A moment's wait, in which the thread may do something else. */
static void spend(lm_pool *p, int worker) {
    bool (*idle)(void *, int) = atomic_load_explicit(&p->idle, memory_order_acquire);
    if (!idle || !idle(atomic_load_explicit(&p->idle_context, memory_order_relaxed), worker)) cpu_relax();
}

/* The number of the next job after `seen`. */
static uint32_t wait_for_job(lm_pool *p, uint32_t seen, int worker) {
    for (int i = 0; i < SPINS; i++) {
        uint32_t job = job_of(atomic_load(&p->ticket));
        if (job != seen) return job;
        spend(p, worker);
    }
    for (int i = 0; i < YIELDS; i++) {
        uint32_t job = job_of(atomic_load(&p->ticket));
        if (job != seen) return job;
        sched_yield();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleeping, 1);
    uint32_t job;
    while ((job = job_of(atomic_load(&p->ticket))) == seen) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleeping, 1);
    pthread_mutex_unlock(&p->lock);
    return job;
}

static void *worker_main(void *arg) {
    worker_start start = *(worker_start *)arg;
    free(arg);
    uint32_t seen = 0;
    for (;;) {
        seen = wait_for_job(start.pool, seen, start.worker);
        if (atomic_load(&start.pool->stop)) return NULL;
        claim_items(start.pool, seen, start.worker);
    }
}

lm_status lm_pool_create(int threads, lm_pool **out, lm_error *err) {
    *out = NULL;
    if (threads < 0 || threads > MAX_THREADS)
        return lm_fail(err, LM_ARG, "threads: expected 0 to %d, found %d", MAX_THREADS, threads);
    if (!threads) {
        lm_topology t;
        lm_topology_get(&t);
        threads = t.threads;
    }
    lm_pool *p = calloc(1, sizeof *p);
    if (p) p->handles = calloc((size_t)threads, sizeof *p->handles);
    if (!p || !p->handles) {
        free(p);
        return lm_fail_nomem(err, sizeof *p, "thread pool");
    }
    p->threads = 1;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    for (int i = 1; i < threads; i++) {
        worker_start *start = malloc(sizeof *start);
        if (start) *start = (worker_start){p, i};
        if (!start || pthread_create(&p->handles[i], NULL, worker_main, start)) {
            free(start);
            lm_pool_destroy(p);
            return lm_fail(err, LM_NOMEM, "cannot start thread %d of %d", i + 1, threads);
        }
        p->threads = i + 1;
    }
    *out = p;
    return LM_OK;
}

/* Makes the job visible under the next number, with all its items left, and wakes who sleeps. */
static uint32_t publish(lm_pool *p, uint32_t n) {
    uint32_t job = job_of(atomic_load(&p->ticket)) + 1;
    atomic_store(&p->ticket, (uint64_t)job << 32 | n);
    if (atomic_load(&p->sleeping)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
    return job;
}

void lm_pool_destroy(lm_pool *p) {
    if (!p) return;
    atomic_store(&p->stop, true);
    publish(p, 0);
    for (int i = 1; i < p->threads; i++) pthread_join(p->handles[i], NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    free(p->handles);
    free(p);
}

int lm_pool_threads(const lm_pool *p) {
    return p->threads;
}

/* With fewer threads than cores the system can still dodge what others do; bound threads could not. The caller's thread
 * belongs to the program. */
bool lm_pool_pin(lm_pool *p) {
    lm_topology t;
    lm_topology_get(&t);
    if (p->threads < 2 || p->threads != t.n_pin || t.quota > 0) return false;
#if defined(__linux__)
    const size_t bytes = CPU_ALLOC_SIZE(LM_TOPOLOGY_CPUS);
    cpu_set_t *set = CPU_ALLOC(LM_TOPOLOGY_CPUS);
    bool all = set != NULL;
    for (int i = 1; all && i < p->threads; i++) {
        CPU_ZERO_S(bytes, set);
        CPU_SET_S((size_t)t.pin[i], bytes, set);
        all = pthread_setaffinity_np(p->handles[i], bytes, set) == 0;
    }
    if (set) CPU_FREE(set);
    return all;
#else
    return false; /* macOS takes hints only */
#endif
}

void lm_pool_set_idle(lm_pool *p, bool (*idle)(void *, int), void *context) {
    /* taken away: who is calling the old one still needs its context */
    if (idle) atomic_store_explicit(&p->idle_context, context, memory_order_relaxed);
    atomic_store_explicit(&p->idle, idle, memory_order_release);
}

static void run_part(lm_pool *p, int64_t n, void (*fn)(void *, int64_t, int), void *context) {
    atomic_store(&p->done, 0);
    atomic_store_explicit(&p->n, (uint32_t)n, memory_order_relaxed);
    atomic_store_explicit(&p->context, context, memory_order_relaxed);
    atomic_store_explicit(&p->fn, fn, memory_order_relaxed);
    claim_items(p, publish(p, (uint32_t)n), 0);
    for (int spins = 0; atomic_load(&p->done) < n; spins++) {
        if (spins < SPINS)
            spend(p, 0);
        else
            sched_yield(); /* the worker that has the last items may be waiting for this very core */
    }
}

void lm_pool_run(lm_pool *p, int64_t n, void (*fn)(void *, int64_t, int), void *context) {
    if (n <= 0) return;
    if (n == 1 || p->threads == 1) {
        for (int64_t i = 0; i < n; i++) fn(context, i, 0);
        return;
    }
    assert(n <= UINT32_MAX / 2); /* items are tasks, cut by shape: thousands */
    run_part(p, n, fn, context);
}
