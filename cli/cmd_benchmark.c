/* SPDX-License-Identifier: MIT
 *
 * cmd_benchmark.c: `mlx_lm benchmark`: the trials and the lines of mlx-lm's benchmark. Prompt ids are the very ones
 * that mlx draws with seed 0; no stop id ends a trial. Figures, error bars and JSON are in benchmark_report.c. */
#include "benchmark.h"
#include "stream.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PREFILL_BATCH 8 /* prompts read together, as mlx-lm does */
#define BURST 64

/* ---------------------------------------------------------------- one sequence */

static lm_status run_single(lm_engine *engine, const bench_args *a, const int32_t *prompt, bench_trial *t,
                            lm_error *err) {
    lm_sampler greedy = lm_sampler_greedy();
    stream_request request = {.prompt = prompt,
                              .n_prompt = (size_t)a->prompt_tokens,
                              .max_tokens = a->generation_tokens,
                              .prefill_step_size = a->prefill_step_size,
                              .sampler = &greedy,
                              .burst = BURST};
    stream_stats stats;
    lm_status status = stream_run(engine, &request, &stats, err);
    t->prompt_tps = stream_prompt_tps(&stats);
    t->generation_tps = stream_generation_tps(&stats);
    return status;
}

/* ---------------------------------------------------------------- a batch */

typedef struct batch {
    lm_seq **seqs;           /* [n] */
    lm_row *rows;            /* [n] */
    lm_decode_row *decoding; /* [n] */
    lm_sampler *samplers;    /* [n] */
    int32_t *out;            /* [n * BURST] */
    size_t n;
} batch;

static void batch_free(batch *b) {
    for (size_t i = 0; b->seqs && i < b->n; i++) lm_seq_destroy(b->seqs[i]);
    free(b->seqs);
    free(b->rows);
    free(b->decoding);
    free(b->samplers);
    free(b->out);
    memset(b, 0, sizeof *b);
}

static lm_status batch_create(lm_engine *engine, size_t n, batch *b, lm_error *err) {
    *b = (batch){.n = n};
    b->seqs = calloc(n, sizeof *b->seqs);
    b->rows = calloc(n, sizeof *b->rows);
    b->decoding = calloc(n, sizeof *b->decoding);
    b->samplers = calloc(n, sizeof *b->samplers);
    b->out = calloc(n * BURST, sizeof *b->out);
    lm_status status = LM_OK;
    if (!b->seqs || !b->rows || !b->decoding || !b->samplers || !b->out)
        status = cli_error(err, LM_NOMEM, "out of memory for a batch of %zu", n);
    for (size_t i = 0; status == LM_OK && i < n; i++) status = lm_seq_create(engine, LM_KV_AUTO, &b->seqs[i], err);
    if (status != LM_OK) batch_free(b);
    return status;
}

/* Reads all tokens of each prompt but the last, PREFILL_BATCH prompts at a time. */
static lm_status batch_prefill(lm_engine *engine, const bench_args *a, const int32_t *prompts, batch *b,
                               lm_error *err) {
    int64_t last = a->prompt_tokens - 1;
    for (size_t from = 0; from < b->n; from += PREFILL_BATCH) {
        size_t n = b->n - from < PREFILL_BATCH ? b->n - from : PREFILL_BATCH;
        for (int64_t done = 0; done < last;) {
            int64_t chunk = last - done < a->prefill_step_size ? last - done : a->prefill_step_size;
            for (size_t i = 0; i < n; i++)
                b->rows[i] = (lm_row){.seq = b->seqs[from + i],
                                      .tokens = prompts + (int64_t)(from + i) * a->prompt_tokens + done,
                                      .n_tokens = (size_t)chunk};
            lm_status status = lm_step(engine, b->rows, n, cli_cancel(), err);
            if (status != LM_OK) return status;
            done += chunk;
        }
    }
    return LM_OK;
}

