/* SPDX-License-Identifier: MIT
 *
 * cmd_evaluate.c: mlx_lm.evaluate. Flags and stdout are mlx-lm's; ours are --data, --dump-requests, --answers, --table,
 * --json. The evaluation itself is lm/eval.h's; this file reads flags, shows progress and writes files. */
#include "common.h"
#include "evaluate.h"
#include "lm/eval.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_ANSWERS ((size_t)1 << 30)

typedef struct eval_args {
    const char *rules, *model, *output_dir, *template_args, *data, *dump, *answers;
    arg_list tasks, compare;
    const char *kv_type;
    int64_t batch_size, num_shots, max_tokens, limit, seed, top_k, repeats;
    double temp, top_p;
    bool num_shots_given, max_tokens_given, limit_given, output_given, template_given, apply_template;
    bool multiturn, unsafe_code, table, json, restart, share, speculate, early_stop;
    engine_args engine;
} eval_args;

/* What the bar and mlx-lm's counting line need between two calls. */
typedef struct bar {
    bool tty, count; /* bar on stderr; counting line on stdout */
    size_t counted;
    double shown;
} bar;

static void show_progress(void *user, const lm_eval_progress *p) {
    bar *b = user;
    if (b->count && p->n_done != b->counted) {
        b->counted = p->n_done;
        printf("[batch_generate] Finished processing %zu/%zu ...\r", p->n_done, p->n_total);
        fflush(stdout);
    }
    if (!b->tty || (p->seconds - b->shown < 0.2 && p->n_done < p->n_total)) return;
    b->shown = p->seconds;
    const size_t scored = p->n_before + p->n_done, total = p->n_before + p->n_total;
    const double tokens = (double)(p->generated_tokens + p->computed_tokens);
    /* one line of at most 79 columns: a longer one would wrap and stay behind */
    fprintf(stderr, "\r\033[K%zu/%zu", scored, total);
    if (p->n_done) fprintf(stderr, "  %.2f questions/s", (double)p->n_done / p->seconds);
    if (p->seconds > 0) fprintf(stderr, "  %.0f tokens/s", tokens / p->seconds);
    if (scored) {
        double score = p->score_sum / (double)scored;
        fprintf(stderr, "  score %.3f", score);
        if (scored > 1) fprintf(stderr, " \xc2\xb1 %.3f", sqrt(score * (1 - score) / (double)(scored - 1)));
    }
    if (p->n_done) {
        int64_t left = (int64_t)(p->seconds / (double)p->n_done * (double)(p->n_total - p->n_done));
        fprintf(stderr, "  %lld:%02lld:%02lld left", (long long)(left / 3600), (long long)(left / 60 % 60),
                (long long)(left % 60));
    }
    fflush(stderr);
}

static lm_status make_folder(const char *path, lm_error *err) {
    char *copy = strdup(path);
    if (!copy) return cli_error(err, LM_NOMEM, "out of memory");
    bool ok = true;
    for (char *c = copy + 1; ok && *copy && *c; c++) {
        if (*c != '/') continue;
        *c = 0;
        ok = mkdir(copy, 0777) == 0 || errno == EEXIST;
        *c = '/';
    }
    ok = ok && (mkdir(copy, 0777) == 0 || errno == EEXIST);
    int why = errno;
    free(copy);
    struct stat st;
    if (ok && (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))) {
        ok = false;
        why = ENOTDIR;
    }
    return ok ? LM_OK : cli_error(err, LM_IO, "%s: the folder cannot be made: %s", path, strerror(why));
}

/* Writes DIR/NAME + suffix. */
static lm_status write_file(const char *dir, const char *name, const char *suffix, const char *text, size_t length,
                            lm_error *err) {
    size_t size = strlen(dir) + strlen(name) + strlen(suffix) + 2;
    char *path = malloc(size);
    if (!path) return cli_error(err, LM_NOMEM, "out of memory");
    snprintf(path, size, "%s/%s%s", dir, name, suffix);
    lm_status status = lm_file_write(path, text, length, err);
    free(path);
    return status;
}

static lm_status write_samples(const lm_eval *eval, const char *dir, const char *name, lm_error *err) {
    lm_status status = LM_OK;
    const char *task;
    for (size_t i = 0; status == LM_OK && (task = lm_eval_task_name(eval, i)); i++) {
        char *text = NULL, suffix[200];
        size_t length = 0;
        status = lm_eval_samples(eval, i, &text, &length, err);
        snprintf(suffix, sizeof suffix, "_samples_%s.jsonl", task);
        if (status == LM_OK && length) status = write_file(dir, name, suffix, text, length, err);
        lm_free(text);
    }
    return status;
}

