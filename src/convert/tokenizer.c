/* SPDX-License-Identifier: MIT
 * tokenizer.c: rebuilds tokenizer.json and tokenizer_config.json of a byte-level BPE from a GGUF's lists. The
 * vocabulary and the merges are large, so tokenizer.json is written as text; every other value goes through the JSON
 * library. */
#include "base/fs.h"
#include "base/half.h"
#include "convert/convert.h"
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT ((size_t)512 << 20)

/* Token types as GGUF numbers them. */
enum { TOKEN_NORMAL = 1, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER, TOKEN_UNUSED, TOKEN_BYTE };

#define BYTE_LEVEL(prefix, trim, regex) \
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": " prefix ", \"trim_offsets\": " trim ", \"use_regex\": " regex "}"
#define SPLIT(regex)                                                                                       \
    "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" regex \
    "\"}, \"behavior\": \"Isolated\", \"invert\": false}, "
#define WORDS(digits)                                                              \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" digits \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

/* What tokenizer.ggml.pre stands for: JSON texts of the parts that a GGUF does not store. */
static const struct pre {
    const char *name, *normalizer, *pre_tokenizer, *post_processor, *decoder;
    bool ignore_merges, adds_bos; /* adds_bos: where the file does not say */
} pres[] = {
    {"smollm", "null",
     "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", \"individual_digits\": true}, " BYTE_LEVEL(
         "false", "true", "true") "]}",
     "null", BYTE_LEVEL("true", "true", "true"), false, false},
    {"llama-bpe", "null", SPLIT(WORDS("\\\\p{N}{1,3}")) BYTE_LEVEL("false", "true", "false") "]}",
     BYTE_LEVEL("true", "false", "true"), BYTE_LEVEL("true", "true", "true"), true, true},
    {"qwen2", "{\"type\": \"NFC\"}", SPLIT(WORDS("\\\\p{N}")) BYTE_LEVEL("false", "false", "false") "]}",
     BYTE_LEVEL("false", "false", "false"), BYTE_LEVEL("false", "false", "false"), false, false},
};

typedef struct lists {
    const lm_gguf *gguf;
    const struct pre *pre;
    lm_gguf_text *tokens, *merges;
    const lm_gguf_text **sorted; /* tokens by their bytes */
    size_t n_tokens, n_merges;
    const lm_gguf_value *types; /* NULL: all normal */
    bool add_bos, add_eos;
} lists;

/* ---------------------------------------------------------------- reading */

static int compare(const lm_gguf_text *a, const lm_gguf_text *b) {
    size_t n = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->data, b->data, n);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static int by_bytes(const void *a, const void *b) {
    return compare(*(const lm_gguf_text *const *)a, *(const lm_gguf_text *const *)b);
}

static bool known(const lists *l, const char *data, size_t length) {
    lm_gguf_text text = {data, length};
    const lm_gguf_text *key = &text;
    return bsearch(&key, l->sorted, l->n_tokens, sizeof *l->sorted, by_bytes) != NULL;
}

static lm_status choose_pre(lists *l, lm_error *err) {
    char *model, *pre = NULL;
    LM_TRY(lm_gguf_string(l->gguf, "tokenizer.ggml.model", true, &model, err));
    lm_status s = LM_OK;
    if (strcmp(model, "gpt2"))
        s = lm_fail(err, LM_UNSUPPORTED,
                    "%s: tokenizer.ggml.model: '%.60s' is not supported, only gpt2 (byte-level BPE)", l->gguf->path,
                    model);
    free(model);
    LM_TRY(s);
    LM_TRY(lm_gguf_string(l->gguf, "tokenizer.ggml.pre", true, &pre, err));
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++)
        if (!strcmp(pres[i].name, pre)) l->pre = &pres[i];
    if (!l->pre)
        s = lm_fail(err, LM_UNSUPPORTED, "%s: tokenizer.ggml.pre: '%.60s' is not supported (smollm, llama-bpe, qwen2)",
                    l->gguf->path, pre);
    free(pre);
    return s;
}

static lm_status read_types(lists *l, lm_error *err) {
    l->types = lm_gguf_find(l->gguf, "tokenizer.ggml.token_type");
    if (!l->types) return LM_OK;
    if (l->types->type != LM_GGUF_ARRAY || !lm_gguf_is_int(l->types->item) || l->types->count != l->n_tokens)
        return lm_fail(err, LM_FORMAT, "%s: tokenizer.ggml.token_type: expected %zu integers", l->gguf->path,
                       l->n_tokens);
    for (size_t i = 0; i < l->n_tokens; i++) {
        int64_t t = lm_gguf_item_int(l->types, i);
        if (t < TOKEN_NORMAL || t > TOKEN_BYTE)
            return lm_fail(err, LM_FORMAT, "%s: tokenizer.ggml.token_type: unknown type %lld of token %zu",
                           l->gguf->path, (long long)t, i);
    }
    return LM_OK;
}

