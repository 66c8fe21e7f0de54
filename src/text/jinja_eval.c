/* SPDX-License-Identifier: MIT
 *
 * jinja_eval.c: statements and scopes. A for body, macro, with, block and captured body has a scope of its own, if has
 * none; a set reaches only the innermost scope (namespaces are the way out). */
#include "text/jinja_impl.h"

jj_scope *jj_scope_new(jj *c, jj_scope *parent) {
    jj_scope *s = jj_alloc(c, sizeof *s);
    s->parent = parent;
    return s;
}

void jj_set(jj *c, jj_scope *s, const jj_str *name, jj_value v) {
    for (size_t i = 0; i < s->n; i++)
        if (s->vars[i].name == name) {
            s->vars[i].value = v;
            return;
        }
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 4;
        jj_var *vars = jj_alloc(c, cap * sizeof *vars);
        if (s->n) memcpy(vars, s->vars, s->n * sizeof *vars);
        s->vars = vars;
        s->cap = cap;
    }
    s->vars[s->n++] = (jj_var){name, v};
}

void jj_assign(jj *c, jj_scope *s, const jj_node *target, jj_value v) {
    if (target->kind == JJ_N_NAME) {
        jj_set(c, s, target->name, v);
    } else if (target->kind == JJ_N_NSREF) {
        jj_node name = {.kind = JJ_N_NAME, .line = target->line, .name = target->name};
        jj_value ns = jj_eval(c, s, &name);
        if (ns.type != JJ_NS) jj_fail(c, LM_FORMAT, "cannot assign attribute on non-namespace object");
        if (target->value.as.s->n && target->value.as.s->p[0] == '_')
            jj_fail(c, LM_FORMAT, "a namespace cannot hold an attribute that starts with an underscore");
        jj_dict_set(c, ns.as.d, target->value, v);
    } else { /* tuple */
        jj_value *items;
        size_t n;
        jj_items(c, v, &items, &n);
        if (n < target->list.n)
            jj_fail(c, LM_FORMAT, "not enough values to unpack (expected %zu, got %zu)", target->list.n, n);
        if (n > target->list.n) jj_fail(c, LM_FORMAT, "too many values to unpack (expected %zu)", target->list.n);
        jj_enter(c);
        for (size_t i = 0; i < n; i++) jj_assign(c, s, target->list.items[i], items[i]);
        jj_leave(c);
    }
}

jj_value jj_capture(jj *c, jj_scope *s, const jj_nodes *body) {
    jj_buf text = {0}, *out = c->out;
    c->out = &text;
    jj_run(c, s, body);
    c->out = out;
    return jj_buf_value(c, &text);
}

/* The filters of a set or filter block: the innermost operand is the block's text. */
static jj_value apply_filters(jj *c, jj_scope *s, const jj_node *n, jj_value text) {
    if (!n) return text;
    jj_args args = {0};
    jj_enter(c);
    jj_value v = apply_filters(c, s, n->a, text);
    jj_eval_args(c, s, n, &args);
    jj_leave(c);
    return jj_filter_apply(c, n->name, v, &args);
}

/* ---------------------------------------------------------------- for */

/* Items that pass the loop's `if`. */
static void select_items(jj *c, jj_scope *s, const jj_node *n, jj_value **items, size_t *count) {
    jj_value kept = jj_list_new(c, *count, JJ_IS_LIST);
    jj_scope *inner = jj_scope_new(c, s);
    for (size_t i = 0; i < *count; i++) {
        jj_assign(c, inner, n->a, (*items)[i]);
        if (jj_truth(jj_eval(c, inner, n->c))) jj_list_add(c, kept.as.l, (*items)[i]);
    }
    *items = kept.as.l->items;
    *count = kept.as.l->n;
}

static void run_for(jj *c, jj_scope *s, const jj_node *n, jj_value of, int depth0) {
    jj_value *items;
    size_t count;
    jj_items(c, of, &items, &count);
    if (n->c) select_items(c, s, n, &items, &count);
    jj_loop *loop = jj_alloc(c, sizeof *loop);
    *loop = (jj_loop){.items = items, .n = count, .depth0 = depth0, .node = n->flag ? n : NULL, .scope = s};
    const jj_str *loop_name = jj_intern(c, "loop", 4);
    for (size_t i = 0; i < count; i++) {
        jj_scope *inner = jj_scope_new(c, s);
        loop->index = i;
        jj_tick(c, 1);
        jj_set(c, inner, loop_name, (jj_value){.type = JJ_LOOP, .as.loop = loop});
        jj_assign(c, inner, n->a, items[i]);
        if (jj_run(c, inner, &n->body) == JJ_BREAK) break;
    }
    if (count == 0) jj_run(c, jj_scope_new(c, s), &n->other);
}

