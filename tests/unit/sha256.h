/* SPDX-License-Identifier: MIT
 * sha256.h: FIPS 180-4's SHA-256 of a buffer, for comparing large tensors with goldens. */
#ifndef LM_TESTS_SHA256_H
#define LM_TESTS_SHA256_H
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static inline uint32_t sha_rotate(uint32_t x, int n) {
    return x >> n | x << (32 - n);
}

/* The first 32 fractional bits of a prime's square or cube root, which is where the constants come from. */
static inline uint32_t sha_fraction(double root) {
    return (uint32_t)((root - floor(root)) * 4294967296.0);
}

static inline void sha_block(uint32_t h[8], const uint32_t k[64], const uint8_t *p) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (sha_rotate(a, 7) ^ sha_rotate(a, 18) ^ a >> 3) +
               (sha_rotate(b, 17) ^ sha_rotate(b, 19) ^ b >> 10);
    }
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t t1 = s[7] + (sha_rotate(s[4], 6) ^ sha_rotate(s[4], 11) ^ sha_rotate(s[4], 25)) +
                      ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
        uint32_t t2 = (sha_rotate(s[0], 2) ^ sha_rotate(s[0], 13) ^ sha_rotate(s[0], 22)) +
                      ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
}

/* Hexadecimal digest of n bytes. */
static inline void sha256(const void *data, size_t n, char text[65]) {
    uint32_t h[8], k[64];
    uint8_t last[128] = {0};
    int found = 0;
    for (int c = 2; found < 64; c++) {
        int prime = 1;
        for (int d = 2; d * d <= c; d++) prime = prime && c % d;
        if (!prime) continue;
        if (found < 8) h[found] = sha_fraction(sqrt((double)c));
        k[found++] = sha_fraction(cbrt((double)c));
    }
    const uint8_t *p = data;
    size_t whole = n / 64 * 64, rest = n - whole, end = rest < 56 ? 64 : 128;
    for (size_t i = 0; i < whole; i += 64) sha_block(h, k, p + i);
    memcpy(last, p + whole, rest);
    last[rest] = 0x80;
    for (int i = 0; i < 8; i++) last[end - 1 - (size_t)i] = (uint8_t)((uint64_t)n * 8 >> (8 * i));
    for (size_t i = 0; i < end; i += 64) sha_block(h, k, last + i);
    for (int i = 0; i < 8; i++) snprintf(text + 8 * i, 9, "%08x", h[i]);
}
#endif
