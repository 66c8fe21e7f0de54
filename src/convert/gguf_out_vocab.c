/* SPDX-License-Identifier: MIT
 * gguf_out_vocab.c: tokenizer.json as GGUF's lists. A GGUF names the splitting of text instead of describing it, so
 * only byte-level BPE whose parts are exactly those that a name stands for is written. */
#include "base/fs.h"
#include "base/json.h"
#include "convert/gguf_out.h"
#include <stdlib.h>
#include <string.h>

/* Token types as GGUF numbers them. */
enum { TOKEN_NONE, TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER, TOKEN_UNUSED };

#define WORDS(digits)                                                    \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct pre {
    const char *name, *regex; /* NULL: single digits, then GPT-2's own split */
    bool nfc, ignore_merges;  /* nfc: a normalizer that may be there */
} pres[] = {
    {"smollm", NULL, false, false},
    {"llama-bpe", WORDS("\\p{N}{1,3}"), false, true},
    {"qwen2", WORDS("\\p{N}"), true, false},
};

typedef struct token {
    const char *text; /* borrowed from the JSON */
    size_t length;
    int type;
} token;

typedef struct vocab {
    const cv_gguf_source *source;
    char *path;            /* of tokenizer.json */
    json_t *root, *config; /* config: tokenizer_config.json, NULL if there is none */
    lm_tokenizer *tokenizer;
    token *tokens; /* [n]: as many as embeddings */
    size_t n;
    bool add_bos, add_eos;
    int64_t bos, eos, pad, unk; /* -1: none */
    lm_error *err;
} vocab;

static const char *type_of(const json_t *part) {
    const char *t = json_string_value(json_object_get(part, "type"));
    return t ? t : json_is_object(part) ? "?" : "none";
}

static bool is_type(const json_t *part, const char *type) {
    return json_is_object(part) && !strcmp(type_of(part), type);
}

/* ---------------------------------------------------------------- the pre-tokenizer */

static bool byte_level(const json_t *part, bool use_regex) {
    const json_t *regex = json_object_get(part, "use_regex");
    return is_type(part, "ByteLevel") && json_is_false(json_object_get(part, "add_prefix_space")) &&
           (regex ? json_is_true(regex) : true) == use_regex;
}

/* The expression that splits, "" for single digits, NULL for anything else. */
static const char *splitter(const json_t *pre) {
    const json_t *list = json_object_get(pre, "pretokenizers");
    if (!is_type(pre, "Sequence") || json_array_size(list) != 2) return NULL;
    const json_t *first = json_array_get(list, 0), *second = json_array_get(list, 1);
    if (is_type(first, "Digits"))
        return json_is_true(json_object_get(first, "individual_digits")) && byte_level(second, true) ? "" : NULL;
    const char *behavior = json_string_value(json_object_get(first, "behavior"));
    if (!is_type(first, "Split") || !behavior || strcmp(behavior, "Isolated") ||
        json_is_true(json_object_get(first, "invert")) || !byte_level(second, false))
        return NULL;
    return json_string_value(json_object_get(json_object_get(first, "pattern"), "Regex"));
}

/* What to call a pre-tokenizer that has no name: its expression, or the types of its parts. */
static lm_status refuse_pre(const vocab *v, const json_t *pre, const char *regex) {
    char text[200] = "";
    const json_t *list = json_object_get(pre, "pretokenizers"), *part;
    size_t i, at = 0;
    json_array_foreach(list, i, part) {
        if (at < sizeof text)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%.30s", i ? ", " : "", type_of(part));
    }
    if (regex && *regex) snprintf(text, sizeof text, "Split by %.150s", regex);
    return lm_fail(v->err, LM_UNSUPPORTED,
                   "%s: pre_tokenizer: %s (%s) is none that a GGUF is written for (smollm, llama-bpe, qwen2)", v->path,
                   type_of(pre), text);
}

