/* SPDX-License-Identifier: MIT
 * jinja_impl.h: what the interpreter's files share: values, arena, syntax tree, and the calls between them.
 *
 * One render owns one arena: every value, node and buffer lies in it and goes at the end at once, so a failure anywhere
 * may jump straight out (jj_fail never returns) without leaking. Nothing else may be held across a call that can fail.
 */
#ifndef LM_TEXT_JINJA_IMPL_H
#define LM_TEXT_JINJA_IMPL_H
#include "base/json.h"
#include "text/jinja.h"
#include <setjmp.h>
#include <string.h>

#if defined(__GNUC__)
#define JJ_NORETURN __attribute__((noreturn))
#else
#define JJ_NORETURN
#endif

/* ---------------------------------------------------------------- values */

typedef enum jj_type {
    JJ_ABSENT, /* an argument that was not given; never seen by templates */
    JJ_UNDEF,
    JJ_NONE,
    JJ_BOOL,
    JJ_INT,
    JJ_FLOAT,
    JJ_STR,
    JJ_LIST, /* everything that is a row of items: see jj_list_kind */
    JJ_DICT,
    JJ_NS,
    JJ_MACRO,
    JJ_FUNC,   /* a global function, or a method bound to its object */
    JJ_LOOP,   /* `loop` inside a for */
    JJ_CYCLER, /* cycler(...) */
    JJ_JOINER, /* joiner(...) */
} jj_type;

typedef enum jj_list_kind {
    JJ_IS_LIST,
    JJ_IS_TUPLE,
    JJ_IS_GROUP, /* a tuple of groupby: has .grouper and .list */
    JJ_IS_RANGE,
    JJ_IS_ITEMS,
    JJ_IS_KEYS,
    JJ_IS_VALUES,
    JJ_IS_GENERATOR, /* made at once here, yet without length or index, and used up by one walk */
} jj_list_kind;

typedef struct jj_str { /* immutable UTF-8; `chars` is -1 until counted */
    const char *p;
    size_t n;
    int64_t chars;
} jj_str;

typedef struct jj_value jj_value;
typedef struct jj_list jj_list;
typedef struct jj_dict jj_dict;
typedef struct jj_undef jj_undef;
typedef struct jj_macro jj_macro;
typedef struct jj_func jj_func;
typedef struct jj_loop jj_loop;

struct jj_value {
    uint8_t type;
    bool safe; /* JJ_STR: markup (what `|safe` gives): + escapes the other side */
    union {
        bool b;
        int64_t i;
        double f;
        jj_str *s;
        jj_list *l;
        jj_dict *d;
        jj_undef *u;
        jj_macro *m;
        jj_func *fn;
        jj_loop *loop;
    } as;
};

struct jj_list {
    jj_value *items;
    size_t n, cap;
    jj_list_kind kind;
    int64_t start, stop, step; /* JJ_IS_RANGE, for repr */
};

typedef struct jj_entry {
    jj_value key, value;
    uint64_t hash;
} jj_entry;

struct jj_dict { /* keeps insertion order; `index` (open addressing, entry + 1) from 8 entries on. Also namespaces. */
    jj_entry *entries;
    size_t n, cap;
    uint32_t *index;
    size_t index_size;
};

struct jj_undef {
    const char *message; /* what a use of it reports */
};

typedef struct jj_keyword {
    jj_str *name;
    jj_value value;
} jj_keyword;

typedef struct jj_args {
    jj_value *items;
    size_t n;
    jj_keyword *keywords;
    size_t n_keywords;
} jj_args;

/* ---------------------------------------------------------------- tokens and nodes */

typedef enum jj_token_kind {
    JJ_T_END,
    JJ_T_DATA,
    JJ_T_PRINT,     /* {{ */
    JJ_T_PRINT_END, /* }} */
    JJ_T_BLOCK,     /* {% */
    JJ_T_BLOCK_END, /* %} */
    JJ_T_NAME,
    JJ_T_STRING,
    JJ_T_INT,
    JJ_T_FLOAT,
    JJ_T_OP, /* `op` holds up to two characters: '=' | '=' << 8 */
} jj_token_kind;

typedef struct jj_token {
    jj_token_kind kind;
    int line, op;
    jj_str text; /* data, name, decoded string */
    int64_t integer;
    double number;
} jj_token;

#define JJ_OP2(a, b) ((a) | (b) << 8)

