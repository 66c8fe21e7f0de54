/* SPDX-License-Identifier: MIT
 * report.c: what an evaluation says: mlx_lm's result file and stdout, samples, requests, our report. Key order, spacing
 * and numbers are those of lm-eval's results through Python's json.dumps. (The markdown table is in table.c.) */
#include "report.h"
#include "stats.h"
#include <stdlib.h>
#include <string.h>

/* ---- numbers */

lm_status lm_ev_rows_make(const lm_eval *eval, lm_ev_rows *rows, lm_error *err) {
    *rows = (lm_ev_rows){0};
    rows->tasks = calloc(eval->n_tasks, sizeof *rows->tasks);
    rows->groups = calloc(eval->n_groups + 1, sizeof *rows->groups);
    double *scores = calloc(eval->n_requests + 1, sizeof *scores);
    if (!rows->tasks || !rows->groups || !scores) {
        free(scores);
        lm_ev_rows_free(rows);
        return lm_ev_fail(err, LM_NOMEM, "out of memory for the results");
    }
    for (size_t i = 0; i < eval->n_tasks; i++) {
        const lm_ev_run_task *run = &eval->tasks[i];
        size_t n = 0;
        for (size_t k = 0; k < run->count; k++) n += lm_ev_question_score(eval, run->first + k, &scores[n]);
        if (!n) continue;
        rows->tasks[rows->n_tasks++] = (lm_ev_row){
            .name = run->task->name,
            .alias = run->task->alias,
            .family = run->task->family,
            .version = eval->rules == LM_EVAL_RULES_SEED ? run->task->family->version_seed : run->task->family->version,
            .shots = lm_ev_shots(eval, run->task),
            .count = (int64_t)n,
            .value = lm_ev_mean(scores, n),
            .has_stderr = n > 1,
            .stderr_value = n > 1 ? lm_ev_mean_stderr(scores, n) : 0,
        };
    }
    free(scores);
    return lm_ev_rows_group(eval, rows, err);
}

lm_status lm_ev_rows_group(const lm_eval *eval, lm_ev_rows *rows, lm_error *err) {
    double *values = calloc(rows->n_tasks + 1, sizeof *values), *errors = calloc(rows->n_tasks + 1, sizeof *errors);
    int64_t *sizes = calloc(rows->n_tasks + 1, sizeof *sizes);
    for (size_t g = 0; values && errors && sizes && g < eval->n_groups; g++) {
        const lm_ev_group *group = eval->groups[g];
        lm_ev_row row = {
            .name = group->name, .alias = group->alias, .version = group->version, .has_stderr = true, .group = group};
        size_t n = 0;
        for (size_t i = 0; i < rows->n_tasks; i++) {
            const lm_ev_row *task = &rows->tasks[i];
            if (!lm_ev_in_group(group, task->name)) continue;
            values[n] = task->value;
            errors[n] = task->stderr_value;
            sizes[n++] = task->count;
            row.has_stderr = row.has_stderr && task->has_stderr;
            row.count += task->count;
            row.family = task->family;
            row.shots = task->shots;
        }
        if (!n) continue;
        row.value = lm_ev_group_mean(values, sizes, n, group->weight_by_size);
        if (row.has_stderr) row.stderr_value = lm_ev_group_stderr(errors, sizes, n, group->weight_by_size);
        rows->groups[rows->n_groups++] = row;
    }
    bool memory = values && errors && sizes;
    free(values);
    free(errors);
    free(sizes);
    if (memory) return LM_OK;
    lm_ev_rows_free(rows);
    return lm_ev_fail(err, LM_NOMEM, "out of memory for the results");
}

void lm_ev_rows_free(lm_ev_rows *rows) {
    free(rows->tasks);
    free(rows->groups);
    *rows = (lm_ev_rows){0};
}

bool lm_ev_in_group(const lm_ev_group *group, const char *name) {
    for (const char *const *m = group->members; *m; m++)
        if (strcmp(*m, name) == 0) return true;
    return false;
}

/* ---- mlx_lm's texts */

