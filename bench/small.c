/* SPDX-License-Identifier: MIT
 *
 * small.c: what surrounds the kernels of a token, each alone: waking the pool's workers, one token out of a row of
 * logits.
 *
 *     bench_small [THREADS]    (default 2) */
#include "backend/sampler.h"
#include "base/clock.h"
#include "base/pool.h"
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOBS 2000
#define MAX_THREADS 64
#define VOCAB 151936
#define DRAWS 50

/* ---------------------------------------------------------------- pool */

typedef struct wake_job {
    int threads;
    _Atomic int started;
    double when[MAX_THREADS]; /* an item's own beginning */
} wake_job;

/* As many items as threads, and none ends before all have begun: so each runs on a thread of its own. */
static void wake_item(void *context, int64_t item, int worker) {
    wake_job *j = context;
    j->when[item] = lm_now_seconds();
    atomic_fetch_add(&j->started, 1);
    while (atomic_load(&j->started) < j->threads) continue;
    (void)worker;
}

static void empty_item(void *context, int64_t item, int worker) {
    (void)context, (void)item, (void)worker;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void wait_seconds(double s) {
    const double until = lm_now_seconds() + s;
    while (lm_now_seconds() < until) continue;
}

static void wake_row(lm_pool *pool, double gap) {
    static double last[JOBS], whole[JOBS];
    const int jobs = gap > 1e-3 ? JOBS / 10 : JOBS;
    wake_job j = {.threads = lm_pool_threads(pool)};
    for (int i = 0; i < jobs; i++) {
        wait_seconds(gap);
        atomic_store(&j.started, 0);
        double begin = lm_now_seconds(), latest = 0;
        lm_pool_run(pool, j.threads, wake_item, &j);
        for (int t = 0; t < j.threads; t++)
            if (j.when[t] > latest) latest = j.when[t];
        last[i] = latest - begin;
        wait_seconds(gap);
        begin = lm_now_seconds();
        lm_pool_run(pool, 4 * j.threads, empty_item, NULL);
        whole[i] = lm_now_seconds() - begin;
    }
    qsort(last, (size_t)jobs, sizeof *last, by_value);
    qsort(whole, (size_t)jobs, sizeof *whole, by_value);
    printf("  %8.1f us %10.2f us %10.2f us %18.2f us\n", gap * 1e6, last[jobs / 2] * 1e6, last[jobs * 9 / 10] * 1e6,
           whole[jobs / 2] * 1e6);
}

static int pool_table(int threads) {
    static const double gaps[] = {0, 2e-6, 10e-6, 50e-6, 200e-6, 1e-3, 5e-3};
    lm_pool *pool;
    lm_error err = {LM_OK, ""};
    if (lm_pool_create(threads, &pool, &err)) return fprintf(stderr, "bench_small: %s\n", err.message), 1;
    printf("Pool of %d: from the call to the last thread's beginning; a job of %d empty items\n", threads, 4 * threads);
    printf("  %11s %13s %13s %21s\n", "after", "median", "9 of 10", "empty job, median");
    for (size_t i = 0; i < sizeof gaps / sizeof *gaps; i++) wake_row(pool, gaps[i]);
    lm_pool_destroy(pool);
    return 0;
}

/* ---------------------------------------------------------------- sampler */

/* About the distribution of a model: a few likely tokens, a long tail. */
static void fill_logits(float *logits) {
    uint32_t r = 1;
    for (int i = 0; i < VOCAB; i++) {
        r = r * 1664525u + 1013904223u;
        const float u = ((float)(r >> 8) + 0.5f) / 16777216.0f;
        logits[i] = -2.0f * logf(u) + 4.0f * (float)(r >> 31);
    }
}

static int sampler_table(void) {
    static float logits[VOCAB];
    static const struct {
        const char *name;
        lm_sampler s;
    } rows[] = {{"temp 0", {.temp = 0}},
                {"temp 1", {.temp = 1}},
                {"top-k 40", {.temp = 1, .top_k = 40}},
                {"top-p 0.9", {.temp = 1, .top_p = 0.9f}},
                {"top-p 0.5, top-k 20", {.temp = 0.7f, .top_p = 0.5f, .top_k = 20}},
                {"min-p 0.05", {.temp = 1, .min_p = 0.05f, .min_tokens_to_keep = 1}}};
    lm_error err = {LM_OK, ""};
    fill_logits(logits);
    printf("One token of %d logits, median of %d\n", VOCAB, DRAWS);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double t[DRAWS];
        long long sum = 0;
        lm_sampler s = rows[i].s;
        lm_sampler_seed(&s, 7);
        for (int d = 0; d < DRAWS; d++) {
            int32_t id;
            const double begin = lm_now_seconds();
            if (lm_sample_row(&s, logits, VOCAB, &id, NULL, &err))
                return fprintf(stderr, "bench_small: %s\n", err.message), 1;
            t[d] = lm_now_seconds() - begin;
            sum += id;
        }
        qsort(t, DRAWS, sizeof *t, by_value);
        printf("  %-20s %9.3f ms   (ids sum to %lld)\n", rows[i].name, t[DRAWS / 2] * 1e3, sum);
    }
    return 0;
}

int main(int argc, char **argv) {
    const int threads = argc > 1 ? atoi(argv[1]) : 2;
    if (threads < 2 || threads > MAX_THREADS)
        return fprintf(stderr, "usage: bench_small [THREADS, 2 to %d]\n", MAX_THREADS), 2;
    return pool_table(threads) || sampler_table();
}
