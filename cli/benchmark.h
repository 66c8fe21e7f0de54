/* SPDX-License-Identifier: MIT
 * benchmark.h: what cmd_benchmark.c (measuring) and benchmark_report.c (figures) share. */
#ifndef LM_CLI_BENCHMARK_H
#define LM_CLI_BENCHMARK_H
#include "common.h"

#define BENCH_SIZES 16
#define BENCH_MAX_SIZE (1 << 16)

typedef struct bench_args {
    const char *model;
    int64_t prompt_tokens, generation_tokens, batch_size, num_trials, prefill_step_size, delay;
    int64_t sizes[BENCH_SIZES]; /* of -b; more than one: a table */
    size_t n_sizes;
    bool json, ceilings, profile, warmup;
    engine_args engine;
} bench_args;

/** One run. Memory in GB of 1e9 bytes: `peak_memory` is what the run needed, `rss` the process's high-water mark. */
typedef struct bench_trial {
    double prompt_tps, generation_tps, peak_memory, total_time, rss;
} bench_trial;

#define BENCH_CEILINGS 12 /* 1, 2, 4, ... 1024 threads, and all */
#define BENCH_STAGES 32
#define BENCH_BATCH 32 /* sequences decoded together, as mlx-lm does */

typedef struct bench_profile {
    lm_stage stages[BENCH_STAGES];
    size_t n;
    int64_t tokens;
    double seconds; /* of all of it, stages or not */
} bench_profile;

/** What --ceilings and --profile add; zeros without them. */
typedef struct bench_limits {
    lm_ceilings ceilings[BENCH_CEILINGS]; /* the last one: the engine's threads */
    size_t n_ceilings;
    double token_bytes, token_operations;  /* of a generated token; of a prompt token */
    double read, peak, peak_blocked;       /* the ceilings; the prompt's share is taken of the last */
    double generation_share, prompt_share; /* 1: all of it */
    bench_profile prompt, generation;
} bench_limits;

lm_status bench_measure_ceilings(const lm_engine *engine, bench_limits *l, lm_error *err);
/** Fills the shares, given mean speeds. */
void bench_shares(const bench_args *a, const lm_engine *engine, const lm_engine_info *info, double prompt_tps,
                  double generation_tps, bench_limits *l);
void bench_take_stages(const lm_engine *engine, bench_profile *p, int64_t tokens, double seconds);
void bench_limits_print(FILE *f, const bench_limits *l, double prompt_tps, double generation_tps);
void bench_limits_json(const bench_limits *l, json_t *to);
/** Mean of the trials' prompt or generation speed. */
double bench_mean_tps(const bench_trial *trials, int64_t n, bool generation);

/** The ids that mlx draws with seed 0 for the largest batch: [batch, prompt_tokens], freed with free(). */
lm_status bench_make_prompts(const bench_args *a, int64_t vocab, int32_t **out, lm_error *err);
/** One run that isn't counted (unless a->warmup is off), then `trials` [a->num_trials] of a->batch_size sequences. */
lm_status bench_run_trials(lm_engine *engine, const bench_args *a, const int32_t *prompts, bench_trial *trials,
                           lm_error *err);
/** Reads "1,2,4" into a->sizes; false unless it is 1 to BENCH_SIZES numbers. */
bool bench_parse_sizes(const char *text, bench_args *a);
/** Measures every size of a->sizes, without and with --batch-invariant (only with, if that was asked for), and prints a
 * table or JSON. */
lm_status bench_batches(const bench_args *a, lm_error *err);

/** Model, machine, versions and settings as an object; NULL without memory. */
json_t *bench_describe_json(const bench_args *a, const lm_engine_info *info);
/** Prints the averages (and error bars on stderr), or the JSON object. `trials` [a->num_trials]. */
lm_status bench_report(const bench_args *a, const lm_engine_info *info, const bench_trial *trials,
                       const bench_limits *limits, lm_error *err);
#endif
