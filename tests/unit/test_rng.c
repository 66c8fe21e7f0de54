/* SPDX-License-Identifier: MIT
 * test_rng.c: mlx's random numbers. Expected values came from mlx 0.32.4 on its CPU back end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "lm/lm.h"
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

static int32_t *draw(uint64_t seed, int32_t low, int32_t high, size_t n) {
    uint32_t key[2];
    int32_t *out = malloc(n * sizeof *out);
    assert_non_null(out);
    lm_rng_seed(key, seed);
    lm_random_randint(key, low, high, n, out);
    return out;
}

static void expect_ids(const int32_t *got, const int32_t *want, size_t n) {
    for (size_t i = 0; i < n; i++) assert_int_equal(got[i], want[i]);
}

static void test_randint(void **state) {
    (void)state;
    static const int32_t begin[] = {144918, 102433, 17312, 43367, 77850, 79181, 97702, 61418};
    static const int32_t end[] = {16130, 11597, 77721};
    int32_t *ids = draw(0, 0, 151936, 2048);
    int64_t sum = 0;
    for (size_t i = 0; i < 2048; i++) sum += ids[i];
    expect_ids(ids, begin, 8);
    expect_ids(ids + 2045, end, 3);
    assert_int_equal(sum, 154422659);
    free(ids);

    static const int32_t begin_512[] = {71329, 58310, 20875, 140761};
    ids = draw(0, 0, 151936, 512);
    expect_ids(ids, begin_512, 4);
    free(ids);

    static const int32_t begin_llama[] = {122331, 86468, 14614, 36608};
    ids = draw(0, 0, 128256, 2048);
    expect_ids(ids, begin_llama, 4);
    free(ids);

    static const int32_t begin_batch[] = {118794, 142039, 129798, 92942};
    ids = draw(0, 0, 151936, 4 * 2048);
    expect_ids(ids, begin_batch, 4);
    free(ids);
}

/* The key moves on from one draw to the next; odd lengths pair their words differently; negative numbers round down. */
static void test_randint_sequence(void **state) {
    (void)state;
    static const int32_t second[] = {10177, 72509, 81862, 71887, 27643, 86406, 99531};
    static const int32_t third[] = {0, 0, -2, 0, 1, 4, 4, -1, 1};
    uint32_t key[2];
    int32_t ids[2048];
    lm_rng_seed(key, 0);
    lm_random_randint(key, 0, 151936, 2048, ids);
    lm_random_randint(key, 0, 151936, 7, ids);
    expect_ids(ids, second, 7);
    lm_random_randint(key, -5, 5, 9, ids);
    expect_ids(ids, third, 9);
    lm_random_randint(key, 3, 4, 5, ids);
    for (int i = 0; i < 5; i++) assert_int_equal(ids[i], 3);
}

static void test_uniform(void **state) {
    (void)state;
    static const float want[] = {0.872414351f, 0.443020999f, 0.277080536f, 0.786595047f};
    uint32_t key[2];
    float got[4];
    lm_rng_seed(key, 0);
    lm_rng_uniform(key, 4, got);
    for (int i = 0; i < 4; i++) assert_true(got[i] == want[i]);
    assert_true(lm_rng_unit(0xffffffffu) < 1.0f);
    assert_true(lm_rng_unit(0) == 0.0f);
}

static void test_categorical(void **state) {
    (void)state;
    static const float values[5] = {.1f, .2f, .3f, .4f, 1.0f};
    static const int32_t single[12] = {4, 2, 0, 4, 3, 0, 2, 4, 3, 4, 1, 4};
    static const int32_t pairs[4][2] = {{4, 2}, {1, 4}, {2, 1}, {3, 4}};
    float x[10], sum = 0;
    for (int i = 0; i < 5; i++) sum += expf(values[i]);
    for (int i = 0; i < 10; i++) x[i] = values[i % 5] - logf(sum);
    uint32_t key[2];
    int32_t ids[2];
    lm_rng_seed(key, 42);
    for (int i = 0; i < 12; i++) {
        lm_rng_categorical(key, x, 1, 5, ids);
        assert_int_equal(ids[0], single[i]);
    }
    lm_rng_seed(key, 42);
    for (int i = 0; i < 4; i++) {
        lm_rng_categorical(key, x, 2, 5, ids);
        expect_ids(ids, pairs[i], 2);
    }
}

static void test_seed(void **state) {
    (void)state;
    uint32_t key[2];
    lm_rng_seed(key, 0x123456789abcdef0u);
    assert_int_equal(key[0], 0x12345678u);
    assert_int_equal(key[1], 0x9abcdef0u);
    lm_sampler s = {0};
    lm_sampler_seed(&s, 42);
    assert_int_equal(s.key[0], 0);
    assert_int_equal(s.key[1], 42);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_randint), cmocka_unit_test(test_randint_sequence),
        cmocka_unit_test(test_uniform), cmocka_unit_test(test_categorical),
        cmocka_unit_test(test_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
