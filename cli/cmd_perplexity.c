/* SPDX-License-Identifier: MIT
 *
 * cmd_perplexity.c: mlx_lm.perplexity. Flags and stdout are mlx-lm's; ours are text files, --against, --save-logits,
 * --models/--table, --json, --keep-rest, --skip. The scoring is lm/score.h's. */
#include "perplexity.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_TEXT ((size_t)1 << 30)
#define DEFAULT_DATA "allenai/tulu-3-sft-mixture"

typedef struct perplexity_args {
    const char *model, *data, *format, *against, *save;
    arg_list models;
    int64_t batch_size, sequence_length, num_samples, seed, skip;
    bool keep_rest, keep_rest_given, table, json;
    engine_args engine;
} perplexity_args;

/* What is scored, and with what it is compared. */
typedef struct session {
    const perplexity_args *a;
    bool quiet; /* stdout carries the table or JSON only */
    char *text, *name;
    size_t length;
    lm_rows_options options;
    lm_logprobs *file;
    lm_engine *base;
    lm_rows *base_rows; /* of the base's tokenizer: must equal the model's */
    const char **models;
    size_t n_models;
    perplexity_result *results; /* [n_models + 1]: the base first where there is one */
    size_t n_results;
} session;

/* ---------------------------------------------------------------- data */

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* The data's file: a folder means its train.jsonl, as for mlx-lm's local datasets. */
static lm_status find_data(session *s, lm_error *err) {
    struct stat st;
    const char *data = s->a->data;
    bool folder = strcmp(data, "-") != 0 && stat(data, &st) == 0 && S_ISDIR(st.st_mode);
    if (strcmp(data, "-") != 0 && stat(data, &st) != 0)
        return cli_error(err, LM_ARG,
                         "--data-path: %s: no such file; datasets are not downloaded: give a text file, or a .jsonl "
                         "file of \"text\", \"messages\" or \"prompt\" and \"completion\" rows",
                         data);
    size_t size = strlen(data) + sizeof "/train.jsonl";
    s->name = malloc(size);
    if (!s->name) return cli_error(err, LM_NOMEM, "out of memory");
    snprintf(s->name, size, "%s%s", data, folder ? "/train.jsonl" : "");
    return LM_OK;
}

static lm_status read_data(session *s, lm_error *err) {
    const perplexity_args *a = s->a;
    lm_status status = find_data(s, err);
    if (status == LM_OK) status = cli_read_file(s->name, MAX_TEXT, &s->text, &s->length, err);
    if (status != LM_OK) return status;
    bool rows = ends_with(s->name, ".jsonl") || ends_with(s->name, ".json") || ends_with(s->name, ".ndjson");
    if (strcmp(a->format, "auto") != 0) rows = strcmp(a->format, "jsonl") == 0;
    s->options = lm_rows_options_default();
    s->options.format = rows ? LM_ROWS_JSONL : LM_ROWS_TEXT;
    s->options.sequence_length = a->sequence_length;
    s->options.num_samples = a->num_samples;
    s->options.seed = (uint32_t)a->seed;
    s->options.keep_rest = a->keep_rest_given ? a->keep_rest : !rows;
    s->options.skip = a->skip;
    return LM_OK;
}

static lm_status make_rows(const session *s, const lm_engine *engine, lm_rows **rows, lm_error *err) {
    return lm_rows_create(lm_engine_get_tokenizer(engine), s->name, s->text, s->length, &s->options, rows, err);
}

/* ---------------------------------------------------------------- the base */

/* --against: a file of log-probabilities, else a model. */
static lm_status open_base(session *s, lm_error *err) {
    const char *against = s->a->against;
    struct stat st;
    if (!against) return LM_OK;
    if (stat(against, &st) == 0 && S_ISREG(st.st_mode)) return lm_logprobs_open(against, &s->file, err);
    lm_engine_options options = engine_args_options(&s->a->engine);
    lm_status status = cli_engine_open(against, &options, &s->base, err);
    return status == LM_OK ? make_rows(s, s->base, &s->base_rows, err) : status;
}

