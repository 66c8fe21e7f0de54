/* SPDX-License-Identifier: MIT
 *
 * jinja_parse_expr.c: expressions, by recursive descent in jinja2's order of precedence: if-else, or, and, not,
 * comparison, + -, ~, * / // %, **, sign, postfix, filter and test. */
#include "text/jinja_impl.h"
#include <stdio.h>

void jj_parse_enter(jj_parser *p) {
    if (++p->depth > p->c->limits.parse_depth) {
        p->c->line = p->t->line;
        jj_fail(p->c, LM_BUDGET, "the template is nested deeper than %d levels", p->c->limits.parse_depth);
    }
}

static void describe(const jj_token *t, char *text, size_t size) {
    switch (t->kind) {
    case JJ_T_END: snprintf(text, size, "end of template"); break;
    case JJ_T_DATA: snprintf(text, size, "template text"); break;
    case JJ_T_PRINT: snprintf(text, size, "'{{'"); break;
    case JJ_T_PRINT_END: snprintf(text, size, "'}}'"); break;
    case JJ_T_BLOCK: snprintf(text, size, "'{%%'"); break;
    case JJ_T_BLOCK_END: snprintf(text, size, "'%%}'"); break;
    case JJ_T_STRING: snprintf(text, size, "a string"); break;
    case JJ_T_INT:
    case JJ_T_FLOAT: snprintf(text, size, "a number"); break;
    case JJ_T_NAME: snprintf(text, size, "'%.*s'", (int)(t->text.n < 60 ? t->text.n : 60), t->text.p); break;
    case JJ_T_OP: snprintf(text, size, t->op >> 8 ? "'%c%c'" : "'%c'", t->op & 255, t->op >> 8); break;
    }
}

void jj_parse_fail(jj_parser *p, const char *expected) {
    char found[80];
    describe(p->t, found, sizeof found);
    p->c->line = p->t->line;
    jj_fail(p->c, LM_FORMAT, "expected %s, found %s", expected, found);
}

jj_node *jj_node_new(jj_parser *p, jj_node_kind kind) {
    jj_node *n = jj_alloc(p->c, sizeof *n);
    n->kind = kind;
    n->line = p->t->line;
    return n;
}

void jj_nodes_add(jj *c, jj_nodes *l, jj_node *node) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        jj_node **items = jj_alloc(c, cap * sizeof *items);
        if (l->n) memcpy(items, l->items, l->n * sizeof *items);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = node;
}

bool jj_is_op(const jj_parser *p, int op) {
    return p->t->kind == JJ_T_OP && p->t->op == op;
}
bool jj_is_name(const jj_parser *p, const char *name) {
    return p->t->kind == JJ_T_NAME && p->t->text.n == strlen(name) && memcmp(p->t->text.p, name, p->t->text.n) == 0;
}
bool jj_skip_op(jj_parser *p, int op) {
    if (!jj_is_op(p, op)) return false;
    p->t++;
    return true;
}
bool jj_skip_name(jj_parser *p, const char *name) {
    if (!jj_is_name(p, name)) return false;
    p->t++;
    return true;
}
void jj_expect_op(jj_parser *p, int op) {
    char text[8];
    snprintf(text, sizeof text, op >> 8 ? "'%c%c'" : "'%c'", op & 255, op >> 8);
    if (!jj_skip_op(p, op)) jj_parse_fail(p, text);
}
jj_str *jj_expect_name(jj_parser *p) {
    if (p->t->kind != JJ_T_NAME) jj_parse_fail(p, "a name");
    jj_str *s = jj_intern(p->c, p->t->text.p, p->t->text.n);
    p->t++;
    return s;
}

/* a: left, b: right */
static jj_node *two(jj_parser *p, jj_node_kind kind, int op, jj_node *a, jj_node *b) {
    jj_node *n = jj_node_new(p, kind);
    n->line = a->line;
    n->op = op;
    n->a = a;
    n->b = b;
    return n;
}