/* One inner object; `indent` is the depth of its own braces. */
static void add_row(lm_ev_buf *out, const lm_ev_row *row, int indent) {
    const char *metric = row->family->metric.name, *filter = row->family->filter.name;
    const char *keys[2] = {row->group ? "alias" : "name", row->group ? "name" : "alias"};
    const char *texts[2] = {row->group ? row->alias : row->name, row->group ? row->name : row->alias};
    int in = indent + 4;
    lm_ev_buf_text(out, "{\n");
    for (int i = 0; i < 2; i++) lm_ev_buf_format(out, "%*s\"%s\": \"%s\",\n", in, "", keys[i], texts[i]);
    lm_ev_buf_format(out, "%*s\"sample_len\": %lld,\n%*s\"%s,%s\": ", in, "", (long long)row->count, in, "", metric,
                     filter);
    lm_ev_buf_double(out, row->value);
    lm_ev_buf_format(out, ",\n%*s\"%s_stderr,%s\": ", in, "", metric, filter);
    if (row->has_stderr)
        lm_ev_buf_double(out, row->stderr_value);
    else
        lm_ev_buf_text(out, "\"N/A\"");
    if (row->group)
        lm_ev_buf_format(out, ",\n%*s\"sample_count\": {\n%*s\"%s,%s\": %lld\n%*s}", in, "", in + 4, "", metric, filter,
                         (long long)row->count, in, "");
    lm_ev_buf_format(out, "\n%*s}", indent, "");
}

/* The object name -> metrics, its braces at depth `indent`. */
static void add_results(lm_ev_buf *out, const lm_ev_rows *rows, int indent) {
    size_t n = rows->n_tasks + rows->n_groups;
    if (!n) {
        lm_ev_buf_text(out, "{}");
        return;
    }
    lm_ev_buf_text(out, "{\n");
    for (size_t i = 0; i < n; i++) {
        const lm_ev_row *row = i < rows->n_tasks ? &rows->tasks[i] : &rows->groups[i - rows->n_tasks];
        lm_ev_buf_format(out, "%*s\"%s\": ", indent + 4, "", row->name);
        add_row(out, row, indent + 4);
        lm_ev_buf_text(out, i + 1 < n ? ",\n" : "\n");
    }
    lm_ev_buf_format(out, "%*s}", indent, "");
}

static void add_stdout(lm_ev_buf *out, const lm_ev_rows *rows) {
    for (size_t i = 0; i < rows->n_tasks + rows->n_groups; i++) {
        add_row(out, i < rows->n_tasks ? &rows->tasks[i] : &rows->groups[i - rows->n_tasks], 0);
        lm_ev_buf_text(out, "\n");
    }
}

/* ---- our report */

static void add_text(lm_ev_buf *out, const char *key, const char *text, const char *end) {
    lm_ev_buf_format(out, "        \"%s\": ", key);
    if (text)
        lm_ev_buf_json(out, text, strlen(text));
    else
        lm_ev_buf_text(out, "null");
    lm_ev_buf_text(out, end);
}

static void add_number(lm_ev_buf *out, const char *key, double value, const char *end) {
    lm_ev_buf_format(out, "        \"%s\": ", key);
    lm_ev_buf_double(out, value);
    lm_ev_buf_text(out, end);
}

static void add_count(lm_ev_buf *out, const char *key, int64_t value, const char *end) {
    lm_ev_buf_format(out, "        \"%s\": %lld%s", key, (long long)value, end);
}

static void add_settings(const lm_eval *eval, lm_ev_buf *out) {
    lm_ev_buf_text(out, "    \"settings\": {\n        \"tasks\": [");
    for (size_t i = 0; i < eval->n_names; i++) {
        if (i) lm_ev_buf_text(out, ", ");
        lm_ev_buf_json(out, eval->names[i], strlen(eval->names[i]));
    }
    lm_ev_buf_text(out, "],\n");
    add_text(out, "rules", lm_eval_rules_name(eval->rules), ",\n");
    if (eval->has_num_shots) add_count(out, "num_shots", eval->num_shots, ",\n");
    if (eval->limit >= 0) add_count(out, "limit", eval->limit, ",\n");
    if (eval->max_tokens > 0) add_count(out, "max_tokens", eval->max_tokens, ",\n");
    lm_ev_buf_format(out, "        \"chat_template\": %s,\n        \"fewshot_as_multiturn\": %s,\n",
                     eval->chat ? "true" : "false", eval->multiturn ? "true" : "false");
    char *args = json_dumps(eval->template_args, 0);
    if (!args) out->failed = true;
    lm_ev_buf_format(out, "        \"chat_template_args\": %s\n    }", args ? args : "{}");
    free(args);
}

