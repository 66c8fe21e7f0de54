/* SPDX-License-Identifier: MIT
 * compare_text.c: a comparison as Markdown (tables, a matrix of pairs, flipped questions) and as JSON. */
#include "compare.h"
#include <stdlib.h>
#include <string.h>

/* A, B, … Z, then R26, R27, … */
static const char *letter(size_t i, char text[24]) {
    if (i < 26) {
        text[0] = (char)('A' + i);
        text[1] = 0;
    } else {
        lm_ev_buf b = {0};
        lm_ev_buf_format(&b, "R%zu", i);
        if (!b.failed && b.length < 24) memcpy(text, b.data, b.length + 1);
        lm_ev_buf_free(&b);
    }
    return text;
}

static const lm_ev_pair_row *whole(const lm_ev_pair *pair) {
    return &pair->rows[pair->n_rows - 1];
}

/* Score of result i on everything, from any pair that has it. */
static double score_of(const lm_ev_comparison *c, size_t i) {
    for (size_t k = 0; k < c->n_pairs; k++) {
        if (c->pairs[k].a == i) return whole(&c->pairs[k])->a;
        if (c->pairs[k].b == i) return whole(&c->pairs[k])->b;
    }
    return 0;
}

static const char *fact(const lm_ev_result *r, const char *object, const char *key, const char *otherwise) {
    const char *text = json_string_value(json_object_get(json_object_get(r->report, object), key));
    return text ? text : otherwise;
}

/* A cell of a table, or a word: no bars, no controls. */
static void add_cell(lm_ev_buf *out, const char *text) {
    for (; *text; text++) {
        if (*text == '|') lm_ev_buf_add(out, "\\", 1);
        lm_ev_buf_add(out, (unsigned char)*text < 0x20 || *text == 0x7f ? " " : text, 1);
    }
}

static void add_results_table(const lm_ev_comparison *c, lm_ev_buf *out) {
    char name[24];
    lm_ev_buf_text(out, "|result|folder|type|precision|rules|questions|score|95 % interval (Wilson)|\n"
                        "|---|---|---|---|---|---:|---:|---|\n");
    for (size_t i = 0; i < c->n_results; i++) {
        const lm_ev_result *r = &c->results[i];
        double score = score_of(c, i);
        lm_ev_interval w = lm_ev_wilson(score * (double)r->n, (double)r->n);
        lm_ev_buf_format(out, "|%s|", letter(i, name));
        add_cell(out, r->folder);
        lm_ev_buf_text(out, "|");
        add_cell(out, fact(r, "model", "type", "?"));
        lm_ev_buf_text(out, "|");
        add_cell(out, fact(r, "model", "precision", "?"));
        lm_ev_buf_text(out, "|");
        add_cell(out, fact(r, "settings", "rules", "mlx-lm"));
        lm_ev_buf_format(out, "|%zu|%.4f|%.4f to %.4f|\n", r->n, score, w.low, w.high);
    }
}

/* "note: setting KEY" of a report's key, which is outside text. */
static void add_setting(lm_ev_buf *out, const char *key) {
    lm_ev_buf_text(out, "note: setting ");
    add_cell(out, key);
}

/* Settings in which results differ from the first: a paired test stands, but the model isn't all that changed. */
static void add_setting_notes(const lm_ev_comparison *c, lm_ev_buf *out) {
    json_t *first = json_object_get(c->results[0].report, "settings"), *value;
    const char *key;
    char name[24];
    for (size_t i = 1; i < c->n_results; i++) {
        json_t *other = json_object_get(c->results[i].report, "settings");
        json_object_foreach(first, key, value) {
            if (json_equal(value, json_object_get(other, key))) continue;
            add_setting(out, key);
            lm_ev_buf_format(out, " differs between A and %s\n", letter(i, name));
        }
        json_object_foreach(other, key, value) {
            if (json_object_get(first, key)) continue;
            add_setting(out, key);
            lm_ev_buf_format(out, " is given in %s only\n", letter(i, name));
        }
    }
}

