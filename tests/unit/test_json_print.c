/* SPDX-License-Identifier: MIT
 * test_json_print.c: JSON as Python's json.dumps writes it. Expected texts are Python 3.11's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "../../cli/json_print.c"
#include <cmocka.h>

static void expect_text(const char *source, int indent, bool ascii, const char *want) {
    char got[4096];
    json_error_t e;
    json_t *value = json_loads(source, JSON_DECODE_ANY, &e);
    assert_non_null(value);
    FILE *f = tmpfile();
    assert_non_null(f);
    cli_json_print(f, value, indent, ascii);
    rewind(f);
    got[fread(got, 1, sizeof got - 1, f)] = '\0';
    fclose(f);
    json_decref(value);
    assert_string_equal(got, want);
}

static void test_layout(void **state) {
    (void)state;
    const char *source = "{\"b\":[1,2.5,null],\"a\":{},\"c\":[],\"d\":{\"x\":true}}";
    expect_text(source, 0, true, "{\"b\": [1, 2.5, null], \"a\": {}, \"c\": [], \"d\": {\"x\": true}}");
    expect_text(source, 4, true,
                "{\n    \"b\": [\n        1,\n        2.5,\n        null\n    ],\n    \"a\": {},\n    \"c\": [],\n"
                "    \"d\": {\n        \"x\": true\n    }\n}");
}

static void test_strings(void **state) {
    (void)state;
    const char *source = "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u007f\\u00e9\\u20ac\\ud83d\\ude00\"";
    expect_text(source, 0, true, "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\x7f\\u00e9\\u20ac\\ud83d\\ude00\"");
    expect_text(source, 0, false, "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\x7f\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
}

static void test_floats(void **state) {
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0.0, "0.0"},
                 {-0.0, "-0.0"},
                 {0.1, "0.1"},
                 {1e-4, "0.0001"},
                 {1e-5, "1e-05"},
                 {1.5e-7, "1.5e-07"},
                 {100, "100.0"},
                 {1e15, "1000000000000000.0"},
                 {1e16, "1e+16"},
                 {9999999999999998.0, "9999999999999998.0"},
                 {1e22, "1e+22"},
                 {5e-324, "5e-324"},
                 {1.7976931348623157e308, "1.7976931348623157e+308"},
                 {1.0 / 3, "0.3333333333333333"},
                 {-123.456, "-123.456"},
                 {(double)NAN, "NaN"},
                 {(double)INFINITY, "Infinity"},
                 {-(double)INFINITY, "-Infinity"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        cli_json_float(cases[i].value, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
