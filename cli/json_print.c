/* SPDX-License-Identifier: MIT
 *
 * json_print.c: jansson values as Python's json.dumps writes them. jansson's own writer differs: upper-case escapes,
 * 17 digits in every float, no NaN. */
#include "common.h"
#include <math.h>
#include <string.h>

void cli_json_float(double value, char *text, size_t size) {
    if (isnan(value) || isinf(value)) {
        snprintf(text, size, "%s", isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
        return;
    }
    char shortest[32];
    lm_number_text(value, shortest);
    snprintf(text, size, "%s", shortest);
}

/* Decodes one code point of valid UTF-8 (jansson guarantees that). */
static uint32_t next_code(const unsigned char **s) {
    uint32_t c = *(*s)++;
    int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
    if (more) c &= 0x3fu >> more;
    while (more--) c = c << 6 | (*(*s)++ & 0x3fu);
    return c;
}

static void print_string(FILE *f, const char *text, size_t length, bool ascii) {
    const unsigned char *s = (const unsigned char *)text, *end = s + length;
    fputc('"', f);
    while (s < end) {
        static const char plain[] = "\"\\\n\r\t\f\b", escaped[] = "\"\\nrtfb";
        const char *hit = *s ? strchr(plain, *s) : NULL;
        if (hit) {
            fputc('\\', f);
            fputc(escaped[hit - plain], f);
            s++;
        } else if (*s < 32) {
            fprintf(f, "\\u%04x", *s++);
        } else if (*s < 128 || !ascii) {
            fputc(*s++, f);
        } else {
            uint32_t c = next_code(&s);
            if (c >= 0x10000) {
                c -= 0x10000;
                fprintf(f, "\\u%04x\\u%04x", 0xd800 + (c >> 10), 0xdc00 + (c & 0x3ff));
            } else {
                fprintf(f, "\\u%04x", c);
            }
        }
    }
    fputc('"', f);
}

static void new_line(FILE *f, int indent, int depth, bool first) {
    if (!first) fputc(',', f);
    if (indent)
        fprintf(f, "\n%*s", indent * depth, "");
    else if (!first)
        fputc(' ', f);
}

static void print_value(FILE *f, const json_t *value, int indent, bool ascii, int depth) {
    char text[64];
    bool first = true;
    switch (json_typeof(value)) {
    case JSON_NULL: fputs("null", f); break;
    case JSON_TRUE: fputs("true", f); break;
    case JSON_FALSE: fputs("false", f); break;
    case JSON_INTEGER: fprintf(f, "%" JSON_INTEGER_FORMAT, json_integer_value(value)); break;
    case JSON_REAL:
        cli_json_float(json_real_value(value), text, sizeof text);
        fputs(text, f);
        break;
    case JSON_STRING: print_string(f, json_string_value(value), json_string_length(value), ascii); break;
    case JSON_ARRAY: {
        fputc('[', f);
        for (size_t i = 0; i < json_array_size(value); i++, first = false) {
            new_line(f, indent, depth + 1, first);
            print_value(f, json_array_get(value, i), indent, ascii, depth + 1);
        }
        if (!first && indent) fprintf(f, "\n%*s", indent * depth, "");
        fputc(']', f);
        break;
    }
    case JSON_OBJECT: {
        fputc('{', f);
        /* The iterator interface takes a mutable object although it only reads. */
        json_t *object = (json_t *)(uintptr_t)value;
        for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it), first = false) {
            const char *key = json_object_iter_key(it);
            new_line(f, indent, depth + 1, first);
            print_string(f, key, strlen(key), ascii);
            fputs(": ", f);
            print_value(f, json_object_iter_value(it), indent, ascii, depth + 1);
        }
        if (!first && indent) fprintf(f, "\n%*s", indent * depth, "");
        fputc('}', f);
        break;
    }
    }
}

void cli_json_print(FILE *f, const json_t *value, int indent, bool ascii) {
    print_value(f, value, indent, ascii, 0);
}