/* The matrix: row minus column is what the row's model scores more; "=" marks pairs that can't be told apart. */
static void add_matrix(const lm_ev_comparison *c, lm_ev_buf *out) {
    char x[24];
    lm_ev_buf_text(out, "\n## Matrix: score of the column minus score of the row, ± 1.96 standard errors\n\n||");
    for (size_t i = 0; i < c->n_results; i++) lm_ev_buf_format(out, "%s|", letter(i, x));
    lm_ev_buf_text(out, "\n|---|");
    for (size_t i = 0; i < c->n_results; i++) lm_ev_buf_text(out, "---|");
    lm_ev_buf_text(out, "\n");
    for (size_t a = 0; a < c->n_results; a++) {
        lm_ev_buf_format(out, "|**%s**|", letter(a, x));
        for (size_t b = 0; b < c->n_results; b++) {
            const lm_ev_pair *pair = NULL;
            for (size_t k = 0; k < c->n_pairs && !pair; k++)
                if ((c->pairs[k].a == a && c->pairs[k].b == b) || (c->pairs[k].a == b && c->pairs[k].b == a))
                    pair = &c->pairs[k];
            if (!pair) {
                lm_ev_buf_text(out, "|");
                continue;
            }
            const lm_ev_pair_row *row = whole(pair);
            double d = pair->a == a ? row->difference : 0 - row->difference;
            lm_ev_buf_format(out, "%+.4f ± %.4f%s|", d, row->normal.high - row->difference,
                             pair->separable ? "" : " =");
        }
        lm_ev_buf_text(out, "\n");
    }
}

static void add_pair_row(const lm_ev_pair_row *row, const char *name, lm_ev_buf *out) {
    lm_ev_buf_format(out, "|%s|%zu|%.4f|%.4f|%+.4f|", name, row->n, row->a, row->b, row->difference);
    if (row->has_se)
        lm_ev_buf_format(out, "%+.4f to %+.4f", row->normal.low, row->normal.high);
    else
        lm_ev_buf_text(out, "N/A");
    double n = (double)row->n;
    lm_ev_buf_format(out, "|%+.4f to %+.4f|%lld|%lld|%.4g|%.4g|%.4f|%.4f|\n", row->bootstrap.low, row->bootstrap.high,
                     (long long)row->only_a, (long long)row->only_b, row->p, row->holm, (double)row->same_score / n,
                     (double)row->same_answer / n);
}

static void add_pair_header(const char *first, lm_ev_buf *out) {
    lm_ev_buf_format(out,
                     "|%s|questions|first|second|difference|95 %% (normal)|95 %% (bootstrap)|only first right|"
                     "only second right|McNemar p|Holm p|equal score|equal answer|\n"
                     "|---|---:|---:|---:|---:|---|---|---:|---:|---:|---:|---:|---:|\n",
                     first);
}

/* doc_ids of one task that only one side got right. */
static void add_flips(const lm_ev_sample_list *a, const lm_ev_sample_list *b, bool first_right, lm_ev_buf *out) {
    bool any = false;
    for (size_t i = 0; i < a->n; i++) {
        double d = a->items[i].score - b->items[i].score;
        if (first_right ? !(d > 0) : !(d < 0)) continue;
        lm_ev_buf_format(out, "%s%lld", any ? " " : "", (long long)a->items[i].doc_id);
        any = true;
    }
}

static void add_flip_table(const lm_ev_comparison *c, const lm_ev_pair *pair, lm_ev_buf *out) {
    const lm_ev_result *a = &c->results[pair->a], *b = &c->results[pair->b];
    lm_ev_buf_text(out,
                   "\n### Flipped questions (doc_id)\n\n|task|only first right|only second right|\n|---|---|---|\n");
    for (size_t i = 0; i < a->n_tasks; i++) {
        lm_ev_buf_format(out, "|%s|", a->tasks[i].task->name);
        add_flips(&a->tasks[i], &b->tasks[i], true, out);
        lm_ev_buf_text(out, "|");
        add_flips(&a->tasks[i], &b->tasks[i], false, out);
        lm_ev_buf_text(out, "|\n");
    }
}

