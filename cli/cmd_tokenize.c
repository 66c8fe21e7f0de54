/* SPDX-License-Identifier: MIT
 *
 * cmd_tokenize.c: `mlx_lm tokenize`: one JSON value a line in, one a line out: strings to ids, or with --decode ids to
 * strings, or with --stream too to the segments of the streaming detokenizer. Nothing but the tokenizer is opened. */
#include "common.h"
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES ((size_t)1 << 30)

typedef struct tokenize_args {
    const char *model;
    bool add_special_tokens, decode, skip_special_tokens, stream;
} tokenize_args;

static lm_status encode_line(const lm_tokenizer *t, const tokenize_args *a, const json_t *value, lm_error *err) {
    if (!json_is_string(value)) return cli_error(err, LM_FORMAT, "expected a JSON string, found another value");
    int32_t *ids;
    size_t n;
    lm_status s = lm_tokenizer_encode(t, json_string_value(value), json_string_length(value), a->add_special_tokens,
                                      &ids, &n, err);
    if (s != LM_OK) return s;
    fputc('[', stdout);
    for (size_t i = 0; i < n; i++) printf(i ? ", %d" : "%d", (int)ids[i]);
    fputs("]\n", stdout);
    lm_free(ids);
    return LM_OK;
}

static lm_status read_ids(const json_t *value, int32_t **out, size_t *n, lm_error *err) {
    if (!json_is_array(value)) return cli_error(err, LM_FORMAT, "expected a JSON array of ids, found another value");
    *n = json_array_size(value);
    int32_t *ids = malloc((*n ? *n : 1) * sizeof *ids);
    if (!ids) return cli_error(err, LM_NOMEM, "out of memory for %zu ids", *n);
    for (size_t i = 0; i < *n; i++) {
        const json_t *item = json_array_get(value, i);
        json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id < 0 || id > INT32_MAX) {
            free(ids);
            return cli_error(err, LM_FORMAT, "[%zu]: expected an id in [0, %d], found %s", i, (int)INT32_MAX,
                             json_is_integer(item) ? "a number outside" : "another value");
        }
        ids[i] = (int32_t)id;
    }
    *out = ids;
    return LM_OK;
}

/* Adds a segment to the list. */
static lm_status keep(json_t *list, const char *segment, size_t length, lm_error *err) {
    if (json_array_append_new(list, json_stringn(segment, length)) == 0) return LM_OK;
    return cli_error(err, LM_NOMEM, "out of memory for a segment of %zu bytes", length);
}

static lm_status stream_ids(const lm_tokenizer *t, const int32_t *ids, size_t n, json_t **out, lm_error *err) {
    lm_detokenizer *d;
    const char *segment = "";
    size_t length = 0;
    lm_status s = lm_detokenizer_create(t, &d, err);
    if (s != LM_OK) return s;
    *out = json_array();
    if (!*out) s = cli_error(err, LM_NOMEM, "out of memory for segments");
    for (size_t i = 0; i < n && s == LM_OK; i++) {
        s = lm_detokenizer_add(d, ids[i], &segment, &length, err);
        if (s == LM_OK) s = keep(*out, segment, length, err);
    }
    if (s == LM_OK) s = lm_detokenizer_finalize(d, &segment, &length, err);
    if (s == LM_OK) s = keep(*out, segment, length, err);
    lm_detokenizer_destroy(d);
    return s;
}

static lm_status decode_line(const lm_tokenizer *t, const tokenize_args *a, const json_t *value, lm_error *err) {
    int32_t *ids = NULL;
    size_t n = 0, length = 0;
    char *text = NULL;
    json_t *result = NULL;
    lm_status s = read_ids(value, &ids, &n, err);
    if (s != LM_OK) return s;
    if (a->stream) {
        s = stream_ids(t, ids, n, &result, err);
    } else {
        s = lm_tokenizer_decode(t, ids, n, a->skip_special_tokens, &text, &length, err);
        if (s == LM_OK && !(result = json_stringn(text, length)))
            s = cli_error(err, LM_NOMEM, "out of memory for %zu bytes of text", length);
        lm_free(text);
    }
    free(ids);
    if (s == LM_OK) {
        cli_json_print(stdout, result, 0, false);
        fputc('\n', stdout);
    }
    json_decref(result);
    return s;
}

static lm_status one_line(const lm_tokenizer *t, const tokenize_args *a, const char *line, size_t length,
                          lm_error *err) {
    json_error_t e;
    json_t *value = json_loadb(line, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!value) return cli_error(err, LM_FORMAT, "not JSON: %s (column %d)", e.text, e.column);
    lm_status s = a->decode ? decode_line(t, a, value, err) : encode_line(t, a, value, err);
    json_decref(value);
    if (s == LM_OK && (fflush(stdout) != 0 || ferror(stdout))) s = cli_error(err, LM_IO, "cannot write to stdout");
    return s;
}

static lm_status run_lines(const lm_tokenizer *t, const tokenize_args *a, lm_error *err) {
    for (size_t number = 1;; number++) {
        char *line = NULL;
        size_t length = 0;
        lm_error why = {LM_OK, ""};
        lm_status s = cli_read_line(stdin, LINE_MAX_BYTES, &line, &length, &why);
        if (s == LM_OK && !line) return LM_OK;
        if (s == LM_OK) s = one_line(t, a, line, length, &why);
        free(line);
        if (s != LM_OK) return cli_error(err, s, "line %zu: %s", number, why.message);
    }
}

int cmd_tokenize(int argc, char **argv) {
    tokenize_args a = {0};
    const arg_spec specs[] = {
        ARG_WITH("--model", ARG_STRING, &a.model, "folder or cached repo; tokenizer files are enough",
                 .required = true),
        ARG("--add-special-tokens", ARG_FLAG, &a.add_special_tokens, "add what the post-processor adds"),
        ARG("--decode", ARG_FLAG, &a.decode, "arrays of ids to strings"),
        ARG("--skip-special-tokens", ARG_FLAG, &a.skip_special_tokens, "leave special tokens out (with --decode)"),
        ARG("--stream", ARG_FLAG, &a.stream, "print the streaming detokenizer's segments (with --decode)"),
        {0},
    };
    int exit_code =
        args_parse(argv[0], "Encode strings to ids or decode ids, one JSON value a line.", specs, argc, argv);
    if (exit_code >= 0) return exit_code;
    if (!a.decode && (a.stream || a.skip_special_tokens))
        return args_error(argv[0], specs, "%s needs --decode", a.stream ? "--stream" : "--skip-special-tokens");
    if (a.stream && a.skip_special_tokens)
        return args_error(argv[0], specs, "--stream shows every token: not allowed with --skip-special-tokens");

    lm_error err = {LM_OK, ""};
    char *path = NULL;
    lm_tokenizer *tokenizer = NULL;
    lm_status s = lm_model_resolve(a.model, &path, &err);
    if (s == LM_OK) s = lm_tokenizer_open(path, &tokenizer, &err);
    if (s == LM_OK) s = run_lines(tokenizer, &a, &err);
    lm_tokenizer_close(tokenizer);
    lm_free(path);
    return s == LM_OK ? 0 : cli_fail(argv[0], &err);
}
