/* SPDX-License-Identifier: MIT */
#include "base/status.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *lm_status_text(lm_status status) {
    switch (status) {
#define LM_X(name, text) \
    case LM_##name: return text;
        LM_STATUS_MAP(LM_X)
#undef LM_X
    }
    return "unknown status";
}

void lm_free(void *memory) {
    free(memory);
}

/* Bytes of the UTF-8 character at p (terminated text), 0 if there is none: also where a message was cut. */
static size_t character(const unsigned char *p) {
    if (p[0] < 0x80) return 1;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool surrogate = p[0] == 0xed && p[1] > 0x9f, beyond = p[0] == 0xf4 && p[1] > 0x8f;
    return overlong || surrogate || beyond ? 0 : n;
}

/* Replaces what is no UTF-8, controls of ASCII, and those of Latin-1 (C2 80 to C2 9F), which terminals obey as well. */
static void sanitize(char *s) {
    for (unsigned char *p = (unsigned char *)s; *p;) {
        size_t n = character(p);
        if (!n || *p < 0x20 || *p == 0x7f) *p = '?';
        if (n == 2 && *p == 0xc2 && p[1] < 0xa0) p[0] = p[1] = '?';
        p += n ? n : 1;
    }
}

static lm_status fail_v(lm_error *err, lm_status status, const char *fmt, va_list args) {
    if (err) {
        err->status = status;
        vsnprintf(err->message, sizeof err->message, fmt, args);
        sanitize(err->message);
    }
    return status;
}

lm_status lm_fail(lm_error *err, lm_status status, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fail_v(err, status, fmt, args);
    va_end(args);
    return status;
}

lm_status lm_fail_prefix(lm_error *err, lm_status status, const char *fmt, ...) {
    if (!err) return status;
    char old[LM_ERROR_CAPACITY];
    memcpy(old, err->message, sizeof old);
    old[sizeof old - 1] = 0;
    va_list args;
    va_start(args, fmt);
    fail_v(err, status, fmt, args);
    va_end(args);
    size_t used = strlen(err->message);
    snprintf(err->message + used, sizeof err->message - used, "%s", old);
    return status;
}

lm_status lm_fail_nomem(lm_error *err, size_t bytes, const char *what) {
    return lm_fail(err, LM_NOMEM, "out of memory: %zu bytes for %s", bytes, what);
}
