/* SPDX-License-Identifier: MIT
 *
 * jinja_strings.c: the methods of Python's str. Case goes by Unicode's simple mappings (and ß -> SS). */
#include "text/jinja_impl.h"
#include <utf8proc.h>

static const jj_str *text_arg(jj *c, jj_value v, const char *what) {
    return jj_as_str(c, v, what);
}

/* The byte offset of `what` in s from `from` up to `to`, or -1. */
static int64_t find_bytes(jj *c, const jj_str *s, size_t from, size_t to, const jj_str *what, bool last) {
    if (what->n > to - from || from > to) return -1;
    if (what->n == 0) return (int64_t)(last ? to : from);
    if (!last) {
        const char *p = memmem(s->p + from, to - from, what->p, what->n);
        return p ? p - s->p : -1;
    }
    for (size_t at = to - what->n + 1; at-- > from;) {
        if (s->p[at] != what->p[0]) continue;
        jj_tick(c, what->n >> 6);
        if (memcmp(s->p + at, what->p, what->n) == 0) return (int64_t)at;
    }
    return -1;
}

typedef enum case_kind { UPPER, LOWER, TITLE, CAPITALIZE, SWAP } case_kind;

static bool is_cased(uint32_t ch) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)ch);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

static void add_case(jj *c, jj_buf *b, uint32_t ch, bool upper, bool first) {
    if (upper && ch == 0xdf)
        jj_buf_adds(c, b, first ? "Ss" : "SS");
    else if (first && upper)
        jj_buf_add_char(c, b, (uint32_t)utf8proc_totitle((utf8proc_int32_t)ch));
    else
        jj_buf_add_char(
            c, b, (uint32_t)(upper ? utf8proc_toupper((utf8proc_int32_t)ch) : utf8proc_tolower((utf8proc_int32_t)ch)));
}

static jj_value change_case(jj *c, jj_value v, case_kind kind) {
    const jj_str *s = v.as.s;
    jj_buf b = {0};
    bool inside = false; /* TITLE: after a cased letter */
    for (size_t i = 0, used; i < s->n; i += used) {
        uint32_t ch = jj_next_char(s->p + i, s->n - i, &used);
        bool first = kind == CAPITALIZE ? i == 0 : kind == TITLE && !inside;
        bool upper = kind == UPPER || first || (kind == SWAP && (uint32_t)utf8proc_toupper((utf8proc_int32_t)ch) != ch);
        add_case(c, &b, ch, upper, first);
        inside = is_cased(ch);
    }
    jj_value r = jj_buf_value(c, &b);
    r.safe = v.safe;
    return r;
}

static jj_value m_upper(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return change_case(c, v, UPPER);
}
static jj_value m_lower(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return change_case(c, v, LOWER);
}
static jj_value m_title(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return change_case(c, v, TITLE);
}
static jj_value m_capitalize(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return change_case(c, v, CAPITALIZE);
}
static jj_value m_swapcase(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return change_case(c, v, SWAP);
}

static jj_value strip(jj *c, jj_value v, jj_value chars, bool left, bool right) {
    bool blank = chars.type == JJ_ABSENT || chars.type == JJ_NONE;
    return jj_strip(c, v, blank ? NULL : text_arg(c, chars, "strip"), left, right);
}
static jj_value m_strip(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return strip(c, v, g[0], true, true);
}
static jj_value m_lstrip(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return strip(c, v, g[0], true, false);
}
static jj_value m_rstrip(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return strip(c, v, g[0], false, true);
}

/* ---------------------------------------------------------------- split, join */

