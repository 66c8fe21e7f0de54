/* SPDX-License-Identifier: MIT
 *
 * jinja_repr.c: values to text: Python's str and repr, JSON as json.dumps writes it, HTML escapes. */
#include "base/number.h"
#include "text/jinja_impl.h"
#include <math.h>
#include <utf8proc.h>

void jj_print_float(jj *c, jj_buf *b, double f) {
    char text[32];
    lm_number_text(f, text);
    jj_buf_adds(c, b, text);
}

static bool printable(uint32_t ch) {
    if (ch < 0x7f) return ch >= 0x20;
    switch (utf8proc_category((utf8proc_int32_t)ch)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

static void repr_str(jj *c, jj_buf *b, const jj_str *s) {
    bool single = memchr(s->p, '\'', s->n) != NULL, dbl = memchr(s->p, '"', s->n) != NULL;
    char quote = single && !dbl ? '"' : '\'';
    jj_buf_addc(c, b, quote);
    for (size_t i = 0, used; i < s->n; i += used) {
        uint32_t ch = jj_next_char(s->p + i, s->n - i, &used);
        if (ch == (uint32_t)quote || ch == '\\') {
            jj_buf_addc(c, b, '\\');
            jj_buf_addc(c, b, (char)ch);
        } else if (ch == '\n' || ch == '\r' || ch == '\t') {
            jj_buf_adds(c, b, ch == '\n' ? "\\n" : ch == '\r' ? "\\r" : "\\t");
        } else if (printable(ch)) {
            jj_buf_add(c, b, s->p + i, used);
        } else {
            jj_buf_addf(c, b, ch < 0x100 ? "\\x%02x" : ch < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)ch);
        }
    }
    jj_buf_addc(c, b, quote);
}

static void repr_items(jj *c, jj_buf *b, const jj_list *l, const char *open, const char *close) {
    jj_buf_adds(c, b, open);
    for (size_t i = 0; i < l->n; i++) {
        if (i) jj_buf_adds(c, b, ", ");
        jj_repr(c, b, l->items[i]);
    }
    jj_buf_adds(c, b, close);
}

static void repr_list(jj *c, jj_buf *b, const jj_list *l) {
    switch (l->kind) {
    case JJ_IS_LIST: repr_items(c, b, l, "[", "]"); break;
    case JJ_IS_TUPLE:
    case JJ_IS_GROUP: repr_items(c, b, l, "(", l->n == 1 ? ",)" : ")"); break;
    case JJ_IS_RANGE:
        jj_buf_addf(c, b, "range(%lld, %lld", (long long)l->start, (long long)l->stop);
        if (l->step != 1) jj_buf_addf(c, b, ", %lld", (long long)l->step);
        jj_buf_addc(c, b, ')');
        break;
    case JJ_IS_ITEMS: repr_items(c, b, l, "dict_items([", "])"); break;
    case JJ_IS_KEYS: repr_items(c, b, l, "dict_keys([", "])"); break;
    case JJ_IS_VALUES: repr_items(c, b, l, "dict_values([", "])"); break;
    case JJ_IS_GENERATOR: jj_buf_adds(c, b, "<generator object>"); break;
    }
}

static void repr_dict(jj *c, jj_buf *b, const jj_dict *d) {
    jj_buf_addc(c, b, '{');
    for (size_t i = 0; i < d->n; i++) {
        if (i) jj_buf_adds(c, b, ", ");
        jj_repr(c, b, d->entries[i].key);
        jj_buf_adds(c, b, ": ");
        jj_repr(c, b, d->entries[i].value);
    }
    jj_buf_addc(c, b, '}');
}

void jj_repr(jj *c, jj_buf *b, jj_value v) {
    jj_enter(c);
    switch (v.type) {
    case JJ_ABSENT:
    case JJ_UNDEF: jj_buf_adds(c, b, "Undefined"); break;
    case JJ_NONE: jj_buf_adds(c, b, "None"); break;
    case JJ_BOOL: jj_buf_adds(c, b, v.as.b ? "True" : "False"); break;
    case JJ_INT: jj_buf_addf(c, b, "%lld", (long long)v.as.i); break;
    case JJ_FLOAT: jj_print_float(c, b, v.as.f); break;
    case JJ_STR:
        if (v.safe) jj_buf_adds(c, b, "Markup(");
        repr_str(c, b, v.as.s);
        if (v.safe) jj_buf_addc(c, b, ')');
        break;
    case JJ_LIST: repr_list(c, b, v.as.l); break;
    case JJ_DICT: repr_dict(c, b, v.as.d); break;
    case JJ_NS:
        jj_buf_adds(c, b, "<Namespace ");
        repr_dict(c, b, v.as.d);
        jj_buf_addc(c, b, '>');
        break;
    case JJ_MACRO:
        jj_buf_adds(c, b, "<Macro ");
        repr_str(c, b, v.as.m->name);
        jj_buf_addc(c, b, '>');
        break;
    case JJ_LOOP: jj_buf_addf(c, b, "<LoopContext %zu/%zu>", v.as.loop->index + 1, v.as.loop->n); break;
    default: jj_buf_addf(c, b, "<%s object>", jj_type_name(v)); break;
    }
    jj_leave(c);
}

void jj_print(jj *c, jj_buf *b, jj_value v) {
    if (v.type == JJ_STR)
        jj_buf_add(c, b, v.as.s->p, v.as.s->n);
    else if (v.type == JJ_UNDEF)
        return;
    else
        jj_repr(c, b, v);
}

jj_value jj_to_str(jj *c, jj_value v) {
    if (v.type == JJ_STR) return v;
    jj_buf b = {0};
    jj_print(c, &b, v);
    return jj_buf_value(c, &b);
}

void jj_escape(jj *c, jj_buf *b, const jj_str *s) {
    for (size_t i = 0; i < s->n; i++) {
        switch (s->p[i]) {
        case '&': jj_buf_adds(c, b, "&amp;"); break;
        case '<': jj_buf_adds(c, b, "&lt;"); break;
        case '>': jj_buf_adds(c, b, "&gt;"); break;
        case '\'': jj_buf_adds(c, b, "&#39;"); break;
        case '"': jj_buf_adds(c, b, "&#34;"); break;
        default: jj_buf_addc(c, b, s->p[i]);
        }
    }
}

/* ---------------------------------------------------------------- JSON */

typedef struct json_style {
    bool ascii, sort;
    const jj_str *indent; /* NULL: one line */
    const jj_str *item, *pair;
} json_style;

static void write_string(jj *c, jj_buf *b, const jj_str *s, bool ascii) {
    jj_buf_addc(c, b, '"');
    for (size_t i = 0, used; i < s->n; i += used) {
        uint32_t ch = jj_next_char(s->p + i, s->n - i, &used);
        const char *short_form = ch == '"'    ? "\\\""
                                 : ch == '\\' ? "\\\\"
                                 : ch == '\n' ? "\\n"
                                 : ch == '\r' ? "\\r"
                                 : ch == '\t' ? "\\t"
                                 : ch == '\b' ? "\\b"
                                 : ch == '\f' ? "\\f"
                                              : NULL;
        if (short_form)
            jj_buf_adds(c, b, short_form);
        else if (ch < 0x20 || (ascii && ch >= 0x7f && ch < 0x10000 && ch != 0x7f))
            jj_buf_addf(c, b, "\\u%04x", (unsigned)ch);
        else if (ascii && ch >= 0x10000)
            jj_buf_addf(c, b, "\\u%04x\\u%04x", (unsigned)(0xd800 + ((ch - 0x10000) >> 10)),
                        (unsigned)(0xdc00 + (ch & 0x3ff)));
        else
            jj_buf_add(c, b, s->p + i, used);
    }
    jj_buf_addc(c, b, '"');
}

static void json_newline(jj *c, jj_buf *b, const json_style *st, int level) {
    if (!st->indent) return;
    jj_buf_addc(c, b, '\n');
    for (int i = 0; i < level; i++) jj_buf_add(c, b, st->indent->p, st->indent->n);
}

static void json_value(jj *c, jj_buf *b, jj_value v, const json_style *st, int level);

static void json_key(jj *c, jj_buf *b, jj_value key, const json_style *st) {
    jj_buf text = {0};
    if (key.type > JJ_STR)
        jj_fail(c, LM_FORMAT, "keys must be str, int, float, bool or None, not %s", jj_type_name(key));
    if (key.type == JJ_STR) {
        write_string(c, b, key.as.s, st->ascii);
        return;
    }
    json_value(c, &text, key, st, 0);
    jj_str s = {text.p, text.n, -1};
    write_string(c, b, &s, st->ascii);
}

static void json_dict(jj *c, jj_buf *b, const jj_dict *d, const json_style *st, int level) {
    jj_value *keys = jj_alloc(c, (d->n + 1) * sizeof *keys), *values = jj_alloc(c, (d->n + 1) * sizeof *values);
    for (size_t i = 0; i < d->n; i++) {
        keys[i] = d->entries[i].key;
        values[i] = d->entries[i].value;
    }
    if (st->sort) {
        jj_value *sorted = jj_alloc(c, (d->n + 1) * sizeof *sorted);
        memcpy(sorted, keys, d->n * sizeof *keys);
        jj_sort(c, values, sorted, d->n, false);
        keys = sorted;
    }
    jj_buf_addc(c, b, '{');
    for (size_t i = 0; i < d->n; i++) {
        if (i) jj_buf_add(c, b, st->item->p, st->item->n);
        json_newline(c, b, st, level + 1);
        json_key(c, b, keys[i], st);
        jj_buf_add(c, b, st->pair->p, st->pair->n);
        json_value(c, b, values[i], st, level + 1);
    }
    if (d->n) json_newline(c, b, st, level);
    jj_buf_addc(c, b, '}');
}

static void json_value(jj *c, jj_buf *b, jj_value v, const json_style *st, int level) {
    jj_enter(c);
    switch (v.type) {
    case JJ_NONE: jj_buf_adds(c, b, "null"); break;
    case JJ_BOOL: jj_buf_adds(c, b, v.as.b ? "true" : "false"); break;
    case JJ_FLOAT:
        if (isnan(v.as.f) || isinf(v.as.f))
            jj_buf_adds(c, b, isnan(v.as.f) ? "NaN" : v.as.f < 0 ? "-Infinity" : "Infinity");
        else
            jj_print_float(c, b, v.as.f);
        break;
    case JJ_INT: jj_print(c, b, v); break;
    case JJ_STR: write_string(c, b, v.as.s, st->ascii); break;
    case JJ_DICT: json_dict(c, b, v.as.d, st, level); break;
    case JJ_LIST:
        if (v.as.l->kind <= JJ_IS_GROUP) {
            jj_buf_addc(c, b, '[');
            for (size_t i = 0; i < v.as.l->n; i++) {
                if (i) jj_buf_add(c, b, st->item->p, st->item->n);
                json_newline(c, b, st, level + 1);
                json_value(c, b, v.as.l->items[i], st, level + 1);
            }
            if (v.as.l->n) json_newline(c, b, st, level);
            jj_buf_addc(c, b, ']');
            break;
        } /* fall through */
    default: jj_fail(c, LM_FORMAT, "Object of type %s is not JSON serializable", jj_type_name(v));
    }
    jj_leave(c);
}

/* given: ensure_ascii, indent, separators, sort_keys */
jj_value jj_tojson(jj *c, jj_value v, jj_value *given) {
    static const jj_str comma = {",", 1, 1}, comma_space = {", ", 2, 2}, colon = {": ", 2, 2};
    json_style st = {jj_truth(given[0]), jj_truth(given[3]), NULL, &comma_space, &colon};
    if (given[1].type == JJ_STR) {
        st.indent = given[1].as.s;
    } else if (given[1].type != JJ_ABSENT && given[1].type != JJ_NONE) {
        int64_t n = jj_as_int(c, given[1], "tojson's indent");
        jj_buf blanks = {0};
        if (n > 1000) jj_fail(c, LM_BUDGET, "tojson: an indent of %lld is too wide", (long long)n);
        for (int64_t i = 0; i < n; i++) jj_buf_addc(c, &blanks, ' ');
        st.indent = jj_buf_value(c, &blanks).as.s;
    }
    if (st.indent) st.item = &comma;
    if (given[2].type != JJ_ABSENT && given[2].type != JJ_NONE) {
        if (!jj_is_seq(given[2]) || given[2].as.l->n != 2)
            jj_fail(c, LM_FORMAT, "tojson: separators must be a pair of strings");
        st.item = jj_as_str(c, given[2].as.l->items[0], "tojson's separators");
        st.pair = jj_as_str(c, given[2].as.l->items[1], "tojson's separators");
    }
    jj_buf b = {0};
    json_value(c, &b, v, &st, 0);
    return jj_buf_value(c, &b);
}
