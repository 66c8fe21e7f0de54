/* SPDX-License-Identifier: MIT
 * test_attention.c: attention of the CPU back end over several blocks: against sums in double, and the same bits for
 * any number of threads and, under batch_invariant, for any cut of a prompt into steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/half.h"
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HEADS = 6, KV_HEADS = 2, D = 64, ROWS = 700, BLOCKS = 3, Q = HEADS * D, KV = KV_HEADS * D };

static uint64_t state = 1;
static float uniform(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(state >> 32) * 0x1p-31f;
}

static float q[ROWS * Q], keys[ROWS * KV], values[ROWS * KV], cos_table[ROWS * D / 2], sin_table[ROWS * D / 2];
static const lm_attn_shape shape = {HEADS, KV_HEADS, D, D, 0.125f, 1e-6f};

static void make(void) {
    for (int i = 0; i < ROWS * Q; i++) q[i] = 4 * uniform();
    for (int i = 0; i < ROWS * KV; i++) { /* exact in bfloat16 and float16, so that storing loses nothing */
        keys[i] = (float)(int)(uniform() * 60) / 16;
        values[i] = (float)(int)(uniform() * 60) / 16;
    }
    for (int i = 0; i < ROWS * D / 2; i++) cos_table[i] = 1, sin_table[i] = 0; /* no rotation */
}

static void run(int threads, lm_numerics numerics, bool invariant, lm_dtype kv, int step, float *out) {
    const lm_backend_options options = {.threads = threads, .numerics = numerics, .batch_invariant = invariant};
    const size_t block = (size_t)2 * KV * LM_KV_BLOCK * lm_dtype_bytes(kv);
    static float k[ROWS * KV];
    static int64_t pos[ROWS];
    void *blocks[BLOCKS];
    lm_backend *b;
    lm_error err;
    assert_int_equal(lm_backend_cpu_create(&options, &b, &err), LM_OK);
    for (int i = 0; i < BLOCKS; i++) {
        assert_int_equal(b->alloc(b, LM_MEM_KV, block, "block", &blocks[i], &err), LM_OK);
        memset(blocks[i], 0xff, block); /* NaN where nothing is stored yet */
    }
    memcpy(k, keys, sizeof k);
    for (int i = 0; i < ROWS; i++) pos[i] = i;
    for (int i = 0; i < ROWS; i += step) {
        const int m = ROWS - i < step ? ROWS - i : step;
        const lm_attn_segment s = {.blocks = blocks, .pos = pos + i, .row = 0, .n = m, .kv_dtype = kv};
        assert_int_equal(b->kv_store(b, &shape, k + i * KV, values + i * KV, KV, &s, 1, NULL, cos_table + i * D / 2,
                                     sin_table + i * D / 2, &err),
                         LM_OK);
        assert_int_equal(b->attention(b, &shape, q + i * Q, Q, &s, 1, out + i * Q, Q, &err), LM_OK);
    }
    for (int i = 0; i < BLOCKS; i++) b->release(b, LM_MEM_KV, blocks[i], block);
    b->destroy(b);
}

/* One head of one row; *spread: what relative errors of the scores' terms and of the weights may move, times values. */
static void expected(int row, int head, double *y, double *moved) {
    static double e[ROWS];
    const float *query = q + row * Q + head * D;
    const int kv = head / (HEADS / KV_HEADS) * D;
    double top = -(double)INFINITY, sum = 0, size = 0;
    for (int p = 0; p <= row; p++) {
        double s = 0, magnitude = 0;
        for (int d = 0; d < D; d++) {
            const double t = 0.125 * (double)query[d] * (double)keys[p * KV + kv + d];
            s += t, magnitude += fabs(t);
        }
        e[p] = s;
        top = fmax(top, s), size = fmax(size, magnitude);
    }
    for (int p = 0; p <= row; p++) sum += e[p] = exp(e[p] - top);
    *moved = (2 * size + 2) * 60 / 16; /* weights move by size * error up and down, values reach 60/16 */
    for (int d = 0; d < D; d++) y[d] = 0;
    for (int p = 0; p <= row; p++)
        for (int d = 0; d < D; d++) y[d] += e[p] / sum * (double)values[p * KV + kv + d];
}

static void compare(const float *got, double rounding) {
    for (int row = 0; row < ROWS; row += row < 40 ? 1 : 37)
        for (int head = 0; head < HEADS; head++) {
            double want[D], moved;
            expected(row, head, want, &moved);
            for (int d = 0; d < D; d++)
                assert_true(fabs((double)got[row * Q + head * D + d] - want[d]) <= rounding * moved);
        }
}

static void test_attention(void **ignored) {
    static const struct {
        lm_numerics numerics;
        lm_dtype kv;
        double rounding; /* of an input of a product, and some for the chains of sums */
    } classes[] = {{LM_NUMERICS_F32, LM_DTYPE_F32, 0x1p-21},
                   {LM_NUMERICS_F16, LM_DTYPE_F16, 0x1p-14},
                   {LM_NUMERICS_BF16, LM_DTYPE_BF16, 0x1p-8}};
    static const int steps[] = {1, 5, 33, 256, 300};
    static float all[ROWS * Q], some[ROWS * Q];
    (void)ignored;
    make();
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        for (int invariant = 0; invariant < 2; invariant++) {
            run(1, classes[i].numerics, invariant, classes[i].kv, ROWS, all);
            compare(all, classes[i].rounding);
            run(3, classes[i].numerics, invariant, classes[i].kv, ROWS, some);
            assert_memory_equal(all, some, sizeof all);
            for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
                run(3, classes[i].numerics, invariant, classes[i].kv, steps[s], some);
                if (invariant) assert_memory_equal(all, some, sizeof all);
                compare(some, classes[i].rounding);
            }
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
