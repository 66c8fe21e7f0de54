/* SPDX-License-Identifier: MIT
 * compare.h: result folders side by side, as compare.c reads and computes and compare_text.c lays them out. */
#ifndef LM_EVAL_COMPARE_H
#define LM_EVAL_COMPARE_H
#include "stats.h"

typedef struct lm_ev_sample {
    int64_t doc_id;
    double score;
    char *target, *filtered;
} lm_ev_sample;

typedef struct lm_ev_sample_list {
    const lm_ev_task *task;
    lm_ev_sample *items; /* doc_id ascends */
    size_t n, capacity;
} lm_ev_sample_list;

/** One result: a report and its samples files. */
typedef struct lm_ev_result {
    const char *folder; /* as given, borrowed */
    char *base;         /* path of the report without "_report.json" */
    json_t *report;
    lm_ev_sample_list *tasks;
    size_t n_tasks, n; /* n: questions */
} lm_ev_result;

/** A and B on one subject, a group or everything. */
typedef struct lm_ev_pair_row {
    const char *name;
    bool group;
    size_t n;
    int64_t only_a, only_b, same_answer, same_score;
    double a, b, difference, se;
    bool has_se; /* n > 1 */
    lm_ev_interval normal, bootstrap;
    double p, holm; /* holm: among the subjects for a subject; among the pairs for the last row */
} lm_ev_pair_row;

typedef struct lm_ev_pair {
    size_t a, b; /* indices of the results */
    lm_ev_pair_row *rows;
    size_t n_rows; /* subjects, then groups, then everything where no group is that; the last one decides */
    bool separable;
} lm_ev_pair;

typedef struct lm_ev_comparison {
    lm_ev_result *results;
    size_t n_results;
    lm_ev_pair *pairs;
    size_t n_pairs;
    size_t draws;
    uint64_t seed;
} lm_ev_comparison;

/** Adds the lines of a samples file to `list`; list->task is set. `name` is for messages. */
lm_status lm_ev_samples_parse(lm_ev_sample_list *list, const char *name, const char *text, size_t length,
                              lm_error *err);
void lm_ev_samples_free(lm_ev_sample_list *list);
void lm_ev_comparison_markdown(const lm_ev_comparison *c, lm_ev_buf *out);
void lm_ev_comparison_json(const lm_ev_comparison *c, lm_ev_buf *out);
#endif
