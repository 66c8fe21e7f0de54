/* SPDX-License-Identifier: MIT
 *
 * jinja_ops.c: arithmetic, attributes, items and slices, with Python's meaning and the sandbox's limits: integers stay
 * in 64 bits, repeated text and lists are bounded by memory, mutating methods and underscore attributes do not exist.
 */
#include "text/jinja_impl.h"
#include <math.h>
#include <stdio.h>

JJ_NORETURN static void no_operator(jj *c, int op, jj_value a, jj_value b) {
    char text[3] = {(char)(op & 255), (char)(op >> 8), 0};
    jj_need_defined(c, a);
    jj_need_defined(c, b);
    if (op == '+' && jj_is_str(a))
        jj_fail(c, LM_FORMAT, "can only concatenate str (not \"%s\") to str", jj_type_name(b));
    jj_fail(c, LM_FORMAT, "unsupported operand type(s) for %s: '%s' and '%s'", text, jj_type_name(a), jj_type_name(b));
}

JJ_NORETURN static void overflow(jj *c) {
    jj_fail(c, LM_BUDGET, "integer is larger than 64 bits");
}

static jj_value int_power(jj *c, int64_t base, int64_t exponent) {
    int64_t r = 1;
    if (base == 0 || base == 1) return jj_int(exponent == 0 ? 1 : base);
    if (base == -1) return jj_int(exponent & 1 ? -1 : 1);
    if (exponent > 64) overflow(c);
    for (; exponent > 0; exponent--)
        if (__builtin_mul_overflow(r, base, &r)) overflow(c);
    return jj_int(r);
}

static jj_value int_op(jj *c, int op, int64_t a, int64_t b) {
    int64_t r;
    if (b == 0 && (op == '/' || op == '%' || op == JJ_OP2('/', '/')))
        jj_fail(c, LM_FORMAT, op == '/' ? "division by zero" : "integer division or modulo by zero");
    switch (op) {
    case '+':
        if (__builtin_add_overflow(a, b, &r)) overflow(c);
        return jj_int(r);
    case '-':
        if (__builtin_sub_overflow(a, b, &r)) overflow(c);
        return jj_int(r);
    case '*':
        if (__builtin_mul_overflow(a, b, &r)) overflow(c);
        return jj_int(r);
    case '/': return jj_float((double)a / (double)b);
    case '%':
        if (b == -1) return jj_int(0);
        r = a % b;
        return jj_int(r != 0 && (r < 0) != (b < 0) ? r + b : r);
    case JJ_OP2('/', '/'):
        if (b == -1) {
            if (a == INT64_MIN) overflow(c);
            return jj_int(-a);
        }
        r = a / b;
        return jj_int(a % b != 0 && (a < 0) != (b < 0) ? r - 1 : r);
    default: return b >= 0 ? int_power(c, a, b) : a ? jj_float(pow((double)a, (double)b)) : (jj_value){0};
    }
}

static jj_value float_op(jj *c, int op, double a, double b) {
    if (b == 0 && (op == '/' || op == '%' || op == JJ_OP2('/', '/'))) jj_fail(c, LM_FORMAT, "float division by zero");
    double r;
    switch (op) {
    case '+': return jj_float(a + b);
    case '-': return jj_float(a - b);
    case '*': return jj_float(a * b);
    case '/': return jj_float(a / b);
    case '%': r = fmod(a, b); return jj_float(r != 0 && (r < 0) != (b < 0) ? r + b : r);
    case JJ_OP2('/', '/'): return jj_float(floor(a / b));
    default: return jj_float(pow(a, b));
    }
}

/* a + b for text. Where a is the last text joined, b goes right behind it: s = s + x in a loop stays linear. */
static jj_value join_text(jj *c, jj_value va, jj_value vb) {
    const jj_str *a = va.as.s, *b = vb.as.s;
    if (va.safe != vb.safe) { /* markup escapes its neighbour */
        jj_buf e = {0};
        jj_escape(c, &e, va.safe ? b : a);
        if (va.safe)
            b = jj_buf_value(c, &e).as.s;
        else
            a = jj_buf_value(c, &e).as.s;
    }
    char *p;
    if (a->n && a->p + a->n == c->tail && (size_t)(c->tail_limit - c->tail) >= b->n) {
        p = (char *)(uintptr_t)a->p;
        jj_tick(c, b->n >> 6);
    } else {
        size_t cap = a->n + b->n > 128 ? (a->n + b->n) * 2 : a->n + b->n;
        p = jj_alloc(c, cap + 1);
        memcpy(p, a->p, a->n);
        c->tail_limit = p + cap;
        jj_tick(c, (a->n + b->n) >> 6);
    }
    if (b->n) memcpy(p + a->n, b->p, b->n);
    c->tail = p + a->n + b->n;
    jj_value r = jj_str_borrow(c, p, a->n + b->n);
    r.safe = va.safe || vb.safe;
    return r;
}

