/* SPDX-License-Identifier: MIT
 * bpe_load.c: owns reading the "model" object of tokenizer.json into vocabulary, merge table and flags. */
#include "text/bpe.h"
#include "text/utf8.h"
#include <stdio.h>
#include <string.h>

static bool is_empty_or_null(const json_t *v) {
    return !v || json_is_null(v) || (json_is_string(v) && json_string_length(v) == 0);
}

static lm_status read_flag(const json_t *model, const char *key, bool *out, const char *what, lm_error *err) {
    const json_t *v = json_object_get(model, key);
    *out = false;
    if (!v || json_is_null(v)) return LM_OK;
    if (!json_is_boolean(v)) return lm_fail(err, LM_FORMAT, "%s: model.%s: expected true or false", what, key);
    *out = json_is_true(v);
    return LM_OK;
}

static lm_status read_vocab(lm_bpe *bpe, json_t *model, const char *what, lm_error *err) {
    json_t *vocab = json_object_get(model, "vocab");
    if (!json_is_object(vocab)) return lm_fail(err, LM_FORMAT, "%s: model.vocab: expected an object", what);
    LM_TRY(lm_vocab_reserve(&bpe->vocab, json_object_size(vocab), err));
    for (void *i = json_object_iter(vocab); i; i = json_object_iter_next(vocab, i)) {
        const json_t *id = json_object_iter_value(i);
        const char *key = json_object_iter_key(i);
        if (!json_is_integer(id))
            return lm_fail(err, LM_FORMAT, "%s: model.vocab: token \"%.60s\": expected an integer id", what, key);
        LM_TRY(lm_vocab_add(&bpe->vocab, key, json_object_iter_key_len(i), json_integer_value(id), what, err));
    }
    bpe->whole = calloc(bpe->vocab.n ? bpe->vocab.n : 1, sizeof *bpe->whole);
    if (!bpe->whole) return lm_fail_nomem(err, bpe->vocab.n, "vocabulary flags");
    return LM_OK;
}

static lm_status token_of(const lm_bpe *bpe, const char *s, size_t length, size_t rank, int32_t *id, const char *what,
                          lm_error *err) {
    int32_t e = lm_vocab_find(&bpe->vocab, s, length);
    if (e < 0)
        return lm_fail(err, LM_FORMAT, "%s: model.merges[%zu]: token \"%.*s\" is not in model.vocab", what, rank,
                       (int)(length < 60 ? length : 60), s);
    *id = bpe->vocab.entries[e].id;
    return LM_OK;
}

static void insert_merge(lm_bpe *bpe, uint64_t pair, uint32_t rank, int32_t id) {
    uint32_t k = (uint32_t)((pair * 0x9e3779b97f4a7c15u) >> 32) & (bpe->n_slots - 1);
    while (bpe->merges[k].pair != UINT64_MAX && bpe->merges[k].pair != pair) k = (k + 1) & (bpe->n_slots - 1);
    bpe->merges[k] = (lm_bpe_merge){pair, rank, id}; /* a pair listed twice: the later rank counts */
}

/* "a b", or ["a", "b"] in newer files. */
static lm_status split_merge(const json_t *merge, size_t rank, const char **a, size_t *na, const char **b, size_t *nb,
                             const char *what, lm_error *err) {
    if (json_is_string(merge)) {
        const char *s = json_string_value(merge);
        size_t n = json_string_length(merge);
        const char *space = memchr(s, ' ', n);
        if (space && !memchr(space + 1, ' ', n - (size_t)(space - s) - 1)) {
            *a = s;
            *na = (size_t)(space - s);
            *b = space + 1;
            *nb = n - *na - 1;
            return LM_OK;
        }
    } else if (json_is_array(merge) && json_array_size(merge) == 2) {
        const json_t *x = json_array_get(merge, 0), *y = json_array_get(merge, 1);
        if (json_is_string(x) && json_is_string(y)) {
            *a = json_string_value(x);
            *na = json_string_length(x);
            *b = json_string_value(y);
            *nb = json_string_length(y);
            return LM_OK;
        }
    }
    return lm_fail(err, LM_FORMAT, "%s: model.merges[%zu]: expected \"a b\" or [\"a\", \"b\"]", what, rank);
}

