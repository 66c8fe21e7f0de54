/* SPDX-License-Identifier: MIT
 *
 * rows.c: token rows for scoring: a text or JSONL documents, tokenized as mlx-lm's datasets do, laid end to end and cut
 * into rows. */
#include "score_internal.h"
#include <stdlib.h>
#include <string.h>

#define MAX_IDS ((int64_t)1 << 31)

/* ---------------------------------------------------------------- numpy's legacy permutation */

#define MT_N 624
#define MT_M 397

typedef struct mt19937 {
    uint32_t state[MT_N];
    int at;
} mt19937;

static void mt_seed(mt19937 *g, uint32_t seed) {
    for (uint32_t i = 0; i < MT_N; i++) {
        g->state[i] = seed;
        seed = 1812433253u * (seed ^ (seed >> 30)) + i + 1;
    }
    g->at = MT_N;
}

static void mt_refill(mt19937 *g) {
    uint32_t *s = g->state;
    for (int i = 0; i < MT_N; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % MT_N] & 0x7fffffffu);
        s[i] = s[(i + MT_M) % MT_N] ^ (y >> 1) ^ ((y & 1) ? 0x9908b0dfu : 0);
    }
    g->at = 0;
}

static uint32_t mt_next(mt19937 *g) {
    if (g->at == MT_N) mt_refill(g);
    uint32_t y = g->state[g->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* Uniform in [0, max]: words under the smallest covering mask, those above are thrown away. */
static uint32_t mt_interval(mt19937 *g, uint32_t max) {
    uint32_t mask = max, value;
    for (int shift = 1; shift < 32; shift *= 2) mask |= mask >> shift;
    do value = mt_next(g) & mask;
    while (value > max);
    return value;
}

void lm_numpy_permutation(uint32_t seed, uint32_t *out, size_t n) {
    mt19937 g;
    mt_seed(&g, seed);
    for (size_t i = 0; i < n; i++) out[i] = (uint32_t)i;
    for (size_t i = n; i-- > 1;) {
        uint32_t j = mt_interval(&g, (uint32_t)i), swap = out[i];
        out[i] = out[j];
        out[j] = swap;
    }
}

/* ---------------------------------------------------------------- ids */

typedef struct id_list {
    int32_t *ids;
    int64_t n, capacity;
} id_list;

static lm_status ids_add(id_list *l, const int32_t *ids, size_t n, lm_error *err) {
    if ((int64_t)n > MAX_IDS - l->n) return lm_ev_fail(err, LM_BUDGET, "the text has more than 2^31 tokens");
    if (l->n + (int64_t)n > l->capacity) {
        int64_t capacity = l->capacity ? l->capacity : 4096;
        while (capacity < l->n + (int64_t)n) capacity *= 2;
        int32_t *more = realloc(l->ids, (size_t)capacity * sizeof *more);
        if (!more) return lm_ev_fail(err, LM_NOMEM, "out of memory for %lld ids", (long long)capacity);
        l->ids = more;
        l->capacity = capacity;
    }
    if (n) memcpy(l->ids + l->n, ids, n * sizeof *ids);
    l->n += (int64_t)n;
    return LM_OK;
}

static lm_status add_encoded(const lm_tokenizer *t, const char *text, size_t length, bool special, id_list *l,
                             lm_error *err) {
    int32_t *ids = NULL;
    size_t n = 0;
    EV_TRY(lm_tokenizer_encode(t, text, length, special, &ids, &n, err));
    lm_status status = ids_add(l, ids, n, err);
    lm_free(ids);
    return status;
}

/* ---------------------------------------------------------------- documents */

typedef enum document_kind { KIND_COMPLETION, KIND_CHAT, KIND_TEXT } document_kind;

typedef struct line_span {
    const char *text;
    size_t length, number;
} line_span;

typedef struct documents {
    const lm_tokenizer *tokenizer;
    const char *name;
    line_span *lines;
    size_t n;
    document_kind kind;
} documents;

static lm_status parse_line(const documents *d, size_t i, json_t **out, lm_error *err) {
    json_error_t e;
    const line_span *line = &d->lines[i];
    *out = json_loadb(line->text, line->length, JSON_REJECT_DUPLICATES, &e);
    if (!*out) return lm_ev_fail(err, LM_FORMAT, "%s: line %zu: not JSON: %s", d->name, line->number, e.text);
    if (json_is_object(*out)) return LM_OK;
    json_decref(*out);
    *out = NULL;
    return lm_ev_fail(err, LM_FORMAT, "%s: line %zu: expected a JSON object, found another value", d->name,
                      line->number);
}

static lm_status find_kind(documents *d, lm_error *err) {
    json_t *row;
    EV_TRY(parse_line(d, 0, &row, err));
    lm_status status = LM_OK;
    if (json_object_get(row, "prompt") && json_object_get(row, "completion"))
        d->kind = KIND_COMPLETION;
    else if (json_object_get(row, "messages"))
        d->kind = KIND_CHAT;
    else if (json_object_get(row, "text"))
        d->kind = KIND_TEXT;
    else
        status = lm_ev_fail(err, LM_FORMAT,
                            "%s: line %zu: expected \"prompt\" and \"completion\", \"messages\" or \"text\", found "
                            "none of them",
                            d->name, d->lines[0].number);
    json_decref(row);
    return status;
}

static lm_status find_lines(documents *d, const char *text, size_t length, lm_error *err) {
    size_t offset = 0, number = 0, n, capacity = 0;
    const char *line;
    while (lm_ev_next_line(text, length, &offset, &number, &line, &n)) {
        if (d->n == capacity) {
            capacity = capacity ? capacity * 2 : 1024;
            line_span *more = realloc(d->lines, capacity * sizeof *more);
            if (!more) return lm_ev_fail(err, LM_NOMEM, "%s: out of memory for %zu lines", d->name, capacity);
            d->lines = more;
        }
        d->lines[d->n++] = (line_span){line, n, number};
    }
    if (!d->n) return lm_ev_fail(err, LM_FORMAT, "%s: expected at least one JSON object, found no line", d->name);
    if (d->n > UINT32_MAX) return lm_ev_fail(err, LM_BUDGET, "%s: more than 2^32 lines", d->name);
    return find_kind(d, err);
}

/* What the chat template gets: the row's messages (or the two turns of prompt and completion) and its tools. */
static json_t *chat_input(const documents *d, json_t *row) {
    const char *think_start, *think_end;
    lm_tokenizer_think_tokens(d->tokenizer, &think_start, &think_end);
    json_t *messages = json_incref(json_object_get(row, "messages"));
    if (d->kind == KIND_COMPLETION) {
        json_decref(messages);
        messages = json_pack("[{s:s, s:O}, {s:s, s:O}]", "role", "user", "content", json_object_get(row, "prompt"),
                             "role", "assistant", "content", json_object_get(row, "completion"));
    }
    json_t *input =
        json_pack("{s:o, s:b, s:b}", "messages", messages, "add_generation_prompt", 0, "enable_thinking", !!think_end);
    json_t *tools = json_object_get(row, "tools");
    if (input && tools && !json_is_null(tools) && json_object_set(input, "tools", tools) != 0) {
        json_decref(input);
        return NULL;
    }
    return input;
}

static lm_status add_chat(const documents *d, json_t *row, id_list *l, lm_error *err) {
    json_t *input = chat_input(d, row);
    char *json = input ? json_dumps(input, 0) : NULL, *text = NULL;
    size_t length = 0;
    json_decref(input);
    if (!json) return lm_ev_fail(err, LM_NOMEM, "out of memory for a chat");
    lm_status status = lm_chat_render(d->tokenizer, NULL, json, &text, &length, err);
    free(json);
    if (status == LM_OK) status = add_encoded(d->tokenizer, text, length, false, l, err);
    lm_free(text);
    return status;
}

static lm_status add_text(const documents *d, const json_t *row, id_list *l, lm_error *err) {
    const json_t *text = json_object_get(row, "text");
    const char *eos = lm_tokenizer_eos_token(d->tokenizer);
    int32_t id = eos ? lm_tokenizer_token_id(d->tokenizer, eos) : -1;
    if (id < 0) return lm_ev_fail(err, LM_UNSUPPORTED, "text rows end with eos_token, which this tokenizer lacks");
    int64_t before = l->n;
    EV_TRY(add_encoded(d->tokenizer, json_string_value(text), json_string_length(text), true, l, err));
    return l->n > before && l->ids[l->n - 1] == id ? LM_OK : ids_add(l, &id, 1, err);
}

static lm_status check_string(const json_t *row, const char *key, lm_error *err) {
    const json_t *value = json_object_get(row, key);
    if (json_is_string(value)) return LM_OK;
    return lm_ev_fail(err, LM_FORMAT, "\"%s\": expected a string, found %s", key, value ? "another value" : "nothing");
}

static lm_status add_document(const documents *d, size_t i, id_list *l, lm_error *err) {
    json_t *row;
    lm_error why = {LM_OK, ""};
    EV_TRY(parse_line(d, i, &row, err));
    lm_status status = LM_OK;
    if (d->kind == KIND_TEXT) {
        status = check_string(row, "text", &why);
        if (status == LM_OK) status = add_text(d, row, l, &why);
    } else if (d->kind == KIND_COMPLETION) {
        status = check_string(row, "prompt", &why);
        if (status == LM_OK) status = check_string(row, "completion", &why);
        if (status == LM_OK) status = add_chat(d, row, l, &why);
    } else if (!json_is_array(json_object_get(row, "messages"))) {
        status = lm_ev_fail(&why, LM_FORMAT, "\"messages\": expected an array, found %s",
                            json_object_get(row, "messages") ? "another value" : "nothing");
    } else {
        status = add_chat(d, row, l, &why);
    }
    json_decref(row);
    if (status == LM_OK) return LM_OK;
    return lm_ev_fail(err, status, "%s: line %zu: %.3900s", d->name, d->lines[i].number, why.message);
}

/* Documents in permuted order until there are `enough` ids (0: all of them). */
static lm_status collect(documents *d, uint32_t seed, int64_t enough, lm_rows *rows, id_list *l, lm_error *err) {
    uint32_t *order = malloc(d->n * sizeof *order);
    if (!order) return lm_ev_fail(err, LM_NOMEM, "out of memory for the order of %zu rows", d->n);
    lm_numpy_permutation(seed, order, d->n);
    lm_status status = LM_OK;
    size_t i = 0;
    for (; status == LM_OK && i < d->n && (!enough || l->n < enough); i++) status = add_document(d, order[i], l, err);
    free(order);
    rows->n_documents = (int64_t)d->n;
    rows->n_documents_used = (int64_t)i;
    return status;
}

static lm_status read_jsonl(const lm_tokenizer *tokenizer, const char *name, const char *text, size_t length,
                            const lm_rows_options *o, int64_t enough, lm_rows *rows, id_list *l, lm_error *err) {
    documents d = {.tokenizer = tokenizer, .name = name};
    lm_status status = find_lines(&d, text, length, err);
    if (status == LM_OK && d.kind != KIND_TEXT && !lm_tokenizer_chat_template(tokenizer))
        status = lm_ev_fail(err, LM_UNSUPPORTED, "%s: chat rows need a chat template, which this model lacks", name);
    if (status == LM_OK) status = collect(&d, o->seed, enough, rows, l, err);
    free(d.lines);
    return status;
}

/* ---------------------------------------------------------------- rows */

lm_rows_options lm_rows_options_default(void) {
    return (lm_rows_options){.format = LM_ROWS_JSONL, .sequence_length = 512, .num_samples = 256, .seed = 123};
}

int64_t lm_ev_row_scored(const lm_rows *rows, size_t i) {
    int64_t n = rows->starts[i + 1] - rows->starts[i] - 1 - rows->skip;
    return n > 0 ? n : 0;
}

static lm_status cut(lm_rows *rows, const lm_rows_options *o, const char *name, lm_error *err) {
    int64_t length = o->sequence_length ? o->sequence_length : rows->n_ids;
    int64_t full = length >= 2 ? rows->n_ids / length : 0, rest = length >= 2 ? rows->n_ids % length : 0;
    if (o->num_samples >= 0 && full >= o->num_samples) full = o->num_samples, rest = 0;
    if (!o->keep_rest || rest < 2) rest = 0;
    size_t n = (size_t)full + (rest ? 1 : 0);
    rows->ran_out = o->sequence_length && o->num_samples > 0 && full < o->num_samples;
    rows->starts = malloc((n + 1) * sizeof *rows->starts);
    if (!rows->starts) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu rows", n);
    for (size_t i = 0; i <= (size_t)full; i++) rows->starts[i] = (int64_t)i * length;
    if (rest) rows->starts[n] = full * length + rest;
    int64_t tokens = rows->n_ids;
    rows->n_rows = n;
    rows->n_ids = rows->starts[n];
    for (size_t i = 0; i < n; i++) rows->n_scored += lm_ev_row_scored(rows, i);
    if (rows->n_scored > 0) return LM_OK;
    return lm_ev_fail(err, LM_ARG, "%s: expected enough text for a row of %lld tokens, found %lld: nothing to score",
                      name, (long long)(length > 2 ? length : 2), (long long)tokens);
}

lm_status lm_rows_create(const lm_tokenizer *tokenizer, const char *name, const char *text, size_t length,
                         const lm_rows_options *options, lm_rows **out, lm_error *err) {
    *out = NULL;
    const lm_rows_options *o = options;
    if (!tokenizer) return lm_ev_fail(err, LM_ARG, "%s: the model has no tokenizer.json", name);
    if (o->sequence_length < 0 || o->sequence_length == 1 || o->sequence_length > MAX_IDS || o->skip < 0 ||
        o->num_samples < -1 || o->num_samples == 0)
        return lm_ev_fail(err, LM_ARG, "rows: expected a length of 0 or at least 2, samples of -1 or at least 1");
    lm_rows *rows = calloc(1, sizeof *rows);
    if (!rows) return lm_ev_fail(err, LM_NOMEM, "out of memory for rows");
    rows->skip = o->skip;
    id_list l = {0};
    bool all = o->num_samples < 0 || o->sequence_length == 0 || o->num_samples > MAX_IDS / o->sequence_length;
    int64_t enough = all ? 0 : o->num_samples * o->sequence_length;
    lm_status status;
    if (o->format == LM_ROWS_JSONL) {
        status = read_jsonl(tokenizer, name, text, length, o, enough, rows, &l, err);
    } else {
        rows->n_documents = rows->n_documents_used = 1;
        status = add_encoded(tokenizer, text, length, false, &l, err);
    }
    rows->ids = l.ids;
    rows->n_ids = l.n;
    if (status == LM_OK) status = cut(rows, o, name, err);
    if (status != LM_OK) {
        lm_rows_destroy(rows);
        return status;
    }
    *out = rows;
    return LM_OK;
}

void lm_rows_destroy(lm_rows *rows) {
    if (!rows) return;
    free(rows->ids);
    free(rows->starts);
    free(rows);
}

void lm_rows_get_info(const lm_rows *rows, lm_rows_info *info) {
    *info = (lm_rows_info){.n_rows = rows->n_rows,
                           .n_tokens = rows->n_ids,
                           .n_scored = rows->n_scored,
                           .n_documents = rows->n_documents,
                           .n_documents_used = rows->n_documents_used,
                           .ran_out = rows->ran_out,
                           .ids = rows->ids,
                           .starts = rows->starts};
}