static void add_verdict(const lm_ev_comparison *c, lm_ev_buf *out) {
    size_t separable = 0;
    for (size_t i = 0; i < c->n_pairs; i++) separable += c->pairs[i].separable;
    if (c->n_pairs == 1) {
        lm_ev_buf_format(out, "\nThe two are %s (McNemar's exact test over all questions, p %s 0.05).\n",
                         separable ? "separable" : "not separable: the difference may be chance",
                         separable ? "below" : "not below");
        return;
    }
    lm_ev_buf_format(
        out,
        "\n%zu of %zu pairs are separable. A pair marked = is not: its McNemar p, adjusted by Holm for the "
        "%zu pairs compared, is not below 0.05, so that all marks together are wrong with a chance of at "
        "most 5 %%. An unadjusted p of a pair picked afterwards doesn't say that.\n",
        separable, c->n_pairs, c->n_pairs);
}

void lm_ev_comparison_markdown(const lm_ev_comparison *c, lm_ev_buf *out) {
    char x[24], y[24];
    lm_ev_buf_text(out, "# Comparison\n\n");
    add_results_table(c, out);
    add_verdict(c, out);
    add_setting_notes(c, out);
    if (c->n_pairs > 1) {
        add_matrix(c, out);
        lm_ev_buf_text(out, "\n## Pairs, all questions\n\n");
        add_pair_header("pair", out);
        for (size_t i = 0; i < c->n_pairs; i++) {
            lm_ev_buf name = {0};
            lm_ev_buf_format(&name, "%s, %s%s", letter(c->pairs[i].a, x), letter(c->pairs[i].b, y),
                             c->pairs[i].separable ? "" : " =");
            add_pair_row(whole(&c->pairs[i]), name.data ? name.data : "", out);
            out->failed |= name.failed;
            lm_ev_buf_free(&name);
        }
    }
    for (size_t i = 0; i < c->n_pairs; i++) {
        const lm_ev_pair *pair = &c->pairs[i];
        lm_ev_buf_format(out, "\n## %s (first) and %s (second)\n\n", letter(pair->a, x), letter(pair->b, y));
        add_pair_header("task", out);
        for (size_t k = 0; k < pair->n_rows; k++) add_pair_row(&pair->rows[k], pair->rows[k].name, out);
        add_flip_table(c, pair, out);
    }
    lm_ev_buf_format(
        out,
        "\nHolm p: tasks are adjusted for the number of tasks, the last row for the number of pairs. Bootstrap: "
        "%zu resamples within tasks, seed %llu.\n",
        c->draws, (unsigned long long)c->seed);
}

/* ---- JSON */

static void add_text(lm_ev_buf *out, const char *text) {
    lm_ev_buf_json(out, text, strlen(text));
}

static void add_number(lm_ev_buf *out, const char *key, double value) {
    lm_ev_buf_format(out, ", \"%s\": ", key);
    lm_ev_buf_double(out, value);
}

static void add_interval(lm_ev_buf *out, const char *key, lm_ev_interval i) {
    lm_ev_buf_format(out, ", \"%s\": [", key);
    lm_ev_buf_double(out, i.low);
    lm_ev_buf_text(out, ", ");
    lm_ev_buf_double(out, i.high);
    lm_ev_buf_text(out, "]");
}

static void add_json_row(const lm_ev_pair_row *row, lm_ev_buf *out) {
    lm_ev_buf_text(out, "{\"name\": ");
    add_text(out, row->name);
    lm_ev_buf_format(out, ", \"questions\": %zu", row->n);
    add_number(out, "first", row->a);
    add_number(out, "second", row->b);
    add_number(out, "difference", row->difference);
    if (row->has_se) {
        add_number(out, "stderr", row->se);
        add_interval(out, "normal_95", row->normal);
    }
    add_interval(out, "bootstrap_95", row->bootstrap);
    lm_ev_buf_format(out, ", \"only_first_right\": %lld, \"only_second_right\": %lld", (long long)row->only_a,
                     (long long)row->only_b);
    add_number(out, "mcnemar_p", row->p);
    add_number(out, "holm_p", row->holm);
    add_number(out, "equal_score", (double)row->same_score / (double)row->n);
    add_number(out, "equal_answer", (double)row->same_answer / (double)row->n);
    lm_ev_buf_text(out, "}");
}

