/* SPDX-License-Identifier: MIT
 *
 * jinja_format.c: text from patterns: the % operator, str.format with its small language of widths, and the clock. */
#include "base/number.h"
#include "text/jinja_impl.h"
#include <math.h>
#include <stdio.h>
#include <time.h>

#define MAX_WIDTH 100000

typedef struct spec {
    uint32_t fill;
    char align, sign, type; /* 0: not given */
    bool alternate, zero;
    char group;               /* ',' or '_' */
    int64_t width, precision; /* -1: none */
} spec;

static void check_width(jj *c, int64_t n) {
    if (n > MAX_WIDTH) jj_fail(c, LM_BUDGET, "a width of %lld is too large", (long long)n);
}

/* text in a field of spec's width */
static void add_padded(jj *c, jj_buf *b, const spec *sp, jj_str text, char align) {
    int64_t total = sp->width - jj_str_chars(&text);
    if (sp->align) align = sp->align;
    int64_t left = total <= 0 ? 0 : align == '>' ? total : align == '^' ? total / 2 : 0;
    check_width(c, sp->width);
    for (int64_t i = 0; i < left; i++) jj_buf_add_char(c, b, sp->fill);
    jj_buf_add(c, b, text.p, text.n);
    for (int64_t i = left; i < total; i++) jj_buf_add_char(c, b, sp->fill);
}

/* Sign, prefix and digits of a number; zeros or '=' go between sign and digits. */
static void add_number(jj *c, jj_buf *b, const spec *sp, bool negative, const char *prefix, jj_str digits) {
    jj_buf head = {0}, all = {0};
    if (negative || sp->sign == '+' || sp->sign == ' ') jj_buf_addc(c, &head, negative ? '-' : sp->sign);
    jj_buf_adds(c, &head, prefix);
    bool inner = sp->align == '=' || (sp->zero && !sp->align);
    int64_t total = sp->width - (int64_t)head.n - (int64_t)digits.n;
    check_width(c, sp->width);
    jj_buf_add(c, &all, head.p, head.n);
    for (int64_t i = 0; inner && i < total; i++) jj_buf_add_char(c, &all, sp->zero ? '0' : sp->fill);
    jj_buf_add(c, &all, digits.p, digits.n);
    spec plain = *sp;
    if (plain.align == '=') plain.align = 0;
    add_padded(c, b, &plain, (jj_str){all.p, all.n, -1}, '>');
}

static jj_str grouped(jj *c, jj_str digits, char mark, size_t every) {
    size_t whole = 0;
    jj_buf b = {0};
    while (whole < digits.n && digits.p[whole] != '.' && digits.p[whole] != 'e') whole++;
    for (size_t i = 0; i < whole; i++) {
        if (i && (whole - i) % every == 0) jj_buf_addc(c, &b, mark);
        jj_buf_addc(c, &b, digits.p[i]);
    }
    jj_buf_add(c, &b, digits.p + whole, digits.n - whole);
    return (jj_str){b.p, b.n, -1};
}

