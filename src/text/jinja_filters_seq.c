/* SPDX-License-Identifier: MIT
 *
 * jinja_filters_seq.c: filters on rows of items. Those that jinja2 writes as generators give JJ_IS_GENERATOR lists:
 * made at once, but without length and used up by one walk. */
#include "text/jinja_impl.h"

/* A sort or comparison key: text counts without case unless asked. */
static jj_value fold(jj *c, jj_value v, bool case_sensitive) {
    if (case_sensitive || v.type != JJ_STR) return v;
    jj_str name = {"lower", 5, 5};
    return jj_run_builtin(c, jj_find(jj_str_methods, &name), v, &(jj_args){0});
}

static jj_value key_of(jj *c, jj_value v, jj_value path, bool case_sensitive) {
    if (path.type != JJ_ABSENT && path.type != JJ_NONE) v = jj_get_path(c, v, path);
    return fold(c, v, case_sensitive);
}

static jj_value generator(jj *c, size_t n) {
    return jj_list_new(c, n, JJ_IS_GENERATOR);
}

static jj_value f_list(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    jj_value *items, r;
    size_t n;
    jj_items(c, v, &items, &n);
    r = jj_list_new(c, n, JJ_IS_LIST);
    for (size_t i = 0; i < n; i++) jj_list_add(c, r.as.l, items[i]);
    return r;
}

static jj_value f_first(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    jj_value *items;
    size_t n;
    jj_items(c, v, &items, &n);
    return n ? items[0] : jj_undefined(c, "No first item, sequence was empty.");
}

static jj_value f_last(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    jj_value *items;
    size_t n;
    if (v.type == JJ_LIST && v.as.l->kind == JJ_IS_GENERATOR)
        jj_fail(c, LM_FORMAT, "'generator' object is not reversible");
    jj_items(c, v, &items, &n);
    return n ? items[n - 1] : jj_undefined(c, "No last item, sequence was empty.");
}

static jj_value f_join(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    jj_value *items;
    size_t n;
    jj_buf b = {0};
    const jj_str *by = g[0].type == JJ_ABSENT ? NULL : jj_to_str(c, g[0]).as.s;
    jj_items(c, v, &items, &n);
    for (size_t i = 0; i < n; i++) {
        if (i && by) jj_buf_add(c, &b, by->p, by->n);
        jj_print(c, &b, g[1].type == JJ_ABSENT || g[1].type == JJ_NONE ? items[i] : jj_get_path(c, items[i], g[1]));
    }
    return jj_buf_value(c, &b);
}

static jj_value f_items(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    if (v.type == JJ_UNDEF) return generator(c, 0);
    if (v.type != JJ_DICT) jj_fail(c, LM_FORMAT, "Can only get item pairs from a mapping.");
    jj_value r = generator(c, v.as.d->n);
    for (size_t i = 0; i < v.as.d->n; i++)
        jj_list_add(c, r.as.l, jj_pair(c, v.as.d->entries[i].key, v.as.d->entries[i].value));
    return r;
}

static jj_value f_reverse(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    if (v.type == JJ_STR) {
        int64_t n = jj_str_chars(v.as.s);
        return jj_str_slice(c, v.as.s, n - 1, -1, -1);
    }
    jj_value *items, r;
    size_t n;
    jj_items(c, v, &items, &n);
    r = generator(c, n);
    while (n > 0) jj_list_add(c, r.as.l, items[--n]);
    return r;
}

/* ---------------------------------------------------------------- order */

/* "a,b.c": several attributes make a list key */
static jj_value multi_key(jj *c, jj_value v, jj_value paths, bool case_sensitive) {
    if (paths.type != JJ_STR || !memchr(paths.as.s->p, ',', paths.as.s->n)) return key_of(c, v, paths, case_sensitive);
    jj_value key = jj_list_new(c, 2, JJ_IS_LIST);
    const char *p = paths.as.s->p, *end = p + paths.as.s->n;
    for (;;) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        jj_value path = jj_str_borrow(c, p, (size_t)((comma ? comma : end) - p));
        jj_list_add(c, key.as.l, key_of(c, v, path, case_sensitive));
        if (!comma) return key;
        p = comma + 1;
    }
}

static jj_value sorted(jj *c, jj_value v, bool reverse, bool case_sensitive, jj_value path) {
    jj_value *items, r;
    size_t n;
    jj_items(c, v, &items, &n);
    r = jj_list_new(c, n, JJ_IS_LIST);
    jj_value *keys = jj_alloc(c, (n + 1) * sizeof *keys);
    for (size_t i = 0; i < n; i++) {
        jj_list_add(c, r.as.l, items[i]);
        keys[i] = multi_key(c, items[i], path, case_sensitive);
    }
    jj_sort(c, r.as.l->items, keys, n, reverse);
    return r;
}

