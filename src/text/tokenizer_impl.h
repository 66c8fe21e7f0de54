/* SPDX-License-Identifier: MIT
 * tokenizer_impl.h: what an open tokenizer holds. Nothing changes after lm_tokenizer_open but the atomic flags inside
 * lm_bpe, so any number of threads may use one. */
#ifndef LM_TEXT_TOKENIZER_IMPL_H
#define LM_TEXT_TOKENIZER_IMPL_H
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalize.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"

/** Longest text or id list of one call. */
#define LM_TEXT_MAX ((size_t)256 << 20)

struct lm_tokenizer {
    lm_normalizer normalizer;
    lm_pretokenizer pretokenizer;
    lm_bpe bpe;
    lm_added_tokens added;
    int32_t *added_by_id;  /* id -> item of `added`, -1; n_ids of them */
    int32_t n_ids;         /* largest id + 1 */
    int64_t size;          /* distinct ids */
    lm_ids prefix, suffix; /* what the post-processor puts around a text */
    lm_decoder decoder;
    bool clean_up;
    json_t *config, *special;
    char *chat_template;
    const char *bos, *eos; /* inside `special` */
    const char *think_start, *think_end;
};

/** String of an id; false if the tokenizer does not know it. */
bool lm_tokenizer_get_token(const lm_tokenizer *t, int32_t id, const char **s, size_t *length, bool *special);

/** lm_tokenizer_open on text instead of files (`what` names it in errors; `config` may be NULL, else it is taken).
 *  For tests. */
lm_status lm_tokenizer_open_text(const char *json, size_t length, const char *what, json_t *config, lm_tokenizer **out,
                                 lm_error *err);

/* tokenizer_config.c */
/** tokenizer_config.json, special_tokens_map.json, chat_template.jinja -> config, special, chat_template, clean_up. */
lm_status lm_tokenizer_read_config(lm_tokenizer *t, const char *folder, lm_error *err);
/** What follows from `config` alone: special, clean_up. */
lm_status lm_tokenizer_use_config(lm_tokenizer *t, lm_error *err);
/** Adds the tokens that tokenizer_config names to `added` (after those of tokenizer.json). */
lm_status lm_tokenizer_add_config_tokens(lm_tokenizer *t, const char *what, lm_error *err);
/** Puts one added token, with the id that `tokenizers` gives it; file_id -1: none was stated. */
lm_status lm_tokenizer_put_added(lm_tokenizer *t, lm_added_token token, int64_t file_id, const char *what,
                                 lm_error *err);

/* post_processor.c */
/** Reads the "post_processor" value into prefix and suffix. */
lm_status lm_tokenizer_read_post_processor(lm_tokenizer *t, const json_t *value, const char *what, lm_error *err);
#endif
