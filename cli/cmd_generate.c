/* SPDX-License-Identifier: MIT
 *
 * cmd_generate.c: `mlx_lm generate`: one prompt, through the chat template unless told otherwise, answered as a stream
 * of text and followed by mlx-lm's statistics block. */
#include "stream.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define STDIN_MAX ((size_t)256 << 20)
#define NO_VALUE INT64_MIN /* Python's None for integers */

typedef struct generate_args {
    const char *model, *system_prompt, *prompt, *prefill_response, *template_config, *verbose;
    const char *adapter_path, *prompt_cache_file, *draft_model;
    arg_list extra_eos, image;
    int64_t max_tokens, top_k, min_tokens_to_keep, seed, prefill_step_size;
    int64_t max_kv_size, kv_bits, kv_group_size, quantized_kv_start, num_draft_tokens;
    double temp, top_p, min_p, xtc_probability, xtc_threshold;
    bool ignore_template, default_template, quantize_activations, json, seed_given, kv_given;
    engine_args engine;
} generate_args;

/* Everything one run holds; freed together. */
typedef struct generate_run {
    const generate_args *args;
    lm_engine *engine;
    const lm_tokenizer *tokenizer;
    int32_t *prompt, *stop, *xtc_special;
    size_t n_prompt, n_stop, n_xtc_special;
    lm_detokenizer *detokenizer;
    lm_sampler sampler;
    lm_kv_type kv_type;
    bool verbose, printing; /* printing: text goes out as it comes */
    bool started;           /* the heading stands */
    char *text;             /* all of it, for --json and --verbose false */
    size_t n_text, text_capacity;
    json_t *tokens; /* for --json */
    lm_status token_status;
    lm_error *err;
} generate_run;

/* ---------------------------------------------------------------- the prompt */