static lm_status batch_decode(lm_engine *engine, const bench_args *a, const int32_t *prompts, batch *b, lm_error *err) {
    for (size_t i = 0; i < b->n; i++) {
        b->samplers[i] = lm_sampler_greedy();
        b->decoding[i] = (lm_decode_row){.seq = b->seqs[i],
                                         .token = prompts[(int64_t)(i + 1) * a->prompt_tokens - 1],
                                         .sampler = &b->samplers[i],
                                         .out = b->out + i * BURST};
    }
    for (int64_t done = 0; done < a->generation_tokens;) {
        int64_t n = a->generation_tokens - done < BURST ? a->generation_tokens - done : BURST;
        lm_status status = lm_decode(engine, b->decoding, b->n, (size_t)n, NULL, 0, cli_cancel(), err);
        if (status != LM_OK) return status;
        done += n;
    }
    return LM_OK;
}

static lm_status run_batch(lm_engine *engine, const bench_args *a, const int32_t *prompts, bench_trial *t,
                           lm_error *err) {
    double start = cli_now(), prefill = 0;
    lm_status status = LM_OK;
    for (int64_t from = 0; status == LM_OK && from < a->batch_size; from += BENCH_BATCH) {
        int64_t n = a->batch_size - from < BENCH_BATCH ? a->batch_size - from : BENCH_BATCH;
        const int32_t *part = prompts + from * a->prompt_tokens;
        batch b;
        status = batch_create(engine, (size_t)n, &b, err);
        if (status != LM_OK) break;
        double begun = cli_now();
        status = batch_prefill(engine, a, part, &b, err);
        prefill += cli_now() - begun;
        if (status == LM_OK) status = batch_decode(engine, a, part, &b, err);
        batch_free(&b);
    }
    double rest = cli_now() - start - prefill;
    t->prompt_tps = prefill > 0 ? (double)(a->batch_size * (a->prompt_tokens - 1)) / prefill : 0;
    t->generation_tps = rest > 0 ? (double)(a->batch_size * a->generation_tokens) / rest : 0;
    return status;
}

/* ---------------------------------------------------------------- trials */

static lm_status run_trial(lm_engine *engine, const bench_args *a, const int32_t *prompts, bench_trial *t,
                           lm_error *err) {
    lm_memory_stats memory;
    lm_engine_reset_peak(engine); /* each trial's own high-water mark */
    double start = cli_now();
    lm_status status =
        a->batch_size == 1 ? run_single(engine, a, prompts, t, err) : run_batch(engine, a, prompts, t, err);
    t->total_time = cli_now() - start;
    lm_engine_get_memory(engine, &memory);
    t->peak_memory = (double)memory.peak / 1e9;
    t->rss = (double)memory.rss_peak / 1e9;
    return status;
}

static lm_status sleep_seconds(int64_t seconds, lm_error *err) {
    struct timespec t = {(time_t)seconds, 0};
    nanosleep(&t, NULL); /* a signal ends it early */
    return *cli_cancel() ? cli_error(err, LM_CANCELLED, "cancelled") : LM_OK;
}

lm_status bench_run_trials(lm_engine *engine, const bench_args *a, const int32_t *prompts, bench_trial *trials,
                           lm_error *err) {
    FILE *f = a->json ? stderr : stdout;
    lm_status status = LM_OK;
    if (a->warmup) {
        bench_trial warmup;
        fprintf(f, "Running warmup..\n");
        fflush(f);
        if ((status = run_trial(engine, a, prompts, &warmup, err)) != LM_OK) return status;
    }
    fprintf(f, "Timing with prompt_tokens=%lld, generation_tokens=%lld, batch_size=%lld.\n",
            (long long)a->prompt_tokens, (long long)a->generation_tokens, (long long)a->batch_size);
    for (int64_t i = 0; i < a->num_trials; i++) {
        fflush(f);
        if (a->delay > 0 && (status = sleep_seconds(a->delay, err)) != LM_OK) return status;
        bench_trial *t = &trials[i];
        if ((status = run_trial(engine, a, prompts, t, err)) != LM_OK) return status;
        fprintf(f, "Trial %lld:  prompt_tps=%.3f, generation_tps=%.3f, peak_memory=%.3f, total_time=%.3f\n",
                (long long)i + 1, t->prompt_tps, t->generation_tps, t->peak_memory, t->total_time);
    }
    return LM_OK;
}