static void split_space(jj *c, jj_list *out, const jj_str *s, int64_t max, bool right) {
    size_t a = 0, b = s->n, used;
    jj_value rest = jj_str_borrow(c, s->p, s->n);
    for (;;) {
        rest = jj_strip(c, rest, NULL, !right, right);
        rest.safe = false;
        if (!rest.as.s->n) return;
        if (max-- == 0) break;
        a = 0, b = rest.as.s->n;
        const char *p = rest.as.s->p;
        if (!right) {
            while (a < b && !jj_char_is_space(jj_next_char(p + a, b - a, &used))) a += used;
            jj_list_add(c, out, jj_str_borrow(c, p, a));
            rest = jj_str_borrow(c, p + a, b - a);
        } else {
            size_t from = 0; /* start of the last word */
            for (size_t i = 0; i < b; i += used)
                if (jj_char_is_space(jj_next_char(p + i, b - i, &used))) from = i + used;
            jj_list_add(c, out, jj_str_borrow(c, p + from, b - from));
            rest = jj_str_borrow(c, p, from);
        }
        jj_tick(c, b >> 5);
    }
    jj_list_add(c, out, rest);
}

static jj_value split(jj *c, jj_value v, jj_value sep, jj_value max_value, bool right) {
    const jj_str *s = v.as.s;
    int64_t max = max_value.type == JJ_ABSENT ? -1 : jj_as_int(c, max_value, "split");
    if (max < 0) max = INT64_MAX;
    jj_value r = jj_list_new(c, 0, JJ_IS_LIST);
    jj_list *out = r.as.l;
    if (sep.type == JJ_ABSENT || sep.type == JJ_NONE) {
        split_space(c, out, s, max, right);
    } else {
        const jj_str *by = text_arg(c, sep, "split");
        if (!by->n) jj_fail(c, LM_FORMAT, "empty separator");
        size_t from = 0, to = s->n;
        for (; max > 0; max--) {
            int64_t at = find_bytes(c, s, from, to, by, right);
            if (at < 0) break;
            if (!right) {
                jj_list_add(c, out, jj_str_borrow(c, s->p + from, (size_t)at - from));
                from = (size_t)at + by->n;
            } else {
                jj_list_add(c, out, jj_str_borrow(c, s->p + at + by->n, to - (size_t)at - by->n));
                to = (size_t)at;
            }
        }
        jj_list_add(c, out, jj_str_borrow(c, s->p + from, to - from));
    }
    jj_tick(c, s->n >> 5);
    for (size_t i = 0; right && i < out->n / 2; i++) {
        jj_value t = out->items[i];
        out->items[i] = out->items[out->n - 1 - i];
        out->items[out->n - 1 - i] = t;
    }
    return r;
}
static jj_value m_split(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return split(c, v, g[0], g[1], false);
}
static jj_value m_rsplit(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return split(c, v, g[0], g[1], true);
}

static jj_value m_splitlines(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    const jj_str *s = v.as.s;
    jj_value r = jj_list_new(c, 0, JJ_IS_LIST);
    size_t from = 0, used;
    for (size_t i = 0; i < s->n;) {
        uint32_t ch = jj_next_char(s->p + i, s->n - i, &used);
        bool end = (ch >= 10 && ch <= 13) || (ch >= 0x1c && ch <= 0x1e) || ch == 0x85 || ch == 0x2028 || ch == 0x2029;
        size_t next = i + used;
        if (end) {
            if (ch == 13 && next < s->n && s->p[next] == 10) next++;
            jj_list_add(c, r.as.l, jj_str_borrow(c, s->p + from, (jj_truth(g[0]) ? next : i) - from));
            from = next;
        }
        i = next;
    }
    if (from < s->n) jj_list_add(c, r.as.l, jj_str_borrow(c, s->p + from, s->n - from));
    return r;
}

static jj_value m_join(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    jj_value *items;
    size_t n;
    jj_buf b = {0};
    jj_items(c, g[0], &items, &n);
    for (size_t i = 0; i < n; i++) {
        if (i) jj_buf_add(c, &b, v.as.s->p, v.as.s->n);
        if (!jj_is_str(items[i]))
            jj_fail(c, LM_FORMAT, "sequence item %zu: expected str instance, %s found", i, jj_type_name(items[i]));
        jj_buf_add(c, &b, items[i].as.s->p, items[i].as.s->n);
    }
    return jj_buf_value(c, &b);
}

