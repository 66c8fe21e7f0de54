/* SPDX-License-Identifier: MIT
 *
 * test_jinja_golden.c: replays every file of golden/chat_template under the test data: text byte for byte; cases that
 * must fail either fail or, where the error is Python's own (TypeError, UndefinedError, SecurityError), may render. */
#include "base/fs.h"
#include "base/json.h"
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifndef LM_TEST_DATA
#define LM_TEST_DATA "tests/data"
#endif

typedef struct tally {
    size_t files, rendered, errors, lenient, wrong;
} tally;

static const char *data_root(void) {
    const char *root = getenv("LM_TEST_DATA");
    return root && *root ? root : LM_TEST_DATA;
}

/* The input line that `mlx_lm render` would get for a golden case. */
static char *make_input(const json_t *file, const json_t *one) {
    static const char *const copied[] = {"messages", "tools", "add_generation_prompt", "continue_final_message"};
    json_t *in = json_object();
    json_object_update(in, json_object_get(file, "special_tokens"));
    json_object_update(in, json_object_get(one, "kwargs"));
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
        if (json_object_get(one, copied[i])) json_object_set(in, copied[i], json_object_get(one, copied[i]));
    json_object_set(in, "strftime_now", json_object_get(file, "now"));
    char *text = json_dumps(in, JSON_COMPACT);
    json_decref(in);
    return text;
}

static bool run_case(const json_t *file, const json_t *one, tally *t) {
    const json_t *want = json_object_get(one, "rendered");
    const char *type = json_string_value(json_object_get(json_object_get(one, "error"), "type"));
    char *input = make_input(file, one), *text = NULL;
    size_t length = 0;
    lm_error err = {0};
    lm_status s =
        lm_chat_render(NULL, json_string_value(json_object_get(file, "chat_template")), input, &text, &length, &err);
    bool ok;
    if (want) {
        ok = s == LM_OK && length == json_string_length(want) && memcmp(text, json_string_value(want), length) == 0;
        t->rendered += ok;
    } else {
        ok = s != LM_OK || (type && strcmp(type, "TemplateError") != 0 && strcmp(type, "ValueError") != 0);
        t->errors += s != LM_OK;
        t->lenient += s == LM_OK && ok;
    }
    if (!ok) {
        t->wrong++;
        printf("%s / %s: %s\n", json_string_value(json_object_get(file, "name")),
               json_string_value(json_object_get(one, "name")),
               s != LM_OK ? err.message
               : want     ? "other text"
                          : "rendered, but must fail");
        if (getenv("LM_TEST_VERBOSE") && want && s == LM_OK)
            printf("want: %s\ngot:  %s\n", json_string_value(want), text);
    }
    if (s != LM_OK) assert_true(err.message[0] && !strchr(err.message, '\n'));
    lm_free(text);
    free(input);
    return ok;
}

static void run_file(const char *path, tally *t) {
    json_t *file, *one;
    size_t i;
    lm_error err;
    assert_int_equal(lm_json_load(path, 0, &file, &err), LM_OK);
    if (json_object_get(file, "cases")) {
        t->files++;
        json_array_foreach(json_object_get(file, "cases"), i, one) run_case(file, one, t);
    }
    json_decref(file);
}

/* These four must be equal; where one is not here, the run says so. */
static void report_missing(const char *folder) {
    static const char *const names[] = {"qwen3.json", "qwen3_instruct_2507_derived.json", "llama3_1.json",
                                        "smollm2.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = lm_fs_join(folder, names[i]);
        assert_non_null(path);
        if (!lm_fs_exists(path)) printf("skipped: %s is not here\n", path);
        free(path);
    }
}

static void test_goldens(void **state) {
    (void)state;
    char folder[2048];
    tally t = {0};
    snprintf(folder, sizeof folder, "%s/golden/chat_template", data_root());
    DIR *dir = opendir(folder);
    if (!dir) {
        printf("skipped: %s is not here\n", folder);
        return;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        size_t n = strlen(e->d_name);
        if (n < 6 || strcmp(e->d_name + n - 5, ".json") != 0) continue;
        char *path = lm_fs_join(folder, e->d_name);
        assert_non_null(path);
        run_file(path, &t);
        free(path);
    }
    closedir(dir);
    report_missing(folder);
    printf("%zu templates: %zu texts equal, %zu failures as expected, %zu rendered leniently, %zu wrong\n", t.files,
           t.rendered, t.errors, t.lenient, t.wrong);
    assert_int_equal(t.wrong, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_goldens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
