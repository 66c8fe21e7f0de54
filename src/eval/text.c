/* SPDX-License-Identifier: MIT
 * text.c: text helpers of the evaluation: growing buffers, JSON strings and numbers as Python writes them, Python's
 * strip(), lines of a JSONL text. (Evaluation sees lm.h only, so base's helpers aren't at hand.) */
#include "internal.h"
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__APPLE__)
#include <xlocale.h>
#endif

#define MAX_TEXT ((size_t)1 << 31) /* no text of an evaluation comes near */

lm_status lm_ev_fail(lm_error *err, lm_status status, const char *format, ...) {
    if (err) {
        err->status = status;
        va_list args;
        va_start(args, format);
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        /* as the library's own lm_fail: hostile names cannot forge lines or terminal output */
        for (unsigned char *c = (unsigned char *)err->message; *c; c++) {
            if (*c < 0x20 || *c == 0x7f) *c = '?';
            if (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0) c[0] = c[1] = '?';
        }
    }
    return status;
}

static bool reserve(lm_ev_buf *buf, size_t more) {
    if (buf->failed) return false;
    if (more >= MAX_TEXT - buf->length) return !(buf->failed = true);
    size_t need = buf->length + more + 1;
    if (need <= buf->capacity) return true;
    size_t capacity = buf->capacity ? buf->capacity : 256;
    while (capacity < need) capacity *= 2;
    char *data = realloc(buf->data, capacity);
    if (!data) return !(buf->failed = true);
    buf->data = data;
    buf->capacity = capacity;
    return true;
}

void lm_ev_buf_add(lm_ev_buf *buf, const char *data, size_t length) {
    if (!reserve(buf, length)) return;
    if (length) memcpy(buf->data + buf->length, data, length);
    buf->length += length;
    buf->data[buf->length] = 0;
}

void lm_ev_buf_text(lm_ev_buf *buf, const char *text) {
    lm_ev_buf_add(buf, text, strlen(text));
}

/* vsnprintf with a point in numbers, whatever LC_NUMERIC a program around this library has set. */
static int format_text(char *text, size_t size, const char *format, va_list args) {
    locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0), before = c ? uselocale(c) : (locale_t)0;
    int n = vsnprintf(text, size, format, args);
    if (c) {
        uselocale(before);
        freelocale(c);
    }
    return n;
}

int lm_ev_format(char *text, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = format_text(text, size, format, args);
    va_end(args);
    return n;
}

void lm_ev_buf_format(lm_ev_buf *buf, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = format_text(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        buf->failed = true;
    else if (reserve(buf, (size_t)n)) {
        format_text(buf->data + buf->length, (size_t)n + 1, format, again);
        buf->length += (size_t)n;
    }
    va_end(again);
}

void lm_ev_buf_json(lm_ev_buf *buf, const char *text, size_t length) {
    lm_ev_buf_add(buf, "\"", 1);
    size_t start = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        lm_ev_buf_add(buf, text + start, i - start);
        start = i + 1;
        switch (c) {
        case '"': lm_ev_buf_text(buf, "\\\""); break;
        case '\\': lm_ev_buf_text(buf, "\\\\"); break;
        case '\n': lm_ev_buf_text(buf, "\\n"); break;
        case '\r': lm_ev_buf_text(buf, "\\r"); break;
        case '\t': lm_ev_buf_text(buf, "\\t"); break;
        case '\b': lm_ev_buf_text(buf, "\\b"); break;
        case '\f': lm_ev_buf_text(buf, "\\f"); break;
        default: lm_ev_buf_format(buf, "\\u%04x", c);
        }
    }
    lm_ev_buf_add(buf, text + start, length - start);
    lm_ev_buf_add(buf, "\"", 1);
}

