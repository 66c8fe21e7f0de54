/* SPDX-License-Identifier: MIT
 *
 * jinja_methods.c: methods of lists, tuples, dicts, numbers, loop and cycler that change nothing, and the global
 * functions. Mutating methods are absent: the sandbox reports them as unsafe. */
#include "text/jinja_impl.h"
#include <math.h>

#define MAX_RANGE 100000

static jj_value l_index(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    for (size_t i = 0; i < v.as.l->n; i++) {
        jj_tick(c, 1);
        if (jj_equal(c, v.as.l->items[i], g[0])) return jj_int((int64_t)i);
    }
    jj_fail(c, LM_FORMAT, "the value is not in the %s", jj_type_name(v));
}

static jj_value l_count(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    int64_t n = 0;
    for (size_t i = 0; i < v.as.l->n; i++) n += jj_equal(c, v.as.l->items[i], g[0]);
    jj_tick(c, v.as.l->n);
    return jj_int(n);
}

static jj_value l_copy(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    jj_value r = jj_list_new(c, v.as.l->n, JJ_IS_LIST);
    for (size_t i = 0; i < v.as.l->n; i++) jj_list_add(c, r.as.l, v.as.l->items[i]);
    return r;
}

const jj_builtin jj_list_methods[] = {
    {"copy", l_copy, ""}, {"count", l_count, "value!"}, {"index", l_index, "value!"}, {NULL, NULL, NULL}};
const jj_builtin jj_tuple_methods[] = {{"count", l_count, "value!"}, {"index", l_index, "value!"}, {NULL, NULL, NULL}};

/* ---------------------------------------------------------------- dict */

static jj_value d_get(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)a;
    jj_value *found = jj_dict_get(c, v.as.d, g[0]);
    if (found) return *found;
    return g[1].type == JJ_ABSENT ? jj_none() : g[1];
}

static jj_value view(jj *c, const jj_dict *d, jj_list_kind kind) {
    jj_value r = jj_list_new(c, d->n, kind);
    for (size_t i = 0; i < d->n; i++) {
        const jj_entry *e = &d->entries[i];
        jj_list_add(c, r.as.l,
                    kind == JJ_IS_KEYS     ? e->key
                    : kind == JJ_IS_VALUES ? e->value
                                           : jj_pair(c, e->key, e->value));
    }
    return r;
}
static jj_value d_items(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return view(c, v.as.d, JJ_IS_ITEMS);
}
static jj_value d_keys(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return view(c, v.as.d, JJ_IS_KEYS);
}
static jj_value d_values(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    return view(c, v.as.d, JJ_IS_VALUES);
}

static void add_all(jj *c, jj_dict *to, const jj_dict *from) {
    for (size_t i = 0; i < from->n; i++) jj_dict_set(c, to, from->entries[i].key, from->entries[i].value);
}

static jj_value d_copy(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    jj_value r = jj_dict_new(c);
    add_all(c, r.as.d, v.as.d);
    return r;
}

const jj_builtin jj_dict_methods[] = {{"copy", d_copy, ""}, {"get", d_get, "key! default"}, {"items", d_items, ""},
                                      {"keys", d_keys, ""}, {"values", d_values, ""},       {NULL, NULL, NULL}};

/* ---------------------------------------------------------------- numbers, loop, cycler */

static jj_value n_is_integer(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)c, (void)g, (void)a;
    return jj_bool(isfinite(v.as.f) && floor(v.as.f) == v.as.f);
}
static jj_value n_bit_length(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g, (void)a;
    int64_t i = jj_as_int(c, v, "bit_length"), n = 0;
    for (uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i; u; u >>= 1) n++;
    return jj_int(n);
}
const jj_builtin jj_int_methods[] = {{"bit_length", n_bit_length, ""}, {NULL, NULL, NULL}};
const jj_builtin jj_float_methods[] = {{"is_integer", n_is_integer, ""}, {NULL, NULL, NULL}};

static jj_value loop_cycle(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g;
    if (!a->n) jj_fail(c, LM_FORMAT, "no items for cycling given");
    return a->items[v.as.loop->index % a->n];
}
static jj_value loop_changed(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)g;
    jj_loop *l = v.as.loop;
    jj_value now = jj_list_new(c, a->n, JJ_IS_TUPLE);
    for (size_t i = 0; i < a->n; i++) jj_list_add(c, now.as.l, a->items[i]);
    bool changed = !l->has_changed || !jj_equal(c, l->changed, now);
    l->has_changed = true;
    l->changed = now;
    return jj_bool(changed);
}
const jj_builtin jj_loop_methods[] = {{"cycle", loop_cycle, NULL}, {"changed", loop_changed, NULL}, {NULL, NULL, NULL}};

