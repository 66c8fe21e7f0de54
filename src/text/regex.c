/* SPDX-License-Identifier: MIT
 * regex.c: owns the bridge to PCRE2. tokenizer.json's expressions are Oniguruma's (Ruby syntax, Unicode); where the two
 * engines read a construct differently the pattern is rewritten before it is compiled. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"
#include "text/unicode_newer.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PATTERN ((size_t)64 << 10)
#define BACKTRACK_BASE 10000000u /* PCRE2's own default */
#define HEAP_LIMIT_KIB (256u << 10)

struct lm_regex {
    pcre2_code *code;
    bool jit;
    char what[96];
};

struct lm_regex_scan {
    const lm_regex *regex;
    pcre2_match_data *data;
    pcre2_match_context *context;
    size_t limit_for; /* subject length that the match limit was set for */
};

/* ---------------------------------------------------------------- rewriting */

/* White_Space of Unicode; PCRE2's \s adds U+180E. */
#define SPACES \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
/* Letters, marks, digits and letter numbers (of the other numbers only Latin-1's), connectors, circled letters; PCRE2's
 * \w is narrower. */
#define WORDS                                                                                                       \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}" \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"
#define HEXES "0-9a-fA-F"

/* PCRE2 reads a bare script name as Script_Extensions; Oniguruma means Script. */
static bool is_script(const char *name, size_t n) {
    static const char *const scripts[] = {"Arabic",     "Armenian", "Bengali",  "Bopomofo", "Common",    "Cyrillic",
                                          "Devanagari", "Ethiopic", "Georgian", "Greek",    "Gujarati",  "Gurmukhi",
                                          "Han",        "Hangul",   "Hebrew",   "Hiragana", "Inherited", "Kannada",
                                          "Katakana",   "Khmer",    "Lao",      "Latin",    "Malayalam", "Mongolian",
                                          "Myanmar",    "Sinhala",  "Tamil",    "Telugu",   "Thai",      "Tibetan"};
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
        if (strlen(scripts[i]) == n && !memcmp(scripts[i], name, n)) return true;
    return false;
}

/* The characters of `name` (a general category such as "L" or "Lu", or Han) that an older PCRE2 does not know. */
static void add_newer(const char *name, size_t n, lm_buf *out) {
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++)
        if (!strncmp(newer[i].name, name, n) && (newer[i].name[n] == '\0' || n == 1)) lm_buf_adds(out, newer[i].ranges);
}

static bool is_category(const char *name, size_t n) {
    return (n == 1 && strchr("LMNPS", *name)) || (n == 2 && strchr("LMNPS", *name) && name[1] >= 'a' && name[1] <= 'z');
}

/* \p{X} -> [\p{X}newer], \p{Han} -> [\p{sc:Han}newer]; anything else as it is. Returns how many bytes of the pattern
 * were taken, 0: not this case. */
static size_t rewrite_property(const char *p, size_t n, bool in_class, lm_buf *out) {
    if (n < 3 || (p[1] != 'p' && p[1] != 'P')) return 0;
    const char *name = p + 2, *end = p + 3; /* \pL */
    bool negated = p[1] == 'P';
    if (*name == '{') {
        end = memchr(p, '}', n);
        if (!end) return 0;
        name++;
        if (*name == '^') {
            negated = !negated;
            name++;
        }
    }
    size_t length = (size_t)(end - name), taken = (size_t)(end - p) + (p[2] == '{');
    bool script = is_script(name, length);
    if (!script && !is_category(name, length)) return 0;
    const char *prefix = script ? "sc:" : "";
    if (in_class && negated) { /* newer characters would have to be taken out of the class: they stay in */
        lm_buf_addf(out, "\\P{%s%.*s}", prefix, (int)length, name);
        return taken;
    }
    if (!in_class) lm_buf_adds(out, negated ? "[^" : "[");
    lm_buf_addf(out, "\\p{%s%.*s}", prefix, (int)length, name);
    add_newer(name, length, out);
    if (!in_class) lm_buf_addc(out, ']');
    return taken;
}

static const char words[] = WORDS, digits[] = "\\p{Nd}";

