/* SPDX-License-Identifier: MIT
 *
 * jinja_parse.c: statements. What a node's fields hold is said at the function that makes it. Templates that need other
 * files (extends, include, import) are refused: a chat template is one file. */
#include "text/jinja_impl.h"

static jj_nodes statements(jj_parser *p, const char *const *ends);
static jj_node *statement(jj_parser *p);

static void end_tag(jj_parser *p) {
    if (p->t->kind != JJ_T_BLOCK_END) jj_parse_fail(p, "'%}'");
    p->t++;
}

static jj_nodes body_until(jj_parser *p, const char *end) { /* the end's name is read, its '%}' not */
    const char *const ends[] = {end, NULL};
    if (jj_skip_op(p, ':')) { /* "{% if x: %}" is allowed */
    }
    end_tag(p);
    jj_nodes body = statements(p, ends);
    p->t++;
    return body;
}

static void check_target(jj_parser *p, const jj_node *n) {
    if (n->kind == JJ_N_NAME || n->kind == JJ_N_NSREF) return;
    if (n->kind != JJ_N_TUPLE) jj_parse_fail(p, "a name to assign to before this");
    for (size_t i = 0; i < n->list.n; i++) check_target(p, n->list.items[i]);
}

static jj_node *target(jj_parser *p, const char *end_name, bool ns) {
    jj_node *n = jj_parse_tuple(p, true, false, end_name, ns);
    check_target(p, n);
    return n;
}

static void refuse_loop(jj_parser *p, const jj_node *n) { /* the name belongs to the for itself */
    if (n->kind == JJ_N_NAME && JJ_EQ(n->name, "loop")) jj_parse_fail(p, "a target other than 'loop'");
    for (size_t i = 0; i < n->list.n; i++) refuse_loop(p, n->list.items[i]);
}

/* a: target, b: iterable, c: filter or NULL, body, other: else; flag: recursive */
static jj_node *parse_for(jj_parser *p) {
    static const char *const ends[] = {"endfor", "else", NULL};
    jj_node *n = jj_node_new(p, JJ_N_FOR);
    p->t++;
    n->a = target(p, "in", false);
    refuse_loop(p, n->a);
    if (!jj_skip_name(p, "in")) jj_parse_fail(p, "'in'");
    n->b = jj_parse_tuple(p, false, true, "recursive", false);
    if (jj_skip_name(p, "if")) n->c = jj_parse_expr(p);
    n->flag = jj_skip_name(p, "recursive");
    jj_skip_op(p, ':');
    end_tag(p);
    n->body = statements(p, ends);
    if (jj_skip_name(p, "else"))
        n->other = body_until(p, "endfor");
    else
        p->t++;
    return n;
}

/* list: conditions; list2: their bodies, each a SCOPE-less node with a body; other: else */
static jj_node *parse_if(jj_parser *p) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    jj_node *n = jj_node_new(p, JJ_N_IF);
    do {
        p->t++;
        jj_nodes_add(p->c, &n->list, jj_parse_tuple(p, false, true, NULL, false));
        jj_skip_op(p, ':');
        end_tag(p);
        jj_node *branch = jj_node_new(p, JJ_N_SCOPE);
        branch->body = statements(p, ends);
        jj_nodes_add(p->c, &n->list2, branch);
    } while (jj_is_name(p, "elif"));
    if (jj_skip_name(p, "else"))
        n->other = body_until(p, "endif");
    else
        p->t++;
    return n;
}

/* set: a: target, b: value. set block: a: target, b: filters or NULL (innermost operand NULL), body */
static jj_node *parse_set(jj_parser *p) {
    jj_node *n = jj_node_new(p, JJ_N_SET);
    p->t++;
    n->a = target(p, NULL, true);
    if (jj_skip_op(p, '=')) {
        n->b = jj_parse_tuple(p, false, false, NULL, false);
        return n;
    }
    n->kind = JJ_N_SET_BLOCK;
    n->b = jj_parse_filters(p, NULL, false);
    n->body = body_until(p, "endset");
    return n;
}

/* list: parameter names; list2: defaults of the last ones */
static void signature(jj_parser *p, jj_node *n) {
    jj_expect_op(p, '(');
    while (!jj_is_op(p, ')')) {
        if (n->list.n) jj_expect_op(p, ',');
        jj_node *arg = jj_node_new(p, JJ_N_NAME);
        arg->name = jj_expect_name(p);
        jj_nodes_add(p->c, &n->list, arg);
        if (jj_skip_op(p, '='))
            jj_nodes_add(p->c, &n->list2, jj_parse_expr(p));
        else if (n->list2.n)
            jj_parse_fail(p, "a default (an argument before this one has one)");
    }
    jj_expect_op(p, ')');
}

static void macro_body(jj_parser *p, jj_node *n, const char *end) {
    if (p->n_macros == (int)(sizeof p->macros / sizeof *p->macros))
        jj_fail(p->c, LM_BUDGET, "macros are nested too deeply");
    p->macros[p->n_macros++] = n;
    n->body = body_until(p, end);
    p->n_macros--;
}

/* name, signature, body; flag, flag_kw, flag_caller: takes varargs, kwargs, caller */
static jj_node *parse_macro(jj_parser *p) {
    jj_node *n = jj_node_new(p, JJ_N_MACRO);
    p->t++;
    n->name = jj_expect_name(p);
    signature(p, n);
    macro_body(p, n, "endmacro");
    return n;
}

