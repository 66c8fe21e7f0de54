/* SPDX-License-Identifier: MIT */
#include "format/qformat.h"
#include <string.h>

#define BIT(b) (1u << (b))

static const lm_qmode modes[] = {
    {"affine", 64, 4, 32 | 64 | 128, BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8), true},
    {"mxfp4", 32, 4, 32, BIT(4), false},
    {"nvfp4", 16, 4, 16, BIT(4), false},
    {"mxfp8", 32, 8, 32, BIT(8), false},
};

const lm_qmode *lm_qmode_find(const char *name) {
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (!strcmp(modes[i].name, name)) return &modes[i];
    return NULL;
}

bool lm_qmode_allows_group(const lm_qmode *mode, int64_t group_size) {
    bool power = group_size > 0 && group_size <= 128 && !(group_size & (group_size - 1));
    return power && (mode->groups & (uint32_t)group_size);
}

bool lm_qmode_allows_bits(const lm_qmode *mode, int64_t bits) {
    return bits > 0 && bits < 32 && (mode->bits_mask & BIT(bits));
}
