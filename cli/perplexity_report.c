/* SPDX-License-Identifier: MIT
 *
 * perplexity_report.c: results of mlx_lm.perplexity as text, Markdown and JSON. */
#include "perplexity.h"
#include <string.h>

static double bits_per_weight(const perplexity_result *r) {
    return r->n_parameters > 0 ? 8.0 * (double)r->weight_bytes / (double)r->n_parameters : 0;
}

void perplexity_print_block(const perplexity_result *r) {
    static const char rule[] = "============================================================";
    printf("\n%s\nEVALUATION RESULTS\n%s\n", rule, rule);
    printf("Model: ");
    cli_print_clean(stdout, r->model);
    printf("\nPerplexity: %.3f \u00b1 %.3f\n", r->score.ppl.value, r->score.ppl.error);
    printf("Evaluation time: %.2f seconds\n", r->seconds);
    printf("Peak memory: %.2f GB\n", (double)r->peak / 1e9);
    printf("Tokens per second: %.0f\n", r->seconds > 0 ? (double)(r->n_tokens - (int64_t)r->n_rows) / r->seconds : 0);
    printf("\nDataset statistics:\n");
    printf("  Total samples: %zu\n", r->n_rows);
    printf("  Total tokens: %lld\n", (long long)r->n_tokens);
}

static void line(const char *label, lm_estimate e, double scale, int digits, const char *unit) {
    printf("  %-24s%.*f \u00b1 %.*f%s\n", label, digits, e.value * scale, digits, e.error * scale, unit);
}

void perplexity_print_comparison(const perplexity_result *r, const char *base) {
    const lm_perplexity *p = &r->score;
    printf("\nAgainst ");
    cli_print_clean(stdout, base);
    printf(" (%lld positions, \u00b1 one standard error):\n", (long long)p->n);
    line("Perplexity:", p->ppl, 1, 4, "");
    line("Base perplexity:", p->base_ppl, 1, 4, "");
    line("Perplexity ratio:", p->ratio, 1, 6, "");
    line("Log ratio:", p->log_ratio, 1, 6, "");
    line("KL divergence, mean:", p->kld, 1, 6, " nats");
    printf("  %-24s%.6f\n", "  median:", p->kld_median);
    printf("  %-24s%.6f\n", "  90 %:", p->kld_90);
    printf("  %-24s%.6f\n", "  99 %:", p->kld_99);
    printf("  %-24s%.6f\n", "  99.9 %:", p->kld_999);
    printf("  %-24s%.6f\n", "  max:", p->kld_max);
    line("Same top token:", p->same_top, 100, 3, " %");
    line("RMS change of p(token):", p->rms_change, 100, 3, " %");
    line("Mean change:", p->mean_change, 100, 3, " %");
}

/* A cell's text: control characters and Markdown's column mark replaced. */
static void print_cell(const char *text) {
    for (; *text; text++) {
        if (*text == '|')
            fputs("\\|", stdout);
        else
            putchar((unsigned char)*text < 32 || *text == 127 ? '?' : *text);
    }
}

static const char *last_part(const char *path) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--; /* "DIR/": the name before the slash, slash included */
    while (n > 0 && path[n - 1] != '/') n--;
    return path[n] ? path + n : path;
}

void perplexity_print_table(const perplexity_result *results, size_t n) {
    bool compared = false;
    for (size_t i = 0; i < n; i++) compared = compared || results[i].score.compared;
    printf("| model | weights | size, MB | bits/weight | PPL |%s\n",
           compared ? " PPL ratio | KLD, mean | KLD, 99 % | KLD, max | same top, % | RMS \u0394p, % |" : "");
    printf("| --- | --- | ---: | ---: | ---: |%s\n", compared ? " ---: | ---: | ---: | ---: | ---: | ---: |" : "");
    for (size_t i = 0; i < n; i++) {
        const perplexity_result *r = &results[i];
        const lm_perplexity *p = &r->score;
        printf("| ");
        print_cell(last_part(r->model));
        printf(" | ");
        print_cell(r->precision ? r->precision : "");
        printf(" | %.1f | %.3f | %.4f \u00b1 %.4f |", (double)r->weight_bytes / 1e6, bits_per_weight(r), p->ppl.value,
               p->ppl.error);
        if (p->compared)
            printf(" %.5f \u00b1 %.5f | %.6f \u00b1 %.6f | %.6f | %.6f | %.2f \u00b1 %.2f | %.3f \u00b1 %.3f |",
                   p->ratio.value, p->ratio.error, p->kld.value, p->kld.error, p->kld_99, p->kld_max,
                   100 * p->same_top.value, 100 * p->same_top.error, 100 * p->rms_change.value,
                   100 * p->rms_change.error);
        else if (compared)
            printf(" base | | | | | |");
        putchar('\n');
    }
}

static json_t *estimate(lm_estimate e) {
    return json_pack("{s:f, s:f}", "value", e.value, "error", e.error);
}

static json_t *comparison(const lm_perplexity *p) {
    json_t *kld = json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "mean", p->kld.value, "error", p->kld.error,
                            "min", p->kld_min, "median", p->kld_median, "p90", p->kld_90, "p99", p->kld_99, "p99_9",
                            p->kld_999, "max", p->kld_max);
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "base_perplexity", estimate(p->base_ppl), "base_nll",
                     estimate(p->base_nll), "ratio", estimate(p->ratio), "log_ratio", estimate(p->log_ratio), "kld",
                     kld, "same_top", estimate(p->same_top), "rms_change", estimate(p->rms_change), "mean_change",
                     estimate(p->mean_change));
}

json_t *perplexity_json(const perplexity_result *r) {
    const lm_perplexity *p = &r->score;
    json_t *o = json_pack("{s:s, s:s?, s:I, s:I, s:f, s:o, s:o, s:I, s:I, s:I, s:I}", "model", r->model, "precision",
                          r->precision, "weight_bytes", (json_int_t)r->weight_bytes, "parameters",
                          (json_int_t)r->n_parameters, "bits_per_weight", bits_per_weight(r), "perplexity",
                          estimate(p->ppl), "nll", estimate(p->nll), "samples", (json_int_t)r->n_rows, "tokens",
                          (json_int_t)r->n_tokens, "scored", (json_int_t)p->n, "batch_size", (json_int_t)r->batch_size);
    if (!o || r->base_only) return o;
    int bad = json_object_set_new(o, "seconds", json_real(r->seconds));
    bad |= json_object_set_new(o, "peak_memory", json_real((double)r->peak / 1e9));
    if (p->compared) bad |= json_object_set_new(o, "against", comparison(p));
    if (!bad) return o;
    json_decref(o);
    return NULL;
}
