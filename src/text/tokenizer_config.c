/* SPDX-License-Identifier: MIT
 * tokenizer_config.c: owns what stands beside tokenizer.json: tokenizer_config.json, special_tokens_map.json and
 * chat_template.jinja, and which added tokens follow from them (transformers' rules). */
#include "base/fs.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"
#include <string.h>

#define MAX_CONFIG ((size_t)256 << 20)
#define MAX_TEMPLATE ((size_t)16 << 20)

static const char *const named[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};
#define N_NAMED (sizeof named / sizeof *named)

/* transformers writes model_max_length as 1000000000000000019884624838656, which no integer of ours holds: a long run
 * of digits outside a string becomes a real number. */
static void tame_integers(const char *text, size_t length, lm_buf *out) {
    bool in_string = false;
    for (size_t i = 0; i < length;) {
        char c = text[i];
        if (in_string && c == '\\' && i + 1 < length) {
            lm_buf_add(out, text + i, 2);
            i += 2;
            continue;
        }
        if (c == '"') in_string = !in_string;
        if (in_string || c < '0' || c > '9') {
            lm_buf_addc(out, c);
            i++;
            continue;
        }
        size_t end = i;
        while (end < length && text[end] >= '0' && text[end] <= '9') end++;
        bool part_of_real = (i && (text[i - 1] == '.' || text[i - 1] == '+')) ||
                            (end < length && (text[end] == '.' || text[end] == 'e' || text[end] == 'E'));
        lm_buf_add(out, text + i, end - i);
        if (end - i > 18 && !part_of_real) lm_buf_addc(out, '.'), lm_buf_addc(out, '0');
        i = end;
    }
}

static lm_status load_object(const char *folder, const char *name, json_t **out, lm_error *err) {
    char *path = lm_fs_join(folder, name), *text = NULL;
    size_t length = 0;
    lm_status s = LM_OK;
    *out = NULL;
    if (!path) return lm_fail_nomem(err, strlen(folder), "path");
    if (lm_fs_exists(path)) {
        lm_buf tamed;
        lm_buf_init(&tamed, MAX_CONFIG * 2);
        s = lm_fs_read(path, MAX_CONFIG, &text, &length, err);
        if (s == LM_OK) tame_integers(text, length, &tamed);
        if (s == LM_OK && tamed.failed) s = lm_fail_nomem(err, length, path);
        if (s == LM_OK) s = lm_json_parse(tamed.data ? tamed.data : "", tamed.length, path, out, err);
        if (s == LM_OK && !json_is_object(*out)) {
            s = lm_fail(err, LM_FORMAT, "%s: expected an object", path);
            json_decref(*out);
            *out = NULL;
        }
        lm_buf_free(&tamed);
        free(text);
    }
    free(path);
    return s;
}

/* A token is a string or an object with its "content". */
static const char *token_content(const json_t *v) {
    return json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
}

static lm_status read_chat_template(lm_tokenizer *t, const char *folder, lm_error *err) {
    char *path = lm_fs_join(folder, "chat_template.jinja");
    size_t length = 0;
    lm_status s = LM_OK;
    if (!path) return lm_fail_nomem(err, strlen(folder), "path");
    if (lm_fs_exists(path)) {
        s = lm_fs_read(path, MAX_TEMPLATE, &t->chat_template, &length, err);
        if (s == LM_OK && !lm_utf8_valid(t->chat_template, length))
            s = lm_fail(err, LM_FORMAT, "%s: invalid UTF-8", path);
        else if (s == LM_OK && memchr(t->chat_template, 0, length))
            s = lm_fail(err, LM_FORMAT, "%s: holds a NUL", path);
    }
    free(path);
    if (s != LM_OK || t->chat_template) return s;
    const json_t *v = json_object_get(t->config, "chat_template");
    if (json_is_array(v)) {
        const json_t *found = NULL;
        for (size_t i = 0; i < json_array_size(v); i++) {
            const json_t *e = json_array_get(v, i);
            const char *name = json_string_value(json_object_get(e, "name"));
            if (name && !strcmp(name, "default")) found = json_object_get(e, "template");
        }
        v = found;
    }
    if (!json_is_string(v)) return LM_OK;
    if (memchr(json_string_value(v), 0, json_string_length(v)))
        return lm_fail(err, LM_FORMAT, "%s/tokenizer_config.json: chat_template: holds a NUL", folder);
    t->chat_template = malloc(json_string_length(v) + 1);
    if (!t->chat_template) return lm_fail_nomem(err, json_string_length(v) + 1, "chat template");
    memcpy(t->chat_template, json_string_value(v), json_string_length(v) + 1);
    return LM_OK;
}

static bool ends_with_token(const char *key) {
    size_t n = strlen(key);
    return n > 6 && !strcmp(key + n - 6, "_token");
}

static bool is_named(const char *key) {
    for (size_t i = 0; i < N_NAMED; i++)
        if (!strcmp(key, named[i])) return true;
    return false;
}

static lm_status set_special(lm_tokenizer *t, const char *key, const char *value, lm_error *err) {
    if (json_object_set_new(t->special, key, json_string(value)) == 0) return LM_OK;
    return lm_fail_nomem(err, strlen(value), "special tokens");
}

