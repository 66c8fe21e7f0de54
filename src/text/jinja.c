/* SPDX-License-Identifier: MIT
 *
 * jinja.c: one render from start to end: arena, budgets, failing, text buffers. */
#include "text/jinja_impl.h"
#include <stdio.h>
#include <stdlib.h>

#define CHUNK_BYTES ((size_t)64 << 10)
#define MAX_OUTPUT ((size_t)64 << 20)

void jj_fail(jj *c, lm_status status, const char *fmt, ...) {
    char text[LM_ERROR_CAPACITY];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    c->status = c->line > 0 ? lm_fail(c->err, status, "chat template: line %d: %s", c->line, text)
                            : lm_fail(c->err, status, "chat template: %s", text);
    longjmp(c->jump, 1);
}

void jj_raise(jj *c, const char *text, size_t length) {
    if (length > LM_ERROR_CAPACITY) length = LM_ERROR_CAPACITY;
    c->status = lm_fail(c->err, LM_FORMAT, "%.*s", (int)length, text);
    longjmp(c->jump, 1);
}

static jj_chunk *chunk_add(jj *c, size_t bytes) {
    /* a big request gets room to grow in place: strings are often built by repeated + */
    size_t size = bytes < CHUNK_BYTES / 2 ? CHUNK_BYTES : bytes * 2;
    if (size > c->limits.memory || c->memory > c->limits.memory - size)
        jj_fail(c, LM_BUDGET, "rendering needs more than %zu bytes", c->limits.memory);
    jj_chunk *k = malloc(sizeof *k + size);
    if (!k) {
        c->status = lm_fail_nomem(c->err, size, "a chat template's values");
        longjmp(c->jump, 1);
    }
    k->used = 0;
    k->size = size;
    k->next = c->chunks;
    c->memory += size;
    return c->chunks = k;
}

void *jj_alloc(jj *c, size_t bytes) {
    if (bytes > c->limits.memory) jj_fail(c, LM_BUDGET, "rendering needs more than %zu bytes", c->limits.memory);
    bytes = (bytes + 15) & ~(size_t)15;
    jj_chunk *k = c->chunks;
    if (k) k->used = (k->used + 15) & ~(size_t)15;
    if (!k || k->used > k->size || k->size - k->used < bytes) k = chunk_add(c, bytes);
    void *p = (char *)(k + 1) + k->used;
    k->used += bytes;
    memset(p, 0, bytes);
    return p;
}

void jj_tick(jj *c, size_t n) {
    if (n > (size_t)c->limits.steps || (c->steps += (int64_t)n) > c->limits.steps)
        jj_fail(c, LM_BUDGET, "rendering needs more than %lld steps", (long long)c->limits.steps);
}

void jj_enter(jj *c) {
    if (++c->depth > c->limits.depth) jj_fail(c, LM_BUDGET, "nesting is deeper than %d levels", c->limits.depth);
    jj_tick(c, 1);
}

void jj_leave(jj *c) {
    c->depth--;
}

static size_t name_slot(const jj *c, const char *p, size_t n) {
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)p[i]) * 1099511628211u;
    size_t slot = (size_t)h & (c->interned_size - 1);
    while (c->interned[slot] && (c->interned[slot]->n != n || memcmp(c->interned[slot]->p, p, n) != 0))
        slot = (slot + 1) & (c->interned_size - 1);
    return slot;
}

jj_str *jj_intern(jj *c, const char *p, size_t n) {
    if (c->n_interned * 2 >= c->interned_size) {
        jj_str **old = c->interned;
        size_t old_size = c->interned_size;
        c->interned_size = old_size ? old_size * 2 : 256;
        c->interned = jj_alloc(c, c->interned_size * sizeof *c->interned);
        for (size_t i = 0; i < old_size; i++)
            if (old[i]) c->interned[name_slot(c, old[i]->p, old[i]->n)] = old[i];
    }
    size_t slot = name_slot(c, p, n);
    if (!c->interned[slot]) {
        jj_str *s = jj_alloc(c, sizeof *s);
        char *copy = jj_alloc(c, n + 1);
        memcpy(copy, p, n);
        *s = (jj_str){copy, n, -1};
        c->interned[slot] = s;
        c->n_interned++;
    }
    return c->interned[slot];
}

/* ---------------------------------------------------------------- text buffers */

