/* SPDX-License-Identifier: MIT
 *
 * jinja_value.c: Python's values as templates see them: making, comparing, hashing, walking, and text by code points.
 */
#include "text/jinja_impl.h"
#include <math.h>
#include <stdio.h>
#include <utf8proc.h>

jj_value jj_none(void) {
    return (jj_value){.type = JJ_NONE};
}
jj_value jj_bool(bool b) {
    return (jj_value){.type = JJ_BOOL, .as.b = b};
}
jj_value jj_int(int64_t i) {
    return (jj_value){.type = JJ_INT, .as.i = i};
}
jj_value jj_float(double f) {
    return (jj_value){.type = JJ_FLOAT, .as.f = f};
}

jj_value jj_str_borrow(jj *c, const char *p, size_t n) {
    jj_str *s = jj_alloc(c, sizeof *s);
    *s = (jj_str){p ? p : "", n, -1};
    return (jj_value){.type = JJ_STR, .as.s = s};
}
jj_value jj_strz(jj *c, const char *s) {
    return jj_str_borrow(c, s, strlen(s));
}
jj_value jj_strn(jj *c, const char *p, size_t n) {
    char *copy = jj_alloc(c, n + 1);
    if (n) memcpy(copy, p, n);
    return jj_str_borrow(c, copy, n);
}

jj_value jj_undefined(jj *c, const char *fmt, ...) {
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    jj_undef *u = jj_alloc(c, sizeof *u);
    u->message = jj_strn(c, text, strlen(text)).as.s->p;
    return (jj_value){.type = JJ_UNDEF, .as.u = u};
}

void jj_need_defined(jj *c, jj_value v) {
    if (v.type == JJ_UNDEF) jj_fail(c, LM_FORMAT, "%s", v.as.u->message);
}

/* ---------------------------------------------------------------- text */

/* One code point; a byte that is no UTF-8 counts as one (U+FFFD), so offsets always move on. */
uint32_t jj_next_char(const char *p, size_t n, size_t *used) {
    utf8proc_int32_t ch;
    if ((uint8_t)*p < 0x80) {
        *used = 1;
        return (uint8_t)*p;
    }
    utf8proc_ssize_t k = utf8proc_iterate((const uint8_t *)p, n < 4 ? (utf8proc_ssize_t)n : 4, &ch);
    *used = k > 0 ? (size_t)k : 1;
    return k > 0 ? (uint32_t)ch : 0xfffd;
}

int64_t jj_str_chars(jj_str *s) {
    if (s->chars >= 0) return s->chars;
    int64_t chars = 0;
    for (size_t i = 0, used; i < s->n; i += used, chars++) jj_next_char(s->p + i, s->n - i, &used);
    return s->chars = chars;
}

size_t jj_str_offset(jj_str *s, int64_t index) {
    if (jj_str_chars(s) == (int64_t)s->n) return (size_t)index;
    size_t at = 0, used;
    while (index-- > 0 && at < s->n) {
        jj_next_char(s->p + at, s->n - at, &used);
        at += used;
    }
    return at;
}

/* start, stop already clipped as Python's slice.indices does */
jj_value jj_str_slice(jj *c, jj_str *s, int64_t start, int64_t stop, int64_t step) {
    int64_t chars = jj_str_chars(s);
    jj_tick(c, s->n >> 5);
    if (step == 1) {
        if (stop <= start) return jj_strz(c, "");
        size_t a = jj_str_offset(s, start);
        jj_str rest = {s->p + a, s->n - a, chars == (int64_t)s->n ? (int64_t)(s->n - a) : -1};
        size_t n = chars == (int64_t)s->n ? (size_t)(stop - start) : 0;
        if (!n) {
            size_t used;
            for (int64_t k = stop - start; k > 0 && n < rest.n; k--, n += used)
                jj_next_char(rest.p + n, rest.n - n, &used);
        }
        return jj_str_borrow(c, rest.p, n);
    }
    uint32_t *code = jj_alloc(c, ((size_t)chars + 1) * sizeof *code);
    size_t k = 0;
    for (size_t i = 0, used; i < s->n; i += used) code[k++] = jj_next_char(s->p + i, s->n - i, &used);
    jj_buf b = {0};
    for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step) jj_buf_add_char(c, &b, code[i]);
    return jj_buf_value(c, &b);
}