static jj_node *constant(jj_parser *p, jj_value v) {
    jj_node *n = jj_node_new(p, JJ_N_CONST);
    n->value = v;
    return n;
}

/* a macro that speaks of varargs, kwargs or caller takes them */
static void note_special_name(jj_parser *p, const jj_str *name) {
    for (int i = 0; i < p->n_macros; i++) {
        if (JJ_EQ(name, "varargs")) p->macros[i]->flag = true;
        if (JJ_EQ(name, "kwargs")) p->macros[i]->flag_kw = true;
        if (JJ_EQ(name, "caller")) p->macros[i]->flag_caller = true;
    }
}

static jj_node *name_or_constant(jj_parser *p, bool ns) {
    const jj_str *s = &p->t->text;
    jj_value v = {0};
    if (JJ_EQ(s, "true") || JJ_EQ(s, "True"))
        v = jj_bool(true);
    else if (JJ_EQ(s, "false") || JJ_EQ(s, "False"))
        v = jj_bool(false);
    else if (JJ_EQ(s, "none") || JJ_EQ(s, "None"))
        v = jj_none();
    if (v.type != JJ_ABSENT) {
        p->t++;
        return constant(p, v);
    }
    jj_node *n = jj_node_new(p, JJ_N_NAME);
    n->name = jj_expect_name(p);
    note_special_name(p, n->name);
    if (ns && jj_is_op(p, '.')) { /* value: the attribute's name */
        p->t++;
        n->kind = JJ_N_NSREF;
        n->value = (jj_value){.type = JJ_STR, .as.s = jj_expect_name(p)};
    }
    return n;
}

static jj_node *list_display(jj_parser *p) {
    jj_node *n = jj_node_new(p, JJ_N_LIST);
    jj_expect_op(p, '[');
    while (!jj_is_op(p, ']')) {
        if (n->list.n) jj_expect_op(p, ',');
        if (jj_is_op(p, ']')) break;
        jj_nodes_add(p->c, &n->list, jj_parse_expr(p));
    }
    jj_expect_op(p, ']');
    return n;
}

static jj_node *dict_display(jj_parser *p) { /* list: keys; list2: values */
    jj_node *n = jj_node_new(p, JJ_N_DICT);
    jj_expect_op(p, '{');
    while (!jj_is_op(p, '}')) {
        if (n->list.n) jj_expect_op(p, ',');
        if (jj_is_op(p, '}')) break;
        jj_nodes_add(p->c, &n->list, jj_parse_expr(p));
        jj_expect_op(p, ':');
        jj_nodes_add(p->c, &n->list2, jj_parse_expr(p));
    }
    jj_expect_op(p, '}');
    return n;
}

static jj_node *primary(jj_parser *p, bool ns) {
    jj_token *t = p->t;
    jj_node *n;
    switch (t->kind) {
    case JJ_T_NAME: return name_or_constant(p, ns);
    case JJ_T_STRING: {
        jj_buf b = {0};
        n = jj_node_new(p, JJ_N_CONST);
        if (t[1].kind != JJ_T_STRING) {
            n->value = jj_str_borrow(p->c, t->text.p, t->text.n);
            p->t++;
            return n;
        }
        for (; p->t->kind == JJ_T_STRING; p->t++) jj_buf_add(p->c, &b, p->t->text.p, p->t->text.n);
        n->value = jj_buf_value(p->c, &b);
        return n;
    }
    case JJ_T_INT: p->t++; return constant(p, jj_int(t->integer));
    case JJ_T_FLOAT: p->t++; return constant(p, jj_float(t->number));
    default: break;
    }
    if (jj_skip_op(p, '(')) {
        if (jj_is_op(p, ')'))
            n = jj_node_new(p, JJ_N_TUPLE);
        else
            n = jj_parse_tuple(p, false, false, NULL, false);
        jj_expect_op(p, ')');
        return n;
    }
    if (jj_is_op(p, '[')) return list_display(p);
    if (jj_is_op(p, '{')) return dict_display(p);
    jj_parse_fail(p, "an expression");
}

