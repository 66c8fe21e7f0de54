/* SPDX-License-Identifier: MIT
 * vocab.c: owns the string table of a tokenizer: one arena of bytes, one open-addressing hash. */
#include "text/vocab.h"
#include <stdlib.h>
#include <string.h>

void lm_vocab_free(lm_vocab *v) {
    free(v->bytes);
    free(v->entries);
    free(v->slots);
    free(v->by_id);
    memset(v, 0, sizeof *v);
}

/* Eight bytes a step, multiply and fold: strings are short, quality matters more than length. */
static uint32_t hash_bytes(const char *s, size_t length) {
    uint64_t h = 0x9e3779b97f4a7c15u ^ (uint64_t)length;
    while (length >= 8) {
        uint64_t w;
        memcpy(&w, s, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
        s += 8;
        length -= 8;
    }
    uint64_t w = 0;
    if (length) memcpy(&w, s, length);
    h = (h ^ w) * 0xff51afd7ed558ccdu;
    h ^= h >> 32;
    h *= 0xc4ceb9fe1a85ec53u;
    return (uint32_t)(h >> 32);
}

static lm_status rehash(lm_vocab *v, uint32_t n_slots, lm_error *err) {
    uint32_t *slots = calloc(n_slots, sizeof *slots);
    if (!slots) return lm_fail_nomem(err, n_slots * sizeof *slots, "vocabulary hash");
    for (uint32_t i = 0; i < v->n; i++) {
        uint32_t k = v->entries[i].hash & (n_slots - 1);
        while (slots[k]) k = (k + 1) & (n_slots - 1);
        slots[k] = i + 1;
    }
    free(v->slots);
    v->slots = slots;
    v->n_slots = n_slots;
    return LM_OK;
}

lm_status lm_vocab_reserve(lm_vocab *v, size_t n, lm_error *err) {
    if (n > (size_t)1 << 26) return lm_fail(err, LM_FORMAT, "vocabulary: %zu entries are more than supported", n);
    if (n > v->cap) {
        lm_vocab_entry *e = realloc(v->entries, n * sizeof *e);
        if (!e) return lm_fail_nomem(err, n * sizeof *e, "vocabulary");
        v->entries = e;
        v->cap = (uint32_t)n;
    }
    uint32_t slots = v->n_slots ? v->n_slots : 1024;
    while ((size_t)slots < n * 2) slots *= 2;
    return slots != v->n_slots ? rehash(v, slots, err) : LM_OK;
}

static lm_status reserve_id(lm_vocab *v, int32_t id, lm_error *err) {
    if (id < v->n_ids) return LM_OK;
    if ((uint32_t)id >= v->cap_ids) {
        uint32_t cap = v->cap_ids ? v->cap_ids : 1024;
        while (cap <= (uint32_t)id) cap *= 2;
        int32_t *p = realloc(v->by_id, cap * sizeof *p);
        if (!p) return lm_fail_nomem(err, cap * sizeof *p, "vocabulary ids");
        v->by_id = p;
        v->cap_ids = cap;
    }
    for (int32_t i = v->n_ids; i <= id; i++) v->by_id[i] = -1;
    v->n_ids = id + 1;
    return LM_OK;
}

lm_status lm_vocab_add(lm_vocab *v, const char *s, size_t length, int64_t id, const char *what, lm_error *err) {
    if (id < 0 || id >= LM_VOCAB_MAX_ID)
        return lm_fail(err, LM_FORMAT, "%s: id of token \"%.60s\": expected 0 to %lld, found %lld", what, s,
                       (long long)LM_VOCAB_MAX_ID - 1, (long long)id);
    LM_TRY(reserve_id(v, (int32_t)id, err));
    if (v->n >= v->cap) LM_TRY(lm_vocab_reserve(v, v->cap ? (size_t)v->cap * 2 : 512, err));
    if (length >= UINT32_MAX / 2 - v->n_bytes) return lm_fail(err, LM_FORMAT, "%s: token strings exceed 2 GiB", what);
    size_t need = v->n_bytes + length + 1;
    if (need > v->cap_bytes) {
        size_t cap = v->cap_bytes ? v->cap_bytes : 4096;
        while (cap < need) cap *= 2;
        char *p = realloc(v->bytes, cap);
        if (!p) return lm_fail_nomem(err, cap, "vocabulary strings");
        v->bytes = p;
        v->cap_bytes = cap;
    }
    lm_vocab_entry *e = &v->entries[v->n];
    *e = (lm_vocab_entry){(uint32_t)v->n_bytes, (uint32_t)length, hash_bytes(s, length), (int32_t)id};
    if (length) memcpy(v->bytes + v->n_bytes, s, length);
    v->bytes[v->n_bytes + length] = 0;
    v->n_bytes = need;
    uint32_t k = e->hash & (v->n_slots - 1);
    while (v->slots[k]) k = (k + 1) & (v->n_slots - 1);
    v->slots[k] = ++v->n;
    v->by_id[id] = (int32_t)v->n - 1;
    return LM_OK;
}

int32_t lm_vocab_find(const lm_vocab *v, const char *s, size_t length) {
    if (!v->n_slots) return -1;
    uint32_t h = hash_bytes(s, length);
    for (uint32_t k = h & (v->n_slots - 1); v->slots[k]; k = (k + 1) & (v->n_slots - 1)) {
        const lm_vocab_entry *e = &v->entries[v->slots[k] - 1];
        if (e->hash == h && e->length == length && !memcmp(v->bytes + e->offset, s, length))
            return (int32_t)(v->slots[k] - 1);
    }
    return -1;
}
