/* SPDX-License-Identifier: MIT
 * normalize.c: owns normalizers. Unicode normalization forms take utf8proc's tables; ordering of combining marks is
 * done here, stable and in linear time, because long runs of marks are an easy attack. */
#include "text/normalize.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define MAX_DEPTH 16

/* ---------------------------------------------------------------- reading */

static lm_status add_step(lm_normalizer *n, lm_norm_step step, const char *what, lm_error *err) {
    if (n->n == LM_NORM_MAX_STEPS) {
        free(step.text);
        lm_regex_free(step.regex);
        return lm_fail(err, LM_FORMAT, "%s: normalizer: more than %d steps", what, LM_NORM_MAX_STEPS);
    }
    n->steps[n->n++] = step;
    return LM_OK;
}

static lm_status copy_string(const json_t *v, const char *type, const char *key, lm_norm_step *step, const char *what,
                             lm_error *err) {
    const json_t *s = json_object_get(v, key);
    if (!json_is_string(s)) return lm_fail(err, LM_FORMAT, "%s: normalizer %s: %s: expected a string", what, type, key);
    step->length = json_string_length(s);
    step->text = malloc(step->length + 1);
    if (!step->text) return lm_fail_nomem(err, step->length + 1, "normalizer");
    memcpy(step->text, json_string_value(s), step->length + 1);
    return LM_OK;
}

static lm_status read_replace(lm_normalizer *n, const json_t *v, const char *what, lm_error *err) {
    const json_t *pattern = json_object_get(v, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex"), *string = json_object_get(pattern, "String");
    lm_norm_step step = {.kind = LM_NORM_REPLACE};
    if (!json_is_string(regex) && !(json_is_string(string) && json_string_length(string)))
        return lm_fail(err, LM_FORMAT, "%s: normalizer Replace: pattern: expected {\"Regex\"} or {\"String\"}", what);
    LM_TRY(copy_string(v, "Replace", "content", &step, what, err));
    lm_buf quoted;
    lm_buf_init(&quoted, (size_t)1 << 20);
    lm_status s;
    if (json_is_string(regex)) {
        s = lm_regex_compile(json_string_value(regex), json_string_length(regex), what, &step.regex, err);
    } else {
        lm_regex_quote(json_string_value(string), json_string_length(string), &quoted);
        s = quoted.failed ? lm_fail(err, LM_FORMAT, "%s: normalizer Replace: pattern is too long", what)
                          : lm_regex_compile(quoted.data, quoted.length, what, &step.regex, err);
    }
    lm_buf_free(&quoted);
    if (s != LM_OK) {
        free(step.text);
        return s;
    }
    return add_step(n, step, what, err);
}

static lm_status read_one(lm_normalizer *n, const json_t *v, int depth, const char *what, lm_error *err) {
    static const struct {
        const char *name;
        bool compose, compatibility;
    } forms[] = {{"NFC", true, false}, {"NFD", false, false}, {"NFKC", true, true}, {"NFKD", false, true}};
    const char *type = json_string_value(json_object_get(v, "type"));
    if (!type) return lm_fail(err, LM_FORMAT, "%s: normalizer: expected an object with a \"type\"", what);
    if (depth > MAX_DEPTH) return lm_fail(err, LM_FORMAT, "%s: normalizer: nested too deep", what);
    for (int i = 0; i < 4; i++)
        if (!strcmp(type, forms[i].name))
            return add_step(n,
                            (lm_norm_step){.kind = LM_NORM_FORM,
                                           .compose = forms[i].compose,
                                           .compatibility = forms[i].compatibility},
                            what, err);
    if (!strcmp(type, "Lowercase")) return add_step(n, (lm_norm_step){.kind = LM_NORM_LOWERCASE}, what, err);
    if (!strcmp(type, "Strip"))
        return add_step(n,
                        (lm_norm_step){.kind = LM_NORM_STRIP,
                                       .left = json_is_true(json_object_get(v, "strip_left")),
                                       .right = json_is_true(json_object_get(v, "strip_right"))},
                        what, err);
    if (!strcmp(type, "Prepend")) {
        lm_norm_step step = {.kind = LM_NORM_PREPEND};
        LM_TRY(copy_string(v, "Prepend", "prepend", &step, what, err));
        return add_step(n, step, what, err);
    }
    if (!strcmp(type, "Replace")) return read_replace(n, v, what, err);
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(v, "normalizers");
        if (!json_is_array(list))
            return lm_fail(err, LM_FORMAT, "%s: normalizer Sequence: normalizers: expected an array", what);
        for (size_t i = 0; i < json_array_size(list); i++)
            LM_TRY(read_one(n, json_array_get(list, i), depth + 1, what, err));
        return LM_OK;
    }
    return lm_fail(err, LM_UNSUPPORTED,
                   "%s: normalizer.type: \"%.60s\" is not supported (NFC, NFD, NFKC, NFKD, Lowercase, Strip, Prepend, "
                   "Replace and Sequence are)",
                   what, type);
}