bool jj_char_is_space(uint32_t ch) {
    if (ch < 0x80) return ch == ' ' || (ch >= 9 && ch <= 13) || (ch >= 0x1c && ch <= 0x1f);
    return ch == 0x85 || ch == 0xa0 || ch == 0x1680 || (ch >= 0x2000 && ch <= 0x200a) || ch == 0x2028 || ch == 0x2029 ||
           ch == 0x202f || ch == 0x205f || ch == 0x3000;
}

static bool char_in(jj *c, uint32_t ch, const jj_str *set) {
    if (!set) return jj_char_is_space(ch);
    jj_tick(c, set->n >> 3);
    for (size_t i = 0, used; i < set->n; i += used)
        if (jj_next_char(set->p + i, set->n - i, &used) == ch) return true;
    return false;
}

jj_value jj_strip(jj *c, jj_value v, const jj_str *chars, bool left, bool right) {
    const jj_str *s = v.as.s;
    size_t a = 0, b = s->n, used;
    while (left && a < b && char_in(c, jj_next_char(s->p + a, b - a, &used), chars)) a += used;
    while (right && b > a) {
        size_t k = 1;
        while (k < 4 && b - k > a && ((uint8_t)s->p[b - k] & 0xc0) == 0x80) k++;
        uint32_t ch = jj_next_char(s->p + b - k, k, &used);
        if (used != k) k = 1, ch = 0xfffd;
        if (!char_in(c, ch, chars)) break;
        b -= k;
    }
    jj_tick(c, (s->n - (b - a)) >> 3);
    if (a == 0 && b == s->n) return v;
    jj_value r = jj_str_borrow(c, s->p + a, b - a);
    r.safe = v.safe;
    return r;
}

/* ---------------------------------------------------------------- lists and dicts */

jj_value jj_list_new(jj *c, size_t capacity, jj_list_kind kind) {
    jj_list *l = jj_alloc(c, sizeof *l);
    l->kind = kind;
    l->cap = capacity;
    if (capacity > c->limits.memory / sizeof(jj_value))
        jj_fail(c, LM_BUDGET, "a list of %zu items is too long", capacity);
    if (capacity) l->items = jj_alloc(c, capacity * sizeof *l->items);
    return (jj_value){.type = JJ_LIST, .as.l = l};
}

void jj_list_add(jj *c, jj_list *l, jj_value v) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        jj_value *items = jj_alloc(c, cap * sizeof *items);
        if (l->n) memcpy(items, l->items, l->n * sizeof *items);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = v;
    jj_tick(c, 1);
}

jj_value jj_pair(jj *c, jj_value a, jj_value b) {
    jj_value v = jj_list_new(c, 2, JJ_IS_TUPLE);
    jj_list_add(c, v.as.l, a);
    jj_list_add(c, v.as.l, b);
    return v;
}

bool jj_is_seq(jj_value v) { /* list or tuple: has order, length and index */
    return v.type == JJ_LIST && v.as.l->kind <= JJ_IS_RANGE;
}

static uint64_t mix(uint64_t h, uint64_t v) {
    return (h ^ v) * 0x9e3779b97f4a7c15u ^ (h >> 29);
}

