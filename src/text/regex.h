/* SPDX-License-Identifier: MIT
 * regex.h: regular expressions of tokenizer.json (written for Oniguruma) run by PCRE2, with match limits. */
#ifndef LM_TEXT_REGEX_H
#define LM_TEXT_REGEX_H
#include "base/buf.h"

typedef struct lm_regex lm_regex;
/** Compiles a pattern (valid UTF-8). `what` names the place in errors. Immutable afterwards. */
lm_status lm_regex_compile(const char *pattern, size_t length, const char *what, lm_regex **out, lm_error *err);
void lm_regex_free(lm_regex *regex);
/** Appends to `out` a pattern that matches `text` literally. */
void lm_regex_quote(const char *text, size_t length, lm_buf *out);

/** State of one scan; one per thread and subject. */
typedef struct lm_regex_scan lm_regex_scan;
lm_status lm_regex_scan_create(const lm_regex *regex, lm_regex_scan **out, lm_error *err);
void lm_regex_scan_free(lm_regex_scan *scan);
/** Next match in text[0, length) (valid UTF-8) at or after `from`. *found false: there is none. LM_BUDGET when the
 *  expression backtracks too much. */
lm_status lm_regex_next(lm_regex_scan *scan, const char *text, size_t length, size_t from, size_t *start, size_t *end,
                        bool *found, lm_error *err);
#endif
