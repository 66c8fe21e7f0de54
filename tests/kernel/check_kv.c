/* SPDX-License-Identifier: MIT
 *
 * check_kv.c: op KV. A store must write exactly its own position: same bytes as scalar, all other bytes untouched. */
#include "check.h"
#include <string.h>

typedef struct kv_case {
    const lm_kv_impl *impl;
    void *kt, *v;
    const float *key, *value;
    int32_t d, pos;
} kv_case;

static void call(void *arg) {
    const kv_case *t = arg;
    t->impl->store(t->kt, t->v, t->key, t->value, t->d, t->pos);
}

static void fill(check *c, float *x, int32_t d) {
    static const float special[] = {65519.0f,   65520.0f, -65520.0f, 0x1p-24f,  0x1p-25f,     0x1.8p-24f, 0x1.004p0f,
                                    0x1.00cp0f, 3.4e38f,  INFINITY,  -INFINITY, 0x1.fffp-15f, 0x1.008p0f, 0x1.018p0f};
    check_fill(c, (check_kind)check_int(c, 0, CHECK_KINDS - 1), x, (size_t)d);
    for (int32_t i = 0; i < d; i++) {
        int32_t pick = check_int(c, 0, 40);
        if (pick < 14) x[i] = special[pick];
        if (pick == 14) x[i] = NAN;
        if (pick == 15) x[i] = lm_bits_f32((uint32_t)check_random(c)); /* any bits at all */
    }
}

/* Same bytes; two NaNs of one element may differ in payload, but must be quiet. */
static void same_elements(check *c, const char *what, const void *got, const void *want, size_t n) {
    const lm_format type = c->row->format;
    const size_t size = check_size(type);
    for (size_t i = 0; i < n; i++) {
        const char *a = (const char *)got + i * size, *b = (const char *)want + i * size;
        c->comparisons++;
        if (!memcmp(a, b, size)) continue;
        uint32_t quiet = type == LM_FORMAT_F16 ? 0x7e00 : 0x7fc0;
        if (size == 2 && isnan(check_get(type, got, i)) && isnan(check_get(type, want, i)) &&
            (lm_load_u16(a) & quiet) == quiet)
            continue;
        check_fail(c, "%s[%zu]: expected %g, got %g", what, i, (double)check_get(type, want, i),
                   (double)check_get(type, got, i));
        return;
    }
}

static void one(check *c, int32_t d) {
    const size_t elements = (size_t)d * LM_KV_BLOCK, bytes = elements * check_size(c->row->format);
    float *key = check_at_edge(c, (size_t)d * 4, 0), *value = check_at_edge(c, (size_t)d * 4, 0);
    kv_case got = {c->row->impl, NULL, NULL, key, value, d, 0}, want = got;
    got.kt = check_at_edge(c, bytes, 0), got.v = check_at_edge(c, bytes, 1);
    want.impl = c->ref->impl, want.kt = check_aligned(c, bytes), want.v = check_aligned(c, bytes);
    for (int i = 0; i < 12; i++) {
        static const int32_t places[] = {0, LM_KV_BLOCK - 1, 1, 15, 16, 17};
        got.pos = want.pos = i < 6 ? places[i] : check_int(c, 0, LM_KV_BLOCK - 1);
        fill(c, key, d), fill(c, value, d);
        if (!check_run(c, call, &got) || !check_run(c, call, &want)) return;
    }
    same_elements(c, "keys", got.kt, want.kt, elements);
    same_elements(c, "values", got.v, want.v, elements);
    check_frames(c);
}

static void call_next(void *arg) {
    kv_case *t = arg;
    t->pos = (t->pos + 1) % LM_KV_BLOCK;
    call(t);
}

void check_kv(check *c) {
    static const int32_t dims[] = {64, 80, 96, 128, 256, 1, 3, 7, 8, 15, 17, 33, 65};
    c->stage = "against scalar";
    for (size_t i = 0; i < sizeof dims / sizeof dims[0] && !c->failures; i++) {
        one(c, dims[i]);
        check_release(c);
    }
    const size_t size = check_size(c->row->format);
    float *x = check_aligned(c, 128 * 4);
    check_fill(c, CHECK_PLAIN, x, 128);
    kv_case t = {c->row->impl,
                 check_aligned(c, 128 * LM_KV_BLOCK * size),
                 check_aligned(c, 128 * LM_KV_BLOCK * size),
                 x,
                 x,
                 128,
                 0};
    check_bench(c, "store: D 128, walking positions", call_next, &t, 2.0 * 128 * (double)size, 0);
}