static void add_json_flips(const lm_ev_comparison *c, const lm_ev_pair *pair, lm_ev_buf *out) {
    const lm_ev_result *a = &c->results[pair->a], *b = &c->results[pair->b];
    bool any = false;
    for (size_t t = 0; t < a->n_tasks; t++)
        for (size_t i = 0; i < a->tasks[t].n; i++) {
            const lm_ev_sample *x = &a->tasks[t].items[i], *y = &b->tasks[t].items[i];
            if (!(x->score > y->score) && !(y->score > x->score)) continue;
            lm_ev_buf_format(out, "%s\n        {\"task\": \"%s\", \"doc_id\": %lld, \"target\": ", any ? "," : "",
                             a->tasks[t].task->name, (long long)x->doc_id);
            add_text(out, x->target);
            lm_ev_buf_text(out, ", \"first\": ");
            add_text(out, x->filtered);
            lm_ev_buf_text(out, ", \"second\": ");
            add_text(out, y->filtered);
            lm_ev_buf_format(out, ", \"right\": \"%s\"}", x->score > y->score ? "first" : "second");
            any = true;
        }
}

static void add_json_result(const lm_ev_comparison *c, size_t i, lm_ev_buf *out) {
    const lm_ev_result *r = &c->results[i];
    double score = score_of(c, i);
    lm_ev_buf_text(out, i ? ",\n    {\"folder\": " : "\n    {\"folder\": ");
    add_text(out, r->folder);
    lm_ev_buf_text(out, ", \"type\": ");
    add_text(out, fact(r, "model", "type", "?"));
    lm_ev_buf_text(out, ", \"precision\": ");
    add_text(out, fact(r, "model", "precision", "?"));
    lm_ev_buf_text(out, ", \"rules\": ");
    add_text(out, fact(r, "settings", "rules", "mlx-lm"));
    lm_ev_buf_format(out, ", \"questions\": %zu", r->n);
    add_number(out, "score", score);
    add_interval(out, "wilson_95", lm_ev_wilson(score * (double)r->n, (double)r->n));
    lm_ev_buf_text(out, "}");
}

void lm_ev_comparison_json(const lm_ev_comparison *c, lm_ev_buf *out) {
    lm_ev_buf_text(out, "{\n  \"results\": [");
    for (size_t i = 0; i < c->n_results; i++) add_json_result(c, i, out);
    lm_ev_buf_format(
        out,
        "\n  ],\n  \"bootstrap\": {\"resamples\": %zu, \"seed\": %llu, \"strata\": \"tasks\"},\n"
        "  \"adjustment\": \"holm_p: tasks for the number of tasks, the last row for the number of pairs (%zu)\","
        "\n  \"pairs\": [",
        c->draws, (unsigned long long)c->seed, c->n_pairs);
    for (size_t i = 0; i < c->n_pairs; i++) {
        const lm_ev_pair *pair = &c->pairs[i];
        lm_ev_buf_format(out, "%s\n    {\"first\": %zu, \"second\": %zu, \"separable\": %s, \"rows\": [", i ? "," : "",
                         pair->a, pair->b, pair->separable ? "true" : "false");
        for (size_t k = 0; k < pair->n_rows; k++) {
            lm_ev_buf_text(out, k ? ",\n        " : "\n        ");
            add_json_row(&pair->rows[k], out);
        }
        lm_ev_buf_text(out, "\n      ], \"flips\": [");
        add_json_flips(c, pair, out);
        lm_ev_buf_text(out, "\n      ]}");
    }
    lm_ev_buf_text(out, "\n  ]\n}\n");
}
