/* SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void lm_buf_init(lm_buf *b, size_t max) {
    memset(b, 0, sizeof *b);
    b->max = max ? max : (size_t)1 << 30;
}

void lm_buf_free(lm_buf *b) {
    free(b->data);
    size_t max = b->max;
    memset(b, 0, sizeof *b);
    b->max = max;
}

void lm_buf_clear(lm_buf *b) {
    b->length = 0;
    b->failed = false;
    if (b->data) b->data[0] = 0;
}

static bool reserve(lm_buf *b, size_t extra) {
    if (b->failed) return false;
    if (extra > b->max || b->length > b->max - extra) {
        b->failed = true;
        return false;
    }
    size_t need = b->length + extra + 1;
    if (need <= b->capacity) return true;
    size_t cap = b->capacity ? b->capacity : 64;
    while (cap < need) cap *= 2;
    char *p = realloc(b->data, cap);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->data = p;
    b->capacity = cap;
    return true;
}

bool lm_buf_add(lm_buf *b, const void *data, size_t length) {
    if (!reserve(b, length)) return false;
    if (length) memcpy(b->data + b->length, data, length);
    b->length += length;
    b->data[b->length] = 0;
    return true;
}

bool lm_buf_adds(lm_buf *b, const char *s) {
    return lm_buf_add(b, s, strlen(s));
}
bool lm_buf_addc(lm_buf *b, char c) {
    return lm_buf_add(b, &c, 1);
}

bool lm_buf_addf(lm_buf *b, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    bool ok = n >= 0 && reserve(b, (size_t)n);
    if (ok) {
        vsnprintf(b->data + b->length, (size_t)n + 1, fmt, again);
        b->length += (size_t)n;
    } else {
        b->failed = true;
    }
    va_end(again);
    return ok;
}

bool lm_buf_add_utf8(lm_buf *b, uint32_t c) {
    char s[4];
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) c = 0xfffd;
    if (c < 0x80) {
        s[0] = (char)c;
        return lm_buf_add(b, s, 1);
    }
    if (c < 0x800) {
        s[0] = (char)(0xc0 | (c >> 6));
        s[1] = (char)(0x80 | (c & 63));
        return lm_buf_add(b, s, 2);
    }
    if (c < 0x10000) {
        s[0] = (char)(0xe0 | (c >> 12));
        s[1] = (char)(0x80 | ((c >> 6) & 63));
        s[2] = (char)(0x80 | (c & 63));
        return lm_buf_add(b, s, 3);
    }
    s[0] = (char)(0xf0 | (c >> 18));
    s[1] = (char)(0x80 | ((c >> 12) & 63));
    s[2] = (char)(0x80 | ((c >> 6) & 63));
    s[3] = (char)(0x80 | (c & 63));
    return lm_buf_add(b, s, 4);
}

char *lm_buf_take(lm_buf *b, size_t *length) {
    if (b->failed || !reserve(b, 0)) {
        lm_buf_free(b);
        return NULL;
    }
    char *p = b->data;
    p[b->length] = 0;
    if (length) *length = b->length;
    b->data = NULL;
    b->length = b->capacity = 0;
    return p;
}