static jj_value f_sort(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return sorted(c, v, jj_truth(g[0]), jj_truth(g[1]), g[2]);
}

static jj_value f_dictsort(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    const jj_str *by = g[1].type == JJ_ABSENT ? NULL : jj_as_str(c, g[1], "dictsort");
    bool value = by && JJ_EQ(by, "value");
    if (by && !value && !JJ_EQ(by, "key")) jj_fail(c, LM_FORMAT, "You can only sort by either \"key\" or \"value\"");
    if (v.type != JJ_DICT) {
        jj_need_defined(c, v);
        jj_fail(c, LM_FORMAT, "dictsort needs a dict, found '%s'", jj_type_name(v));
    }
    jj_value pairs = f_items(c, v, NULL, NULL);
    return sorted(c, pairs, jj_truth(g[2]), jj_truth(g[0]), jj_int(value));
}

static jj_value extreme(jj *c, jj_value v, jj_value *g, int sign) {
    jj_value *items, best = {0}, best_key = {0};
    size_t n;
    jj_items(c, v, &items, &n);
    for (size_t i = 0; i < n; i++) {
        jj_value key = key_of(c, items[i], g[1], jj_truth(g[0]));
        jj_tick(c, 1);
        if (i && jj_compare(c, key, best_key, sign < 0 ? "<" : ">") * sign <= 0) continue;
        best = items[i];
        best_key = key;
    }
    return n ? best : jj_undefined(c, "No aggregated item, sequence was empty.");
}
static jj_value f_min(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return extreme(c, v, g, -1);
}
static jj_value f_max(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    return extreme(c, v, g, 1);
}

static jj_value f_unique(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    jj_value *items, r, seen = jj_dict_new(c);
    size_t n;
    jj_items(c, v, &items, &n);
    r = generator(c, n);
    for (size_t i = 0; i < n; i++) {
        jj_value key = key_of(c, items[i], g[1], jj_truth(g[0]));
        if (jj_dict_get(c, seen.as.d, key)) continue;
        jj_dict_set(c, seen.as.d, key, jj_none());
        jj_list_add(c, r.as.l, items[i]);
    }
    return r;
}

static jj_value f_groupby(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    jj_value *items, r = jj_list_new(c, 0, JJ_IS_LIST), group = {0}, last = {0};
    size_t n;
    bool case_sensitive = jj_truth(g[2]);
    jj_items(c, v, &items, &n);
    jj_value *keys = jj_alloc(c, (n + 1) * sizeof *keys), *copy = jj_alloc(c, (n + 1) * sizeof *copy);
    for (size_t i = 0; i < n; i++) {
        jj_value key = jj_get_path(c, items[i], g[0]);
        if (key.type == JJ_UNDEF && g[1].type != JJ_ABSENT) key = g[1];
        keys[i] = fold(c, key, case_sensitive);
        copy[i] = items[i];
    }
    jj_sort(c, copy, keys, n, false);
    for (size_t i = 0; i < n; i++) {
        if (!i || !jj_equal(c, keys[i], last)) {
            jj_value label = jj_get_path(c, copy[i], g[0]);
            if (label.type == JJ_UNDEF && g[1].type != JJ_ABSENT) label = g[1];
            group = jj_list_new(c, 0, JJ_IS_LIST);
            jj_value pair = jj_pair(c, label, group);
            pair.as.l->kind = JJ_IS_GROUP;
            jj_list_add(c, r.as.l, pair);
        }
        last = keys[i];
        jj_list_add(c, group.as.l, copy[i]);
    }
    return r;
}

static jj_value f_sum(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    jj_value *items, total = g[1].type == JJ_ABSENT ? jj_int(0) : g[1];
    size_t n;
    jj_items(c, v, &items, &n);
    for (size_t i = 0; i < n; i++)
        total = jj_binary(c, '+', total,
                          g[0].type == JJ_ABSENT || g[0].type == JJ_NONE ? items[i] : jj_get_path(c, items[i], g[0]));
    return total;
}

/* ---------------------------------------------------------------- cutting */

static jj_value f_batch(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    jj_value *items, r = generator(c, 0), row = {0};
    size_t n;
    int64_t size = jj_as_int(c, g[0], "batch");
    jj_items(c, v, &items, &n);
    for (size_t i = 0; i < n; i++) {
        if (row.type == JJ_ABSENT || (int64_t)row.as.l->n == size) {
            row = jj_list_new(c, 0, JJ_IS_LIST);
            jj_list_add(c, r.as.l, row);
        }
        jj_list_add(c, row.as.l, items[i]);
    }
    if (row.type != JJ_ABSENT && g[1].type != JJ_ABSENT && g[1].type != JJ_NONE)
        while ((int64_t)row.as.l->n < size) jj_list_add(c, row.as.l, g[1]);
    return r;
}