static lm_status write_results(const lm_eval *eval, const eval_args *a, const char *name, lm_error *err) {
    static const struct {
        lm_eval_text what;
        const char *suffix;
    } files[] = {{LM_EVAL_TEXT_FILE, ""}, {LM_EVAL_TEXT_REPORT, "_report.json"}, {LM_EVAL_TEXT_RUN, "_run.json"}};
    lm_status status = LM_OK;
    for (size_t i = 0; status == LM_OK && i < (a->answers ? 2 : 3); i++) {
        char *text = NULL;
        size_t length = 0;
        status = lm_eval_render(eval, files[i].what, &text, &length, err);
        if (status == LM_OK) status = write_file(a->output_dir, name, files[i].suffix, text, length, err);
        lm_free(text);
    }
    return status;
}

/* Files of a run: samples of all that was answered; the results only if everything was. */
static lm_status write_files(const lm_eval *eval, const eval_args *a, bool complete, lm_error *err) {
    char *name = NULL;
    lm_status status = lm_eval_file_name(eval, a->model, &name, err);
    if (status == LM_OK) status = make_folder(a->output_dir, err);
    if (status == LM_OK) status = write_samples(eval, a->output_dir, name, err);
    if (status == LM_OK && complete) status = write_results(eval, a, name, err);
    if (status == LM_OK)
        fprintf(stderr, "%s: %s/%s%s\n", complete ? "results" : "answers so far", a->output_dir, name,
                complete ? "" : "_samples_*.jsonl");
    lm_free(name);
    return status;
}

static lm_status print_text(const lm_eval *eval, lm_eval_text what, lm_error *err) {
    char *text = NULL;
    size_t length = 0;
    lm_status status = lm_eval_render(eval, what, &text, &length, err);
    if (status == LM_OK) fwrite(text, 1, length, stdout);
    lm_free(text);
    return status;
}

static lm_status print_results(const lm_eval *eval, const eval_args *a, lm_error *err) {
    lm_eval_info info;
    lm_eval_get_info(eval, &info);
    lm_status status;
    if (a->json) {
        status = print_text(eval, LM_EVAL_TEXT_FULL, err);
    } else {
        puts("Results:");
        status = print_text(eval, LM_EVAL_TEXT_STDOUT, err);
        if (status == LM_OK && a->table) {
            putchar('\n');
            status = print_text(eval, LM_EVAL_TEXT_TABLE, err);
            putchar('\n');
            if (status == LM_OK) status = print_text(eval, LM_EVAL_TEXT_INTERVALS, err);
            if (status == LM_OK && info.repeats > 1) {
                putchar('\n');
                status = print_text(eval, LM_EVAL_TEXT_REPEATS, err);
            }
        }
    }
    fflush(stdout);
    fprintf(stderr, "note: %s\n", info.data_note);
    return status;
}

/* ---- the three ways to run */

static lm_status dump_requests(const lm_eval *eval, const char *path, lm_error *err) {
    char *text = NULL;
    size_t length = 0;
    lm_status status = lm_eval_render(eval, LM_EVAL_TEXT_REQUESTS, &text, &length, err);
    if (status == LM_OK && strcmp(path, "-") == 0)
        status = fwrite(text, 1, length, stdout) == length && fflush(stdout) == 0
                     ? LM_OK
                     : cli_error(err, LM_IO, "stdout: cannot be written");
    else if (status == LM_OK)
        status = lm_file_write(path, text, length, err);
    lm_free(text);
    return status;
}

static lm_status score_answers(lm_eval *eval, const eval_args *a, lm_error *err) {
    char *text = NULL;
    size_t length = 0, skipped = 0;
    lm_status status = cli_read_file(a->answers, MAX_ANSWERS, &text, &length, err);
    if (status == LM_OK) status = lm_eval_read_answers(eval, a->answers, text, length, &skipped, err);
    free(text);
    if (status != LM_OK) return status;
    lm_eval_info info;
    lm_eval_get_info(eval, &info);
    if (!info.n_answered) return cli_error(err, LM_ARG, "%s: no answer to any of the questions", a->answers);
    if (skipped) fprintf(stderr, "warning: %zu answers are to questions that --tasks and --limit leave out\n", skipped);
    if (info.n_answered < info.n_requests * info.repeats)
        fprintf(stderr, "warning: %zu of %zu questions have no answer and are left out\n",
                info.n_requests * info.repeats - info.n_answered, info.n_requests * info.repeats);
    if (a->output_given) {
        status = write_files(eval, a, true, err);
        if (status != LM_OK) return status;
    }
    return print_results(eval, a, err);
}