/* One more batch, with stage clocks. */
static lm_status run_profile(lm_engine *engine, const bench_args *a, const int32_t *prompts, bench_limits *l,
                             lm_error *err) {
    batch b;
    const size_t n = (size_t)(a->batch_size < BENCH_BATCH ? a->batch_size : BENCH_BATCH);
    lm_status status = batch_create(engine, n, &b, err);
    if (status != LM_OK) return status;
    double start = cli_now();
    if (status == LM_OK) status = lm_engine_profile(engine, true, err);
    if (status == LM_OK) status = batch_prefill(engine, a, prompts, &b, err);
    if (status == LM_OK && a->prompt_tokens > 1)
        bench_take_stages(engine, &l->prompt, (int64_t)n * (a->prompt_tokens - 1), cli_now() - start);
    start = cli_now();
    if (status == LM_OK) status = lm_engine_profile(engine, true, err);
    if (status == LM_OK) status = batch_decode(engine, a, prompts, &b, err);
    if (status == LM_OK)
        bench_take_stages(engine, &l->generation, (int64_t)n * a->generation_tokens, cli_now() - start);
    if (status == LM_OK) status = lm_engine_profile(engine, false, err);
    batch_free(&b);
    return status;
}

static lm_status measure_limits(lm_engine *engine, const bench_args *a, const lm_engine_info *info,
                                const int32_t *prompts, const bench_trial *trials, bench_limits *l, lm_error *err) {
    lm_status status = LM_OK;
    if (a->ceilings) status = bench_measure_ceilings(engine, l, err);
    if (status == LM_OK && a->profile) status = run_profile(engine, a, prompts, l, err);
    bench_shares(a, engine, info, bench_mean_tps(trials, a->num_trials, false),
                 bench_mean_tps(trials, a->num_trials, true), l);
    return status;
}

lm_status bench_make_prompts(const bench_args *a, int64_t vocab, int32_t **out, lm_error *err) {
    int64_t largest = 0;
    for (size_t i = 0; i < a->n_sizes; i++)
        if (a->sizes[i] > largest) largest = a->sizes[i];
    const size_t n = (size_t)largest * (size_t)a->prompt_tokens;
    if (!(*out = malloc(n * sizeof **out))) return cli_error(err, LM_NOMEM, "out of memory for %zu prompt tokens", n);
    lm_sampler seed = lm_sampler_greedy();
    lm_sampler_seed(&seed, 0);
    lm_random_randint(seed.key, 0, (int32_t)vocab, n, *out);
    return LM_OK;
}

static lm_status measure(lm_engine *engine, const bench_args *a, lm_error *err) {
    lm_engine_info info;
    lm_engine_get_info(engine, &info);
    int32_t *prompts = NULL;
    bench_trial *trials = calloc((size_t)a->num_trials, sizeof *trials);
    lm_status status = bench_make_prompts(a, info.vocab_size, &prompts, err);
    if (status == LM_OK && !trials) status = cli_error(err, LM_NOMEM, "out of memory for the trials");
    if (status == LM_OK) status = bench_run_trials(engine, a, prompts, trials, err);
    bench_limits limits = {0};
    if (status == LM_OK) status = measure_limits(engine, a, &info, prompts, trials, &limits, err);
    if (status == LM_OK) status = bench_report(a, &info, trials, &limits, err);
    free(prompts);
    free(trials);
    return status;
}

/* Returns -1 or the exit code. */
static int check_args(const char *prog, const bench_args *a) {
    const struct {
        const char *name;
        int64_t value, least, most;
    } limits[] = {{"--prompt-tokens", a->prompt_tokens, 1, 1 << 28},
                  {"--generation-tokens", a->generation_tokens, 1, 1 << 28},
                  {"--num-trials", a->num_trials, 1, 1 << 20},
                  {"--prefill-step-size", a->prefill_step_size, 1, INT64_MAX},
                  {"--delay", a->delay, 0, 1 << 24}};
    lm_error err = {0};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        if (limits[i].value >= limits[i].least && limits[i].value <= limits[i].most) continue;
        cli_error(&err, LM_ARG, "%s: expected a number in [%lld, %lld], found %lld", limits[i].name,
                  (long long)limits[i].least, (long long)limits[i].most, (long long)limits[i].value);
        return cli_fail(prog, &err);
    }
    for (size_t i = 0; i < a->n_sizes; i++) {
        if (a->sizes[i] >= 1 && a->sizes[i] <= BENCH_MAX_SIZE) continue;
        cli_error(&err, LM_ARG, "--batch-size: expected a number in [1, %d], found %lld", BENCH_MAX_SIZE,
                  (long long)a->sizes[i]);
        return cli_fail(prog, &err);
    }
    if (a->n_sizes > 1 && (a->ceilings || a->profile)) {
        cli_error(&err, LM_ARG, "--batch-size: --ceilings and --profile take one size, found %zu", a->n_sizes);
        return cli_fail(prog, &err);
    }
    return -1;
}