static jj_value f_slice(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    jj_value *items, r = generator(c, 0);
    size_t n, at = 0;
    int64_t slices = jj_as_int(c, g[0], "slice");
    jj_items(c, v, &items, &n);
    if (slices <= 0) jj_fail(c, LM_FORMAT, "slice: expected a positive number, found %lld", (long long)slices);
    size_t per = n / (size_t)slices, extra = n % (size_t)slices;
    for (size_t k = 0; k < (size_t)slices; k++) {
        jj_value row = jj_list_new(c, 0, JJ_IS_LIST);
        size_t take = per + (k < extra);
        for (size_t i = 0; i < take; i++) jj_list_add(c, row.as.l, items[at++]);
        if (g[1].type != JJ_ABSENT && g[1].type != JJ_NONE && k >= extra) jj_list_add(c, row.as.l, g[1]);
        jj_list_add(c, r.as.l, row);
    }
    return r;
}

/* ---------------------------------------------------------------- map, select */

static jj_args rest_of(const jj_args *a, size_t skip) {
    jj_args r = *a;
    r.items += skip;
    r.n -= skip;
    return r;
}

static jj_value f_map(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g;
    jj_value *items, path = {0}, other = {0};
    size_t n;
    jj_items(c, v, &items, &n);
    jj_value r = generator(c, n);
    if (a->n == 0) {
        for (size_t i = 0; i < a->n_keywords; i++) {
            if (JJ_EQ(a->keywords[i].name, "attribute"))
                path = a->keywords[i].value;
            else if (JJ_EQ(a->keywords[i].name, "default"))
                other = a->keywords[i].value;
            else
                jj_fail(c, LM_FORMAT, "map: unexpected keyword argument");
        }
        if (path.type == JJ_ABSENT) jj_fail(c, LM_FORMAT, "map requires a filter argument");
        for (size_t i = 0; i < n; i++) {
            jj_value one = jj_get_path(c, items[i], path);
            jj_list_add(c, r.as.l, one.type == JJ_UNDEF && other.type != JJ_ABSENT ? other : one);
        }
        return r;
    }
    const jj_str *name = jj_as_str(c, a->items[0], "map");
    jj_args rest = rest_of(a, 1);
    for (size_t i = 0; i < n; i++) jj_list_add(c, r.as.l, jj_filter_apply(c, name, items[i], &rest));
    return r;
}

static jj_value pick(jj *c, jj_value v, const jj_args *a, bool by_attribute, bool keep) {
    jj_value *items;
    size_t n, used = by_attribute;
    if (by_attribute && !a->n) jj_fail(c, LM_FORMAT, "Missing parameter for attribute name");
    const jj_str *test = a->n > used ? jj_as_str(c, a->items[used], "select") : NULL;
    jj_args rest = test ? rest_of(a, used + 1) : (jj_args){0};
    jj_items(c, v, &items, &n);
    jj_value r = generator(c, n);
    for (size_t i = 0; i < n; i++) {
        jj_value one = by_attribute ? jj_get_path(c, items[i], a->items[0]) : items[i];
        jj_tick(c, 1);
        if ((test ? jj_test_apply(c, test, one, &rest) : jj_truth(one)) == keep) jj_list_add(c, r.as.l, items[i]);
    }
    return r;
}
static jj_value f_select(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g;
    return pick(c, v, a, false, true);
}
static jj_value f_reject(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g;
    return pick(c, v, a, false, false);
}
static jj_value f_selectattr(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g;
    return pick(c, v, a, true, true);
}
static jj_value f_rejectattr(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g;
    return pick(c, v, a, true, false);
}

const jj_builtin jj_filters_seq[] = {
    {"batch", f_batch, "linecount! fill_with"},
    {"dictsort", f_dictsort, "case_sensitive by reverse"},
    {"first", f_first, ""},
    {"groupby", f_groupby, "attribute! default case_sensitive"},
    {"items", f_items, ""},
    {"join", f_join, "d attribute"},
    {"last", f_last, ""},
    {"list", f_list, ""},
    {"map", f_map, NULL},
    {"max", f_max, "case_sensitive attribute"},
    {"min", f_min, "case_sensitive attribute"},
    {"reject", f_reject, NULL},
    {"rejectattr", f_rejectattr, NULL},
    {"reverse", f_reverse, ""},
    {"select", f_select, NULL},
    {"selectattr", f_selectattr, NULL},
    {"slice", f_slice, "slices! fill_with"},
    {"sort", f_sort, "reverse case_sensitive attribute"},
    {"sum", f_sum, "attribute start"},
    {"unique", f_unique, "case_sensitive attribute"},
    {NULL, NULL, NULL},
};
