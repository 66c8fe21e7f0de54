/* SPDX-License-Identifier: MIT */
#include "base/types.h"
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
#define LM_X(name, text, bytes) {text, bytes},
    LM_DTYPE_MAP(LM_X)
#undef LM_X
};
static const struct {
    const char *name;
    int bits;
} formats[] = {
#define LM_X(name, text, bits) {text, bits},
    LM_FORMAT_MAP(LM_X)
#undef LM_X
};

const char *lm_dtype_name(lm_dtype dtype) {
    return dtype < LM_DTYPE_COUNT ? dtypes[dtype].name : "?";
}
size_t lm_dtype_bytes(lm_dtype dtype) {
    return dtype < LM_DTYPE_COUNT ? dtypes[dtype].bytes : 0;
}
lm_dtype lm_dtype_find(const char *name, size_t length) {
    for (int i = 0; i < LM_DTYPE_COUNT; i++)
        if (strlen(dtypes[i].name) == length && !memcmp(dtypes[i].name, name, length)) return (lm_dtype)i;
    return LM_DTYPE_COUNT;
}
const char *lm_format_name(lm_format format) {
    return format < LM_FORMAT_COUNT ? formats[format].name : "?";
}
int lm_format_bits(lm_format format) {
    return format < LM_FORMAT_COUNT ? formats[format].bits : 0;
}
lm_format lm_format_affine(int bits) {
    for (int f = LM_FORMAT_AFFINE2; f <= LM_FORMAT_AFFINE8; f++)
        if (formats[f].bits == bits) return (lm_format)f;
    return LM_FORMAT_COUNT;
}
