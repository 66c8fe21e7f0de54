/* SPDX-License-Identifier: MIT
 * qformat.h: the quantization modes that a config may name, as one table. docs/formats/checkpoint.md draws their bytes.
 */
#ifndef LM_FORMAT_QFORMAT_H
#define LM_FORMAT_QFORMAT_H
#include <stdbool.h>
#include <stdint.h>

typedef struct lm_qmode {
    const char *name;
    int32_t group_size, bits; /* used where a config leaves them out or says null */
    uint32_t groups;          /* allowed group sizes, OR-ed: they are powers of two */
    uint32_t bits_mask;       /* bit b: b bits are allowed */
    bool has_biases;
} lm_qmode;

/** The mode called `name`, or NULL. */
const lm_qmode *lm_qmode_find(const char *name);
bool lm_qmode_allows_group(const lm_qmode *mode, int64_t group_size);
bool lm_qmode_allows_bits(const lm_qmode *mode, int64_t bits);
#endif
