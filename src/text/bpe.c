/* SPDX-License-Identifier: MIT
 * bpe.c: owns merging: symbols in a linked list, candidates in a binary heap ordered by rank and then by position, so
 * that a long run of one letter costs n log n. Reading the model from JSON is bpe_load.c. */
#include "text/bpe.h"
#include "text/utf8.h"
#include <string.h>

struct lm_bpe_symbol {
    int32_t id;         /* -1: merged into its left neighbour */
    int32_t prev, next; /* -1: none */
};

struct lm_bpe_candidate {
    uint32_t rank;
    int32_t pos; /* the left symbol */
    int32_t id;  /* what the pair would become */
};

/* A word that is several tokens. Direct-mapped, words of at most 16 bytes: enough to skip most of the merging left. */
#define CACHE_SLOTS 4096
#define CACHE_WORD 16
struct lm_bpe_cached {
    char word[CACHE_WORD];
    unsigned char length; /* 0: free */
    unsigned char n_ids;
    uint32_t first; /* in cache_ids */
};

void lm_bpe_scratch_free(lm_bpe_scratch *s) {
    free(s->symbols);
    free(s->heap);
    free(s->cache);
    free(s->cache_ids.data);
    memset(s, 0, sizeof *s);
}

void lm_bpe_free(lm_bpe *bpe) {
    lm_vocab_free(&bpe->vocab);
    free(bpe->merges);
    free((void *)bpe->whole);
    memset(bpe, 0, sizeof *bpe);
}

static const lm_bpe_merge *find_merge(const lm_bpe *bpe, int32_t left, int32_t right) {
    if (!bpe->n_slots) return NULL;
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint32_t k = (uint32_t)((pair * 0x9e3779b97f4a7c15u) >> 32) & (bpe->n_slots - 1);
    for (;; k = (k + 1) & (bpe->n_slots - 1)) {
        const lm_bpe_merge *m = &bpe->merges[k];
        if (m->pair == pair) return m;
        if (m->pair == UINT64_MAX) return NULL;
    }
}

/* ---------------------------------------------------------------- the heap */

static bool before(const lm_bpe_candidate *a, const lm_bpe_candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->pos < b->pos;
}

static lm_status heap_push(lm_bpe_scratch *s, lm_bpe_candidate c, lm_error *err) {
    if (s->n_heap == s->cap_heap) {
        size_t cap = s->cap_heap ? s->cap_heap * 2 : 128;
        lm_bpe_candidate *p = realloc(s->heap, cap * sizeof *p);
        if (!p) return lm_fail_nomem(err, cap * sizeof *p, "merge candidates");
        s->heap = p;
        s->cap_heap = cap;
    }
    size_t i = s->n_heap++;
    while (i) {
        size_t up = (i - 1) / 2;
        if (!before(&c, &s->heap[up])) break;
        s->heap[i] = s->heap[up];
        i = up;
    }
    s->heap[i] = c;
    return LM_OK;
}

static lm_bpe_candidate heap_pop(lm_bpe_scratch *s) {
    lm_bpe_candidate top = s->heap[0], last = s->heap[--s->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= s->n_heap) break;
        if (child + 1 < s->n_heap && before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!before(&s->heap[child], &last)) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    if (s->n_heap) s->heap[i] = last;
    return top;
}

static lm_status offer(const lm_bpe *bpe, lm_bpe_scratch *s, int32_t left, int32_t right, lm_error *err) {
    const lm_bpe_merge *m = find_merge(bpe, s->symbols[left].id, s->symbols[right].id);
    return m ? heap_push(s, (lm_bpe_candidate){m->rank, left, m->id}, err) : LM_OK;
}

/* ---------------------------------------------------------------- symbols */

static lm_status add_symbol(lm_bpe_scratch *s, int32_t id, lm_error *err) {
    if (s->n_symbols == s->cap_symbols) {
        size_t cap = s->cap_symbols ? s->cap_symbols * 2 : 128;
        lm_bpe_symbol *p = cap > INT32_MAX ? NULL : realloc(s->symbols, cap * sizeof *p);
        if (!p) return lm_fail_nomem(err, cap * sizeof *p, "symbols of a word");
        s->symbols = p;
        s->cap_symbols = cap;
    }
    int32_t n = (int32_t)s->n_symbols++;
    s->symbols[n] = (lm_bpe_symbol){id, n - 1, -1};
    if (n) s->symbols[n - 1].next = n;
    return LM_OK;
}

static bool all_bytes_known(const lm_bpe *bpe, const char *from, const char *to) {
    for (; from < to; from++)
        if (bpe->byte_ids[(unsigned char)*from] < 0) return false;
    return true;
}

/* One symbol a character; outside the vocabulary: its bytes, else the unknown token, else nothing. */
static lm_status split_characters(const lm_bpe *bpe, lm_bpe_scratch *s, const char *text, size_t length,
                                  lm_error *err) {
    const char *p = text, *end = text + length;
    bool unk_pending = false;
    s->n_symbols = 0;
    while (p < end) {
        const char *from = p;
        uint32_t c = lm_utf8_next(&p);
        int32_t id = -1;
        if (c < 1024) {
            id = bpe->char_ids[c];
        } else {
            int32_t e = lm_vocab_find(&bpe->vocab, from, (size_t)(p - from));
            if (e >= 0) id = bpe->vocab.entries[e].id;
        }
        if (id >= 0) {
            if (unk_pending) LM_TRY(add_symbol(s, bpe->unk_id, err));
            unk_pending = false;
            LM_TRY(add_symbol(s, id, err));
        } else if (bpe->byte_fallback && all_bytes_known(bpe, from, p)) {
            for (; from < p; from++) LM_TRY(add_symbol(s, bpe->byte_ids[(unsigned char)*from], err));
        } else if (bpe->unk_id >= 0) {
            if (unk_pending && !bpe->fuse_unk) LM_TRY(add_symbol(s, bpe->unk_id, err));
            unk_pending = true;
        }
    }
    if (unk_pending) LM_TRY(add_symbol(s, bpe->unk_id, err));
    return LM_OK;
}