/* What decides the answers' bits: equal for every schedule, load mode and number of threads. */
static void add_model(const lm_eval *eval, lm_ev_buf *out) {
    const lm_engine_info *e = &eval->engine;
    int64_t prompt = 0, generated = 0;
    for (size_t i = 0; i < eval->n_requests * eval->repeats; i++) {
        const lm_ev_answer *answer = &eval->answers[i];
        if (!answer->answered) continue;
        prompt += answer->n_prompt ? (int64_t)answer->n_prompt - 1 : 0;
        generated += (int64_t)answer->n_ids + (strcmp(answer->finish, "stop") == 0);
    }
    lm_ev_buf_text(out, ",\n    \"model\": {\n");
    add_text(out, "path", e->path, ",\n");
    add_text(out, "type", e->model_type, ",\n");
    add_text(out, "precision", e->precision, ",\n");
    add_text(out, "device", e->device, ",\n");
    add_text(out, "numerics", e->numerics, ",\n");
    add_text(out, "kv_type", e->kv_type, ",\n");
    lm_ev_buf_format(out, "        \"weights_fingerprint\": \"%016llx\",\n",
                     (unsigned long long)e->weights_fingerprint);
    lm_ev_buf_format(out, "        \"batch_invariant\": %s\n    }", e->batch_invariant ? "true" : "false");
    lm_ev_buf_format(out, ",\n    \"tokens\": {\"prompt\": %lld, \"generated\": %lld}", (long long)prompt,
                     (long long)generated);
}

/* What differs from run to run: schedule, times, memory. Counts are of the questions that this run answered. */
static void add_run(const lm_eval *eval, lm_ev_buf *out) {
    const lm_eval_progress *s = &eval->stats;
    lm_ev_buf_text(out, "\"run\": {\n");
    lm_ev_buf_format(out, "        \"use_mmap\": %s,\n", eval->engine.use_mmap ? "true" : "false");
    add_count(out, "threads", eval->engine.threads, ",\n");
    add_count(out, "batch_size", eval->batch_size, ",\n");
    lm_ev_buf_format(out, "        \"prefix_sharing\": %s,\n        \"guess\": %s,\n        \"early_stop\": %s,\n",
                     eval->shared ? "true" : "false", eval->speculated ? "true" : "false",
                     eval->stopped_early ? "true" : "false");
    add_count(out, "questions", (int64_t)s->n_done, ",\n");
    add_count(out, "prompt_tokens", s->prompt_tokens, ",\n");
    add_count(out, "computed_prompt_tokens", s->computed_tokens, ",\n");
    add_count(out, "generated_tokens", s->generated_tokens, ",\n");
    add_number(out, "seconds", s->seconds, ",\n");
    add_number(out, "prompt_seconds", s->prompt_seconds, ",\n");
    add_count(out, "steps", s->steps, ",\n");
    add_count(out, "decoded_positions", s->decoded, ",\n");
    add_count(out, "suspended", s->suspended, ",\n");
    add_count(out, "peak_memory_bytes", eval->peak_bytes, ",\n");
    add_count(out, "max_memory_bytes", eval->memory_budget, ",\n");
    add_count(out, "rss_anon_bytes", s->anon_bytes, ",\n");
    add_count(out, "rss_file_bytes", s->file_bytes, ",\n");
    add_count(out, "rss_peak_bytes", eval->rss_peak, "\n    }");
}

static void add_intervals(const lm_ev_rows *rows, lm_ev_buf *out) {
    lm_ev_buf_text(out, ",\n    \"intervals\": {\n        \"method\": \"Wilson, 95 %\"");
    for (size_t i = 0; i < rows->n_tasks + rows->n_groups; i++) {
        const lm_ev_row *row = i < rows->n_tasks ? &rows->tasks[i] : &rows->groups[i - rows->n_tasks];
        lm_ev_interval interval = lm_ev_wilson(row->value * (double)row->count, (double)row->count);
        lm_ev_buf_format(out, ",\n        \"%s\": [", row->name);
        lm_ev_buf_double(out, interval.low);
        lm_ev_buf_text(out, ", ");
        lm_ev_buf_double(out, interval.high);
        lm_ev_buf_text(out, "]");
    }
    lm_ev_buf_text(out, "\n    }");
}

