/* SPDX-License-Identifier: MIT
 *
 * pack.c: many sequences through few steps. Jobs are taken in order; a step holds the end of one job's ids, whole short
 * ones, and the beginning of the next, up to a number of ids and of rows. So keys and values are held for jobs under
 * way only, and which positions a step computes depends on the jobs alone: two engines given the same jobs go in step.
 */
#include "score_internal.h"
#include <stdlib.h>
#include <string.h>

#define MAX_ROWS 1024

lm_status lm_ev_pack_create(lm_ev_pack *p, lm_error *err) {
    if (p->max_rows < 1) p->max_rows = 1;
    if (p->max_rows > MAX_ROWS) p->max_rows = MAX_ROWS;
    if (p->max_tokens < 1) p->max_tokens = 1;
    p->parts = malloc(p->max_rows * sizeof *p->parts);
    p->rows = malloc(p->max_rows * sizeof *p->rows);
    p->want = malloc(p->max_tokens * sizeof *p->want);
    if (p->parts && p->rows && p->want) return LM_OK;
    lm_ev_pack_destroy(p);
    return lm_ev_fail(err, LM_NOMEM, "out of memory for a step of %zu tokens", p->max_tokens);
}

bool lm_ev_pack_done(const lm_ev_pack *p) {
    return p->next == p->n_jobs;
}

/* Takes ids of jobs until the step is full; doesn't move `next`. */
static void plan(lm_ev_pack *p) {
    size_t room = p->max_tokens;
    p->n_parts = 0;
    for (size_t i = p->next; i < p->n_jobs && p->n_parts < p->max_rows && room; i++) {
        const lm_ev_job *j = &p->jobs[i];
        size_t left = j->n_tokens - j->done, n = left < room ? left : room, end = j->done + n;
        size_t first = j->want > j->done ? j->want : j->done;
        p->parts[p->n_parts++] = (lm_ev_part){.job = i,
                                              .from = j->done,
                                              .n = n,
                                              .want = first < end ? first - j->want : 0,
                                              .n_want = first < end ? end - first : 0};
        room -= n;
    }
}

static lm_status start(lm_ev_pack *p, lm_ev_job *j, lm_error *err) {
    if (j->seq) return LM_OK;
    return lm_seq_create(p->engine, LM_KV_AUTO, &j->seq, err);
}

static void fill_rows(lm_ev_pack *p) {
    uint32_t *want = p->want;
    float *logits = p->logits;
    for (size_t r = 0; r < p->n_parts; r++) {
        const lm_ev_part *part = &p->parts[r];
        const lm_ev_job *j = &p->jobs[part->job];
        lm_row *row = &p->rows[r];
        *row = (lm_row){.seq = j->seq, .tokens = j->tokens + part->from, .n_tokens = part->n, .n_want = part->n_want};
        row->want = want;
        for (size_t i = 0; i < part->n_want; i++)
            *want++ = (uint32_t)(part->n - part->n_want + i); /* the wanted ones are a job's last */
        if (!part->n_want) continue;
        if (j->targets) {
            row->targets = j->targets + part->want;
            row->target_logprob = j->target_logprob + part->want;
        }
        if (!logits) continue;
        row->logits = logits;
        logits += part->n_want * p->vocab;
    }
}

static void finish(lm_ev_pack *p) {
    for (size_t r = 0; r < p->n_parts; r++) {
        lm_ev_job *j = &p->jobs[p->parts[r].job];
        j->done += p->parts[r].n;
        if (j->done < j->n_tokens) continue;
        p->next = p->parts[r].job + 1;
        lm_seq_destroy(j->seq);
        j->seq = NULL;
    }
}

lm_status lm_ev_pack_step(lm_ev_pack *p, lm_error *err) {
    plan(p);
    for (size_t r = 0; r < p->n_parts; r++) EV_TRY(start(p, &p->jobs[p->parts[r].job], err));
    fill_rows(p);
    EV_TRY(lm_step(p->engine, p->rows, p->n_parts, p->cancel, err));
    finish(p);
    return LM_OK;
}

void lm_ev_pack_destroy(lm_ev_pack *p) {
    free(p->parts);
    free(p->rows);
    free(p->want);
    p->parts = NULL;
    p->rows = NULL;
    p->want = NULL;
    for (size_t i = 0; i < p->n_jobs; i++) {
        lm_ev_job *j = &p->jobs[i];
        lm_seq_destroy(j->seq);
        j->seq = NULL;
    }
}
