/* SPDX-License-Identifier: MIT
 * perplexity.h: what mlx_lm.perplexity prints: mlx-lm's block, the comparison with a base, a Markdown table, JSON. */
#ifndef LM_CLI_PERPLEXITY_H
#define LM_CLI_PERPLEXITY_H
#include "common.h"
#include "lm/score.h"

/** One scored model. */
typedef struct perplexity_result {
    char *model, *precision; /* malloc'ed; precision NULL for a base in a file */
    int64_t weight_bytes, n_parameters;
    size_t n_rows;
    int64_t n_tokens, batch_size, peak;
    double seconds;
    bool base_only; /* the base itself: no comparison */
    lm_perplexity score;
} perplexity_result;

/** mlx-lm's "EVALUATION RESULTS" block. */
void perplexity_print_block(const perplexity_result *r);
/** What --against adds to it. */
void perplexity_print_comparison(const perplexity_result *r, const char *base);
/** A row a model. */
void perplexity_print_table(const perplexity_result *results, size_t n);
/** One result as a new JSON object, NULL without memory. */
json_t *perplexity_json(const perplexity_result *r);
#endif
