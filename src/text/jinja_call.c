/* SPDX-License-Identifier: MIT
 *
 * jinja_call.c: calls: binding arguments to builtins, macros with defaults, varargs, kwargs and caller. */
#include "text/jinja_impl.h"

const jj_builtin *jj_find(const jj_builtin *table, const jj_str *name) {
    for (; table->name; table++)
        if (strlen(table->name) == name->n && memcmp(table->name, name->p, name->n) == 0) return table;
    return NULL;
}

/* `params` is "first! second third": fills given[0..JJ_MAX_PARAMS). */
void jj_bind(jj *c, const jj_builtin *b, const jj_args *args, jj_value *given) {
    size_t index = 0, used = 0;
    memset(given, 0, JJ_MAX_PARAMS * sizeof *given);
    for (const char *p = b->params; *p; index++) {
        size_t n = strcspn(p, " !");
        if (index < args->n) given[index] = args->items[index];
        for (size_t k = 0; k < args->n_keywords; k++) {
            const jj_str *name = args->keywords[k].name;
            if (name->n != n || memcmp(name->p, p, n) != 0) continue;
            if (index < args->n)
                jj_fail(c, LM_FORMAT, "%s() got multiple values for argument '%.*s'", b->name, (int)n, p);
            given[index] = args->keywords[k].value;
            used++;
        }
        p += n;
        if (*p == '!') {
            if (given[index].type == JJ_ABSENT)
                jj_fail(c, LM_FORMAT, "%s() lacks its argument '%.*s'", b->name, (int)n, p - n);
            p++;
        }
        while (*p == ' ') p++;
    }
    if (args->n > index) jj_fail(c, LM_FORMAT, "%s() takes at most %zu arguments, %zu given", b->name, index, args->n);
    if (used < args->n_keywords) jj_fail(c, LM_FORMAT, "%s() got an unexpected keyword argument", b->name);
}

jj_value jj_run_builtin(jj *c, const jj_builtin *b, jj_value self, const jj_args *args) {
    jj_value given[JJ_MAX_PARAMS];
    if (b->params) jj_bind(c, b, args, given);
    jj_enter(c);
    jj_value r = b->call(c, self, given, args);
    jj_leave(c);
    return r;
}

jj_value jj_invoke(jj *c, jj_value f, const jj_args *args) {
    switch (f.type) {
    case JJ_FUNC: return jj_run_builtin(c, f.as.fn->builtin, f.as.fn->self, args);
    case JJ_MACRO: return jj_call_macro(c, f.as.m, args);
    case JJ_LOOP:
        if (!f.as.loop->node)
            jj_fail(c, LM_FORMAT, "the loop must have the 'recursive' marker to be called recursively");
        if (args->n != 1) jj_fail(c, LM_FORMAT, "loop() takes one argument");
        return jj_call_loop(c, f.as.loop, args->items[0]);
    case JJ_JOINER: /* nothing the first time, then the separator */
        if (f.as.loop->index++ == 0) return jj_strz(c, "");
        return f.as.loop->changed;
    case JJ_UNDEF: jj_need_defined(c, f); /* fall through */
    default: jj_fail(c, LM_FORMAT, "'%s' object is not callable", jj_type_name(f));
    }
}

void jj_define_globals(jj *c, jj_scope *s) {
    for (const jj_builtin *b = jj_globals; b->name; b++) {
        jj_func *f = jj_alloc(c, sizeof *f);
        f->builtin = b;
        jj_set(c, s, jj_intern(c, b->name, strlen(b->name)), (jj_value){.type = JJ_FUNC, .as.fn = f});
    }
}

static const jj_value *keyword(const jj_args *args, const jj_str *name) {
    for (size_t i = 0; i < args->n_keywords; i++)
        if (args->keywords[i].name == name) return &args->keywords[i].value;
    return NULL;
}

static bool is_parameter(const jj_node *n, const jj_str *name) {
    for (size_t i = 0; i < n->list.n; i++)
        if (n->list.items[i]->name == name) return true;
    return false;
}

/* Keyword arguments that are no parameters: into kwargs, or an error. */
static void extra_keywords(jj *c, jj_scope *s, const jj_macro *m, const jj_args *args) {
    const jj_node *n = m->node;
    const jj_str *caller = jj_intern(c, "caller", 6);
    jj_value kwargs = jj_dict_new(c);
    bool has_caller = is_parameter(n, caller);
    for (size_t i = 0; i < args->n_keywords; i++) {
        jj_str *name = args->keywords[i].name;
        if (is_parameter(n, name)) continue;
        if (name == caller && n->flag_caller) {
            jj_set(c, s, caller, args->keywords[i].value);
            has_caller = true;
        } else if (n->flag_kw) {
            jj_dict_set(c, kwargs.as.d, (jj_value){.type = JJ_STR, .as.s = name}, args->keywords[i].value);
        } else {
            jj_fail(c, LM_FORMAT, "macro '%.*s' takes no keyword argument '%.*s'", (int)m->name->n, m->name->p,
                    (int)name->n, name->p);
        }
    }
    if (n->flag_caller && !has_caller) jj_set(c, s, caller, jj_undefined(c, "No caller defined"));
    if (n->flag_kw) jj_set(c, s, jj_intern(c, "kwargs", 6), kwargs);
}

static void extra_positional(jj *c, jj_scope *s, const jj_macro *m, const jj_args *args) {
    const jj_node *n = m->node;
    if (args->n > n->list.n && !n->flag)
        jj_fail(c, LM_FORMAT, "macro '%.*s' takes not more than %zu argument(s)", (int)m->name->n, m->name->p,
                n->list.n);
    if (!n->flag) return;
    jj_value rest = jj_list_new(c, 0, JJ_IS_TUPLE);
    for (size_t i = n->list.n; i < args->n; i++) jj_list_add(c, rest.as.l, args->items[i]);
    jj_set(c, s, jj_intern(c, "varargs", 7), rest);
}

jj_value jj_call_macro(jj *c, jj_macro *m, const jj_args *args) {
    const jj_node *n = m->node;
    jj_enter(c);
    jj_scope *s = jj_scope_new(c, m->scope);
    int line = c->line;
    size_t first_default = n->list.n - n->list2.n;
    for (size_t i = 0; i < n->list.n; i++) {
        const jj_str *name = n->list.items[i]->name;
        const jj_value *by_name = keyword(args, name);
        jj_value v;
        if (i < args->n && by_name)
            jj_fail(c, LM_FORMAT, "macro '%.*s' got two values for '%.*s'", (int)m->name->n, m->name->p, (int)name->n,
                    name->p);
        if (i < args->n)
            v = args->items[i];
        else if (by_name)
            v = *by_name;
        else if (i >= first_default)
            v = jj_eval(c, s, n->list2.items[i - first_default]);
        else
            v = jj_undefined(c, "parameter '%.*s' was not provided", (int)(name->n < 80 ? name->n : 80), name->p);
        jj_set(c, s, name, v);
    }
    extra_positional(c, s, m, args);
    extra_keywords(c, s, m, args);
    jj_value text = jj_capture(c, s, &n->body);
    c->line = line;
    jj_leave(c);
    return text;
}
