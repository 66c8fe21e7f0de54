/* SPDX-License-Identifier: MIT
 * test_prefix.c: the radix tree of beginnings, over sequences that are ids only (this file defines the functions of
 * lm.h that the tree uses): what is found, what is held, what goes first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "eval/prefix.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

struct lm_seq {
    int32_t *ids;
    size_t n;
};
static int live, fail_fork;

static lm_seq *sequence(const int32_t *ids, size_t n) {
    lm_seq *s = malloc(sizeof *s);
    s->ids = malloc((n + 1) * sizeof *ids);
    memcpy(s->ids, ids, n * sizeof *ids);
    s->n = n;
    live++;
    return s;
}
lm_status lm_seq_fork(const lm_seq *seq, int64_t n, lm_seq **out, lm_error *err) {
    (void)err;
    assert_true((size_t)n <= seq->n);
    if (fail_fork && --fail_fork == 0) return LM_NOMEM;
    *out = sequence(seq->ids, (size_t)n);
    return LM_OK;
}
void lm_seq_destroy(lm_seq *seq) {
    if (!seq) return;
    live--;
    free(seq->ids);
    free(seq);
}
const int32_t *lm_seq_tokens(const lm_seq *seq) {
    return seq->ids;
}

/* A text: `shared` ids that depend on their place, then n - shared of its own. */
static size_t text(int32_t *ids, size_t shared, size_t n, int32_t own) {
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)(i < shared ? i * 7 % 1000 : 2000 + i % 5 + 10 * (size_t)own);
    return n;
}

static void add(lm_ev_prefix *tree, size_t shared, size_t n, int32_t own) {
    int32_t ids[2000];
    lm_seq *s = sequence(ids, text(ids, shared, n, own));
    lm_ev_prefix_add(tree, s, n);
    lm_seq_destroy(s); /* the tree holds what it needs */
}

static size_t find(lm_ev_prefix *tree, size_t shared, size_t n, int32_t own) {
    int32_t ids[2000];
    const lm_seq *seq;
    size_t found = lm_ev_prefix_find(tree, ids, text(ids, shared, n, own), &seq);
    if (!found) return 0;
    assert_true(seq->n >= found);
    assert_memory_equal(seq->ids, ids, found * sizeof *ids);
    return found;
}

static void test_find(void **state) {
    (void)state;
    lm_ev_prefix tree = {.most = 100};
    assert_int_equal(find(&tree, 10, 10, 1), 0);
    add(&tree, 700, 1000, 1); /* blocks of 256, 256, 256, 232 */
    assert_int_equal(tree.n, 4);
    assert_int_equal(find(&tree, 700, 1000, 1), 1000);
    assert_int_equal(find(&tree, 700, 1500, 1), 1000);
    assert_int_equal(find(&tree, 700, 900, 2), 700); /* ends within a block */
    assert_int_equal(find(&tree, 300, 900, 2), 300);
    assert_int_equal(find(&tree, 256, 900, 2), 256);
    assert_int_equal(find(&tree, 512, 512, 2), 512);
    assert_int_equal(find(&tree, 5, 900, 2), 5);
    assert_int_equal(find(&tree, 0, 900, 2), 0);
    add(&tree, 700, 900, 2); /* parts from the first in its third block */
    assert_int_equal(tree.n, 6);
    assert_int_equal(find(&tree, 700, 900, 2), 900);
    assert_int_equal(find(&tree, 700, 1000, 1), 1000);
    add(&tree, 700, 850, 2); /* nothing new */
    assert_int_equal(tree.n, 6);
    add(&tree, 700, 960, 2); /* a longer last block takes the shorter one's place */
    assert_int_equal(tree.n, 6);
    assert_int_equal(find(&tree, 700, 960, 2), 960);
    lm_ev_prefix_clear(&tree);
    assert_int_equal(tree.n, 0);
    assert_int_equal(live, 0);
}

/* Leaves that nobody asked for go first; what others hang from stays. */
static void test_drop(void **state) {
    (void)state;
    lm_ev_prefix tree = {.most = 6};
    for (int32_t own = 1; own <= 20; own++) {
        assert_int_equal(find(&tree, 600, 700, own), own == 1 ? 0 : 600);
        add(&tree, 600, 700, own);
        assert_true(tree.n <= 6);
    }
    assert_int_equal(find(&tree, 600, 700, 20), 700);
    assert_int_equal(find(&tree, 600, 700, 1), 600);
    assert_int_equal(find(&tree, 600, 700, 17), 700);
    assert_true(lm_ev_prefix_drop(&tree, false)); /* 18: the least recently used of those left */
    assert_int_equal(find(&tree, 600, 700, 18), 600);
    assert_int_equal(find(&tree, 600, 700, 17), 700);
    while (lm_ev_prefix_drop(&tree, false)) {
    }
    assert_int_equal(find(&tree, 600, 700, 17), 700); /* what was just used is spared */
    while (lm_ev_prefix_drop(&tree, true)) {
    }
    assert_int_equal(tree.n, 0);
    assert_int_equal(live, 0);
}

/* Without memory less is kept, and nothing breaks. */
static void test_no_memory(void **state) {
    (void)state;
    lm_ev_prefix tree = {.most = 100};
    fail_fork = 3;
    add(&tree, 1000, 1000, 1);
    assert_int_equal(tree.n, 2);
    assert_int_equal(find(&tree, 1000, 1000, 1), 512);
    add(&tree, 1000, 1000, 1);
    assert_int_equal(find(&tree, 1000, 1000, 1), 1000);
    lm_ev_prefix_clear(&tree);
    assert_int_equal(live, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
