/* SPDX-License-Identifier: MIT
 * added_tokens.h: tokens that are found in the text before anything else sees it. */
#ifndef LM_TEXT_ADDED_TOKENS_H
#define LM_TEXT_ADDED_TOKENS_H
#include "base/json.h"
#include "text/vocab.h"

typedef struct lm_added_token {
    char *content;
    size_t length;
    int32_t id;
    bool special, lstrip, rstrip, single_word, normalized;
} lm_added_token;

/* A trie over bytes; children are sibling lists, the root is a table. */
typedef struct lm_trie_node {
    uint32_t child, sibling; /* 0: none */
    int32_t token;           /* -1: none */
    unsigned char byte;
} lm_trie_node;
typedef struct lm_trie {
    lm_trie_node *nodes;
    uint32_t n, cap;
    uint32_t root[256];
} lm_trie;

typedef struct lm_added_tokens {
    lm_added_token *items;
    size_t n, cap;
    lm_vocab index; /* content -> position in items (as the id) */
    lm_trie raw, normalized;
} lm_added_tokens;

void lm_added_tokens_free(lm_added_tokens *a);
/** Adds a token or, where its content is known, replaces its flags. */
lm_status lm_added_tokens_put(lm_added_tokens *a, const lm_added_token *token, const char *what, lm_error *err);
/** The token with this content, NULL. */
const lm_added_token *lm_added_tokens_find(const lm_added_tokens *a, const char *s, size_t length);
/** Builds a trie that finds token `item` by `text` (its content, normalized or not). */
lm_status lm_trie_add(lm_trie *trie, const char *text, size_t length, int32_t item, lm_error *err);
void lm_trie_free(lm_trie *trie);

/** A stretch of text: a token (item >= 0) or plain text (-1). */
typedef struct lm_added_span {
    size_t start, end;
    int32_t item;
} lm_added_span;
typedef struct lm_added_spans {
    lm_added_span *items;
    size_t n, cap;
} lm_added_spans;
/** Cuts text (valid UTF-8) at the tokens of `trie`: leftmost, longest. Appends to `out`. */
lm_status lm_added_tokens_cut(const lm_added_tokens *a, const lm_trie *trie, const char *text, size_t length,
                              lm_added_spans *out, lm_error *err);
#endif
