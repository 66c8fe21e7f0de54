/* SPDX-License-Identifier: MIT
 *
 * benchmark_batches.c: `benchmark -b 1,2,4`: one table of speed by the number of sequences, without and with
 * --batch-invariant. */
#include "benchmark.h"
#include <stdlib.h>
#include <string.h>

/** Means of the trials of one batch size. */
typedef struct batch_figures {
    double prompt_tps, generation_tps, peak_memory;
} batch_figures;

typedef struct batch_table {
    batch_figures figures[2][BENCH_SIZES]; /* [batch-invariant] */
    bool has[2];
} batch_table;

bool bench_parse_sizes(const char *text, bench_args *a) {
    for (a->n_sizes = 0; a->n_sizes < BENCH_SIZES; text++) {
        char *end;
        if (*text < '0' || *text > '9') return false;
        const long long size = strtoll(text, &end, 10);
        a->sizes[a->n_sizes++] = size;
        text = end;
        if (!*text) return true;
        if (*text != ',') return false;
    }
    return false;
}

/* All sizes with one engine. */
static lm_status measure_sizes(lm_engine *engine, const bench_args *a, const int32_t *prompts, batch_figures *out,
                               lm_error *err) {
    bench_trial *trials = calloc((size_t)a->num_trials, sizeof *trials);
    if (!trials) return cli_error(err, LM_NOMEM, "out of memory for %lld trials", (long long)a->num_trials);
    lm_status status = LM_OK;
    for (size_t i = 0; status == LM_OK && i < a->n_sizes; i++) {
        bench_args one = *a;
        one.batch_size = a->sizes[i];
        status = bench_run_trials(engine, &one, prompts, trials, err);
        out[i] = (batch_figures){0};
        for (int64_t t = 0; t < a->num_trials; t++) {
            out[i].prompt_tps += trials[t].prompt_tps / (double)a->num_trials;
            out[i].generation_tps += trials[t].generation_tps / (double)a->num_trials;
            if (trials[t].peak_memory > out[i].peak_memory) out[i].peak_memory = trials[t].peak_memory;
        }
    }
    free(trials);
    return status;
}

static void print_table(FILE *f, const bench_args *a, const batch_table *t) {
    fprintf(f, "\n%6s %12s %16s %14s", "rows", "prompt tok/s", "generation tok/s", "of the first");
    if (t->has[1]) fprintf(f, " %16s %8s", "batch-invariant", "of that");
    fprintf(f, " %8s\n", "peak GB");
    for (size_t i = 0; i < a->n_sizes; i++) {
        const batch_figures *first = t->figures[t->has[0] ? 0 : 1], *one = &first[i];
        fprintf(f, "%6lld %12.1f %16.1f %13.2fx", (long long)a->sizes[i], one->prompt_tps, one->generation_tps,
                first->generation_tps > 0 ? one->generation_tps / first->generation_tps : 0);
        if (t->has[1]) {
            const double invariant = t->figures[1][i].generation_tps;
            fprintf(f, " %16.1f %7.0f%%", invariant,
                    one->generation_tps > 0 ? 100 * invariant / one->generation_tps : 0);
        }
        fprintf(f, " %8.3f\n", one->peak_memory);
    }
    fflush(f);
}

static json_t *sizes_json(const bench_args *a, const batch_figures *figures) {
    json_t *list = json_array();
    for (size_t i = 0; i < a->n_sizes; i++)
        json_array_append_new(list, json_pack("{s:I, s:f, s:f, s:f}", "batch_size", (json_int_t)a->sizes[i],
                                              "prompt_tps", figures[i].prompt_tps, "generation_tps",
                                              figures[i].generation_tps, "peak_memory", figures[i].peak_memory));
    return list;
}

static lm_status print_json(const bench_args *a, const lm_engine_info *info, const batch_table *t, lm_error *err) {
    json_t *o = bench_describe_json(a, info), *all = json_object();
    if (t->has[0]) json_object_set_new(all, "default", sizes_json(a, t->figures[0]));
    if (t->has[1]) json_object_set_new(all, "batch_invariant", sizes_json(a, t->figures[1]));
    if (!o || json_object_set_new(o, "batches", all)) {
        json_decref(o);
        return cli_error(err, LM_NOMEM, "the results could not be written as JSON");
    }
    cli_json_print(stdout, o, 4, true);
    putchar('\n');
    json_decref(o);
    return LM_OK;
}

lm_status bench_batches(const bench_args *a, lm_error *err) {
    batch_table t = {.has = {false, false}};
    lm_status status = LM_OK;
    for (int invariant = a->engine.batch_invariant; status == LM_OK && invariant < 2; invariant++) {
        lm_engine_options options = engine_args_options(&a->engine);
        options.batch_invariant = invariant;
        lm_engine *engine = NULL;
        lm_engine_info info;
        int32_t *prompts = NULL;
        status = cli_engine_open(a->model, &options, &engine, err);
        if (status == LM_OK) {
            lm_engine_get_info(engine, &info);
            status = bench_make_prompts(a, info.vocab_size, &prompts, err);
        }
        fprintf(a->json ? stderr : stdout, "Batch-invariant: %s.\n", invariant ? "yes" : "no");
        if (status == LM_OK) status = measure_sizes(engine, a, prompts, t.figures[invariant], err);
        t.has[invariant] = true;
        if (status == LM_OK && invariant == 1) {
            print_table(a->json ? stderr : stdout, a, &t);
            if (a->json) status = print_json(a, &info, &t, err);
        }
        free(prompts);
        lm_engine_close(engine);
    }
    return status;
}
