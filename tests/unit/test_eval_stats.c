/* SPDX-License-Identifier: MIT
 * test_eval_stats.c: statistics against scipy and statsmodels (tests/data/stats.tar.xz), and whether comparisons of a
 * model with itself call as many differences significant as they should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "eval/stats.h"
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE 1e-9
#define MAX_QUESTIONS 500

static double worst;

static void near(double got, double expected, const char *what, size_t row) {
    double distance = fabs(got - expected);
    if (distance > worst) worst = distance;
    if (!(distance <= TOLERANCE)) fail_msg("%s of row %zu: expected %.17g, found %.17g", what, row, expected, got);
}

/* Calls `check` for every line of a file of the oracle. */
static size_t each_line(const char *name, void (*check)(const json_t *row, size_t number)) {
    char path[600];
    snprintf(path, sizeof path, "%s/stats/%s", LM_TEST_DATA, name);
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s cannot be opened", path);
    size_t n = 0;
    json_t *row;
    json_error_t error;
    while ((row = json_loadf(file, JSON_DISABLE_EOF_CHECK, &error))) {
        check(row, n++);
        json_decref(row);
    }
    fclose(file);
    return n;
}

static double number(const json_t *row, const char *key, int index) {
    const json_t *value = json_object_get(row, key);
    return json_number_value(index < 0 ? value : json_array_get(value, (size_t)index));
}

static void check_table(const json_t *row, size_t i) {
    const char *a = json_string_value(json_object_get(row, "a")), *b = json_string_value(json_object_get(row, "b"));
    size_t n = strlen(a), only_a = 0, only_b = 0, right = 0;
    double scores[MAX_QUESTIONS], d[MAX_QUESTIONS];
    assert_true(n <= MAX_QUESTIONS && strlen(b) == n);
    for (size_t k = 0; k < n; k++) {
        scores[k] = a[k] - '0';
        d[k] = (double)(b[k] - a[k]);
        right += a[k] == '1';
        only_a += a[k] > b[k];
        only_b += a[k] < b[k];
    }
    lm_ev_interval wilson = lm_ev_wilson((double)right, (double)n);
    near(wilson.low, number(row, "wilson", 0), "wilson", i);
    near(wilson.high, number(row, "wilson", 1), "wilson", i);
    near(lm_ev_mean_stderr(scores, n), number(row, "se", -1), "standard error", i);
    near(lm_ev_mcnemar((int64_t)only_a, (int64_t)only_b), number(row, "mcnemar", -1), "mcnemar", i);
    near(lm_ev_mean(d, n), number(row, "diff", -1), "difference", i);
    lm_ev_interval normal = lm_ev_normal(lm_ev_mean(d, n), lm_ev_mean_stderr(d, n));
    near(normal.low, number(row, "diff_ci", 0), "interval", i);
    near(normal.high, number(row, "diff_ci", 1), "interval", i);
    near((double)(n - only_a - only_b) / (double)n, number(row, "agree", -1), "agreement", i);
    if (!json_object_get(row, "bootstrap")) return;
    size_t sizes[8], strata = json_array_size(json_object_get(row, "strata"));
    assert_true(strata <= 8);
    for (size_t k = 0; k < strata; k++) sizes[k] = (size_t)number(row, "strata", (int)k);
    lm_ev_interval boot;
    assert_int_equal(lm_ev_bootstrap(d, sizes, strata, (size_t)number(row, "bootstrap", 1),
                                     (uint64_t)number(row, "bootstrap", 0), &boot, NULL),
                     LM_OK);
    near(boot.low, number(row, "bootstrap", 2), "bootstrap", i);
    near(boot.high, number(row, "bootstrap", 3), "bootstrap", i);
}

static void check_pair(const json_t *row, size_t i) {
    double p = json_number_value(json_array_get(row, 2));
    double got = lm_ev_mcnemar(json_integer_value(json_array_get(row, 0)), json_integer_value(json_array_get(row, 1)));
    near(got, p, "mcnemar", i);
    if (p > 1e-290) near(got / p, 1, "mcnemar, relative,", i);
}

