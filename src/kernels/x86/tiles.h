/* SPDX-License-Identifier: MIT
 * tiles.h: the AMX instructions, written out: gcc 12's intrinsics for ldtilecfg and tileloadd don't tell the compiler
 * which memory they read, so that it drops the stores before them. */
#ifndef LM_X86_TILES_H
#define LM_X86_TILES_H
#include <stddef.h>
#include <stdint.h>

#define BLOCK 16 /* rows of a tile */

/* Palette 1: eight tiles of 16 rows of 64 bytes. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;
_Static_assert(sizeof(tile_config) == 64, "what ldtilecfg reads");

/* Tiles of `depth` 32-bit columns: tiles 4 and 5 have rows of so many, 6 and 7 so many rows; the rest is whole. */
static inline void tiles_begin(int depth) {
    tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = (uint16_t)(i == 4 || i == 5 ? 4 * depth : 64);
        c.rows[i] = (uint8_t)(i >= 6 ? depth : BLOCK);
    }
    __asm__ __volatile__("ldtilecfg %0" ::"m"(c));
}
static inline void tiles_end(void) {
    __asm__ __volatile__("tilerelease");
}
#define TILE_ZERO(t) __asm__ __volatile__("tilezero %%tmm" #t ::)
#define TILE_LOAD(t, from, stride) \
    __asm__ __volatile__("tileloadd (%0,%1,1), %%tmm" #t ::"r"(from), "r"((size_t)(stride)) : "memory")
#define TILE_STORE(t, to, stride) \
    __asm__ __volatile__("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(to), "r"((size_t)(stride)) : "memory")
/* Asks for the 16 lines of a tile that lies in one run of memory. Written out as well: it stays where it is. */
#define TILE_ASK(from)                                                                             \
    __asm__ __volatile__(                                                                          \
        "prefetcht0 (%0)\n\tprefetcht0 64(%0)\n\tprefetcht0 128(%0)\n\tprefetcht0 192(%0)\n\t"     \
        "prefetcht0 256(%0)\n\tprefetcht0 320(%0)\n\tprefetcht0 384(%0)\n\tprefetcht0 448(%0)\n\t" \
        "prefetcht0 512(%0)\n\tprefetcht0 576(%0)\n\tprefetcht0 640(%0)\n\tprefetcht0 704(%0)\n\t" \
        "prefetcht0 768(%0)\n\tprefetcht0 832(%0)\n\tprefetcht0 896(%0)\n\tprefetcht0 960(%0)" ::"r"(from))
#define TILE_MULTIPLY(c, a, b) __asm__ __volatile__("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
/* c += a (signed bytes) times b (unsigned bytes), four at a time */
#define TILE_MULTIPLY_BYTES(c, a, b) __asm__ __volatile__("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
/* the same with b signed */
#define TILE_MULTIPLY_SIGNED(c, a, b) __asm__ __volatile__("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#endif
