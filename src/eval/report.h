/* SPDX-License-Identifier: MIT
 * report.h: the numbers of a result, one row a task or group, as report.c computes and table.c lays them out. */
#ifndef LM_EVAL_REPORT_H
#define LM_EVAL_REPORT_H
#include "internal.h"

typedef struct lm_ev_row {
    const char *name, *alias, *version;
    const lm_ev_family *family;
    const lm_ev_group *group; /* NULL for a task */
    int64_t shots, count;
    double value, stderr_value;
    bool has_stderr; /* false: "N/A" */
} lm_ev_row;

typedef struct lm_ev_rows {
    lm_ev_row *tasks, *groups;
    size_t n_tasks, n_groups;
} lm_ev_rows;

/** Rows of everything answered, tasks in evaluation order. */
lm_status lm_ev_rows_make(const lm_eval *eval, lm_ev_rows *rows, lm_error *err);
/** Adds the groups' rows to the tasks' rows; frees `rows` on failure. */
lm_status lm_ev_rows_group(const lm_eval *eval, lm_ev_rows *rows, lm_error *err);
void lm_ev_rows_free(lm_ev_rows *rows);
bool lm_ev_in_group(const lm_ev_group *group, const char *name);
/** repeats.c: mean over the answers that a question has; false: none. */
bool lm_ev_question_score(const lm_eval *eval, size_t request, double *score);
/** repeats.c: the score of every repeat, their mean and variance, as a member of the report and as a Markdown table. */
lm_status lm_ev_repeats_json(const lm_eval *eval, const lm_ev_rows *rows, lm_ev_buf *out, lm_error *err);
lm_status lm_ev_repeats_table(const lm_eval *eval, const lm_ev_rows *rows, lm_ev_buf *out, lm_error *err);
/** table.c: lm-eval's tables and the note. */
lm_status lm_ev_table(const lm_eval *eval, const lm_ev_rows *rows, lm_ev_buf *out, lm_error *err);
#endif
