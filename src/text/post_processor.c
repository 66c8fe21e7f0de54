/* SPDX-License-Identifier: MIT
 * post_processor.c: owns the post_processor of tokenizer.json: for one text it can only put fixed ids before and after.
 */
#include "text/tokenizer_impl.h"
#include <string.h>

#define MAX_DEPTH 16
#define MAX_SPECIAL 1024

static lm_status add_id(lm_ids *list, const json_t *id, const char *what, lm_error *err) {
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= LM_VOCAB_MAX_ID)
        return lm_fail(err, LM_FORMAT, "%s: post_processor: expected token ids below %lld", what,
                       (long long)LM_VOCAB_MAX_ID);
    if (list->n >= MAX_SPECIAL) return lm_fail(err, LM_FORMAT, "%s: post_processor: too many special tokens", what);
    return lm_ids_add(list, (int32_t)json_integer_value(id), err);
}

static lm_status add_special(lm_ids *list, const json_t *table, const json_t *piece, const char *what, lm_error *err) {
    const char *name = json_string_value(json_object_get(piece, "id"));
    const json_t *ids = name ? json_object_get(json_object_get(table, name), "ids") : NULL;
    if (!json_is_array(ids))
        return lm_fail(err, LM_FORMAT, "%s: post_processor: special token \"%.60s\" is not listed with its ids", what,
                       name ? name : "(no name)");
    for (size_t i = 0; i < json_array_size(ids); i++) LM_TRY(add_id(list, json_array_get(ids, i), what, err));
    return LM_OK;
}

/* The processors of a sequence run one after another: a later one wraps what the earlier ones made. */
static lm_status wrap(lm_tokenizer *t, const lm_ids *before, const lm_ids *after, lm_error *err) {
    lm_ids prefix = {0};
    lm_status s = LM_OK;
    for (size_t i = 0; i < before->n && s == LM_OK; i++) s = lm_ids_add(&prefix, before->data[i], err);
    for (size_t i = 0; i < t->prefix.n && s == LM_OK; i++) s = lm_ids_add(&prefix, t->prefix.data[i], err);
    for (size_t i = 0; i < after->n && s == LM_OK; i++) s = lm_ids_add(&t->suffix, after->data[i], err);
    free(t->prefix.data);
    t->prefix = prefix;
    return s;
}

static lm_status read_template(lm_tokenizer *t, const json_t *v, lm_ids *before, lm_ids *after, const char *what,
                               lm_error *err) {
    const json_t *single = json_object_get(v, "single"), *table = json_object_get(v, "special_tokens");
    bool seen = false;
    (void)t;
    if (!json_is_array(single))
        return lm_fail(err, LM_FORMAT, "%s: post_processor TemplateProcessing: single: expected an array", what);
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i);
        const json_t *special = json_object_get(piece, "SpecialToken"), *sequence = json_object_get(piece, "Sequence");
        const char *id = json_string_value(json_object_get(sequence, "id"));
        if (special) {
            LM_TRY(add_special(seen ? after : before, table, special, what, err));
        } else if (id && !strcmp(id, "A") && !seen) {
            seen = true;
        } else {
            return lm_fail(err, LM_FORMAT,
                           "%s: post_processor TemplateProcessing: single: expected special tokens and one sequence A",
                           what);
        }
    }
    if (!seen)
        return lm_fail(err, LM_FORMAT, "%s: post_processor TemplateProcessing: single: sequence A is missing", what);
    return LM_OK;
}

static lm_status read_one(lm_tokenizer *t, const json_t *v, int depth, const char *what, lm_error *err) {
    const char *type = json_string_value(json_object_get(v, "type"));
    if (!type) return lm_fail(err, LM_FORMAT, "%s: post_processor: expected an object with a \"type\"", what);
    if (depth > MAX_DEPTH) return lm_fail(err, LM_FORMAT, "%s: post_processor: nested too deep", what);
    if (!strcmp(type, "ByteLevel")) return LM_OK; /* offsets only */
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(v, "processors");
        if (!json_is_array(list))
            return lm_fail(err, LM_FORMAT, "%s: post_processor Sequence: processors: expected an array", what);
        for (size_t i = 0; i < json_array_size(list); i++)
            LM_TRY(read_one(t, json_array_get(list, i), depth + 1, what, err));
        return LM_OK;
    }
    lm_ids before = {0}, after = {0};
    lm_status s;
    if (!strcmp(type, "TemplateProcessing")) {
        s = read_template(t, v, &before, &after, what, err);
    } else if (!strcmp(type, "BertProcessing") || !strcmp(type, "RobertaProcessing")) {
        s = add_id(&before, json_array_get(json_object_get(v, "cls"), 1), what, err);
        if (s == LM_OK) s = add_id(&after, json_array_get(json_object_get(v, "sep"), 1), what, err);
    } else {
        s = lm_fail(err, LM_UNSUPPORTED, "%s: post_processor.type: \"%.60s\" is not supported", what, type);
    }
    if (s == LM_OK) s = wrap(t, &before, &after, err);
    free(before.data);
    free(after.data);
    return s;
}

lm_status lm_tokenizer_read_post_processor(lm_tokenizer *t, const json_t *value, const char *what, lm_error *err) {
    return !value || json_is_null(value) ? LM_OK : read_one(t, value, 0, what, err);
}