static void print_statistics(const lm_eval_progress *p, lm_engine *engine) {
    lm_memory_stats memory;
    lm_engine_get_memory(engine, &memory);
    double decode = p->seconds - p->prompt_seconds;
    printf("[batch_generate] Finished processing %zu/%zu\n", p->n_done, p->n_total);
    printf("[batch_generate] Prompt: %lld tokens, %.3f tokens-per-sec\n", (long long)p->prompt_tokens,
           p->prompt_seconds > 0 ? (double)p->prompt_tokens / p->prompt_seconds : 0.0);
    printf("[batch_generate] Generation: %lld tokens, %.3f tokens-per-sec\n", (long long)p->generated_tokens,
           decode > 0 ? (double)p->generated_tokens / decode : 0.0);
    printf("[batch_generate] Peak memory: %.3f GB\n", (double)memory.peak / 1e9);
}

/* Keeps the last progress beside showing it. */
typedef struct watcher {
    bar bar;
    lm_eval_progress last;
} watcher;

static void watch(void *user, const lm_eval_progress *p) {
    watcher *w = user;
    w->last = *p;
    show_progress(&w->bar, p);
}

/* Opens the journal beside the result files and says what it already has. */
static lm_status open_journal(lm_eval *eval, lm_engine *engine, const eval_args *a, lm_eval_run_options *options,
                              lm_error *err) {
    char *name = NULL, *path = NULL;
    lm_status status = lm_eval_file_name(eval, a->model, &name, err);
    if (status == LM_OK) {
        size_t size = strlen(a->output_dir) + strlen(name) + 32;
        path = malloc(size);
        if (path) snprintf(path, size, "%s/%s_journal.sqlite", a->output_dir, name);
        if (!path) status = cli_error(err, LM_NOMEM, "out of memory");
    }
    if (status == LM_OK) status = lm_eval_journal_open(eval, engine, options, path, a->restart, &options->journal, err);
    lm_eval_info info;
    lm_eval_get_info(eval, &info);
    if (status == LM_OK && info.n_answered)
        fprintf(stderr, "%zu of %zu questions are answered in %s (--restart asks them again)\n", info.n_answered,
                info.n_requests * info.repeats, path);
    lm_free(name);
    free(path);
    return status;
}

/* Runs, writes files, prints. A full disk isn't asked to take files as well: the journal has what it could. */
static lm_status answer(lm_eval *eval, lm_engine *engine, const eval_args *a, const lm_eval_run_options *options,
                        watcher *w, lm_error *err) {
    if (w->bar.count) {
        printf("[batch_generate] Finished processing 0/%zu ...\r", w->last.n_total);
        fflush(stdout);
    }
    lm_status status = lm_eval_generate(eval, engine, options, err);
    if (w->bar.tty) fprintf(stderr, "\r\033[K");
    if (status != LM_OK) { /* what was answered stays */
        if (w->bar.count) putchar('\n');
        lm_error later;
        lm_eval_info info;
        lm_eval_get_info(eval, &info);
        if (status != LM_IO && info.n_answered && write_files(eval, a, false, &later) != LM_OK)
            fprintf(stderr, "the answers so far could not be written: %s\n", later.message);
        return status;
    }
    if (!a->json) print_statistics(&w->last, engine);
    lm_status written = write_files(eval, a, true, err); /* a full disk must not cost the scores on the screen */
    if (written == LM_OK) written = lm_eval_journal_complete(options->journal, err);
    status = print_results(eval, a, written == LM_OK ? err : NULL);
    return written == LM_OK ? status : written;
}

static lm_status run_model(lm_eval *eval, lm_engine *engine, const eval_args *a, lm_error *err) {
    watcher w = {.bar = {.tty = isatty(2) == 1, .count = !a->json && isatty(1) != 1}};
    lm_eval_run_options options = lm_eval_run_options_default();
    options.batch_size = a->batch_size;
    options.seed = (uint64_t)a->seed;
    options.share_prefix = a->share;
    options.speculate = a->speculate;
    options.early_stop = a->early_stop;
    options.kv_type = cli_kv_type(a->kv_type);
    options.sampler.temp = (float)a->temp;
    options.sampler.top_p = (float)a->top_p;
    options.sampler.top_k = (int32_t)a->top_k;
    options.cancel = cli_cancel();
    options.progress = watch;
    options.progress_user = &w;
    lm_status status = make_folder(a->output_dir, err);
    if (status == LM_OK) status = open_journal(eval, engine, a, &options, err);
    if (status != LM_OK) return status;
    lm_eval_info info;
    lm_eval_get_info(eval, &info);
    w.last.n_total = info.n_requests * info.repeats - info.n_answered;
    status = answer(eval, engine, a, &options, &w, err);
    lm_eval_journal_close(options.journal);
    return status;
}
/* ---- set-up */

