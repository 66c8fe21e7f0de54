/* SPDX-License-Identifier: MIT
 *
 * jinja_lex.c: template text to tokens, with jinja2's white-space rules under trim_blocks and lstrip_blocks: the
 * newline after a block or comment goes, and so do blanks before one at the start of a line; '-' strips more, '+'
 * keeps. */
#include "base/number.h"
#include "text/jinja_impl.h"
#include <stdlib.h>

typedef struct lexer {
    jj *c;
    const char *p; /* source with \n newlines */
    size_t n, at;
    int line;
    bool line_starting; /* the last thing read ended with a newline */
    size_t cap;
    char open[256]; /* closing brackets that are due */
    int n_open;
} lexer;

static jj_token *push(lexer *x, jj_token_kind kind) {
    jj *c = x->c;
    if (c->n_tokens == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 256;
        jj_token *t = jj_alloc(c, cap * sizeof *t);
        if (c->n_tokens) memcpy(t, c->tokens, c->n_tokens * sizeof *t);
        c->tokens = t;
        x->cap = cap;
    }
    jj_token *t = &c->tokens[c->n_tokens++];
    memset(t, 0, sizeof *t);
    t->kind = kind;
    t->line = x->line;
    return t;
}

/* newlines become \n and one at the very end goes */
static void normalize(lexer *x, const char *text, size_t length) {
    char *p = jj_alloc(x->c, length + 1);
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\r') {
            p[n++] = '\n';
            if (i + 1 < length && text[i + 1] == '\n') i++;
        } else {
            p[n++] = text[i];
        }
    }
    if (n && p[n - 1] == '\n') n--;
    x->p = p;
    x->n = n;
}

static void count_lines(lexer *x, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) x->line += x->p[i] == '\n';
}

static size_t space_at(const lexer *x, size_t at) { /* bytes of a white-space character here, or 0 */
    if (at >= x->n) return 0;
    size_t used;
    uint32_t ch = jj_next_char(x->p + at, x->n - at, &used);
    return jj_char_is_space(ch) ? used : 0;
}

static size_t skip_space(const lexer *x, size_t at) {
    size_t n;
    while ((n = space_at(x, at))) at += n;
    return at;
}

static size_t strip_end(const lexer *x, size_t from, size_t to) { /* where [from, to) ends without trailing space */
    jj_str s = {x->p + from, to - from, -1};
    jj_value v = {.type = JJ_STR, .as.s = &s};
    return from + jj_strip(x->c, v, NULL, false, true).as.s->n;
}

/* Pushes the text before a tag; `sign` is the tag's '-' or '+', `lstrip` whether blanks before it go by themselves. */
static void push_data(lexer *x, size_t from, size_t to, char sign, bool lstrip) {
    size_t end = to;
    if (sign == '-') {
        end = strip_end(x, from, to);
    } else if (sign != '+' && lstrip) {
        size_t line = to;
        while (line > from && x->p[line - 1] != '\n') line--;
        if ((line > from || x->line_starting) && strip_end(x, line, to) == line) end = line;
    }
    if (end > from) push(x, JJ_T_DATA)->text = (jj_str){x->p + from, end - from, -1};
    count_lines(x, from, to);
}

static bool at_text(const lexer *x, size_t at, const char *s) {
    size_t n = strlen(s);
    return at + n <= x->n && memcmp(x->p + at, s, n) == 0;
}

static void move_to(lexer *x, size_t to) {
    count_lines(x, x->at, to);
    x->line_starting = to > x->at && x->p[to - 1] == '\n';
    x->at = to;
}

/* Past a tag's end: "-" eats white space, a plain one a newline if `trim`. Returns 0 if there is no end here. */
static size_t tag_end(const lexer *x, size_t at, const char *close, bool trim) {
    if (at < x->n && x->p[at] == '-' && at_text(x, at + 1, close)) return skip_space(x, at + 3);
    if (trim && at < x->n && x->p[at] == '+' && at_text(x, at + 1, close)) return at + 3;
    if (!at_text(x, at, close)) return 0;
    at += 2;
    return trim && at < x->n && x->p[at] == '\n' ? at + 1 : at;
}

/* "{% raw %}" at `at`? Returns the offset after it, else 0. */
static size_t raw_begin(const lexer *x, size_t at) {
    at += 2;
    if (at < x->n && (x->p[at] == '-' || x->p[at] == '+')) at++;
    at = skip_space(x, at);
    if (!at_text(x, at, "raw")) return 0;
    return tag_end(x, skip_space(x, at + 3), "%}", false);
}

static void lex_raw(lexer *x) {
    size_t from = x->at;
    for (size_t at = from; at + 1 < x->n; at++) {
        if (x->p[at] != '{' || x->p[at + 1] != '%') continue;
        size_t i = at + 2;
        char sign = i < x->n ? x->p[i] : 0;
        if (sign == '-' || sign == '+') i++;
        i = skip_space(x, i);
        if (!at_text(x, i, "endraw")) continue;
        size_t end = tag_end(x, skip_space(x, i + 6), "%}", true);
        if (!end) continue;
        push_data(x, from, at, sign, true);
        x->at = at;
        move_to(x, end);
        return;
    }
    x->c->line = x->line;
    if (x->at < x->n) jj_fail(x->c, LM_FORMAT, "missing end of raw directive");
}

