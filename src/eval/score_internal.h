/* SPDX-License-Identifier: MIT
 * score_internal.h: what the files behind lm/score.h share: jobs packed into steps, the writer of log-probabilities,
 * one position's comparison. */
#ifndef LM_EVAL_SCORE_INTERNAL_H
#define LM_EVAL_SCORE_INTERNAL_H
#include "internal.h"
#include "lm/score.h"

struct lm_rows {
    int32_t *ids;
    int64_t n_ids;
    int64_t *starts; /* [n_rows + 1] */
    size_t n_rows;
    int64_t skip, n_scored, n_documents, n_documents_used;
    bool ran_out;
};
/** Scored predictions of row `i`. */
int64_t lm_ev_row_scored(const lm_rows *rows, size_t i);

/* ---- pack.c: many sequences through few steps */

/** One sequence to compute, and what is wanted of its positions. */
typedef struct lm_ev_job {
    const int32_t *tokens;
    size_t n_tokens;        /* at least 1 */
    size_t want;            /* positions of tokens from here on are wanted; n_tokens: none */
    const int32_t *targets; /* [n_tokens - want] or NULL */
    float *target_logprob;  /* [n_tokens - want] */
    lm_seq *seq;
    size_t done;
} lm_ev_job;

/** Positions of one job that a step computed; want: index of the first among the job's wanted ones. */
typedef struct lm_ev_part {
    size_t job, from, n, want, n_want;
} lm_ev_part;

typedef struct lm_ev_pack {
    lm_engine *engine;
    lm_ev_job *jobs;
    size_t n_jobs, next; /* jobs before `next` are finished or under way */
    size_t max_rows, max_tokens;
    float *logits; /* [max_tokens][vocab] or NULL: of all wanted positions, parts one after another */
    size_t vocab;
    const volatile int *cancel;
    lm_ev_part *parts; /* of the last step */
    size_t n_parts;
    lm_row *rows;
    uint32_t *want;
} lm_ev_pack;
lm_status lm_ev_pack_create(lm_ev_pack *pack, lm_error *err); /* engine .. cancel are set by the caller */
bool lm_ev_pack_done(const lm_ev_pack *pack);
/** Computes the next step: at most max_rows jobs, max_tokens ids. */
lm_status lm_ev_pack_step(lm_ev_pack *pack, lm_error *err);
/** Frees the pack's own memory and every sequence. */
void lm_ev_pack_destroy(lm_ev_pack *pack);

/** Ids of a text, as every request type wants them. Freed with lm_free. */
lm_status lm_ev_score_encode(lm_engine *engine, const char *text, size_t length, const lm_score_options *options,
                             int32_t **ids, size_t *n, lm_error *err);

/** Requests in order of their contexts: by bytes, then as they came. */
typedef struct lm_ev_order {
    const char *text;
    size_t length, index;
} lm_ev_order;
void lm_ev_sort(lm_ev_order *order, size_t n);

/* ---- logits_file.c */

typedef struct lm_ev_logprobs_writer lm_ev_logprobs_writer;
lm_status lm_ev_logprobs_create(const char *path, const char *model, const lm_engine_info *info, const lm_rows *rows,
                                lm_ev_logprobs_writer **out, lm_error *err);
/** Writes position `index`: logits [vocab], log of the sum of their exponentials, the target's log-probability, the
 *  best id. */
lm_status lm_ev_logprobs_write(lm_ev_logprobs_writer *w, int64_t index, const float *logits, double lse, float target,
                               int32_t top, lm_error *err);
lm_status lm_ev_logprobs_commit(lm_ev_logprobs_writer *w, lm_error *err); /* ends the writer either way */
void lm_ev_logprobs_abandon(lm_ev_logprobs_writer *w);
/** The file was made of these rows with this vocabulary; the error names the first difference. */
lm_status lm_ev_logprobs_match(const lm_logprobs *file, const lm_rows *rows, int64_t vocab, lm_error *err);

/* ---- kld.c */

/** A distribution at one position. `weights` are exp(x - best), unscaled. */
typedef struct lm_ev_dist {
    const float *x; /* [vocab] logits or log-probabilities */
    float *weights; /* [vocab] */
    double lse;     /* log of the sum of exp(x) */
    float best;
    int32_t top; /* lowest id of the largest */
} lm_ev_dist;
/** Fills weights, lse, best and top from x. False where the largest isn't finite. */
bool lm_ev_dist_set(lm_ev_dist *d, const float *x, size_t vocab);
/** KL(p || q). */
double lm_ev_kl(const lm_ev_dist *p, const lm_ev_dist *q, size_t vocab);

/** Sums of one run. */
typedef struct lm_ev_tally {
    int64_t n, capacity;
    float *nll, *base_nll, *kld; /* [capacity]; the last two NULL without a comparison */
    int64_t same_top;
} lm_ev_tally;
lm_status lm_ev_tally_result(const lm_ev_tally *tally, bool compared, lm_perplexity *out, lm_error *err);
/** Percentile `q` in [0, 100] of sorted values, linear between neighbours (numpy's default). */
double lm_ev_percentile(const float *sorted, int64_t n, double q);
#endif
