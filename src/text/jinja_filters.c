/* SPDX-License-Identifier: MIT
 *
 * jinja_filters.c: filters on single values, and how filters are found. */
#include "base/number.h"
#include "text/jinja_impl.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const jj_builtin *jj_filter_find(const jj_str *name) {
    const jj_builtin *b = jj_find(jj_filters_basic, name);
    if (!b) b = jj_find(jj_filters_seq, name);
    return b ? b : jj_find(jj_filters_text, name);
}

jj_value jj_filter_apply(jj *c, const jj_str *name, jj_value v, const jj_args *args) {
    const jj_builtin *b = jj_filter_find(name);
    if (!b) jj_fail(c, LM_FORMAT, "no filter named '%.*s'", (int)(name->n < 60 ? name->n : 60), name->p);
    return jj_run_builtin(c, b, v, args);
}

static jj_value f_default(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    if (v.type != JJ_UNDEF && (!jj_truth(g[1]) || jj_truth(v))) return v;
    return g[0].type == JJ_ABSENT ? jj_strz(c, "") : g[0];
}

static jj_value f_abs(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    if (v.type == JJ_FLOAT) return jj_float(fabs(v.as.f));
    int64_t i = jj_as_int(c, v, "abs");
    return i < 0 ? jj_binary(c, '-', jj_int(0), jj_int(i)) : jj_int(i);
}

static jj_value f_attr(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    jj_as_str(c, g[0], "attr");
    jj_need_defined(c, v);
    if (v.type == JJ_DICT) { /* attributes only: a key is none */
        jj_value probe = jj_dict_new(c), r = jj_getattr(c, probe, g[0]);
        if (r.type == JJ_FUNC) r.as.fn->self = v;
        return r;
    }
    return jj_getattr(c, v, g[0]);
}

/* Python's int("...", base): blanks around, a sign, underscores, a prefix that fits the base. */
static bool parse_int(const jj_str *s, int base, int64_t *out) {
    char text[80];
    size_t n = 0, i = 0;
    bool negative = false;
    for (; i < s->n && n < sizeof text - 1; i++)
        if (s->p[i] != '_') text[n++] = s->p[i];
    if (i < s->n) return false;
    text[n] = 0;
    char *p = text;
    while (jj_char_is_space((uint8_t)*p)) p++;
    while (n && jj_char_is_space((uint8_t)text[n - 1])) text[--n] = 0;
    if (*p == '+' || *p == '-') negative = *p++ == '-';
    int prefix = p[0] == '0' ? (p[1] | 32) : 0;
    if ((base == 16 && prefix == 'x') || (base == 8 && prefix == 'o') || (base == 2 && prefix == 'b')) p += 2;
    if (!*p) return false;
    uint64_t v = 0;
    for (; *p; p++) {
        int d = *p >= '0' && *p <= '9' ? *p - '0' : (*p | 32) >= 'a' && (*p | 32) <= 'z' ? (*p | 32) - 'a' + 10 : 99;
        if (d >= base || v > ((uint64_t)INT64_MAX - (uint64_t)d) / (uint64_t)base) return false;
        v = v * (uint64_t)base + (uint64_t)d;
    }
    *out = negative ? -(int64_t)v : (int64_t)v;
    return true;
}

static bool parse_float(const jj_str *s, double *out) {
    char text[400];
    size_t n = 0;
    if (s->n >= sizeof text) return false;
    for (size_t i = 0; i < s->n; i++) {
        char ch = s->p[i];
        if (ch == '_') continue;
        if (ch == 0 || ch == 'x' || ch == 'X' || ch == '(') return false; /* what strtod takes and Python does not */
        text[n++] = ch;
    }
    while (n && jj_char_is_space((uint8_t)text[n - 1])) n--;
    text[n] = 0;
    char *p = text, *end;
    while (jj_char_is_space((uint8_t)*p)) p++;
    if (!*p) return false;
    *out = lm_number_parse(p, &end);
    return *end == 0;
}

/* Towards zero; an infinite or NaN text has no integer, a finite one too large for 64 bits fails. */
static bool float_to_int(jj *c, double f, bool from_text, int64_t *out) {
    if (!(f > -9.2e18 && f < 9.2e18)) {
        if (from_text && !isfinite(f)) return false;
        jj_fail(c, isfinite(f) ? LM_BUDGET : LM_FORMAT, "cannot convert float to a 64-bit integer");
    }
    *out = (int64_t)f;
    return true;
}

static jj_value f_int(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    int64_t i;
    double f;
    jj_value other = g[0].type == JJ_ABSENT ? jj_int(0) : g[0];
    int64_t base = g[1].type == JJ_ABSENT ? 10 : jj_as_int(c, g[1], "int");
    if (base < 2 || base > 36) return other;
    if (v.type == JJ_INT) return v;
    if (v.type == JJ_BOOL) return jj_int(v.as.b);
    if (v.type == JJ_FLOAT) return float_to_int(c, v.as.f, false, &i) ? jj_int(i) : other;
    if (v.type == JJ_UNDEF) jj_need_defined(c, v);
    if (v.type != JJ_STR) return other;
    if (parse_int(v.as.s, (int)base, &i)) return jj_int(i);
    return parse_float(v.as.s, &f) && float_to_int(c, f, true, &i) ? jj_int(i) : other;
}

static jj_value f_float(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    double f;
    if (jj_is_number(v)) return jj_float(jj_as_float(v));
    if (v.type == JJ_UNDEF) jj_need_defined(c, v);
    if (v.type == JJ_STR && parse_float(v.as.s, &f)) return jj_float(f);
    return g[0].type == JJ_ABSENT ? jj_float(0) : g[0];
}