static lm_status find_pre(const vocab *v, const struct pre **out) {
    const json_t *pre = json_object_get(v->root, "pre_tokenizer"), *norm = json_object_get(v->root, "normalizer");
    const json_t *model = json_object_get(v->root, "model");
    const char *regex = splitter(pre);
    bool ignores = json_is_true(json_object_get(model, "ignore_merges"));
    *out = NULL;
    for (size_t i = 0; regex && i < sizeof pres / sizeof *pres; i++)
        if (!strcmp(pres[i].regex ? pres[i].regex : "", regex)) *out = &pres[i];
    if (!*out) return refuse_pre(v, pre, regex);
    if (norm && !json_is_null(norm) && !((*out)->nfc && is_type(norm, "NFC")))
        return lm_fail(v->err, LM_UNSUPPORTED, "%s: normalizer: %.60s does not go with the pre-tokenizer %s", v->path,
                       type_of(norm), (*out)->name);
    if (ignores != (*out)->ignore_merges)
        return lm_fail(v->err, LM_UNSUPPORTED, "%s: ignore_merges: %s does not go with the pre-tokenizer %s", v->path,
                       ignores ? "true" : "false", (*out)->name);
    return LM_OK;
}

/* ---------------------------------------------------------------- tokens */

static lm_status set_token(vocab *v, const json_t *id, const char *text, size_t length, int type) {
    json_int_t i = json_integer_value(id);
    if (!json_is_integer(id) || i < 0 || (uint64_t)i >= v->n)
        return lm_fail(v->err, LM_FORMAT, "%s: token '%.60s': expected an id from 0 to %zu (vocab_size)", v->path, text,
                       v->n - 1);
    token *t = &v->tokens[i];
    if (t->type && (t->length != length || memcmp(t->text, text, length)))
        return lm_fail(v->err, LM_FORMAT, "%s: tokens '%.60s' and '%.60s' have one id, %lld", v->path, t->text, text,
                       (long long)i);
    *t = (token){text, length, type};
    return LM_OK;
}

/* Added tokens that look special are control tokens to ggml's tools even where the file calls them text. */
static bool looks_special(const char *text, size_t length) {
    return length >= 4 && !memcmp(text, "<|", 2) && !memcmp(text + length - 2, "|>", 2);
}

static lm_status read_tokens(vocab *v) {
    json_t *model = json_object_get(v->root, "model"), *list = json_object_get(model, "vocab"), *id, *item;
    const char *text;
    size_t i;
    if (!is_type(model, "BPE") || json_is_true(json_object_get(model, "byte_fallback")))
        return lm_fail(v->err, LM_UNSUPPORTED, "%s: model: %.60s%s is no byte-level BPE, which is all that is written",
                       v->path, type_of(model),
                       json_is_true(json_object_get(model, "byte_fallback")) ? " with byte_fallback" : "");
    if (!json_is_object(list)) return lm_fail(v->err, LM_FORMAT, "%s: model.vocab: expected an object", v->path);
    v->n = (size_t)v->source->h.vocab;
    v->tokens = calloc(v->n, sizeof *v->tokens);
    if (!v->tokens) return lm_fail_nomem(v->err, v->n * sizeof *v->tokens, "the vocabulary");
    json_object_foreach(list, text, id) {
        LM_TRY(set_token(v, id, text, strlen(text), TOKEN_NORMAL));
    }
    json_array_foreach(json_object_get(v->root, "added_tokens"), i, item) {
        const json_t *content = json_object_get(item, "content");
        text = json_string_value(content);
        if (!text) return lm_fail(v->err, LM_FORMAT, "%s: added_tokens[%zu]: expected content", v->path, i);
        size_t length = json_string_length(content);
        bool special = json_is_true(json_object_get(item, "special")) || looks_special(text, length);
        LM_TRY(set_token(v, json_object_get(item, "id"), text, length, special ? TOKEN_CONTROL : TOKEN_USER));
    }
    return LM_OK;
}

static void add_tokens(const vocab *v, cv_gguf_pairs *p) {
    cv_gguf_pair_array(p, "tokenizer.ggml.tokens", LM_GGUF_STRING, v->n);
    for (size_t i = 0; i < v->n; i++) {
        char filler[32];
        const token *t = &v->tokens[i];
        snprintf(filler, sizeof filler, "[PAD%zu]", i); /* embeddings that no token has */
        cv_gguf_put_text(&p->bytes, t->type ? t->text : filler, t->type ? t->length : strlen(filler));
    }
    cv_gguf_pair_array(p, "tokenizer.ggml.token_type", LM_GGUF_I32, v->n);
    for (size_t i = 0; i < v->n; i++)
        cv_gguf_put(&p->bytes, v->tokens[i].type ? (uint64_t)v->tokens[i].type : TOKEN_UNUSED, 4);
}