static lm_status make_eval(const lm_tokenizer *tokenizer, const eval_args *a, lm_eval **eval, lm_error *err) {
    lm_eval_options options = lm_eval_options_default();
    options.tasks = a->tasks.items;
    options.n_tasks = a->tasks.count;
    options.has_num_shots = a->num_shots_given;
    options.num_shots = a->num_shots;
    if (a->limit_given) options.limit = a->limit;
    if (a->max_tokens_given) options.max_tokens = a->max_tokens;
    if (a->template_given) options.chat_template = a->apply_template ? LM_EVAL_TEMPLATE_ON : LM_EVAL_TEMPLATE_OFF;
    options.fewshot_as_multiturn = a->multiturn;
    options.repeats = a->repeats;
    if (strcmp(a->rules, "lm-eval") == 0) options.rules = LM_EVAL_RULES_LM_EVAL;
    if (strcmp(a->rules, "seed") == 0) options.rules = LM_EVAL_RULES_SEED;
    options.chat_template_args = a->template_args;
    options.data_dir = a->data;
    return lm_eval_create(tokenizer, &options, eval, err);
}

/* Without weights: the folder may hold the tokenizer only. */
static lm_status evaluate_offline(const eval_args *a, lm_error *err) {
    char *path = NULL;
    lm_tokenizer *tokenizer = NULL;
    lm_eval *eval = NULL;
    lm_status status = lm_model_resolve(a->model, &path, err);
    if (status == LM_OK) status = lm_tokenizer_open(path, &tokenizer, err);
    if (status == LM_OK) status = make_eval(tokenizer, a, &eval, err);
    if (status == LM_OK) status = a->dump ? dump_requests(eval, a->dump, err) : score_answers(eval, a, err);
    lm_eval_destroy(eval);
    lm_tokenizer_close(tokenizer);
    lm_free(path);
    return status;
}

static lm_status evaluate_model(const eval_args *a, lm_error *err) {
    lm_engine *engine = NULL;
    lm_eval *eval = NULL;
    const lm_tokenizer *tokenizer = NULL;
    lm_engine_options options = engine_args_options(&a->engine);
    lm_status status = cli_engine_open(a->model, &options, &engine, err);
    if (status == LM_OK) status = cli_engine_tokenizer(engine, a->model, &tokenizer, err);
    if (status == LM_OK) status = make_eval(tokenizer, a, &eval, err);
    if (status == LM_OK) status = run_model(eval, engine, a, err);
    lm_eval_destroy(eval);
    lm_engine_close(engine);
    return status;
}

/* Values that argparse takes but that cannot be meant; NULL if all is well. */
static const char *check(const eval_args *a) {
    if (a->batch_size < 1 || a->batch_size > 65536) return "argument --batch-size: expected 1 to 65536";
    if (a->engine.kv_given && strcmp(a->kv_type, "auto") != 0) return "argument --kv-bits: not allowed with --kv-type";
    if (a->repeats < 1 || a->repeats > 1000) return "argument --repeats: expected 1 to 1000";
    if (a->repeats > 1 && !(a->temp > 0)) return "argument --repeats: expected --temp above 0 with it";
    if (a->max_tokens_given && a->max_tokens < 1) return "argument --max-tokens: expected 1 or more";
    if (a->limit_given && a->limit < 0) return "argument --limit: expected 0 or more";
    if (!(a->temp >= 0)) return "argument --temp: expected 0 or more";
    if (a->top_k < 0 || a->top_k > INT32_MAX) return "argument --top-k: expected 0 or more";
    if (a->dump && a->answers) return "argument --answers: not allowed with argument --dump-requests";
    return NULL;
}

static int run_evaluate(const char *prog, const eval_args *a) {
    lm_error err = {LM_OK, ""};
    lm_status status = a->dump || a->answers ? evaluate_offline(a, &err) : evaluate_model(a, &err);
    if (status == LM_OK) return 0;
    if (status != LM_CANCELLED || !cli_cancel_exit()) return cli_fail(prog, &err);
    cli_print_clean(stderr, err.message); /* "cancelled after 3 of 28 questions" */
    fputc('\n', stderr);
    return cli_cancel_exit();
}

