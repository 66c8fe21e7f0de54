/* SPDX-License-Identifier: MIT
 * sha256.c: SHA-256 (FIPS 180-4), for fingerprints of the data and of prompts. The round constants are computed from
 * the standard's definition (fractional parts of roots of primes) in integers. */
#include "internal.h"
#include <stdio.h>
#include <string.h>

typedef struct sha {
    uint32_t state[8], k[64];
} sha;

/* floor(2^32 * frac(p^(1/root))) for root 2 or 3: the largest x with x^root <= p * 2^(32*root), low 32 bits. */
static uint32_t root_bits(uint32_t p, int root) {
    uint64_t lo = 0, hi = (uint64_t)1 << 37;
    while (hi - lo > 1) {
        uint64_t mid = lo + (hi - lo) / 2;
        unsigned __int128 square = (unsigned __int128)mid * mid;
        bool below;
        if (root == 2) {
            below = square <= (unsigned __int128)p << 64;
        } else { /* mid^3 <= p * 2^96, without 192-bit numbers: compare high parts, then low ones */
            unsigned __int128 low = (unsigned __int128)(uint64_t)square * mid;
            unsigned __int128 high = (unsigned __int128)(uint64_t)(square >> 64) * mid + (low >> 64);
            unsigned __int128 bound = (unsigned __int128)p << 32;
            below = high < bound || (high == bound && (uint64_t)low == 0);
        }
        if (below)
            lo = mid;
        else
            hi = mid;
    }
    return (uint32_t)lo;
}

static void sha_start(sha *s) {
    int n = 0;
    for (uint32_t p = 2; n < 64; p++) {
        bool prime = true;
        for (uint32_t d = 2; d * d <= p; d++)
            if (p % d == 0) prime = false;
        if (!prime) continue;
        if (n < 8) s->state[n] = root_bits(p, 2);
        s->k[n++] = root_bits(p, 3);
    }
}

static uint32_t rotr(uint32_t x, int n) {
    return (x >> n) | (x << (32 - n));
}

static void sha_block(sha *s, const unsigned char *block) {
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 |
               block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotr(a, 7) ^ rotr(a, 18) ^ (a >> 3)) + w[i - 7] + (rotr(b, 17) ^ rotr(b, 19) ^ (b >> 10));
    }
    memcpy(v, s->state, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t e = v[4], a = v[0];
        uint32_t t1 = v[7] + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & v[5]) ^ (~e & v[6])) + s->k[i] + w[i];
        uint32_t t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) s->state[i] += v[i];
}

void lm_ev_sha256(const void *data, size_t length, char hex[65]) {
    static const unsigned char nothing;
    sha s;
    sha_start(&s);
    const unsigned char *bytes = data ? data : &nothing;
    size_t whole = length / 64 * 64, left = length - whole;
    for (size_t i = 0; i < whole; i += 64) sha_block(&s, bytes + i);
    unsigned char tail[128] = {0};
    if (left) memcpy(tail, bytes + whole, left);
    tail[left] = 0x80;
    size_t padded = left < 56 ? 64 : 128;
    uint64_t bits = (uint64_t)length * 8;
    for (size_t i = 0; i < 8; i++) tail[padded - 1 - i] = (unsigned char)(bits >> (8 * i));
    for (size_t i = 0; i < padded; i += 64) sha_block(&s, tail + i);
    for (int i = 0; i < 8; i++) snprintf(hex + 8 * i, 9, "%08x", (unsigned)s.state[i]);
}