static void lex_comment(lexer *x) {
    for (size_t at = x->at; at + 1 < x->n; at++) {
        if (x->p[at] != '#' && x->p[at] != '-' && x->p[at] != '+') continue;
        size_t end = tag_end(x, at, "#}", true);
        if (!end) continue;
        move_to(x, end);
        return;
    }
    x->c->line = x->line;
    if (x->at < x->n) jj_fail(x->c, LM_FORMAT, "missing end of comment tag");
}

static bool is_digit(char ch) {
    return ch >= '0' && ch <= '9';
}
static bool is_name_start(char ch) {
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_' || (unsigned char)ch >= 0x80;
}
static int hex_digit(char ch) {
    if (is_digit(ch)) return ch - '0';
    if (ch >= 'a' && ch <= 'f') return ch - 'a' + 10;
    if (ch >= 'A' && ch <= 'F') return ch - 'A' + 10;
    return 99;
}

/* digits with single underscores between them, from `at`; returns the end */
static size_t digits(const lexer *x, size_t at, int base) {
    size_t i = at;
    while (i < x->n &&
           (hex_digit(x->p[i]) < base || (x->p[i] == '_' && i > at && i + 1 < x->n && hex_digit(x->p[i + 1]) < base)))
        i++;
    return i;
}

static void lex_integer(lexer *x, size_t from, size_t to, int base) {
    uint64_t v = 0;
    for (size_t i = from; i < to; i++) {
        if (x->p[i] == '_') continue;
        int d = hex_digit(x->p[i]);
        if (v > (INT64_MAX - (uint64_t)d) / (uint64_t)base) jj_fail(x->c, LM_BUDGET, "integer is larger than 64 bits");
        v = v * (uint64_t)base + (uint64_t)d;
    }
    push(x, JJ_T_INT)->integer = (int64_t)v;
}

static void lex_number(lexer *x) {
    size_t at = x->at, end;
    char kind = at + 2 < x->n && x->p[at] == '0' ? (char)(x->p[at + 1] | 32) : 0;
    int base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (base && (end = digits(x, at + 2, base)) > at + 2) {
        lex_integer(x, at + 2, end, base);
        move_to(x, end);
        return;
    }
    end = digits(x, at, 10);
    size_t float_end = end;
    if (end + 1 < x->n && x->p[end] == '.' && is_digit(x->p[end + 1])) float_end = digits(x, end + 1, 10);
    if (float_end < x->n && (x->p[float_end] | 32) == 'e') {
        size_t i = float_end + 1;
        if (i < x->n && (x->p[i] == '+' || x->p[i] == '-')) i++;
        if (i < x->n && is_digit(x->p[i])) float_end = digits(x, i, 10);
    }
    if (float_end == end || (at > 0 && x->p[at - 1] == '.')) {
        lex_integer(x, at, end, 10);
        move_to(x, end);
        return;
    }
    char text[512];
    size_t n = 0;
    for (size_t i = at; i < float_end && n < sizeof text - 1; i++)
        if (x->p[i] != '_') text[n++] = x->p[i];
    text[n] = 0;
    push(x, JJ_T_FLOAT)->number = lm_number_parse(text, NULL);
    move_to(x, float_end);
}

static size_t escape_code(lexer *x, jj_buf *b, size_t at, size_t end, int count, int base) {
    uint32_t v = 0;
    int k = 0;
    for (; k < count && at < end && hex_digit(x->p[at]) < base; k++)
        v = v * (uint32_t)base + (uint32_t)hex_digit(x->p[at++]);
    if (base == 16 && k < count) jj_fail(x->c, LM_FORMAT, "a string has a truncated escape");
    if (v >= 0xd800 && v < 0xdc00 && at + 6 <= end && x->p[at] == '\\' && x->p[at + 1] == 'u') { /* surrogate pair */
        uint32_t low = 0;
        for (size_t i = at + 2; i < at + 6; i++) low = low * 16 + (uint32_t)(hex_digit(x->p[i]) & 15);
        if (low >= 0xdc00 && low < 0xe000) {
            v = 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
            at += 6;
        }
    }
    jj_buf_add_char(x->c, b, v);
    return at;
}

