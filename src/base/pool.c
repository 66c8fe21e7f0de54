/* SPDX-License-Identifier: MIT
 *
 * Workers spin for a short while for the next job (decode hands out hundreds of jobs per token), then sleep on a
 * condition variable. A job is claimed item by item with one atomic counter. */
#include "base/pool.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#define MAX_THREADS 1024
#define SPINS 20000 /* about 50 to 100 us: longer than the gap between two ops of a decode step */

struct lm_pool {
    int threads;
    pthread_t *handles;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    _Atomic uint64_t generation; /* counts jobs; a worker that sees a new value joins in */
    _Atomic int64_t next;        /* next item */
    _Atomic int active;          /* workers that have not left the current job */
    _Atomic int sleeping;
    _Atomic bool stop;
    int64_t n;
    void (*fn)(void *, int64_t, int);
    void *context;
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

static void claim_items(lm_pool *p, int worker) {
    for (;;) {
        int64_t i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (i >= p->n) return;
        p->fn(p->context, i, worker);
    }
}

static uint64_t wait_for_job(lm_pool *p, uint64_t seen) {
    for (int i = 0; i < SPINS; i++) {
        uint64_t g = atomic_load_explicit(&p->generation, memory_order_acquire);
        if (g != seen) return g;
        cpu_relax();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleeping, 1);
    uint64_t g;
    while ((g = atomic_load(&p->generation)) == seen) pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->sleeping, 1);
    pthread_mutex_unlock(&p->lock);
    return g;
}

static void *worker_main(void *arg) {
    worker_start start = *(worker_start *)arg;
    free(arg);
    lm_pool *p = start.pool;
    uint64_t seen = 0;
    for (;;) {
        seen = wait_for_job(p, seen);
        if (atomic_load(&p->stop)) return NULL;
        claim_items(p, start.worker);
        atomic_fetch_sub_explicit(&p->active, 1, memory_order_release);
    }
}

lm_status lm_pool_create(int threads, lm_pool **out, lm_error *err) {
    *out = NULL;
    if (threads <= 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        threads = online > 0 ? (int)online : 1;
    }
    if (threads > MAX_THREADS) return lm_fail(err, LM_ARG, "threads: %d, expected at most %d", threads, MAX_THREADS);
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

static void publish(lm_pool *p) {
    atomic_fetch_add(&p->generation, 1);
    if (atomic_load(&p->sleeping)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
}

void lm_pool_destroy(lm_pool *p) {
    if (!p) return;
    atomic_store(&p->stop, true);
    publish(p);
    for (int i = 1; i < p->threads; i++) pthread_join(p->handles[i], NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    free(p->handles);
    free(p);
}

int lm_pool_threads(const lm_pool *p) { return p->threads; }

void lm_pool_run(lm_pool *p, int64_t n, void (*fn)(void *, int64_t, int), void *context) {
    if (n <= 0) return;
    if (n == 1 || p->threads == 1) {
        for (int64_t i = 0; i < n; i++) fn(context, i, 0);
        return;
    }
    p->n = n;
    p->fn = fn;
    p->context = context;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->active, p->threads - 1, memory_order_relaxed);
    publish(p);
    claim_items(p, 0);
    for (int spins = 0; atomic_load_explicit(&p->active, memory_order_acquire) > 0; spins++) {
        if (spins < SPINS)
            cpu_relax();
        else
            usleep(20); /* another process holds a worker's core: give ours away */
    }
}
