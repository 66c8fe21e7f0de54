/* SPDX-License-Identifier: MIT
 * tokenizer.c: owns opening a tokenizer folder and encode and decode: added tokens are cut out, the rest is normalized,
 * cut into pieces and merged; decoding runs the decoder over token strings. */
#include "base/fs.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"
#include <string.h>

/* ---------------------------------------------------------------- opening */

static lm_status read_added_tokens(lm_tokenizer *t, const json_t *root, const char *what, lm_error *err) {
    const json_t *list = json_object_get(root, "added_tokens");
    if (!list || json_is_null(list)) return LM_OK;
    if (!json_is_array(list)) return lm_fail(err, LM_FORMAT, "%s: added_tokens: expected an array", what);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        const json_t *content = json_object_get(v, "content"), *id = json_object_get(v, "id");
        if (!json_is_string(content) || !json_is_integer(id) || json_integer_value(id) < 0)
            return lm_fail(err, LM_FORMAT, "%s: added_tokens[%zu]: expected \"content\" and an \"id\" of 0 or more",
                           what, i);
        lm_added_token token = {.content = (char *)json_string_value(content),
                                .length = json_string_length(content),
                                .special = json_is_true(json_object_get(v, "special")),
                                .lstrip = json_is_true(json_object_get(v, "lstrip")),
                                .rstrip = json_is_true(json_object_get(v, "rstrip")),
                                .single_word = json_is_true(json_object_get(v, "single_word")),
                                .normalized = json_is_true(json_object_get(v, "normalized"))};
        LM_TRY(lm_tokenizer_put_added(t, token, json_integer_value(id), what, err));
    }
    return LM_OK;
}

/* The tables that follow from the final list of added tokens. */
static lm_status index_added(lm_tokenizer *t, lm_error *err) {
    t->n_ids = t->bpe.vocab.n_ids;
    for (size_t i = 0; i < t->added.n; i++)
        if (t->added.items[i].id >= t->n_ids) t->n_ids = t->added.items[i].id + 1;
    size_t bytes = ((size_t)t->n_ids + 1) * sizeof *t->added_by_id;
    t->added_by_id = malloc(bytes);
    if (!t->added_by_id) return lm_fail_nomem(err, bytes, "added tokens");
    memset(t->added_by_id, 0xff, bytes);
    lm_buf a, b;
    lm_buf_init(&a, 0);
    lm_buf_init(&b, 0);
    lm_status s = LM_OK;
    for (size_t i = 0; i < t->added.n && s == LM_OK; i++) {
        const lm_added_token *token = &t->added.items[i];
        const char *text = token->content;
        size_t length = token->length;
        t->added_by_id[token->id] = (int32_t)i;
        if (token->normalized) s = lm_normalize(&t->normalizer, text, length, &a, &b, &text, &length, err);
        if (s == LM_OK)
            s = lm_trie_add(token->normalized ? &t->added.normalized : &t->added.raw, text, length, (int32_t)i, err);
    }
    lm_buf_free(&a);
    lm_buf_free(&b);
    for (int32_t id = 0; id < t->n_ids; id++)
        t->size += t->added_by_id[id] >= 0 || lm_vocab_entry_of(&t->bpe.vocab, id) >= 0;
    return s;
}

static bool knows(const lm_tokenizer *t, const char *token) {
    return lm_tokenizer_token_id(t, token) >= 0;
}

/* mlx-lm's list: the first pair that the vocabulary has. */
static void infer_thinking(lm_tokenizer *t) {
    static const char *const pairs[][2] = {
        {"<think>", "</think>"}, {"<longcat_think>", "</longcat_think>"}, {"<|think:start|>", "<|think:end|>"}};
    for (size_t i = 0; i < 3; i++)
        if (knows(t, pairs[i][0]) && knows(t, pairs[i][1])) {
            t->think_start = pairs[i][0];
            t->think_end = pairs[i][1];
            return;
        }
    if (knows(t, "<|channel>") && knows(t, "<channel|>")) {
        t->think_start = "<|channel>thought";
        t->think_end = "<channel|>";
    } else if (knows(t, "<|open|>") && knows(t, "<|close|>") && knows(t, "<|sep|>") && knows(t, "<|end_of_msg|>")) {
        t->think_start = "<|open|>think<|sep|>";
        t->think_end = "<|close|>think<|sep|>";
    }
}