static lm_status same_ids(const session *s, const lm_rows *rows, lm_error *err) {
    if (!s->base_rows) return LM_OK;
    lm_rows_info a, b;
    lm_rows_get_info(rows, &a);
    lm_rows_get_info(s->base_rows, &b);
    int64_t n = a.n_tokens < b.n_tokens ? a.n_tokens : b.n_tokens;
    for (int64_t i = 0; i < n; i++)
        if (a.ids[i] != b.ids[i])
            return cli_error(err, LM_ARG, "--against: the base's tokenizer differs: token %lld is %d, the model's %d",
                             (long long)i, (int)b.ids[i], (int)a.ids[i]);
    if (a.n_tokens == b.n_tokens) return LM_OK;
    return cli_error(err, LM_ARG, "--against: the base's tokenizer differs: %lld tokens, the model's %lld",
                     (long long)b.n_tokens, (long long)a.n_tokens);
}

/* The base's own line of a table, filled from the first model's comparison. */
static lm_status add_base(session *s, const perplexity_result *first, lm_error *err) {
    perplexity_result *r = &s->results[0];
    lm_engine_info info = {0};
    lm_logprobs_info file = {0};
    if (s->base) lm_engine_get_info(s->base, &info);
    if (s->file) lm_logprobs_get_info(s->file, &file);
    *r = *first;
    r->base_only = true;
    r->model = strdup(s->file ? file.model : s->a->against);
    r->precision = s->base ? strdup(info.precision) : NULL;
    r->weight_bytes = s->file ? file.weight_bytes : info.weight_bytes;
    r->n_parameters = s->file ? file.n_parameters : info.n_parameters;
    r->score = (lm_perplexity){.n = first->score.n, .nll = first->score.base_nll, .ppl = first->score.base_ppl};
    return r->model ? LM_OK : cli_error(err, LM_NOMEM, "out of memory");
}

/* ---------------------------------------------------------------- one model */

typedef struct meter {
    bool quiet;
    size_t batch;
    cli_progress bar;
} meter;

static void show_progress(void *user, size_t done, size_t total) {
    meter *m = user;
    cli_progress_update(&m->bar, (int64_t)done);
    if (m->quiet) return;
    printf("  Processed %zu/%zu batches...\r", (done + m->batch - 1) / m->batch, (total + m->batch - 1) / m->batch);
    fflush(stdout);
}

static lm_status score(session *s, lm_engine *engine, const lm_rows *rows, const char *model, perplexity_result *r,
                       lm_error *err) {
    const perplexity_args *a = s->a;
    meter m = {.quiet = s->quiet, .batch = (size_t)a->batch_size};
    lm_perplexity_options o = lm_perplexity_options_default();
    o.batch_size = a->batch_size;
    o.base = s->base;
    o.base_file = s->file;
    o.save = a->save;
    o.save_name = model;
    o.cancel = cli_cancel();
    o.progress = show_progress;
    o.progress_user = &m;
    if (!s->quiet) printf("\nEvaluating perplexity with batch size %lld...\n", (long long)a->batch_size);
    cli_progress_start(&m.bar, "Scoring", "rows", (int64_t)r->n_rows);
    if (!s->quiet) m.bar.on = false; /* mlx-lm's own line is there */
    double start = cli_now();
    lm_status status = lm_perplexity_run(engine, rows, &o, &r->score, NULL, NULL, err);
    r->seconds = cli_now() - start;
    cli_progress_end(&m.bar);
    if (!s->quiet) putchar('\n');
    lm_memory_stats memory;
    lm_engine_get_memory(engine, &memory);
    r->peak = memory.peak;
    return status;
}

static lm_status describe(const lm_engine *engine, const lm_rows *rows, const char *model, const perplexity_args *a,
                          perplexity_result *r, lm_error *err) {
    lm_engine_info info;
    lm_rows_info facts;
    lm_engine_get_info(engine, &info);
    lm_rows_get_info(rows, &facts);
    r->model = strdup(model);
    r->precision = strdup(info.precision);
    r->weight_bytes = info.weight_bytes;
    r->n_parameters = info.n_parameters;
    r->n_rows = facts.n_rows;
    r->n_tokens = facts.n_tokens;
    r->batch_size = a->batch_size;
    return r->model && r->precision ? LM_OK : cli_error(err, LM_NOMEM, "out of memory");
}

