/* SPDX-License-Identifier: MIT
 *
 * jinja_expr.c: the value of an expression. */
#include "text/jinja_impl.h"

static jj_value lookup(jj *c, const jj_scope *s, const jj_str *name) {
    for (; s; s = s->parent)
        for (size_t i = 0; i < s->n; i++)
            if (s->vars[i].name == name) return s->vars[i].value;
    return jj_undefined(c, "'%.*s' is undefined", (int)(name->n < 100 ? name->n : 100), name->p);
}

void jj_eval_args(jj *c, jj_scope *s, const jj_node *n, jj_args *args) {
    jj_value *items = NULL, star2 = {0};
    size_t extra = 0, extra_keywords = 0;
    jj_value *fixed = jj_alloc(c, (n->list.n + 1) * sizeof *fixed);
    for (size_t i = 0; i < n->list.n; i++) fixed[i] = jj_eval(c, s, n->list.items[i]);
    if (n->star) jj_items(c, jj_eval(c, s, n->star), &items, &extra);
    args->n = n->list.n + extra;
    args->items = fixed;
    if (extra) {
        args->items = jj_alloc(c, args->n * sizeof *args->items);
        memcpy(args->items, fixed, n->list.n * sizeof *fixed);
        memcpy(args->items + n->list.n, items, extra * sizeof *items);
    }
    args->n_keywords = 0;
    if (!n->list2.n && !n->star2) return;
    jj_value *values = jj_alloc(c, (n->list2.n + 1) * sizeof *values);
    for (size_t i = 0; i < n->list2.n; i++) values[i] = jj_eval(c, s, n->list2.items[i]);
    if (n->star2) {
        star2 = jj_eval(c, s, n->star2);
        if (star2.type != JJ_DICT)
            jj_fail(c, LM_FORMAT, "argument after ** must be a mapping, not %s", jj_type_name(star2));
        extra_keywords = star2.as.d->n;
    }
    args->keywords = jj_alloc(c, (n->list2.n + extra_keywords) * sizeof *args->keywords);
    for (size_t i = 0; i < n->list2.n; i++) args->keywords[args->n_keywords++] = (jj_keyword){n->names[i], values[i]};
    for (size_t i = 0; i < extra_keywords; i++) {
        const jj_str *name = jj_as_str(c, star2.as.d->entries[i].key, "a keyword's name");
        args->keywords[args->n_keywords++] = (jj_keyword){jj_intern(c, name->p, name->n), star2.as.d->entries[i].value};
    }
}

static jj_value compare(jj *c, jj_scope *s, const jj_node *n) {
    jj_value left = jj_eval(c, s, n->a);
    for (size_t i = 0; i < n->list.n; i++) {
        const jj_node *one = n->list.items[i];
        jj_value right = jj_eval(c, s, one->a);
        bool yes;
        switch (one->op) {
        case JJ_OP2('=', '='): yes = jj_equal(c, left, right); break;
        case JJ_OP2('!', '='): yes = !jj_equal(c, left, right); break;
        case 'i': yes = jj_contains(c, left, right); break;
        case 'n': yes = !jj_contains(c, left, right); break;
        default: {
            char op[3] = {(char)(one->op & 255), (char)(one->op >> 8), 0};
            bool nan = (left.type == JJ_FLOAT && left.as.f != left.as.f) ||
                       (right.type == JJ_FLOAT && right.as.f != right.as.f);
            int k = jj_compare(c, left, right, op);
            yes = one->op == '<' ? k < 0 : one->op == '>' ? k > 0 : op[0] == '<' ? k <= 0 : k >= 0;
            if (nan) yes = false;
        }
        }
        if (!yes) return jj_bool(false);
        left = right;
    }
    return jj_bool(true);
}

static jj_value negative(jj *c, jj_value v) {
    if (v.type == JJ_FLOAT) return jj_float(-v.as.f);
    if (!jj_is_number(v)) {
        jj_need_defined(c, v);
        jj_fail(c, LM_FORMAT, "bad operand type for unary -: '%s'", jj_type_name(v));
    }
    return jj_binary(c, '-', jj_int(0), v);
}

static jj_value positive(jj *c, jj_value v) {
    if (v.type == JJ_BOOL) return jj_int(v.as.b);
    if (jj_is_number(v)) return v;
    jj_need_defined(c, v);
    jj_fail(c, LM_FORMAT, "bad operand type for unary +: '%s'", jj_type_name(v));
}