static lm_status sort_tokens(lists *l, int64_t vocab, lm_error *err) {
    if (!l->n_tokens || (uint64_t)l->n_tokens > (uint64_t)vocab)
        return lm_fail(err, LM_FORMAT, "%s: tokenizer.ggml.tokens: %zu tokens for %lld embeddings", l->gguf->path,
                       l->n_tokens, (long long)vocab);
    l->sorted = calloc(l->n_tokens, sizeof *l->sorted);
    if (!l->sorted) return lm_fail_nomem(err, l->n_tokens * sizeof *l->sorted, "the vocabulary");
    for (size_t i = 0; i < l->n_tokens; i++) l->sorted[i] = &l->tokens[i];
    qsort(l->sorted, l->n_tokens, sizeof *l->sorted, by_bytes);
    for (size_t i = 1; i < l->n_tokens; i++)
        if (!by_bytes(&l->sorted[i - 1], &l->sorted[i]))
            return lm_fail(err, LM_FORMAT, "%s: tokenizer.ggml.tokens: tokens %td and %td are equal", l->gguf->path,
                           l->sorted[i - 1] - l->tokens, l->sorted[i] - l->tokens);
    return LM_OK;
}

/* "left right": both parts and what they make must be tokens, else the tokenizer could not be loaded again. */
static lm_status check_merge(const lists *l, size_t i, const char **space, lm_error *err) {
    const lm_gguf_text *m = &l->merges[i];
    const char *end = m->data + m->length, *s = memchr(m->data, ' ', m->length);
    char joined[1024];
    if (!s || memchr(s + 1, ' ', (size_t)(end - s - 1)) || m->length > sizeof joined)
        return lm_fail(err, LM_FORMAT, "%s: tokenizer.ggml.merges: entry %zu: expected two tokens and one space",
                       l->gguf->path, i);
    size_t a = (size_t)(s - m->data), b = m->length - a - 1;
    memcpy(joined, m->data, a);
    memcpy(joined + a, s + 1, b);
    if (!known(l, m->data, a) || !known(l, s + 1, b) || !known(l, joined, a + b))
        return lm_fail(err, LM_FORMAT, "%s: tokenizer.ggml.merges: entry %zu is not made of tokens", l->gguf->path, i);
    *space = s;
    return LM_OK;
}

static lm_status read_lists(lists *l, const cv_llama_params *p, lm_error *err) {
    LM_TRY(choose_pre(l, err));
    LM_TRY(lm_gguf_strings(l->gguf, "tokenizer.ggml.tokens", true, &l->tokens, &l->n_tokens, err));
    LM_TRY(lm_gguf_strings(l->gguf, "tokenizer.ggml.merges", true, &l->merges, &l->n_merges, err));
    LM_TRY(read_types(l, err));
    LM_TRY(sort_tokens(l, p->vocab, err));
    LM_TRY(lm_gguf_bool(l->gguf, "tokenizer.ggml.add_bos_token", l->pre->adds_bos, &l->add_bos, err));
    LM_TRY(lm_gguf_bool(l->gguf, "tokenizer.ggml.add_eos_token", false, &l->add_eos, err));
    const int64_t ids[] = {p->bos, p->pad, p->unk, p->eos[0]};
    for (int i = 0; i < 4; i++)
        if (ids[i] >= (int64_t)l->n_tokens)
            return lm_fail(err, LM_FORMAT, "%s: special token id %lld has no token", l->gguf->path, (long long)ids[i]);
    if (l->add_bos && p->bos < 0)
        return lm_fail(err, LM_FORMAT, "%s: tokenizer.ggml.add_bos_token is set, but there is no bos_token_id",
                       l->gguf->path);
    return LM_OK;
}

/* ---------------------------------------------------------------- tokenizer.json */

/* Length of the UTF-8 sequence at p, 0 if it is none (overlong, surrogate, out of range, cut off). */
static size_t utf8_length(const uint8_t *p, size_t left) {
    if (p[0] < 0x80) return 1;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n > left) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)) return 0;
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0;
    return n;
}

