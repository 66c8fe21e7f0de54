/* SPDX-License-Identifier: MIT
 *
 * args.c: command lines read as Python's argparse reads them (parsing and conversion). Usage and help texts are in
 * args_help.c. Order of events is argparse's: every word is first told to be an option or a value (an ambiguous prefix
 * fails here), then options act from left to right, then missing options are reported, unknown words last. */
#include "args_internal.h"
#include "common.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What one word of argv is. */
typedef struct word {
    bool option;           /* looks like an option: never a value */
    const arg_spec *spec;  /* NULL: not known (or -h, see help) */
    bool help;             /* -h or --help */
    bool negated;          /* the --no- spelling of an ARG_ON_OFF */
    const char *inline_at; /* value in the same word (after '=' or after -p), or NULL */
    bool single_dash;      /* -pVALUE: more flags may follow */
} word;

typedef struct parser {
    const char *prog;
    const arg_spec *specs;
    int argc;
    char **argv;
    word *words; /* [argc] */
    bool *seen;  /* [n_specs] */
    int *extras; /* [argc] indices of words nobody took */
    int n_extras;
    const char *refused; /* sentence of the first unsupported option that was really asked for */
} parser;

static size_t count_specs(const arg_spec *specs) {
    size_t n = 0;
    while (specs[n].name) n++;
    return n;
}

/* "usage" and "PROG: error: MESSAGE" on stderr; returns 2. */
int args_error(const char *prog, const arg_spec *specs, const char *fmt, ...) {
    fflush(stdout);
    args_print_usage(stderr, prog, specs);
    fprintf(stderr, "%s: error: ", prog);
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    cli_print_clean(stderr, text);
    fputc('\n', stderr);
    return 2;
}

/* ---------------------------------------------------------------- which option is meant */

/* One spelling of an option. */
typedef struct spelling {
    const arg_spec *spec; /* NULL: help */
    char text[64];
    bool negated;
} spelling;

/* Spelling number `at` of all that the parser knows; false past the end. Numbers run over help's two, then three a
 * spec (name, alias, --no-name), of which some are empty. */
static bool get_spelling(const arg_spec *specs, size_t n_specs, size_t at, spelling *out) {
    memset(out, 0, sizeof *out);
    if (at < 2) {
        snprintf(out->text, sizeof out->text, "%s", at == 0 ? "-h" : "--help");
        return true;
    }
    size_t i = (at - 2) / 3, which = (at - 2) % 3;
    if (i >= n_specs) return false;
    const arg_spec *s = out->spec = &specs[i];
    if (which == 0) snprintf(out->text, sizeof out->text, "%s", s->name);
    if (which == 1 && s->alias) snprintf(out->text, sizeof out->text, "%s", s->alias);
    if (which == 2 && s->kind == ARG_ON_OFF) {
        snprintf(out->text, sizeof out->text, "--no-%s", s->name + 2);
        out->negated = true;
    }
    return true;
}

/* Options that mlx-lm does not have. They never make a prefix ambiguous that is unique there. */
static bool is_ours(const arg_spec *s) {
    static const char *const names[] = {"--device",   "--threads",         "--use-mmap", "--max-memory",
                                        "--numerics", "--batch-invariant", "--json",     "--data",
                                        "--table",    "--dump-requests",   "--answers",  "--gguf",
                                        "--compare",  "--rules",           "--restart",  "--pin-threads"};
    for (size_t i = 0; s && i < sizeof names / sizeof *names; i++)
        if (strcmp(s->name, names[i]) == 0) return true;
    return false;
}

static void take_spelling(word *w, const spelling *s, const char *inline_at, bool single_dash) {
    w->option = true;
    w->spec = s->spec;
    w->help = !s->spec;
    w->negated = s->negated;
    w->inline_at = inline_at;
    w->single_dash = single_dash;
}