/* "left right": as text, or as a pair. */
static lm_status add_merges(const vocab *v, cv_gguf_pairs *p) {
    const json_t *list = json_object_get(json_object_get(v->root, "model"), "merges"), *item;
    size_t i;
    if (!json_is_array(list)) return lm_fail(v->err, LM_FORMAT, "%s: model.merges: expected a list", v->path);
    cv_gguf_pair_array(p, "tokenizer.ggml.merges", LM_GGUF_STRING, json_array_size(list));
    json_array_foreach(list, i, item) {
        const char *text = json_string_value(item), *left = json_string_value(json_array_get(item, 0)),
                   *right = json_string_value(json_array_get(item, 1));
        if (text && strchr(text, ' ')) {
            cv_gguf_put_text(&p->bytes, text, strlen(text));
        } else if (json_array_size(item) == 2 && left && right && !strchr(left, ' ') && !strchr(right, ' ')) {
            cv_gguf_put(&p->bytes, strlen(left) + strlen(right) + 1, 8);
            lm_buf_adds(&p->bytes, left);
            lm_buf_addc(&p->bytes, ' ');
            lm_buf_adds(&p->bytes, right);
        } else {
            return lm_fail(v->err, LM_FORMAT, "%s: model.merges[%zu]: expected two tokens without spaces", v->path, i);
        }
    }
    return LM_OK;
}

/* ---------------------------------------------------------------- what is added around text */

static const char *special_name(const json_t *piece) {
    return json_string_value(json_object_get(json_object_get(piece, "SpecialToken"), "id"));
}

/* [BOS] text [EOS], each or neither. */
static lm_status read_template(vocab *v, const json_t *processor) {
    const json_t *single = json_object_get(processor, "single");
    size_t n = json_array_size(single), first = 0;
    const char *bos = special_name(json_array_get(single, 0)), *eos = NULL;
    if (bos) first = 1;
    if (n == first + 2) eos = special_name(json_array_get(single, first + 1));
    if (!json_is_object(json_object_get(json_array_get(single, first), "Sequence")) || n != first + 1 + (eos ? 1 : 0))
        return lm_fail(v->err, LM_UNSUPPORTED,
                       "%s: post_processor: more than one token before or after the text has no place in a GGUF",
                       v->path);
    if (bos) v->add_bos = true, v->bos = lm_tokenizer_token_id(v->tokenizer, bos);
    if (eos) v->add_eos = true, v->eos = lm_tokenizer_token_id(v->tokenizer, eos);
    if ((bos && v->bos < 0) || (eos && v->eos < 0))
        return lm_fail(v->err, LM_FORMAT, "%s: post_processor: '%.60s' is no token", v->path, v->bos < 0 ? bos : eos);
    return LM_OK;
}

static lm_status read_processor(vocab *v, const json_t *processor, bool inner) {
    if (!processor || json_is_null(processor) || is_type(processor, "ByteLevel")) return LM_OK;
    if (is_type(processor, "TemplateProcessing")) return read_template(v, processor);
    if (inner || !is_type(processor, "Sequence"))
        return lm_fail(v->err, LM_UNSUPPORTED, "%s: post_processor: %.60s has no place in a GGUF", v->path,
                       type_of(processor));
    const json_t *part;
    size_t i;
    json_array_foreach(json_object_get(processor, "processors"), i, part) {
        LM_TRY(read_processor(v, part, true));
    }
    return LM_OK;
}

/* A token that tokenizer_config.json names, else the id in config.json; -1: neither. */
static int64_t special_id(const vocab *v, const char *token_key, const char *id_key) {
    const json_t *t = json_object_get(v->config, token_key), *id = json_object_get(v->source->config->root, id_key);
    const char *text = json_string_value(json_is_object(t) ? json_object_get(t, "content") : t);
    int64_t found = text ? lm_tokenizer_token_id(v->tokenizer, text) : -1;
    if (found < 0 && json_is_integer(id)) found = json_integer_value(id);
    return found >= 0 && (uint64_t)found < v->n ? found : -1;
}