static void keyword(jj_parser *p, jj_node *n) {
    jj_str **names = jj_alloc(p->c, (n->list2.n + 1) * sizeof *names);
    if (n->list2.n) memcpy(names, n->names, n->list2.n * sizeof *names);
    names[n->list2.n] = jj_expect_name(p);
    n->names = names;
    jj_expect_op(p, '=');
    jj_nodes_add(p->c, &n->list2, jj_parse_expr(p));
}

/* list: positional; names, list2: keywords; star, star2: *x and **x */
static void call_args(jj_parser *p, jj_node *n) {
    jj_expect_op(p, '(');
    bool comma = false;
    while (!jj_is_op(p, ')')) {
        if (comma) {
            jj_expect_op(p, ',');
            if (jj_is_op(p, ')')) break;
        }
        comma = true;
        if (jj_is_op(p, '*') && !n->star && !n->star2) {
            p->t++;
            n->star = jj_parse_expr(p);
        } else if (jj_is_op(p, JJ_OP2('*', '*')) && !n->star2) {
            p->t++;
            n->star2 = jj_parse_expr(p);
        } else if (p->t->kind == JJ_T_NAME && p->t[1].kind == JJ_T_OP && p->t[1].op == '=' && !n->star2) {
            keyword(p, n);
        } else {
            if (n->star || n->star2 || n->list2.n) jj_parse_fail(p, "a keyword argument");
            jj_nodes_add(p->c, &n->list, jj_parse_expr(p));
        }
    }
    jj_expect_op(p, ')');
}

static jj_node *slice_or_index(jj_parser *p) { /* a, b, c: start, stop, step, NULL where not written */
    jj_node *first = jj_is_op(p, ':') ? NULL : jj_parse_expr(p);
    if (!jj_is_op(p, ':')) return first;
    jj_node *n = jj_node_new(p, JJ_N_SLICE);
    n->a = first;
    p->t++;
    if (!jj_is_op(p, ':') && !jj_is_op(p, ']') && !jj_is_op(p, ',')) n->b = jj_parse_expr(p);
    if (jj_skip_op(p, ':') && !jj_is_op(p, ']') && !jj_is_op(p, ',')) n->c = jj_parse_expr(p);
    return n;
}

static jj_node *subscript(jj_parser *p, jj_node *of) {
    if (jj_skip_op(p, '.')) {
        if (p->t->kind == JJ_T_INT) {
            jj_value i = jj_int(p->t->integer);
            p->t++;
            return two(p, JJ_N_GETITEM, 0, of, constant(p, i));
        }
        jj_node *n = two(p, JJ_N_GETATTR, 0, of, NULL);
        n->value = (jj_value){.type = JJ_STR, .as.s = jj_expect_name(p)};
        return n;
    }
    jj_expect_op(p, '[');
    jj_node *key = NULL, *tuple = NULL;
    while (!jj_is_op(p, ']')) {
        if (key) jj_expect_op(p, ',');
        jj_node *one = slice_or_index(p);
        if (key && !tuple) {
            tuple = jj_node_new(p, JJ_N_TUPLE);
            jj_nodes_add(p->c, &tuple->list, key);
        }
        if (tuple) jj_nodes_add(p->c, &tuple->list, one);
        key = one;
    }
    if (!key) jj_parse_fail(p, "a subscript");
    jj_expect_op(p, ']');
    return two(p, JJ_N_GETITEM, 0, of, tuple ? tuple : key);
}

static jj_node *call(jj_parser *p, jj_node *f) {
    jj_node *n = two(p, JJ_N_CALL, 0, f, NULL);
    call_args(p, n);
    return n;
}