static jj_value partition(jj *c, jj_value v, jj_value sep, bool right) {
    const jj_str *s = v.as.s, *by = text_arg(c, sep, "partition");
    if (!by->n) jj_fail(c, LM_FORMAT, "empty separator");
    int64_t at = find_bytes(c, s, 0, s->n, by, right);
    jj_value r = jj_list_new(c, 3, JJ_IS_TUPLE), empty = jj_strz(c, "");
    if (at < 0) {
        jj_list_add(c, r.as.l, right ? empty : v);
        jj_list_add(c, r.as.l, empty);
        jj_list_add(c, r.as.l, right ? v : empty);
    } else {
        jj_list_add(c, r.as.l, jj_str_borrow(c, s->p, (size_t)at));
        jj_list_add(c, r.as.l, sep);
        jj_list_add(c, r.as.l, jj_str_borrow(c, s->p + at + by->n, s->n - (size_t)at - by->n));
    }
    return r;
}
static jj_value m_partition(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return partition(c, v, g[0], false);
}
static jj_value m_rpartition(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return partition(c, v, g[0], true);
}

/* ---------------------------------------------------------------- search */

/* Python's optional start and stop in code points, as byte offsets. False: start lies past the end. */
static bool bounds(jj *c, jj_str *s, jj_value start, jj_value stop, size_t *from, size_t *to) {
    int64_t n = jj_str_chars(s);
    int64_t a = start.type == JJ_ABSENT || start.type == JJ_NONE ? 0 : jj_as_int(c, start, "start");
    int64_t b = stop.type == JJ_ABSENT || stop.type == JJ_NONE ? n : jj_as_int(c, stop, "end");
    if (a < 0) a = a + n < 0 ? 0 : a + n;
    if (b < 0) b = b + n < 0 ? 0 : b + n;
    if (b > n) b = n;
    if (a > b) return false;
    *from = jj_str_offset(s, a);
    *to = jj_str_offset(s, b);
    jj_tick(c, s->n >> 5);
    return true;
}

static int64_t find_chars(jj *c, jj_value v, jj_value *g, bool last) {
    size_t from, to;
    const jj_str *what = text_arg(c, g[0], "find");
    if (!bounds(c, v.as.s, g[1], g[2], &from, &to)) return -1;
    int64_t at = find_bytes(c, v.as.s, from, to, what, last);
    if (at <= 0) return at;
    jj_str before = {v.as.s->p, (size_t)at, -1};
    return jj_str_chars(&before);
}
static jj_value m_find(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return jj_int(find_chars(c, v, g, false));
}
static jj_value m_rfind(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return jj_int(find_chars(c, v, g, true));
}
static jj_value must_find(jj *c, int64_t at) {
    if (at < 0) jj_fail(c, LM_FORMAT, "substring not found");
    return jj_int(at);
}
static jj_value m_index(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return must_find(c, find_chars(c, v, g, false));
}
static jj_value m_rindex(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return must_find(c, find_chars(c, v, g, true));
}

static jj_value m_count(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    size_t from, to;
    const jj_str *what = text_arg(c, g[0], "count");
    if (!bounds(c, v.as.s, g[1], g[2], &from, &to)) return jj_int(0);
    if (!what->n) {
        jj_str part = {v.as.s->p + from, to - from, -1};
        return jj_int(jj_str_chars(&part) + 1);
    }
    int64_t n = 0, at;
    while ((at = find_bytes(c, v.as.s, from, to, what, false)) >= 0) {
        n++;
        from = (size_t)at + what->n;
    }
    return jj_int(n);
}

