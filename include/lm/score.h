/* SPDX-License-Identifier: MIT
 *
 * score.h: what a model makes of given text: perplexity of token rows, comparison with a base model position by
 * position, and lm-eval's three request types.
 *
 * Owns: token rows made of a text or of JSONL (as mlx-lm's datasets make them), the file of base log-probabilities, the
 * statistics. It prints nothing and uses lm.h only. Logits are computed in slices: memory doesn't grow with the text.
 */
#ifndef LM_SCORE_H
#define LM_SCORE_H

#include "lm/lm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- token rows */

typedef enum lm_rows_format {
    LM_ROWS_TEXT,  /* one document; its ids are used as they are, in order */
    LM_ROWS_JSONL, /* a JSON object a line: {"prompt", "completion"}, {"messages"} or {"text"}; the first line decides
                    */
} lm_rows_format;

/** How ids become rows. */
typedef struct lm_rows_options {
    lm_rows_format format;
    int64_t sequence_length; /* ids of a row, at least 2; 0: everything in one row */
    int64_t num_samples;     /* rows at most; -1: all */
    uint32_t seed;           /* of the order of JSONL rows: numpy's RandomState(seed).permutation */
    bool keep_rest;          /* the ids after the last full row become a shorter row (if there are two at least) */
    int64_t skip;            /* the first `skip` predictions of every row aren't scored */
} lm_rows_options;
/** Rows of 512, at most 256, seed 123, the rest dropped: mlx-lm's perplexity. */
lm_rows_options lm_rows_options_default(void);

typedef struct lm_rows lm_rows;
/** Tokenizes `text` (`name` is for messages) and cuts the ids into rows. JSONL rows are taken in permuted order until
 *  there are enough ids; chat rows go through the chat template, text rows end with the end-of-text token. */
lm_status lm_rows_create(const lm_tokenizer *tokenizer, const char *name, const char *text, size_t length,
                         const lm_rows_options *options, lm_rows **out, lm_error *err);
/** NULL is allowed. */
void lm_rows_destroy(lm_rows *rows);

/** Facts of rows. `ids` and `starts` are borrowed: row i is ids[starts[i]] .. ids[starts[i + 1]]. */
typedef struct lm_rows_info {
    size_t n_rows;
    int64_t n_tokens, n_scored;
    int64_t n_documents, n_documents_used;
    bool ran_out; /* fewer rows than num_samples asked for */
    const int32_t *ids;
    const int64_t *starts; /* [n_rows + 1] */
} lm_rows_info;
/** Fills `*info`. */
void lm_rows_get_info(const lm_rows *rows, lm_rows_info *info);

/** numpy.random.RandomState(seed).permutation(n) (MT19937, the legacy generator). n <= 2^32. */
void lm_numpy_permutation(uint32_t seed, uint32_t *out, size_t n);

/* ---------------------------------------------------------------- base log-probabilities in a file */

/** An open file of log-probabilities: for every scored position the target's, the best id, and all of them in 16 bits
 *  (docs/perplexity.md has the format and its error). Reading one is safe whatever the bytes are. */
typedef struct lm_logprobs lm_logprobs;
/** Opens and checks a file. LM_IO, LM_FORMAT. */
lm_status lm_logprobs_open(const char *path, lm_logprobs **out, lm_error *err);
/** NULL is allowed. */
void lm_logprobs_close(lm_logprobs *file);
/** Facts of the file, borrowed. */
typedef struct lm_logprobs_info {
    const char *model;    /* name that was given when it was written */
    int64_t weight_bytes; /* of that model */
    int64_t n_parameters;
    int64_t vocab, n_rows, n_tokens, n_scored;
} lm_logprobs_info;
void lm_logprobs_get_info(const lm_logprobs *file, lm_logprobs_info *info);
/** Position `index` in [0, n_scored): all log-probabilities into `all` [vocab] (may be NULL), the target's, the best
 *  id. */
lm_status lm_logprobs_read(lm_logprobs *file, int64_t index, float *all, float *target, int32_t *top, lm_error *err);

/* ---------------------------------------------------------------- perplexity */

typedef struct lm_perplexity_options {
    int64_t batch_size;     /* rows of a step at most */
    lm_engine *base;        /* compare with this model, or */
    lm_logprobs *base_file; /* with this file; both NULL: no comparison */
    const char *save;       /* write the model's own log-probabilities here (atomically); NULL: don't */
    const char *save_name;  /* the model's name in that file */
    int64_t logits_bytes;   /* most bytes of logits held per model when comparing or saving; 0: 64 MiB */
    const volatile int *cancel;
    void (*progress)(void *user, size_t rows_done, size_t rows_total); /* after every batch; may be NULL */
    void *progress_user;
} lm_perplexity_options;
lm_perplexity_options lm_perplexity_options_default(void);