static lm_status read_tokenizer(lm_tokenizer *t, const json_t *root, const char *what, lm_error *err) {
    if (!json_is_object(root)) return lm_fail(err, LM_FORMAT, "%s: expected an object", what);
    LM_TRY(lm_bpe_init(&t->bpe, json_object_get(root, "model"), what, err));
    LM_TRY(lm_normalizer_init(&t->normalizer, json_object_get(root, "normalizer"), what, err));
    LM_TRY(lm_pretokenizer_init(&t->pretokenizer, json_object_get(root, "pre_tokenizer"), what, err));
    LM_TRY(lm_tokenizer_read_post_processor(t, json_object_get(root, "post_processor"), what, err));
    LM_TRY(lm_decoder_init(&t->decoder, json_object_get(root, "decoder"), what, err));
    LM_TRY(read_added_tokens(t, root, what, err));
    LM_TRY(lm_tokenizer_add_config_tokens(t, what, err));
    LM_TRY(index_added(t, err));
    infer_thinking(t);
    return LM_OK;
}

lm_status lm_tokenizer_open(const char *folder, lm_tokenizer **out, lm_error *err) {
    *out = NULL;
    lm_tokenizer *t = calloc(1, sizeof *t);
    char *path = lm_fs_join(folder, "tokenizer.json");
    json_t *root = NULL;
    lm_status s = t && path ? LM_OK : lm_fail_nomem(err, sizeof *t, "tokenizer");
    if (s == LM_OK) s = lm_tokenizer_read_config(t, folder, err);
    if (s == LM_OK) s = lm_json_load(path, 0, &root, err);
    if (s == LM_OK) s = read_tokenizer(t, root, path, err);
    json_decref(root);
    free(path);
    if (s != LM_OK) {
        lm_tokenizer_close(t);
        return s;
    }
    *out = t;
    return LM_OK;
}

lm_status lm_tokenizer_open_text(const char *json, size_t length, const char *what, json_t *config, lm_tokenizer **out,
                                 lm_error *err) {
    *out = NULL;
    lm_tokenizer *t = calloc(1, sizeof *t);
    json_t *root = NULL;
    lm_status s = t ? LM_OK : lm_fail_nomem(err, sizeof *t, "tokenizer");
    if (!config) config = json_object();
    if (t)
        t->config = config;
    else
        json_decref(config);
    if (s == LM_OK) s = lm_tokenizer_use_config(t, err);
    if (s == LM_OK) s = lm_json_parse(json, length, what, &root, err);
    if (s == LM_OK) s = read_tokenizer(t, root, what, err);
    json_decref(root);
    if (s != LM_OK) {
        lm_tokenizer_close(t);
        return s;
    }
    *out = t;
    return LM_OK;
}

void lm_tokenizer_close(lm_tokenizer *t) {
    if (!t) return;
    lm_normalizer_free(&t->normalizer);
    lm_pretokenizer_free(&t->pretokenizer);
    lm_bpe_free(&t->bpe);
    lm_added_tokens_free(&t->added);
    lm_decoder_free(&t->decoder);
    free(t->added_by_id);
    free(t->prefix.data);
    free(t->suffix.data);
    json_decref(t->config);
    json_decref(t->special);
    free(t->chat_template);
    free(t);
}

/* ---------------------------------------------------------------- facts */

int64_t lm_tokenizer_size(const lm_tokenizer *t) {
    return t->size;
}
const char *lm_tokenizer_bos_token(const lm_tokenizer *t) {
    return t->bos;
}
const char *lm_tokenizer_eos_token(const lm_tokenizer *t) {
    return t->eos;
}
const char *lm_tokenizer_chat_template(const lm_tokenizer *t) {
    return t->chat_template;
}
const json_t *lm_tokenizer_config(const lm_tokenizer *t) {
    return t->config;
}
const json_t *lm_tokenizer_special_tokens(const lm_tokenizer *t) {
    return t->special;
}