static bool has_affix(jj *c, const jj_str *s, size_t from, size_t to, jj_value affix, bool end) {
    if (affix.type == JJ_LIST && affix.as.l->kind == JJ_IS_TUPLE) {
        for (size_t i = 0; i < affix.as.l->n; i++) {
            const jj_str *one = text_arg(c, affix.as.l->items[i], end ? "endswith" : "startswith");
            if (one->n <= to - from && memcmp(s->p + (end ? to - one->n : from), one->p, one->n) == 0) return true;
        }
        return false;
    }
    const jj_str *one = text_arg(c, affix, end ? "endswith" : "startswith");
    return one->n <= to - from && memcmp(s->p + (end ? to - one->n : from), one->p, one->n) == 0;
}
static jj_value m_startswith(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    size_t from, to;
    return jj_bool(bounds(c, v.as.s, g[1], g[2], &from, &to) && has_affix(c, v.as.s, from, to, g[0], false));
}
static jj_value m_endswith(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    size_t from, to;
    return jj_bool(bounds(c, v.as.s, g[1], g[2], &from, &to) && has_affix(c, v.as.s, from, to, g[0], true));
}
static jj_value m_removeprefix(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    const jj_str *s = v.as.s, *p = text_arg(c, g[0], "removeprefix");
    return has_affix(c, s, 0, s->n, g[0], false) ? jj_str_borrow(c, s->p + p->n, s->n - p->n) : v;
}
static jj_value m_removesuffix(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    const jj_str *s = v.as.s, *p = text_arg(c, g[0], "removesuffix");
    return has_affix(c, s, 0, s->n, g[0], true) ? jj_str_borrow(c, s->p, s->n - p->n) : v;
}

static jj_value m_replace(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    const jj_str *s = v.as.s, *old = text_arg(c, g[0], "replace"), *new_text = text_arg(c, g[1], "replace");
    int64_t left = g[2].type == JJ_ABSENT ? -1 : jj_as_int(c, g[2], "replace");
    if (left < 0) left = INT64_MAX;
    jj_buf b = {0};
    size_t from = 0, used;
    if (!old->n) { /* between all characters */
        for (; left > 0; left--) {
            jj_buf_add(c, &b, new_text->p, new_text->n);
            if (from >= s->n) break;
            jj_next_char(s->p + from, s->n - from, &used);
            jj_buf_add(c, &b, s->p + from, used);
            from += used;
            jj_tick(c, 1);
        }
    }
    int64_t at;
    while (old->n && left-- > 0 && (at = find_bytes(c, s, from, s->n, old, false)) >= 0) {
        jj_buf_add(c, &b, s->p + from, (size_t)at - from);
        jj_buf_add(c, &b, new_text->p, new_text->n);
        from = (size_t)at + old->n;
        jj_tick(c, 1);
    }
    if (from < s->n) jj_buf_add(c, &b, s->p + from, s->n - from);
    return jj_buf_value(c, &b);
}

/* ---------------------------------------------------------------- padding */

static jj_value pad(jj *c, jj_value v, jj_value *g, int where) { /* -1: text left, 0: centre, 1: right */
    int64_t width = jj_as_int(c, g[0], "width"), n = jj_str_chars(v.as.s), total = width - n;
    const jj_str *fill = g[1].type == JJ_ABSENT ? jj_strz(c, " ").as.s : text_arg(c, g[1], "fillchar");
    if (total <= 0) return v;
    if (width > (int64_t)(c->limits.memory / 16))
        jj_fail(c, LM_BUDGET, "a width of %lld is too large", (long long)width);
    int64_t left = where < 0 ? 0 : where > 0 ? total : total / 2 + (total & width & 1);
    jj_buf b = {0};
    for (int64_t i = 0; i < left; i++) jj_buf_add(c, &b, fill->p, fill->n);
    jj_buf_add(c, &b, v.as.s->p, v.as.s->n);
    for (int64_t i = left; i < total; i++) jj_buf_add(c, &b, fill->p, fill->n);
    jj_tick(c, (size_t)total);
    return jj_buf_value(c, &b);
}
static jj_value m_ljust(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return pad(c, v, g, -1);
}
static jj_value m_rjust(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return pad(c, v, g, 1);
}
static jj_value m_center(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return pad(c, v, g, 0);
}
static jj_value m_zfill(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    const jj_str *s = v.as.s;
    size_t sign = s->n && (s->p[0] == '-' || s->p[0] == '+');
    jj_value given[2] = {g[0], jj_strz(c, "0")};
    if (!sign) return pad(c, v, given, 1);
    given[0] = jj_binary(c, '-', jj_int(jj_as_int(c, g[0], "width")), jj_int(1));
    return jj_binary(c, '+', jj_str_borrow(c, s->p, 1), pad(c, jj_str_borrow(c, s->p + 1, s->n - 1), given, 1));
}