/* -12, -.5, -1.5: argparse takes these as values, since no option looks like a number. */
static bool looks_negative(const char *s) {
    if (*s++ != '-') return false;
    size_t whole = strspn(s, "0123456789");
    if (!s[whole]) return whole > 0;
    if (s[whole] != '.') return false;
    const char *fraction = s + whole + 1;
    return *fraction && fraction[strspn(fraction, "0123456789")] == '\0';
}

/* Looks for exact spellings, then for the part before '='. */
static bool find_exact(const parser *p, size_t n_specs, const char *text, word *w) {
    const char *equals = strchr(text, '=');
    spelling s;
    for (int round = 0; round < 2; round++) {
        size_t length = round == 0 ? strlen(text) : equals ? (size_t)(equals - text) : 0;
        for (size_t at = 0; length && get_spelling(p->specs, n_specs, at, &s); at++) {
            if (strlen(s.text) != length || memcmp(s.text, text, length) != 0) continue;
            take_spelling(w, &s, round == 0 ? NULL : equals + 1, false);
            return true;
        }
    }
    return false;
}

/* Does `text` (its first `length` bytes) abbreviate `s`, or is it a one-letter option with its value attached? */
static bool abbreviates(const char *text, size_t length, const spelling *s, bool *attached) {
    *attached = text[1] != '-' && strlen(s->text) == 2 && s->text[1] == text[1];
    return s->text[0] && (*attached || strncmp(s->text, text, length) == 0);
}

/* Looks for a unique abbreviation. Returns -1 or the exit code. */
static int find_prefix(const parser *p, size_t n_specs, const char *text, word *w) {
    const char *equals = text[1] == '-' ? strchr(text, '=') : NULL;
    size_t length = equals ? (size_t)(equals - text) : strlen(text), used = 0;
    char matches[1024] = "";
    spelling s;
    bool attached;
    for (int ours = 0; ours < 2; ours++) {
        int n = 0;
        for (size_t at = 0; get_spelling(p->specs, n_specs, at, &s); at++) {
            if (!abbreviates(text, length, &s, &attached) || is_ours(s.spec) != (ours == 1)) continue;
            take_spelling(w, &s, attached ? text + 2 : equals ? equals + 1 : NULL, attached);
            if (used < sizeof matches)
                used += (size_t)snprintf(matches + used, sizeof matches - used, "%s%s", used ? ", " : "", s.text);
            n++;
        }
        if (n == 1) return -1;
        if (n > 1) return args_error(p->prog, p->specs, "ambiguous option: %s could match %s", text, matches);
    }
    return -1;
}

static int classify(const parser *p, size_t n_specs) {
    for (int i = 1; i < p->argc; i++) {
        const char *text = p->argv[i];
        word *w = &p->words[i];
        if (strcmp(text, "--") == 0) break; /* all that follows are values, and nobody wants values alone */
        if (text[0] != '-' || text[1] == '\0') continue;
        if (find_exact(p, n_specs, text, w)) continue;
        int code = find_prefix(p, n_specs, text, w);
        if (code >= 0) return code;
        if (w->option) continue;
        if (looks_negative(text) || strchr(text, ' ')) continue;
        w->option = true; /* unknown option */
    }
    return -1;
}

/* ---------------------------------------------------------------- values */

/* Python's int(): spaces around, a sign, underscores between digits. */
static bool to_int(const char *text, int64_t *out) {
    char digits[64];
    size_t n = 0;
    while (isspace((unsigned char)*text)) text++;
    if (*text == '+' || *text == '-') digits[n++] = *text++;
    if (!isdigit((unsigned char)*text)) return false;
    for (; isdigit((unsigned char)*text) || (*text == '_' && isdigit((unsigned char)text[1])); text++) {
        if (*text == '_') continue;
        if (n + 1 >= sizeof digits) return false;
        digits[n++] = *text;
    }
    digits[n] = '\0';
    while (isspace((unsigned char)*text)) text++;
    if (*text) return false;
    errno = 0;
    long long value = strtoll(digits, NULL, 10);
    if (errno) return false;
    *out = value;
    return true;
}

