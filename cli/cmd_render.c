/* SPDX-License-Identifier: MIT
 *
 * cmd_render.c: `mlx_lm render`: chat templates from standard input, one JSON object a line, to standard output, one
 * JSON string or {"error"} a line. A line that fails does not stop the others. */
#include "args.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEMPLATE ((size_t)16 << 20)

static void put_json(const char *text, size_t length) {
    putchar('"');
    for (size_t i = 0; i < length; i++) {
        unsigned char ch = (unsigned char)text[i];
        switch (ch) {
        case '"': fputs("\\\"", stdout); break;
        case '\\': fputs("\\\\", stdout); break;
        case '\n': fputs("\\n", stdout); break;
        case '\r': fputs("\\r", stdout); break;
        case '\t': fputs("\\t", stdout); break;
        default:
            if (ch < 0x20)
                printf("\\u%04x", ch);
            else
                putchar(ch);
        }
    }
    putchar('"');
}

static char *read_template(const char *path, lm_error *err) {
    FILE *f = fopen(path, "rb");
    char *text = f ? malloc(MAX_TEMPLATE + 1) : NULL;
    size_t n = text ? fread(text, 1, MAX_TEMPLATE + 1, f) : 0;
    const char *why = !f                 ? strerror(errno)
                      : !text            ? "out of memory"
                      : ferror(f)        ? "it cannot be read"
                      : n > MAX_TEMPLATE ? "it is too large"
                                         : NULL;
    if (!why && memchr(text, 0, n)) why = "it holds a NUL byte";
    if (f) fclose(f);
    if (why) {
        err->status = LM_IO;
        snprintf(err->message, sizeof err->message, "%s: %s", path, why);
        free(text);
        return NULL;
    }
    text[n] = 0;
    char *fit = realloc(text, n + 1);
    return fit ? fit : text;
}

static void render_line(const lm_tokenizer *tokenizer, const char *template_text, const char *line,
                        size_t line_length) {
    lm_error err = {0};
    char *text = NULL;
    size_t length = 0;
    if (memchr(line, 0, line_length)) {
        fputs("{\"error\": \"chat: the line holds a NUL byte\"}", stdout);
    } else if (lm_chat_render(tokenizer, template_text, line, &text, &length, &err) == LM_OK) {
        put_json(text, length);
    } else {
        fputs("{\"error\": ", stdout);
        put_json(err.message, strlen(err.message));
        putchar('}');
    }
    putchar('\n');
    lm_free(text);
}

int cmd_render(int argc, char **argv) {
    const char *model = NULL, *template_path = NULL;
    bool trust = false;
    const arg_spec specs[] = {
        {"--model", NULL, ARG_STRING, &model, "folder or repo id whose chat template and special tokens to use", NULL,
         false, NULL, NULL},
        {"--template", NULL, ARG_STRING, &template_path, "Jinja file to use instead of the model's", NULL, false, NULL,
         NULL},
        {"--trust-remote-code", NULL, ARG_FLAG, &trust, "accepted and ignored: checkpoint code is never run", NULL,
         false, NULL, NULL},
        {0},
    };
    int code =
        args_parse(argv[0], "Render chat templates: JSON objects in, JSON strings out, one a line", specs, argc, argv);
    if (code >= 0) return code;
    lm_error err = {0};
    lm_tokenizer *tokenizer = NULL;
    char *template_text = NULL, *folder = NULL, *line = NULL;
    size_t capacity = 0;
    if (!model && !template_path) {
        err.status = LM_ARG;
        snprintf(err.message, sizeof err.message, "--model or --template is needed");
        return cli_fail(argv[0], &err);
    }
    if ((template_path && !(template_text = read_template(template_path, &err))) ||
        (model &&
         (lm_model_resolve(model, &folder, &err) != LM_OK || lm_tokenizer_open(folder, &tokenizer, &err) != LM_OK))) {
        code = cli_fail(argv[0], &err);
    } else {
        ssize_t n;
        while ((n = getline(&line, &capacity, stdin)) >= 0) {
            while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
            if (n == 0) continue;
            render_line(tokenizer, template_text, line, (size_t)n);
            fflush(stdout);
        }
        code = ferror(stdout) ? 1 : 0;
    }
    free(line);
    free(template_text);
    lm_free(folder);
    lm_tokenizer_close(tokenizer);
    return code;
}
