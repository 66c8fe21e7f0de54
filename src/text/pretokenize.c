/* SPDX-License-Identifier: MIT
 * pretokenize.c: owns pre-tokenizers: every supported type becomes Split, PrefixSpace and ByteMap steps. */
#include "text/pretokenize.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 16
/* Digits asks Rust's char::is_numeric, whose Unicode (17) is ahead of the regular expressions'. */
#define DIGITS "[\\p{N}\\x{11de0}-\\x{11de9}\\x{16ff4}-\\x{16ff6}]"
#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* ---------------------------------------------------------------- reading */

static lm_status add_step(lm_pretokenizer *p, lm_pre_step step, const char *what, lm_error *err) {
    if (p->n == LM_PRE_MAX_STEPS) {
        lm_regex_free(step.regex);
        return lm_fail(err, LM_FORMAT, "%s: pre_tokenizer: more than %d steps", what, LM_PRE_MAX_STEPS);
    }
    p->steps[p->n++] = step;
    return LM_OK;
}

static lm_status add_split(lm_pretokenizer *p, const char *pattern, size_t length, lm_split_behavior behavior,
                           bool invert, const char *what, lm_error *err) {
    lm_pre_step step = {.kind = LM_PRE_SPLIT, .behavior = behavior, .invert = invert};
    LM_TRY(lm_regex_compile(pattern, length, what, &step.regex, err));
    return add_step(p, step, what, err);
}

static lm_status read_bool(const json_t *v, const char *key, bool missing, bool *out, const char *what, lm_error *err) {
    const json_t *x = json_object_get(v, key);
    *out = missing;
    if (!x || json_is_null(x)) return LM_OK;
    if (!json_is_boolean(x)) return lm_fail(err, LM_FORMAT, "%s: pre_tokenizer.%s: expected true or false", what, key);
    *out = json_is_true(x);
    return LM_OK;
}

static lm_status read_behavior(const json_t *v, lm_split_behavior *out, const char *what, lm_error *err) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *s = json_string_value(json_object_get(v, "behavior"));
    for (int i = 0; s && i < 5; i++)
        if (!strcmp(s, names[i])) {
            *out = (lm_split_behavior)i;
            return LM_OK;
        }
    return lm_fail(err, LM_FORMAT, "%s: pre_tokenizer Split: behavior: found \"%.40s\"", what, s ? s : "(no string)");
}