jj_value jj_call_loop(jj *c, jj_loop *loop, jj_value items) {
    jj_buf text = {0}, *out = c->out;
    jj_enter(c);
    c->out = &text;
    run_for(c, loop->scope, loop->node, items, loop->depth0 + 1);
    c->out = out;
    jj_leave(c);
    return jj_buf_value(c, &text);
}

/* ---------------------------------------------------------------- the others */

static void run_call_block(jj *c, jj_scope *s, const jj_node *n) {
    jj_macro *m = jj_alloc(c, sizeof *m);
    *m = (jj_macro){n, s, n->name};
    jj_args args = {0};
    jj_value f = jj_eval(c, s, n->a->a);
    jj_eval_args(c, s, n->a, &args);
    jj_keyword *keywords = jj_alloc(c, (args.n_keywords + 1) * sizeof *keywords);
    if (args.n_keywords) memcpy(keywords, args.keywords, args.n_keywords * sizeof *keywords);
    keywords[args.n_keywords++] = (jj_keyword){n->name, {.type = JJ_MACRO, .as.m = m}};
    args.keywords = keywords;
    jj_print(c, c->out, jj_invoke(c, f, &args));
}

static void run_with(jj *c, jj_scope *s, const jj_node *n) {
    jj_scope *inner = jj_scope_new(c, s);
    for (size_t i = 0; i < n->list.n; i++) /* values see the outside only */
        jj_set(c, inner, n->list.items[i]->name, jj_eval(c, s, n->list2.items[i]));
    jj_run(c, inner, &n->body);
}

static jj_flow run_if(jj *c, jj_scope *s, const jj_node *n) {
    for (size_t i = 0; i < n->list.n; i++)
        if (jj_truth(jj_eval(c, s, n->list.items[i]))) return jj_run(c, s, &n->list2.items[i]->body);
    return jj_run(c, s, &n->other);
}

static jj_flow run_one(jj *c, jj_scope *s, const jj_node *n) {
    jj_value v;
    switch (n->kind) {
    case JJ_N_DATA: jj_print(c, c->out, n->value); break;
    case JJ_N_PRINT:
        for (size_t i = 0; i < n->list.n; i++) jj_print(c, c->out, jj_eval(c, s, n->list.items[i]));
        break;
    case JJ_N_IF: return run_if(c, s, n);
    case JJ_N_FOR: run_for(c, s, n, jj_eval(c, s, n->b), 0); break;
    case JJ_N_SET: jj_assign(c, s, n->a, jj_eval(c, s, n->b)); break;
    case JJ_N_SET_BLOCK:
        v = jj_capture(c, jj_scope_new(c, s), &n->body);
        jj_assign(c, s, n->a, apply_filters(c, s, n->b, v));
        break;
    case JJ_N_MACRO: {
        jj_macro *m = jj_alloc(c, sizeof *m);
        *m = (jj_macro){n, s, n->name};
        jj_set(c, s, n->name, (jj_value){.type = JJ_MACRO, .as.m = m});
        break;
    }
    case JJ_N_CALL_BLOCK: run_call_block(c, s, n); break;
    case JJ_N_FILTER_BLOCK:
        v = jj_capture(c, jj_scope_new(c, s), &n->body);
        jj_print(c, c->out, apply_filters(c, s, n->b, v));
        break;
    case JJ_N_WITH: run_with(c, s, n); break;
    case JJ_N_SCOPE: jj_run(c, jj_scope_new(c, s), &n->body); break;
    case JJ_N_BREAK: return JJ_BREAK;
    case JJ_N_CONTINUE: return JJ_CONTINUE;
    default: jj_fail(c, LM_FORMAT, "an expression stands where a statement must");
    }
    return JJ_GO_ON;
}

jj_flow jj_run(jj *c, jj_scope *s, const jj_nodes *body) {
    jj_flow flow = JJ_GO_ON;
    jj_enter(c);
    for (size_t i = 0; flow == JJ_GO_ON && i < body->n; i++) {
        c->line = body->items[i]->line;
        jj_tick(c, 1);
        flow = run_one(c, s, body->items[i]);
    }
    jj_leave(c);
    return flow;
}
