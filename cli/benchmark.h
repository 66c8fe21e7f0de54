/* SPDX-License-Identifier: MIT
 * benchmark.h: what cmd_benchmark.c (measuring) and benchmark_report.c (figures) share. */
#ifndef LM_CLI_BENCHMARK_H
#define LM_CLI_BENCHMARK_H
#include "common.h"

typedef struct bench_args {
    const char *model;
    int64_t prompt_tokens, generation_tokens, batch_size, num_trials, prefill_step_size, delay;
    bool json;
    engine_args engine;
} bench_args;

/** One run. Memory in GB of 1e9 bytes: `peak_memory` is what the run needed, `rss` the process's high-water mark. */
typedef struct bench_trial {
    double prompt_tps, generation_tps, peak_memory, total_time, rss;
} bench_trial;

/** Prints the averages (and error bars on stderr), or the JSON object. `trials` [a->num_trials]. */
lm_status bench_report(const bench_args *a, const lm_engine_info *info, const bench_trial *trials, lm_error *err);
#endif