static lm_status read_split(lm_pretokenizer *p, const json_t *v, const char *what, lm_error *err) {
    const json_t *pattern = json_object_get(v, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex"), *string = json_object_get(pattern, "String");
    lm_split_behavior behavior = LM_SPLIT_ISOLATED;
    bool invert;
    LM_TRY(read_behavior(v, &behavior, what, err));
    LM_TRY(read_bool(v, "invert", false, &invert, what, err));
    if (json_is_string(regex))
        return add_split(p, json_string_value(regex), json_string_length(regex), behavior, invert, what, err);
    if (!json_is_string(string))
        return lm_fail(err, LM_FORMAT, "%s: pre_tokenizer Split: pattern: expected {\"Regex\"} or {\"String\"}", what);
    if (!json_string_length(string)) return LM_OK; /* matches nothing */
    lm_buf quoted;
    lm_buf_init(&quoted, (size_t)1 << 20);
    lm_regex_quote(json_string_value(string), json_string_length(string), &quoted);
    lm_status s = quoted.failed ? lm_fail(err, LM_FORMAT, "%s: pre_tokenizer Split: pattern is too long", what)
                                : add_split(p, quoted.data, quoted.length, behavior, invert, what, err);
    lm_buf_free(&quoted);
    return s;
}

static lm_status read_byte_level(lm_pretokenizer *p, const json_t *v, const char *what, lm_error *err) {
    bool prefix, regex;
    LM_TRY(read_bool(v, "add_prefix_space", true, &prefix, what, err));
    LM_TRY(read_bool(v, "use_regex", true, &regex, what, err));
    if (prefix) LM_TRY(add_step(p, (lm_pre_step){.kind = LM_PRE_PREFIX_SPACE}, what, err));
    if (regex) LM_TRY(add_split(p, GPT2_PATTERN, strlen(GPT2_PATTERN), LM_SPLIT_ISOLATED, false, what, err));
    return add_step(p, (lm_pre_step){.kind = LM_PRE_BYTE_MAP}, what, err);
}

/* SentencePiece's way: spaces become a visible mark, and words begin with it. */
static lm_status read_metaspace(lm_pretokenizer *p, const json_t *v, const char *what, lm_error *err) {
    const char *mark = json_string_value(json_object_get(v, "replacement"));
    const char *scheme = json_string_value(json_object_get(v, "prepend_scheme"));
    lm_pre_step step = {.kind = LM_PRE_METASPACE};
    bool prefix, split;
    LM_TRY(read_bool(v, "add_prefix_space", true, &prefix, what, err));
    LM_TRY(read_bool(v, "split", true, &split, what, err));
    size_t n = mark ? strlen(mark) : 0;
    const char *p2 = mark;
    if (n) lm_utf8_next(&p2);
    if (!n || n > 4 || p2 != mark + n)
        return lm_fail(err, LM_FORMAT, "%s: pre_tokenizer Metaspace: replacement: expected one character", what);
    memcpy(step.replacement, mark, n);
    step.prepend = prefix ? LM_PREPEND_ALWAYS : LM_PREPEND_NEVER;
    if (scheme && !strcmp(scheme, "first"))
        step.prepend = LM_PREPEND_FIRST;
    else if (scheme && !strcmp(scheme, "never"))
        step.prepend = LM_PREPEND_NEVER;
    else if (scheme && strcmp(scheme, "always") != 0)
        return lm_fail(err, LM_FORMAT, "%s: pre_tokenizer Metaspace: prepend_scheme: found \"%.40s\"", what, scheme);
    LM_TRY(add_step(p, step, what, err));
    if (!split) return LM_OK;
    lm_buf quoted;
    lm_buf_init(&quoted, 64);
    lm_regex_quote(mark, n, &quoted);
    lm_status s = add_split(p, quoted.data, quoted.length, LM_SPLIT_MERGED_WITH_NEXT, false, what, err);
    lm_buf_free(&quoted);
    return s;
}

static lm_status read_one(lm_pretokenizer *p, const json_t *v, int depth, const char *what, lm_error *err);

static lm_status read_sequence(lm_pretokenizer *p, const json_t *v, int depth, const char *what, lm_error *err) {
    const json_t *list = json_object_get(v, "pretokenizers");
    if (!json_is_array(list))
        return lm_fail(err, LM_FORMAT, "%s: pre_tokenizer Sequence: pretokenizers: expected an array", what);
    for (size_t i = 0; i < json_array_size(list); i++)
        LM_TRY(read_one(p, json_array_get(list, i), depth + 1, what, err));
    return LM_OK;
}

static lm_status read_one(lm_pretokenizer *p, const json_t *v, int depth, const char *what, lm_error *err) {
    const char *type = json_string_value(json_object_get(v, "type"));
    if (!type) return lm_fail(err, LM_FORMAT, "%s: pre_tokenizer: expected an object with a \"type\"", what);
    if (depth > MAX_DEPTH) return lm_fail(err, LM_FORMAT, "%s: pre_tokenizer: nested too deep", what);
    if (!strcmp(type, "Sequence")) return read_sequence(p, v, depth, what, err);
    if (!strcmp(type, "Split")) return read_split(p, v, what, err);
    if (!strcmp(type, "ByteLevel")) return read_byte_level(p, v, what, err);
    if (!strcmp(type, "Metaspace")) return read_metaspace(p, v, what, err);
    if (!strcmp(type, "Digits")) {
        bool single;
        LM_TRY(read_bool(v, "individual_digits", false, &single, what, err));
        return add_split(p, DIGITS, strlen(DIGITS), single ? LM_SPLIT_ISOLATED : LM_SPLIT_CONTIGUOUS, false, what, err);
    }
    if (!strcmp(type, "Whitespace")) return add_split(p, "\\w+|[^\\w\\s]+", 13, LM_SPLIT_REMOVED, true, what, err);
    if (!strcmp(type, "WhitespaceSplit")) return add_split(p, "\\s", 2, LM_SPLIT_REMOVED, false, what, err);
    return lm_fail(
        err, LM_UNSUPPORTED,
        "%s: pre_tokenizer.type: \"%.60s\" is not supported (Split, Digits, ByteLevel, Metaspace, Whitespace, "
        "WhitespaceSplit and Sequence are)",
        what, type);
}

lm_status lm_pretokenizer_init(lm_pretokenizer *p, const json_t *value, const char *what, lm_error *err) {
    memset(p, 0, sizeof *p);
    return !value || json_is_null(value) ? LM_OK : read_one(p, value, 0, what, err);
}

void lm_pretokenizer_free(lm_pretokenizer *p) {
    for (int i = 0; i < p->n; i++) lm_regex_free(p->steps[i].regex);
    memset(p, 0, sizeof *p);
}

/* ---------------------------------------------------------------- running */

void lm_pieces_init(lm_pieces *w) {
    memset(w, 0, sizeof *w);
    lm_buf_init(&w->buf, 0);
    lm_buf_init(&w->spare_buf, 0);
}

void lm_pieces_free(lm_pieces *w) {
    free(w->items);
    free(w->spare);
    lm_buf_free(&w->buf);
    lm_buf_free(&w->spare_buf);
    for (int i = 0; i < LM_PRE_MAX_STEPS; i++) lm_regex_scan_free(w->scans[i]);
    memset(w, 0, sizeof *w);
}

/* Appends to the list being made (spare). */
static lm_status put(lm_pieces *w, size_t start, size_t end, lm_error *err) {
    if (w->spare_n == w->spare_cap) {
        size_t cap = w->spare_cap ? w->spare_cap * 2 : 64;
        lm_piece *p = realloc(w->spare, cap * sizeof *p);
        if (!p) return lm_fail_nomem(err, cap * sizeof *p, "pieces of text");
        w->spare = p;
        w->spare_cap = cap;
    }
    w->spare[w->spare_n++] = (lm_piece){start, end};
    return LM_OK;
}

static void swap_lists(lm_pieces *w) {
    lm_piece *items = w->items;
    size_t cap = w->cap;
    w->items = w->spare;
    w->n = w->spare_n;
    w->cap = w->spare_cap;
    w->spare = items;
    w->spare_n = 0;
    w->spare_cap = cap;
}

static void swap_texts(lm_pieces *w) {
    lm_buf t = w->buf;
    w->buf = w->spare_buf;
    w->spare_buf = t;
    lm_buf_clear(&w->spare_buf);
    w->text = w->buf.data ? w->buf.data : "";
    w->length = w->buf.length;
}

/* What a Split knows while it walks over the alternating stretches (match, no match) of one piece. */
typedef struct split_state {
    lm_split_behavior behavior;
    size_t first; /* in spare: where this piece's parts begin */
    bool any, previous;
    size_t held; /* MERGED_WITH_NEXT: start of a match that waits for what follows */
    bool holding;
} split_state;

static lm_status stretch(lm_pieces *w, split_state *s, size_t start, size_t end, bool match, lm_error *err) {
    lm_status status = LM_OK;
    bool any = w->spare_n > s->first;
    switch (s->behavior) {
    case LM_SPLIT_REMOVED:
        if (!match && end > start) status = put(w, start, end, err);
        break;
    case LM_SPLIT_ISOLATED:
        if (end > start) status = put(w, start, end, err);
        break;
    case LM_SPLIT_CONTIGUOUS:
        if (any && s->any && s->previous == match)
            w->spare[w->spare_n - 1].end = end;
        else
            status = put(w, start, end, err);
        break;
    case LM_SPLIT_MERGED_WITH_PREVIOUS:
        if (match && any && !s->previous)
            w->spare[w->spare_n - 1].end = end;
        else
            status = put(w, start, end, err);
        break;
    case LM_SPLIT_MERGED_WITH_NEXT:
        /* A match joins the stretch after it when that is not a match. */
        if (s->holding)
            status = put(w, s->held, match ? start : end, err);
        else if (!match)
            status = put(w, start, end, err);
        s->holding = match;
        s->held = start;
        break;
    }
    s->any = true;
    s->previous = match;
    return status;
}

static lm_status split_piece(const lm_pre_step *step, lm_pieces *w, lm_regex_scan *scan, lm_piece piece,
                             lm_error *err) {
    const char *text = w->text + piece.start;
    size_t length = piece.end - piece.start, from = 0, done = 0;
    split_state s = {.behavior = step->behavior, .first = w->spare_n};
    while (from <= length) {
        size_t a = 0, b = 0;
        bool found;
        LM_TRY(lm_regex_next(scan, text, length, from, &a, &b, &found, err));
        if (!found) break;
        if (a > done) LM_TRY(stretch(w, &s, piece.start + done, piece.start + a, step->invert, err));
        if (b > a || a > done || !s.any) LM_TRY(stretch(w, &s, piece.start + a, piece.start + b, !step->invert, err));
        done = b;
        from = b;
        if (b == a) { /* an empty match: look one character further */
            if (b == length) break;
            const char *p = text + b;
            lm_utf8_next(&p);
            from = (size_t)(p - text);
        }
    }
    if (done < length) LM_TRY(stretch(w, &s, piece.start + done, piece.end, step->invert, err));
    if (s.holding) LM_TRY(put(w, s.held, piece.end, err));
    size_t keep = s.first; /* empty parts are dropped */
    for (size_t i = s.first; i < w->spare_n; i++)
        if (w->spare[i].end > w->spare[i].start) w->spare[keep++] = w->spare[i];
    w->spare_n = keep;
    return LM_OK;
}

static lm_status run_split(const lm_pre_step *step, lm_pieces *w, lm_regex_scan **scan, lm_error *err) {
    if (!*scan) LM_TRY(lm_regex_scan_create(step->regex, scan, err));
    for (size_t i = 0; i < w->n; i++) LM_TRY(split_piece(step, w, *scan, w->items[i], err));
    swap_lists(w);
    return LM_OK;
}

static lm_status run_prefix_space(lm_pieces *w, lm_error *err) {
    for (size_t i = 0; i < w->n; i++) {
        size_t start = w->spare_buf.length;
        const lm_piece p = w->items[i];
        if (w->text[p.start] != ' ') lm_buf_addc(&w->spare_buf, ' ');
        lm_buf_add(&w->spare_buf, w->text + p.start, p.end - p.start);
        LM_TRY(put(w, start, w->spare_buf.length, err));
    }
    if (w->spare_buf.failed) return lm_fail_nomem(err, w->length, "text");
    swap_lists(w);
    swap_texts(w);
    return LM_OK;
}

static lm_status run_metaspace(const lm_pre_step *step, lm_pieces *w, bool at_start, lm_error *err) {
    lm_buf *out = &w->spare_buf;
    size_t n = strlen(step->replacement);
    for (size_t i = 0; i < w->n; i++) {
        size_t start = out->length, length = w->items[i].end - w->items[i].start;
        const char *s = w->text + w->items[i].start;
        bool marked = *s == ' ' || (length >= n && !memcmp(s, step->replacement, n));
        bool wanted = step->prepend == LM_PREPEND_ALWAYS || (step->prepend == LM_PREPEND_FIRST && at_start && i == 0);
        if (wanted && !marked) lm_buf_add(out, step->replacement, n);
        for (size_t k = 0; k < length; k++) {
            if (s[k] == ' ')
                lm_buf_add(out, step->replacement, n);
            else
                lm_buf_addc(out, s[k]);
        }
        LM_TRY(put(w, start, out->length, err));
    }
    if (out->failed) return lm_fail_nomem(err, w->length * 3, "text");
    swap_lists(w);
    swap_texts(w);
    return LM_OK;
}

static lm_status run_byte_map(lm_pieces *w, lm_error *err) {
    lm_buf *out = &w->spare_buf;
    for (size_t i = 0; i < w->n; i++) {
        size_t start = out->length;
        for (size_t k = w->items[i].start; k < w->items[i].end; k++) {
            uint32_t c = lm_byte_alphabet((unsigned char)w->text[k]);
            if (c < 0x80) {
                lm_buf_addc(out, (char)c);
            } else {
                char two[2] = {(char)(0xc0 | (c >> 6)), (char)(0x80 | (c & 63))};
                lm_buf_add(out, two, 2);
            }
        }
        LM_TRY(put(w, start, out->length, err));
    }
    if (out->failed) return lm_fail_nomem(err, w->length * 2, "text");
    swap_lists(w);
    swap_texts(w);
    return LM_OK;
}

lm_status lm_pretokenize(const lm_pretokenizer *p, lm_pieces *w, const char *text, size_t length, bool at_start,
                         lm_error *err) {
    w->text = text;
    w->length = length;
    w->n = w->spare_n = 0;
    lm_buf_clear(&w->buf);
    lm_buf_clear(&w->spare_buf);
    if (!length) return LM_OK;
    LM_TRY(put(w, 0, length, err));
    swap_lists(w);
    for (int i = 0; i < p->n; i++) {
        switch (p->steps[i].kind) {
        case LM_PRE_SPLIT: LM_TRY(run_split(&p->steps[i], w, &w->scans[i], err)); break;
        case LM_PRE_PREFIX_SPACE: LM_TRY(run_prefix_space(w, err)); break;
        case LM_PRE_METASPACE: LM_TRY(run_metaspace(&p->steps[i], w, at_start, err)); break;
        case LM_PRE_BYTE_MAP: LM_TRY(run_byte_map(w, err)); break;
        }
    }
    return LM_OK;
}