static lm_status load_rows(session *s, lm_engine *engine, lm_rows **rows, lm_error *err) {
    lm_rows_info facts;
    if (!s->quiet) {
        printf("\nLoading dataset...\n  Sequence length: %lld\n", (long long)s->a->sequence_length);
        fflush(stdout);
    }
    lm_status status = make_rows(s, engine, rows, err);
    if (status == LM_OK) status = same_ids(s, *rows, err);
    if (status != LM_OK) return status;
    lm_rows_get_info(*rows, &facts);
    if (!s->quiet) printf("  Loaded %zu samples\n", facts.n_rows);
    if (facts.ran_out && s->options.format == LM_ROWS_JSONL && s->n_results <= 1)
        fprintf(stderr, "note: %s: %lld documents give %zu samples; %lld were asked for\n", s->name,
                (long long)facts.n_documents, facts.n_rows, (long long)s->a->num_samples);
    return LM_OK;
}

static lm_status run_model(session *s, const char *model, perplexity_result *r, lm_error *err) {
    lm_engine_options options = engine_args_options(&s->a->engine);
    lm_engine *engine = NULL;
    lm_rows *rows = NULL;
    if (!s->quiet) {
        printf("Loading model from ");
        cli_print_clean(stdout, model);
        printf("...\n");
        fflush(stdout);
    }
    lm_status status = cli_engine_open(model, &options, &engine, err);
    if (status != LM_OK) return status;
    lm_engine_info info;
    lm_engine_get_info(engine, &info);
    if (!s->quiet) printf("Model loaded: %.1fM parameters\n", (double)info.n_parameters / 1e6);
    status = load_rows(s, engine, &rows, err);
    if (status == LM_OK) status = describe(engine, rows, model, s->a, r, err);
    if (status == LM_OK) status = score(s, engine, rows, model, r, err);
    lm_rows_destroy(rows);
    lm_engine_close(engine);
    return status;
}

/* ---------------------------------------------------------------- all of it */

static lm_status print_json(const session *s, lm_error *err) {
    json_t *root = NULL;
    if (s->a->models.count || s->a->table) {
        root = json_array();
        for (size_t i = 0; root && i < s->n_results; i++)
            if (json_array_append_new(root, perplexity_json(&s->results[i])) != 0) {
                json_decref(root);
                root = NULL;
            }
    } else {
        root = perplexity_json(&s->results[s->n_results - 1]);
    }
    if (!root) return cli_error(err, LM_NOMEM, "out of memory for the report");
    cli_json_print(stdout, root, 4, true);
    putchar('\n');
    json_decref(root);
    return LM_OK;
}

static lm_status print_results(const session *s, lm_error *err) {
    if (s->a->json) return print_json(s, err);
    if (s->quiet) {
        perplexity_print_table(s->results, s->n_results);
        return LM_OK;
    }
    const perplexity_result *r = &s->results[s->n_results - 1];
    perplexity_print_block(r);
    if (r->score.compared) perplexity_print_comparison(r, s->a->against);
    return LM_OK;
}

static lm_status run(session *s, lm_error *err) {
    s->results = calloc(s->n_models + 1, sizeof *s->results);
    if (!s->results) return cli_error(err, LM_NOMEM, "out of memory");
    lm_status status = read_data(s, err);
    if (status == LM_OK) status = open_base(s, err);
    bool with_base = s->a->against && (s->a->table || s->a->models.count);
    size_t first = with_base ? 1 : 0;
    s->n_results = first;
    for (size_t i = 0; status == LM_OK && i < s->n_models; i++) {
        perplexity_result *r = &s->results[s->n_results++];
        status = run_model(s, s->models[i], r, err);
    }
    if (status == LM_OK && with_base) status = add_base(s, &s->results[1], err);
    return status == LM_OK ? print_results(s, err) : status;
}

