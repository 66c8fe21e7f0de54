/* SPDX-License-Identifier: MIT
 * test_sampler.c: the sampler's chain. Expected ids: mlx-lm 0.32.2's make_sampler on mlx 0.32.4's CPU back end, seed 7,
 * on logits[i] = (i * 7919 % 1000) / 100, i < 1000, as [1, 1000] log-probabilities, 24 draws each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/sampler.h"
#include <cmocka.h>
#include <math.h>
#include <string.h>

enum { VOCAB = 1000, DRAWS = 24 };

static void fill(float *logits) {
    for (int i = 0; i < VOCAB; i++) logits[i] = (float)(i * 7919 % 1000 / 100.0);
}

static const int32_t special[] = {321};

static const struct {
    lm_sampler sampler;
    int32_t ids[DRAWS];
} cases[] = {
    {{.temp = 1.0f}, {76,  976, 273, 284, 411, 76,  581, 420, 63,  383, 778, 693,
                      951, 322, 445, 260, 457, 396, 704, 150, 729, 593, 744, 3}},
    {{.temp = 0.7f}, {87,  976, 284, 284, 420, 87,  581, 420, 65,  383, 778, 693,
                      951, 322, 445, 261, 457, 396, 704, 161, 729, 593, 754, 13}},
    {{.temp = 1.0f, .top_p = 0.9f}, {76,  976, 273, 284, 420, 87,  581, 420, 63,  383, 778, 693,
                                     951, 322, 445, 260, 457, 396, 704, 161, 729, 593, 743, 2}},
    {{.temp = 1.5f, .top_p = 0.3f}, {99,  988, 284, 284, 420, 99,  593, 420, 99,  383, 778, 704,
                                     963, 321, 457, 284, 494, 420, 704, 210, 741, 605, 741, 25}},
    {{.temp = 1.0f, .min_p = 0.05f, .min_tokens_to_keep = 1},
     {76,  976, 273, 284, 410, 76,  581, 420, 63,  383, 778, 693,
      951, 322, 445, 260, 457, 396, 704, 150, 729, 593, 743, 3}},
    {{.temp = 2.0f, .min_p = 0.9f, .min_tokens_to_keep = 20},
     {136, 963, 284, 284, 457, 136, 568, 457, 136, 420, 815, 642,
      926, 321, 457, 284, 494, 420, 778, 173, 778, 568, 778, 99}},
    {{.temp = 1.0f, .top_k = 5}, {284, 963, 321, 321, 605, 284, 605, 605, 284, 321, 642, 642,
                                  963, 321, 605, 321, 605, 321, 642, 284, 642, 605, 642, 284}},
    {{.temp = 1.0f, .xtc_probability = 0.5f, .xtc_threshold = 0.005f, .xtc_special = special, .n_xtc_special = 1},
     {967, 274, 65,  420, 359, 693, 322, 248, 372, 150, 593, 3,
      878, 929, 495, 211, 457, 396, 927, 347, 866, 151, 88,  445}},
    {{.temp = 0.8f,
      .top_p = 0.95f,
      .min_p = 0.02f,
      .min_tokens_to_keep = 1,
      .top_k = 40,
      .xtc_probability = 0.3f,
      .xtc_threshold = 0.009f},
     {988, 272, 136, 457, 371, 704, 321, 284, 420, 198, 605, 25,
      840, 951, 457, 161, 494, 420, 914, 346, 914, 198, 62,  494}},
};

static void test_chain(void **state) {
    (void)state;
    float logits[VOCAB];
    fill(logits);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        lm_sampler s = cases[c].sampler;
        lm_sampler_seed(&s, 7);
        for (int i = 0; i < DRAWS; i++) {
            int32_t id = -1;
            float logprob = 1;
            lm_error err = {0};
            assert_int_equal(lm_sample_row(&s, logits, VOCAB, &id, &logprob, &err), LM_OK);
            if (id != cases[c].ids[i]) print_error("case %zu draw %d\n", c, i);
            assert_int_equal(id, cases[c].ids[i]);
            assert_true(logprob < 0);
        }
    }
}

static void test_greedy(void **state) {
    (void)state;
    float x[6] = {1, 3, NAN, 3, -INFINITY, 2}, logprob = 0;
    lm_sampler s = lm_sampler_greedy();
    int32_t id = -1;
    lm_error err = {0};
    assert_int_equal(lm_sample_row(&s, x, 6, &id, NULL, &err), LM_OK);
    assert_int_equal(id, 1); /* the lowest id wins a tie */
    x[2] = 0;
    assert_int_equal(lm_sample_row(&s, x, 6, &id, &logprob, &err), LM_OK);
    double sum = exp(1) + 2 * exp(3) + 1 + exp(2);
    assert_true(fabs((double)logprob - (3 - log(sum))) < 1e-6);
    assert_int_equal(s.key[0] | s.key[1], 0); /* greedy takes no random numbers */
}

static void expect_refused(lm_sampler s, const float *x, int64_t n, const char *part) {
    int32_t id;
    lm_error err = {0};
    assert_int_not_equal(lm_sample_row(&s, x, n, &id, NULL, &err), LM_OK);
    assert_non_null(strstr(err.message, part));
}

static void test_refused(void **state) {
    (void)state;
    const float x[3] = {1, 2, 3}, none[2] = {-INFINITY, NAN}, huge[2] = {INFINITY, 1};
    expect_refused((lm_sampler){.temp = 1, .top_k = 3}, x, 3, "top_k");
    expect_refused((lm_sampler){.temp = 1, .min_p = 2}, x, 3, "min_p");
    expect_refused((lm_sampler){.temp = 1, .min_p = 0.5f}, x, 3, "min_tokens_to_keep");
    expect_refused((lm_sampler){.temp = 1, .xtc_probability = 0.5f, .xtc_threshold = 0.7f}, x, 3, "xtc");
    expect_refused((lm_sampler){.temp = -1}, x, 3, "temp");
    expect_refused((lm_sampler){.temp = NAN}, x, 3, "temp");
    expect_refused(lm_sampler_greedy(), none, 2, "finite");
    expect_refused(lm_sampler_greedy(), huge, 2, "finite");
}

/* Whatever the filters drop, a token with weight comes out; NaN and -infinity never do. */
static void test_holes(void **state) {
    (void)state;
    float x[8] = {-INFINITY, NAN, 1, -INFINITY, 2, NAN, 1.5f, -INFINITY};
    lm_sampler s = {.temp = 3, .top_p = 0.99f, .min_p = 0.01f, .min_tokens_to_keep = 7, .top_k = 6};
    for (uint64_t seed = 0; seed < 500; seed++) {
        int32_t id = -1;
        lm_sampler_seed(&s, seed);
        assert_int_equal(lm_sample_row(&s, x, 8, &id, NULL, NULL), LM_OK);
        assert_true(id == 2 || id == 4 || id == 6);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_holes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
