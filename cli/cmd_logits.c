/* SPDX-License-Identifier: MIT
 *
 * cmd_logits.c: `mlx_lm logits`: the logits of every position of given ids, as a safetensors file. The step writes
 * straight into the file's buffer: that buffer, T * vocab floats, is all that grows with the length. */
#include "common.h"
#include <stdlib.h>
#include <string.h>

#define IDS_FILE_MAX ((size_t)64 << 20)

typedef struct logits_args {
    const char *model, *ids, *out;
    int64_t prefill_step_size, decode_from;
    engine_args engine;
} logits_args;

static lm_status copy_ids(const char *path, const json_t *root, int64_t vocab, int32_t **out, size_t *n,
                          lm_error *err) {
    if (!json_is_array(root))
        return cli_error(err, LM_FORMAT, "%s: expected a JSON array of ids, found another value", path);
    *n = json_array_size(root);
    if (*n == 0) return cli_error(err, LM_FORMAT, "%s: expected at least one id, found an empty array", path);
    int32_t *ids = malloc(*n * sizeof *ids);
    if (!ids) return cli_error(err, LM_NOMEM, "%s: out of memory for %zu ids", path, *n);
    for (size_t i = 0; i < *n; i++) {
        const json_t *item = json_array_get(root, i);
        long long id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id < 0 || id >= vocab) {
            lm_status status =
                json_is_integer(item)
                    ? cli_error(err, LM_FORMAT, "%s: [%zu]: expected an id in [0, %lld), found %lld", path, i,
                                (long long)vocab, (long long)json_integer_value(item))
                    : cli_error(err, LM_FORMAT, "%s: [%zu]: expected an integer, found another value", path, i);
            free(ids);
            return status;
        }
        ids[i] = (int32_t)id;
    }
    *out = ids;
    return LM_OK;
}

static lm_status read_ids(const char *path, int64_t vocab, int32_t **ids, size_t *n, lm_error *err) {
    char *text;
    size_t length;
    lm_status status = cli_read_file(path, IDS_FILE_MAX, &text, &length, err);
    if (status != LM_OK) return status;
    json_error_t e;
    json_t *root = json_loadb(text, length, JSON_DECODE_ANY, &e);
    free(text);
    if (!root) return cli_error(err, LM_FORMAT, "%s: line %d: not JSON: %s", path, e.line, e.text);
    status = copy_ids(path, root, vocab, ids, n, err);
    json_decref(root);
    return status;
}

/* Steps through the ids: chunks before `decode_from`, single tokens from there on. */
static lm_status compute(lm_engine *engine, const logits_args *a, const int32_t *ids, size_t n, size_t vocab,
                         float *logits, lm_error *err) {
    size_t from = a->decode_from < 0 || (size_t)a->decode_from > n ? n : (size_t)a->decode_from;
    size_t most = (size_t)a->prefill_step_size < n ? (size_t)a->prefill_step_size : n;
    uint32_t *want = malloc(most * sizeof *want);
    if (!want) return cli_error(err, LM_NOMEM, "out of memory for %zu positions", most);
    for (size_t i = 0; i < most; i++) want[i] = (uint32_t)i;
    lm_seq *seq = NULL;
    cli_progress progress;
    cli_progress_start(&progress, "Logits", "tokens", (int64_t)n);
    lm_status status = lm_seq_create(engine, LM_KV_AUTO, &seq, err);
    for (size_t done = 0; status == LM_OK && done < n;) {
        size_t chunk = done >= from ? 1 : from - done < most ? from - done : most;
        lm_row row = {.seq = seq, .tokens = ids + done, .n_tokens = chunk, .want = want, .n_want = chunk};
        row.logits = logits + done * vocab;
        status = lm_step(engine, &row, 1, cli_cancel(), err);
        done += chunk;
        cli_progress_update(&progress, (int64_t)done);
    }
    cli_progress_end(&progress);
    lm_seq_destroy(seq);
    free(want);
    return status;
}

static lm_status write_logits(lm_engine *engine, const logits_args *a, const int32_t *ids, size_t n, lm_error *err) {
    lm_engine_info info;
    lm_engine_get_info(engine, &info);
    size_t vocab = (size_t)info.vocab_size;
    if (n > SIZE_MAX / sizeof(float) / vocab) return cli_error(err, LM_ARG, "%s: %zu ids are too many", a->ids, n);
    float *logits = malloc(n * vocab * sizeof *logits);
    if (!logits) return cli_error(err, LM_NOMEM, "out of memory: %zu bytes for the logits", n * vocab * sizeof *logits);
    lm_status status = compute(engine, a, ids, n, vocab, logits, err);
    lm_tensor_out tensor = {"logits", "F32", {(int64_t)n, (int64_t)vocab}, 2, logits};
    if (status == LM_OK) status = lm_safetensors_write(a->out, &tensor, 1, err);
    free(logits);
    return status;
}

static lm_status run(const logits_args *a, lm_error *err) {
    lm_engine_options options = engine_args_options(&a->engine);
    lm_engine *engine = NULL;
    lm_status status = cli_engine_open(a->model, &options, &engine, err);
    if (status != LM_OK) return status;
    lm_engine_info info;
    lm_engine_get_info(engine, &info);
    int32_t *ids = NULL;
    size_t n = 0;
    status = read_ids(a->ids, info.vocab_size, &ids, &n, err);
    if (status == LM_OK && a->decode_from > (int64_t)n)
        status = cli_error(err, LM_ARG, "--decode-from: expected at most the %zu ids, found %lld", n,
                           (long long)a->decode_from);
    if (status == LM_OK) status = write_logits(engine, a, ids, n, err);
    free(ids);
    lm_engine_close(engine);
    return status;
}

int cmd_logits(int argc, char **argv) {
    logits_args a = {.prefill_step_size = 2048, .decode_from = -1, .engine = ENGINE_ARGS_DEFAULT(false)};
    bool decode_from_given = false;
    const arg_spec specs[] = {
        ARG_WITH("--model", ARG_STRING, &a.model, "folder or cached repo id", .required = true),
        ARG_WITH("--ids", ARG_STRING, &a.ids, "file with a JSON array of ids ('-' reads stdin)", .required = true),
        ARG_WITH("--out", ARG_STRING, &a.out, "safetensors file to write", .required = true),
        ARG("--prefill-step-size", ARG_INT, &a.prefill_step_size, "ids of one step (default: 2048)"),
        ARG_WITH("--decode-from", ARG_INT, &a.decode_from, "position from which ids are fed one by one",
                 .given = &decode_from_given),
        KV_ARGS(a.engine),
        ENGINE_ARGS(a.engine),
        {0},
    };
    int code = args_parse(argv[0], "Write the logits of every position of given ids.", specs, argc, argv);
    if (code >= 0) return code;
    if (a.prefill_step_size < 1)
        return args_error(argv[0], specs, "argument --prefill-step-size: expected at least 1, found %lld",
                          (long long)a.prefill_step_size);
    if (decode_from_given && a.decode_from < 0)
        return args_error(argv[0], specs, "argument --decode-from: expected at least 0, found %lld",
                          (long long)a.decode_from);
    lm_error err = {0};
    return run(&a, &err) == LM_OK ? 0 : cli_fail(argv[0], &err);
}