typedef enum jj_node_kind {
    JJ_N_DATA,
    JJ_N_PRINT,
    JJ_N_FOR,
    JJ_N_IF,
    JJ_N_SET,
    JJ_N_SET_BLOCK,
    JJ_N_MACRO,
    JJ_N_CALL_BLOCK,
    JJ_N_FILTER_BLOCK,
    JJ_N_WITH,
    JJ_N_SCOPE,
    JJ_N_BREAK,
    JJ_N_CONTINUE,
    JJ_N_DO,
    JJ_N_CONST,
    JJ_N_NAME,
    JJ_N_TUPLE,
    JJ_N_LIST,
    JJ_N_DICT,
    JJ_N_NSREF,
    JJ_N_GETATTR,
    JJ_N_GETITEM,
    JJ_N_SLICE,
    JJ_N_CALL,
    JJ_N_FILTER,
    JJ_N_TEST,
    JJ_N_NEG,
    JJ_N_POS,
    JJ_N_NOT,
    JJ_N_AND,
    JJ_N_OR,
    JJ_N_BINARY,
    JJ_N_CONCAT,
    JJ_N_COMPARE,
    JJ_N_COND,
} jj_node_kind;

typedef struct jj_node jj_node;
typedef struct jj_nodes {
    jj_node **items;
    size_t n, cap;
} jj_nodes;

/** One shape for all nodes; what a, b, c, list, ... hold is said where the parser makes the node. */
struct jj_node {
    jj_node_kind kind;
    int line, op;
    bool flag;    /* for: recursive; test: negated; macro: takes varargs */
    bool flag_kw; /* macro: takes kwargs */
    bool flag_caller;
    jj_str *name;
    jj_value value;
    jj_node *a, *b, *c;
    jj_nodes list, list2, body, other;
    jj_str **names; /* call, filter, test: names of the keyword arguments in list2 */
    jj_node *star, *star2;
};

/* ---------------------------------------------------------------- the render */

typedef struct jj_chunk {
    struct jj_chunk *next;
    size_t used, size;
} jj_chunk;

typedef struct jj_buf { /* text being built, in the arena */
    char *p;
    size_t n, cap;
} jj_buf;

typedef struct jj_var {
    const jj_str *name; /* interned: compared by address */
    jj_value value;
} jj_var;

typedef struct jj_scope {
    struct jj_scope *parent;
    jj_var *vars;
    size_t n, cap;
} jj_scope;

typedef struct jj {
    jmp_buf jump;
    lm_status status;
    lm_error *err;
    lm_jinja_limits limits;
    jj_chunk *chunks;
    size_t memory;
    int64_t steps;
    int depth, line;
    jj_str **interned;
    size_t n_interned, interned_size;
    char *tail, *tail_limit; /* end of the last joined string and of its room: s = s + x appends in place */
    jj_buf *out;             /* where output goes now */
    const char *now;
    jj_token *tokens;
    size_t n_tokens;
} jj;

struct jj_macro {
    const jj_node *node; /* JJ_N_MACRO, or JJ_N_CALL_BLOCK for `caller` */
    jj_scope *scope;     /* where it was written */
    jj_str *name;
};

typedef jj_value jj_call(jj *c, jj_value self, jj_value *given, const jj_args *args);
/** A row of the tables of functions, methods and filters. `params`: names in order, "!" after a required one; a call is
 *  bound to them before `call` runs (JJ_ABSENT where not given). NULL: `call` looks at args itself. */
typedef struct jj_builtin {
    const char *name;
    jj_call *call;
    const char *params;
} jj_builtin;
#define JJ_MAX_PARAMS 8

struct jj_func {
    const jj_builtin *builtin;
    jj_value self;
};

struct jj_loop { /* also cycler (items, index) and joiner (changed: separator, index: used) */
    jj_value *items;
    size_t n, index;
    int depth0;
    bool has_changed;
    jj_value changed;
    const jj_node *node; /* recursive for, else NULL */
    jj_scope *scope;
};