static jj_value join_lists(jj *c, const jj_list *a, const jj_list *b) {
    jj_value v = jj_list_new(c, a->n + b->n, a->kind == JJ_IS_LIST ? JJ_IS_LIST : JJ_IS_TUPLE);
    for (size_t i = 0; i < a->n; i++) jj_list_add(c, v.as.l, a->items[i]);
    for (size_t i = 0; i < b->n; i++) jj_list_add(c, v.as.l, b->items[i]);
    return v;
}

static jj_value repeat(jj *c, jj_value v, int64_t times) {
    size_t n = v.type == JJ_STR ? v.as.s->n : v.as.l->n;
    if (times < 0 || n == 0) times = 0;
    if (times && n > c->limits.memory / 16 / (size_t)times)
        jj_fail(c, LM_BUDGET, "repeating %zu items %lld times takes too much memory", n, (long long)times);
    if (v.type == JJ_STR) {
        jj_buf b = {0};
        for (int64_t i = 0; i < times; i++) jj_buf_add(c, &b, v.as.s->p, n);
        jj_tick(c, (size_t)times);
        jj_value r = jj_buf_value(c, &b);
        r.safe = v.safe;
        return r;
    }
    jj_value r = jj_list_new(c, n * (size_t)times, v.as.l->kind == JJ_IS_LIST ? JJ_IS_LIST : JJ_IS_TUPLE);
    for (int64_t i = 0; i < times; i++)
        for (size_t k = 0; k < n; k++) jj_list_add(c, r.as.l, v.as.l->items[k]);
    return r;
}

static bool is_list_or_tuple(jj_value v) {
    return v.type == JJ_LIST && v.as.l->kind <= JJ_IS_GROUP;
}
static bool is_intlike(jj_value v) {
    return v.type == JJ_INT || v.type == JJ_BOOL;
}

jj_value jj_binary(jj *c, int op, jj_value a, jj_value b) {
    if (is_intlike(a) && is_intlike(b)) {
        jj_value r = int_op(c, op, jj_as_int(c, a, ""), jj_as_int(c, b, ""));
        if (r.type == JJ_ABSENT) jj_fail(c, LM_FORMAT, "0.0 cannot be raised to a negative power");
        return r;
    }
    if (jj_is_number(a) && jj_is_number(b)) return float_op(c, op, jj_as_float(a), jj_as_float(b));
    if (op == '%' && jj_is_str(a)) return jj_percent(c, a.as.s, b);
    if (op == '+') {
        if (jj_is_str(a) && jj_is_str(b)) return join_text(c, a, b);
        if (jj_is_str(a) && a.safe) jj_need_defined(c, b);
        if (is_list_or_tuple(a) && is_list_or_tuple(b) && (a.as.l->kind == JJ_IS_LIST) == (b.as.l->kind == JJ_IS_LIST))
            return join_lists(c, a.as.l, b.as.l);
    }
    if (op == '*') {
        if ((jj_is_str(a) || is_list_or_tuple(a)) && is_intlike(b)) return repeat(c, a, jj_as_int(c, b, "*"));
        if ((jj_is_str(b) || is_list_or_tuple(b)) && is_intlike(a)) return repeat(c, b, jj_as_int(c, a, "*"));
    }
    no_operator(c, op, a, b);
}

/* ---------------------------------------------------------------- attributes and items */

static jj_value bound(jj *c, const jj_builtin *method, jj_value self) {
    jj_func *f = jj_alloc(c, sizeof *f);
    *f = (jj_func){method, self};
    return (jj_value){.type = JJ_FUNC, .as.fn = f};
}

static const jj_builtin *methods_of(jj_value v) {
    switch (v.type) {
    case JJ_STR: return jj_str_methods;
    case JJ_DICT: return jj_dict_methods;
    case JJ_LIST:
        return v.as.l->kind == JJ_IS_LIST ? jj_list_methods : v.as.l->kind <= JJ_IS_RANGE ? jj_tuple_methods : NULL;
    case JJ_INT:
    case JJ_BOOL: return jj_int_methods;
    case JJ_FLOAT: return jj_float_methods;
    case JJ_LOOP: return jj_loop_methods;
    case JJ_CYCLER: return jj_cycler_methods;
    default: return NULL;
    }
}

