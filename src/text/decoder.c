/* SPDX-License-Identifier: MIT
 * decoder.c: owns decoders. Each step maps a list of strings to a list of strings, as the format defines it. */
#include "text/decoder.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 16

/* ---------------------------------------------------------------- reading */

static lm_status add_step(lm_decoder *d, lm_decoder_step step, const char *what, lm_error *err) {
    if (d->n == LM_DEC_MAX_STEPS) {
        free(step.text);
        lm_regex_free(step.regex);
        return lm_fail(err, LM_FORMAT, "%s: decoder: more than %d steps", what, LM_DEC_MAX_STEPS);
    }
    d->steps[d->n++] = step;
    return LM_OK;
}

static lm_status copy_string(const json_t *v, const char *key, lm_decoder_step *step, const char *what, lm_error *err) {
    const json_t *s = json_object_get(v, key);
    if (!json_is_string(s)) return lm_fail(err, LM_FORMAT, "%s: decoder: %s: expected a string", what, key);
    step->length = json_string_length(s);
    step->text = malloc(step->length + 1);
    if (!step->text) return lm_fail_nomem(err, step->length + 1, "decoder");
    memcpy(step->text, json_string_value(s), step->length + 1);
    return LM_OK;
}

static lm_status read_replace(lm_decoder *d, const json_t *v, const char *what, lm_error *err) {
    const json_t *pattern = json_object_get(v, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex"), *string = json_object_get(pattern, "String");
    lm_decoder_step step = {.kind = LM_DEC_REPLACE};
    if (!json_is_string(regex) && !(json_is_string(string) && json_string_length(string)))
        return lm_fail(err, LM_FORMAT, "%s: decoder Replace: pattern: expected {\"Regex\"} or {\"String\"}", what);
    LM_TRY(copy_string(v, "content", &step, what, err));
    lm_buf quoted;
    lm_buf_init(&quoted, (size_t)1 << 20);
    if (json_is_string(regex))
        lm_buf_add(&quoted, json_string_value(regex), json_string_length(regex));
    else
        lm_regex_quote(json_string_value(string), json_string_length(string), &quoted);
    lm_status s = quoted.failed
                      ? lm_fail(err, LM_FORMAT, "%s: decoder Replace: pattern is too long", what)
                      : lm_regex_compile(quoted.data ? quoted.data : "", quoted.length, what, &step.regex, err);
    lm_buf_free(&quoted);
    if (s != LM_OK) {
        free(step.text);
        return s;
    }
    return add_step(d, step, what, err);
}

static lm_status read_count(const json_t *v, const char *key, int64_t *out, const char *what, lm_error *err) {
    const json_t *n = json_object_get(v, key);
    if (!json_is_integer(n) || json_integer_value(n) < 0)
        return lm_fail(err, LM_FORMAT, "%s: decoder Strip: %s: expected a count", what, key);
    *out = json_integer_value(n);
    return LM_OK;
}

static lm_status read_one(lm_decoder *d, const json_t *v, int depth, const char *what, lm_error *err) {
    const char *type = json_string_value(json_object_get(v, "type"));
    lm_decoder_step step = {0};
    if (!type) return lm_fail(err, LM_FORMAT, "%s: decoder: expected an object with a \"type\"", what);
    if (depth > MAX_DEPTH) return lm_fail(err, LM_FORMAT, "%s: decoder: nested too deep", what);
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(v, "decoders");
        if (!json_is_array(list))
            return lm_fail(err, LM_FORMAT, "%s: decoder Sequence: decoders: expected an array", what);
        for (size_t i = 0; i < json_array_size(list); i++)
            LM_TRY(read_one(d, json_array_get(list, i), depth + 1, what, err));
        return LM_OK;
    }
    if (!strcmp(type, "ByteLevel"))
        step.kind = LM_DEC_BYTE_LEVEL;
    else if (!strcmp(type, "ByteFallback"))
        step.kind = LM_DEC_BYTE_FALLBACK;
    else if (!strcmp(type, "Fuse"))
        step.kind = LM_DEC_FUSE;
    else if (!strcmp(type, "Replace"))
        return read_replace(d, v, what, err);
    else if (!strcmp(type, "Strip")) {
        step.kind = LM_DEC_STRIP;
        LM_TRY(read_count(v, "start", &step.start, what, err));
        LM_TRY(read_count(v, "stop", &step.stop, what, err));
        LM_TRY(copy_string(v, "content", &step, what, err));
    } else if (!strcmp(type, "Metaspace")) {
        const char *scheme = json_string_value(json_object_get(v, "prepend_scheme"));
        step.kind = LM_DEC_METASPACE;
        step.keep_first = scheme ? !strcmp(scheme, "never") : json_is_false(json_object_get(v, "add_prefix_space"));
        LM_TRY(copy_string(v, "replacement", &step, what, err));
    } else {
        return lm_fail(err, LM_UNSUPPORTED,
                       "%s: decoder.type: \"%.60s\" is not supported (ByteLevel, Replace, ByteFallback, Fuse, Strip, "
                       "Metaspace and Sequence are)",
                       what, type);
    }
    return add_step(d, step, what, err);
}