static bool to_float(const char *text, double *out) {
    if (strpbrk(text, "xX(") || !*text) return false; /* strtod reads hex and nan(...), Python does not */
    char plain[128], *end = NULL;
    size_t n = 0;
    for (const char *c = text; *c; c++) {
        bool between = *c == '_' && c > text && isdigit((unsigned char)c[-1]) && isdigit((unsigned char)c[1]);
        if (n + 1 >= sizeof plain) return false;
        if (!between) plain[n++] = *c;
    }
    plain[n] = '\0';
    double value = strtod(plain, &end);
    if (end == plain) return false;
    while (isspace((unsigned char)*end)) end++;
    if (*end) return false;
    *out = value;
    return true;
}

/* "8GB", "512MiB", "1.5G", "1000". */
static bool to_size(const char *text, int64_t *out) {
    static const struct {
        const char *unit;
        double scale;
    } units[] = {{"", 1},
                 {"B", 1},
                 {"K", 1e3},
                 {"KB", 1e3},
                 {"M", 1e6},
                 {"MB", 1e6},
                 {"G", 1e9},
                 {"GB", 1e9},
                 {"T", 1e12},
                 {"TB", 1e12},
                 {"KIB", 1024},
                 {"MIB", 1048576},
                 {"GIB", 1073741824},
                 {"TIB", 1099511627776.0}};
    size_t digits = strspn(text, "0123456789.");
    char number[64], unit[8] = "";
    if (!digits || digits >= sizeof number || strlen(text + digits) >= sizeof unit) return false;
    memcpy(number, text, digits);
    number[digits] = '\0';
    double value;
    if (!to_float(number, &value)) return false;
    for (size_t i = 0; text[digits + i]; i++) unit[i] = (char)toupper((unsigned char)text[digits + i]);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(unit, units[i].unit) != 0) continue;
        value *= units[i].scale;
        if (!(value >= 0 && value < 0x1p62)) return false;
        *out = (int64_t)value;
        return true;
    }
    return false;
}

/* Returns the choice of a "a|b|c" list that equals `text` as a word of its own, NULL if none. Argv's string stays valid
 * for the whole program, so it is what is stored. */
static bool is_choice(const char *choices, const char *text) {
    size_t length = strlen(text);
    for (const char *c = choices; c; c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL)
        if (strcspn(c, "|") == length && memcmp(c, text, length) == 0) return true;
    return false;
}

static int bad_choice(const parser *p, const arg_spec *s, const char *text) {
    char names[128], list[1024] = "";
    size_t used = 0;
    args_display_name(s, names, sizeof names);
    for (const char *c = s->choices; c && used < sizeof list; c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL)
        used +=
            (size_t)snprintf(list + used, sizeof list - used, "%s'%.*s'", used ? ", " : "", (int)strcspn(c, "|"), c);
    return args_error(p->prog, p->specs, "argument %s: invalid choice: '%s' (choose from %s)", names, text, list);
}

static int bad_value(const parser *p, const arg_spec *s, const char *type, const char *text) {
    char names[128];
    args_display_name(s, names, sizeof names);
    return args_error(p->prog, p->specs, "argument %s: invalid %s value: '%s'", names, type, text);
}

/* Stores one value; notes whether an unsupported option would change anything by it. Returns -1 or the exit code. */
static int store(parser *p, const arg_spec *s, const char *text) {
    bool changes = true;
    switch (s->kind) {
    case ARG_INT: {
        int64_t value, *at = s->value;
        if (!to_int(text, &value)) return bad_value(p, s, "int", text);
        changes = *at != value;
        *at = value;
        break;
    }
    case ARG_SIZE: {
        int64_t value, *at = s->value;
        if (!to_size(text, &value)) return bad_value(p, s, "size", text);
        changes = *at != value;
        *at = value;
        break;
    }
    case ARG_FLOAT: {
        double value, *at = s->value;
        if (!to_float(text, &value)) return bad_value(p, s, "float", text);
        changes = *at != value;
        *at = value;
        break;
    }
    case ARG_CHOICE:
        if (!is_choice(s->choices, text)) return bad_choice(p, s, text);
        /* fall through */
    case ARG_STRING: {
        const char **at = s->value;
        changes = !*at || strcmp(*at, text) != 0;
        *at = text;
        break;
    }
    case ARG_STRINGS: {
        arg_list *list = s->value;
        const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
        if (!items) return args_error(p->prog, p->specs, "out of memory");
        list->items = items;
        list->items[list->count++] = text;
        break;
    }
    case ARG_FLAG:
    case ARG_ON_OFF: break;
    }
    if (s->unsupported && changes && !p->refused) p->refused = s->unsupported;
    return -1;
}