lm_status lm_normalizer_init(lm_normalizer *n, const json_t *value, const char *what, lm_error *err) {
    memset(n, 0, sizeof *n);
    return !value || json_is_null(value) ? LM_OK : read_one(n, value, 0, what, err);
}

void lm_normalizer_free(lm_normalizer *n) {
    for (int i = 0; i < n->n; i++) {
        free(n->steps[i].text);
        lm_regex_free(n->steps[i].regex);
    }
    memset(n, 0, sizeof *n);
}

/* ---------------------------------------------------------------- forms */

/* Nothing below U+0300 combines, and (but for NFKx and NFD) nothing below it changes. */
static bool is_trivial(const lm_norm_step *step, const char *text, size_t length) {
    unsigned char limit = step->compose && !step->compatibility ? 0xcc : 0x80; /* U+0300 is cc 80 */
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] >= limit) return false;
    return true;
}

/* Stable counting sort of one run of marks by combining class. */
static void sort_marks(int32_t *marks, size_t n, int32_t *spare) {
    size_t count[257] = {0};
    for (size_t i = 0; i < n; i++) count[utf8proc_get_property(marks[i])->combining_class + 1]++;
    for (int c = 0; c < 256; c++) count[c + 1] += count[c];
    for (size_t i = 0; i < n; i++) spare[count[utf8proc_get_property(marks[i])->combining_class]++] = marks[i];
    memcpy(marks, spare, n * sizeof *marks);
}

static int combining_class(int32_t c) {
    return utf8proc_get_property(c)->combining_class;
}

static void order_marks(int32_t *cp, size_t n, int32_t *spare) {
    for (size_t i = 0; i < n;) {
        if (!combining_class(cp[i])) {
            i++;
            continue;
        }
        size_t end = i + 1;
        bool sorted = true;
        for (; end < n && combining_class(cp[end]); end++)
            if (combining_class(cp[end]) < combining_class(cp[end - 1])) sorted = false;
        if (!sorted) sort_marks(cp + i, end - i, spare);
        i = end;
    }
}

#define MAX_EXPANSION 32 /* one code point decomposes into at most 18 */

static lm_status decompose(const lm_norm_step *step, const char *text, size_t length, int32_t **out, size_t *n_out,
                           lm_error *err) {
    utf8proc_option_t options = (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE);
    if (step->compatibility) options = (utf8proc_option_t)(options | UTF8PROC_COMPAT);
    size_t cap = length + 64, n = 0;
    int32_t *cp = malloc(cap * sizeof *cp);
    if (!cp) return lm_fail_nomem(err, cap * sizeof *cp, "normalization");
    const char *p = text, *end = text + length;
    int boundary = 0;
    while (p < end) {
        if (cap - n < MAX_EXPANSION) {
            cap = cap * 2 + MAX_EXPANSION;
            int32_t *q = realloc(cp, cap * sizeof *q);
            if (!q) {
                free(cp);
                return lm_fail_nomem(err, cap * sizeof *q, "normalization");
            }
            cp = q;
        }
        int32_t c = (int32_t)lm_utf8_next(&p);
        utf8proc_ssize_t k = utf8proc_decompose_char(c, cp + n, MAX_EXPANSION, options, &boundary);
        if (k < 0 || k > MAX_EXPANSION) { /* not assigned: stays itself */
            cp[n] = c;
            k = 1;
        }
        n += (size_t)k;
    }
    *out = cp;
    *n_out = n;
    return LM_OK;
}