static bool equals_text(const json_t *value, const char *text) {
    json_t *other = json_loads(text, 0, NULL);
    bool equal = other && json_equal((json_t *)value, other);
    json_decref(other);
    return equal;
}

#define SPM_STEPS                                                                                           \
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xe2\x96\x81\"}," \
    "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}"

static lm_stream_kind stream_kind(const json_t *value) {
    const char *type = json_string_value(json_object_get(value, "type"));
    if (type && !strcmp(type, "ByteLevel")) return LM_STREAM_BPE;
    if (equals_text(value, SPM_STEPS ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"))
        return LM_STREAM_SPM;
    return equals_text(value, SPM_STEPS "]}") ? LM_STREAM_SPM_KEEP_SPACE : LM_STREAM_NAIVE;
}

lm_status lm_decoder_init(lm_decoder *d, const json_t *value, const char *what, lm_error *err) {
    memset(d, 0, sizeof *d);
    if (!value || json_is_null(value)) return LM_OK;
    d->present = true;
    LM_TRY(read_one(d, value, 0, what, err)); /* bounds the depth before anything recursive compares it */
    d->stream = stream_kind(value);
    return LM_OK;
}

void lm_decoder_free(lm_decoder *d) {
    for (int i = 0; i < d->n; i++) {
        free(d->steps[i].text);
        lm_regex_free(d->steps[i].regex);
    }
    memset(d, 0, sizeof *d);
}

/* ---------------------------------------------------------------- string lists */

void lm_strings_init(lm_strings *s) {
    memset(s, 0, sizeof *s);
    lm_buf_init(&s->bytes, 0);
}

void lm_strings_free(lm_strings *s) {
    lm_buf_free(&s->bytes);
    free(s->ends);
    memset(s, 0, sizeof *s);
}

lm_status lm_strings_end(lm_strings *s, lm_error *err) {
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64;
        size_t *p = realloc(s->ends, cap * sizeof *p);
        if (!p) return lm_fail_nomem(err, cap * sizeof *p, "token strings");
        s->ends = p;
        s->cap = cap;
    }
    s->ends[s->n++] = s->bytes.length;
    return LM_OK;
}

static const char *string_at(const lm_strings *s, size_t i, size_t *length) {
    size_t start = i ? s->ends[i - 1] : 0;
    *length = s->ends[i] - start;
    return s->bytes.data ? s->bytes.data + start : "";
}

/* ---------------------------------------------------------------- steps */

/* A token wholly in the byte alphabet gives its bytes; any other (an added token) its own UTF-8. */
static void add_token_bytes(const char *s, size_t length, lm_buf *out) {
    size_t start = out->length;
    for (const char *p = s, *end = s + length; p < end;) {
        int b = lm_byte_alphabet_inverse(lm_utf8_next(&p));
        if (b < 0) {
            if (out->data) out->length = start;
            lm_buf_add(out, s, length);
            return;
        }
        lm_buf_addc(out, (char)b);
    }
}

static lm_status byte_level(const lm_strings *in, lm_strings *out, lm_error *err) {
    lm_buf raw;
    lm_buf_init(&raw, 0);
    for (size_t i = 0; i < in->n; i++) {
        size_t n;
        const char *s = string_at(in, i, &n);
        add_token_bytes(s, n, &raw);
    }
    lm_utf8_repair(raw.data ? raw.data : "", raw.length, &out->bytes);
    bool failed = raw.failed;
    lm_buf_free(&raw);
    return failed ? lm_fail(err, LM_BUDGET, "decoded text is too long") : lm_strings_end(out, err);
}

static lm_status replace(const lm_decoder_step *step, lm_regex_scan *scan, const char *s, size_t n, lm_buf *out,
                         lm_error *err) {
    size_t done = 0, from = 0;
    while (from <= n && !out->failed) {
        size_t a = 0, b = 0;
        bool found;
        LM_TRY(lm_regex_next(scan, s, n, from, &a, &b, &found, err));
        if (!found) break;
        lm_buf_add(out, s + done, a - done);
        lm_buf_add(out, step->text, step->length);
        done = from = b;
        if (a == b) {
            if (b == n) break;
            const char *p = s + b;
            lm_utf8_next(&p);
            from = (size_t)(p - s);
        }
    }
    lm_buf_add(out, s + done, n - done);
    return LM_OK;
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Value of "<0xNN>", -1. */
static int byte_token(const char *s, size_t n) {
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    int high = hex(s[3]), low = hex(s[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* A run of byte tokens is text if it is UTF-8, else one U+FFFD a byte. */
static lm_status flush_bytes(lm_buf *run, lm_strings *out, lm_error *err) {
    if (!run->length) return LM_OK;
    if (lm_utf8_valid(run->data, run->length)) {
        lm_buf_add(&out->bytes, run->data, run->length);
        run->length = 0;
        return lm_strings_end(out, err);
    }
    for (; run->length; run->length--) {
        lm_buf_adds(&out->bytes, "\xef\xbf\xbd");
        LM_TRY(lm_strings_end(out, err));
    }
    return LM_OK;
}

static lm_status byte_fallback(const lm_strings *in, lm_strings *out, lm_error *err) {
    lm_buf run;
    lm_buf_init(&run, 0);
    lm_status status = LM_OK;
    for (size_t i = 0; i < in->n && status == LM_OK; i++) {
        size_t n;
        const char *s = string_at(in, i, &n);
        int b = byte_token(s, n);
        if (b >= 0) {
            lm_buf_addc(&run, (char)b);
            continue;
        }
        status = flush_bytes(&run, out, err);
        lm_buf_add(&out->bytes, s, n);
        if (status == LM_OK) status = lm_strings_end(out, err);
    }
    if (status == LM_OK) status = flush_bytes(&run, out, err);
    lm_buf_free(&run);
    return status;
}

static void strip(const lm_decoder_step *step, const char *s, size_t n, lm_buf *out) {
    size_t w = step->length;
    for (int64_t k = 0; w && k < step->start && n >= w && !memcmp(s, step->text, w); k++) {
        s += w;
        n -= w;
    }
    for (int64_t k = 0; w && k < step->stop && n >= w && !memcmp(s + n - w, step->text, w); k++) n -= w;
    lm_buf_add(out, s, n);
}

static void metaspace(const lm_decoder_step *step, bool first, const char *s, size_t n, lm_buf *out) {
    size_t w = step->length;
    while (n) {
        if (w && n >= w && !memcmp(s, step->text, w)) {
            if (!first || step->keep_first) lm_buf_addc(out, ' ');
            s += w;
            n -= w;
        } else {
            lm_buf_addc(out, *s++);
            n--;
        }
    }
}

static lm_status each(const lm_decoder_step *step, const lm_strings *in, lm_strings *out, lm_error *err) {
    lm_regex_scan *scan = NULL;
    if (step->kind == LM_DEC_REPLACE) LM_TRY(lm_regex_scan_create(step->regex, &scan, err));
    lm_status status = LM_OK;
    for (size_t i = 0; i < in->n && status == LM_OK; i++) {
        size_t n;
        const char *s = string_at(in, i, &n);
        if (step->kind == LM_DEC_REPLACE)
            status = replace(step, scan, s, n, &out->bytes, err);
        else if (step->kind == LM_DEC_STRIP)
            strip(step, s, n, &out->bytes);
        else
            metaspace(step, i == 0, s, n, &out->bytes);
        if (status == LM_OK) status = lm_strings_end(out, err);
    }
    lm_regex_scan_free(scan);
    return status;
}

static lm_status run_step(const lm_decoder_step *step, const lm_strings *in, lm_strings *out, lm_error *err) {
    switch (step->kind) {
    case LM_DEC_BYTE_LEVEL: return byte_level(in, out, err);
    case LM_DEC_BYTE_FALLBACK: return byte_fallback(in, out, err);
    case LM_DEC_FUSE: lm_buf_add(&out->bytes, in->bytes.data, in->bytes.length); return lm_strings_end(out, err);
    default: return each(step, in, out, err);
    }
}

lm_status lm_decoder_run(const lm_decoder *d, lm_strings *tokens, lm_buf *out, lm_error *err) {
    for (int i = 0; i < d->n; i++) {
        lm_strings next;
        lm_strings_init(&next);
        lm_status s = run_step(&d->steps[i], tokens, &next, err);
        if (s == LM_OK && next.bytes.failed) s = lm_fail(err, LM_BUDGET, "decoded text is too long");
        lm_strings_free(tokens);
        *tokens = next;
        if (s != LM_OK) return s;
    }
    if (d->present) {
        lm_buf_add(out, tokens->bytes.data, tokens->bytes.length);
        return LM_OK;
    }
    for (size_t i = 0; i < tokens->n; i++) {
        size_t n;
        const char *s = string_at(tokens, i, &n);
        if (i) lm_buf_addc(out, ' ');
        lm_buf_add(out, s, n);
    }
    return LM_OK;
}
