/* SPDX-License-Identifier: MIT
 * added_tokens.c: owns finding added tokens in text and their lstrip, rstrip and single_word flags. */
#include "text/added_tokens.h"
#include "text/utf8.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define MAX_CONTENT 4096 /* bytes of one token: bounds the work per byte of text */

void lm_trie_free(lm_trie *trie) {
    free(trie->nodes);
    memset(trie, 0, sizeof *trie);
}

void lm_added_tokens_free(lm_added_tokens *a) {
    for (size_t i = 0; i < a->n; i++) free(a->items[i].content);
    free(a->items);
    lm_vocab_free(&a->index);
    lm_trie_free(&a->raw);
    lm_trie_free(&a->normalized);
    memset(a, 0, sizeof *a);
}

const lm_added_token *lm_added_tokens_find(const lm_added_tokens *a, const char *s, size_t length) {
    int32_t e = lm_vocab_find(&a->index, s, length);
    return e < 0 ? NULL : &a->items[a->index.entries[e].id];
}

lm_status lm_added_tokens_put(lm_added_tokens *a, const lm_added_token *token, const char *what, lm_error *err) {
    if (!token->length) return LM_OK;
    if (token->length > MAX_CONTENT)
        return lm_fail(err, LM_FORMAT, "%s: added token of %zu bytes, at most %d are supported", what, token->length,
                       MAX_CONTENT);
    int32_t e = lm_vocab_find(&a->index, token->content, token->length);
    if (e >= 0) {
        lm_added_token *old = &a->items[a->index.entries[e].id];
        char *content = old->content;
        *old = *token;
        old->content = content;
        return LM_OK;
    }
    if (a->n == a->cap) {
        size_t cap = a->cap ? a->cap * 2 : 32;
        lm_added_token *p = realloc(a->items, cap * sizeof *p);
        if (!p) return lm_fail_nomem(err, cap * sizeof *p, "added tokens");
        a->items = p;
        a->cap = cap;
    }
    LM_TRY(lm_vocab_add(&a->index, token->content, token->length, (int64_t)a->n, what, err));
    char *copy = malloc(token->length + 1);
    if (!copy) return lm_fail_nomem(err, token->length + 1, "added tokens");
    memcpy(copy, token->content, token->length);
    copy[token->length] = 0;
    a->items[a->n] = *token;
    a->items[a->n++].content = copy;
    return LM_OK;
}

/* ---------------------------------------------------------------- the trie */

static uint32_t find_child(const lm_trie *trie, uint32_t node, unsigned char byte) {
    if (!node) return trie->root[byte];
    uint32_t k = trie->nodes[node].child;
    while (k && trie->nodes[k].byte != byte) k = trie->nodes[k].sibling;
    return k;
}

lm_status lm_trie_add(lm_trie *trie, const char *text, size_t length, int32_t item, lm_error *err) {
    uint32_t node = 0; /* the root; nodes[0] is never used */
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        uint32_t next = find_child(trie, node, byte);
        if (!next) {
            if (trie->n + 1 >= trie->cap) {
                uint32_t cap = trie->cap ? trie->cap * 2 : 256;
                lm_trie_node *p = cap > (1u << 30) ? NULL : realloc(trie->nodes, cap * sizeof *p);
                if (!p) return lm_fail_nomem(err, (size_t)cap * sizeof *p, "added tokens");
                trie->nodes = p;
                trie->cap = cap;
                if (!trie->n) trie->n = 1;
            }
            next = trie->n++;
            trie->nodes[next] = (lm_trie_node){0, node ? trie->nodes[node].child : 0, -1, byte};
            if (node)
                trie->nodes[node].child = next;
            else
                trie->root[byte] = next;
        }
        node = next;
    }
    if (node && trie->nodes[node].token < 0) trie->nodes[node].token = item;
    return LM_OK;
}

/* The longest token that starts at text[at]; its end, or 0. */
static size_t longest(const lm_trie *trie, const char *text, size_t length, size_t at, int32_t *item) {
    size_t end = 0;
    uint32_t node = 0;
    for (size_t i = at; i < length; i++) {
        node = find_child(trie, node, (unsigned char)text[i]);
        if (!node) break;
        if (trie->nodes[node].token >= 0) {
            *item = trie->nodes[node].token;
            end = i + 1;
        }
    }
    return end;
}

/* ---------------------------------------------------------------- cutting */

static bool is_word(uint32_t c) {
    switch (utf8proc_category((int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9); /* Join_Control, circled letters */
    }
}

static bool is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Start of the character before `at` (> 0). */
static size_t previous(const char *text, size_t at) {
    do at--;
    while (at && ((unsigned char)text[at] & 0xc0) == 0x80);
    return at;
}

static uint32_t char_at(const char *text, size_t at) {
    const char *p = text + at;
    return lm_utf8_next(&p);
}

static lm_status push(lm_added_spans *out, lm_added_span span, lm_error *err) {
    if (out->n == out->cap) {
        size_t cap = out->cap ? out->cap * 2 : 32;
        lm_added_span *p = realloc(out->items, cap * sizeof *p);
        if (!p) return lm_fail_nomem(err, cap * sizeof *p, "text spans");
        out->items = p;
        out->cap = cap;
    }
    out->items[out->n++] = span;
    return LM_OK;
}

lm_status lm_added_tokens_cut(const lm_added_tokens *a, const lm_trie *trie, const char *text, size_t length,
                              lm_added_spans *out, lm_error *err) {
    size_t done = 0;
    for (size_t at = 0; trie->n && at < length;) {
        int32_t item = -1;
        size_t end = trie->root[(unsigned char)text[at]] ? longest(trie, text, length, at, &item) : 0;
        if (!end) {
            at++;
            continue;
        }
        const lm_added_token *t = &a->items[item];
        size_t start = at, stop = end;
        at = end; /* the search goes on behind the token itself, whatever the flags take */
        if (t->single_word && ((start && is_word(char_at(text, previous(text, start)))) ||
                               (stop < length && is_word(char_at(text, stop)))))
            continue;
        if (t->lstrip)
            while (start > done && is_space(char_at(text, previous(text, start)))) start = previous(text, start);
        if (t->rstrip)
            while (stop < length && is_space(char_at(text, stop))) {
                const char *p = text + stop;
                lm_utf8_next(&p);
                stop = (size_t)(p - text);
            }
        if (start > done) LM_TRY(push(out, (lm_added_span){done, start, -1}, err));
        LM_TRY(push(out, (lm_added_span){start, stop, item}, err));
        done = stop;
    }
    return done < length ? push(out, (lm_added_span){done, length, -1}, err) : LM_OK;
}
