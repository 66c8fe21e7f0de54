/* SPDX-License-Identifier: MIT
 * peak__amx.c: bfloat16 and int8 by tile products on registers, and from caches: four tiles of sums, as the matrix
 * kernels keep them.
 * The instructions are written out, as in linear_matmat__amx.c. */
#if defined(__x86_64__)
#include "kernels/peak.h"

#define BLOCK 16 /* rows of a tile */
#define TILE_BYTES 1024
#define STEPS 16 /* of a strip: 512 inputs of bfloat16 */

typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;
_Static_assert(sizeof(tile_config) == 64, "what ldtilecfg reads");

#define TILE_ZERO(t) __asm__ __volatile__("tilezero %%tmm" #t ::)
#define MULTIPLY(instruction, c, a, b) __asm__ __volatile__(instruction " %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
/* Zeros keep sums finite; the instruction takes as long as with any other number. */
#define RUN(instruction)                           \
    const tile_config c = full_tiles();            \
    __asm__ __volatile__("ldtilecfg %0" ::"m"(c)); \
    TILE_ZERO(0);                                  \
    TILE_ZERO(1);                                  \
    TILE_ZERO(2);                                  \
    TILE_ZERO(3);                                  \
    TILE_ZERO(4);                                  \
    TILE_ZERO(5);                                  \
    TILE_ZERO(6);                                  \
    TILE_ZERO(7);                                  \
    for (int64_t r = 0; r < rounds; r++) {         \
        MULTIPLY(instruction, 0, 4, 6);            \
        MULTIPLY(instruction, 1, 4, 7);            \
        MULTIPLY(instruction, 2, 5, 6);            \
        MULTIPLY(instruction, 3, 5, 7);            \
    }                                              \
    __asm__ __volatile__("tilerelease")

static tile_config full_tiles(void) {
    tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) c.row_bytes[i] = 64, c.rows[i] = BLOCK;
    return c;
}

static void run_bf16(int64_t rounds) {
    RUN("tdpbf16ps");
}
static void run_int8(int64_t rounds) {
    RUN("tdpbssd");
}

#define LOAD(t, from) __asm__ __volatile__("tileloadd (%0,%1,1), %%tmm" #t ::"r"(from), "r"((size_t)64) : "memory")
#define STORE(t, to) __asm__ __volatile__("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(to), "r"((size_t)64) : "memory")
/* few: [STEPS][2 tiles], strips: [n][STEPS][2 tiles], sums: [4 tiles] */
#define RUN_TILES(instruction)                                                                         \
    const tile_config c = full_tiles();                                                                \
    __asm__ __volatile__("ldtilecfg %0" ::"m"(c));                                                     \
    for (int64_t i = 0; i < n; i++) {                                                                  \
        const char *a = few, *b = (const char *)strips + (size_t)i * STEPS * 2 * TILE_BYTES;           \
        TILE_ZERO(0);                                                                                  \
        TILE_ZERO(1);                                                                                  \
        TILE_ZERO(2);                                                                                  \
        TILE_ZERO(3);                                                                                  \
        for (int k = 0; k < STEPS; k++, a += 2 * TILE_BYTES, b += 2 * TILE_BYTES) {                    \
            for (size_t at = 0; ahead && at < 2 * TILE_BYTES; at += 64) /* what the next step reads */ \
                __builtin_prefetch(b + 2 * TILE_BYTES + at, 0, 3);                                     \
            LOAD(6, b);                                                                                \
            LOAD(4, a);                                                                                \
            LOAD(7, b + TILE_BYTES);                                                                   \
            LOAD(5, a + TILE_BYTES);                                                                   \
            MULTIPLY(instruction, 0, 4, 6);                                                            \
            MULTIPLY(instruction, 1, 4, 7);                                                            \
            MULTIPLY(instruction, 2, 5, 6);                                                            \
            MULTIPLY(instruction, 3, 5, 7);                                                            \
        }                                                                                              \
        STORE(0, sums);                                                                                \
        STORE(1, (char *)sums + TILE_BYTES);                                                           \
        STORE(2, (char *)sums + 2 * TILE_BYTES);                                                       \
        STORE(3, (char *)sums + 3 * TILE_BYTES);                                                       \
    }                                                                                                  \
    __asm__ __volatile__("tilerelease")

static void tiles_bf16(const void *few, const void *strips, int64_t n, bool ahead, void *sums) {
    RUN_TILES("tdpbf16ps");
}
static void tiles_int8(const void *few, const void *strips, int64_t n, bool ahead, void *sums) {
    RUN_TILES("tdpbssd");
}

#define STEP_OPERATIONS (4 * 2.0 * BLOCK * BLOCK) /* times the inputs of a tile's row */
#define SIZES STEPS * 2 * TILE_BYTES, STEPS * 2 * TILE_BYTES, 4 * TILE_BYTES
const lm_peak_impl lm_peak_bf16__amx = {
    run_bf16, STEP_OPERATIONS * 32, {tiles_bf16, STEPS *STEP_OPERATIONS * 32, SIZES}};
const lm_peak_impl lm_peak_int8__amx = {
    run_int8, STEP_OPERATIONS * 64, {tiles_int8, STEPS *STEP_OPERATIONS * 64, SIZES}};
#else
typedef int lm_empty_translation_unit;
#endif