void lm_ev_buf_double(lm_ev_buf *buf, double value) {
    if (!isfinite(value)) {
        lm_ev_buf_text(buf, isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
        return;
    }
    char text[32];
    lm_number_text(value, text);
    lm_ev_buf_text(buf, text);
}

void lm_ev_buf_free(lm_ev_buf *buf) {
    free(buf->data);
    *buf = (lm_ev_buf){0};
}

lm_status lm_ev_buf_take(lm_ev_buf *buf, char **text, size_t *length, lm_error *err) {
    lm_ev_buf_add(buf, "", 0);
    if (buf->failed) {
        lm_ev_buf_free(buf);
        return lm_ev_fail(err, LM_NOMEM, "out of memory for a text of the evaluation");
    }
    *text = buf->data;
    if (length) *length = buf->length;
    *buf = (lm_ev_buf){0};
    return LM_OK;
}

char *lm_ev_copy(const char *text, size_t length) {
    char *copy = malloc(length + 1);
    if (!copy) return NULL;
    memcpy(copy, text, length);
    copy[length] = 0;
    return copy;
}

/* ---- white space as Python's str.isspace sees it */

static bool is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Length of the white-space character at s[0..n), 0 if there is none. White space is at most three bytes long. */
static size_t space_at(const char *text, size_t n) {
    const unsigned char *s = (const unsigned char *)text;
    if (n >= 1 && s[0] < 0x80) return is_space(s[0]) ? 1 : 0;
    if (n >= 2 && (s[0] & 0xe0) == 0xc0) return is_space(((s[0] & 0x1fu) << 6) | (s[1] & 0x3fu)) ? 2 : 0;
    if (n >= 3 && (s[0] & 0xf0) == 0xe0)
        return is_space(((s[0] & 0x0fu) << 12) | ((s[1] & 0x3fu) << 6) | (s[2] & 0x3fu)) ? 3 : 0;
    return 0;
}

void lm_ev_strip(const char **text, size_t *length) {
    const char *s = *text;
    size_t n = *length, k;
    while (n && (k = space_at(s, n)) > 0) {
        s += k;
        n -= k;
    }
    for (;;) {
        k = 0;
        for (size_t width = 1; width <= 3 && width <= n && !k; width++)
            if (space_at(s + n - width, width) == width) k = width;
        if (!k) break;
        n -= k;
    }
    *text = s;
    *length = n;
}

size_t lm_ev_find(const char *text, size_t length, const char *needle, size_t needle_length) {
    if (needle_length == 0) return 0;
    for (size_t i = 0; needle_length <= length && i <= length - needle_length;) {
        const char *hit = memchr(text + i, needle[0], length - needle_length - i + 1);
        if (!hit) break;
        if (memcmp(hit, needle, needle_length) == 0) return (size_t)(hit - text);
        i = (size_t)(hit - text) + 1;
    }
    return length;
}

bool lm_ev_next_line(const char *text, size_t length, size_t *offset, size_t *number, const char **line, size_t *n) {
    while (*offset < length) {
        const char *start = text + *offset;
        const char *end = memchr(start, '\n', length - *offset);
        size_t size = end ? (size_t)(end - start) : length - *offset;
        *offset += size + (end != NULL);
        ++*number;
        const char *stripped = start;
        size_t left = size;
        lm_ev_strip(&stripped, &left);
        if (!left) continue;
        *line = start;
        *n = size;
        return true;
    }
    return false;
}

lm_status lm_ev_each_row(const char *name, const char *text, size_t length,
                         lm_status (*fn)(void *user, const json_t *row, lm_error *err), void *user, lm_error *err) {
    size_t offset = 0, number = 0, n = 0;
    const char *line = NULL;
    while (lm_ev_next_line(text, length, &offset, &number, &line, &n)) {
        json_error_t json_err;
        json_t *row = json_loadb(line, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &json_err);
        if (!row)
            return lm_ev_fail(err, LM_FORMAT, "%.400s:%zu: %s (column %d)", name, number, json_err.text,
                              json_err.column);
        lm_error inner = {LM_OK, ""};
        lm_status status = fn(user, row, &inner);
        json_decref(row);
        if (status != LM_OK) return lm_ev_fail(err, status, "%.400s:%zu: %.500s", name, number, inner.message);
    }
    return LM_OK;
}