static jj_value m_expandtabs(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    int64_t size = g[0].type == JJ_ABSENT ? 8 : jj_as_int(c, g[0], "tabsize"), column = 0;
    jj_buf b = {0};
    if (size > 10000) jj_fail(c, LM_BUDGET, "a tab of %lld columns is too wide", (long long)size);
    for (size_t i = 0, used; i < v.as.s->n; i += used) {
        uint32_t ch = jj_next_char(v.as.s->p + i, v.as.s->n - i, &used);
        if (ch == '\t') {
            int64_t n = size > 0 ? size - column % size : 0;
            column += n;
            while (n-- > 0) jj_buf_addc(c, &b, ' ');
        } else {
            jj_buf_add(c, &b, v.as.s->p + i, used);
            column = ch == '\n' || ch == '\r' ? 0 : column + 1;
        }
    }
    return jj_buf_value(c, &b);
}

/* ---------------------------------------------------------------- questions */

typedef enum ask { ALPHA, ALNUM, DIGIT, DECIMAL, NUMERIC, SPACE, ASCII, PRINTABLE } ask;

static bool char_is(uint32_t ch, ask what) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)ch);
    bool alpha = k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO, digit = k == UTF8PROC_CATEGORY_ND;
    bool super = ch == 0xb2 || ch == 0xb3 || ch == 0xb9 || ch == 0x2070 || (ch >= 0x2074 && ch <= 0x2079) ||
                 (ch >= 0x2080 && ch <= 0x2089);
    bool numeric = digit || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
    switch (what) {
    case ALPHA: return alpha;
    case ALNUM: return alpha || numeric;
    case DIGIT: return digit || super;
    case DECIMAL: return digit;
    case NUMERIC: return numeric;
    case SPACE: return jj_char_is_space(ch);
    case ASCII: return ch < 0x80;
    case PRINTABLE: return ch == ' ' || (k != UTF8PROC_CATEGORY_CN && k < UTF8PROC_CATEGORY_ZS);
    }
    return false;
}

static jj_value every(jj_value v, ask what) {
    const jj_str *s = v.as.s;
    for (size_t i = 0, used; i < s->n; i += used)
        if (!char_is(jj_next_char(s->p + i, s->n - i, &used), what)) return jj_bool(false);
    return jj_bool(s->n || what == ASCII || what == PRINTABLE);
}
#define ASK(name, what)                                                      \
    static jj_value name(jj *c, jj_value v, jj_value *g, const jj_args *a) { \
        (void)g, (void)a;                                                    \
        jj_tick(c, v.as.s->n >> 5);                                          \
        return every(v, what);                                               \
    }
ASK(m_isalpha, ALPHA)
ASK(m_isalnum, ALNUM)
ASK(m_isdigit, DIGIT)
ASK(m_isdecimal, DECIMAL)
ASK(m_isnumeric, NUMERIC)
ASK(m_isspace, SPACE)
ASK(m_isascii, ASCII)
ASK(m_isprintable, PRINTABLE)

