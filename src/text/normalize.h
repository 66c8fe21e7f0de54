/* SPDX-License-Identifier: MIT
 * normalize.h: the normalizer of tokenizer.json as a flat list of steps. */
#ifndef LM_TEXT_NORMALIZE_H
#define LM_TEXT_NORMALIZE_H
#include "base/buf.h"
#include "base/json.h"
#include "text/regex.h"

typedef struct lm_norm_step {
    enum { LM_NORM_FORM, LM_NORM_LOWERCASE, LM_NORM_PREPEND, LM_NORM_REPLACE, LM_NORM_STRIP } kind;
    bool compose, compatibility; /* FORM: NFD neither, NFC, NFKD, NFKC both */
    bool left, right;            /* STRIP */
    char *text;                  /* PREPEND, REPLACE */
    size_t length;
    lm_regex *regex; /* REPLACE */
} lm_norm_step;

#define LM_NORM_MAX_STEPS 16
typedef struct lm_normalizer {
    lm_norm_step steps[LM_NORM_MAX_STEPS];
    int n;
} lm_normalizer;

/** Reads the "normalizer" value (NULL or null: no steps). On failure the caller still calls free. */
lm_status lm_normalizer_init(lm_normalizer *n, const json_t *value, const char *what, lm_error *err);
void lm_normalizer_free(lm_normalizer *n);
/** Normalizes valid UTF-8. `*result` points at `text` where nothing had to be done, else into `a` or `b` (initialised
 *  by the caller, overwritten). */
lm_status lm_normalize(const lm_normalizer *n, const char *text, size_t length, lm_buf *a, lm_buf *b,
                       const char **result, size_t *result_length, lm_error *err);
#endif
