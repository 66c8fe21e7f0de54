/* SPDX-License-Identifier: MIT
 *
 * jinja_filters_text.c: filters on text. Values that are no strings become text first, as in jinja2. */
#include "text/jinja_impl.h"
#include <utf8proc.h>

static jj_value method(jj *c, const char *name, jj_value v, jj_value *args, size_t n) {
    jj_args a = {.items = args, .n = n};
    jj_str key = {name, strlen(name), -1};
    return jj_run_builtin(c, jj_find(jj_str_methods, &key), jj_to_str(c, v), &a);
}

static jj_value f_lower(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return method(c, "lower", v, NULL, 0);
}
static jj_value f_upper(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return method(c, "upper", v, NULL, 0);
}
static jj_value f_capitalize(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return method(c, "capitalize", v, NULL, 0);
}

/* A word starts after blanks, hyphens and opening brackets; its first letter goes up, the rest down. */
static jj_value f_title(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    const jj_str *s = jj_to_str(c, v).as.s;
    jj_buf b = {0};
    bool start = true;
    for (size_t i = 0, used; i < s->n; i += used) {
        utf8proc_int32_t ch = (utf8proc_int32_t)jj_next_char(s->p + i, s->n - i, &used);
        if (start && ch == 0xdf)
            jj_buf_adds(c, &b, "SS"); /* no single capital */
        else
            jj_buf_add_char(c, &b, (uint32_t)(start ? utf8proc_toupper(ch) : utf8proc_tolower(ch)));
        start = jj_char_is_space((uint32_t)ch) || ch == '-' || ch == '(' || ch == '{' || ch == '[' || ch == '<';
    }
    return jj_buf_value(c, &b);
}

static jj_value f_trim(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    bool blank = g[0].type == JJ_ABSENT || g[0].type == JJ_NONE;
    return jj_strip(c, jj_to_str(c, v), blank ? NULL : jj_as_str(c, g[0], "trim"), true, true);
}

static jj_value f_replace(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    jj_value args[3] = {jj_to_str(c, g[0]), jj_to_str(c, g[1]), g[2]};
    return method(c, "replace", v, args, g[2].type == JJ_ABSENT || g[2].type == JJ_NONE ? 2 : 3);
}

static jj_value f_center(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    jj_value width = g[0].type == JJ_ABSENT ? jj_int(80) : g[0];
    return method(c, "center", v, &width, 1);
}

static jj_value f_indent(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    jj_str *s = jj_to_str(c, v).as.s, *by;
    if (g[0].type == JJ_STR) {
        by = g[0].as.s;
    } else {
        jj_value count = g[0].type == JJ_ABSENT ? jj_int(4) : g[0];
        by = jj_binary(c, '*', jj_strz(c, " "), jj_int(jj_as_int(c, count, "indent"))).as.s;
    }
    bool first = jj_truth(g[1]), blank = jj_truth(g[2]);
    jj_value whole = jj_binary(c, '+', (jj_value){.type = JJ_STR, .as.s = s}, jj_strz(c, "\n"));
    const jj_list *lines = method(c, "splitlines", whole, NULL, 0).as.l;
    jj_buf b = {0};
    for (size_t i = 0; i < lines->n; i++) {
        const jj_str *line = lines->items[i].as.s;
        if (i) jj_buf_addc(c, &b, '\n');
        if (i ? blank || line->n : first) jj_buf_add(c, &b, by->p, by->n);
        jj_buf_add(c, &b, line->p, line->n);
    }
    return jj_buf_value(c, &b);
}

static jj_value f_truncate(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    jj_str *s = jj_to_str(c, v).as.s;
    int64_t length = g[0].type == JJ_ABSENT ? 255 : jj_as_int(c, g[0], "truncate");
    int64_t leeway = g[3].type == JJ_ABSENT || g[3].type == JJ_NONE ? 5 : jj_as_int(c, g[3], "truncate");
    jj_value end = g[2].type == JJ_ABSENT ? jj_strz(c, "...") : g[2];
    int64_t tail = jj_str_chars(jj_to_str(c, end).as.s), n = jj_str_chars(s);
    if (length < tail || leeway < 0)
        jj_fail(c, LM_FORMAT, "truncate: expected a length of at least %lld", (long long)tail);
    if (n <= length || n - length <= leeway) return (jj_value){.type = JJ_STR, .as.s = s};
    jj_value cut = jj_str_slice(c, s, 0, length - tail, 1);
    if (!jj_truth(g[1])) { /* at the last word's end */
        jj_value args[2] = {jj_strz(c, " "), jj_int(1)};
        cut = method(c, "rsplit", cut, args, 2).as.l->items[0];
    }
    return jj_binary(c, '+', cut, jj_to_str(c, end));
}

