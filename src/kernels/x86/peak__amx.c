/* SPDX-License-Identifier: MIT
 * peak__amx.c: bfloat16 and int8 by tile products on registers: four tiles of sums, as the matrix kernels keep them.
 * The instructions are written out, as in linear_matmat__amx.c. */
#if defined(__x86_64__)
#include "kernels/peak.h"

#define BLOCK 16 /* rows of a tile */

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

const lm_peak_impl lm_peak_bf16__amx = {run_bf16, 4 * 2.0 * BLOCK *BLOCK * 32};
const lm_peak_impl lm_peak_int8__amx = {run_int8, 4 * 2.0 * BLOCK *BLOCK * 64};
#else
typedef int lm_empty_translation_unit;
#endif
