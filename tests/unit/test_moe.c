/* SPDX-License-Identifier: MIT
 * test_moe.c: experts of the CPU back end: against sums in double, and the same bits whether rows come one by one, a
 * few at a time or so many that experts are taken in several batches; for one thread and for three; with y in place of
 * x. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EXPERTS = 12, TOP_K = 4, HIDDEN = 32, FFN = 64, ROWS = 1000 }; /* 4000 (row, choice) pairs */

static uint64_t state = 1;
static float uniform(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(state >> 32) * 0x1p-31f;
}

static lm_weight matrices[3][EXPERTS];
static float router[ROWS * EXPERTS], x[ROWS * HIDDEN];

static void make_layer(void) {
    for (int m = 0; m < 3; m++)
        for (int e = 0; e < EXPERTS; e++) {
            const int64_t n = m == 2 ? HIDDEN : FFN, k = m == 2 ? FFN : HIDDEN;
            float *data = malloc((size_t)(n * k) * sizeof(float));
            assert_non_null(data);
            for (int64_t i = 0; i < n * k; i++) data[i] = uniform();
            matrices[m][e] = (lm_weight){.data = data,
                                         .n = n,
                                         .k = k,
                                         .row_bytes = (size_t)k * sizeof(float),
                                         .bytes = (size_t)(n * k) * sizeof(float),
                                         .format = LM_FORMAT_F32,
                                         .name = "expert"};
        }
    for (int i = 0; i < ROWS * EXPERTS; i++) router[i] = 3 * uniform() + (i % EXPERTS == 5 ? 2 : 0); /* one is liked */
    for (int i = 0; i < ROWS * HIDDEN; i++) x[i] = uniform();
}

static void free_layer(void) {
    for (int m = 0; m < 3; m++)
        for (int e = 0; e < EXPERTS; e++) free((void *)(uintptr_t)matrices[m][e].data);
}

/* y of all rows, `step` at a time. */
static void run(int threads, int step, float *y) {
    const lm_backend_options options = {.threads = threads, .numerics = LM_NUMERICS_F32, .batch_invariant = true};
    const lm_moe_weights w = {matrices[0], matrices[1], matrices[2], EXPERTS, TOP_K, true, FFN};
    lm_backend *b;
    lm_error err;
    assert_int_equal(lm_backend_cpu_create(&options, &b, &err), LM_OK);
    memcpy(y, x, sizeof x);
    for (int i = 0; i < ROWS; i += step) {
        const int m = ROWS - i < step ? ROWS - i : step;
        float *rows = y + i * HIDDEN;
        assert_int_equal(b->moe(b, &w, router + i * EXPERTS, rows, HIDDEN, m, rows, &err), LM_OK);
    }
    b->destroy(b);
}

static double dot(const lm_weight *w, int64_t row, const double *v) {
    double sum = 0;
    for (int64_t k = 0; k < w->k; k++) sum += (double)((const float *)w->data)[row * w->k + k] * v[k];
    return sum;
}

static void expected_row(int row, double *y) {
    const float *logit = router + row * EXPERTS;
    double total = 0, v[HIDDEN], h[FFN];
    int chosen[TOP_K];
    for (int t = 0; t < TOP_K; t++) {
        chosen[t] = -1;
        for (int e = 0; e < EXPERTS; e++) {
            int taken = 0;
            for (int p = 0; p < t; p++) taken |= chosen[p] == e;
            if (!taken && (chosen[t] < 0 || logit[e] > logit[chosen[t]])) chosen[t] = e;
        }
        total += exp((double)logit[chosen[t]]);
    }
    for (int k = 0; k < HIDDEN; k++) v[k] = (double)x[row * HIDDEN + k], y[k] = 0;
    for (int t = 0; t < TOP_K; t++) {
        const int e = chosen[t];
        for (int n = 0; n < FFN; n++) {
            const double gate = dot(&matrices[0][e], n, v);
            h[n] = gate / (1 + exp(-gate)) * dot(&matrices[1][e], n, v);
        }
        for (int k = 0; k < HIDDEN; k++) y[k] += exp((double)logit[e]) / total * dot(&matrices[2][e], k, h);
    }
}

static void test_experts(void **ignored) {
    static float all[ROWS * HIDDEN], some[ROWS * HIDDEN];
    static const struct { int threads, step; } ways[] = {{1, 1}, {3, 1}, {3, 7}, {3, 400}, {3, ROWS}};
    (void)ignored;
    make_layer();
    run(1, ROWS, all);
    for (int i = 0; i < ROWS; i++) {
        double want[HIDDEN], size = 0;
        expected_row(i, want);
        for (int k = 0; k < HIDDEN; k++) size = fmax(size, fabs(want[k]));
        for (int k = 0; k < HIDDEN; k++) /* some hundred roundings of numbers about as large as the largest result */
            assert_true(fabs((double)all[i * HIDDEN + k] - want[k]) <= 0x1p-23 * 200 * (1 + size));
    }
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        run(ways[i].threads, ways[i].step, some);
        assert_memory_equal(all, some, sizeof all);
    }
    free_layer();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_experts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