/* Markdown: every score with its error and interval. */
static void add_interval_table(const lm_ev_rows *rows, lm_ev_buf *out) {
    lm_ev_buf_text(out, "|subject|questions|score|stderr|95 % interval (Wilson)|\n|---|---:|---:|---:|---|\n");
    for (size_t i = 0; i < rows->n_tasks + rows->n_groups; i++) {
        const lm_ev_row *row = i < rows->n_tasks ? &rows->tasks[i] : &rows->groups[i - rows->n_tasks];
        lm_ev_interval interval = lm_ev_wilson(row->value * (double)row->count, (double)row->count);
        lm_ev_buf_format(out, "|%s|%lld|%.4f|", row->alias, (long long)row->count, row->value);
        if (row->has_stderr)
            lm_ev_buf_format(out, "%.4f", row->stderr_value);
        else
            lm_ev_buf_text(out, "N/A");
        lm_ev_buf_format(out, "|%.4f to %.4f|\n", interval.low, interval.high);
    }
}

static lm_status add_report(const lm_eval *eval, const lm_ev_rows *rows, bool with_run, lm_ev_buf *out, lm_error *err) {
    lm_ev_buf_text(out, "{\n    \"results\": ");
    add_results(out, rows, 4);
    add_intervals(rows, out);
    if (eval->repeats > 1) EV_TRY(lm_ev_repeats_json(eval, rows, out, err));
    lm_ev_buf_text(out, ",\n    \"data\": {\n");
    add_text(out, "name", eval->dataset->name, ",\n");
    add_text(out, "source", eval->data_dir ? eval->data_dir : "embedded", ",\n");
    add_count(out, "test_rows", eval->n_rows[0], ",\n");
    add_count(out, "fewshot_rows", eval->n_rows[1], ",\n");
    add_text(out, "test_sha256", eval->sha256[0], ",\n");
    add_text(out, "fewshot_sha256", eval->sha256[1], ",\n");
    add_text(out, "note", eval->note, "\n    },\n");
    add_settings(eval, out);
    lm_ev_buf_format(out, ",\n    \"questions\": {\"selected\": %zu, \"answered\": %zu}", eval->n_requests,
                     eval->n_answered / eval->repeats);
    lm_ev_buf_format(out, ",\n    \"versions\": {\"mlx-lm.c\": \"%s\", \"mlx-lm\": \"%s\", \"lm-eval\": \"%s\"}",
                     lm_version(), lm_version_mlx_lm(), lm_version_lm_eval());
    if (eval->ran) add_model(eval, out);
    if (eval->ran && with_run) {
        lm_ev_buf_text(out, ",\n    ");
        add_run(eval, out);
    }
    lm_ev_buf_text(out, "\n}\n");
    return LM_OK;
}

/* ---- JSONL */

static lm_status add_requests(const lm_eval *eval, lm_ev_buf *out, lm_error *err) {
    for (size_t i = 0; i < eval->n_requests && !out->failed; i++) {
        lm_eval_request request;
        EV_TRY(lm_eval_get_request(eval, i, &request, err));
        size_t doc = 0;
        const lm_ev_run_task *run = lm_ev_task_of(eval, i, &doc);
        lm_ev_buf_format(out, "{\"task\": \"%s\", \"doc_id\": %lld, \"prompt\": ", request.task,
                         (long long)request.doc_id);
        lm_ev_buf_json(out, request.prompt, request.prompt_length);
        lm_ev_buf_text(out, ", \"target\": ");
        lm_ev_buf_json(out, request.target, strlen(request.target));
        lm_ev_buf_format(out, ", \"generation_kwargs\": %s}\n", run->task->family->generation_kwargs);
        lm_free(request.prompt);
    }
    return LM_OK;
}

static void add_sample(const lm_ev_run_task *run, size_t doc, const lm_ev_answer *answer, const char *hash,
                       size_t repeat, size_t repeats, lm_ev_buf *out) {
    const char *target = lm_ev_target(run, doc);
    lm_ev_buf_format(out, "{\"task\": \"%s\", \"doc_id\": %zu, \"prompt_hash\": \"%s\", \"target\": ", run->task->name,
                     doc, hash);
    lm_ev_buf_json(out, target, strlen(target));
    lm_ev_buf_text(out, ", \"completion\": ");
    lm_ev_buf_json(out, answer->text, answer->length);
    lm_ev_buf_text(out, ", \"filtered\": ");
    lm_ev_buf_json(out, answer->filtered, strlen(answer->filtered));
    lm_ev_buf_format(out, ", \"%s\": ", run->task->family->metric.name);
    lm_ev_buf_double(out, answer->score);
    if (repeats > 1) lm_ev_buf_format(out, ", \"repeat\": %zu", repeat);
    lm_ev_buf_format(out, ", \"finish\": \"%s\", \"prompt_tokens\": %zu, \"ids\": [", answer->finish, answer->n_prompt);
    for (size_t i = 0; i < answer->n_ids; i++) lm_ev_buf_format(out, i ? ", %d" : "%d", (int)answer->ids[i]);
    lm_ev_buf_text(out, "]}\n");
}