static uint64_t hash(jj *c, jj_value v) {
    uint64_t h = 1469598103934665603u;
    switch (v.type) {
    case JJ_NONE:
    case JJ_UNDEF: return 1;
    case JJ_BOOL: return mix(2, v.as.b);
    case JJ_INT: return mix(2, (uint64_t)v.as.i);
    case JJ_FLOAT: /* 1.0 and 1 are one key */
        if (v.as.f >= -9e15 && v.as.f <= 9e15 && v.as.f == floor(v.as.f)) return mix(2, (uint64_t)(int64_t)v.as.f);
        memcpy(&h, &v.as.f, sizeof h);
        return mix(3, h);
    case JJ_STR:
        for (size_t i = 0; i < v.as.s->n; i++) h = (h ^ (uint8_t)v.as.s->p[i]) * 1099511628211u;
        return h ^ (h >> 32);
    case JJ_LIST:
        if (v.as.l->kind != JJ_IS_TUPLE && v.as.l->kind != JJ_IS_GROUP) break;
        jj_enter(c);
        for (size_t i = 0; i < v.as.l->n; i++) h = mix(h, hash(c, v.as.l->items[i]));
        jj_leave(c);
        return h;
    case JJ_DICT: break;
    default: return mix(5, (uint64_t)(uintptr_t)v.as.d);
    }
    jj_fail(c, LM_FORMAT, "unhashable type: '%s'", jj_type_name(v));
}

jj_value jj_dict_new(jj *c) {
    return (jj_value){.type = JJ_DICT, .as.d = jj_alloc(c, sizeof(jj_dict))};
}

static jj_entry *find(jj *c, const jj_dict *d, jj_value key, uint64_t h) {
    if (!d->index) {
        for (size_t i = 0; i < d->n; i++)
            if (d->entries[i].hash == h && jj_equal(c, d->entries[i].key, key)) return &d->entries[i];
        return NULL;
    }
    for (size_t slot = (size_t)h & (d->index_size - 1); d->index[slot]; slot = (slot + 1) & (d->index_size - 1)) {
        jj_entry *e = &d->entries[d->index[slot] - 1];
        if (e->hash == h && jj_equal(c, e->key, key)) return e;
    }
    return NULL;
}

static void index_add(jj_dict *d, size_t entry) {
    size_t slot = (size_t)d->entries[entry].hash & (d->index_size - 1);
    while (d->index[slot]) slot = (slot + 1) & (d->index_size - 1);
    d->index[slot] = (uint32_t)entry + 1;
}

jj_value *jj_dict_get(jj *c, const jj_dict *d, jj_value key) {
    jj_entry *e = find(c, d, key, hash(c, key));
    return e ? &e->value : NULL;
}

void jj_dict_set(jj *c, jj_dict *d, jj_value key, jj_value value) {
    uint64_t h = hash(c, key);
    jj_entry *e = find(c, d, key, h);
    jj_tick(c, 1);
    if (e) {
        e->value = value;
        return;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 4;
        jj_entry *entries = jj_alloc(c, cap * sizeof *entries);
        if (d->n) memcpy(entries, d->entries, d->n * sizeof *entries);
        d->entries = entries;
        d->cap = cap;
        if (cap >= 16) {
            d->index_size = cap * 2;
            d->index = jj_alloc(c, d->index_size * sizeof *d->index);
            for (size_t i = 0; i < d->n; i++) index_add(d, i);
        }
    }
    d->entries[d->n++] = (jj_entry){key, value, h};
    if (d->index) index_add(d, d->n - 1);
}

jj_value jj_from_json(jj *c, const json_t *j) {
    jj_value v = jj_none();
    const char *key;
    json_t *item;
    size_t i, n;
    jj_enter(c);
    switch (json_typeof(j)) {
    case JSON_NULL: break;
    case JSON_TRUE: v = jj_bool(true); break;
    case JSON_FALSE: v = jj_bool(false); break;
    case JSON_INTEGER: v = jj_int(json_integer_value(j)); break;
    case JSON_REAL: v = jj_float(json_real_value(j)); break;
    case JSON_STRING: v = jj_str_borrow(c, json_string_value(j), json_string_length(j)); break;
    case JSON_ARRAY:
        v = jj_list_new(c, json_array_size(j), JJ_IS_LIST);
        json_array_foreach(j, i, item) jj_list_add(c, v.as.l, jj_from_json(c, item));
        break;
    case JSON_OBJECT:
        v = jj_dict_new(c);
        json_object_keylen_foreach((json_t *)j, key, n, item)
            jj_dict_set(c, v.as.d, jj_str_borrow(c, key, n), jj_from_json(c, item));
        break;
    }
    jj_leave(c);
    return v;
}