int cmd_evaluate(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--compare") == 0) return cli_evaluate_compare(argc, argv);
    eval_args a = {.output_dir = ".",
                   .rules = "mlx-lm",
                   .batch_size = 16,
                   .repeats = 1,
                   .share = true,
                   .speculate = true,
                   .early_stop = true,
                   .kv_type = "auto",
                   .seed = 123,
                   .top_p = 1.0,
                   .template_args = "{}",
                   .engine = ENGINE_ARGS_DEFAULT(true)};
    a.engine.max_memory = -1;
    const arg_spec specs[] = {
        ARG_WITH("--model", ARG_STRING, &a.model, "model to evaluate", .required = true),
        ARG_WITH("--tasks", ARG_STRINGS, &a.tasks, "tasks, groups or patterns: mmlu_pro, mmlu_pro_SUBJECT",
                 .required = true),
        ARG_WITH("--output-dir", ARG_STRING, &a.output_dir, "folder for result files (default: .)",
                 .given = &a.output_given),
        ARG("--batch-size", ARG_INT, &a.batch_size, "questions in flight at once (default: 16)"),
        ARG_WITH("--num-shots", ARG_INT, &a.num_shots, "number of exemplars (default: the task's)",
                 .given = &a.num_shots_given),
        ARG_WITH("--max-tokens", ARG_INT, &a.max_tokens, "tokens to generate at most (default: the task's)",
                 .given = &a.max_tokens_given),
        ARG_WITH("--limit", ARG_INT, &a.limit, "first N questions of each task", .given = &a.limit_given),
        ARG("--seed", ARG_INT, &a.seed, "random seed (default: 123)"),
        ARG("--fewshot-as-multiturn", ARG_FLAG, &a.multiturn, "exemplars as turns of a conversation"),
        ARG_WITH("--apply-chat-template", ARG_ON_OFF, &a.apply_template,
                 "use the chat template (default: if the model has one)", .given = &a.template_given),
        ARG("--chat-template-args", ARG_STRING, &a.template_args,
            "JSON object of template variables, e.g. '{\"enable_thinking\":false}'"),
        ARG("--confirm-run-unsafe-code", ARG_FLAG, &a.unsafe_code, "accepted: no task here runs code"),
        ARG("--temp", ARG_FLOAT, &a.temp, "sampling temperature (default: 0, greedy)"),
        ARG("--top-p", ARG_FLOAT, &a.top_p, "sampling top-p (default: 1.0)"),
        ARG("--top-k", ARG_INT, &a.top_k, "sampling top-k (default: 0, off)"),
        ARG("--repeats", ARG_INT, &a.repeats, "sampled answers to each question (default: 1)"),
        ARG_WITH("--kv-type", ARG_CHOICE, &a.kv_type, "keys and values: auto is the model's own type",
                 .choices = "auto|f32|f16|bf16"),
        ARG("--prefix-sharing", ARG_ON_OFF, &a.share, "compute common beginnings of prompts once (default: on)"),
        ARG("--guess", ARG_ON_OFF, &a.speculate,
            "greedy rows try what followed the same tokens before: same answers, sooner (default: on)"),
        ARG("--early-stop", ARG_ON_OFF, &a.early_stop, "end answers where a stop string is complete (default: on)"),
        ARG("--data", ARG_STRING, &a.data, "folder with test.jsonl and validation.jsonl (default: built in)"),
        ARG("--dump-requests", ARG_STRING, &a.dump, "write the requests as JSONL (-: stdout) and stop"),
        ARG("--answers", ARG_STRING, &a.answers, "score completions of a JSONL file instead of running the model"),
        ARG_WITH("--rules", ARG_CHOICE, &a.rules,
                 "whose rules: mlx-lm 0.32.2, lm-eval's task file, mlx-lm 0.28.2 (default: mlx-lm)",
                 .choices = "mlx-lm|lm-eval|seed"),
        ARG("--restart", ARG_FLAG, &a.restart, "drop the answers of an interrupted run"),
        ARG("--compare", ARG_STRINGS, &a.compare, "compare result folders instead (alone with --json and --seed)"),
        ARG("--table", ARG_FLAG, &a.table, "print lm-eval's table too"),
        ARG("--json", ARG_FLAG, &a.json, "print one JSON report instead"),
        KV_ARGS(a.engine),
        ENGINE_ARGS(a.engine),
        {0},
    };
    int code = args_parse(argv[0], "Evaluate a model on lm-eval tasks.", specs, argc, argv);
    const char *wrong = code < 0 ? check(&a) : NULL;
    if (wrong) code = args_error(argv[0], specs, "%s", wrong);
    if (code < 0) code = run_evaluate(argv[0], &a);
    args_list_free(&a.tasks);
    return code;
}
