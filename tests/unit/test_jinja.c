/* SPDX-License-Identifier: MIT
 *
 * test_jinja.c: the template language. tests/data/jinja_cases.json holds snippets with jinja2's own output (see
 * tools/make_jinja_cases.py); hostile templates must end quickly with LM_BUDGET or one clear line; chat preparation. */
#include "base/json.h"
#include "text/jinja.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* Lies beside the sources: tests/unit/test_jinja.c -> tests/data/jinja_cases.json. */
static json_t *load_cases(void) {
    static const char name[] = "/../data/jinja_cases.json";
    char path[4096] = __FILE__;
    char *slash = strrchr(path, '/');
    json_t *file = NULL;
    lm_error err;
    if (!slash || (size_t)(slash - path) + sizeof name > sizeof path) return NULL;
    memcpy(slash, name, sizeof name);
    lm_json_load(path, 0, &file, &err);
    return file;
}

static void test_cases(void **state) {
    (void)state;
    json_t *file = load_cases(), *one;
    size_t i, same = 0, failures = 0, wrong = 0;
    if (!file) {
        printf("skipped: tests/data/jinja_cases.json is not here\n");
        return;
    }
    json_array_foreach(json_object_get(file, "cases"), i, one) {
        const json_t *t = json_object_get(one, "t"), *want = json_object_get(one, "out");
        lm_jinja_input in = {
            .text = json_string_value(t), .length = json_string_length(t), .variables = json_object_get(file, "vars")};
        char *text;
        size_t length = 0;
        lm_error err = {0};
        lm_status s = lm_jinja_render(&in, &text, &length, &err);
        bool ok = want ? s == LM_OK && length == json_string_length(want) &&
                             memcmp(text, json_string_value(want), length) == 0
                       : s != LM_OK;
        same += ok && want;
        failures += ok && !want;
        wrong += !ok;
        if (!ok)
            printf("%s\n   want %s\n   got  %s\n", json_string_value(t),
                   want ? json_string_value(want) : json_string_value(json_object_get(one, "error")),
                   s == LM_OK ? text : err.message);
        free(text);
    }
    printf("%zu texts equal, %zu failures as expected, %zu wrong\n", same, failures, wrong);
    json_decref(file);
    assert_int_equal(wrong, 0);
}

static lm_status render(const char *template_text, const char *vars, char *out, size_t size, lm_error *err) {
    json_t *v = json_loads(vars, 0, NULL);
    lm_jinja_input in = {
        .text = template_text, .length = strlen(template_text), .variables = v, .now = "2026-11-23T14:05:09"};
    char *text;
    lm_status s = lm_jinja_render(&in, &text, NULL, err);
    if (s == LM_OK) snprintf(out, size, "%s", text);
    free(text);
    json_decref(v);
    return s;
}

static void test_hostile(void **state) {
    (void)state;
    static const char *const endless[] = {
        "{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
        "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ "
        "ns.s|length }}",
        "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s.replace('a', ns.s) %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l == "
        "[ns.l] }}{{ ns.l|tojson }}",
        "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}",
        "{{ 'x' * 10000000000 }}",
        "{{ [1] * 10000000000 }}",
        "{{ range(1000000000) }}",
        "{{ 'x'.center(10000000000) }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ '{:10000000000}'.format(1) }}",
        "{{ 9223372036854775807 + 1 }}",
        "{{ 99999999999999999999 }}",
        "{{ 10 ** 100 }}",
        "{{ -9223372036854775807 - 2 }}",
        "{{ 9223372036854775807|round(-1) }}",
        "{{ -9223372036854775807|round(-19) }}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ s }}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% set x = s.rfind('a' * 500000 ~ 'b') %}{% endfor %}",
        "{% set s = 'a' * 10000000 %}{% for i in range(100000) %}{% set x = s.strip(s) %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% set x = s[::-1] ~ s.upper() %}{% endfor %}",
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ range(100000)|list|map('string')|list * 1000000 }}",
        "{{ [1]|batch(2, 1)|slice(1000000000000)|list }}",
        "{{ {}|tojson(indent=1000000000) }}{{ [1]|tojson(indent=2000) }}",
    };
    char text[256];
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        lm_error err = {0};
        clock_t start = clock();
        lm_status s = render(endless[i], "{}", text, sizeof text, &err);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (s == LM_OK || seconds > 20)
            printf("%s: %s in %.1f s\n", endless[i], s == LM_OK ? "rendered" : err.message, seconds);
        assert_int_not_equal(s, LM_OK);
        assert_true(s == LM_BUDGET || s == LM_FORMAT);
        assert_true(err.message[0] && !strchr(err.message, '\n'));
        assert_true(seconds < 20);
    }
}