/* ---------------------------------------------------------------- questions */

bool jj_truth(jj_value v) {
    switch (v.type) {
    case JJ_ABSENT:
    case JJ_UNDEF:
    case JJ_NONE: return false;
    case JJ_BOOL: return v.as.b;
    case JJ_INT: return v.as.i != 0;
    case JJ_FLOAT: return v.as.f != 0;
    case JJ_STR: return v.as.s->n > 0;
    case JJ_LIST: return v.as.l->kind == JJ_IS_GENERATOR || v.as.l->n > 0;
    case JJ_DICT: return v.as.d->n > 0;
    case JJ_LOOP: return v.as.loop->n > 0;
    default: return true;
    }
}

double jj_as_float(jj_value v) {
    return v.type == JJ_FLOAT ? v.as.f : v.type == JJ_INT ? (double)v.as.i : v.type == JJ_BOOL ? (double)v.as.b : 0;
}

int64_t jj_as_int(jj *c, jj_value v, const char *what) {
    if (v.type == JJ_INT) return v.as.i;
    if (v.type == JJ_BOOL) return v.as.b;
    jj_need_defined(c, v);
    jj_fail(c, LM_FORMAT, "%s: expected an integer, found '%s'", what, jj_type_name(v));
}

const jj_str *jj_as_str(jj *c, jj_value v, const char *what) {
    if (v.type == JJ_STR) return v.as.s;
    jj_need_defined(c, v);
    jj_fail(c, LM_FORMAT, "%s: expected a string, found '%s'", what, jj_type_name(v));
}

const char *jj_type_name(jj_value v) {
    static const char *const lists[] = {"list",       "tuple",     "_GroupTuple", "range",
                                        "dict_items", "dict_keys", "dict_values", "generator"};
    switch (v.type) {
    case JJ_UNDEF: return "Undefined";
    case JJ_NONE: return "NoneType";
    case JJ_BOOL: return "bool";
    case JJ_INT: return "int";
    case JJ_FLOAT: return "float";
    case JJ_STR: return v.safe ? "Markup" : "str";
    case JJ_LIST: return lists[v.as.l->kind];
    case JJ_DICT: return "dict";
    case JJ_NS: return "TemplateNamespace";
    case JJ_MACRO: return "Macro";
    case JJ_LOOP: return "LoopContext";
    case JJ_CYCLER: return "Cycler";
    case JJ_JOINER: return "Joiner";
    default: return "builtin_function_or_method";
    }
}

const char *jj_object_name(jj *c, jj_value v) {
    if (v.type == JJ_NONE) return "None";
    char text[64];
    snprintf(text, sizeof text, "%s object", jj_type_name(v));
    return jj_strn(c, text, strlen(text)).as.s->p;
}

static int order_int(int64_t a, int64_t b) {
    return a < b ? -1 : a > b;
}
static int order_float(double a, double b) {
    return a < b ? -1 : a > b;
}

