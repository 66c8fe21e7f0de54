/* SPDX-License-Identifier: MIT
 * utf8.c: owns lossy UTF-8 decoding and the byte alphabet. */
#include "text/utf8.h"
#include <string.h>

/* Bounds of the second byte are what rules out overlong forms, surrogates and values past U+10FFFF. */
static bool second_ok(unsigned char lead, unsigned char b) {
    switch (lead) {
    case 0xe0: return b >= 0xa0 && b <= 0xbf;
    case 0xed: return b >= 0x80 && b <= 0x9f;
    case 0xf0: return b >= 0x90 && b <= 0xbf;
    case 0xf4: return b >= 0x80 && b <= 0x8f;
    default: return (b & 0xc0) == 0x80;
    }
}

static int sequence_length(unsigned char lead) {
    if (lead < 0x80) return 1;
    if (lead < 0xc2) return 0;
    if (lead < 0xe0) return 2;
    if (lead < 0xf0) return 3;
    return lead < 0xf5 ? 4 : 0;
}

static void emit_replacement(lm_utf8 *u, lm_buf *out) {
    lm_buf_add(out, "\xef\xbf\xbd", 3);
    u->replaced = true;
}

void lm_utf8_feed(lm_utf8 *u, unsigned char byte, lm_buf *out) {
    if (u->pending) {
        bool ok = u->pending == 1 ? second_ok(u->bytes[0], byte) : (byte & 0xc0) == 0x80;
        if (ok) {
            u->bytes[u->pending++] = byte;
            if (u->pending == u->need) {
                lm_buf_add(out, u->bytes, (size_t)u->need);
                u->replaced = u->need == 3 && !memcmp(u->bytes, "\xef\xbf\xbd", 3);
                u->pending = 0;
            }
            return;
        }
        u->pending = 0;
        emit_replacement(u, out);
    }
    int need = sequence_length(byte);
    if (need == 1) {
        lm_buf_addc(out, (char)byte);
        u->replaced = false;
    } else if (!need) {
        emit_replacement(u, out);
    } else {
        u->bytes[0] = byte;
        u->pending = 1;
        u->need = need;
    }
}

void lm_utf8_finish(lm_utf8 *u, lm_buf *out) {
    if (u->pending) emit_replacement(u, out);
    u->pending = 0;
}

/* Length of the valid prefix of text. */
static size_t valid_prefix(const char *text, size_t length) {
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    while (i < length) {
        if (s[i] < 0x80) {
            i++;
            continue;
        }
        size_t need = (size_t)sequence_length(s[i]);
        if (!need || need > length - i || !second_ok(s[i], s[i + 1])) return i;
        for (size_t k = 2; k < need; k++)
            if ((s[i + k] & 0xc0) != 0x80) return i;
        i += need;
    }
    return length;
}

bool lm_utf8_valid(const char *text, size_t length) {
    return valid_prefix(text, length) == length;
}

void lm_utf8_repair(const char *text, size_t length, lm_buf *out) {
    size_t good = valid_prefix(text, length);
    lm_buf_add(out, text, good);
    lm_utf8 u = {0};
    for (size_t i = good; i < length; i++) lm_utf8_feed(&u, (unsigned char)text[i], out);
    lm_utf8_finish(&u, out);
}

uint32_t lm_utf8_next(const char **p) {
    const unsigned char *s = (const unsigned char *)*p;
    if (s[0] < 0x80) {
        *p += 1;
        return s[0];
    }
    if (s[0] < 0xe0) {
        *p += 2;
        return (uint32_t)(s[0] & 31) << 6 | (s[1] & 63);
    }
    if (s[0] < 0xf0) {
        *p += 3;
        return (uint32_t)(s[0] & 15) << 12 | (uint32_t)(s[1] & 63) << 6 | (s[2] & 63);
    }
    *p += 4;
    return (uint32_t)(s[0] & 7) << 18 | (uint32_t)(s[1] & 63) << 12 | (uint32_t)(s[2] & 63) << 6 | (s[3] & 63);
}

/* Printable Latin-1 bytes stand for themselves; the other 68, in order, for U+0100 and up. */
static bool is_self(uint32_t b) {
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
}

uint32_t lm_byte_alphabet(unsigned char byte) {
    if (is_self(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    if (byte <= 0xa0) return 0x100u + 33u + (byte - 0x7fu);
    return 0x100u + 67u;
}

int lm_byte_alphabet_inverse(uint32_t c) {
    if (c <= 0xff) return is_self(c) ? (int)c : -1;
    if (c < 0x121) return (int)(c - 0x100);
    if (c < 0x143) return (int)(c - 0x121 + 0x7f);
    return c == 0x143 ? 0xad : -1;
}