/* Leaves the merged word as the live symbols of the list that starts at 0. */
static lm_status merge_word(const lm_bpe *bpe, lm_bpe_scratch *s, const char *text, size_t length, lm_error *err) {
    LM_TRY(split_characters(bpe, s, text, length, err));
    lm_bpe_symbol *sym = s->symbols;
    s->n_heap = 0;
    for (size_t i = 0; i + 1 < s->n_symbols; i++) LM_TRY(offer(bpe, s, (int32_t)i, (int32_t)i + 1, err));
    while (s->n_heap) {
        lm_bpe_candidate c = heap_pop(s);
        lm_bpe_symbol *left = &sym[c.pos];
        if (left->id < 0 || left->next < 0) continue;
        int32_t right = left->next;
        /* Stale unless the pair now there still becomes the same token. (The reference compares the result, not the
         * rank; so do we.) */
        const lm_bpe_merge *m = find_merge(bpe, left->id, sym[right].id);
        if (!m || m->id != c.id) continue;
        left->id = c.id;
        left->next = sym[right].next;
        sym[right].id = -1;
        if (left->next >= 0) sym[left->next].prev = c.pos;
        if (left->prev >= 0) LM_TRY(offer(bpe, s, left->prev, c.pos, err));
        if (left->next >= 0) LM_TRY(offer(bpe, s, c.pos, left->next, err));
    }
    return LM_OK;
}

static lm_status take_symbols(const lm_bpe_scratch *s, lm_ids *out, lm_error *err) {
    for (int32_t i = s->n_symbols ? 0 : -1; i >= 0; i = s->symbols[i].next)
        LM_TRY(lm_ids_add(out, s->symbols[i].id, err));
    return LM_OK;
}

/* ---------------------------------------------------------------- words */

/* Is this vocabulary entry what merging its own characters gives? */
static lm_status is_whole(const lm_bpe *bpe, lm_bpe_scratch *s, int32_t entry, const char *text, size_t length,
                          bool *whole, lm_error *err) {
    unsigned char known = atomic_load_explicit(&bpe->whole[entry], memory_order_relaxed);
    if (!known) {
        LM_TRY(merge_word(bpe, s, text, length, err));
        bool one = s->n_symbols && s->symbols[0].next < 0 && s->symbols[0].id == bpe->vocab.entries[entry].id;
        known = one ? 1 : 2;
        atomic_store_explicit(&bpe->whole[entry], known, memory_order_relaxed);
    }
    *whole = known == 1;
    return LM_OK;
}

static struct lm_bpe_cached *cache_slot(lm_bpe_scratch *s, const char *text, size_t length) {
    if (length > CACHE_WORD) return NULL;
    if (!s->cache) {
        if (++s->cache_words < 64) return NULL; /* a short text never pays for the table */
        s->cache = calloc(CACHE_SLOTS, sizeof *s->cache);
        if (!s->cache) return NULL; /* only a cache */
    }
    uint64_t a = 0, b = 0;
    memcpy(&a, text, length < 8 ? length : 8);
    if (length > 8) memcpy(&b, text + 8, length - 8);
    uint64_t h = (a ^ (b * 0xc4ceb9fe1a85ec53u) ^ length) * 0x9e3779b97f4a7c15u;
    return &s->cache[(h >> 40) & (CACHE_SLOTS - 1)];
}

lm_status lm_bpe_encode(const lm_bpe *bpe, lm_bpe_scratch *s, const char *text, size_t length, lm_ids *out,
                        lm_error *err) {
    if (!length) return LM_OK;
    int32_t entry = lm_vocab_find(&bpe->vocab, text, length);
    if (entry >= 0) {
        bool whole = bpe->ignore_merges;
        if (!whole) LM_TRY(is_whole(bpe, s, entry, text, length, &whole, err));
        if (whole) return lm_ids_add(out, bpe->vocab.entries[entry].id, err);
    }
    struct lm_bpe_cached *slot = cache_slot(s, text, length);
    if (slot && slot->length == length && !memcmp(slot->word, text, length)) {
        for (uint32_t i = 0; i < slot->n_ids; i++) LM_TRY(lm_ids_add(out, s->cache_ids.data[slot->first + i], err));
        return LM_OK;
    }
    size_t start = out->n;
    LM_TRY(merge_word(bpe, s, text, length, err));
    LM_TRY(take_symbols(s, out, err));
    size_t n = out->n - start;
    if (slot && n <= 255 && s->cache_ids.n < (size_t)1 << 20) {
        slot->first = (uint32_t)s->cache_ids.n;
        slot->length = 0;
        for (size_t i = 0; i < n; i++) LM_TRY(lm_ids_add(&s->cache_ids, out->data[start + i], err));
        memcpy(slot->word, text, length);
        slot->length = (unsigned char)length;
        slot->n_ids = (unsigned char)n;
    }
    return LM_OK;
}
