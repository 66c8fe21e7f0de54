/* SPDX-License-Identifier: MIT
 *
 * prefix.c: a radix tree over blocks of token ids. A node stands for one block after those of its ancestors
 * and holds a fork of a sequence that ends with the block: keys and values are shared, not copied. Only a full block
 * has children; the last one of a text may be shorter, and a longer one that begins alike replaces it. A beginning may
 * end anywhere in a block: whoever forks there and goes on gets a copy of that block alone. */
#include "prefix.h"
#include <stdlib.h>
#include <string.h>

#define BLOCK ((size_t)256) /* positions that the engine shares as a whole; another size would cost time only */

struct lm_ev_prefix_node {
    lm_ev_prefix_node *parent, *child, *next; /* next: sibling */
    lm_seq *seq;                              /* holds start + n positions */
    size_t start, n;                          /* ids [start, start + n) of it are this node's */
    uint64_t used;
};

static lm_ev_prefix_node **children_of(lm_ev_prefix *tree, lm_ev_prefix_node *node) {
    return node ? &node->child : &tree->first;
}

static size_t common(const int32_t *a, const int32_t *b, size_t most) {
    size_t n = 0;
    while (n < most && a[n] == b[n]) n++;
    return n;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* The child that shares most with ids[start, end), and how much. */
static lm_ev_prefix_node *best_child(lm_ev_prefix_node *child, const int32_t *ids, size_t start, size_t end,
                                     size_t *shared) {
    lm_ev_prefix_node *best = NULL;
    *shared = 0;
    for (; child; child = child->next) {
        size_t n = common(lm_seq_tokens(child->seq) + start, ids + start, least(child->n, end - start));
        if (n > *shared) {
            *shared = n;
            best = child;
        }
    }
    return best;
}

size_t lm_ev_prefix_find(lm_ev_prefix *tree, const int32_t *ids, size_t n_ids, const lm_seq **seq) {
    lm_ev_prefix_node *node = NULL;
    size_t found = 0, shared;
    uint64_t now = ++tree->clock;
    *seq = NULL;
    do {
        lm_ev_prefix_node *child = best_child(*children_of(tree, node), ids, found, n_ids, &shared);
        if (!child) break;
        child->used = now;
        found += shared;
        node = child;
    } while (shared == BLOCK);
    if (node) *seq = node->seq;
    return found;
}

static void remove_node(lm_ev_prefix *tree, lm_ev_prefix_node *node) {
    lm_ev_prefix_node **at = children_of(tree, node->parent);
    while (*at != node) at = &(*at)->next;
    *at = node->next;
    lm_seq_destroy(node->seq);
    free(node);
    tree->n--;
}

static lm_ev_prefix_node *add_node(lm_ev_prefix *tree, lm_ev_prefix_node *parent, const lm_seq *seq, size_t start,
                                   size_t n) {
    lm_ev_prefix_node *node = calloc(1, sizeof *node), **at = children_of(tree, parent);
    if (!node || lm_seq_fork(seq, (int64_t)(start + n), &node->seq, NULL) != LM_OK) {
        free(node);
        return NULL;
    }
    node->parent = parent;
    node->start = start;
    node->n = n;
    node->next = *at;
    *at = node;
    tree->n++;
    return node;
}

void lm_ev_prefix_add(lm_ev_prefix *tree, const lm_seq *seq, size_t n) {
    const int32_t *ids = lm_seq_tokens(seq);
    lm_ev_prefix_node *node = NULL;
    uint64_t now = ++tree->clock;
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t shared, piece = least(n - start, BLOCK);
        lm_ev_prefix_node *child = best_child(*children_of(tree, node), ids, start, start + piece, &shared);
        if (child && shared == child->n && shared < piece) { /* the longer one takes its place */
            remove_node(tree, child);
            child = NULL;
        }
        if (!child || shared < piece) child = add_node(tree, node, seq, start, piece);
        if (!child) break;
        child->used = now;
        if (child->n < BLOCK) break;
        node = child;
    }
    while (tree->n > tree->most && lm_ev_prefix_drop(tree, true)) {
    }
}

/* The least recently used leaf below `child`. */
static lm_ev_prefix_node *oldest_leaf(lm_ev_prefix_node *child, lm_ev_prefix_node *oldest) {
    for (; child; child = child->next) {
        if (child->child)
            oldest = oldest_leaf(child->child, oldest);
        else if (!oldest || child->used < oldest->used)
            oldest = child;
    }
    return oldest;
}

bool lm_ev_prefix_drop(lm_ev_prefix *tree, bool any) {
    lm_ev_prefix_node *oldest = oldest_leaf(tree->first, NULL);
    if (!oldest || (!any && oldest->used == tree->clock)) return false;
    remove_node(tree, oldest);
    return true;
}

void lm_ev_prefix_clear(lm_ev_prefix *tree) {
    while (lm_ev_prefix_drop(tree, true)) {
    }
}