/** A value and its standard error. */
typedef struct lm_estimate {
    double value, error;
} lm_estimate;

/** Errors are standard errors, positions taken as independent. n is rows' n_scored. */
typedef struct lm_perplexity {
    int64_t n;
    lm_estimate nll, ppl; /* mean negative log-likelihood in nats; its exponential */
    bool compared;        /* the rest is set */
    lm_estimate base_nll, base_ppl;
    lm_estimate ratio;     /* ppl / base_ppl: paired, delta method on the mean difference of log-likelihoods */
    lm_estimate log_ratio; /* its logarithm: that mean difference */
    lm_estimate kld;       /* mean KL(base || model) in nats */
    double kld_min, kld_median, kld_90, kld_99, kld_999, kld_max;
    lm_estimate same_top;   /* share of positions with the same best token */
    lm_estimate rms_change; /* root mean square of p_model(token) - p_base(token) over the text's tokens */
    lm_estimate mean_change;
} lm_perplexity;

/** Scores all rows. `nll` [n_scored] and `kld` [n_scored] may be NULL; else each position's values, in row order. */
lm_status lm_perplexity_run(lm_engine *engine, const lm_rows *rows, const lm_perplexity_options *options,
                            lm_perplexity *out, float *nll, float *kld, lm_error *err);

/* ---------------------------------------------------------------- requests */

typedef struct lm_score_options {
    int64_t batch_size;      /* sequences in flight, at least 1 */
    bool add_special_tokens; /* exactly where no chat template is in use */
    int64_t max_tokens;      /* loglikelihood: longest input (0: 8192); generate_until: cap (0: the requests') */
    bool share_prefix;       /* compute common beginnings of contexts once */
    bool speculate;          /* generate_until: compute guesses along with the last token: the same bits, sooner */
    const volatile int *cancel;
    void (*progress)(void *user, size_t done, size_t total); /* may be NULL */
    void *progress_user;
} lm_score_options;
lm_score_options lm_score_options_default(void);

/** log p(continuation | context). Context and context + continuation are tokenized separately; the continuation's ids
 *  are those past the context's number. Too long an input is cut at the left of the context; if nothing of the context
 *  is left (or it has no ids) the result is -infinity, not greedy. */
typedef struct lm_loglikelihood {
    const char *context;
    size_t context_length;
    const char *continuation;
    size_t continuation_length;
    double logprob;   /* out: sum over the continuation's ids */
    bool greedy;      /* out: every one of them is the likeliest */
    int64_t n_tokens; /* out: ids of the continuation */
} lm_loglikelihood;
/** Requests with the same context share its computation. LM_ARG if a continuation adds no id. */
lm_status lm_score_loglikelihood(lm_engine *engine, lm_loglikelihood *requests, size_t n,
                                 const lm_score_options *options, lm_error *err);

/** log p of a whole text after its first id: no prefix, no windows. */
typedef struct lm_loglikelihood_rolling {
    const char *text;
    size_t length;
    double logprob;   /* out: sum over ids 1 .. n_tokens - 1 */
    int64_t n_tokens; /* out */
} lm_loglikelihood_rolling;
lm_status lm_score_loglikelihood_rolling(lm_engine *engine, lm_loglikelihood_rolling *requests, size_t n,
                                         const lm_score_options *options, lm_error *err);

/** Text after a context: decoded until a stop id, the cap, or an `until` string; cut at the earliest of those, then
 *  everything up to the vocabulary's think-end marker is dropped. */
typedef struct lm_generate_until {
    const char *context;
    size_t context_length;
    const char *const *until; /* NULL-terminated list, may be NULL */
    int64_t max_tokens;       /* cap where the options have none; 0: 8192 */
    char *text;               /* out: freed with lm_free */
    size_t length;            /* out */
    const char *finish;       /* out: "stop", "length" or "until" */
    int64_t n_tokens;         /* out: ids that were generated */
} lm_generate_until;
/** Greedy where `sampler` is NULL; else request i samples from its own stream, made of the sampler's key and i. On
 *  failure no text is left in the requests. */
lm_status lm_score_generate_until(lm_engine *engine, lm_generate_until *requests, size_t n, const lm_sampler *sampler,
                                  const lm_score_options *options, lm_error *err);

#ifdef __cplusplus
}
#endif
#endif
