/* SPDX-License-Identifier: MIT
 * buf.h: a growing byte buffer with a maximum. After a failed append the buffer stays valid and `failed` is set, so a
 * run of appends needs one check at its end. */
#ifndef LM_BASE_BUF_H
#define LM_BASE_BUF_H
#include "base/status.h"

typedef struct lm_buf {
    char *data; /* terminated when not NULL */
    size_t length, capacity, max;
    bool failed; /* an append was refused: memory, or over max */
} lm_buf;

void lm_buf_init(lm_buf *b, size_t max); /* max 0: 1 GiB */
void lm_buf_free(lm_buf *b);
void lm_buf_clear(lm_buf *b);
bool lm_buf_add(lm_buf *b, const void *data, size_t length);
bool lm_buf_adds(lm_buf *b, const char *s);
bool lm_buf_addc(lm_buf *b, char c);
bool lm_buf_addf(lm_buf *b, const char *fmt, ...) LM_PRINTF(2, 3);
/** Appends a code point as UTF-8; surrogates and values past 0x10ffff become U+FFFD. */
bool lm_buf_add_utf8(lm_buf *b, uint32_t code_point);
/** Moves the bytes out (terminated; never NULL on success) and resets the buffer; NULL if it failed. */
char *lm_buf_take(lm_buf *b, size_t *length);
#endif