static jj_node *postfix(jj_parser *p, jj_node *n) {
    for (;;) {
        if (jj_is_op(p, '.') || jj_is_op(p, '['))
            n = subscript(p, n);
        else if (jj_is_op(p, '('))
            n = call(p, n);
        else
            return n;
    }
}

static jj_str *dotted_name(jj_parser *p) {
    jj_str *s = jj_expect_name(p);
    while (jj_skip_op(p, '.')) {
        jj_buf b = {0};
        jj_buf_add(p->c, &b, s->p, s->n);
        jj_buf_addc(p->c, &b, '.');
        const jj_str *more = jj_expect_name(p);
        jj_buf_add(p->c, &b, more->p, more->n);
        s = jj_intern(p->c, b.p, b.n);
    }
    return s;
}

jj_node *jj_parse_filters(jj_parser *p, jj_node *node, bool inline_start) {
    while (inline_start || jj_skip_op(p, '|')) { /* a: operand, NULL where the body of a block is */
        inline_start = false;
        jj_node *n = jj_node_new(p, JJ_N_FILTER);
        n->a = node;
        n->name = dotted_name(p);
        if (!jj_filter_find(n->name)) {
            p->c->line = n->line;
            jj_fail(p->c, LM_FORMAT, "no filter named '%.*s'", (int)(n->name->n < 60 ? n->name->n : 60), n->name->p);
        }
        if (jj_is_op(p, '(')) call_args(p, n);
        node = n;
    }
    return node;
}

static jj_node *unary(jj_parser *p, bool with_filters);

static jj_node *test(jj_parser *p, jj_node *of) {
    jj_node *n = two(p, JJ_N_TEST, 0, of, NULL);
    p->t++; /* is */
    n->flag = jj_skip_name(p, "not");
    n->name = dotted_name(p);
    if (!jj_test_exists(n->name)) {
        p->c->line = n->line;
        jj_fail(p->c, LM_FORMAT, "no test named '%.*s'", (int)(n->name->n < 60 ? n->name->n : 60), n->name->p);
    }
    jj_token_kind k = p->t->kind;
    bool starts =
        k == JJ_T_NAME || k == JJ_T_STRING || k == JJ_T_INT || k == JJ_T_FLOAT || jj_is_op(p, '[') || jj_is_op(p, '{');
    if (jj_is_op(p, '(')) {
        call_args(p, n);
    } else if (starts && !jj_is_name(p, "else") && !jj_is_name(p, "or") && !jj_is_name(p, "and")) {
        if (jj_is_name(p, "is")) jj_parse_fail(p, "something else (tests cannot be chained)");
        jj_node *arg = postfix(p, primary(p, false));
        jj_nodes_add(p->c, &n->list, arg);
    }
    return n;
}

static jj_node *unary(jj_parser *p, bool with_filters) {
    jj_node *n;
    jj_parse_enter(p);
    if (jj_is_op(p, '-') || jj_is_op(p, '+')) {
        n = jj_node_new(p, jj_is_op(p, '-') ? JJ_N_NEG : JJ_N_POS);
        p->t++;
        n->a = unary(p, false);
    } else {
        n = primary(p, false);
    }
    n = postfix(p, n);
    while (with_filters) {
        if (jj_is_op(p, '|'))
            n = jj_parse_filters(p, n, false);
        else if (jj_is_name(p, "is"))
            n = test(p, n);
        else if (jj_is_op(p, '('))
            n = call(p, n);
        else
            break;
    }
    p->depth--;
    return n;
}

static jj_node *power(jj_parser *p) {
    jj_node *n = unary(p, true);
    while (jj_skip_op(p, JJ_OP2('*', '*'))) n = two(p, JJ_N_BINARY, JJ_OP2('*', '*'), n, unary(p, true));
    return n;
}

static jj_node *product(jj_parser *p) {
    jj_node *n = power(p);
    while (jj_is_op(p, '*') || jj_is_op(p, '/') || jj_is_op(p, '%') || jj_is_op(p, JJ_OP2('/', '/'))) {
        int op = p->t++->op;
        n = two(p, JJ_N_BINARY, op, n, power(p));
    }
    return n;
}

