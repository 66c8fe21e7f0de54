/* SPDX-License-Identifier: MIT
 * utf8.h: UTF-8 as the text room needs it: invalid bytes become U+FFFD exactly as Python's errors="replace" does it
 * (one per maximal subpart), and the GPT-2 byte alphabet. */
#ifndef LM_TEXT_UTF8_H
#define LM_TEXT_UTF8_H
#include "base/buf.h"

/** An incremental decoder. Zero-initialise. `pending` bytes form a valid but unfinished prefix of a sequence. */
typedef struct lm_utf8 {
    unsigned char bytes[4];
    int pending, need;
    bool replaced; /* the last code point emitted was a U+FFFD (replacement or real) */
} lm_utf8;
/** Feeds one byte; complete characters (or U+FFFD) go to `out`. */
void lm_utf8_feed(lm_utf8 *u, unsigned char byte, lm_buf *out);
/** An unfinished sequence becomes one U+FFFD. */
void lm_utf8_finish(lm_utf8 *u, lm_buf *out);
/** Appends `length` bytes, repaired. */
void lm_utf8_repair(const char *text, size_t length, lm_buf *out);
bool lm_utf8_valid(const char *text, size_t length);
/** Code point at *p of valid UTF-8; advances *p. */
uint32_t lm_utf8_next(const char **p);

/** GPT-2's byte alphabet: code point of a byte (U+0021..U+0143), and the byte of a code point (-1: none). */
uint32_t lm_byte_alphabet(unsigned char byte);
int lm_byte_alphabet_inverse(uint32_t code_point);
#endif
