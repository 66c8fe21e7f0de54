/* SPDX-License-Identifier: MIT
 *
 * args_help.c: usage and help texts in argparse's layout: options in table order, wrapped to the terminal (COLUMNS,
 * else the terminal's width, else 80), help texts in column 24. */
#include "args_internal.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define HELP_COLUMN 24

static int text_width(void) {
    const char *columns = getenv("COLUMNS");
    long n = columns ? strtol(columns, NULL, 10) : 0;
    struct winsize size;
    if (n <= 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) n = size.ws_col;
    if (n <= 0) n = 80;
    if (n < 40) n = 40;
    if (n > 1000) n = 1000;
    return (int)n - 2;
}

void args_display_name(const arg_spec *spec, char *text, size_t size) {
    const char *slash = spec->alias ? "/" : "", *alias = spec->alias ? spec->alias : "";
    if (spec->kind == ARG_ON_OFF)
        snprintf(text, size, "%s%s%s/--no-%s", spec->name, slash, alias, spec->name + 2);
    else
        snprintf(text, size, "%s%s%s", spec->name, slash, alias);
}

/* What stands for the value: PROMPT_TOKENS, {a,b}, or nothing. */
static void value_text(const arg_spec *s, char *text, size_t size) {
    char one[256] = "";
    size_t n = 0;
    if (s->kind == ARG_CHOICE && s->choices) {
        n = (size_t)snprintf(one, sizeof one, "{%s}", s->choices);
        for (size_t i = 0; i < n && i < sizeof one; i++)
            if (one[i] == '|') one[i] = ',';
    } else {
        for (const char *c = s->name + strspn(s->name, "-"); *c && n + 1 < sizeof one; c++)
            one[n++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        one[n < sizeof one ? n : sizeof one - 1] = '\0';
    }
    if (s->kind == ARG_FLAG || s->kind == ARG_ON_OFF)
        text[0] = '\0';
    else if (s->kind == ARG_STRINGS)
        snprintf(text, size, " %s [%s ...]", one, one);
    else
        snprintf(text, size, " %s", one);
}

static void usage_part(const arg_spec *s, char *text, size_t size) {
    char value[600], inner[800];
    value_text(s, value, sizeof value);
    if (s->kind == ARG_ON_OFF)
        snprintf(inner, sizeof inner, "%s | --no-%s", s->name, s->name + 2);
    else
        snprintf(inner, sizeof inner, "%s%s", s->name, value);
    snprintf(text, size, s->required ? "%s" : "[%s]", inner);
}

void args_print_usage(FILE *f, const char *prog, const arg_spec *specs) {
    int width = text_width(), indent = (int)strlen("usage: ") + (int)strlen(prog), column = indent + 5;
    if (indent > width / 2) indent = 12;
    fprintf(f, "usage: %s [-h]", prog);
    for (const arg_spec *s = specs; s->name; s++) {
        char part[900];
        usage_part(s, part, sizeof part);
        int length = (int)strlen(part) + 1;
        if (column + length > width) {
            fprintf(f, "\n%*s", indent, "");
            column = indent;
        }
        fprintf(f, " %s", part);
        column += length;
    }
    fputc('\n', f);
}

/* Words of `text` from column HELP_COLUMN on. */
static void print_wrapped(FILE *f, const char *text, int width, int column) {
    if (column > HELP_COLUMN - 2) {
        fputc('\n', f);
        column = 0;
    }
    fprintf(f, "%*s", HELP_COLUMN - column, "");
    column = HELP_COLUMN;
    while (*text) {
        int length = (int)strcspn(text, " ");
        if (column + 1 + length > width && column > HELP_COLUMN) {
            fprintf(f, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        if (column > HELP_COLUMN) fputc(' ', f), column++;
        fprintf(f, "%.*s", length, text);
        column += length;
        text += length + (text[length] == ' ');
    }
    fputc('\n', f);
}

void args_print_help(FILE *f, const char *prog, const char *description, const arg_spec *specs) {
    int width = text_width();
    args_print_usage(f, prog, specs);
    if (description) fprintf(f, "\n%s\n", description);
    fprintf(f, "\noptions:\n  -h, --help            show this help message and exit\n");
    for (const arg_spec *s = specs; s->name; s++) {
        char value[600], left[1500];
        value_text(s, value, sizeof value);
        int n = snprintf(left, sizeof left, "  %s%s", s->name, value);
        if (s->alias) n += snprintf(left + n, sizeof left - (size_t)n, ", %s%s", s->alias, value);
        if (s->kind == ARG_ON_OFF) n += snprintf(left + n, sizeof left - (size_t)n, ", --no-%s", s->name + 2);
        fputs(left, f);
        if (s->help)
            print_wrapped(f, s->help, width, n);
        else
            fputc('\n', f);
    }
}