static bool is_word(uint32_t ch) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)ch);
    return ch == '_' || (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) ||
           (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

static jj_value f_wordcount(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    const jj_str *s = jj_to_str(c, v).as.s;
    int64_t n = 0;
    bool inside = false;
    for (size_t i = 0, used; i < s->n; i += used) {
        bool word = is_word(jj_next_char(s->p + i, s->n - i, &used));
        n += word && !inside;
        inside = word;
    }
    return jj_int(n);
}

/* Greedy wrapping of one line: words and the blanks between them, as textwrap does without hyphens. */
static void wrap_line(jj *c, jj_buf *b, jj_str *line, int64_t width, bool break_long, const jj_str *newline) {
    int64_t column = 0;
    size_t i = 0, used, pending_from = 0, pending_n = 0;
    int64_t pending_chars = 0;
    bool first = true;
    while (i < line->n) {
        size_t from = i;
        int64_t chars = 0;
        bool space = line->p[i] == ' ' || line->p[i] == '\t';
        while (i < line->n && (line->p[i] == ' ' || line->p[i] == '\t') == space) {
            jj_next_char(line->p + i, line->n - i, &used);
            i += used;
            chars++;
        }
        if (space) {
            pending_from = from, pending_n = i - from, pending_chars = chars;
            continue;
        }
        if (!first && column + pending_chars + chars > width) {
            jj_buf_add(c, b, newline->p, newline->n);
            column = 0;
        } else if (pending_n) {
            jj_buf_add(c, b, line->p + pending_from, pending_n);
            column += pending_chars;
        }
        pending_n = 0, pending_chars = 0;
        first = false;
        while (break_long && chars > width - column && width > 0) {
            jj_str rest = {line->p + from, i - from, -1};
            size_t n = jj_str_offset(&rest, width - column);
            jj_buf_add(c, b, rest.p, n);
            jj_buf_add(c, b, newline->p, newline->n);
            chars -= width - column;
            from += n;
            column = 0;
            jj_tick(c, 1 + (i - from) / 16);
        }
        jj_buf_add(c, b, line->p + from, i - from);
        column += chars;
    }
}

static jj_value f_wordwrap(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    const jj_str *s = jj_to_str(c, v).as.s;
    int64_t width = g[0].type == JJ_ABSENT ? 79 : jj_as_int(c, g[0], "wordwrap");
    bool break_long = g[1].type == JJ_ABSENT || jj_truth(g[1]);
    const jj_str *newline = g[2].type == JJ_STR ? g[2].as.s : jj_strz(c, "\n").as.s;
    if (width <= 0) jj_fail(c, LM_FORMAT, "wordwrap: expected a positive width, found %lld", (long long)width);
    jj_buf b = {0};
    for (size_t from = 0; from < s->n;) {
        const char *nl = memchr(s->p + from, '\n', s->n - from);
        size_t end = nl ? (size_t)(nl - s->p) : s->n;
        jj_str line = {s->p + from, end - from, -1};
        if (from) jj_buf_add(c, &b, newline->p, newline->n);
        wrap_line(c, &b, &line, width, break_long, newline);
        from = end + 1;
    }
    return jj_buf_value(c, &b);
}

static jj_value f_striptags(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    const jj_str *s = jj_to_str(c, v).as.s;
    jj_buf plain = {0}, b = {0};
    for (size_t i = 0; i < s->n; i++) {
        const char *close = s->p[i] == '<' ? memchr(s->p + i, '>', s->n - i) : NULL;
        if (close)
            i = (size_t)(close - s->p);
        else
            jj_buf_addc(c, &plain, s->p[i]);
    }
    jj_value words = method(c, "split", jj_buf_value(c, &plain), NULL, 0);
    for (size_t i = 0; i < words.as.l->n; i++) {
        if (i) jj_buf_addc(c, &b, ' ');
        jj_buf_add(c, &b, words.as.l->items[i].as.s->p, words.as.l->items[i].as.s->n);
    }
    static const char *const entities[][2] = {{"&lt;", "<"},  {"&gt;", ">"},    {"&#34;", "\""},
                                              {"&#39;", "'"}, {"&quot;", "\""}, {"&amp;", "&"}};
    jj_value r = jj_buf_value(c, &b);
    for (size_t i = 0; i < sizeof entities / sizeof *entities; i++) {
        jj_value args[2] = {jj_strz(c, entities[i][0]), jj_strz(c, entities[i][1])};
        r = method(c, "replace", r, args, 2);
    }
    return r;
}

static void quote(jj *c, jj_buf *b, const jj_str *s, bool query) {
    for (size_t i = 0; i < s->n; i++) {
        unsigned char ch = (unsigned char)s->p[i];
        bool plain = (ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z') || (ch && strchr("_.-~", ch)) ||
                     (ch == '/' && !query);
        if (plain)
            jj_buf_addc(c, b, (char)ch);
        else if (query && ch == ' ')
            jj_buf_addc(c, b, '+');
        else
            jj_buf_addf(c, b, "%%%02X", ch);
    }
}

static jj_value f_urlencode(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    jj_buf b = {0};
    jj_value *items, *pair;
    size_t n, two;
    if (jj_is_str(v) || !jj_is_iterable(v)) {
        quote(c, &b, jj_to_str(c, v).as.s, false);
        return jj_buf_value(c, &b);
    }
    if (v.type == JJ_DICT) {
        jj_str name = {"items", 5, 5};
        v = jj_run_builtin(c, jj_find(jj_dict_methods, &name), v, &(jj_args){0});
    }
    jj_items(c, v, &items, &n);
    for (size_t i = 0; i < n; i++) {
        jj_items(c, items[i], &pair, &two);
        if (two != 2) jj_fail(c, LM_FORMAT, "urlencode: expected pairs, found %zu items", two);
        if (i) jj_buf_addc(c, &b, '&');
        quote(c, &b, jj_to_str(c, pair[0]).as.s, true);
        jj_buf_addc(c, &b, '=');
        quote(c, &b, jj_to_str(c, pair[1]).as.s, true);
    }
    return jj_buf_value(c, &b);
}

static jj_value f_xmlattr(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    jj_buf b = {0};
    if (v.type != JJ_DICT) jj_fail(c, LM_FORMAT, "xmlattr needs a dict, found '%s'", jj_type_name(v));
    for (size_t i = 0; i < v.as.d->n; i++) {
        const jj_entry *e = &v.as.d->entries[i];
        if (e->value.type == JJ_NONE || e->value.type == JJ_UNDEF) continue;
        const jj_str *key = jj_to_str(c, e->key).as.s;
        for (size_t k = 0; k < key->n; k++)
            if (strchr(" \t\n\r\f/>=", key->p[k])) jj_fail(c, LM_FORMAT, "invalid character in attribute name");
        if (b.n || g[0].type == JJ_ABSENT || jj_truth(g[0])) jj_buf_addc(c, &b, ' ');
        jj_escape(c, &b, key);
        jj_buf_adds(c, &b, "=\"");
        jj_escape(c, &b, jj_to_str(c, e->value).as.s);
        jj_buf_addc(c, &b, '"');
    }
    return jj_buf_value(c, &b);
}

const jj_builtin jj_filters_text[] = {
    {"capitalize", f_capitalize, ""},
    {"center", f_center, "width"},
    {"indent", f_indent, "width first blank"},
    {"lower", f_lower, ""},
    {"replace", f_replace, "old! new! count"},
    {"striptags", f_striptags, ""},
    {"title", f_title, ""},
    {"trim", f_trim, "chars"},
    {"truncate", f_truncate, "length killwords end leeway"},
    {"upper", f_upper, ""},
    {"urlencode", f_urlencode, ""},
    {"wordcount", f_wordcount, ""},
    {"wordwrap", f_wordwrap, "width break_long_words wrapstring break_on_hyphens"},
    {"xmlattr", f_xmlattr, "autospace"},
    {NULL, NULL, NULL},
};
