/* SPDX-License-Identifier: MIT
 *
 * benchmark_report.c: means, spreads and 95 % intervals of a benchmark's trials, as mlx-lm's line or as JSON. */
#include "benchmark.h"
#include <math.h>
#include <stddef.h>

static const struct {
    const char *name;
    size_t offset;
} figures[] = {{"prompt_tps", offsetof(bench_trial, prompt_tps)},
               {"generation_tps", offsetof(bench_trial, generation_tps)},
               {"peak_memory", offsetof(bench_trial, peak_memory)},
               {"total_time", offsetof(bench_trial, total_time)},
               {"rss", offsetof(bench_trial, rss)}};
#define N_FIGURES (sizeof figures / sizeof *figures)
#define N_AVERAGED 3 /* those of the "Averages:" line */

typedef struct summary {
    double mean, stdev, stderror, half; /* half: half the width of the 95 % interval */
} summary;

static double get_figure(const bench_trial *t, size_t figure) {
    return *(const double *)(const void *)((const char *)t + figures[figure].offset);
}

/* Two-sided 95 % quantile of Student's t. Past the table the expansion around the normal quantile is good to 1e-4. */
static double t_quantile(int64_t freedom) {
    static const double table[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                                   2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086};
    if (freedom <= (int64_t)(sizeof table / sizeof *table)) return table[freedom - 1];
    double z = 1.959964, n = (double)freedom;
    return z + (z * z * z + z) / (4 * n) + (5 * pow(z, 5) + 16 * z * z * z + 3 * z) / (96 * n * n);
}

/* One trial has no spread: zeros. */
static summary summarize(const bench_trial *trials, int64_t n, size_t figure) {
    summary s = {0};
    for (int64_t i = 0; i < n; i++) s.mean += get_figure(&trials[i], figure) / (double)n;
    if (n < 2) return s;
    double squares = 0;
    for (int64_t i = 0; i < n; i++) squares += pow(get_figure(&trials[i], figure) - s.mean, 2);
    s.stdev = sqrt(squares / (double)(n - 1));
    s.stderror = s.stdev / sqrt((double)n);
    s.half = s.stderror * t_quantile(n - 1);
    return s;
}

double bench_mean_tps(const bench_trial *trials, int64_t n, bool generation) {
    return summarize(trials, n, generation ? 1 : 0).mean;
}

static void print_lines(const bench_args *a, const bench_trial *trials) {
    FILE *f = a->json ? stderr : stdout;
    fprintf(f, "Averages: ");
    for (size_t i = 0; i < N_AVERAGED; i++)
        fprintf(f, "%s%s=%.3f", i ? ", " : "", figures[i].name, summarize(trials, a->num_trials, i).mean);
    fprintf(f, "\n");
    fflush(f);
    if (a->num_trials < 2) return;
    fprintf(stderr, "95%% intervals: ");
    for (size_t i = 0; i < N_AVERAGED; i++) {
        summary s = summarize(trials, a->num_trials, i);
        fprintf(stderr, "%s%s=%.3f +- %.3f", i ? ", " : "", figures[i].name, s.mean, s.half);
    }
    fprintf(stderr, "\n");
}

static json_t *trials_json(const bench_trial *trials, int64_t n) {
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) {
        json_t *o = json_object();
        for (size_t j = 0; j < N_FIGURES; j++)
            json_object_set_new(o, figures[j].name, json_real(get_figure(&trials[i], j)));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *summary_json(const bench_trial *trials, int64_t n, size_t figure) {
    summary s = summarize(trials, n, figure);
    return json_pack("{s:f, s:f, s:f, s:[f, f]}", "mean", s.mean, "stdev", s.stdev, "stderr", s.stderror, "interval_95",
                     s.mean - s.half, s.mean + s.half);
}

static json_t *settings_json(const bench_args *a, const lm_engine_info *info) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:b, s:b, s:I}", "prompt_tokens",
                     (json_int_t)a->prompt_tokens, "generation_tokens", (json_int_t)a->generation_tokens, "batch_size",
                     (json_int_t)a->batch_size, "num_trials", (json_int_t)a->num_trials, "prefill_step_size",
                     (json_int_t)a->prefill_step_size, "delay", (json_int_t)a->delay, "device", info->device,
                     "numerics", info->numerics, "kv_type", info->kv_type, "batch_invariant", info->batch_invariant,
                     "use_mmap", info->use_mmap, "max_memory", (json_int_t)a->engine.max_memory);
}

static json_t *model_json(const bench_args *a, const lm_engine_info *info) {
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "name", a->model, "path", info->path,
                     "model_type", info->model_type, "dtype", info->dtype, "precision", info->precision, "parameters",
                     (json_int_t)info->n_parameters, "weight_bytes", (json_int_t)info->weight_bytes, "vocab_size",
                     (json_int_t)info->vocab_size, "kv_bytes_per_token", (json_int_t)info->kv_bytes_per_token);
}

json_t *bench_describe_json(const bench_args *a, const lm_engine_info *info) {
    return json_pack("{s:o, s:{s:s, s:s, s:i}, s:{s:s, s:s, s:s}, s:o, s:f}", "model", model_json(a, info), "machine",
                     "cpu", lm_cpu_description(), "topology", lm_topology_description(), "threads", info->threads,
                     "versions", "mlx-lm.c", lm_version(), "mlx_lm", lm_version_mlx_lm(), "mlx", lm_version_mlx(),
                     "settings", settings_json(a, info), "load_seconds", info->load_seconds);
}

static lm_status print_json(const bench_args *a, const lm_engine_info *info, const bench_trial *trials,
                            const bench_limits *limits, lm_error *err) {
    json_t *o = bench_describe_json(a, info), *sums = json_object();
    for (size_t i = 0; i < N_FIGURES; i++)
        json_object_set_new(sums, figures[i].name, summary_json(trials, a->num_trials, i));
    if (!o || json_object_set_new(o, "trials", trials_json(trials, a->num_trials)) ||
        json_object_set_new(o, "summary", sums)) {
        json_decref(o);
        return cli_error(err, LM_NOMEM, "the results could not be written as JSON");
    }
    bench_limits_json(limits, o);
    cli_json_print(stdout, o, 4, true);
    putchar('\n');
    json_decref(o);
    return LM_OK;
}

lm_status bench_report(const bench_args *a, const lm_engine_info *info, const bench_trial *trials,
                       const bench_limits *limits, lm_error *err) {
    print_lines(a, trials);
    bench_limits_print(a->json ? stderr : stdout, limits, bench_mean_tps(trials, a->num_trials, false),
                       bench_mean_tps(trials, a->num_trials, true));
    return a->json ? print_json(a, info, trials, limits, err) : LM_OK;
}