static lm_status apply_form(const lm_norm_step *step, const char *text, size_t length, lm_buf *out, lm_error *err) {
    int32_t *cp = NULL;
    size_t n = 0;
    LM_TRY(decompose(step, text, length, &cp, &n, err));
    int32_t *spare = malloc((n ? n : 1) * sizeof *spare);
    if (!spare) {
        free(cp);
        return lm_fail_nomem(err, n * sizeof *spare, "normalization");
    }
    order_marks(cp, n, spare);
    free(spare);
    if (step->compose) {
        utf8proc_ssize_t k =
            utf8proc_normalize_utf32(cp, (utf8proc_ssize_t)n, (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
        if (k >= 0) n = (size_t)k;
    }
    for (size_t i = 0; i < n; i++) lm_buf_add_utf8(out, (uint32_t)cp[i]);
    free(cp);
    return LM_OK;
}

/* ---------------------------------------------------------------- the other steps */

/* Full lower case of one character: only U+0130 has more than one code point. */
static void lower(const char *text, size_t length, lm_buf *out) {
    for (const char *p = text, *end = text + length; p < end;) {
        uint32_t c = lm_utf8_next(&p);
        if (c == 0x130)
            lm_buf_adds(out, "i\xcc\x87");
        else
            lm_buf_add_utf8(out, (uint32_t)utf8proc_tolower((int32_t)c));
    }
}

static bool is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static void strip(const lm_norm_step *step, const char *text, size_t length, lm_buf *out) {
    const char *p = text, *end = text + length, *start = text, *stop = text;
    bool leading = step->left;
    while (p < end) {
        const char *at = p;
        if (is_space(lm_utf8_next(&p))) continue;
        if (leading) start = at;
        leading = false;
        stop = p;
    }
    if (leading) start = end; /* nothing but spaces */
    if (!step->right) stop = end;
    if (stop > start) lm_buf_add(out, start, (size_t)(stop - start));
}

static lm_status replace(const lm_norm_step *step, const char *text, size_t length, lm_buf *out, lm_error *err) {
    lm_regex_scan *scan;
    LM_TRY(lm_regex_scan_create(step->regex, &scan, err));
    size_t done = 0, from = 0;
    lm_status s = LM_OK;
    while (s == LM_OK && from <= length && !out->failed) {
        size_t a = 0, b = 0;
        bool found;
        s = lm_regex_next(scan, text, length, from, &a, &b, &found, err);
        if (s != LM_OK || !found) break;
        lm_buf_add(out, text + done, a - done);
        lm_buf_add(out, step->text, step->length);
        done = from = b;
        if (a == b) {
            if (b == length) break;
            const char *p = text + b;
            lm_utf8_next(&p);
            from = (size_t)(p - text);
        }
    }
    lm_regex_scan_free(scan);
    lm_buf_add(out, text + done, length - done);
    return s;
}

lm_status lm_normalize(const lm_normalizer *n, const char *text, size_t length, lm_buf *a, lm_buf *b,
                       const char **result, size_t *result_length, lm_error *err) {
    lm_buf *out = a, *other = b;
    for (int i = 0; i < n->n; i++) {
        const lm_norm_step *step = &n->steps[i];
        if (step->kind == LM_NORM_FORM && is_trivial(step, text, length)) continue;
        lm_buf_clear(out);
        switch (step->kind) {
        case LM_NORM_FORM: LM_TRY(apply_form(step, text, length, out, err)); break;
        case LM_NORM_LOWERCASE: lower(text, length, out); break;
        case LM_NORM_STRIP: strip(step, text, length, out); break;
        case LM_NORM_REPLACE: LM_TRY(replace(step, text, length, out, err)); break;
        case LM_NORM_PREPEND:
            if (length) lm_buf_add(out, step->text, step->length);
            lm_buf_add(out, text, length);
            break;
        }
        if (out->failed) return lm_fail(err, LM_BUDGET, "normalized text is too long");
        text = out->data ? out->data : "";
        length = out->length;
        lm_buf *t = out;
        out = other;
        other = t;
    }
    *result = text;
    *result_length = length;
    return LM_OK;
}