/* jinja.c */
JJ_NORETURN void jj_fail(jj *c, lm_status status, const char *fmt, ...) LM_PRINTF(3, 4);
/** Fails with the words alone, without the template's line. */
JJ_NORETURN void jj_raise(jj *c, const char *text, size_t length);
void *jj_alloc(jj *c, size_t bytes);
/** Counts `n` steps. */
void jj_tick(jj *c, size_t n);
void jj_enter(jj *c);
void jj_leave(jj *c);
jj_str *jj_intern(jj *c, const char *p, size_t n);
void jj_buf_add(jj *c, jj_buf *b, const void *p, size_t n);
void jj_buf_adds(jj *c, jj_buf *b, const char *s);
void jj_buf_addc(jj *c, jj_buf *b, char ch);
void jj_buf_addf(jj *c, jj_buf *b, const char *fmt, ...) LM_PRINTF(3, 4);
void jj_buf_add_char(jj *c, jj_buf *b, uint32_t code_point);
jj_value jj_buf_value(jj *c, const jj_buf *b);

/* jinja_lex.c, jinja_parse.c, jinja_parse_expr.c */
void jj_lex(jj *c, const char *text, size_t length);
jj_nodes jj_parse(jj *c);
typedef struct jj_parser {
    jj *c;
    jj_token *t; /* current */
    int depth;
    jj_node *macros[64]; /* macros open around the current place */
    int n_macros;
} jj_parser;
jj_node *jj_node_new(jj_parser *p, jj_node_kind kind);
void jj_nodes_add(jj *c, jj_nodes *list, jj_node *node);
jj_node *jj_parse_expr(jj_parser *p);
jj_node *jj_parse_or(jj_parser *p);
/** `simple`: targets, only primaries. `no_cond`: without if-expressions. `ns`: name.attr is an assignable reference. */
jj_node *jj_parse_tuple(jj_parser *p, bool simple, bool no_cond, const char *end_name, bool ns);
jj_node *jj_parse_filters(jj_parser *p, jj_node *node, bool inline_start);
bool jj_is_op(const jj_parser *p, int op);
bool jj_is_name(const jj_parser *p, const char *name);
bool jj_skip_op(jj_parser *p, int op);
bool jj_skip_name(jj_parser *p, const char *name);
void jj_expect_op(jj_parser *p, int op);
jj_str *jj_expect_name(jj_parser *p);
JJ_NORETURN void jj_parse_fail(jj_parser *p, const char *expected);
void jj_parse_enter(jj_parser *p);

/* jinja_value.c */
jj_value jj_none(void);
jj_value jj_bool(bool b);
jj_value jj_int(int64_t i);
jj_value jj_float(double f);
jj_value jj_strn(jj *c, const char *p, size_t n); /* copies */
jj_value jj_strz(jj *c, const char *s);           /* borrows a literal */
jj_value jj_str_borrow(jj *c, const char *p, size_t n);
jj_value jj_undefined(jj *c, const char *fmt, ...) LM_PRINTF(2, 3);
jj_value jj_list_new(jj *c, size_t capacity, jj_list_kind kind);
void jj_list_add(jj *c, jj_list *l, jj_value v);
jj_value jj_pair(jj *c, jj_value a, jj_value b); /* a tuple */
jj_value jj_dict_new(jj *c);
void jj_dict_set(jj *c, jj_dict *d, jj_value key, jj_value value);
jj_value *jj_dict_get(jj *c, const jj_dict *d, jj_value key); /* NULL: none */
jj_value jj_from_json(jj *c, const json_t *j);
bool jj_truth(jj_value v);
bool jj_equal(jj *c, jj_value a, jj_value b);
/** <0, 0, >0; fails as Python does where there is no order. */
int jj_compare(jj *c, jj_value a, jj_value b, const char *op);
bool jj_contains(jj *c, jj_value item, jj_value in);
/** The items of anything iterable (fails otherwise). A generator is used up. */
void jj_items(jj *c, jj_value v, jj_value **items, size_t *n);
bool jj_is_iterable(jj_value v);
const char *jj_type_name(jj_value v);          /* Python's: "str" */
const char *jj_object_name(jj *c, jj_value v); /* jinja2's in messages: "str object", "None" */
int64_t jj_length(jj *c, jj_value v);
/** Fails if v is undefined. */
void jj_need_defined(jj *c, jj_value v);
bool jj_is_seq(jj_value v);
static inline bool jj_is_str(jj_value v) {
    return v.type == JJ_STR;
}
static inline bool jj_is_number(jj_value v) {
    return v.type == JJ_INT || v.type == JJ_FLOAT || v.type == JJ_BOOL;
}
double jj_as_float(jj_value v);
/** The integer of an int or bool; fails with `what` otherwise. */
int64_t jj_as_int(jj *c, jj_value v, const char *what);
const jj_str *jj_as_str(jj *c, jj_value v, const char *what);
int64_t jj_str_chars(jj_str *s);
size_t jj_str_offset(jj_str *s, int64_t index); /* byte offset of code point `index` (0..chars) */
jj_value jj_str_slice(jj *c, jj_str *s, int64_t start, int64_t stop, int64_t step);
uint32_t jj_next_char(const char *p, size_t n, size_t *used);
bool jj_char_is_space(uint32_t ch);
/** Strips at the sides; chars NULL: white space. */
jj_value jj_strip(jj *c, jj_value s, const jj_str *chars, bool left, bool right);
void jj_sort(jj *c, jj_value *items, jj_value *keys, size_t n, bool reverse);