static void store_bool(parser *p, const arg_spec *s, bool value) {
    bool *at = s->value;
    if (s->unsupported && *at != value && !p->refused) p->refused = s->unsupported;
    *at = value;
}

/* ---------------------------------------------------------------- acting */

static void note_given(parser *p, const arg_spec *s) {
    p->seen[s - p->specs] = true;
    if (s->given) *s->given = true;
}

/* A flag that has a value attached: "-xyz" are three flags, "--flag=v" is an error. Returns -1 or the exit code. */
static int act_flags(parser *p, size_t n_specs, const word *first) {
    word w = *first;
    char letters[3] = "-x";
    for (;;) {
        if (w.spec && w.spec->kind != ARG_FLAG && w.spec->kind != ARG_ON_OFF) {
            note_given(p, w.spec);
            return store(p, w.spec, w.inline_at);
        }
        const char *rest = w.inline_at;
        if (!rest || !*rest || !w.single_dash) {
            if (rest && !w.single_dash) {
                char names[128] = "-h/--help";
                if (w.spec) args_display_name(w.spec, names, sizeof names);
                return args_error(p->prog, p->specs, "argument %s: ignored explicit argument '%s'", names, rest);
            }
            rest = NULL;
        }
        if (w.help) return args_error(p->prog, p->specs, "argument -h/--help: ignored explicit argument '%s'", rest);
        note_given(p, w.spec);
        store_bool(p, w.spec, !w.negated);
        if (!rest) return -1;
        letters[1] = *rest;
        word next = {0};
        if (!find_exact(p, n_specs, letters, &next)) {
            char names[128];
            args_display_name(w.spec, names, sizeof names);
            return args_error(p->prog, p->specs, "argument %s: ignored explicit argument '%s'", names, rest);
        }
        next.single_dash = true;
        next.inline_at = rest[1] ? rest + 1 : NULL;
        w = next;
        if (w.spec && w.spec->kind != ARG_FLAG && w.spec->kind != ARG_ON_OFF && !w.inline_at) {
            char names[128];
            args_display_name(w.spec, names, sizeof names);
            return args_error(p->prog, p->specs, "argument %s: expected one argument", names);
        }
    }
}

/* Acts on the option at *at and moves *at past it and its values. Returns -1 or the exit code. */
static int act(parser *p, size_t n_specs, int *at) {
    const word *w = &p->words[*at];
    int next = *at + 1;
    if (w->help || w->spec->kind == ARG_FLAG || w->spec->kind == ARG_ON_OFF) {
        *at = next;
        return act_flags(p, n_specs, w);
    }
    const arg_spec *s = w->spec;
    note_given(p, s);
    if (s->kind == ARG_STRINGS) ((arg_list *)s->value)->count = 0; /* the last occurrence wins */
    if (w->inline_at) {
        *at = next;
        return store(p, s, w->inline_at);
    }
    int taken = 0, most = s->kind == ARG_STRINGS ? p->argc : 1;
    while (next < p->argc && taken < most && !p->words[next].option && strcmp(p->argv[next], "--") != 0) {
        int code = store(p, s, p->argv[next]);
        if (code >= 0) return code;
        next++, taken++;
    }
    if (!taken) {
        char names[128];
        args_display_name(s, names, sizeof names);
        return args_error(p->prog, p->specs, "argument %s: expected %s argument", names,
                          most == 1 ? "one" : "at least one");
    }
    *at = next;
    return -1;
}