/* An integer to a multiple of 10^digits, halves to even, exactly: a double would lose digits past 2^53. */
static jj_value round_int(jj *c, int64_t v, int64_t digits) {
    uint64_t size = v < 0 ? 0 - (uint64_t)v : (uint64_t)v, step = 1, rest;
    if (digits > 19) return jj_int(0);
    for (; digits > 0; digits--) step *= 10;
    rest = size % step;
    bool up = rest > step - rest || (rest == step - rest && size / step % 2);
    size = size - rest + (up ? step : 0);
    if (size > INT64_MAX) jj_fail(c, LM_BUDGET, "integer is larger than 64 bits");
    return jj_int(v < 0 ? -(int64_t)size : (int64_t)size);
}

static jj_value f_round(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    int64_t digits = g[0].type == JJ_ABSENT ? 0 : jj_as_int(c, g[0], "round");
    const jj_str *method = g[1].type == JJ_ABSENT ? NULL : jj_as_str(c, g[1], "round");
    if (!jj_is_number(v)) {
        jj_need_defined(c, v);
        jj_fail(c, LM_FORMAT, "type %s doesn't define round", jj_type_name(v));
    }
    if (method && !JJ_EQ(method, "common") && !JJ_EQ(method, "ceil") && !JJ_EQ(method, "floor"))
        jj_fail(c, LM_FORMAT, "method must be common, ceil or floor");
    double f = jj_as_float(v);
    if (method && !JJ_EQ(method, "common")) {
        double scale = pow(10, (double)digits);
        return jj_float((JJ_EQ(method, "ceil") ? ceil(f * scale) : floor(f * scale)) / scale);
    }
    if (v.type == JJ_INT && digits >= 0) return v;
    if (!isfinite(f) || digits > 300) return v;
    if (digits < 0 && v.type != JJ_FLOAT)
        return round_int(c, v.type == JJ_INT ? v.as.i : v.as.b, digits < -20 ? 20 : -digits);
    if (digits < 0) {
        double scale = pow(10, -(double)digits);
        return jj_float(isfinite(scale) ? nearbyint(f / scale) * scale : 0);
    }
    char text[700]; /* printf rounds the exact binary value half to even, as Python's round does */
    lm_number_format(text, sizeof text, "%.*f", (int)digits, f);
    return jj_float(lm_number_parse(text, NULL));
}

static jj_value f_string(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return jj_to_str(c, v);
}
static jj_value f_length(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return jj_int(jj_length(c, v));
}

static jj_value f_safe(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    jj_value r = jj_to_str(c, v);
    r.safe = true;
    return r;
}

static jj_value escape(jj *c, jj_value v, bool force) {
    if (v.type == JJ_STR && v.safe && !force) return v;
    jj_buf b = {0};
    jj_escape(c, &b, jj_to_str(c, v).as.s);
    jj_value r = jj_buf_value(c, &b);
    r.safe = true;
    return r;
}
static jj_value f_escape(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return escape(c, v, false);
}
static jj_value f_forceescape(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return escape(c, v, true);
}

static jj_value f_tojson(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return jj_tojson(c, v, g);
}

static jj_value f_format(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g;
    if (a->n && a->n_keywords) jj_fail(c, LM_FORMAT, "can't handle positional and keyword arguments at the same time");
    jj_value args;
    if (a->n_keywords) {
        args = jj_dict_new(c);
        for (size_t i = 0; i < a->n_keywords; i++)
            jj_dict_set(c, args.as.d, (jj_value){.type = JJ_STR, .as.s = a->keywords[i].name}, a->keywords[i].value);
    } else {
        args = jj_list_new(c, a->n, JJ_IS_TUPLE);
        for (size_t i = 0; i < a->n; i++) jj_list_add(c, args.as.l, a->items[i]);
    }
    return jj_percent(c, jj_to_str(c, v).as.s, args);
}

static jj_value f_filesizeformat(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    static const char *const names[2][8] = {{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"},
                                            {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}};
    bool binary = jj_truth(g[0]);
    double base = binary ? 1024 : 1000, bytes = jj_as_float(f_float(c, v, g + 2, a)), unit = base;
    jj_buf b = {0};
    if (bytes == 1) {
        jj_buf_adds(c, &b, "1 Byte");
    } else if (bytes < base) {
        jj_buf_addf(c, &b, "%lld Bytes", bytes > -9e18 ? (long long)bytes : 0);
    } else {
        int i = 0;
        for (; i < 7 && bytes >= unit * base; i++) unit *= base;
        char text[400];
        lm_number_format(text, sizeof text, "%.1f %s", bytes / unit, names[binary][i]);
        jj_buf_adds(c, &b, text);
    }
    return jj_buf_value(c, &b);
}

static jj_value f_pprint(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    jj_buf b = {0};
    jj_repr(c, &b, v);
    return jj_buf_value(c, &b);
}

const jj_builtin jj_filters_basic[] = {
    {"abs", f_abs, ""},
    {"attr", f_attr, "name!"},
    {"count", f_length, ""},
    {"d", f_default, "default_value boolean"},
    {"default", f_default, "default_value boolean"},
    {"e", f_escape, ""},
    {"escape", f_escape, ""},
    {"filesizeformat", f_filesizeformat, "binary"},
    {"float", f_float, "default"},
    {"forceescape", f_forceescape, ""},
    {"format", f_format, NULL},
    {"int", f_int, "default base"},
    {"length", f_length, ""},
    {"pprint", f_pprint, ""},
    {"round", f_round, "precision method"},
    {"safe", f_safe, ""},
    {"string", f_string, ""},
    {"tojson", f_tojson, "ensure_ascii indent separators sort_keys"},
    {NULL, NULL, NULL},
};