static void free_session(session *s) {
    for (size_t i = 0; s->results && i <= s->n_models; i++) {
        free(s->results[i].model);
        free(s->results[i].precision);
    }
    free(s->results);
    free(s->text);
    free(s->name);
    lm_rows_destroy(s->base_rows);
    lm_logprobs_close(s->file);
    lm_engine_close(s->base);
}

/* What is wrong with the values, NULL if nothing. */
static const char *check(const perplexity_args *a) {
    if (!a->model && !a->models.count) return "the following arguments are required: --model";
    if (a->model && a->models.count) return "argument --models: not allowed with argument --model";
    if (a->batch_size < 1) return "argument --batch-size: expected at least 1";
    if (a->sequence_length < 0 || a->sequence_length == 1)
        return "argument --sequence-length: expected 0 (one row) or at least 2";
    if (a->num_samples < -1 || a->num_samples == 0) return "argument --num-samples: expected -1 (all) or at least 1";
    if (a->seed < 0 || a->seed > UINT32_MAX) return "argument --seed: expected 0 to 4294967295";
    if (a->skip < 0) return "argument --skip: expected at least 0";
    if (a->save && a->models.count) return "argument --save-logits: goes with --model, not with --models";
    if (strcmp(a->data, "-") == 0 && strcmp(a->format, "auto") == 0)
        return "argument --data-path: - (standard input) needs --data-format";
    return NULL;
}

int cmd_perplexity(int argc, char **argv) {
    perplexity_args a = {.batch_size = 8,
                         .sequence_length = 512,
                         .num_samples = 256,
                         .seed = 123,
                         .data = DEFAULT_DATA,
                         .format = "auto",
                         .engine = ENGINE_ARGS_DEFAULT(true)};
    a.engine.max_memory = -1;
    const arg_spec specs[] = {
        ARG("--model", ARG_STRING, &a.model, "folder or cached repo id"),
        ARG("--batch-size", ARG_INT, &a.batch_size, "rows of a step (default: 8)"),
        ARG("--sequence-length", ARG_INT, &a.sequence_length,
            "tokens of a row, 0 = everything in one row (default: 512)"),
        ARG("--num-samples", ARG_INT, &a.num_samples, "rows at most, -1 = all (default: 256)"),
        ARG("--data-path", ARG_STRING, &a.data,
            "text file, .jsonl file or folder with train.jsonl (datasets are not downloaded)"),
        ARG("--seed", ARG_INT, &a.seed, "seed of the order of JSONL rows (default: 123)"),
        ARG("--against", ARG_STRING, &a.against, "base model to compare with, or a file of --save-logits"),
        ARG("--save-logits", ARG_STRING, &a.save, "write the model's log-probabilities for --against"),
        ARG("--models", ARG_STRINGS, &a.models, "several models: print a Markdown table"),
        ARG("--table", ARG_FLAG, &a.table, "print a Markdown table instead"),
        ARG_WITH("--data-format", ARG_CHOICE, &a.format, "what the data is (default: by the file's name)",
                 .choices = "auto|text|jsonl"),
        ARG_WITH("--keep-rest", ARG_ON_OFF, &a.keep_rest,
                 "score the tokens after the last full row too (default: for text files)", .given = &a.keep_rest_given),
        ARG("--skip", ARG_INT, &a.skip, "first predictions of every row that are not scored (default: 0)"),
        ARG("--json", ARG_FLAG, &a.json, "print one JSON value instead"),
        KV_ARGS(a.engine),
        ENGINE_ARGS(a.engine),
        {0},
    };
    int code = args_parse(argv[0], "Evaluate perplexity, and compare models token by token.", specs, argc, argv);
    const char *wrong = code < 0 ? check(&a) : NULL;
    if (wrong) code = args_error(argv[0], specs, "%s", wrong);
    if (code >= 0) {
        args_list_free(&a.models);
        return code;
    }
    session s = {.a = &a, .quiet = a.json || a.table || a.models.count};
    s.models = a.models.count ? a.models.items : &a.model;
    s.n_models = a.models.count ? a.models.count : 1;
    lm_error err = {LM_OK, ""};
    lm_status status = run(&s, &err);
    free_session(&s);
    args_list_free(&a.models);
    return status == LM_OK ? 0 : cli_fail(argv[0], &err);
}