static void lex_string(lexer *x) {
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    char quote = x->p[x->at];
    size_t start = x->at + 1, end = start;
    bool plain = true;
    while (end < x->n && x->p[end] != quote) {
        if (x->p[end] == '\\') {
            plain = false;
            end++;
        }
        end++;
    }
    if (end >= x->n) jj_fail(x->c, LM_FORMAT, "a string is not closed");
    jj_token *t = push(x, JJ_T_STRING);
    t->text = (jj_str){x->p + start, end - start, -1};
    if (!plain) {
        jj_buf b = {0};
        for (size_t i = start; i < end;) {
            char ch = x->p[i++];
            if (ch != '\\') {
                jj_buf_addc(x->c, &b, ch);
                continue;
            }
            ch = x->p[i++];
            const char *known = ch ? strchr(from, ch) : NULL;
            if (known)
                jj_buf_addc(x->c, &b, to[known - from]);
            else if (ch == '\n')
                continue;
            else if (ch == 'x')
                i = escape_code(x, &b, i, end, 2, 16);
            else if (ch == 'u')
                i = escape_code(x, &b, i, end, 4, 16);
            else if (ch == 'U')
                i = escape_code(x, &b, i, end, 8, 16);
            else if (ch >= '0' && ch <= '7')
                i = escape_code(x, &b, i - 1, end, 3, 8);
            else {
                jj_buf_addc(x->c, &b, '\\');
                jj_buf_addc(x->c, &b, ch);
            }
        }
        t->text = (jj_str){b.p ? b.p : "", b.n, -1};
    }
    move_to(x, end + 1);
}

static void lex_operator(lexer *x) {
    static const char *const two[] = {"//", "**", "==", "!=", ">=", "<="};
    static const char one[] = "+-/*%~[](){}><=.:|,;";
    char ch = x->p[x->at];
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (at_text(x, x->at, two[i])) {
            push(x, JJ_T_OP)->op = JJ_OP2(two[i][0], two[i][1]);
            move_to(x, x->at + 2);
            return;
        }
    if (!ch || !strchr(one, ch)) jj_fail(x->c, LM_FORMAT, "unexpected character '%c' in an expression", ch);
    if (ch == '(' || ch == '[' || ch == '{') {
        if (x->n_open == (int)sizeof x->open) jj_fail(x->c, LM_BUDGET, "brackets are nested too deeply");
        x->open[x->n_open++] = ch == '(' ? ')' : ch == '[' ? ']' : '}';
    } else if (ch == ')' || ch == ']' || ch == '}') {
        if (!x->n_open || x->open[--x->n_open] != ch) jj_fail(x->c, LM_FORMAT, "unexpected '%c'", ch);
    }
    push(x, JJ_T_OP)->op = ch;
    move_to(x, x->at + 1);
}

/* Inside {{ }} or {% %}, to its end. */
static void lex_code(lexer *x, bool block) {
    const char *close = block ? "%}" : "}}";
    x->n_open = 0;
    for (;;) {
        move_to(x, skip_space(x, x->at));
        x->c->line = x->line;
        if (x->at >= x->n) jj_fail(x->c, LM_FORMAT, "unexpected end of template: '%s' is missing", close);
        if (x->n_open == 0) {
            size_t end = block || x->p[x->at] != '+' ? tag_end(x, x->at, close, block) : 0;
            if (end) {
                push(x, block ? JJ_T_BLOCK_END : JJ_T_PRINT_END);
                move_to(x, end);
                return;
            }
        }
        char ch = x->p[x->at];
        if (is_digit(ch)) {
            lex_number(x);
        } else if (is_name_start(ch)) {
            size_t end = x->at;
            while (end < x->n && (is_name_start(x->p[end]) || is_digit(x->p[end]))) end++;
            push(x, JJ_T_NAME)->text = (jj_str){x->p + x->at, end - x->at, -1};
            move_to(x, end);
        } else if (ch == '\'' || ch == '"') {
            lex_string(x);
        } else {
            lex_operator(x);
        }
    }
}

void jj_lex(jj *c, const char *text, size_t length) {
    lexer x = {.c = c, .line = 1, .line_starting = true};
    normalize(&x, text, length);
    while (x.at < x.n) {
        size_t at = x.at;
        while (at < x.n &&
               !(x.p[at] == '{' && at + 1 < x.n && (x.p[at + 1] == '{' || x.p[at + 1] == '%' || x.p[at + 1] == '#')))
            at++;
        c->line = x.line;
        if (at >= x.n) {
            push_data(&x, x.at, x.n, '+', false);
            break;
        }
        char kind = x.p[at + 1], sign = at + 2 < x.n ? x.p[at + 2] : 0;
        size_t raw = kind == '%' ? raw_begin(&x, at) : 0;
        push_data(&x, x.at, at, sign, kind != '{');
        x.at = at;
        bool signed_tag = sign == '-' || sign == '+';
        if (raw) {
            move_to(&x, raw);
            lex_raw(&x);
            continue;
        }
        if (kind == '#') {
            move_to(&x, at + 2); /* "{#-#}": the sign may belong to the end */
            lex_comment(&x);
            continue;
        }
        push(&x, kind == '{' ? JJ_T_PRINT : JJ_T_BLOCK);
        move_to(&x, at + (signed_tag ? 3 : 2));
        lex_code(&x, kind == '%');
    }
    push(&x, JJ_T_END);
    c->line = 0;
}
