/* SPDX-License-Identifier: MIT
 * bpe.h: the BPE model of tokenizer.json: characters of a pre-token -> ids by merging pairs, lowest rank first. */
#ifndef LM_TEXT_BPE_H
#define LM_TEXT_BPE_H
#include "base/json.h"
#include "text/ids.h"
#include "text/vocab.h"
#include <stdatomic.h>

typedef struct lm_bpe_merge {
    uint64_t pair; /* left id << 32 | right id; ~0: free slot */
    uint32_t rank;
    int32_t id; /* what the pair becomes */
} lm_bpe_merge;

typedef struct lm_bpe {
    lm_vocab vocab; /* the model's own vocabulary, without added tokens */
    lm_bpe_merge *merges;
    uint32_t n_slots, n_merges;
    int32_t unk_id; /* -1: characters outside the vocabulary are dropped */
    bool fuse_unk, ignore_merges, byte_fallback;
    int32_t byte_ids[256];  /* of "<0xNN>", byte_fallback only */
    int32_t char_ids[1024]; /* of one-character tokens, by code point; -1 none */
    /* Per vocabulary entry: does merging the whole string give just its id? 0 not known yet, 1 yes, 2 no. Filled as
     * text comes by: most words of real text are one token, so this is the word cache. Relaxed atomics: any thread
     * computes the same answer. */
    _Atomic unsigned char *whole;
} lm_bpe;

/** Reads the "model" object. `what` names the file in errors. On failure the caller still calls lm_bpe_free. */
lm_status lm_bpe_init(lm_bpe *bpe, const json_t *model, const char *what, lm_error *err);
void lm_bpe_free(lm_bpe *bpe);

/** Working memory of one encode call; zero-initialise, free with lm_bpe_scratch_free. Holds the cache of split words.
 */
typedef struct lm_bpe_symbol lm_bpe_symbol;
typedef struct lm_bpe_candidate lm_bpe_candidate;
typedef struct lm_bpe_scratch {
    lm_bpe_symbol *symbols;
    size_t n_symbols, cap_symbols;
    lm_bpe_candidate *heap;
    size_t n_heap, cap_heap;
    struct lm_bpe_cached *cache;
    size_t cache_words;
    lm_ids cache_ids;
} lm_bpe_scratch;
void lm_bpe_scratch_free(lm_bpe_scratch *s);

/** Appends the ids of one pre-token (valid UTF-8, as the pre-tokenizers left it). Time is O(n log n). */
lm_status lm_bpe_encode(const lm_bpe *bpe, lm_bpe_scratch *scratch, const char *text, size_t length, lm_ids *out,
                        lm_error *err);
#endif