static void test_deep_text(void **state) {
    (void)state;
    static const struct {
        const char *open, *middle, *close;
    } nests[] = {{"(", "1", ")"},  {"[", "1", "]"},  {"{1:", "1", "}"},         {"-", "1", ""},  {"not ", "1", ""},
                 {"x[", "1", "]"}, {"f(", "1", ")"}, {"1 if ", "1", " else 1"}, {"", "x", ".x"}, {"", "1", "+1"}};
    char *text = malloc(200000), out[64];
    assert_non_null(text);
    for (size_t k = 0; k < sizeof nests / sizeof *nests; k++) {
        size_t n = (size_t)snprintf(text, 100, "{{ ");
        for (int i = 0; i < 10000; i++) n += (size_t)snprintf(text + n, 10, "%s", nests[k].open);
        n += (size_t)snprintf(text + n, 10, "%s", nests[k].middle);
        for (int i = 0; i < 10000; i++) n += (size_t)snprintf(text + n, 10, "%s", nests[k].close);
        snprintf(text + n, 10, " }}");
        lm_error err = {0};
        assert_int_not_equal(render(text, "{}", out, sizeof out, &err), LM_OK);
    }
    text[0] = 0;
    size_t n = 0;
    for (int i = 0; i < 10000; i++) n += (size_t)snprintf(text + n, 20, "{%% if 1 %%}");
    lm_error err = {0};
    assert_int_equal(render(text, "{}", out, sizeof out, &err), LM_BUDGET);
    free(text);
}

static void test_clock(void **state) {
    (void)state;
    char text[256];
    lm_error err;
    assert_int_equal(render("{{ strftime_now('%Y-%m-%d %H:%M:%S %a %A %b %B %j %y %p %I %-d %e %w %f %%') }}", "{}",
                            text, sizeof text, &err),
                     LM_OK);
    assert_string_equal(text, "2026-11-23 14:05:09 Mon Monday Nov November 327 26 PM 02 23 23 1 000000 %");
}

static lm_status chat(const char *template_text, const char *input, char *out, size_t size, lm_error *err) {
    char *text;
    lm_status s = lm_chat_render(NULL, template_text, input, &text, NULL, err);
    if (s == LM_OK) snprintf(out, size, "%s", text);
    lm_free(text);
    return s;
}

static void test_chat(void **state) {
    (void)state;
    static const struct {
        const char *template_text, *input, *want; /* want NULL: an error */
    } rows[] = {
        {"{{ messages }}", "{\"messages\": [{\"role\": \"user\", \"content\": null, \"x\": 1}]}",
         "[{'role': 'user', 'x': 1}]"},
        {"{{ tools }}{{ documents }}{{ add_generation_prompt }}", "{\"messages\": []}", "NoneNoneFalse"},
        {"{{ messages[0] }}", "{\"messages\": [{\"role\": \"a\", \"reasoning\": \"r\"}]}",
         "{'thinking': 'r', 'role': 'a', 'reasoning': 'r', 'reasoning_content': 'r'}"},
        {"{{ enable_thinking is defined }}{{ x }}", "{\"messages\": [], \"x\": 5}", "False5"},
        {"{{ messages[0].content }}<end>",
         "{\"messages\": [{\"role\": \"a\", \"content\": \"Hi \"}], \"continue_final_message\": true}", "Hi "},
        {"{{ messages[0].content | trim }}<end>",
         "{\"messages\": [{\"role\": \"a\", \"content\": \"Hi \"}], \"continue_final_message\": true}", "Hi"},
        {"{{ messages[0].content[0].text }}<end>",
         "{\"messages\": [{\"role\": \"a\", \"content\": [{\"type\": \"text\", \"text\": \"Hi\"}]}], "
         "\"continue_final_message\": true}",
         "Hi"},
        {"content", "{\"messages\": [{\"role\": \"a\", \"content\": \"Hi\"}], \"continue_final_message\": true}", NULL},
        {"{{ messages[0].content }}", "{\"messages\": [], \"continue_final_message\": true}", NULL},
        {"{{ messages[0].content }}", "{\"messages\": [{\"role\": \"a\"}], \"continue_final_message\": true}", NULL},
        {"x", "{\"messages\": 5}", NULL},
        {"x", "{\"messages\": [5]}", NULL},
        {"x", "[]", NULL},
        {"x", "{}", NULL},
        {"x", "{\"messages\": [], \"tools\": [1]}", NULL},
        {"x", "{\"messages\": [", NULL},
        {"{{ strftime_now('%Y') }}", "{\"messages\": [], \"strftime_now\": \"nonsense\"}", NULL},
    };
    char text[512];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lm_error err = {0};
        lm_status s = chat(rows[i].template_text, rows[i].input, text, sizeof text, &err);
        if (rows[i].want) {
            if (s != LM_OK) printf("%s: %s\n", rows[i].template_text, err.message);
            assert_int_equal(s, LM_OK);
            assert_string_equal(text, rows[i].want);
        } else {
            assert_int_not_equal(s, LM_OK);
            assert_true(err.message[0]);
        }
    }
}

static void test_deep_json(void **state) {
    (void)state;
    char text[8192], out[64];
    size_t n = (size_t)snprintf(text, sizeof text, "{\"messages\": [], \"x\": ");
    for (int i = 0; i < 1500; i++) text[n++] = '[';
    for (int i = 0; i < 1500; i++) text[n++] = ']';
    snprintf(text + n, sizeof text - n, "}");
    lm_error err = {0};
    assert_int_equal(chat("{{ x }}", text, out, sizeof out, &err), LM_BUDGET);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases), cmocka_unit_test(test_hostile), cmocka_unit_test(test_deep_text),
        cmocka_unit_test(test_clock), cmocka_unit_test(test_chat),    cmocka_unit_test(test_deep_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
