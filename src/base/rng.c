/* SPDX-License-Identifier: MIT
 * rng.c: see rng.h. Everything is float32 in mlx's order of operations, since ids must come out equal. */
#include "base/rng.h"
#include "lm/lm.h"
#include <math.h>

static uint32_t rotate(uint32_t v, int by) {
    return v << by | v >> (32 - by);
}

/* Threefry-2x32: five groups of four mixes, the key schedule added after each. */
static void threefry(const uint32_t key[2], uint32_t a, uint32_t b, uint32_t out[2]) {
    static const uint8_t by[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
    const uint32_t ks[3] = {key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDAu};
    a += ks[0];
    b += ks[1];
    for (uint32_t r = 0; r < 5; r++) {
        for (int i = 0; i < 4; i++) {
            a += b;
            b = rotate(b, by[r & 1][i]) ^ a;
        }
        a += ks[(r + 1) % 3];
        b += ks[(r + 2) % 3] + r + 1;
    }
    out[0] = a;
    out[1] = b;
}

uint32_t lm_rng_word(const uint32_t op[2], uint64_t i, uint64_t n) {
    uint64_t half = n / 2, odd = n & 1;
    uint32_t pair[2];
    if (i < half) {
        threefry(op, (uint32_t)i, (uint32_t)(i + half + odd), pair);
        return pair[0];
    }
    if (odd && i == half) {
        threefry(op, (uint32_t)half, 0, pair);
        return pair[0];
    }
    threefry(op, (uint32_t)(i - half - odd), (uint32_t)i, pair);
    return pair[1];
}

void lm_rng_seed(uint32_t key[2], uint64_t seed) {
    key[0] = (uint32_t)(seed >> 32);
    key[1] = (uint32_t)seed;
}

void lm_rng_split(uint32_t key[2], uint32_t op[2]) {
    uint32_t words[4];
    for (uint64_t i = 0; i < 4; i++) words[i] = lm_rng_word(key, i, 4);
    key[0] = words[0];
    key[1] = words[1];
    op[0] = words[2];
    op[1] = words[3];
}

float lm_rng_unit(uint32_t word) {
    float u = (float)word / 4294967296.0f;
    return u < 0x1.fffffep-1f ? u : 0x1.fffffep-1f;
}

void lm_rng_uniform(uint32_t key[2], size_t n, float *out) {
    uint32_t op[2];
    lm_rng_split(key, op);
    for (size_t i = 0; i < n; i++) out[i] = lm_rng_unit(lm_rng_word(op, i, n));
}

static int32_t categorical_inverse(const uint32_t op[2], const float *logits, size_t vocab) {
    float best = -INFINITY, sum = 0;
    for (size_t i = 0; i < vocab; i++)
        if (logits[i] > best) best = logits[i];
    for (size_t i = 0; i < vocab; i++)
        if (logits[i] > -INFINITY) sum += expf(logits[i] - best); /* the others would add nothing, slowly */
    float u = lm_rng_unit(lm_rng_word(op, 0, 1)) * sum, below = 0;
    int32_t id = 0;
    /* The last entry with weight whose sum of weights before it is <= u. */
    for (size_t i = 0; i < vocab && below <= u; i++) {
        if (!(logits[i] > -INFINITY)) continue;
        float w = expf(logits[i] - best);
        if (w > 0) id = (int32_t)i;
        below += w;
    }
    return id;
}

void lm_rng_categorical(uint32_t key[2], const float *logits, size_t rows, size_t vocab, int32_t *ids) {
    uint32_t op[2];
    lm_rng_split(key, op);
    if (rows == 1) {
        ids[0] = categorical_inverse(op, logits, vocab);
        return;
    }
    for (size_t r = 0; r < rows; r++) {
        float best = -INFINITY;
        ids[r] = 0;
        for (size_t i = 0; i < vocab; i++) {
            float u = lm_rng_unit(lm_rng_word(op, r * vocab + i, (uint64_t)rows * vocab));
            float g = logits[r * vocab + i] - logf(-logf(u));
            if (g > best) best = g, ids[r] = (int32_t)i;
        }
    }
}

/* ---------------------------------------------------------------- public */

void lm_sampler_seed(lm_sampler *sampler, uint64_t seed) {
    lm_rng_seed(sampler->key, seed);
}

void lm_random_randint(uint32_t key[2], int32_t low, int32_t high, size_t n, int32_t *out) {
    uint32_t op[2];
    lm_rng_split(key, op);
    float from = (float)low, width = (float)high - from;
    for (size_t i = 0; i < n; i++) {
        float v = floorf(lm_rng_unit(lm_rng_word(op, i, n)) * width + from);
        out[i] = high > low && v >= (float)high ? high - 1 : v >= 2147483648.0f ? INT32_MAX : (int32_t)v;
    }
}