static void add_int(jj *c, jj_buf *b, const spec *sp, int64_t v) {
    char text[72];
    size_t n = sizeof text;
    unsigned base = sp->type == 'x' || sp->type == 'X' ? 16 : sp->type == 'o' ? 8 : sp->type == 'b' ? 2 : 10;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do text[--n] = (sp->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[u % base];
    while (u /= base);
    jj_str digits = {text + n, sizeof text - n, -1};
    jj_buf longer = {0};
    check_width(c, sp->precision);
    for (int64_t i = (int64_t)digits.n; i < sp->precision; i++) jj_buf_addc(c, &longer, '0');
    jj_buf_add(c, &longer, digits.p, digits.n);
    digits = (jj_str){longer.p, longer.n, -1};
    if (sp->group) digits = grouped(c, digits, sp->group, base == 10 ? 3 : 4);
    char prefix[3] = {'0', sp->type, 0};
    add_number(c, b, sp, v < 0, sp->alternate && base != 10 ? prefix : "", digits);
}

static void add_float(jj *c, jj_buf *b, const spec *sp, double f) {
    char text[800], pattern[16];
    char type = sp->type ? sp->type : 'g';
    int64_t precision = sp->precision < 0 ? 6 : sp->precision;
    if (precision > 400) jj_fail(c, LM_BUDGET, "a precision of %lld is too large", (long long)precision);
    jj_buf shortest = {0};
    if (type == '%') f *= 100;
    double magnitude = fabs(f);
    if (isnan(f) || isinf(f)) {
        snprintf(text, sizeof text, "%s", isnan(f) ? "nan" : "inf");
    } else if (!sp->type && sp->precision < 0) {
        jj_print_float(c, &shortest, magnitude);
        snprintf(text, sizeof text, "%.*s", (int)shortest.n, shortest.p);
    } else {
        char conversion = type == '%' ? 'f' : type == 'n' ? 'g' : type;
        snprintf(pattern, sizeof pattern, "%%%s.*%c", sp->alternate ? "#" : "", conversion);
        lm_number_format(text, sizeof text - 1, pattern, (int)precision, magnitude);
    }
    if (type == '%') strncat(text, "%", sizeof text - strlen(text) - 1);
    jj_str digits = {text, strlen(text), -1};
    if (sp->group) digits = grouped(c, digits, sp->group, 3);
    add_number(c, b, sp, signbit(f) && !isnan(f), "", digits);
}

static jj_str first_chars(jj_str s, int64_t n) {
    if (n >= 0 && n < jj_str_chars(&s)) s = (jj_str){s.p, jj_str_offset(&s, n), n};
    return s;
}

/* ---------------------------------------------------------------- % */

static int64_t read_number(const jj_str *f, size_t *at) {
    int64_t n = 0;
    for (; *at < f->n && f->p[*at] >= '0' && f->p[*at] <= '9'; (*at)++)
        if (n < 1000000000) n = n * 10 + (f->p[*at] - '0');
    return n;
}

typedef struct percent_args {
    jj_value all;
    size_t next;
    bool tuple, named;
} percent_args;

static jj_value next_arg(jj *c, percent_args *args) {
    if (args->tuple && args->next < args->all.as.l->n) return args->all.as.l->items[args->next++];
    if (!args->tuple && args->next++ == 0) return args->all;
    jj_fail(c, LM_FORMAT, "not enough arguments for format string");
}

static void add_percent(jj *c, jj_buf *b, spec *sp, jj_value v) {
    jj_buf text = {0};
    switch (sp->type) {
    case 's': jj_print(c, &text, v); break;
    case 'r':
    case 'a': jj_repr(c, &text, v); break;
    case 'c':
        if (v.type == JJ_STR)
            jj_buf_add(c, &text, v.as.s->p, v.as.s->n);
        else
            jj_buf_add_char(c, &text, (uint32_t)jj_as_int(c, v, "%c"));
        break;
    case 'd':
    case 'i':
    case 'u':
        if (v.type == JJ_FLOAT && v.as.f > -9e18 && v.as.f < 9e18) v = jj_int((int64_t)v.as.f);
        sp->type = 'd'; /* fall through */
    case 'x':
    case 'X':
    case 'o': add_int(c, b, sp, jj_as_int(c, v, "%d")); return;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        if (!jj_is_number(v)) jj_fail(c, LM_FORMAT, "must be real number, not %s", jj_type_name(v));
        add_float(c, b, sp, jj_as_float(v));
        return;
    default: jj_fail(c, LM_FORMAT, "unsupported format character '%c'", sp->type);
    }
    if (!sp->align) sp->align = '>';
    add_padded(c, b, sp, first_chars((jj_str){text.p ? text.p : "", text.n, -1}, sp->precision), '>');
}

static size_t read_percent(jj *c, const jj_str *f, size_t at, spec *sp, percent_args *args) {
    for (; at < f->n && strchr("-+ #0", f->p[at]) && f->p[at]; at++) {
        if (f->p[at] == '-')
            sp->align = '<';
        else if (f->p[at] == '#')
            sp->alternate = true;
        else if (f->p[at] == '0')
            sp->zero = true;
        else if (sp->sign != '+')
            sp->sign = f->p[at];
    }
    if (at < f->n && f->p[at] == '*') {
        at++;
        sp->width = jj_as_int(c, next_arg(c, args), "%*");
        if (sp->width < 0) {
            sp->align = '<';
            sp->width = sp->width > -MAX_WIDTH ? -sp->width : MAX_WIDTH;
        }
    } else {
        sp->width = read_number(f, &at);
    }
    if (at < f->n && f->p[at] == '.') {
        at++;
        if (at < f->n && f->p[at] == '*') {
            at++;
            sp->precision = jj_as_int(c, next_arg(c, args), "%.*");
        } else {
            sp->precision = read_number(f, &at);
        }
    }
    while (at < f->n && (f->p[at] == 'l' || f->p[at] == 'h' || f->p[at] == 'L')) at++;
    if (at >= f->n) jj_fail(c, LM_FORMAT, "incomplete format");
    sp->type = f->p[at];
    return at + 1;
}

jj_value jj_percent(jj *c, const jj_str *f, jj_value all) {
    percent_args args = {.all = all, .tuple = all.type == JJ_LIST && all.as.l->kind == JJ_IS_TUPLE};
    jj_buf b = {0};
    for (size_t at = 0; at < f->n;) {
        if (f->p[at] != '%') {
            jj_buf_addc(c, &b, f->p[at++]);
            continue;
        }
        at++;
        spec sp = {.fill = ' ', .precision = -1};
        jj_value v = {0};
        if (at < f->n && f->p[at] == '(') {
            const char *close = memchr(f->p + at, ')', f->n - at);
            if (!close) jj_fail(c, LM_FORMAT, "incomplete format key");
            if (all.type != JJ_DICT) jj_fail(c, LM_FORMAT, "format requires a mapping");
            jj_value key = jj_str_borrow(c, f->p + at + 1, (size_t)(close - f->p) - at - 1),
                     *found = jj_dict_get(c, all.as.d, key);
            if (!found) jj_fail(c, LM_FORMAT, "the format key is not in the mapping");
            v = *found;
            args.named = true;
            at = (size_t)(close - f->p) + 1;
        }
        at = read_percent(c, f, at, &sp, &args);
        if (sp.type == '%') {
            jj_buf_addc(c, &b, '%');
            continue;
        }
        add_percent(c, &b, &sp, v.type == JJ_ABSENT ? next_arg(c, &args) : v);
    }
    bool left = args.tuple ? args.next < all.as.l->n
                           : args.next == 0 && all.type != JJ_DICT && !args.named && all.type != JJ_LIST;
    if (left) jj_fail(c, LM_FORMAT, "not all arguments converted during string formatting");
    return jj_buf_value(c, &b);
}

/* ---------------------------------------------------------------- str.format */

static void read_spec(jj *c, const jj_str *s, spec *sp) {
    size_t at = 0, used = 0;
    if (s->n) {
        uint32_t fill = jj_next_char(s->p, s->n, &used);
        if (used < s->n && s->p[used] && strchr("<>=^", s->p[used])) {
            sp->fill = fill;
            sp->align = s->p[used];
            at = used + 1;
        } else if (strchr("<>=^", s->p[0]) && s->p[0]) {
            sp->align = s->p[at++];
        }
    }
    if (at < s->n && s->p[at] && strchr("+- ", s->p[at])) sp->sign = s->p[at++];
    if (at < s->n && s->p[at] == '#') sp->alternate = true, at++;
    if (at < s->n && s->p[at] == '0') sp->zero = true, at++;
    sp->width = read_number(s, &at);
    if (at < s->n && (s->p[at] == ',' || s->p[at] == '_')) sp->group = s->p[at++];
    if (at < s->n && s->p[at] == '.') {
        at++;
        sp->precision = read_number(s, &at);
    }
    if (at < s->n) sp->type = s->p[at++];
    if (at < s->n) jj_fail(c, LM_FORMAT, "Invalid format specifier");
}

static void add_formatted(jj *c, jj_buf *b, jj_value v, const jj_str *text) {
    spec sp = {.fill = ' ', .precision = -1};
    read_spec(c, text, &sp);
    bool integer = v.type == JJ_INT || (v.type == JJ_BOOL && text->n);
    if (jj_is_number(v) && (v.type != JJ_BOOL || text->n)) {
        if (integer && (!sp.type || strchr("dboxXn", sp.type))) {
            if (sp.type == 'n') sp.type = 'd';
            add_int(c, b, &sp, jj_as_int(c, v, "format"));
        } else if (integer && sp.type == 'c') {
            jj_buf one = {0};
            jj_buf_add_char(c, &one, (uint32_t)jj_as_int(c, v, "format"));
            add_padded(c, b, &sp, (jj_str){one.p, one.n, -1}, '<');
        } else if (!sp.type || strchr("eEfFgGn%", sp.type)) {
            add_float(c, b, &sp, jj_as_float(v));
        } else {
            jj_fail(c, LM_FORMAT, "Unknown format code '%c' for object of type '%s'", sp.type, jj_type_name(v));
        }
        return;
    }
    if (sp.type && sp.type != 's')
        jj_fail(c, LM_FORMAT, "Unknown format code '%c' for object of type '%s'", sp.type, jj_type_name(v));
    if (text->n && v.type != JJ_STR)
        jj_fail(c, LM_FORMAT, "unsupported format string passed to %s.__format__", jj_type_name(v));
    if (sp.zero && !sp.align) sp.align = '<', sp.fill = '0';
    add_padded(c, b, &sp, first_chars(*jj_to_str(c, v).as.s, sp.precision), '<');
}

/* "0.name[key]" -> the value */
static jj_value field(jj *c, jj_str f, const jj_args *args, int64_t *automatic, bool *manual) {
    size_t at = 0;
    while (at < f.n && f.p[at] != '.' && f.p[at] != '[') at++;
    jj_str head = {f.p, at, -1};
    jj_value v = {0};
    size_t digits = 0;
    int64_t index = read_number(&head, &digits);
    if (!head.n || digits == head.n) {
        if (!head.n)
            index = (*automatic)++;
        else if (*automatic > 0)
            jj_fail(c, LM_FORMAT, "cannot switch from automatic field numbering to manual specification");
        else
            *manual = true;
        if (!head.n && *manual)
            jj_fail(c, LM_FORMAT, "cannot switch from manual field specification to automatic field numbering");
        if (index >= (int64_t)args->n)
            jj_fail(c, LM_FORMAT, "Replacement index %lld out of range for positional args tuple", (long long)index);
        v = args->items[index];
    } else {
        const jj_str *name = jj_intern(c, head.p, head.n);
        for (size_t i = 0; i < args->n_keywords; i++)
            if (args->keywords[i].name == name) v = args->keywords[i].value;
        if (v.type == JJ_ABSENT)
            jj_fail(c, LM_FORMAT, "no argument named '%.*s'", (int)(head.n < 60 ? head.n : 60), head.p);
    }
    while (at < f.n) {
        size_t from = at + 1, end = from;
        bool attribute = f.p[at] == '.';
        while (end < f.n && (attribute ? f.p[end] != '.' && f.p[end] != '[' : f.p[end] != ']')) end++;
        jj_str key = {f.p + from, end - from, -1};
        size_t k = 0;
        int64_t number = read_number(&key, &k);
        jj_value name = !attribute && k && k == key.n ? jj_int(number) : jj_str_borrow(c, key.p, key.n);
        v = attribute ? jj_getattr(c, v, name) : jj_getitem(c, v, name);
        jj_need_defined(c, v);
        at = attribute ? end : end + 1;
    }
    return v;
}

static void format_into(jj *c, jj_buf *b, const jj_str *f, const jj_args *args, int64_t *automatic, bool *manual) {
    jj_enter(c);
    for (size_t at = 0; at < f->n; at++) {
        char ch = f->p[at];
        if ((ch == '{' || ch == '}') && at + 1 < f->n && f->p[at + 1] == ch) {
            jj_buf_addc(c, b, ch);
            at++;
            continue;
        }
        if (ch == '}') jj_fail(c, LM_FORMAT, "Single '}' encountered in format string");
        if (ch != '{') {
            jj_buf_addc(c, b, ch);
            continue;
        }
        size_t from = ++at, level = 1, colon = 0, bang = 0;
        for (; at < f->n; at++) {
            if (f->p[at] == '{') level++;
            if (f->p[at] == '}' && --level == 0) break;
            if (level == 1 && !colon && f->p[at] == ':') colon = at;
            if (level == 1 && !colon && !bang && f->p[at] == '!') bang = at;
        }
        if (at >= f->n) jj_fail(c, LM_FORMAT, "expected '}' before end of string");
        size_t end = bang ? bang : colon ? colon : at;
        jj_value v = field(c, (jj_str){f->p + from, end - from, -1}, args, automatic, manual);
        jj_buf text = {0}, sp = {0};
        if (bang) {
            if (bang + 1 < at && f->p[bang + 1] == 's')
                jj_print(c, &text, v);
            else
                jj_repr(c, &text, v);
            v = jj_buf_value(c, &text);
        }
        if (colon) format_into(c, &sp, &(jj_str){f->p + colon + 1, at - colon - 1, -1}, args, automatic, manual);
        add_formatted(c, b, v, &(jj_str){sp.p ? sp.p : "", sp.n, -1});
    }
    jj_leave(c);
}

jj_value jj_format(jj *c, const jj_str *f, const jj_args *args) {
    jj_buf b = {0};
    int64_t automatic = 0;
    bool manual = false;
    format_into(c, &b, f, args, &automatic, &manual);
    return jj_buf_value(c, &b);
}

/* ---------------------------------------------------------------- the clock */

static void read_clock(jj *c, struct tm *tm, int *microseconds) {
    memset(tm, 0, sizeof *tm);
    *microseconds = 0;
    if (!c->now) {
        time_t t = time(NULL);
        if (!localtime_r(&t, tm)) jj_fail(c, LM_FORMAT, "strftime_now: the clock cannot be read");
        return;
    }
    int y, mo, d, h = 0, mi = 0, s = 0, n = 0;
    int got = sscanf(c->now, "%4d-%2d-%2d%*[T ]%2d:%2d:%2d%n", &y, &mo, &d, &h, &mi, &s, &n);
    if (got < 3 || y < 1 || mo < 1 || mo > 12 || d < 1 || d > 31 || h < 0 || h > 23 || mi < 0 || mi > 59 || s < 0 ||
        s > 60)
        jj_fail(c, LM_FORMAT, "strftime_now: expected an ISO time such as 2026-01-31T12:00:00");
    if (n && c->now[n] == '.') {
        int scale = 100000;
        for (const char *p = c->now + n + 1; *p >= '0' && *p <= '9' && scale; p++, scale /= 10)
            *microseconds += (*p - '0') * scale;
    }
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    int years = y - 1, day = before[mo - 1] + (leap && mo > 2) + d;
    *tm = (struct tm){.tm_year = y - 1900, .tm_mon = mo - 1, .tm_mday = d, .tm_hour = h, .tm_min = mi, .tm_sec = s};
    tm->tm_yday = day - 1;
    tm->tm_wday = (years * 365 + years / 4 - years / 100 + years / 400 + day) % 7;
    tm->tm_isdst = -1;
}

jj_value jj_strftime(jj *c, const jj_str *f) {
    struct tm tm;
    int microseconds;
    jj_buf b = {0};
    read_clock(c, &tm, &microseconds);
    for (size_t at = 0; at < f->n; at++) {
        char pattern[4] = "%", text[256];
        size_t n = 1;
        if (f->p[at] != '%' || at + 1 >= f->n) {
            jj_buf_addc(c, &b, f->p[at]);
            continue;
        }
        at++;
        if (strchr("-_0^#", f->p[at]) && f->p[at] && at + 1 < f->n) pattern[n++] = f->p[at++];
        pattern[n++] = f->p[at];
        pattern[n] = 0;
        if (f->p[at] == 'f')
            jj_buf_addf(c, &b, "%06d", microseconds);
        else if (f->p[at] == '%')
            jj_buf_addc(c, &b, '%');
        else if (f->p[at] == 'z' || f->p[at] == 'Z')
            continue; /* a naive time has no zone */
        else if (!strchr("aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyY", f->p[at]))
            jj_buf_adds(c, &b, pattern);
        else if (lm_time_format(text, sizeof text, pattern, &tm))
            jj_buf_adds(c, &b, text);
        jj_tick(c, 1);
    }
    return jj_buf_value(c, &b);
}
