/* SPDX-License-Identifier: MIT
 *
 * benchmark_limits.c: --ceilings (what the machine does at most, and the figures' shares of it) and --profile (where
 * the time of a prompt and of generation goes). */
#include "benchmark.h"
#include <string.h>

/* ---------------------------------------------------------------- ceilings */

lm_status bench_measure_ceilings(const lm_engine *engine, bench_limits *l, lm_error *err) {
    return lm_engine_measure_ceilings(engine, l->ceilings, BENCH_CEILINGS, &l->n_ceilings, err);
}

static double larger(double a, double b) {
    return a > b ? a : b;
}

/* Of the matrix peaks of one kind that of the class that the engine computes in. Float16's precision takes float32,
 * three products of bfloat16 parts, or two of bytes where weights are codes of at most 8 bits. */
static double matrix_peak(double f32, double bf16, double int8, const lm_engine_info *info) {
    const char *numerics = info->numerics;
    if (!strcmp(numerics, "int8") && int8 > 0) return int8;
    if (!strcmp(numerics, "bf16") && bf16 > 0) return bf16;
    if (strcmp(numerics, "f16") != 0) return f32;
    return larger(larger(f32, bf16 / 3), info->precision[0] == 'q' ? int8 / 2 : 0);
}

void bench_shares(const bench_args *a, const lm_engine *engine, const lm_engine_info *info, double prompt_tps,
                  double generation_tps, bench_limits *l) {
    if (!l->n_ceilings) return;
    const lm_ceilings *all = &l->ceilings[l->n_ceilings - 1];
    const double n = (double)(a->batch_size < BENCH_BATCH ? a->batch_size : BENCH_BATCH);
    const int64_t depth = a->prompt_tokens + a->generation_tokens / 2;
    const double weights = lm_engine_plan_token_bytes(engine, 0), both = lm_engine_plan_token_bytes(engine, depth);
    l->token_bytes = weights / n + (both - weights);
    l->token_operations = lm_engine_plan_prompt_operations(engine, a->prompt_tokens) / (double)a->prompt_tokens;
    l->read = all->read_weights;
    l->peak = matrix_peak(all->peak_f32, all->peak_bf16, all->peak_int8, info);
    l->peak_blocked = matrix_peak(all->blocked_f32, all->blocked_bf16, all->blocked_int8, info);
    l->generation_share = l->read > 0 ? l->token_bytes * generation_tps / l->read : 0;
    l->prompt_share = l->peak_blocked > 0 ? l->token_operations * prompt_tps / l->peak_blocked : 0;
}

static void print_peak(FILE *f, const char *type, const char *unit, double registers, double blocked) {
    if (registers > 0) fprintf(f, ", %s %.3f %s (from cache %.3f)", type, registers / 1e12, unit, blocked / 1e12);
}

static void print_ceilings(FILE *f, const bench_limits *l, double prompt_tps, double generation_tps) {
    fprintf(f, "Machine: %s; %s by default\n", lm_cpu_description(), lm_topology_description());
    for (size_t i = 0; i < l->n_ceilings; i++) {
        const lm_ceilings *c = &l->ceilings[i];
        fprintf(f, "Ceilings, %d thread%s: read %.1f GB/s (weights %.1f)", c->threads, c->threads == 1 ? "" : "s",
                c->read_anonymous / 1e9, c->read_weights / 1e9);
        print_peak(f, "f32", "TFLOP/s", c->peak_f32, c->blocked_f32);
        print_peak(f, "bf16", "TFLOP/s", c->peak_bf16, c->blocked_bf16);
        print_peak(f, "int8", "TOP/s", c->peak_int8, c->blocked_int8);
        fprintf(f, "\n");
    }
    fprintf(f, "Share of ceiling: generation %.1f%% (%.4f GB a token, %.1f of %.1f GB/s)", 100 * l->generation_share,
            l->token_bytes / 1e9, l->token_bytes * generation_tps / 1e9, l->read / 1e9);
    if (l->peak_blocked > 0)
        fprintf(f, ", prompt %.1f%% (%.3f GFLOP a token, %.3f of %.3f TFLOP/s from cache; of %.3f on registers %.1f%%)",
                100 * l->prompt_share, l->token_operations / 1e9, l->token_operations * prompt_tps / 1e12,
                l->peak_blocked / 1e12, l->peak / 1e12, 100 * l->token_operations * prompt_tps / l->peak);
    fprintf(f, "\n");
}