/* Named tokens first, in transformers' order, then a model's own "..._token" entries. */
static lm_status read_special(lm_tokenizer *t, lm_error *err) {
    static const char *const own[] = {"model_specific_special_tokens", "extra_special_tokens"};
    t->special = json_object();
    if (!t->special) return lm_fail_nomem(err, 64, "special tokens");
    for (size_t i = 0; i < N_NAMED; i++) {
        const char *s = token_content(json_object_get(t->config, named[i]));
        if (s) LM_TRY(set_special(t, named[i], s, err));
    }
    for (size_t i = 0; i < 2; i++) {
        json_t *more = json_object_get(t->config, own[i]);
        for (void *k = json_object_iter(more); k; k = json_object_iter_next(more, k)) {
            const char *s = token_content(json_object_iter_value(k));
            if (s) LM_TRY(set_special(t, json_object_iter_key(k), s, err));
        }
    }
    for (void *k = json_object_iter(t->config); k; k = json_object_iter_next(t->config, k)) {
        const char *key = json_object_iter_key(k), *s = token_content(json_object_iter_value(k));
        if (s && ends_with_token(key) && !is_named(key)) LM_TRY(set_special(t, key, s, err));
    }
    t->bos = json_string_value(json_object_get(t->special, "bos_token"));
    t->eos = json_string_value(json_object_get(t->special, "eos_token"));
    return LM_OK;
}

lm_status lm_tokenizer_read_config(lm_tokenizer *t, const char *folder, lm_error *err) {
    LM_TRY(load_object(folder, "tokenizer_config.json", &t->config, err));
    if (!t->config && !(t->config = json_object())) return lm_fail_nomem(err, 64, "tokenizer_config");
    if (!json_object_get(t->config, "added_tokens_decoder")) { /* older files keep the map apart, and it wins */
        json_t *map = NULL;
        LM_TRY(load_object(folder, "special_tokens_map.json", &map, err));
        int failed = map ? json_object_update(t->config, map) : 0;
        json_decref(map);
        if (failed) return lm_fail_nomem(err, 64, "special_tokens_map");
    }
    LM_TRY(read_chat_template(t, folder, err));
    return lm_tokenizer_use_config(t, err);
}

lm_status lm_tokenizer_use_config(lm_tokenizer *t, lm_error *err) {
    LM_TRY(read_special(t, err));
    /* transformers cleans up after BPE only where it is told to twice. */
    t->clean_up = json_is_true(json_object_get(t->config, "clean_up_tokenization_spaces")) &&
                  json_is_true(json_object_get(
                      t->config, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"));
    return LM_OK;
}

/* ---------------------------------------------------------------- added tokens */

lm_status lm_tokenizer_put_added(lm_tokenizer *t, lm_added_token token, int64_t file_id, const char *what,
                                 lm_error *err) {
    const lm_added_token *old = lm_added_tokens_find(&t->added, token.content, token.length);
    int32_t entry = lm_vocab_find(&t->bpe.vocab, token.content, token.length);
    int64_t id = file_id;
    if (old) {
        id = old->id;
        token.special |= old->special;
    } else if (entry >= 0) {
        id = t->bpe.vocab.entries[entry].id;
    } else if (id < 0) { /* behind everything that is there */
        id = t->bpe.vocab.n_ids;
        for (size_t i = 0; i < t->added.n; i++)
            if (t->added.items[i].id >= id) id = (int64_t)t->added.items[i].id + 1;
    }
    if (id < 0 || id >= LM_VOCAB_MAX_ID)
        return lm_fail(err, LM_FORMAT, "%s: added token \"%.60s\": id: expected 0 to %lld, found %lld", what,
                       token.content, (long long)LM_VOCAB_MAX_ID - 1, (long long)id);
    token.id = (int32_t)id;
    return lm_added_tokens_put(&t->added, &token, what, err);
}

static lm_status put_value(lm_tokenizer *t, const json_t *v, bool special, const char *what, lm_error *err) {
    const json_t *content = json_is_object(v) ? json_object_get(v, "content") : v;
    if (!json_is_string(content)) return LM_OK;
    lm_added_token token = {.content = (char *)json_string_value(content),
                            .length = json_string_length(content),
                            .special = special || json_is_true(json_object_get(v, "special"))};
    token.lstrip = json_is_true(json_object_get(v, "lstrip"));
    token.rstrip = json_is_true(json_object_get(v, "rstrip"));
    token.single_word = json_is_true(json_object_get(v, "single_word"));
    const json_t *normalized = json_object_get(v, "normalized");
    token.normalized = normalized ? json_is_true(normalized) : !token.special;
    return lm_tokenizer_put_added(t, token, -1, what, err);
}

/* Named tokens: described by added_tokens_decoder if it lists them, else by their own object, else plain special. */
static lm_status put_named(lm_tokenizer *t, const json_t *v, const char *what, lm_error *err) {
    const char *s = token_content(v);
    if (!s) return LM_OK;
    const lm_added_token *known = lm_added_tokens_find(&t->added, s, strlen(s));
    if (known && known->special) return LM_OK;
    if (known) {
        lm_added_token token = *known;
        token.special = true;
        return lm_tokenizer_put_added(t, token, -1, what, err);
    }
    return put_value(t, v, true, what, err);
}

lm_status lm_tokenizer_add_config_tokens(lm_tokenizer *t, const char *what, lm_error *err) {
    json_t *decoder = json_object_get(t->config, "added_tokens_decoder");
    for (void *k = json_object_iter(decoder); k; k = json_object_iter_next(decoder, k))
        LM_TRY(put_value(t, json_object_iter_value(k), false, what, err));
    for (size_t i = 0; i < N_NAMED; i++) LM_TRY(put_named(t, json_object_get(t->config, named[i]), what, err));
    const json_t *extra = json_object_get(t->config, "extra_special_tokens");
    if (!extra || json_is_null(extra)) extra = json_object_get(t->config, "additional_special_tokens");
    for (size_t i = 0; json_is_array(extra) && i < json_array_size(extra); i++)
        LM_TRY(put_named(t, json_array_get(extra, i), what, err));
    return LM_OK;
}