static void read_specials(vocab *v) {
    const lm_config *c = v->source->config;
    v->bos = special_id(v, "bos_token", "bos_token_id");
    v->eos = special_id(v, "eos_token", "eos_token_id");
    v->pad = special_id(v, "pad_token", "pad_token_id");
    v->unk = special_id(v, "unk_token", "unk_token_id");
    if (v->eos < 0 && c->n_eos_ids && (uint64_t)c->eos_ids[0] < v->n) v->eos = c->eos_ids[0];
}

static bool named(const token *t, const char *name) {
    return t->length == strlen(name) && !memcmp(t->text, name, t->length);
}

/* Further stop ids: a GGUF has two more places. The ends of text are left out, which llama.cpp finds by their names. */
static void add_stops(const vocab *v, cv_gguf_pairs *p) {
    const lm_config *c = v->source->config;
    bool turn = false, message = false;
    for (size_t i = 0; i < c->n_eos_ids; i++) {
        int64_t id = c->eos_ids[i];
        if (id < 0 || (uint64_t)id >= v->n || id == v->eos || !v->tokens[id].type) continue;
        const token *t = &v->tokens[id];
        if (named(t, "<|endoftext|>") || named(t, "<|end_of_text|>")) continue;
        bool is_message = named(t, "<|eom_id|>") || turn;
        if (is_message ? message : turn) continue;
        cv_gguf_pair_u32(p, is_message ? "tokenizer.ggml.eom_token_id" : "tokenizer.ggml.eot_token_id", (uint32_t)id);
        *(is_message ? &message : &turn) = true;
    }
}

static void add_specials(const vocab *v, cv_gguf_pairs *p) {
    const struct {
        const char *key;
        int64_t id;
    } ids[] = {{"tokenizer.ggml.bos_token_id", v->bos},
               {"tokenizer.ggml.eos_token_id", v->eos},
               {"tokenizer.ggml.padding_token_id", v->pad},
               {"tokenizer.ggml.unknown_token_id", v->unk}};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (ids[i].id >= 0) cv_gguf_pair_u32(p, ids[i].key, (uint32_t)ids[i].id);
    add_stops(v, p);
    cv_gguf_pair_bool(p, "tokenizer.ggml.add_bos_token", v->add_bos);
    if (v->add_eos) cv_gguf_pair_bool(p, "tokenizer.ggml.add_eos_token", true);
    const char *chat = lm_tokenizer_chat_template(v->tokenizer);
    if (chat) cv_gguf_pair_string(p, "tokenizer.chat_template", chat);
}

/* ---------------------------------------------------------------- all of it */

static lm_status open_files(vocab *v) {
    char *config = lm_fs_join(v->source->folder, "tokenizer_config.json");
    v->path = lm_fs_join(v->source->folder, "tokenizer.json");
    lm_status s = v->path && config ? LM_OK : lm_fail_nomem(v->err, strlen(v->source->folder), v->source->folder);
    if (s == LM_OK) s = lm_json_load(v->path, 0, &v->root, v->err);
    if (s == LM_OK && lm_fs_exists(config)) s = lm_json_load(config, 0, &v->config, v->err);
    free(config);
    return s;
}

static lm_status add_all(vocab *v, cv_gguf_pairs *p) {
    const struct pre *pre;
    LM_TRY(open_files(v));
    LM_TRY(read_tokens(v));
    LM_TRY(find_pre(v, &pre));
    LM_TRY(lm_tokenizer_open(v->source->folder, &v->tokenizer, v->err));
    read_specials(v);
    LM_TRY(read_processor(v, json_object_get(v->root, "post_processor"), false));
    cv_gguf_pair_string(p, "tokenizer.ggml.model", "gpt2");
    cv_gguf_pair_string(p, "tokenizer.ggml.pre", pre->name);
    add_tokens(v, p);
    LM_TRY(add_merges(v, p));
    add_specials(v, p);
    return LM_OK;
}

lm_status cv_gguf_vocab_add(const cv_gguf_source *s, cv_gguf_pairs *p, lm_error *err) {
    vocab v = {.source = s, .err = err};
    lm_status status = add_all(&v, p);
    lm_tokenizer_close(v.tokenizer);
    json_decref(v.root);
    json_decref(v.config);
    free(v.tokens);
    free(v.path);
    return status;
}