static jj_value cycler_next(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)c, (void)g, (void)a;
    jj_loop *l = v.as.loop;
    jj_value r = l->items[l->index];
    l->index = (l->index + 1) % l->n;
    return r;
}
static jj_value cycler_reset(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)c, (void)g, (void)a;
    v.as.loop->index = 0;
    return jj_none();
}
const jj_builtin jj_cycler_methods[] = {{"next", cycler_next, ""}, {"reset", cycler_reset, ""}, {NULL, NULL, NULL}};

/* ---------------------------------------------------------------- global functions */

static jj_value g_range(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)v, (void)a;
    int64_t start = 0, stop = jj_as_int(c, g[0], "range"), step = 1;
    if (g[1].type != JJ_ABSENT) {
        start = stop;
        stop = jj_as_int(c, g[1], "range");
    }
    if (g[2].type != JJ_ABSENT) step = jj_as_int(c, g[2], "range");
    if (step == 0) jj_fail(c, LM_FORMAT, "range() arg 3 must not be zero");
    uint64_t span = step > 0 ? (stop > start ? (uint64_t)stop - (uint64_t)start : 0)
                             : (start > stop ? (uint64_t)start - (uint64_t)stop : 0);
    uint64_t by = step > 0 ? (uint64_t)step : 0 - (uint64_t)step, n = span / by + (span % by != 0);
    if (n > MAX_RANGE) jj_fail(c, LM_BUDGET, "range is larger than %d items", MAX_RANGE);
    jj_value r = jj_list_new(c, (size_t)n, JJ_IS_RANGE);
    for (uint64_t i = 0; i < n; i++) jj_list_add(c, r.as.l, jj_int((int64_t)((uint64_t)start + i * (uint64_t)step)));
    r.as.l->start = start;
    r.as.l->stop = stop;
    r.as.l->step = step;
    return r;
}

static jj_value make_dict(jj *c, const jj_args *a) {
    jj_value r = jj_dict_new(c), *items, *pair;
    size_t n, two;
    if (a->n > 1) jj_fail(c, LM_FORMAT, "dict() takes at most one positional argument");
    if (a->n && (a->items[0].type == JJ_DICT || a->items[0].type == JJ_NS)) {
        add_all(c, r.as.d, a->items[0].as.d);
    } else if (a->n) {
        jj_items(c, a->items[0], &items, &n);
        for (size_t i = 0; i < n; i++) {
            jj_items(c, items[i], &pair, &two);
            if (two != 2)
                jj_fail(c, LM_FORMAT, "dictionary update sequence element #%zu has length %zu; 2 is required", i, two);
            jj_dict_set(c, r.as.d, pair[0], pair[1]);
        }
    }
    for (size_t i = 0; i < a->n_keywords; i++)
        jj_dict_set(c, r.as.d, (jj_value){.type = JJ_STR, .as.s = a->keywords[i].name}, a->keywords[i].value);
    return r;
}
static jj_value g_dict(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)v, (void)g;
    return make_dict(c, a);
}
static jj_value g_namespace(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)v, (void)g;
    jj_value r = make_dict(c, a);
    r.type = JJ_NS;
    for (size_t i = 0; i < r.as.d->n; i++) {
        jj_value key = r.as.d->entries[i].key;
        if (key.type == JJ_STR && key.as.s->n && key.as.s->p[0] == '_')
            jj_fail(c, LM_FORMAT, "a namespace cannot hold an attribute that starts with an underscore");
    }
    return r;
}

static jj_value g_cycler(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)v, (void)g;
    if (!a->n) jj_fail(c, LM_FORMAT, "at least one item has to be provided");
    jj_loop *l = jj_alloc(c, sizeof *l);
    *l = (jj_loop){.items = a->items, .n = a->n};
    return (jj_value){.type = JJ_CYCLER, .as.loop = l};
}
static jj_value g_joiner(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)v, (void)a;
    jj_loop *l = jj_alloc(c, sizeof *l);
    l->changed = g[0].type == JJ_ABSENT ? jj_strz(c, ", ") : g[0];
    return (jj_value){.type = JJ_JOINER, .as.loop = l};
}

static jj_value g_raise(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)v, (void)a;
    jj_value text = jj_to_str(c, g[0]);
    jj_raise(c, text.as.s->p, text.as.s->n);
}
static jj_value g_strftime(jj *c, jj_value v, jj_value *g, const jj_args *a) {
    (void)v, (void)a;
    return jj_strftime(c, jj_as_str(c, g[0], "strftime_now"));
}

const jj_builtin jj_globals[] = {
    {"range", g_range, "start! stop step"},
    {"dict", g_dict, NULL},
    {"namespace", g_namespace, NULL},
    {"cycler", g_cycler, NULL},
    {"joiner", g_joiner, "sep"},
    {"raise_exception", g_raise, "message!"},
    {"strftime_now", g_strftime, "format!"},
    {NULL, NULL, NULL},
};