static jj_value display(jj *c, jj_scope *s, const jj_node *n) {
    jj_value v;
    if (n->kind == JJ_N_DICT) {
        v = jj_dict_new(c);
        for (size_t i = 0; i < n->list.n; i++) {
            jj_value key = jj_eval(c, s, n->list.items[i]);
            jj_dict_set(c, v.as.d, key, jj_eval(c, s, n->list2.items[i]));
        }
        return v;
    }
    v = jj_list_new(c, n->list.n, n->kind == JJ_N_LIST ? JJ_IS_LIST : JJ_IS_TUPLE);
    for (size_t i = 0; i < n->list.n; i++) jj_list_add(c, v.as.l, jj_eval(c, s, n->list.items[i]));
    return v;
}

static jj_value item_or_slice(jj *c, jj_scope *s, const jj_node *n) {
    jj_value of = jj_eval(c, s, n->a);
    const jj_node *key = n->b;
    if (key->kind != JJ_N_SLICE) return jj_getitem(c, of, jj_eval(c, s, key));
    jj_value start = key->a ? jj_eval(c, s, key->a) : jj_none();
    jj_value stop = key->b ? jj_eval(c, s, key->b) : jj_none();
    jj_value step = key->c ? jj_eval(c, s, key->c) : jj_none();
    return jj_slice(c, of, start, stop, step);
}

static jj_value concat(jj *c, jj_scope *s, const jj_node *n) {
    jj_value *parts = jj_alloc(c, n->list.n * sizeof *parts);
    for (size_t i = 0; i < n->list.n; i++) {
        parts[i] = jj_to_str(c, jj_eval(c, s, n->list.items[i]));
        parts[i].safe = false;
    }
    jj_value v = parts[0];
    for (size_t i = 1; i < n->list.n; i++) v = jj_binary(c, '+', v, parts[i]);
    return v;
}

static jj_value call(jj *c, jj_scope *s, const jj_node *n) {
    jj_args args = {0};
    jj_value f = jj_eval(c, s, n->a);
    jj_eval_args(c, s, n, &args);
    c->line = n->line;
    return jj_invoke(c, f, &args);
}

static jj_value filter(jj *c, jj_scope *s, const jj_node *n) {
    jj_args args = {0};
    jj_value v = jj_eval(c, s, n->a);
    jj_eval_args(c, s, n, &args);
    c->line = n->line;
    return jj_filter_apply(c, n->name, v, &args);
}

static jj_value test(jj *c, jj_scope *s, const jj_node *n) {
    jj_args args = {0};
    jj_value v = jj_eval(c, s, n->a);
    jj_eval_args(c, s, n, &args);
    return jj_bool(jj_test_apply(c, n->name, v, &args) != n->flag);
}

static jj_value eval_kind(jj *c, jj_scope *s, const jj_node *n) {
    jj_value v;
    switch (n->kind) {
    case JJ_N_CONST: return n->value;
    case JJ_N_NAME: return lookup(c, s, n->name);
    case JJ_N_NSREF: return jj_getattr(c, lookup(c, s, n->name), n->value);
    case JJ_N_TUPLE:
    case JJ_N_LIST:
    case JJ_N_DICT: return display(c, s, n);
    case JJ_N_GETATTR: return jj_getattr(c, jj_eval(c, s, n->a), n->value);
    case JJ_N_GETITEM: return item_or_slice(c, s, n);
    case JJ_N_CALL: return call(c, s, n);
    case JJ_N_FILTER: return filter(c, s, n);
    case JJ_N_TEST: return test(c, s, n);
    case JJ_N_NEG: return negative(c, jj_eval(c, s, n->a));
    case JJ_N_POS: return positive(c, jj_eval(c, s, n->a));
    case JJ_N_NOT: return jj_bool(!jj_truth(jj_eval(c, s, n->a)));
    case JJ_N_AND: v = jj_eval(c, s, n->a); return jj_truth(v) ? jj_eval(c, s, n->b) : v;
    case JJ_N_OR: v = jj_eval(c, s, n->a); return jj_truth(v) ? v : jj_eval(c, s, n->b);
    case JJ_N_BINARY: v = jj_eval(c, s, n->a); return jj_binary(c, n->op, v, jj_eval(c, s, n->b));
    case JJ_N_CONCAT: return concat(c, s, n);
    case JJ_N_COMPARE: return compare(c, s, n);
    case JJ_N_COND:
        if (jj_truth(jj_eval(c, s, n->b))) return jj_eval(c, s, n->a);
        if (n->c) return jj_eval(c, s, n->c);
        return jj_undefined(
            c, "the inline if-expression on line %d evaluated to false and no else section was defined.", n->line);
    default: jj_fail(c, LM_FORMAT, "a slice is only allowed inside [ ]");
    }
}

jj_value jj_eval(jj *c, jj_scope *s, const jj_node *n) {
    jj_enter(c);
    c->line = n->line;
    jj_value v = eval_kind(c, s, n);
    jj_leave(c);
    return v;
}