/* Replaces backslash-n and backslash-t in place, the former first, as Python's replace does. */
static void replace_escapes(char *text, char letter, char by) {
    char *to = text;
    for (const char *from = text; *from; from++) {
        if (from[0] == '\\' && from[1] == letter) {
            *to++ = by;
            from++;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
}

/* Python's text mode reads \r\n and \r as \n. */
static size_t unify_newlines(char *text, size_t length) {
    size_t to = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\r' && i + 1 < length && text[i + 1] == '\n') continue;
        text[to++] = text[i] == '\r' ? '\n' : text[i];
    }
    text[to] = '\0';
    return to;
}

static lm_status read_prompt(const char *argument, char **text, size_t *length, lm_error *err) {
    *text = strdup(argument);
    if (!*text) return cli_error(err, LM_NOMEM, "out of memory");
    replace_escapes(*text, 'n', '\n');
    replace_escapes(*text, 't', '\t');
    *length = strlen(*text);
    if (strcmp(*text, "-") != 0) return LM_OK;
    free(*text);
    lm_status status = cli_read_file("-", STDIN_MAX, text, length, err);
    if (status == LM_OK) *length = unify_newlines(*text, *length);
    return status;
}

static bool add_message(json_t *messages, const char *role, const char *text, size_t length) {
    json_t *content = json_stringn(text, length); /* NULL for invalid UTF-8 */
    return content && json_array_append_new(messages, json_pack("{s:s, s:o}", "role", role, "content", content)) == 0;
}

/* Puts the variables of --chat-template-config into the template's input. */
static lm_status add_config(json_t *input, const char *config, lm_error *err) {
    static const char *const ours[] = {"messages", "add_generation_prompt", "continue_final_message", "tokenize"};
    if (!config) return LM_OK;
    json_error_t e;
    json_t *root = json_loads(config, 0, &e);
    lm_status status = LM_OK;
    if (!root) return cli_error(err, LM_ARG, "--chat-template-config: not JSON: %s", e.text);
    if (!json_is_object(root))
        status = cli_error(err, LM_ARG, "--chat-template-config: expected a JSON object, found another value");
    for (size_t i = 0; status == LM_OK && i < sizeof ours / sizeof *ours; i++)
        if (json_object_get(root, ours[i]))
            status = cli_error(err, LM_ARG, "--chat-template-config: \"%s\" cannot be set here", ours[i]);
    if (status == LM_OK && json_object_update(input, root) != 0) status = cli_error(err, LM_NOMEM, "out of memory");
    json_decref(root);
    return status;
}

/* The JSON object that lm_chat_render takes. */
static lm_status template_input(const generate_run *run, const char *text, size_t length, json_t **out, lm_error *err) {
    const generate_args *a = run->args;
    const char *think_start, *think_end, *prefill = a->prefill_response;
    lm_tokenizer_think_tokens(run->tokenizer, &think_start, &think_end);
    json_t *messages = json_array();
    json_t *input = json_pack("{s:o, s:b, s:b, s:b}", "messages", messages, "add_generation_prompt", prefill == NULL,
                              "continue_final_message", prefill != NULL, "enable_thinking", think_start != NULL);
    if (!input) return cli_error(err, LM_NOMEM, "out of memory");
    bool good = true;
    if (a->system_prompt) good = add_message(messages, "system", a->system_prompt, strlen(a->system_prompt));
    good = good && add_message(messages, "user", text, length);
    if (prefill) good = good && add_message(messages, "assistant", prefill, strlen(prefill));
    lm_status status =
        good ? add_config(input, a->template_config, err) : cli_error(err, LM_ARG, "the prompt is not valid UTF-8");
    if (status != LM_OK) {
        json_decref(input);
        return status;
    }
    *out = input;
    return LM_OK;
}

static lm_status render_prompt(const generate_run *run, char **text, size_t *length, lm_error *err) {
    json_t *input = NULL;
    lm_status status = template_input(run, *text, *length, &input, err);
    if (status != LM_OK) return status;
    char *source = json_dumps(input, JSON_COMPACT), *rendered = NULL;
    json_decref(input);
    if (!source) return cli_error(err, LM_NOMEM, "out of memory");
    status = lm_chat_render(run->tokenizer, NULL, source, &rendered, length, err);
    free(source);
    if (status != LM_OK) return status;
    free(*text);
    /* From here on the text is the library's; a copy keeps one way of freeing it. */
    *text = malloc(*length + 1);
    if (*text) memcpy(*text, rendered, *length + 1);
    lm_free(rendered);
    return *text ? LM_OK : cli_error(err, LM_NOMEM, "out of memory");
}

static lm_status encode_prompt(generate_run *run, lm_error *err) {
    char *text = NULL;
    size_t length = 0;
    bool templated = !run->args->ignore_template && lm_tokenizer_chat_template(run->tokenizer);
    lm_status status = read_prompt(run->args->prompt, &text, &length, err);
    if (status == LM_OK && templated) status = render_prompt(run, &text, &length, err);
    if (status == LM_OK)
        status = lm_tokenizer_encode(run->tokenizer, text, length, !templated, &run->prompt, &run->n_prompt, err);
    free(text);
    return status;
}

/* ---------------------------------------------------------------- stop ids and sampler */

static lm_status add_stop(generate_run *run, const char *word, lm_error *err) {
    char *end = NULL;
    long long id = strtoll(word, &end, 10);
    if (end == word || *end) id = lm_tokenizer_token_id(run->tokenizer, word);
    if (id < 0 || id > INT32_MAX)
        return cli_error(err, LM_ARG, "--extra-eos-token: '%s' is not a token of this tokenizer", word);
    run->stop[run->n_stop++] = (int32_t)id;
    return LM_OK;
}

static lm_status collect_stops(generate_run *run, lm_error *err) {
    lm_engine_info info;
    lm_engine_get_info(run->engine, &info);
    run->stop = malloc((info.n_stop_ids + run->args->extra_eos.count + 1) * sizeof *run->stop);
    if (!run->stop) return cli_error(err, LM_NOMEM, "out of memory");
    for (size_t i = 0; i < info.n_stop_ids; i++) run->stop[run->n_stop++] = info.stop_ids[i];
    lm_status status = LM_OK;
    for (size_t i = 0; status == LM_OK && i < run->args->extra_eos.count; i++)
        status = add_stop(run, run->args->extra_eos.items[i], err);
    return status;
}

/* XTC never removes a newline or a stop id. */
static lm_status collect_xtc_special(generate_run *run, lm_error *err) {
    int32_t *newline = NULL;
    size_t n = 0;
    lm_status status = lm_tokenizer_encode(run->tokenizer, "\n", 1, true, &newline, &n, err);
    if (status != LM_OK) return status;
    run->xtc_special = malloc((n + run->n_stop + 1) * sizeof *run->xtc_special);
    if (run->xtc_special) {
        if (n) memcpy(run->xtc_special, newline, n * sizeof *newline);
        if (run->n_stop) memcpy(run->xtc_special + n, run->stop, run->n_stop * sizeof *run->stop);
        run->n_xtc_special = n + run->n_stop;
    }
    lm_free(newline);
    return run->xtc_special ? LM_OK : cli_error(err, LM_NOMEM, "out of memory");
}

static lm_status make_sampler(generate_run *run, lm_error *err) {
    const generate_args *a = run->args;
    lm_sampler *s = &run->sampler;
    *s = lm_sampler_greedy();
    s->temp = (float)a->temp;
    s->top_p = (float)a->top_p;
    s->min_p = (float)a->min_p;
    s->xtc_probability = (float)a->xtc_probability;
    s->xtc_threshold = (float)a->xtc_threshold;
    s->top_k = a->top_k < 0 ? 0 : a->top_k > INT32_MAX ? INT32_MAX : (int32_t)a->top_k;
    s->min_tokens_to_keep = a->min_tokens_to_keep > INT32_MAX ? INT32_MAX : (int32_t)a->min_tokens_to_keep;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t clock = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    lm_sampler_seed(s, a->seed_given ? (uint64_t)a->seed : clock);
    if (a->xtc_probability <= 0) return LM_OK;
    lm_status status = collect_xtc_special(run, err);
    s->xtc_special = run->xtc_special;
    s->n_xtc_special = run->n_xtc_special;
    return status;
}

/* ---------------------------------------------------------------- output */

static bool keep_text(generate_run *run, const char *segment, size_t length) {
    if (run->n_text + length + 1 > run->text_capacity) {
        size_t capacity = 2 * (run->n_text + length + 1) + 1024;
        char *text = realloc(run->text, capacity);
        if (!text) return false;
        run->text = text;
        run->text_capacity = capacity;
    }
    if (length) memcpy(run->text + run->n_text, segment, length);
    run->n_text += length;
    run->text[run->n_text] = '\0';
    return true;
}

static bool put_segment(generate_run *run, const char *segment, size_t length) {
    if (run->printing && length) {
        fwrite(segment, 1, length, stdout);
        fflush(stdout);
    }
    if (keep_text(run, segment, length)) return true;
    run->token_status = cli_error(run->err, LM_NOMEM, "out of memory");
    return false;
}

static void on_start(void *user) {
    generate_run *run = user;
    run->started = run->printing;
    if (run->printing) printf("==========\n");
    fflush(stdout);
}

static bool on_token(void *user, int32_t id, bool stop) {
    generate_run *run = user;
    const char *segment = "";
    size_t length = 0;
    if (run->tokens) json_array_append_new(run->tokens, json_integer(id));
    if (stop) return false;
    run->token_status = lm_detokenizer_add(run->detokenizer, id, &segment, &length, run->err);
    return run->token_status == LM_OK && put_segment(run, segment, length);
}

static void print_stats(const generate_run *run, const stream_stats *stats, double peak) {
    printf("\n==========\n");
    if (run->n_text == 0) {
        printf("No text generated for this prompt\n");
        return;
    }
    printf("Prompt: %lld tokens, %.3f tokens-per-sec\n", (long long)stats->prompt_tokens, stream_prompt_tps(stats));
    printf("Generation: %lld tokens, %.3f tokens-per-sec\n", (long long)stats->generation_tokens,
           stream_generation_tps(stats));
    printf("Peak memory: %.3f GB\n", peak);
}

static lm_status print_json(generate_run *run, const stream_stats *stats, double peak, lm_error *err) {
    json_t *text = json_stringn(run->text ? run->text : "", run->n_text);
    json_t *o =
        json_pack("{s:o, s:O, s:s, s:I, s:f, s:I, s:f, s:f}", "text", text, "tokens", run->tokens, "finish_reason",
                  stats->stopped ? "stop" : "length", "prompt_tokens", (json_int_t)stats->prompt_tokens, "prompt_tps",
                  stream_prompt_tps(stats), "generation_tokens", (json_int_t)stats->generation_tokens, "generation_tps",
                  stream_generation_tps(stats), "peak_memory", peak);
    if (!o) return cli_error(err, LM_NOMEM, "out of memory");
    cli_json_print(stdout, o, 0, true);
    putchar('\n');
    json_decref(o);
    return LM_OK;
}

/* ---------------------------------------------------------------- running */

static lm_status stream_answer(generate_run *run, stream_stats *stats, lm_error *err) {
    cli_progress progress;
    stream_request request = {.prompt = run->prompt,
                              .n_prompt = run->n_prompt,
                              .max_tokens = run->args->max_tokens < 0 ? INT64_MAX : run->args->max_tokens,
                              .prefill_step_size = run->args->prefill_step_size,
                              .kv_type = run->kv_type,
                              .quantized_start = run->args->quantized_kv_start,
                              .sampler = &run->sampler,
                              .stop = run->stop,
                              .n_stop = run->n_stop,
                              .burst = 1,
                              .on_start = on_start,
                              .on_token = on_token,
                              .user = run,
                              .progress = &progress};
    lm_status status = stream_run(run->engine, &request, stats, err);
    if (status == LM_OK) status = run->token_status;
    const char *segment = "";
    size_t length = 0;
    if (status == LM_OK) status = lm_detokenizer_finalize(run->detokenizer, &segment, &length, err);
    if (status == LM_OK && !put_segment(run, segment, length)) status = run->token_status;
    return status;
}

static lm_status answer(generate_run *run, lm_error *err) {
    stream_stats stats;
    lm_memory_stats memory;
    lm_status status = stream_answer(run, &stats, err);
    if (status != LM_OK) {
        if (run->started) printf("\n");
        return status;
    }
    lm_engine_get_memory(run->engine, &memory);
    double peak = (double)memory.peak / 1e9;
    if (run->args->json) return print_json(run, &stats, peak, err);
    if (run->verbose) {
        print_stats(run, &stats, peak);
    } else {
        fwrite(run->text, 1, run->n_text, stdout);
        printf("\n");
    }
    return LM_OK;
}

static lm_status generate(generate_run *run, lm_error *err) {
    lm_engine_options options = engine_args_options(&run->args->engine);
    const char *model = run->args->model ? run->args->model : CLI_DEFAULT_MODEL;
    lm_status status = cli_engine_open(model, &options, &run->engine, err);
    if (status == LM_OK) status = cli_engine_tokenizer(run->engine, model, &run->tokenizer, err);
    if (status != LM_OK) return status;
    if (run->args->json && !(run->tokens = json_array())) return cli_error(err, LM_NOMEM, "out of memory");
    status = collect_stops(run, err);
    if (status == LM_OK) status = encode_prompt(run, err);
    if (status == LM_OK) status = make_sampler(run, err);
    if (status == LM_OK) status = lm_detokenizer_create(run->tokenizer, &run->detokenizer, err);
    return status == LM_OK ? answer(run, err) : status;
}

static void free_run(generate_run *run) {
    lm_detokenizer_destroy(run->detokenizer);
    lm_free(run->prompt);
    free(run->stop);
    free(run->xtc_special);
    free(run->text);
    json_decref(run->tokens);
    lm_engine_close(run->engine);
}

/* Values that parse but cannot be meant. Returns -1 or the exit code. */
static int check_args(const char *prog, const generate_args *a) {
    lm_error err = {0};
    if (a->max_tokens == 0)
        cli_error(&err, LM_ARG, "--max-tokens must not be 0 (-1 means no limit)");
    else if (a->max_tokens < -1)
        cli_error(&err, LM_ARG, "--max-tokens: expected a positive number or -1, found %lld", (long long)a->max_tokens);
    else if (a->prefill_step_size < 1)
        cli_error(&err, LM_ARG, "--prefill-step-size: expected at least 1, found %lld",
                  (long long)a->prefill_step_size);
    else if (!(a->temp >= 0 && a->temp <= 1e6))
        cli_error(&err, LM_ARG, "--temp: expected a number >= 0, found %g", a->temp);
    else if (!(a->min_p >= 0 && a->min_p <= 1))
        cli_error(&err, LM_ARG, "--min-p: expected a number in [0, 1], found %g", a->min_p);
    else if (a->min_tokens_to_keep < 1)
        cli_error(&err, LM_ARG, "--min-tokens-to-keep: expected at least 1, found %lld",
                  (long long)a->min_tokens_to_keep);
    else if (!(a->xtc_probability <= 1))
        cli_error(&err, LM_ARG, "--xtc-probability: expected a number in [0, 1], found %g", a->xtc_probability);
    else if (!(a->xtc_threshold >= 0 && a->xtc_threshold <= 0.5))
        cli_error(&err, LM_ARG, "--xtc-threshold: expected a number in [0, 0.5], found %g", a->xtc_threshold);
    else if (a->seed_given && a->seed < 0)
        cli_error(&err, LM_ARG, "--seed: expected a number >= 0, found %lld", (long long)a->seed);
    else
        return -1;
    return cli_fail(prog, &err);
}

static int run_generate(const char *prog, const generate_args *a) {
    int code = check_args(prog, a);
    if (code >= 0) return code;
    lm_error err = {0};
    generate_run run = {.args = a, .err = &err};
    run.verbose = strcasecmp(a->verbose, "false") != 0 && strcasecmp(a->verbose, "f") != 0;
    run.printing = run.verbose && !a->json;
    if (a->kv_given) run.kv_type = args_kv_type(a->kv_bits, a->kv_group_size);
    lm_status status = generate(&run, &err);
    free_run(&run);
    return status == LM_OK ? 0 : cli_fail(prog, &err);
}

int cmd_generate(int argc, char **argv) {
    generate_args a = {.prompt = "hello", .verbose = "True", .max_tokens = 100, .top_p = 1.0, .xtc_threshold = 0.1};
    a.min_tokens_to_keep = 1;
    a.prefill_step_size = 2048;
    a.max_kv_size = a.kv_bits = NO_VALUE;
    a.kv_group_size = 64;
    a.quantized_kv_start = 5000;
    a.num_draft_tokens = 3;
    a.engine = (engine_args)ENGINE_ARGS_DEFAULT(false);
    const arg_spec specs[] = {
        ARG("--model", ARG_STRING, &a.model, "folder or cached repo id (default: " CLI_DEFAULT_MODEL ")"),
        ARG_WITH("--adapter-path", ARG_STRING, &a.adapter_path, "adapter weights and config",
                 .unsupported = "--adapter-path: adapters are not built yet"),
        ARG("--extra-eos-token", ARG_STRINGS, &a.extra_eos, "further ids or tokens that end the text"),
        ARG("--system-prompt", ARG_STRING, &a.system_prompt, "system message of the chat template"),
        ARG_WITH("--prompt", ARG_STRING, &a.prompt, "message to the model ('-' reads stdin)", .alias = "-p"),
        ARG_WITH("--image", ARG_STRINGS, &a.image, "image files of the prompt",
                 .unsupported = "--image: vision models are not built yet"),
        ARG("--prefill-response", ARG_STRING, &a.prefill_response, "beginning of the answer"),
        ARG_WITH("--max-tokens", ARG_INT, &a.max_tokens, "tokens to generate at most, -1 = no limit (default: 100)",
                 .alias = "-m"),
        ARG("--temp", ARG_FLOAT, &a.temp, "sampling temperature, 0 = likeliest token"),
        ARG("--top-p", ARG_FLOAT, &a.top_p, "keep the likeliest tokens up to this mass"),
        ARG("--min-p", ARG_FLOAT, &a.min_p, "drop tokens below this part of the best one's probability"),
        ARG("--top-k", ARG_INT, &a.top_k, "keep this many tokens, 0 = all"),
        ARG("--xtc-probability", ARG_FLOAT, &a.xtc_probability, "chance that XTC acts on a token"),
        ARG("--xtc-threshold", ARG_FLOAT, &a.xtc_threshold, "probability from which XTC counts a token"),
        ARG("--min-tokens-to-keep", ARG_INT, &a.min_tokens_to_keep, "tokens that min-p never drops"),
        ARG_WITH("--seed", ARG_INT, &a.seed, "random seed (default: the clock)", .given = &a.seed_given),
        ARG("--ignore-chat-template", ARG_FLAG, &a.ignore_template, "take the prompt as it is"),
        ARG("--use-default-chat-template", ARG_FLAG, &a.default_template, "accepted, has no effect"),
        ARG("--chat-template-config", ARG_STRING, &a.template_config, "JSON object with further template variables"),
        ARG("--verbose", ARG_STRING, &a.verbose, "'False' or 'F': only the text"),
        ARG_WITH("--max-kv-size", ARG_INT, &a.max_kv_size, "size of a rotating cache",
                 .unsupported = "--max-kv-size: the rotating cache is not built yet"),
        ARG("--prefill-step-size", ARG_INT, &a.prefill_step_size, "prompt tokens of one step (default: 2048)"),
        ARG_WITH("--prompt-cache-file", ARG_STRING, &a.prompt_cache_file, "file of cache_prompt",
                 .unsupported = "--prompt-cache-file: prompt caches are not built yet"),
        ARG_WITH("--quantize-activations", ARG_FLAG, &a.quantize_activations, "quantize activations as the weights are",
                 .alias = "-qa", .unsupported = "--quantize-activations: quantized activations are not built yet"),
        ARG_WITH("--kv-bits", ARG_INT, &a.kv_bits, "quantize keys and values to this many bits (default: not)",
                 .given = &a.kv_given),
        ARG("--kv-group-size", ARG_INT, &a.kv_group_size, "their group size (default: 64)"),
        ARG("--quantized-kv-start", ARG_INT, &a.quantized_kv_start,
            "length from which they are quantized (default: 5000)"),
        ARG_WITH("--draft-model", ARG_STRING, &a.draft_model, "model for speculative decoding",
                 .unsupported = "--draft-model: speculative decoding is not built yet"),
        ARG("--num-draft-tokens", ARG_INT, &a.num_draft_tokens, "tokens drafted at a time"),
        ARG("--json", ARG_FLAG, &a.json, "print one JSON object instead of text and statistics"),
        ENGINE_ARGS(a.engine),
        {0},
    };
    int code = args_parse(argv[0], "LLM inference", specs, argc, argv);
    if (code < 0) code = run_generate(argv[0], &a);
    args_list_free(&a.extra_eos);
    args_list_free(&a.image);
    return code;
}