static void check_holm(const json_t *row, size_t i) {
    double p[64], adjusted[64];
    size_t n = json_array_size(json_object_get(row, "p"));
    assert_true(n <= 64);
    for (size_t k = 0; k < n; k++) p[k] = number(row, "p", (int)k);
    assert_int_equal(lm_ev_holm(p, n, adjusted, NULL), LM_OK);
    for (size_t k = 0; k < n; k++) near(adjusted[k], number(row, "holm", (int)k), "holm", i);
}

static void test_oracle(void **state) {
    (void)state;
    assert_int_equal(each_line("tables.jsonl", check_table), 1000);
    assert_int_equal(each_line("mcnemar.jsonl", check_pair), 1000);
    assert_int_equal(each_line("holm.jsonl", check_holm), 100);
    print_message("largest distance from scipy and statsmodels: %.2e\n", worst);
}

/* 200 pairs of runs whose questions have the same chance on both sides: how often is a difference called significant?
 * 5 % is nominal; the exact test may only stay below (it is discrete), the bootstrap should come near. */
static void test_same_model(void **state) {
    (void)state;
    enum { RUNS = 200, STRATA = 4, EACH = 100 };
    size_t sizes[STRATA] = {EACH, EACH, EACH, EACH}, exact = 0, boot = 0, normal = 0;
    lm_ev_rng rng;
    lm_ev_rng_seed(&rng, 7);
    for (uint64_t run = 0; run < RUNS; run++) {
        double d[STRATA * EACH];
        int64_t b = 0, c = 0;
        for (size_t i = 0; i < STRATA * EACH; i++) {
            uint64_t chance = 20 + 60 * (i % 7) / 6; /* per cent: questions differ in how hard they are */
            int x = lm_ev_rng_below(&rng, 100) < chance, y = lm_ev_rng_below(&rng, 100) < chance;
            d[i] = y - x;
            b += x > y;
            c += y > x;
        }
        lm_ev_interval i;
        assert_int_equal(lm_ev_bootstrap(d, sizes, STRATA, 1000, run, &i, NULL), LM_OK);
        exact += lm_ev_mcnemar(b, c) < 0.05;
        boot += i.low > 0 || i.high < 0;
        i = lm_ev_normal(lm_ev_mean(d, STRATA * EACH), lm_ev_mean_stderr(d, STRATA * EACH));
        normal += i.low > 0 || i.high < 0;
    }
    print_message("significant of %d: McNemar %zu, bootstrap %zu, normal %zu\n", RUNS, exact, boot, normal);
    /* binomial(200, 0.05): 3 to 18 hold 99.7 % */
    assert_in_range(exact, 1, 18);
    assert_in_range(boot, 3, 18);
    assert_in_range(normal, 3, 18);
}

static void test_edges(void **state) {
    (void)state;
    assert_true(lm_ev_mcnemar(0, 0) == 1 && lm_ev_mcnemar(5, 5) == 1 && lm_ev_mcnemar(0, 1) == 1);
    assert_true(lm_ev_mcnemar(0, 6) == lm_ev_mcnemar(6, 0));
    assert_true(lm_ev_mcnemar(0, 100000) == 0);
    assert_true(lm_ev_wilson(0, 10).low == 0 && lm_ev_wilson(10, 10).high == 1);
    lm_ev_interval i;
    double same[3] = {1, 1, 1};
    size_t size = 3, none = 0;
    assert_int_equal(lm_ev_bootstrap(same, &size, 1, 50, 1, &i, NULL), LM_OK);
    assert_true(i.low == 1 && i.high == 1);
    assert_int_equal(lm_ev_bootstrap(same, &none, 1, 50, 1, &i, NULL), LM_ARG);
    assert_int_equal(lm_ev_holm(NULL, 0, NULL, NULL), LM_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_oracle), cmocka_unit_test(test_same_model),
                                       cmocka_unit_test(test_edges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
