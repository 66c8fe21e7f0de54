/* SPDX-License-Identifier: MIT
 * test_locale.c: a program around the library may have called setlocale: numbers in templates, JSON and reports keep
 * their point. */
#include "format_util.h"

#include "base/buf.h"
#include "base/number.h"
#include "convert/convert.h"
#include "convert/plan.h"
#include "eval/internal.h"
#include "text/jinja.h"
#include <locale.h>

static folder made; /* a locale of our own, where the system has none */

/* Sets a locale whose decimal point is a comma; false where there is none and none can be made. */
static bool set_comma(void) {
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE.utf8", "es_ES.UTF-8"};
    char command[300];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (setlocale(LC_ALL, names[i]) && !strcmp(localeconv()->decimal_point, ",")) return true;
    made = folder_make();
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s/xx_XX.UTF-8 >/dev/null 2>&1", made.path);
    return system(command) >= 0 && !setenv("LOCPATH", made.path, 1) && setlocale(LC_ALL, "xx_XX.UTF-8") &&
           !strcmp(localeconv()->decimal_point, ",");
}

static int set_up(void **state) {
    static bool ready;
    ready = set_comma();
    *state = &ready;
    if (!ready) printf("skipped: no locale with a decimal comma here\n");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    setlocale(LC_ALL, "C");
    if (made.path[0]) remove_tree(made.path);
    return 0;
}

static void test_numbers(void **state) {
    char text[32], *end;
    if (!*(bool *)*state) return;
    snprintf(text, sizeof text, "%.1f", 0.5);
    assert_string_equal(text, "0,5"); /* the locale is in force */
    assert_true(lm_number_parse("0.5x", &end) == 0.5);
    assert_string_equal(end, "x");
    lm_number_format(text, sizeof text, "%.2f", 0.5);
    assert_string_equal(text, "0.50");
    lm_number_text(-1234.5625, text);
    assert_string_equal(text, "-1234.5625");
    lm_number_text(1.5e-7, text);
    assert_string_equal(text, "1.5e-07");
    snprintf(text, sizeof text, "%.1f", 0.5);
    assert_string_equal(text, "0,5"); /* and still is */
}

static void test_templates(void **state) {
    static const char source[] =
        "{{ 0.25 + 0.5 }} {{ '1.5'|float }} {{ 2.375|round(1) }} {{ 1500000|filesizeformat }} "
        "{{ '%.2f'|format(0.5) }} {{ [0.1]|tojson }} {{ 1e-7 }} {{ strftime_now('%A %d %b') }}";
    if (!*(bool *)*state) return;
    lm_jinja_input in = {.text = source, .length = sizeof source - 1, .now = "2026-12-02T10:00:00"};
    lm_error err = {0};
    char *text;
    size_t length;
    if (lm_jinja_render(&in, &text, &length, &err) != LM_OK) fail_msg("%s", err.message);
    assert_string_equal(text, "0.75 1.5 2.4 1.5 MB 0.50 [0.1] 1e-07 Wednesday 02 Dec");
    free(text);
}

static void test_files(void **state) {
    if (!*(bool *)*state) return;
    folder f = folder_make();
    lm_error err = {0};
    lm_buf b;
    size_t length;
    lm_buf_init(&b, 0);
    json_t *value = json_pack("[f, f]", 0.1, 1e-5);
    assert_true(cv_json_dump(&b, value, false));
    assert_string_equal(b.data, "[\n    0.1,\n    1e-05\n]");
    lm_buf_free(&b);
    assert_true(cv_shortest(0.1f) == 0.1);
    assert_int_equal(cv_write_json(f.path, "a.json", value, 0, &err), LM_OK);
    FILE *file = fopen(folder_path(&f, "a.json"), "rb");
    assert_non_null(file);
    char line[64] = "";
    length = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[length] = 0;
    assert_non_null(strstr(line, "0.1"));
    remove_tree(f.path);
}

static void test_evaluation(void **state) {
    if (!*(bool *)*state) return;
    lm_ev_buf b = {0};
    lm_ev_buf_double(&b, 0.6250);
    lm_ev_buf_format(&b, "|%.4f", 0.5);
    assert_string_equal(b.data, "0.625|0.5000");
    lm_ev_buf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_templates),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_evaluation),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