/* A JSON string with the fewest escapes; false if the bytes are not UTF-8. */
static bool add_string(lm_buf *b, const char *data, size_t length) {
    static const char shorts[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    lm_buf_addc(b, '"');
    for (size_t i = 0, n; i < length; i += n) {
        const char *at = data[i] ? strchr(shorts, data[i]) : NULL;
        n = utf8_length((const uint8_t *)data + i, length - i);
        if (!n) return false;
        if (at)
            lm_buf_addf(b, "\\%c", names[at - shorts]);
        else if ((uint8_t)data[i] < 0x20)
            lm_buf_addf(b, "\\u%04x", (unsigned)(uint8_t)data[i]);
        else
            lm_buf_add(b, data + i, n);
    }
    lm_buf_addc(b, '"');
    return true;
}

static lm_status add_token(const lists *l, lm_buf *b, size_t id, lm_error *err) {
    if (!add_string(b, l->tokens[id].data, l->tokens[id].length))
        return lm_fail(err, LM_FORMAT, "%s: tokenizer.ggml.tokens: token %zu is not UTF-8", l->gguf->path, id);
    return LM_OK;
}

static lm_status add_added_tokens(const lists *l, lm_buf *b, lm_error *err) {
    bool first = true;
    lm_buf_adds(b, "  \"added_tokens\": [");
    for (size_t i = 0; l->types && i < l->n_tokens; i++) {
        int64_t type = lm_gguf_item_int(l->types, i);
        if (type != TOKEN_CONTROL && type != TOKEN_USER) continue;
        lm_buf_addf(b, "%s\n    {\n      \"id\": %zu,\n      \"content\": ", first ? "" : ",", i);
        LM_TRY(add_token(l, b, i, err));
        lm_buf_addf(b,
                    ",\n      \"single_word\": false,\n      \"lstrip\": false,\n      \"rstrip\": false,\n"
                    "      \"normalized\": false,\n      \"special\": %s\n    }",
                    type == TOKEN_CONTROL ? "true" : "false");
        first = false;
    }
    lm_buf_adds(b, first ? "],\n" : "\n  ],\n");
    return LM_OK;
}

static void add_special(lm_buf *b, const lists *l, int64_t id, int type_id) {
    lm_buf_adds(b, "{\"SpecialToken\": {\"id\": ");
    (void)add_string(b, l->tokens[id].data, l->tokens[id].length); /* UTF-8 was checked with the vocabulary */
    lm_buf_addf(b, ", \"type_id\": %d}}", type_id);
}

/* The template for one text ("A") or a pair ("A", "B"). */
static void add_template(lm_buf *b, const lists *l, const cv_llama_params *p, const char *key, int n) {
    lm_buf_addf(b, "\"%s\": [", key);
    for (int i = 0; i < n; i++) {
        if (i) lm_buf_adds(b, ", ");
        if (l->add_bos) add_special(b, l, p->bos, i), lm_buf_adds(b, ", ");
        lm_buf_addf(b, "{\"Sequence\": {\"id\": \"%c\", \"type_id\": %d}}", 'A' + i, i);
        if (l->add_eos) lm_buf_adds(b, ", "), add_special(b, l, p->eos[0], i);
    }
    lm_buf_adds(b, "], ");
}

/* The post-processor of the kind, with a template after it where BOS or EOS are added. */
static void add_post_processor(lm_buf *b, const lists *l, const cv_llama_params *p) {
    lm_buf_adds(b, "  \"post_processor\": ");
    if (!l->add_bos && !l->add_eos) {
        lm_buf_addf(b, "%s,\n", l->pre->post_processor);
        return;
    }
    bool alone = !strcmp(l->pre->post_processor, "null"), first = true;
    if (!alone) lm_buf_addf(b, "{\"type\": \"Sequence\", \"processors\": [%s, ", l->pre->post_processor);
    lm_buf_adds(b, "{\"type\": \"TemplateProcessing\", ");
    add_template(b, l, p, "single", 1);
    add_template(b, l, p, "pair", 2);
    lm_buf_adds(b, "\"special_tokens\": {");
    const int64_t ids[] = {l->add_bos ? p->bos : -1, l->add_eos ? p->eos[0] : -1};
    for (int i = 0; i < 2; i++) {
        if (ids[i] < 0 || (i && ids[i] == ids[0])) continue;
        const lm_gguf_text *t = &l->tokens[ids[i]];
        if (!first) lm_buf_adds(b, ", ");
        (void)add_string(b, t->data, t->length);
        lm_buf_adds(b, ": {\"id\": ");
        (void)add_string(b, t->data, t->length);
        lm_buf_addf(b, ", \"ids\": [%lld], \"tokens\": [", (long long)ids[i]);
        (void)add_string(b, t->data, t->length);
        lm_buf_adds(b, "]}");
        first = false;
    }
    lm_buf_addf(b, "}}%s,\n", alone ? "" : "]}");
}

static lm_status add_model(const lists *l, lm_buf *b, lm_error *err) {
    lm_buf_addf(
        b,
        "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
        "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n"
        "    \"byte_fallback\": false,\n    \"ignore_merges\": %s,\n    \"vocab\": {",
        l->pre->ignore_merges ? "true" : "false");
    for (size_t i = 0; i < l->n_tokens; i++) {
        lm_buf_adds(b, i ? ",\n      " : "\n      ");
        LM_TRY(add_token(l, b, i, err));
        lm_buf_addf(b, ": %zu", i);
    }
    lm_buf_adds(b, "\n    },\n    \"merges\": [");
    for (size_t i = 0; i < l->n_merges; i++) {
        const char *space = NULL;
        LM_TRY(check_merge(l, i, &space, err));
        const lm_gguf_text *m = &l->merges[i];
        lm_buf_adds(b, i ? ",\n      [\n        " : "\n      [\n        ");
        (void)add_string(b, m->data, (size_t)(space - m->data));
        lm_buf_adds(b, ",\n        ");
        (void)add_string(b, space + 1, (size_t)(m->data + m->length - space - 1));
        lm_buf_adds(b, "\n      ]");
    }
    lm_buf_adds(b, l->n_merges ? "\n    ]\n  }\n}" : "]\n  }\n}");
    return LM_OK;
}

static lm_status build_tokenizer(const lists *l, const cv_llama_params *p, lm_buf *b, lm_error *err) {
    lm_buf_adds(b, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    LM_TRY(add_added_tokens(l, b, err));
    lm_buf_addf(b, "  \"normalizer\": %s,\n  \"pre_tokenizer\": %s,\n", l->pre->normalizer, l->pre->pre_tokenizer);
    add_post_processor(b, l, p);
    lm_buf_addf(b, "  \"decoder\": %s,\n", l->pre->decoder);
    LM_TRY(add_model(l, b, err));
    return b->failed
               ? lm_fail(err, LM_NOMEM, "%s: tokenizer.json would be larger than %zu bytes", l->gguf->path, b->max)
               : LM_OK;
}

/* ---------------------------------------------------------------- tokenizer_config.json */

static json_t *token_string(const lists *l, int64_t id) {
    return json_stringn(l->tokens[id].data, l->tokens[id].length);
}

static lm_status write_config(const lists *l, const cv_llama_params *p, const char *folder, lm_error *err) {
    char *chat;
    LM_TRY(lm_gguf_string(l->gguf, "tokenizer.chat_template", false, &chat, err));
    json_t *chat_json = chat ? json_string(chat) : NULL, *c = json_object();
    bool bad = chat && !chat_json, ok = c != NULL;
    free(chat);
#define SET(key, value) ok = !json_object_set_new(c, key, value) && ok
    SET("add_prefix_space", json_false());
    if (p->bos >= 0) SET("bos_token", token_string(l, p->bos));
    if (chat_json) SET("chat_template", chat_json);
    SET("clean_up_tokenization_spaces", json_false());
    SET("eos_token", token_string(l, p->eos[0]));
    SET("model_max_length", json_integer(p->context));
    if (p->pad >= 0) SET("pad_token", token_string(l, p->pad));
    SET("tokenizer_class", json_string("PreTrainedTokenizerFast"));
    if (p->unk >= 0) SET("unk_token", token_string(l, p->unk));
#undef SET
    if (bad) {
        json_decref(c);
        return lm_fail(err, LM_FORMAT, "%s: tokenizer.chat_template: expected UTF-8", l->gguf->path);
    }
    if (!ok) {
        json_decref(c);
        c = NULL;
    }
    return cv_write_json(folder, "tokenizer_config.json", c, 2, err);
}

lm_status cv_llama_tokenizer_write(const lm_gguf *g, const cv_llama_params *p, const char *folder, lm_error *err) {
    lists l = {.gguf = g};
    lm_buf b;
    lm_buf_init(&b, MAX_TEXT);
    char *path = lm_fs_join(folder, "tokenizer.json");
    lm_status s = path ? read_lists(&l, p, err) : lm_fail_nomem(err, strlen(folder), folder);
    if (s == LM_OK) s = build_tokenizer(&l, p, &b, err);
    if (s == LM_OK) s = lm_file_write(path, b.data, b.length, err);
    lm_buf_free(&b);
    if (s == LM_OK) s = write_config(&l, p, folder, err);
    free(path);
    free(l.tokens);
    free(l.merges);
    free(l.sorted);
    return s;
}
