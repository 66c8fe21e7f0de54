/* SPDX-License-Identifier: MIT
 *
 * cmd_render.c: `mlx_lm render`: chat templates from standard input, one JSON object a line, to standard output, one
 * JSON string or {"error"} a line. A line that fails does not stop the others. */
#include "common.h"
#include <stdlib.h>
#include <string.h>

#define MAX_TEMPLATE ((size_t)16 << 20)
#define MAX_LINE ((size_t)256 << 20)

/* Prints {"error": message}. */
static void print_error(const char *message) {
    json_t *out = json_pack("{s:s}", "error", message);
    if (out)
        cli_json_print(stdout, out, 0, false);
    else
        printf("{\"error\": \"out of memory\"}");
    json_decref(out);
}

static void render_line(const lm_tokenizer *tokenizer, const char *template_text, const char *line,
                        size_t line_length) {
    lm_error err = {0};
    char *text = NULL;
    size_t length = 0;
    json_t *out = NULL;
    if (memchr(line, 0, line_length)) {
        print_error("chat: the line holds a NUL byte");
    } else if (lm_chat_render(tokenizer, template_text, line, &text, &length, &err) != LM_OK) {
        print_error(err.message);
    } else if (!(out = json_stringn(text, length))) {
        print_error("the rendered text is not UTF-8");
    } else {
        cli_json_print(stdout, out, 0, false);
    }
    putchar('\n');
    json_decref(out);
    lm_free(text);
}

static lm_status render_lines(const lm_tokenizer *tokenizer, const char *template_text, lm_error *err) {
    for (;;) {
        char *line;
        size_t length;
        lm_status s = cli_read_line(stdin, MAX_LINE, &line, &length, err);
        if (s != LM_OK) return s;
        if (!line) break;
        if (length > 0 && line[length - 1] == '\r') line[--length] = '\0';
        if (length > 0) render_line(tokenizer, template_text, line, length);
        free(line);
        fflush(stdout); /* an answer per question, also through a pipe */
    }
    return ferror(stdout) ? cli_error(err, LM_IO, "writing to standard output failed") : LM_OK;
}

static lm_status open_inputs(const char *model, const char *template_path, lm_tokenizer **tokenizer,
                             char **template_text, lm_error *err) {
    char *folder = NULL;
    size_t length;
    lm_status s = LM_OK;
    if (!model && !template_path) return cli_error(err, LM_ARG, "--model or --template is needed");
    if (template_path) {
        s = cli_read_file(template_path, MAX_TEMPLATE, template_text, &length, err);
        if (s == LM_OK && memchr(*template_text, 0, length))
            s = cli_error(err, LM_FORMAT, "%s: expected a text file, found a NUL byte", template_path);
    }
    if (s == LM_OK && model) s = lm_model_resolve(model, &folder, err);
    if (s == LM_OK && model) s = lm_tokenizer_open(folder, tokenizer, err);
    lm_free(folder);
    return s;
}

int cmd_render(int argc, char **argv) {
    const char *model = NULL, *template_path = NULL;
    bool trust = false;
    const arg_spec specs[] = {
        ARG("--model", ARG_STRING, &model, "folder or repo id whose chat template and special tokens to use"),
        ARG("--template", ARG_STRING, &template_path, "Jinja file to use instead of the model's"),
        ARG("--trust-remote-code", ARG_FLAG, &trust, "accepted and ignored: checkpoint code is never run"),
        {0},
    };
    int code =
        args_parse(argv[0], "Render chat templates: JSON objects in, JSON strings out, one a line.", specs, argc, argv);
    if (code >= 0) return code;
    lm_error err = {0};
    lm_tokenizer *tokenizer = NULL;
    char *template_text = NULL;
    lm_status s = open_inputs(model, template_path, &tokenizer, &template_text, &err);
    if (s == LM_OK) s = render_lines(tokenizer, template_text, &err);
    free(template_text);
    lm_tokenizer_close(tokenizer);
    return s == LM_OK ? 0 : cli_fail(argv[0], &err);
}
