/* SPDX-License-Identifier: MIT
 *
 * jinja_tests.c: what may follow `is`. */
#include "text/jinja_impl.h"

static bool method_says(jj *c, jj_value v, const char *name) {
    jj_str key = {name, strlen(name), -1};
    return jj_truth(jj_run_builtin(c, jj_find(jj_str_methods, &key), jj_to_str(c, v), &(jj_args){0}));
}

#define TEST(name) static jj_value name(jj *c, jj_value v, jj_value *g, const jj_args *a)
#define UNUSED (void)c, (void)g, (void)a
TEST(t_defined) {
    UNUSED;
    return jj_bool(v.type != JJ_UNDEF);
}
TEST(t_undefined) {
    UNUSED;
    return jj_bool(v.type == JJ_UNDEF);
}
TEST(t_none) {
    UNUSED;
    return jj_bool(v.type == JJ_NONE);
}
TEST(t_boolean) {
    UNUSED;
    return jj_bool(v.type == JJ_BOOL);
}
TEST(t_true) {
    UNUSED;
    return jj_bool(v.type == JJ_BOOL && v.as.b);
}
TEST(t_false) {
    UNUSED;
    return jj_bool(v.type == JJ_BOOL && !v.as.b);
}
TEST(t_integer) {
    UNUSED;
    return jj_bool(v.type == JJ_INT);
}
TEST(t_float) {
    UNUSED;
    return jj_bool(v.type == JJ_FLOAT);
}
TEST(t_number) {
    UNUSED;
    return jj_bool(jj_is_number(v));
}
TEST(t_string) {
    UNUSED;
    return jj_bool(v.type == JJ_STR);
}
TEST(t_mapping) {
    UNUSED;
    return jj_bool(v.type == JJ_DICT);
}
TEST(t_sequence) { /* has a length and items */
    UNUSED;
    return jj_bool(v.type == JJ_STR || v.type == JJ_DICT || jj_is_seq(v) || v.type == JJ_UNDEF);
}
TEST(t_iterable) {
    UNUSED;
    return jj_bool(jj_is_iterable(v) || v.type == JJ_LOOP);
}
TEST(t_callable) {
    UNUSED;
    return jj_bool(v.type == JJ_FUNC || v.type == JJ_MACRO || v.type == JJ_LOOP || v.type == JJ_JOINER ||
                   v.type == JJ_UNDEF);
}
TEST(t_escaped) {
    UNUSED;
    return jj_bool(v.type == JJ_STR && v.safe);
}
TEST(t_lower) {
    UNUSED;
    return jj_bool(method_says(c, v, "islower"));
}
TEST(t_upper) {
    UNUSED;
    return jj_bool(method_says(c, v, "isupper"));
}
static int64_t remainder_of(jj *c, jj_value v, jj_value by) {
    jj_value r = jj_binary(c, '%', v, by);
    return r.type == JJ_FLOAT ? (r.as.f == 0 ? 0 : r.as.f == 1 ? 1 : 2) : jj_as_int(c, r, "the test");
}
TEST(t_odd) {
    UNUSED;
    return jj_bool(remainder_of(c, v, jj_int(2)) == 1);
}
TEST(t_even) {
    UNUSED;
    return jj_bool(remainder_of(c, v, jj_int(2)) == 0);
}
TEST(t_divisibleby) {
    UNUSED;
    return jj_bool(remainder_of(c, v, g[0]) == 0);
}
TEST(t_in) {
    UNUSED;
    return jj_bool(jj_contains(c, v, g[0]));
}
TEST(t_eq) {
    UNUSED;
    return jj_bool(jj_equal(c, v, g[0]));
}
TEST(t_ne) {
    UNUSED;
    return jj_bool(!jj_equal(c, v, g[0]));
}
TEST(t_lt) {
    UNUSED;
    return jj_bool(jj_compare(c, v, g[0], "<") < 0);
}
TEST(t_le) {
    UNUSED;
    return jj_bool(jj_compare(c, v, g[0], "<=") <= 0);
}
TEST(t_gt) {
    UNUSED;
    return jj_bool(jj_compare(c, v, g[0], ">") > 0);
}
TEST(t_ge) {
    UNUSED;
    return jj_bool(jj_compare(c, v, g[0], ">=") >= 0);
}
TEST(t_sameas) {
    UNUSED;
    if (v.type != g[0].type) return jj_bool(false);
    if (v.type >= JJ_LIST) return jj_bool(v.as.d == g[0].as.d);
    return jj_bool(jj_equal(c, v, g[0]));
}
TEST(t_filter) {
    UNUSED;
    return jj_bool(v.type == JJ_STR && jj_filter_find(v.as.s));
}
TEST(t_test) {
    UNUSED;
    return jj_bool(v.type == JJ_STR && jj_test_exists(v.as.s));
}

static const jj_builtin tests[] = {
    {"boolean", t_boolean, ""},
    {"callable", t_callable, ""},
    {"defined", t_defined, ""},
    {"divisibleby", t_divisibleby, "num!"},
    {"eq", t_eq, "other!"},
    {"equalto", t_eq, "other!"},
    {"escaped", t_escaped, ""},
    {"even", t_even, ""},
    {"false", t_false, ""},
    {"filter", t_filter, ""},
    {"float", t_float, ""},
    {"ge", t_ge, "other!"},
    {"greaterthan", t_gt, "other!"},
    {"gt", t_gt, "other!"},
    {"in", t_in, "seq!"},
    {"integer", t_integer, ""},
    {"iterable", t_iterable, ""},
    {"le", t_le, "other!"},
    {"lessthan", t_lt, "other!"},
    {"lower", t_lower, ""},
    {"lt", t_lt, "other!"},
    {"mapping", t_mapping, ""},
    {"ne", t_ne, "other!"},
    {"none", t_none, ""},
    {"number", t_number, ""},
    {"odd", t_odd, ""},
    {"sameas", t_sameas, "other!"},
    {"sequence", t_sequence, ""},
    {"string", t_string, ""},
    {"test", t_test, ""},
    {"true", t_true, ""},
    {"undefined", t_undefined, ""},
    {"upper", t_upper, ""},
    {"==", t_eq, "other!"},
    {"!=", t_ne, "other!"},
    {"<", t_lt, "other!"},
    {"<=", t_le, "other!"},
    {">", t_gt, "other!"},
    {">=", t_ge, "other!"},
    {NULL, NULL, NULL},
};

bool jj_test_exists(const jj_str *name) {
    return jj_find(tests, name) != NULL;
}

bool jj_test_apply(jj *c, const jj_str *name, jj_value v, const jj_args *args) {
    const jj_builtin *b = jj_find(tests, name);
    if (!b) jj_fail(c, LM_FORMAT, "no test named '%.*s'", (int)(name->n < 60 ? name->n : 60), name->p);
    return jj_truth(jj_run_builtin(c, b, v, args));
}
