/* SPDX-License-Identifier: MIT
 * repeats.c: several sampled answers to each question: the score of every repeat, and how far they scatter. */
#include "report.h"
#include "stats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Mean score of repeat k over the questions of a task, or of a group's tasks, that have it. */
static bool repeat_score(const lm_eval *eval, const lm_ev_row *row, size_t k, double *score) {
    double sum = 0;
    size_t n = 0;
    for (size_t t = 0; t < eval->n_tasks; t++) {
        const lm_ev_run_task *task = &eval->tasks[t];
        if (row->group ? !lm_ev_in_group(row->group, task->task->name) : strcmp(row->name, task->task->name) != 0)
            continue;
        for (size_t i = 0; i < task->count; i++) {
            const lm_ev_answer *answer = &eval->answers[(task->first + i) * eval->repeats + k];
            if (!answer->answered) continue;
            sum += answer->score;
            n++;
        }
    }
    if (n) *score = sum / (double)n;
    return n > 0;
}

bool lm_ev_question_score(const lm_eval *eval, size_t request, double *score) {
    double sum = 0;
    size_t n = 0;
    for (size_t k = 0; k < eval->repeats; k++) {
        const lm_ev_answer *answer = &eval->answers[request * eval->repeats + k];
        if (!answer->answered) continue;
        sum += answer->score;
        n++;
    }
    if (n) *score = n == 1 ? sum : sum / (double)n;
    return n > 0;
}

/* Scores of the repeats that have any answer; returns how many. */
static size_t repeat_scores(const lm_eval *eval, const lm_ev_row *row, double *scores) {
    size_t n = 0;
    for (size_t k = 0; k < eval->repeats; k++) n += repeat_score(eval, row, k, &scores[n]);
    return n;
}

/* Sample variance; 0 of fewer than two. */
static double variance_of(const double *x, size_t n) {
    if (n < 2) return 0;
    double mean = lm_ev_mean(x, n), sum = 0;
    for (size_t i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return sum / (double)(n - 1);
}

lm_status lm_ev_repeats_json(const lm_eval *eval, const lm_ev_rows *rows, lm_ev_buf *out, lm_error *err) {
    double *scores = malloc(eval->repeats * sizeof *scores);
    if (!scores) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu repeats", eval->repeats);
    lm_ev_buf_format(out, ",\n    \"repeats\": {\n        \"count\": %zu", eval->repeats);
    for (size_t i = 0; i < rows->n_tasks + rows->n_groups; i++) {
        const lm_ev_row *row = i < rows->n_tasks ? &rows->tasks[i] : &rows->groups[i - rows->n_tasks];
        size_t n = repeat_scores(eval, row, scores);
        lm_ev_buf_format(out, ",\n        \"%s\": {\"mean\": ", row->name);
        lm_ev_buf_double(out, lm_ev_mean(scores, n));
        lm_ev_buf_text(out, ", \"variance\": ");
        lm_ev_buf_double(out, variance_of(scores, n));
        lm_ev_buf_text(out, ", \"scores\": [");
        for (size_t k = 0; k < n; k++) {
            if (k) lm_ev_buf_text(out, ", ");
            lm_ev_buf_double(out, scores[k]);
        }
        lm_ev_buf_text(out, "]}");
    }
    lm_ev_buf_text(out, "\n    }");
    free(scores);
    return LM_OK;
}

lm_status lm_ev_repeats_table(const lm_eval *eval, const lm_ev_rows *rows, lm_ev_buf *out, lm_error *err) {
    double *scores = malloc(eval->repeats * sizeof *scores);
    if (!scores) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu repeats", eval->repeats);
    lm_ev_buf_text(out, "|subject|questions|repeats|mean score|lowest|highest|variance between repeats|its root|\n"
                        "|---|---:|---:|---:|---:|---:|---:|---:|\n");
    for (size_t i = 0; i < rows->n_tasks + rows->n_groups; i++) {
        const lm_ev_row *row = i < rows->n_tasks ? &rows->tasks[i] : &rows->groups[i - rows->n_tasks];
        size_t n = repeat_scores(eval, row, scores);
        double low = 1, high = 0, variance = variance_of(scores, n);
        for (size_t k = 0; k < n; k++) {
            low = scores[k] < low ? scores[k] : low;
            high = scores[k] > high ? scores[k] : high;
        }
        lm_ev_buf_format(out, "|%s|%lld|%zu|%.4f|%.4f|%.4f|%.6f|%.4f|\n", row->alias, (long long)row->count, n,
                         lm_ev_mean(scores, n), low, high, variance, sqrt(variance));
    }
    free(scores);
    return LM_OK;
}