static json_t *ceilings_json(const bench_limits *l) {
    json_t *list = json_array();
    for (size_t i = 0; i < l->n_ceilings; i++) {
        const lm_ceilings *c = &l->ceilings[i];
        json_array_append_new(list, json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "threads", c->threads,
                                              "read_anonymous", c->read_anonymous, "read_weights", c->read_weights,
                                              "peak_f32", c->peak_f32, "peak_bf16", c->peak_bf16, "peak_int8",
                                              c->peak_int8, "blocked_f32", c->blocked_f32, "blocked_bf16",
                                              c->blocked_bf16, "blocked_int8", c->blocked_int8));
    }
    return list;
}

/* ---------------------------------------------------------------- profile */

void bench_take_stages(const lm_engine *engine, bench_profile *p, int64_t tokens, double seconds) {
    p->n = lm_engine_get_stages(engine, p->stages, BENCH_STAGES);
    p->tokens = tokens;
    p->seconds = seconds;
}

static double outside(const bench_profile *p) {
    double rest = p->seconds;
    for (size_t i = 0; i < p->n; i++) rest -= p->stages[i].seconds;
    return rest;
}

static void print_stage(FILE *f, const bench_profile *p, const char *name, double seconds, uint64_t calls,
                        uint64_t bytes) {
    fprintf(f, "  %-22s %5.1f%% %10.4f ms %9.1f calls", name, 100 * seconds / p->seconds,
            1e3 * seconds / (double)p->tokens, (double)calls / (double)p->tokens);
    if (bytes && seconds > 0) fprintf(f, " %7.1f GB/s", (double)bytes / seconds / 1e9);
    fprintf(f, "\n");
}

static void print_profile(FILE *f, const char *what, const bench_profile *p) {
    if (!p->n || p->seconds <= 0) return;
    fprintf(f, "Profile of %s, per token (%lld tokens, %.3f s):\n", what, (long long)p->tokens, p->seconds);
    for (size_t i = 0; i < p->n; i++) {
        const lm_stage *s = &p->stages[i];
        print_stage(f, p, s->name, s->seconds, s->calls, s->bytes);
    }
    print_stage(f, p, "outside of stages", outside(p), 0, 0);
}

static json_t *profile_json(const bench_profile *p) {
    json_t *list = json_array();
    for (size_t i = 0; i < p->n; i++) {
        const lm_stage *s = &p->stages[i];
        json_array_append_new(list, json_pack("{s:s, s:f, s:I, s:I}", "stage", s->name, "seconds", s->seconds, "calls",
                                              (json_int_t)s->calls, "weight_bytes", (json_int_t)s->bytes));
    }
    return json_pack("{s:I, s:f, s:f, s:o}", "tokens", (json_int_t)p->tokens, "seconds", p->seconds, "outside",
                     outside(p), "stages", list);
}

/* ---------------------------------------------------------------- both */

void bench_limits_print(FILE *f, const bench_limits *l, double prompt_tps, double generation_tps) {
    if (l->n_ceilings) print_ceilings(f, l, prompt_tps, generation_tps);
    print_profile(f, "the prompt", &l->prompt);
    print_profile(f, "generation", &l->generation);
    fflush(f);
}

void bench_limits_json(const bench_limits *l, json_t *to) {
    if (l->n_ceilings) {
        json_object_set_new(to, "ceilings", ceilings_json(l));
        json_object_set_new(to, "shares",
                            json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "generation", l->generation_share,
                                      "prompt", l->prompt_share, "token_bytes", l->token_bytes, "token_operations",
                                      l->token_operations, "read", l->read, "peak", l->peak, "peak_blocked",
                                      l->peak_blocked));
    }
    if (l->generation.n)
        json_object_set_new(
            to, "profile",
            json_pack("{s:o, s:o}", "prompt", profile_json(&l->prompt), "generation", profile_json(&l->generation)));
}