static bool is_mutator(jj_value v, const jj_str *name) {
    static const char *const list[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove", NULL};
    static const char *const dict[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    const char *const *row = v.type == JJ_DICT ? dict : v.type == JJ_LIST && v.as.l->kind == JJ_IS_LIST ? list : NULL;
    for (; row && *row; row++)
        if (strlen(*row) == name->n && memcmp(*row, name->p, name->n) == 0) return true;
    return false;
}

static jj_value unsafe(jj *c, jj_value v, const jj_str *name) {
    return jj_undefined(c, "access to attribute '%.*s' of '%s' object is unsafe.", (int)(name->n < 80 ? name->n : 80),
                        name->p, jj_type_name(v));
}

static jj_value loop_attribute(jj *c, const jj_loop *l, const jj_str *name) {
    int64_t index = (int64_t)l->index, n = (int64_t)l->n;
    if (JJ_EQ(name, "index")) return jj_int(index + 1);
    if (JJ_EQ(name, "index0")) return jj_int(index);
    if (JJ_EQ(name, "revindex")) return jj_int(n - index);
    if (JJ_EQ(name, "revindex0")) return jj_int(n - index - 1);
    if (JJ_EQ(name, "first")) return jj_bool(index == 0);
    if (JJ_EQ(name, "last")) return jj_bool(index + 1 >= n);
    if (JJ_EQ(name, "length")) return jj_int(n);
    if (JJ_EQ(name, "depth")) return jj_int(l->depth0 + 1);
    if (JJ_EQ(name, "depth0")) return jj_int(l->depth0);
    if (JJ_EQ(name, "previtem")) return index > 0 ? l->items[index - 1] : jj_undefined(c, "there is no previous item");
    if (JJ_EQ(name, "nextitem")) return index + 1 < n ? l->items[index + 1] : jj_undefined(c, "there is no next item");
    return (jj_value){0};
}

static jj_value macro_attribute(jj *c, const jj_macro *m, const jj_str *name) {
    if (JJ_EQ(name, "name")) return (jj_value){.type = JJ_STR, .as.s = m->name};
    if (JJ_EQ(name, "catch_varargs")) return jj_bool(m->node->flag);
    if (JJ_EQ(name, "catch_kwargs")) return jj_bool(m->node->flag_kw);
    if (JJ_EQ(name, "caller")) return jj_bool(m->node->flag_caller);
    if (!JJ_EQ(name, "arguments")) return (jj_value){0};
    jj_value v = jj_list_new(c, m->node->list.n, JJ_IS_TUPLE);
    for (size_t i = 0; i < m->node->list.n; i++)
        jj_list_add(c, v.as.l, (jj_value){.type = JJ_STR, .as.s = m->node->list.items[i]->name});
    return v;
}

/* What Python's getattr would find; ABSENT if nothing. */
static jj_value attribute(jj *c, jj_value v, jj_str *name) {
    jj_value none = {0};
    if (name->n > 4 && name->p[0] == '_' && name->p[1] == '_' && name->p[name->n - 1] == '_') {
        static const char *const common[] = {"__class__",  "__init__",         "__dict__",         "__doc__",
                                             "__eq__",     "__hash__",         "__repr__",         "__str__",
                                             "__reduce__", "__getattribute__", "__subclasshook__", "__module__"};
        for (size_t i = 0; i < sizeof common / sizeof *common; i++)
            if (name->n == strlen(common[i]) && memcmp(name->p, common[i], name->n) == 0) return unsafe(c, v, name);
        return none;
    }
    if (v.type == JJ_LOOP) {
        jj_value r = loop_attribute(c, v.as.loop, name);
        if (r.type != JJ_ABSENT) return r;
    }
    if (v.type == JJ_MACRO) return macro_attribute(c, v.as.m, name);
    if (v.type == JJ_NS) {
        jj_value *found = jj_dict_get(c, v.as.d, (jj_value){.type = JJ_STR, .as.s = name});
        return found ? *found : none;
    }
    if (v.type == JJ_LIST && v.as.l->kind == JJ_IS_GROUP && v.as.l->n == 2) {
        if (JJ_EQ(name, "grouper")) return v.as.l->items[0];
        if (JJ_EQ(name, "list")) return v.as.l->items[1];
    }
    if (v.type == JJ_LIST && v.as.l->kind == JJ_IS_RANGE) {
        if (JJ_EQ(name, "start")) return jj_int(v.as.l->start);
        if (JJ_EQ(name, "stop")) return jj_int(v.as.l->stop);
        if (JJ_EQ(name, "step")) return jj_int(v.as.l->step);
    }
    if (v.type == JJ_CYCLER && JJ_EQ(name, "current")) return v.as.loop->items[v.as.loop->index];
    if (v.type == JJ_INT || v.type == JJ_BOOL) {
        if (JJ_EQ(name, "real") || JJ_EQ(name, "numerator")) return jj_int(jj_as_int(c, v, ""));
        if (JJ_EQ(name, "imag")) return jj_int(0);
        if (JJ_EQ(name, "denominator")) return jj_int(1);
    }
    if (is_mutator(v, name)) return unsafe(c, v, name);
    const jj_builtin *table = methods_of(v), *m = table ? jj_find(table, name) : NULL;
    return m ? bound(c, m, v) : none;
}

static bool whole_index(jj_value key, int64_t *i) {
    if (key.type == JJ_INT)
        *i = key.as.i;
    else if (key.type == JJ_BOOL)
        *i = key.as.b;
    else
        return false;
    return true;
}

/* What v[key] finds; ABSENT if nothing. */
static jj_value item(jj *c, jj_value v, jj_value key) {
    int64_t i;
    if (v.type == JJ_DICT) {
        if (key.type == JJ_DICT || (key.type == JJ_LIST && key.as.l->kind == JJ_IS_LIST)) return (jj_value){0};
        jj_value *found = jj_dict_get(c, v.as.d, key);
        return found ? *found : (jj_value){0};
    }
    if (!whole_index(key, &i)) return (jj_value){0};
    if (jj_is_seq(v)) {
        if (i < 0) i += (int64_t)v.as.l->n;
        return i >= 0 && i < (int64_t)v.as.l->n ? v.as.l->items[i] : (jj_value){0};
    }
    if (v.type == JJ_STR) {
        int64_t n = jj_str_chars(v.as.s);
        if (i < 0) i += n;
        return i >= 0 && i < n ? jj_str_slice(c, v.as.s, i, i + 1, 1) : (jj_value){0};
    }
    return (jj_value){0};
}

static jj_value missing(jj *c, jj_value v, jj_value key) {
    if (key.type == JJ_STR)
        return jj_undefined(c, "'%s' has no attribute '%.*s'", jj_object_name(c, v),
                            (int)(key.as.s->n < 80 ? key.as.s->n : 80), key.as.s->p);
    jj_buf b = {0};
    jj_repr(c, &b, key);
    return jj_undefined(c, "%s has no element %.*s", jj_object_name(c, v), (int)(b.n < 80 ? b.n : 80), b.p);
}

jj_value jj_getattr(jj *c, jj_value v, jj_value name) {
    jj_need_defined(c, v);
    jj_value r = attribute(c, v, name.as.s);
    if (r.type == JJ_ABSENT) r = item(c, v, name);
    return r.type == JJ_ABSENT ? missing(c, v, name) : r;
}

jj_value jj_getitem(jj *c, jj_value v, jj_value key) {
    jj_need_defined(c, v);
    jj_value r = item(c, v, key);
    if (r.type == JJ_ABSENT && key.type == JJ_STR) r = attribute(c, v, key.as.s);
    return r.type == JJ_ABSENT ? missing(c, v, key) : r;
}

jj_value jj_get_path(jj *c, jj_value v, jj_value path) {
    if (path.type != JJ_STR) return jj_getitem(c, v, path);
    const char *p = path.as.s->p, *end = p + path.as.s->n;
    for (;;) {
        const char *dot = memchr(p, '.', (size_t)(end - p));
        const char *stop = dot ? dot : end;
        bool number = stop > p && stop - p < 18;
        int64_t index = 0;
        for (const char *q = p; number && q < stop; q++) {
            number = *q >= '0' && *q <= '9';
            index = index * 10 + (*q - '0');
        }
        jj_tick(c, 1);
        v = jj_getitem(c, v, number ? jj_int(index) : jj_str_borrow(c, p, (size_t)(stop - p)));
        if (!dot) return v;
        p = dot + 1;
    }
}

static int64_t clip(jj *c, jj_value v, int64_t n, int64_t step, bool is_stop) {
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
    if (v.type == JJ_NONE) return (step > 0) == is_stop ? high : low;
    int64_t i = jj_as_int(c, v, "slice");
    if (i < 0) {
        i = i < -n ? -1 : i + n;
        return i < low ? low : i;
    }
    return i > high ? high : i;
}

jj_value jj_slice(jj *c, jj_value v, jj_value start, jj_value stop, jj_value step) {
    jj_need_defined(c, v);
    int64_t by = step.type == JJ_NONE ? 1 : jj_as_int(c, step, "slice");
    if (by == 0) jj_fail(c, LM_FORMAT, "slice step cannot be zero");
    if (v.type != JJ_STR && !jj_is_seq(v)) return jj_undefined(c, "%s has no element slice", jj_object_name(c, v));
    int64_t n = jj_length(c, v);
    if (by > n + 1) by = n + 1; /* same result, and i + by cannot overflow */
    if (by < -n - 1) by = -n - 1;
    int64_t from = clip(c, start, n, by, false), to = clip(c, stop, n, by, true);
    if (v.type == JJ_STR) return jj_str_slice(c, v.as.s, from, to, by);
    jj_value r = jj_list_new(c, 0, v.as.l->kind == JJ_IS_LIST ? JJ_IS_LIST : JJ_IS_TUPLE);
    for (int64_t i = from; by > 0 ? i < to : i > to; i += by) jj_list_add(c, r.as.l, v.as.l->items[i]);
    return r;
}