static const char *shorthand(char c) {
    switch (c) {
    case 's':
    case 'S': return SPACES;
    case 'w':
    case 'W': return words;
    case 'd':
    case 'D': return digits;
    case 'h':
    case 'H': return HEXES;
    default: return NULL;
    }
}

/* One backslash sequence at p (at least two bytes). Returns the bytes taken; 0: cannot be expressed. */
static size_t rewrite_escape(const char *p, size_t n, bool in_class, lm_buf *out) {
    size_t taken = rewrite_property(p, n, in_class, out);
    if (taken) return taken;
    const char *set = shorthand(p[1]);
    if (!set) {
        lm_buf_add(out, p, 2);
        return 2;
    }
    bool negated = strchr("SWDH", p[1]) != NULL;
    if (!in_class || !negated) {
        if (!in_class) lm_buf_adds(out, negated ? "[^" : "[");
        lm_buf_adds(out, set);
        if (set == digits) add_newer("Nd", 2, out);
        if (set == words) {
            static const char *const parts[] = {"L", "M", "Nd", "Nl", "Pc"};
            for (int i = 0; i < 5; i++) add_newer(parts[i], strlen(parts[i]), out);
        }
        if (!in_class) lm_buf_addc(out, ']');
    } else {
        /* Inside a class only the engine's own shorthands can be negated; its \W and \H mean something else. */
        if (p[1] != 'S' && p[1] != 'D') return 0;
        lm_buf_add(out, p, 2);
    }
    return 2;
}

static lm_status rewrite(const char *pattern, size_t length, const char *what, lm_buf *out, lm_error *err) {
    bool in_class = false;
    for (size_t i = 0; i < length;) {
        char c = pattern[i];
        if (c == '\\' && i + 1 < length) {
            size_t taken = rewrite_escape(pattern + i, length - i, in_class, out);
            if (!taken)
                return lm_fail(err, LM_UNSUPPORTED, "%s: regular expression: \\%c inside a class is not supported",
                               what, pattern[i + 1]);
            i += taken;
            continue;
        }
        if (!in_class && c == '[') {
            in_class = true;
            lm_buf_addc(out, c);
            i++;
            if (i < length && pattern[i] == '^') lm_buf_addc(out, pattern[i++]);
            continue;
        }
        if (in_class && c == '[' && i + 1 < length && pattern[i + 1] == ':') { /* POSIX class */
            const char *close = strstr(pattern + i + 2, ":]");
            if (close) {
                size_t n = (size_t)(close + 2 - (pattern + i));
                if (n == 9 && !memcmp(pattern + i, "[:punct:]", 9)) { /* symbols too */
                    lm_buf_adds(out, "\\p{P}\\p{S}");
                    add_newer("P", 1, out);
                    add_newer("S", 1, out);
                } else {
                    lm_buf_add(out, pattern + i, n);
                }
                i += n;
                continue;
            }
        }
        if (in_class && (c == '[' || (c == '&' && i + 1 < length && pattern[i + 1] == '&')))
            return lm_fail(err, LM_UNSUPPORTED, "%s: regular expression: %s inside a class is not supported", what,
                           c == '[' ? "a nested set" : "&&");
        if (in_class && c == ']') in_class = false;
        lm_buf_addc(out, c);
        i++;
    }
    return LM_OK;
}

void lm_regex_quote(const char *text, size_t length, lm_buf *out) {
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (c < 0x20) {
            lm_buf_addf(out, "\\x{%x}", c);
        } else {
            if (!plain) lm_buf_addc(out, '\\');
            lm_buf_addc(out, (char)c);
        }
    }
}

/* ---------------------------------------------------------------- compiling */

