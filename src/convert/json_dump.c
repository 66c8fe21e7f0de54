/* SPDX-License-Identifier: MIT
 * json_dump.c: JSON as Python's json.dump(value, indent=4) writes it: ASCII with \u escapes, shortest floats. */
#include "base/number.h"
#include "convert/plan.h"
#include <stdlib.h>
#include <string.h>

static uint32_t next_code(const char **p) {
    const unsigned char *s = (const unsigned char *)*p; /* jansson only holds valid UTF-8 */
    uint32_t c = s[0];
    int more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    if (more) c &= 0x3fu >> more;
    for (int i = 1; i <= more; i++) c = c << 6 | (s[i] & 0x3f);
    *p += more + 1;
    return c;
}

static void add_string(lm_buf *b, const char *s, size_t length) {
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    lm_buf_addc(b, '"');
    for (const char *end = s + length; s < end;) {
        uint32_t c = next_code(&s);
        const char *special = c && c < 0x80 ? strchr(plain, (int)c) : NULL;
        if (special) {
            lm_buf_addc(b, '\\');
            lm_buf_addc(b, letters[special - plain]);
        } else if (c >= 0x20 && c < 0x7f)
            lm_buf_addc(b, (char)c);
        else if (c >= 0x10000)
            lm_buf_addf(b, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
        else
            lm_buf_addf(b, "\\u%04x", c);
    }
    lm_buf_addc(b, '"');
}

static void new_line(lm_buf *b, int depth) {
    lm_buf_addc(b, '\n');
    for (int i = 0; i < 4 * depth; i++) lm_buf_addc(b, ' ');
}

static void add_value(lm_buf *b, const json_t *v, int depth, bool sort);

typedef struct member {
    const char *key;
    json_t *value;
} member;

static int by_key(const void *a, const void *b) {
    return strcmp(((const member *)a)->key, ((const member *)b)->key);
}

static void add_object(lm_buf *b, const json_t *v, int depth, bool sort) {
    size_t n = json_object_size(v), i = 0;
    member *members = calloc(n + 1, sizeof *members);
    const char *key;
    json_t *value;
    if (!members) {
        b->failed = true;
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)v, key, value) members[i++] = (member){key, value};
    if (sort) qsort(members, n, sizeof *members, by_key);
    lm_buf_addc(b, '{');
    for (i = 0; i < n; i++) {
        if (i) lm_buf_addc(b, ',');
        new_line(b, depth + 1);
        add_string(b, members[i].key, strlen(members[i].key));
        lm_buf_adds(b, ": ");
        add_value(b, members[i].value, depth + 1, false);
    }
    if (n) new_line(b, depth);
    lm_buf_addc(b, '}');
    free(members);
}

static void add_array(lm_buf *b, const json_t *v, int depth) {
    size_t n = json_array_size(v);
    lm_buf_addc(b, '[');
    for (size_t i = 0; i < n; i++) {
        if (i) lm_buf_addc(b, ',');
        new_line(b, depth + 1);
        add_value(b, json_array_get(v, i), depth + 1, false);
    }
    if (n) new_line(b, depth);
    lm_buf_addc(b, ']');
}

/* Depth is bounded by the parser that made the value. */
static void add_value(lm_buf *b, const json_t *v, int depth, bool sort) {
    char text[32];
    switch (json_typeof(v)) {
    case JSON_OBJECT: add_object(b, v, depth, sort); break;
    case JSON_ARRAY: add_array(b, v, depth); break;
    case JSON_STRING: add_string(b, json_string_value(v), json_string_length(v)); break;
    case JSON_INTEGER: lm_buf_addf(b, "%lld", (long long)json_integer_value(v)); break;
    case JSON_REAL: lm_number_text(json_real_value(v), text), lm_buf_adds(b, text); break;
    case JSON_TRUE: lm_buf_adds(b, "true"); break;
    case JSON_FALSE: lm_buf_adds(b, "false"); break;
    case JSON_NULL: lm_buf_adds(b, "null"); break;
    }
}

bool cv_json_dump(lm_buf *out, const json_t *value, bool sort_top) {
    add_value(out, value, 0, sort_top);
    return !out->failed;
}