static lm_status read_merges(lm_bpe *bpe, const json_t *model, const char *what, lm_error *err) {
    const json_t *merges = json_object_get(model, "merges");
    if (!json_is_array(merges)) return lm_fail(err, LM_FORMAT, "%s: model.merges: expected an array", what);
    size_t n = json_array_size(merges), cap = 256;
    char *joined = NULL;
    if (n > (size_t)1 << 26) return lm_fail(err, LM_FORMAT, "%s: model.merges: %zu are too many", what, n);
    uint32_t slots = 16;
    while (slots < n * 2) slots *= 2;
    bpe->merges = malloc(slots * sizeof *bpe->merges);
    joined = malloc(cap);
    lm_status s = LM_OK;
    if (!bpe->merges || !joined) s = lm_fail_nomem(err, slots * sizeof *bpe->merges, "merges");
    if (bpe->merges) memset(bpe->merges, 0xff, slots * sizeof *bpe->merges);
    bpe->n_slots = slots;
    bpe->n_merges = (uint32_t)n;
    for (size_t i = 0; i < n && s == LM_OK; i++) {
        const char *a = "", *b = "";
        size_t na = 0, nb = 0;
        int32_t left = 0, right = 0, id = 0;
        s = split_merge(json_array_get(merges, i), i, &a, &na, &b, &nb, what, err);
        if (s == LM_OK) s = token_of(bpe, a, na, i, &left, what, err);
        if (s == LM_OK) s = token_of(bpe, b, nb, i, &right, what, err);
        if (s != LM_OK) break;
        if (na + nb > cap) {
            cap = na + nb;
            char *p = realloc(joined, cap);
            if (!p) {
                s = lm_fail_nomem(err, cap, "a merge");
                break;
            }
            joined = p;
        }
        memcpy(joined, a, na);
        memcpy(joined + na, b, nb);
        s = token_of(bpe, joined, na + nb, i, &id, what, err);
        if (s == LM_OK) insert_merge(bpe, (uint64_t)(uint32_t)left << 32 | (uint32_t)right, (uint32_t)i, id);
    }
    free(joined);
    return s;
}

static lm_status read_options(lm_bpe *bpe, const json_t *model, const char *what, lm_error *err) {
    const json_t *v = json_object_get(model, "dropout");
    if (v && !json_is_null(v) && json_number_value(v) != 0.0)
        return lm_fail(err, LM_UNSUPPORTED, "%s: model.dropout: random merging is not supported", what);
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++)
        if (!is_empty_or_null(json_object_get(model, affixes[i])))
            return lm_fail(err, LM_UNSUPPORTED, "%s: model.%s is not supported", what, affixes[i]);
    LM_TRY(read_flag(model, "fuse_unk", &bpe->fuse_unk, what, err));
    LM_TRY(read_flag(model, "byte_fallback", &bpe->byte_fallback, what, err));
    LM_TRY(read_flag(model, "ignore_merges", &bpe->ignore_merges, what, err));
    bpe->unk_id = -1;
    const json_t *unk = json_object_get(model, "unk_token");
    if (unk && !json_is_null(unk)) {
        if (!json_is_string(unk)) return lm_fail(err, LM_FORMAT, "%s: model.unk_token: expected a string", what);
        int32_t e = lm_vocab_find(&bpe->vocab, json_string_value(unk), json_string_length(unk));
        if (e < 0)
            return lm_fail(err, LM_FORMAT, "%s: model.unk_token: \"%.60s\" is not in model.vocab", what,
                           json_string_value(unk));
        bpe->unk_id = bpe->vocab.entries[e].id;
    }
    return LM_OK;
}

static void fill_character_tables(lm_bpe *bpe) {
    for (uint32_t c = 0; c < 1024; c++) {
        char s[2] = {(char)c, 0};
        size_t n = 1;
        if (c >= 0x80) {
            s[0] = (char)(0xc0 | (c >> 6));
            s[1] = (char)(0x80 | (c & 63));
            n = 2;
        }
        int32_t e = lm_vocab_find(&bpe->vocab, s, n);
        bpe->char_ids[c] = e < 0 ? -1 : bpe->vocab.entries[e].id;
    }
    for (int b = 0; b < 256; b++) {
        char s[8];
        int n = snprintf(s, sizeof s, "<0x%02X>", (unsigned)b);
        int32_t e = lm_vocab_find(&bpe->vocab, s, (size_t)n);
        bpe->byte_ids[b] = e < 0 ? -1 : bpe->vocab.entries[e].id;
    }
}

lm_status lm_bpe_init(lm_bpe *bpe, const json_t *model, const char *what, lm_error *err) {
    memset(bpe, 0, sizeof *bpe);
    if (!json_is_object(model)) return lm_fail(err, LM_FORMAT, "%s: model: expected an object", what);
    const json_t *type = json_object_get(model, "type");
    /* Older files leave the type out; only BPE has merges. */
    if (type ? !json_is_string(type) : !json_object_get(model, "merges"))
        return lm_fail(err, LM_FORMAT, "%s: model.type: expected a string", what);
    if (type && strcmp(json_string_value(type), "BPE") != 0)
        return lm_fail(err, LM_UNSUPPORTED, "%s: model.type: \"%.60s\" is not supported (BPE is)", what,
                       json_string_value(type));
    LM_TRY(read_vocab(bpe, (json_t *)model, what, err));
    LM_TRY(read_options(bpe, model, what, err));
    LM_TRY(read_merges(bpe, model, what, err));
    fill_character_tables(bpe);
    return LM_OK;
}
