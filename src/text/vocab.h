/* SPDX-License-Identifier: MIT
 * vocab.h: token strings and ids. Strings may hold any byte; an id may be missing (gaps). */
#ifndef LM_TEXT_VOCAB_H
#define LM_TEXT_VOCAB_H
#include "base/status.h"

#define LM_VOCAB_MAX_ID ((int64_t)1 << 24) /* ids are small in every real vocabulary; bounds the by_id table */

typedef struct lm_vocab_entry {
    uint32_t offset, length; /* in bytes[] */
    uint32_t hash;
    int32_t id;
} lm_vocab_entry;

typedef struct lm_vocab {
    char *bytes; /* every string is followed by a NUL */
    size_t n_bytes, cap_bytes;
    lm_vocab_entry *entries;
    uint32_t n, cap;
    uint32_t *slots; /* entry + 1, 0: free; n_slots is a power of two */
    uint32_t n_slots;
    int32_t *by_id; /* entry or -1 */
    int32_t n_ids;  /* largest id + 1 */
    uint32_t cap_ids;
} lm_vocab;

void lm_vocab_free(lm_vocab *v);
/** Room for `n` entries, so that adding does not rehash. */
lm_status lm_vocab_reserve(lm_vocab *v, size_t n, lm_error *err);
/** Adds a string that is not there yet. Of two strings with one id the later one is what the id reads as. */
lm_status lm_vocab_add(lm_vocab *v, const char *s, size_t length, int64_t id, const char *what, lm_error *err);
/** Entry index of a string, -1 if there is none. */
int32_t lm_vocab_find(const lm_vocab *v, const char *s, size_t length);
/** Entry index of an id, -1. */
static inline int32_t lm_vocab_entry_of(const lm_vocab *v, int64_t id) {
    return id >= 0 && id < v->n_ids ? v->by_id[id] : -1;
}
static inline const char *lm_vocab_text(const lm_vocab *v, int32_t entry) {
    return v->bytes + v->entries[entry].offset;
}
#endif
