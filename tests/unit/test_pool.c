/* SPDX-License-Identifier: MIT
 * test_pool.c: every item runs exactly once, whatever the number of threads and jobs; also with sleeping workers. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include "base/pool.h"
#include "base/topology.h"
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define ITEMS 1000
typedef struct job {
    int64_t plain[ITEMS]; /* written by one item each: TSan sees an item that runs twice, or a job that ends early */
    _Atomic int64_t count;
    int threads;
} job;

static void item(void *context, int64_t i, int worker) {
    job *j = context;
    j->plain[i]++;
    if (worker >= 0 && worker < j->threads) atomic_fetch_add(&j->count, 1);
}

static void run_jobs(int threads, int jobs, int pause_every) {
    lm_pool *p;
    lm_error err;
    static job j;
    assert_int_equal(lm_pool_create(threads, &p, &err), LM_OK);
    assert_int_equal(lm_pool_threads(p), threads);
    for (int k = 0; k < jobs; k++) {
        int64_t n = 1 + (k * 37) % ITEMS;
        memset(&j, 0, sizeof j);
        j.threads = threads;
        lm_pool_run(p, n, item, &j);
        assert_int_equal(j.count, n);
        for (int64_t i = 0; i < n; i++) assert_int_equal(j.plain[i], 1);
        if (pause_every && k % pause_every == 0) usleep(3000); /* workers fall asleep */
    }
    lm_pool_destroy(p);
}

static void test_every_item_once(void **state) {
    (void)state;
    run_jobs(1, 50, 0);
    run_jobs(2, 3000, 0);
    run_jobs(5, 1000, 0);
}

static void test_sleepers(void **state) {
    (void)state;
    run_jobs(3, 60, 1);
}

typedef struct idler {
    _Atomic int64_t looks;
    _Atomic int foreign; /* a worker number that is none */
    int threads;
} idler;

static bool look(void *context, int worker) {
    idler *i = context;
    if (worker < 0 || worker >= i->threads) atomic_store(&i->foreign, 1);
    return atomic_fetch_add(&i->looks, 1) % 2 == 0;
}

/* Threads that wait look at what else there is; jobs run as ever, also after that was taken away again. */
static void test_idle(void **state) {
    (void)state;
    lm_pool *p;
    lm_error err;
    static job j;
    idler i = {.threads = 3};
    assert_int_equal(lm_pool_create(i.threads, &p, &err), LM_OK);
    lm_pool_set_idle(p, look, &i);
    for (int k = 0; k < 500; k++) {
        memset(&j, 0, sizeof j);
        j.threads = i.threads;
        if (k == 400) lm_pool_set_idle(p, NULL, NULL);
        lm_pool_run(p, ITEMS, item, &j);
        assert_int_equal(j.count, ITEMS);
        if (k % 100 == 0) usleep(3000);
    }
    assert_true(i.looks > 0);
    assert_false(i.foreign);
    lm_pool_destroy(p);
}

static void test_limits(void **state) {
    (void)state;
    lm_pool *p;
    lm_error err;
    assert_int_equal(lm_pool_create(100000, &p, &err), LM_ARG);
    assert_int_equal(lm_pool_create(-1, &p, &err), LM_ARG);
    assert_null(p);
    assert_int_equal(lm_pool_create(0, &p, &err), LM_OK);
    assert_true(lm_pool_threads(p) >= 1);
    lm_pool_run(p, 0, item, NULL);
    lm_pool_destroy(p);
}

/* Bound or not, jobs are done; more threads than cores are never bound. */
static void test_bound(void **state) {
    (void)state;
    lm_pool *p;
    lm_error err;
    lm_topology t;
    static job j;
    lm_topology_get(&t);
    assert_int_equal(lm_pool_create(0, &p, &err), LM_OK);
    assert_int_equal(lm_pool_threads(p), t.threads);
    const bool bound = lm_pool_pin(p);
    if (t.threads < 2 || t.quota > 0) assert_false(bound);
    memset(&j, 0, sizeof j);
    j.threads = t.threads;
    lm_pool_run(p, ITEMS, item, &j);
    assert_int_equal(j.count, ITEMS);
    lm_pool_destroy(p);
    if (t.threads >= LM_TOPOLOGY_PIN) return;
    assert_int_equal(lm_pool_create(t.threads + 1, &p, &err), LM_OK);
    assert_false(lm_pool_pin(p));
    lm_pool_destroy(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_item_once), cmocka_unit_test(test_sleepers),
                                       cmocka_unit_test(test_idle), cmocka_unit_test(test_limits),
                                       cmocka_unit_test(test_bound)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
