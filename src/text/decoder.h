/* SPDX-License-Identifier: MIT
 * decoder.h: the decoder of tokenizer.json: token strings -> text. */
#ifndef LM_TEXT_DECODER_H
#define LM_TEXT_DECODER_H
#include "base/buf.h"
#include "base/json.h"
#include "text/regex.h"

/** The detokenizer that mlx-lm picks for a decoder. */
typedef enum lm_stream_kind { LM_STREAM_NAIVE, LM_STREAM_SPM, LM_STREAM_SPM_KEEP_SPACE, LM_STREAM_BPE } lm_stream_kind;

typedef struct lm_decoder_step {
    enum { LM_DEC_BYTE_LEVEL, LM_DEC_REPLACE, LM_DEC_BYTE_FALLBACK, LM_DEC_FUSE, LM_DEC_STRIP, LM_DEC_METASPACE } kind;
    lm_regex *regex; /* REPLACE */
    char *text;      /* REPLACE: content; STRIP, METASPACE: the character */
    size_t length;
    int64_t start, stop; /* STRIP: at most so many characters */
    bool keep_first;     /* METASPACE: prepend_scheme never */
} lm_decoder_step;

#define LM_DEC_MAX_STEPS 16
typedef struct lm_decoder {
    lm_decoder_step steps[LM_DEC_MAX_STEPS];
    int n;
    bool present; /* without a decoder tokens are joined by spaces */
    lm_stream_kind stream;
} lm_decoder;

lm_status lm_decoder_init(lm_decoder *d, const json_t *value, const char *what, lm_error *err);
void lm_decoder_free(lm_decoder *d);

/** A list of strings in one buffer: string i is bytes [ends[i-1], ends[i]). */
typedef struct lm_strings {
    lm_buf bytes;
    size_t *ends;
    size_t n, cap;
} lm_strings;
void lm_strings_init(lm_strings *s);
void lm_strings_free(lm_strings *s);
lm_status lm_strings_end(lm_strings *s, lm_error *err); /* what was appended to bytes since becomes a string */

/** Runs the steps over `tokens` (destroyed) and appends the text, valid UTF-8, to `out`. */
lm_status lm_decoder_run(const lm_decoder *d, lm_strings *tokens, lm_buf *out, lm_error *err);
#endif