static jj_node *concat(jj_parser *p) {
    jj_node *n = product(p);
    if (!jj_is_op(p, '~')) return n;
    jj_node *all = jj_node_new(p, JJ_N_CONCAT);
    jj_nodes_add(p->c, &all->list, n);
    while (jj_skip_op(p, '~')) jj_nodes_add(p->c, &all->list, product(p));
    return all;
}

static jj_node *sum(jj_parser *p) {
    jj_node *n = concat(p);
    while (jj_is_op(p, '+') || jj_is_op(p, '-')) {
        int op = p->t++->op;
        n = two(p, JJ_N_BINARY, op, n, concat(p));
    }
    return n;
}

/* a: first; list: the others, each a BINARY-less pair (op in the node, operand in a) */
static jj_node *comparison(jj_parser *p) {
    jj_node *first = sum(p), *n = NULL;
    for (;;) {
        int op = p->t->kind == JJ_T_OP ? p->t->op : 0;
        bool known = op == '<' || op == '>' || (op >> 8 == '=' && op != '=');
        if (known)
            p->t++;
        else if (jj_skip_name(p, "in"))
            op = 'i';
        else if (jj_is_name(p, "not") && p->t[1].kind == JJ_T_NAME && JJ_EQ(&p->t[1].text, "in")) {
            p->t += 2;
            op = 'n';
        } else {
            return n ? n : first;
        }
        if (!n) n = two(p, JJ_N_COMPARE, 0, first, NULL);
        jj_nodes_add(p->c, &n->list, two(p, JJ_N_COMPARE, op, sum(p), NULL));
    }
}

static jj_node *negation(jj_parser *p) {
    if (!jj_is_name(p, "not")) return comparison(p);
    jj_parse_enter(p);
    jj_node *n = jj_node_new(p, JJ_N_NOT);
    p->t++;
    n->a = negation(p);
    p->depth--;
    return n;
}

static jj_node *conjunction(jj_parser *p) {
    jj_node *n = negation(p);
    while (jj_skip_name(p, "and")) n = two(p, JJ_N_AND, 0, n, negation(p));
    return n;
}

jj_node *jj_parse_or(jj_parser *p) {
    jj_node *n = conjunction(p);
    while (jj_skip_name(p, "or")) n = two(p, JJ_N_OR, 0, n, conjunction(p));
    return n;
}

jj_node *jj_parse_expr(jj_parser *p) {
    jj_parse_enter(p);
    jj_node *n = jj_parse_or(p);
    while (jj_skip_name(p, "if")) { /* a if b else c */
        n = two(p, JJ_N_COND, 0, n, jj_parse_or(p));
        if (jj_skip_name(p, "else")) n->c = jj_parse_expr(p);
    }
    p->depth--;
    return n;
}

static bool tuple_ends(const jj_parser *p, const char *end_name) {
    if (p->t->kind == JJ_T_PRINT_END || p->t->kind == JJ_T_BLOCK_END || jj_is_op(p, ')')) return true;
    return end_name && jj_is_name(p, end_name);
}

jj_node *jj_parse_tuple(jj_parser *p, bool simple, bool no_cond, const char *end_name, bool ns) {
    jj_node *tuple = NULL, *one = NULL;
    for (;;) {
        if (one) {
            if (!jj_skip_op(p, ',')) break;
            if (!tuple) {
                tuple = jj_node_new(p, JJ_N_TUPLE);
                jj_nodes_add(p->c, &tuple->list, one);
            }
        }
        if (tuple && tuple_ends(p, end_name)) break;
        one = simple ? primary(p, ns) : no_cond ? jj_parse_or(p) : jj_parse_expr(p);
        if (tuple) jj_nodes_add(p->c, &tuple->list, one);
    }
    return tuple ? tuple : one;
}