/* as a macro named `caller`; a: the call that gets it */
static jj_node *parse_call_block(jj_parser *p) {
    jj_node *n = jj_node_new(p, JJ_N_CALL_BLOCK);
    p->t++;
    n->name = jj_intern(p->c, "caller", 6);
    if (jj_is_op(p, '(')) signature(p, n);
    n->a = jj_parse_expr(p);
    if (n->a->kind != JJ_N_CALL) jj_parse_fail(p, "a call before this");
    macro_body(p, n, "endcall");
    return n;
}

static jj_node *parse_filter_block(jj_parser *p) { /* b: filters, body */
    jj_node *n = jj_node_new(p, JJ_N_FILTER_BLOCK);
    p->t++;
    n->b = jj_parse_filters(p, NULL, true);
    n->body = body_until(p, "endfilter");
    return n;
}

static jj_node *parse_with(jj_parser *p) { /* list: targets, list2: values, body */
    jj_node *n = jj_node_new(p, JJ_N_WITH);
    p->t++;
    while (p->t->kind != JJ_T_BLOCK_END) {
        if (n->list.n) jj_expect_op(p, ',');
        jj_node *name = jj_node_new(p, JJ_N_NAME);
        name->name = jj_expect_name(p);
        jj_nodes_add(p->c, &n->list, name);
        jj_expect_op(p, '=');
        jj_nodes_add(p->c, &n->list2, jj_parse_expr(p));
    }
    n->body = body_until(p, "endwith");
    return n;
}

/* block, generation, autoescape: a scope of their own. Autoescape itself stays off. */
static jj_node *parse_scope(jj_parser *p) {
    jj_node *n = jj_node_new(p, JJ_N_SCOPE);
    if (jj_skip_name(p, "block")) {
        jj_str *name = jj_expect_name(p);
        while (jj_skip_name(p, "scoped") || jj_skip_name(p, "required")) continue;
        n->body = body_until(p, "endblock");
        if (p->t->kind == JJ_T_NAME && p->t->text.n == name->n && memcmp(p->t->text.p, name->p, name->n) == 0) p->t++;
    } else if (jj_skip_name(p, "generation")) {
        n->body = body_until(p, "endgeneration");
    } else {
        p->t++;
        jj_parse_expr(p);
        n->body = body_until(p, "endautoescape");
    }
    return n;
}

static jj_node *statement(jj_parser *p) {
    static const char *const refused[] = {"extends", "include", "import", "from", NULL};
    if (p->t->kind != JJ_T_NAME) jj_parse_fail(p, "a tag name");
    if (jj_is_name(p, "for")) return parse_for(p);
    if (jj_is_name(p, "if")) return parse_if(p);
    if (jj_is_name(p, "set")) return parse_set(p);
    if (jj_is_name(p, "macro")) return parse_macro(p);
    if (jj_is_name(p, "call")) return parse_call_block(p);
    if (jj_is_name(p, "filter")) return parse_filter_block(p);
    if (jj_is_name(p, "with")) return parse_with(p);
    if (jj_is_name(p, "block") || jj_is_name(p, "generation") || jj_is_name(p, "autoescape")) return parse_scope(p);
    if (jj_is_name(p, "break") || jj_is_name(p, "continue")) {
        jj_node *n = jj_node_new(p, jj_is_name(p, "break") ? JJ_N_BREAK : JJ_N_CONTINUE);
        p->t++;
        return n;
    }
    if (jj_is_name(p, "print")) { /* list: expressions */
        jj_node *n = jj_node_new(p, JJ_N_PRINT);
        p->t++;
        do jj_nodes_add(p->c, &n->list, jj_parse_expr(p));
        while (jj_skip_op(p, ','));
        return n;
    }
    for (size_t i = 0; refused[i]; i++)
        if (jj_is_name(p, refused[i])) {
            p->c->line = p->t->line;
            jj_fail(p->c, LM_UNSUPPORTED, "'%s' needs other templates; a chat template stands alone", refused[i]);
        }
    jj_parse_fail(p, "a known tag");
}

static bool is_end(const jj_parser *p, const char *const *ends) {
    for (size_t i = 0; ends && ends[i]; i++)
        if (jj_is_name(p, ends[i])) return true;
    return false;
}

/* Up to one of `ends`, whose name becomes the current token; NULL: the whole template. */
static jj_nodes statements(jj_parser *p, const char *const *ends) {
    jj_nodes body = {0};
    jj_parse_enter(p);
    for (;;) {
        jj_node *n;
        if (p->t->kind == JJ_T_DATA) { /* value: the text */
            n = jj_node_new(p, JJ_N_DATA);
            n->value = jj_str_borrow(p->c, p->t->text.p, p->t->text.n);
            p->t++;
        } else if (p->t->kind == JJ_T_PRINT) {
            n = jj_node_new(p, JJ_N_PRINT);
            p->t++;
            jj_nodes_add(p->c, &n->list, jj_parse_tuple(p, false, false, NULL, false));
            if (p->t->kind != JJ_T_PRINT_END) jj_parse_fail(p, "'}}'");
            p->t++;
        } else if (p->t->kind == JJ_T_BLOCK) {
            p->t++;
            if (is_end(p, ends)) break;
            n = statement(p);
            end_tag(p);
        } else {
            if (ends) jj_parse_fail(p, ends[1] && ends[2] ? ends[2] : ends[0]);
            break;
        }
        jj_nodes_add(p->c, &body, n);
    }
    p->depth--;
    return body;
}

jj_nodes jj_parse(jj *c) {
    jj_parser p = {.c = c, .t = c->tokens};
    return statements(&p, NULL);
}