lm_status lm_regex_compile(const char *pattern, size_t length, const char *what, lm_regex **out, lm_error *err) {
    *out = NULL;
    if (length > MAX_PATTERN)
        return lm_fail(err, LM_FORMAT, "%s: regular expression of %zu bytes, at most %zu are supported", what, length,
                       MAX_PATTERN);
    if (memchr(pattern, 0, length)) return lm_fail(err, LM_FORMAT, "%s: regular expression holds a NUL", what);
    lm_buf text;
    lm_buf_init(&text, 32 * MAX_PATTERN);
    lm_status status = rewrite(pattern, length, what, &text, err);
    lm_regex *r = NULL;
    if (status == LM_OK && !text.failed) r = calloc(1, sizeof *r);
    pcre2_compile_context *context = r ? pcre2_compile_context_create(NULL) : NULL;
    if (context) {
        int code;
        PCRE2_SIZE where;
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        r->code =
            pcre2_compile((PCRE2_SPTR)(text.data ? text.data : ""), text.length,
                          PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &where, context);
        if (!r->code) {
            PCRE2_UCHAR message[128];
            pcre2_get_error_message(code, message, sizeof message);
            status = lm_fail(err, LM_FORMAT, "%s: regular expression does not compile: %s (\"%.60s\")", what,
                             (const char *)message, pattern);
        } else {
            r->jit = pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE) == 0;
            strncpy(r->what, what, sizeof r->what - 1);
        }
    }
    if (status == LM_OK && !context) status = lm_fail_nomem(err, sizeof *r, "regular expression");
    if (context) pcre2_compile_context_free(context);
    lm_buf_free(&text);
    if (status != LM_OK) {
        lm_regex_free(r);
        return status;
    }
    *out = r;
    return LM_OK;
}

void lm_regex_free(lm_regex *regex) {
    if (!regex) return;
    pcre2_code_free(regex->code);
    free(regex);
}

/* ---------------------------------------------------------------- matching */

lm_status lm_regex_scan_create(const lm_regex *regex, lm_regex_scan **out, lm_error *err) {
    lm_regex_scan *s = calloc(1, sizeof *s);
    *out = s;
    if (!s) return lm_fail_nomem(err, sizeof *s, "regular expression");
    s->regex = regex;
    s->data = pcre2_match_data_create_from_pattern(regex->code, NULL);
    s->context = pcre2_match_context_create(NULL);
    if (!s->data || !s->context) {
        lm_regex_scan_free(s);
        *out = NULL;
        return lm_fail_nomem(err, sizeof *s, "regular expression");
    }
    pcre2_set_match_limit(s->context, BACKTRACK_BASE);
    pcre2_set_heap_limit(s->context, HEAP_LIMIT_KIB);
    return LM_OK;
}

void lm_regex_scan_free(lm_regex_scan *scan) {
    if (!scan) return;
    pcre2_match_data_free(scan->data);
    pcre2_match_context_free(scan->context);
    free(scan);
}

lm_status lm_regex_next(lm_regex_scan *scan, const char *text, size_t length, size_t from, size_t *start, size_t *end,
                        bool *found, lm_error *err) {
    const lm_regex *r = scan->regex;
    if (length > BACKTRACK_BASE / 16 && length != scan->limit_for) {
        /* Giving back a run one character at a time is honest work on a long text. */
        size_t limit = BACKTRACK_BASE + 16 * length;
        pcre2_set_match_limit(scan->context, limit > UINT32_MAX ? UINT32_MAX : (uint32_t)limit);
        scan->limit_for = length;
    }
    int n;
    if (r->jit) {
        n = pcre2_jit_match(r->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, scan->data, scan->context);
        if (n == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its frames on the heap */
            n = pcre2_match(r->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, scan->data,
                            scan->context);
    } else {
        n = pcre2_match(r->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, scan->data, scan->context);
    }
    *found = n > 0;
    if (n == PCRE2_ERROR_NOMATCH) return LM_OK;
    if (n < 0) {
        PCRE2_UCHAR message[128];
        pcre2_get_error_message(n, message, sizeof message);
        bool budget = n == PCRE2_ERROR_MATCHLIMIT || n == PCRE2_ERROR_DEPTHLIMIT || n == PCRE2_ERROR_HEAPLIMIT;
        return lm_fail(err, budget ? LM_BUDGET : LM_FORMAT, "%s: regular expression on %zu bytes of text: %s", r->what,
                       length, (const char *)message);
    }
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(scan->data);
    *start = v[0];
    *end = v[1];
    /* \K in a look-around can put the start behind the end, or before where we asked */
    if (*start > *end || *start < from || *end > length)
        return lm_fail(err, LM_FORMAT, "%s: regular expression gives a match that runs backwards", r->what);
    return LM_OK;
}
