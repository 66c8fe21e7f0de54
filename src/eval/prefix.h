/* SPDX-License-Identifier: MIT
 * prefix.h: beginnings that were computed before: a radix tree over blocks of token ids whose nodes hold sequences, and
 * with them their keys and values, by reference. */
#ifndef LM_EVAL_PREFIX_H
#define LM_EVAL_PREFIX_H
#include "lm/lm.h"

typedef struct lm_ev_prefix_node lm_ev_prefix_node;
typedef struct lm_ev_prefix {
    lm_ev_prefix_node *first; /* blocks that begin a text */
    size_t n, most;           /* nodes: those here, and how many there may be */
    uint64_t clock;           /* counts uses */
} lm_ev_prefix;

/** Length of the longest beginning of ids[0, n_ids) that is here, and in `*seq` (borrowed until the tree changes) a
 *  sequence that holds it. The nodes on the way count as used now. */
size_t lm_ev_prefix_find(lm_ev_prefix *tree, const int32_t *ids, size_t n_ids, const lm_seq **seq);
/** Keeps the first n positions of `seq`, one node a block; drops the least recently used where there are too many. What
 *  there is no memory for isn't kept. */
void lm_ev_prefix_add(lm_ev_prefix *tree, const lm_seq *seq, size_t n);
/** Drops the least recently used node that nothing hangs from; none that was used in the last find or add unless
 *  `any`. False: there is none. */
bool lm_ev_prefix_drop(lm_ev_prefix *tree, bool any);
void lm_ev_prefix_clear(lm_ev_prefix *tree);
#endif
