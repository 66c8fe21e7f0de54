/* SPDX-License-Identifier: MIT
 * rng.h: mlx's random numbers, bit for bit: the threefry-2x32 generator with 20 rounds, the key that every operation
 * splits, and the words, uniform floats and categorical draws made of it. lm.h has lm_sampler_seed and
 * lm_random_randint. */
#ifndef LM_BASE_RNG_H
#define LM_BASE_RNG_H
#include <stddef.h>
#include <stdint.h>

/** The key of mx.random.seed(seed). */
void lm_rng_seed(uint32_t key[2], uint64_t seed);
/** What every random operation does first: `op` becomes the operation's key, `key` moves on. */
void lm_rng_split(uint32_t key[2], uint32_t op[2]);
/** Word `i` of a draw of `n` words from `op` (i < n <= 2^32). Words of one draw depend on n. */
uint32_t lm_rng_word(const uint32_t op[2], uint64_t i, uint64_t n);
/** A word as a float in [0, 1). */
float lm_rng_unit(uint32_t word);
/** mx.random.uniform(0, 1, (n,)). */
void lm_rng_uniform(uint32_t key[2], size_t n, float *out);
/** mx.random.categorical of logits [rows][vocab] -> ids [rows]. One row: inverse of the cumulative sum; more rows:
 *  Gumbel's maximum. -infinity never comes out unless a whole row is. vocab > 0. */
void lm_rng_categorical(uint32_t key[2], const float *logits, size_t rows, size_t vocab, int32_t *ids);
#endif