bool jj_equal(jj *c, jj_value a, jj_value b) {
    if (jj_is_number(a) && jj_is_number(b)) {
        if (a.type != JJ_FLOAT && b.type != JJ_FLOAT) return jj_as_int(c, a, "==") == jj_as_int(c, b, "==");
        return jj_as_float(a) == jj_as_float(b);
    }
    if (a.type != b.type) return false;
    bool same = true;
    switch (a.type) {
    case JJ_UNDEF:
    case JJ_NONE: return true;
    case JJ_STR:
        jj_tick(c, a.as.s->n >> 8);
        return a.as.s->n == b.as.s->n && memcmp(a.as.s->p, b.as.s->p, a.as.s->n) == 0;
    case JJ_LIST: {
        const jj_list *x = a.as.l, *y = b.as.l;
        if (x == y) return true;
        bool tuples =
            (x->kind == JJ_IS_TUPLE || x->kind == JJ_IS_GROUP) && (y->kind == JJ_IS_TUPLE || y->kind == JJ_IS_GROUP);
        if ((x->kind != y->kind && !tuples) || x->n != y->n || x->kind == JJ_IS_GENERATOR || x->kind == JJ_IS_VALUES)
            return false;
        jj_enter(c);
        for (size_t i = 0; same && i < x->n; i++) same = jj_equal(c, x->items[i], y->items[i]);
        jj_leave(c);
        return same;
    }
    case JJ_DICT:
        if (a.as.d == b.as.d) return true;
        if (a.as.d->n != b.as.d->n) return false;
        jj_enter(c);
        for (size_t i = 0; same && i < a.as.d->n; i++) {
            jj_value *other = jj_dict_get(c, b.as.d, a.as.d->entries[i].key);
            same = other && jj_equal(c, a.as.d->entries[i].value, *other);
        }
        jj_leave(c);
        return same;
    default: return a.as.d == b.as.d;
    }
}

int jj_compare(jj *c, jj_value a, jj_value b, const char *op) {
    if (jj_is_number(a) && jj_is_number(b)) {
        if (a.type != JJ_FLOAT && b.type != JJ_FLOAT) return order_int(jj_as_int(c, a, op), jj_as_int(c, b, op));
        return order_float(jj_as_float(a), jj_as_float(b));
    }
    if (jj_is_str(a) && jj_is_str(b)) { /* byte order of UTF-8 is the order of code points */
        size_t n = a.as.s->n < b.as.s->n ? a.as.s->n : b.as.s->n;
        int k = n ? memcmp(a.as.s->p, b.as.s->p, n) : 0;
        return k ? k : order_int((int64_t)a.as.s->n, (int64_t)b.as.s->n);
    }
    if (jj_is_seq(a) && jj_is_seq(b) && (a.as.l->kind == JJ_IS_LIST) == (b.as.l->kind == JJ_IS_LIST)) {
        jj_enter(c);
        int k = 0;
        const jj_list *x = a.as.l, *y = b.as.l;
        for (size_t i = 0; !k && i < x->n && i < y->n; i++)
            if (!jj_equal(c, x->items[i], y->items[i])) {
                k = jj_compare(c, x->items[i], y->items[i], op);
                break;
            }
        jj_leave(c);
        return k ? k : order_int((int64_t)x->n, (int64_t)y->n);
    }
    jj_need_defined(c, a);
    jj_need_defined(c, b);
    jj_fail(c, LM_FORMAT, "'%s' not supported between instances of '%s' and '%s'", op, jj_type_name(a),
            jj_type_name(b));
}

static bool find_text(jj *c, const jj_str *in, const jj_str *what) {
    jj_tick(c, in->n >> 7);
    return what->n == 0 || (in->n >= what->n && memmem(in->p, in->n, what->p, what->n) != NULL);
}

bool jj_contains(jj *c, jj_value item, jj_value in) {
    if (in.type == JJ_STR) {
        if (!jj_is_str(item)) {
            jj_need_defined(c, item);
            jj_fail(c, LM_FORMAT, "'in <string>' requires string as left operand, not %s", jj_type_name(item));
        }
        return find_text(c, in.as.s, item.as.s);
    }
    if (in.type == JJ_DICT) return jj_dict_get(c, in.as.d, item) != NULL;
    if (in.type == JJ_UNDEF) return false;
    jj_value *items;
    size_t n;
    if (!jj_is_iterable(in)) jj_fail(c, LM_FORMAT, "argument of type '%s' is not iterable", jj_type_name(in));
    jj_items(c, in, &items, &n);
    for (size_t i = 0; i < n; i++) {
        jj_tick(c, 1);
        if (jj_equal(c, item, items[i])) return true;
    }
    return false;
}