void lm_tokenizer_think_tokens(const lm_tokenizer *t, const char **start, const char **end) {
    *start = t->think_start;
    *end = t->think_end;
}

int32_t lm_tokenizer_token_id(const lm_tokenizer *t, const char *token) {
    size_t n = strlen(token);
    const lm_added_token *added = lm_added_tokens_find(&t->added, token, n);
    if (added) return added->id;
    int32_t e = lm_vocab_find(&t->bpe.vocab, token, n);
    return e < 0 ? -1 : t->bpe.vocab.entries[e].id;
}

bool lm_tokenizer_get_token(const lm_tokenizer *t, int32_t id, const char **s, size_t *length, bool *special) {
    if (id < 0 || id >= t->n_ids) return false;
    *special = false;
    if (t->added_by_id[id] >= 0) {
        const lm_added_token *token = &t->added.items[t->added_by_id[id]];
        *s = token->content;
        *length = token->length;
        *special = token->special;
        return true;
    }
    int32_t e = lm_vocab_entry_of(&t->bpe.vocab, id);
    if (e < 0) return false;
    *s = lm_vocab_text(&t->bpe.vocab, e);
    *length = t->bpe.vocab.entries[e].length;
    return true;
}

/* ---------------------------------------------------------------- encoding */

typedef struct encode_work {
    const lm_tokenizer *t;
    lm_added_spans outer, inner;
    lm_pieces pieces;
    lm_bpe_scratch scratch;
    lm_buf a, b, repaired;
    lm_ids ids;
} encode_work;

static void work_free(encode_work *w) {
    free(w->outer.items);
    free(w->inner.items);
    lm_pieces_free(&w->pieces);
    lm_bpe_scratch_free(&w->scratch);
    lm_buf_free(&w->a);
    lm_buf_free(&w->b);
    lm_buf_free(&w->repaired);
    free(w->ids.data);
}

static lm_status encode_plain(encode_work *w, const char *text, size_t length, bool at_start, lm_error *err) {
    LM_TRY(lm_pretokenize(&w->t->pretokenizer, &w->pieces, text, length, at_start, err));
    for (size_t i = 0; i < w->pieces.n; i++) {
        const lm_piece p = w->pieces.items[i];
        LM_TRY(lm_bpe_encode(&w->t->bpe, &w->scratch, w->pieces.text + p.start, p.end - p.start, &w->ids, err));
    }
    return LM_OK;
}

/* Text between raw added tokens: normalize, then look for the tokens that live in normalized text. */
static lm_status encode_stretch(encode_work *w, const char *text, size_t length, bool at_start, lm_error *err) {
    const lm_tokenizer *t = w->t;
    LM_TRY(lm_normalize(&t->normalizer, text, length, &w->a, &w->b, &text, &length, err));
    w->inner.n = 0;
    LM_TRY(lm_added_tokens_cut(&t->added, &t->added.normalized, text, length, &w->inner, err));
    for (size_t i = 0; i < w->inner.n; i++) {
        const lm_added_span s = w->inner.items[i];
        if (s.item >= 0)
            LM_TRY(lm_ids_add(&w->ids, t->added.items[s.item].id, err));
        else
            LM_TRY(encode_plain(w, text + s.start, s.end - s.start, at_start && s.start == 0, err));
    }
    return LM_OK;
}

static lm_status encode_text(encode_work *w, const char *text, size_t length, bool specials, lm_error *err) {
    const lm_tokenizer *t = w->t;
    if (length > LM_TEXT_MAX)
        return lm_fail(err, LM_BUDGET, "text of %zu bytes, at most %zu can be tokenized at once", length, LM_TEXT_MAX);
    if (!lm_utf8_valid(text, length)) {
        lm_utf8_repair(text, length, &w->repaired);
        if (w->repaired.failed) return lm_fail_nomem(err, length, "text");
        text = w->repaired.data;
        length = w->repaired.length;
    }
    for (size_t i = 0; specials && i < t->prefix.n; i++) LM_TRY(lm_ids_add(&w->ids, t->prefix.data[i], err));
    LM_TRY(lm_added_tokens_cut(&t->added, &t->added.raw, text, length, &w->outer, err));
    for (size_t i = 0; i < w->outer.n; i++) {
        const lm_added_span s = w->outer.items[i];
        if (s.item >= 0)
            LM_TRY(lm_ids_add(&w->ids, t->added.items[s.item].id, err));
        else
            LM_TRY(encode_stretch(w, text + s.start, s.end - s.start, s.start == 0, err));
    }
    for (size_t i = 0; specials && i < t->suffix.n; i++) LM_TRY(lm_ids_add(&w->ids, t->suffix.data[i], err));
    return LM_OK;
}