/* jinja_repr.c */
void jj_print(jj *c, jj_buf *b, jj_value v); /* str(v) */
void jj_repr(jj *c, jj_buf *b, jj_value v);
jj_value jj_to_str(jj *c, jj_value v);
void jj_print_float(jj *c, jj_buf *b, double f);
jj_value jj_tojson(jj *c, jj_value v, jj_value *given);
void jj_escape(jj *c, jj_buf *b, const jj_str *s);

/* jinja_format.c: % and str.format, strftime */
jj_value jj_percent(jj *c, const jj_str *format, jj_value args);
jj_value jj_format(jj *c, const jj_str *format, const jj_args *args);
jj_value jj_strftime(jj *c, const jj_str *format);

/* jinja_ops.c */
jj_value jj_binary(jj *c, int op, jj_value a, jj_value b);
jj_value jj_getattr(jj *c, jj_value v, jj_value name);
jj_value jj_getitem(jj *c, jj_value v, jj_value key);
jj_value jj_slice(jj *c, jj_value v, jj_value start, jj_value stop, jj_value step);
/** attribute paths of filters: "a.b.0" or an integer. */
jj_value jj_get_path(jj *c, jj_value v, jj_value path);

/* jinja_call.c */
jj_value jj_invoke(jj *c, jj_value f, const jj_args *args);
void jj_bind(jj *c, const jj_builtin *b, const jj_args *args, jj_value *given);
jj_value jj_run_builtin(jj *c, const jj_builtin *b, jj_value self, const jj_args *args);
const jj_builtin *jj_find(const jj_builtin *table, const jj_str *name);
void jj_define_globals(jj *c, jj_scope *s);

/* jinja_methods.c, jinja_strings.c: tables end with a NULL name */
extern const jj_builtin jj_str_methods[], jj_list_methods[], jj_tuple_methods[], jj_dict_methods[], jj_int_methods[],
    jj_float_methods[], jj_loop_methods[], jj_cycler_methods[], jj_globals[];
/* jinja_filters.c, jinja_filters_seq.c, jinja_filters_text.c */
extern const jj_builtin jj_filters_basic[], jj_filters_seq[], jj_filters_text[];
const jj_builtin *jj_filter_find(const jj_str *name);
jj_value jj_filter_apply(jj *c, const jj_str *name, jj_value v, const jj_args *args);
/* jinja_tests.c */
bool jj_test_exists(const jj_str *name);
bool jj_test_apply(jj *c, const jj_str *name, jj_value v, const jj_args *args);

/* jinja_expr.c, jinja_eval.c */
jj_value jj_eval(jj *c, jj_scope *s, const jj_node *n);
void jj_eval_args(jj *c, jj_scope *s, const jj_node *n, jj_args *args);
typedef enum jj_flow { JJ_GO_ON, JJ_BREAK, JJ_CONTINUE } jj_flow;
jj_flow jj_run(jj *c, jj_scope *s, const jj_nodes *body);
jj_scope *jj_scope_new(jj *c, jj_scope *parent);
void jj_set(jj *c, jj_scope *s, const jj_str *name, jj_value v);
void jj_assign(jj *c, jj_scope *s, const jj_node *target, jj_value v);
jj_value jj_capture(jj *c, jj_scope *s, const jj_nodes *body);
jj_value jj_call_macro(jj *c, jj_macro *m, const jj_args *args);
jj_value jj_call_loop(jj *c, jj_loop *loop, jj_value items);

#define JJ_EQ(s, lit) ((s)->n == sizeof(lit) - 1 && memcmp((s)->p, lit, sizeof(lit) - 1) == 0)
#endif