bool jj_is_iterable(jj_value v) {
    return v.type == JJ_STR || v.type == JJ_LIST || v.type == JJ_DICT || v.type == JJ_UNDEF;
}

void jj_items(jj *c, jj_value v, jj_value **items, size_t *n) {
    *items = NULL;
    *n = 0;
    if (v.type == JJ_LIST) {
        *items = v.as.l->items;
        *n = v.as.l->n;
        if (v.as.l->kind == JJ_IS_GENERATOR) v.as.l->n = 0;
    } else if (v.type == JJ_DICT) {
        *items = jj_alloc(c, (v.as.d->n + 1) * sizeof **items);
        for (; *n < v.as.d->n; (*n)++) (*items)[*n] = v.as.d->entries[*n].key;
    } else if (v.type == JJ_STR) {
        jj_str *s = v.as.s;
        size_t chars = (size_t)jj_str_chars(s);
        jj_tick(c, chars);
        *items = jj_alloc(c, (chars + 1) * sizeof **items);
        for (size_t i = 0, used; i < s->n; i += used) {
            jj_next_char(s->p + i, s->n - i, &used);
            (*items)[(*n)++] = jj_str_borrow(c, s->p + i, used);
        }
    } else if (v.type != JJ_UNDEF) { /* nothing in an undefined value */
        jj_fail(c, LM_FORMAT, "'%s' object is not iterable", jj_type_name(v));
    }
    jj_tick(c, *n >> 3);
}

int64_t jj_length(jj *c, jj_value v) {
    switch (v.type) {
    case JJ_STR: return jj_str_chars(v.as.s);
    case JJ_LIST:
        if (v.as.l->kind == JJ_IS_GENERATOR) break;
        return (int64_t)v.as.l->n;
    case JJ_DICT: return (int64_t)v.as.d->n;
    case JJ_LOOP: return (int64_t)v.as.loop->n;
    case JJ_UNDEF: return 0;
    default: break;
    }
    jj_fail(c, LM_FORMAT, "object of type '%s' has no len()", jj_type_name(v));
}

/* Stable merge sort of items by keys; a comparison may fail. */
static void merge(jj *c, jj_value *items, jj_value *keys, jj_value *items2, jj_value *keys2, size_t n, bool reverse) {
    if (n < 2) return;
    size_t half = n / 2;
    merge(c, items, keys, items2, keys2, half, reverse);
    merge(c, items + half, keys + half, items2, keys2, n - half, reverse);
    memcpy(items2, items, half * sizeof *items);
    memcpy(keys2, keys, half * sizeof *keys);
    size_t i = 0, j = half, k = 0;
    jj_tick(c, n);
    while (i < half && j < n) {
        int order = reverse ? jj_compare(c, keys2[i], keys[j], "<") : jj_compare(c, keys[j], keys2[i], "<");
        if (order < 0) { /* the right one goes first */
            items[k] = items[j];
            keys[k++] = keys[j++];
        } else {
            items[k] = items2[i];
            keys[k++] = keys2[i++];
        }
    }
    memcpy(items + k, items2 + i, (half - i) * sizeof *items);
    memcpy(keys + k, keys2 + i, (half - i) * sizeof *keys);
}

void jj_sort(jj *c, jj_value *items, jj_value *keys, size_t n, bool reverse) {
    jj_value *a = jj_alloc(c, (n + 1) * sizeof *a), *b = jj_alloc(c, (n + 1) * sizeof *b);
    merge(c, items, keys, a, b, n, reverse);
}