lm_status lm_tokenizer_encode(const lm_tokenizer *tokenizer, const char *text, size_t length, bool add_special_tokens,
                              int32_t **ids, size_t *n_ids, lm_error *err) {
    *ids = NULL;
    *n_ids = 0;
    encode_work w = {.t = tokenizer};
    lm_pieces_init(&w.pieces);
    lm_buf_init(&w.a, 0);
    lm_buf_init(&w.b, 0);
    lm_buf_init(&w.repaired, 0);
    lm_status s = encode_text(&w, text ? text : "", length, add_special_tokens, err);
    if (s == LM_OK && !w.ids.data && !(w.ids.data = malloc(sizeof(int32_t)))) /* never NULL on success */
        s = lm_fail_nomem(err, sizeof(int32_t), "token ids");
    if (s == LM_OK) {
        *ids = w.ids.data;
        *n_ids = w.ids.n;
        w.ids.data = NULL;
    }
    work_free(&w);
    return s;
}

/* ---------------------------------------------------------------- decoding */

/* In place: the result is never longer. */
static size_t replace_all(char *text, size_t length, const char *from, const char *to) {
    size_t nf = strlen(from), nt = strlen(to), out = 0;
    for (size_t i = 0; i < length;) {
        if (length - i >= nf && !memcmp(text + i, from, nf)) {
            memcpy(text + out, to, nt);
            out += nt;
            i += nf;
        } else {
            text[out++] = text[i++];
        }
    }
    return out;
}

static size_t clean_up(char *text, size_t length) {
    static const char *const rules[][2] = {{" .", "."},     {" ?", "?"},     {" !", "!"},   {" ,", ","},
                                           {" ' ", "'"},    {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"},
                                           {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        length = replace_all(text, length, rules[i][0], rules[i][1]);
    return length;
}

lm_status lm_tokenizer_decode(const lm_tokenizer *t, const int32_t *ids, size_t n_ids, bool skip_special_tokens,
                              char **text, size_t *length, lm_error *err) {
    *text = NULL;
    lm_strings tokens;
    lm_buf out;
    lm_status status = LM_OK;
    lm_strings_init(&tokens);
    lm_buf_init(&out, 0);
    for (size_t i = 0; i < n_ids && status == LM_OK; i++) {
        const char *s;
        size_t n;
        bool special;
        if (ids[i] < 0) status = lm_fail(err, LM_ARG, "token id %d is negative", (int)ids[i]);
        /* ids that nobody named (a padded vocabulary) decode to nothing */
        if (!lm_tokenizer_get_token(t, ids[i], &s, &n, &special) || (special && skip_special_tokens)) continue;
        lm_buf_add(&tokens.bytes, s, n);
        status = lm_strings_end(&tokens, err);
    }
    if (status == LM_OK && tokens.bytes.failed) status = lm_fail(err, LM_BUDGET, "decoded text is too long");
    if (status == LM_OK) status = lm_decoder_run(&t->decoder, &tokens, &out, err);
    lm_strings_free(&tokens);
    size_t n = 0;
    char *taken = status == LM_OK ? lm_buf_take(&out, &n) : NULL;
    lm_buf_free(&out);
    if (status == LM_OK && !taken) status = lm_fail_nomem(err, n, "decoded text");
    if (status != LM_OK) return status;
    if (t->clean_up) {
        n = clean_up(taken, n);
        taken[n] = 0;
    }
    *text = taken;
    if (length) *length = n;
    return LM_OK;
}