static jj_value cased(jj_value v, bool upper) {
    bool any = false;
    const jj_str *s = v.as.s;
    for (size_t i = 0, used; i < s->n; i += used) {
        uint32_t ch = jj_next_char(s->p + i, s->n - i, &used);
        if (!is_cased(ch)) continue;
        any = true;
        if ((utf8proc_category((utf8proc_int32_t)ch) == UTF8PROC_CATEGORY_LU) != upper) return jj_bool(false);
    }
    return jj_bool(any);
}
static jj_value m_isupper(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)c, (void)g, (void)a;
    return cased(v, true);
}
static jj_value m_islower(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)c, (void)g, (void)a;
    return cased(v, false);
}
static jj_value m_istitle(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    bool any = false, inside = false;
    const jj_str *s = v.as.s;
    jj_tick(c, s->n >> 5);
    for (size_t i = 0, used; i < s->n; i += used) {
        uint32_t ch = jj_next_char(s->p + i, s->n - i, &used);
        bool is = is_cased(ch), lower = is && utf8proc_category((utf8proc_int32_t)ch) == UTF8PROC_CATEGORY_LL;
        if (is && lower != inside) return jj_bool(false);
        any = any || is;
        inside = is;
    }
    return jj_bool(any);
}
static jj_value m_isidentifier(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)c, (void)g, (void)a;
    const jj_str *s = v.as.s;
    for (size_t i = 0, used; i < s->n; i += used) {
        uint32_t ch = jj_next_char(s->p + i, s->n - i, &used);
        if (!(char_is(ch, ALPHA) || ch == '_' || (i && char_is(ch, DECIMAL)))) return jj_bool(false);
    }
    return jj_bool(s->n > 0);
}

static jj_value m_format(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g;
    return jj_format(c, v.as.s, a);
}
static jj_value m_format_map(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    if (g[0].type != JJ_DICT) jj_fail(c, LM_FORMAT, "format_map needs a dict");
    jj_args args = {.keywords = jj_alloc(c, (g[0].as.d->n + 1) * sizeof(jj_keyword))};
    for (size_t i = 0; i < g[0].as.d->n; i++) {
        const jj_str *name = jj_as_str(c, g[0].as.d->entries[i].key, "format_map");
        args.keywords[args.n_keywords++] = (jj_keyword){jj_intern(c, name->p, name->n), g[0].as.d->entries[i].value};
    }
    return jj_format(c, v.as.s, &args);
}

const jj_builtin jj_str_methods[] = {
    {"capitalize", m_capitalize, ""},
    {"casefold", m_lower, ""},
    {"center", m_center, "width! fillchar"},
    {"count", m_count, "sub! start end"},
    {"endswith", m_endswith, "suffix! start end"},
    {"expandtabs", m_expandtabs, "tabsize"},
    {"find", m_find, "sub! start end"},
    {"format", m_format, NULL},
    {"format_map", m_format_map, "mapping!"},
    {"index", m_index, "sub! start end"},
    {"isalnum", m_isalnum, ""},
    {"isalpha", m_isalpha, ""},
    {"isascii", m_isascii, ""},
    {"isdecimal", m_isdecimal, ""},
    {"isdigit", m_isdigit, ""},
    {"isidentifier", m_isidentifier, ""},
    {"islower", m_islower, ""},
    {"isnumeric", m_isnumeric, ""},
    {"isprintable", m_isprintable, ""},
    {"isspace", m_isspace, ""},
    {"istitle", m_istitle, ""},
    {"isupper", m_isupper, ""},
    {"join", m_join, "iterable!"},
    {"ljust", m_ljust, "width! fillchar"},
    {"lower", m_lower, ""},
    {"lstrip", m_lstrip, "chars"},
    {"partition", m_partition, "sep!"},
    {"removeprefix", m_removeprefix, "prefix!"},
    {"removesuffix", m_removesuffix, "suffix!"},
    {"replace", m_replace, "old! new! count"},
    {"rfind", m_rfind, "sub! start end"},
    {"rindex", m_rindex, "sub! start end"},
    {"rjust", m_rjust, "width! fillchar"},
    {"rpartition", m_rpartition, "sep!"},
    {"rsplit", m_rsplit, "sep maxsplit"},
    {"rstrip", m_rstrip, "chars"},
    {"split", m_split, "sep maxsplit"},
    {"splitlines", m_splitlines, "keepends"},
    {"startswith", m_startswith, "prefix! start end"},
    {"strip", m_strip, "chars"},
    {"swapcase", m_swapcase, ""},
    {"title", m_title, ""},
    {"upper", m_upper, ""},
    {"zfill", m_zfill, "width!"},
    {NULL, NULL, NULL},
};
