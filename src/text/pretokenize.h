/* SPDX-License-Identifier: MIT
 * pretokenize.h: the pre_tokenizer of tokenizer.json as a flat list of steps over pieces of text. */
#ifndef LM_TEXT_PRETOKENIZE_H
#define LM_TEXT_PRETOKENIZE_H
#include "base/buf.h"
#include "base/json.h"
#include "text/regex.h"

typedef enum lm_split_behavior {
    LM_SPLIT_REMOVED,
    LM_SPLIT_ISOLATED,
    LM_SPLIT_MERGED_WITH_PREVIOUS,
    LM_SPLIT_MERGED_WITH_NEXT,
    LM_SPLIT_CONTIGUOUS
} lm_split_behavior;

typedef struct lm_pre_step {
    enum { LM_PRE_SPLIT, LM_PRE_PREFIX_SPACE, LM_PRE_BYTE_MAP, LM_PRE_METASPACE } kind;
    lm_regex *regex; /* SPLIT */
    lm_split_behavior behavior;
    bool invert;
    enum { LM_PREPEND_ALWAYS, LM_PREPEND_FIRST, LM_PREPEND_NEVER } prepend; /* METASPACE */
    char replacement[5];
} lm_pre_step;

#define LM_PRE_MAX_STEPS 32
typedef struct lm_pretokenizer {
    lm_pre_step steps[LM_PRE_MAX_STEPS];
    int n;
} lm_pretokenizer;

/** Reads the "pre_tokenizer" value (NULL or null: no steps). On failure the caller still calls free. */
lm_status lm_pretokenizer_init(lm_pretokenizer *p, const json_t *value, const char *what, lm_error *err);
void lm_pretokenizer_free(lm_pretokenizer *p);

typedef struct lm_piece {
    size_t start, end;
} lm_piece;
/** Text cut into pieces, in order. Owned by one encode call. */
typedef struct lm_pieces {
    const char *text;
    size_t length;
    lm_piece *items, *spare;
    size_t n, cap, spare_n, spare_cap;
    lm_buf buf, spare_buf; /* text after a step that changed it */
    lm_regex_scan *scans[LM_PRE_MAX_STEPS];
} lm_pieces;
void lm_pieces_init(lm_pieces *w);
void lm_pieces_free(lm_pieces *w);
/** Cuts text[0, length) (valid UTF-8, borrowed while `w` is used). `at_start`: it begins the whole input. */
lm_status lm_pretokenize(const lm_pretokenizer *p, lm_pieces *w, const char *text, size_t length, bool at_start,
                         lm_error *err);
#endif