static int check_end(const parser *p, size_t n_specs) {
    char text[2048] = "";
    size_t used = 0;
    for (size_t i = 0; i < n_specs && used < sizeof text; i++) {
        if (!p->specs[i].required || p->seen[i]) continue;
        char names[128];
        args_display_name(&p->specs[i], names, sizeof names);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? ", " : "", names);
    }
    if (used) return args_error(p->prog, p->specs, "the following arguments are required: %s", text);
    for (int i = 0; i < p->n_extras && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? " " : "", p->argv[p->extras[i]]);
    if (p->n_extras) return args_error(p->prog, p->specs, "unrecognized arguments: %s", text);
    if (!p->refused) return -1;
    fprintf(stderr, "%s: error: %s\n", p->prog, p->refused);
    return 1;
}

static int run_parser(parser *p, size_t n_specs, const char *description) {
    int code = classify(p, n_specs);
    if (code >= 0) return code;
    bool rest = false;
    for (int i = 1; i < p->argc;) {
        const word *w = &p->words[i];
        if (strcmp(p->argv[i], "--") == 0) rest = true;
        if (rest || !w->option || (!w->spec && !w->help)) {
            p->extras[p->n_extras++] = i++;
            continue;
        }
        if (w->help && !w->inline_at) {
            args_print_help(stdout, p->prog, description, p->specs);
            return 0;
        }
        code = act(p, n_specs, &i);
        if (code >= 0) return code;
    }
    return check_end(p, n_specs);
}

int args_parse(const char *prog, const char *description, const arg_spec *specs, int argc, char **argv) {
    size_t n_specs = count_specs(specs);
    size_t n_words = argc > 0 ? (size_t)argc : 1;
    parser p = {.prog = prog, .specs = specs, .argc = argc, .argv = argv};
    p.words = calloc(n_words, sizeof *p.words);
    p.extras = calloc(n_words, sizeof *p.extras);
    p.seen = calloc(n_specs + 1, sizeof *p.seen);
    int code = 1;
    if (p.words && p.extras && p.seen)
        code = run_parser(&p, n_specs, description);
    else
        fprintf(stderr, "%s: error: out of memory\n", prog);
    free(p.words);
    free(p.extras);
    free(p.seen);
    return code;
}

void args_list_free(arg_list *list) {
    free(list->items);
    list->items = NULL;
    list->count = 0;
}

/* ---------------------------------------------------------------- engine options */

lm_kv_type args_kv_type(int64_t bits, int64_t group) {
    const int b = bits < 0 ? 0 : bits > 255 ? 255 : (int)bits, g = group < 0 ? 0 : group > 255 ? 255 : (int)group;
    return LM_KV_AFFINE(b, g);
}

lm_engine_options engine_args_options(const engine_args *args) {
    static const struct {
        const char *text;
        lm_numerics value;
    } classes[] = {{"auto", LM_NUMERICS_AUTO},
                   {"f32", LM_NUMERICS_F32},
                   {"f16", LM_NUMERICS_F16},
                   {"bf16", LM_NUMERICS_BF16},
                   {"int8", LM_NUMERICS_INT8}};
    lm_engine_options o = lm_engine_options_default();
    o.device = args->device;
    /* A count the engine will refuse must stay refusable after narrowing. */
    o.threads = args->threads < -1 ? -1 : args->threads > 1 << 20 ? 1 << 20 : (int)args->threads;
    o.pin_threads = args->pin_threads;
    o.use_mmap = args->use_mmap;
    o.max_memory = args->max_memory;
    o.batch_invariant = args->batch_invariant;
    if (args->kv_given) o.kv_type = args_kv_type(args->kv_bits, args->kv_group);
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (args->numerics && strcmp(args->numerics, classes[i].text) == 0) o.numerics = classes[i].value;
    return o;
}