lm_status lm_eval_samples(const lm_eval *eval, size_t task, char **text, size_t *length, lm_error *err) {
    if (task >= eval->n_tasks) return lm_ev_fail(err, LM_ARG, "task %zu of %zu", task, eval->n_tasks);
    const lm_ev_run_task *run = &eval->tasks[task];
    lm_ev_buf out = {0};
    for (size_t i = 0; i < run->count * eval->repeats && !out.failed; i++) {
        const lm_ev_answer *answer = &eval->answers[run->first * eval->repeats + i];
        const size_t doc = i / eval->repeats;
        if (!answer->answered) continue;
        char *prompt = NULL, hash[65];
        size_t n = 0;
        lm_status status = lm_ev_prompt(eval, run, doc, &prompt, &n, err);
        if (status != LM_OK) {
            lm_ev_buf_free(&out);
            return status;
        }
        lm_ev_sha256(prompt, n, hash);
        free(prompt);
        add_sample(run, doc, answer, hash, i % eval->repeats, eval->repeats, &out);
    }
    return lm_ev_buf_take(&out, text, length, err);
}

/* ---- entry points */

lm_status lm_eval_render(const lm_eval *eval, lm_eval_text what, char **text, size_t *length, lm_error *err) {
    lm_ev_buf out = {0};
    lm_ev_rows rows = {0};
    lm_status status =
        what == LM_EVAL_TEXT_REQUESTS ? add_requests(eval, &out, err) : lm_ev_rows_make(eval, &rows, err);
    if (status == LM_OK) {
        switch (what) {
        case LM_EVAL_TEXT_REQUESTS: break;
        case LM_EVAL_TEXT_FILE: add_results(&out, &rows, 0); break;
        case LM_EVAL_TEXT_STDOUT: add_stdout(&out, &rows); break;
        case LM_EVAL_TEXT_TABLE: status = lm_ev_table(eval, &rows, &out, err); break;
        case LM_EVAL_TEXT_INTERVALS: add_interval_table(&rows, &out); break;
        case LM_EVAL_TEXT_REPORT: status = add_report(eval, &rows, false, &out, err); break;
        case LM_EVAL_TEXT_FULL: status = add_report(eval, &rows, true, &out, err); break;
        case LM_EVAL_TEXT_REPEATS: status = lm_ev_repeats_table(eval, &rows, &out, err); break;
        case LM_EVAL_TEXT_RUN:
            lm_ev_buf_text(&out, "{\n    ");
            add_run(eval, &out);
            lm_ev_buf_text(&out, "\n}\n");
            break;
        default: status = lm_ev_fail(err, LM_ARG, "no such text: %d", (int)what);
        }
    }
    lm_ev_rows_free(&rows);
    if (status != LM_OK) {
        lm_ev_buf_free(&out);
        return status;
    }
    return lm_ev_buf_take(&out, text, length, err);
}

lm_status lm_eval_file_name(const lm_eval *eval, const char *model, char **name, lm_error *err) {
    lm_ev_buf out = {0};
    lm_ev_buf_format(&out, "eval_%s_%s", model, lm_version_lm_eval());
    if (eval->has_num_shots) lm_ev_buf_format(&out, "_%02lld", (long long)eval->num_shots);
    for (size_t i = 0; i < eval->n_names; i++) lm_ev_buf_format(&out, "_%s", eval->names[i]);
    if (eval->rules != LM_EVAL_RULES_MLX_LM) lm_ev_buf_format(&out, "_rules-%s", lm_eval_rules_name(eval->rules));
    if (eval->repeats > 1) lm_ev_buf_format(&out, "_repeats-%zu", eval->repeats);
    for (size_t i = 0; i < out.length && !out.failed; i++)
        if (out.data[i] == '/') out.data[i] = '_';
    return lm_ev_buf_take(&out, name, NULL, err);
}