int cmd_benchmark(int argc, char **argv) {
    bench_args a = {.prompt_tokens = 512, .generation_tokens = 1024, .num_trials = 5, .warmup = true};
    const char *sizes = "1";
    a.prefill_step_size = 2048;
    a.engine = (engine_args)ENGINE_ARGS_DEFAULT(false);
    bool pipeline = false, quantize_activations = false;
    const arg_spec specs[] = {
        ARG("--model", ARG_STRING, &a.model, "folder or cached repo id (default: " CLI_DEFAULT_MODEL ")"),
        ARG_WITH("--prompt-tokens", ARG_INT, &a.prompt_tokens, "length of the prompt (default: 512)", .alias = "-p"),
        ARG_WITH("--generation-tokens", ARG_INT, &a.generation_tokens, "tokens to generate (default: 1024)",
                 .alias = "-g"),
        ARG_WITH("--batch-size", ARG_STRING, &sizes,
                 "sequences at a time (default: 1); 1,2,4,... prints a table, without and with --batch-invariant",
                 .alias = "-b"),
        ARG_WITH("--num-trials", ARG_INT, &a.num_trials, "timed trials (default: 5)", .alias = "-n"),
        ARG_WITH("--pipeline", ARG_FLAG, &pipeline, "pipeline parallelism over several nodes",
                 .unsupported = "--pipeline: several nodes are not built yet"),
        ARG_WITH("--quantize-activations", ARG_FLAG, &quantize_activations, "quantize activations as the weights are",
                 .alias = "-qa", .unsupported = "--quantize-activations: quantized activations are not built yet"),
        ARG("--prefill-step-size", ARG_INT, &a.prefill_step_size, "prompt tokens of one step (default: 2048)"),
        ARG("--delay", ARG_INT, &a.delay, "seconds to wait before each trial"),
        ARG("--json", ARG_FLAG, &a.json, "print one JSON object to stdout, the lines to stderr"),
        ARG("--ceilings", ARG_FLAG, &a.ceilings,
            "after the trials, measure the machine and print each figure's share of what it can do"),
        ARG("--profile", ARG_FLAG, &a.profile, "after the trials, show where the time goes, stage by stage"),
        ARG("--warmup", ARG_ON_OFF, &a.warmup, "one run before the trials that isn't counted (default: on)"),
        KV_ARGS(a.engine),
        ENGINE_ARGS(a.engine),
        {0},
    };
    int code = args_parse(argv[0], "LLM benchmarking", specs, argc, argv);
    if (code < 0 && !bench_parse_sizes(sizes, &a))
        code = args_error(argv[0], specs, "argument --batch-size/-b: invalid int value: '%s'", sizes);
    if (code < 0) code = check_args(argv[0], &a);
    if (code >= 0) return code;
    a.batch_size = a.sizes[0];
    if (!a.model) a.model = CLI_DEFAULT_MODEL;
    lm_error err = {0};
    if (a.n_sizes > 1) return bench_batches(&a, &err) == LM_OK ? 0 : cli_fail(argv[0], &err);
    lm_engine_options options = engine_args_options(&a.engine);
    lm_engine *engine = NULL;
    lm_status status = cli_engine_open(a.model, &options, &engine, &err);
    if (status == LM_OK) status = measure(engine, &a, &err);
    lm_engine_close(engine);
    return status == LM_OK ? 0 : cli_fail(argv[0], &err);
}
