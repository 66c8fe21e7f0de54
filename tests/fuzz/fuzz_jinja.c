/* SPDX-License-Identifier: MIT
 *
 * fuzz_jinja.c: a template and its variables. The input is the template, then a NUL byte, then JSON (an object;
 * anything else leaves the built-in variables). Small budgets keep each run short. */
#include "base/json.h"
#include "text/jinja.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char default_variables[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"h\\u00e9llo <b>\"}, {\"role\": \"assistant\", \"content\": "
    "[{\"type\": \"text\","
    "\"text\": \"x\"}], \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"a\": 1.5, \"b\": [null, "
    "true]}}}]}],"
    "\"tools\": null, \"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"n\": 3, \"l\": [3, 1, 2]}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t n = nul ? (size_t)(nul - data) : size;
    lm_error err = {0};
    json_t *variables = NULL;
    if (nul) lm_json_parse((const char *)nul + 1, size - n - 1, "variables", &variables, NULL);
    if (!json_is_object(variables)) {
        json_decref(variables);
        variables = NULL;
        lm_json_parse(default_variables, sizeof default_variables - 1, "variables", &variables, NULL);
    }
    lm_jinja_input in = {
        .text = (const char *)data,
        .length = n,
        .variables = variables,
        .now = "2026-11-23T14:05:09",
        .limits =
            {.steps = 200000, .memory = (size_t)16 << 20, .output = (size_t)1 << 20, .parse_depth = 60, .depth = 120},
    };
    char *text = NULL;
    size_t length = 0;
    lm_status s = lm_jinja_render(&in, &text, &length, &err);
    if ((s == LM_OK) != (text != NULL) || (s != LM_OK && (!err.message[0] || strchr(err.message, '\n')))) abort();
    free(text);
    json_decref(variables);
    return 0;
}