void jj_buf_add(jj *c, jj_buf *b, const void *p, size_t n) {
    if (n > c->limits.memory - b->n) jj_fail(c, LM_BUDGET, "text is longer than %zu bytes", c->limits.memory);
    if (b->n + n > b->cap) {
        size_t cap = b->cap ? b->cap : 64;
        while (cap < b->n + n) cap *= 2;
        jj_chunk *k = c->chunks;
        char *end = k ? (char *)(k + 1) + k->used : NULL;
        size_t more = cap - b->cap;
        if (b->cap && b->p + b->cap == end && k->size - k->used >= more) {
            k->used += more; /* it lies last in the arena: grow where it is */
        } else {
            char *grown = jj_alloc(c, cap);
            if (b->n) memcpy(grown, b->p, b->n);
            b->p = grown;
        }
        b->cap = cap;
    }
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
    jj_tick(c, n >> 6);
    if (b == c->out && b->n > c->limits.output)
        jj_fail(c, LM_BUDGET, "rendered text is longer than %zu bytes", c->limits.output);
}

void jj_buf_adds(jj *c, jj_buf *b, const char *s) {
    jj_buf_add(c, b, s, strlen(s));
}
void jj_buf_addc(jj *c, jj_buf *b, char ch) {
    jj_buf_add(c, b, &ch, 1);
}

void jj_buf_addf(jj *c, jj_buf *b, const char *fmt, ...) {
    char small[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(small, sizeof small, fmt, args);
    va_end(args);
    if (n < 0) return;
    jj_buf_add(c, b, small, (size_t)n < sizeof small ? (size_t)n : sizeof small - 1);
}

void jj_buf_add_char(jj *c, jj_buf *b, uint32_t ch) {
    char s[4];
    size_t n = 0;
    if (ch > 0x10ffff || (ch >= 0xd800 && ch < 0xe000)) ch = 0xfffd;
    if (ch < 0x80) {
        s[n++] = (char)ch;
    } else if (ch < 0x800) {
        s[n++] = (char)(0xc0 | (ch >> 6));
    } else if (ch < 0x10000) {
        s[n++] = (char)(0xe0 | (ch >> 12));
        s[n++] = (char)(0x80 | ((ch >> 6) & 63));
    } else {
        s[n++] = (char)(0xf0 | (ch >> 18));
        s[n++] = (char)(0x80 | ((ch >> 12) & 63));
        s[n++] = (char)(0x80 | ((ch >> 6) & 63));
    }
    if (ch >= 0x80) s[n++] = (char)(0x80 | (ch & 63));
    jj_buf_add(c, b, s, n);
}

jj_value jj_buf_value(jj *c, const jj_buf *b) {
    return jj_str_borrow(c, b->p, b->n);
}

/* ---------------------------------------------------------------- render */

static void free_all(jj *c) {
    for (jj_chunk *k = c->chunks, *next; k; k = next) {
        next = k->next;
        free(k);
    }
    c->chunks = NULL;
}

static void set_limits(lm_jinja_limits *l) {
    if (l->steps <= 0) l->steps = 30000000;
    if (!l->memory) l->memory = (size_t)512 << 20;
    if (!l->output || l->output > MAX_OUTPUT) l->output = MAX_OUTPUT;
    if (l->parse_depth <= 0) l->parse_depth = 200;
    if (l->depth <= 0) l->depth = 600;
}

/* Everything that may fail, below the one setjmp; locals here are lost by a failure, and none matters. */
static void render(jj *c, const lm_jinja_input *in, jj_buf *out) {
    jj_lex(c, in->text, in->length);
    jj_nodes body = jj_parse(c);
    c->line = 0;
    jj_scope *globals = jj_scope_new(c, NULL);
    jj_define_globals(c, globals);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)in->variables, key, value)
        jj_set(c, globals, jj_intern(c, key, strlen(key)), jj_from_json(c, value));
    c->out = out;
    jj_run(c, jj_scope_new(c, globals), &body);
}

lm_status lm_jinja_render(const lm_jinja_input *in, char **text, size_t *length, lm_error *err) {
    *text = NULL;
    jj *c = calloc(1, sizeof *c);
    jj_buf *out = calloc(1, sizeof *out);
    lm_status status = LM_OK;
    if (!c || !out) {
        status = lm_fail_nomem(err, sizeof *c, "a chat template's render");
    } else {
        c->err = err;
        c->limits = in->limits;
        c->now = in->now;
        set_limits(&c->limits);
        if (setjmp(c->jump) == 0) {
            render(c, in, out);
        }
        status = c->status;
        if (status == LM_OK && !(*text = malloc(out->n + 1))) status = lm_fail_nomem(err, out->n + 1, "rendered text");
        if (status == LM_OK) {
            if (out->n) memcpy(*text, out->p, out->n);
            (*text)[out->n] = 0;
            if (length) *length = out->n;
        }
        free_all(c);
    }
    free(out);
    free(c);
    return status;
}
