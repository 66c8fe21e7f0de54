/* SPDX-License-Identifier: MIT
 * profile.c: stage clocks. While they run, every op of the back end goes through a wrapper that times the original:
 * off, they cost nothing. A stage is an op; products are told apart by the weight that comes first. */
#include "backend/cpu/cpu.h"
#include "base/clock.h"
#include <string.h>

typedef enum stage {
    EMBED,
    NORM,
    QKV,
    Q_ROPE,
    KV_STORE,
    ATTENTION,
    O,
    MLP_IN,
    SWIGLU,
    DOWN,
    ROUTER,
    MOE,
    ADD,
    GATHER,
    HEAD,
    SAMPLE
} stage;
_Static_assert(SAMPLE + 1 == CPU_STAGES, "a clock per stage");
static const char *const names[CPU_STAGES] = {"embed",
                                              "norm",
                                              "qkv products",
                                              "query norm and rope",
                                              "key rope and store",
                                              "attention",
                                              "o product",
                                              "gate and up products",
                                              "swiglu",
                                              "down product",
                                              "router product",
                                              "experts",
                                              "add",
                                              "gather",
                                              "output products",
                                              "sample"};

static lm_status stop(lm_backend *b, stage s, double start, lm_status status) {
    cpu_stage *clock = &cpu_of(b)->stages[s];
    clock->seconds += lm_now_seconds() - start;
    clock->calls++;
    return status;
}
#define TIMED(stage, call)                 \
    const double start = lm_now_seconds(); \
    return stop(b, stage, start, cpu_of(b)->ops.call)

static bool ends_in(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

static stage linear_stage(const lm_linear_item *items) {
    static const struct {
        const char *end;
        stage s;
    } known[] = {{"q_proj", QKV},       {"k_proj", QKV},     {"v_proj", QKV},     {"o_proj", O},
                 {"gate_proj", MLP_IN}, {"down_proj", DOWN}, {"mlp.gate", ROUTER}};
    const char *name = items[0].w->name ? items[0].w->name : "";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (ends_in(name, known[i].end)) return known[i].s;
    return HEAD;
}

static lm_status timed_embed(lm_backend *b, const lm_weight *table, const int32_t *ids, int64_t m, float *x,
                             lm_error *err) {
    TIMED(EMBED, embed(b, table, ids, m, x, err));
}
static lm_status timed_norm(lm_backend *b, const float *x, const float *w, float eps, int64_t m, int64_t n, float *y,
                            lm_error *err) {
    TIMED(NORM, rms_norm(b, x, w, eps, m, n, y, err));
}
static lm_status timed_linear(lm_backend *b, const float *x, int64_t ldx, int64_t m, const lm_linear_item *items,
                              int n_items, lm_error *err) {
    const stage s = n_items > 0 ? linear_stage(items) : HEAD;
    for (int i = 0; i < n_items; i++) cpu_of(b)->stages[s].bytes += items[i].w->bytes;
    TIMED(s, linear(b, x, ldx, m, items, n_items, err));
}
static lm_status timed_q(lm_backend *b, const lm_attn_shape *s, float *q, int64_t ldq, int64_t m, const float *q_norm,
                         const float *cos, const float *sin, lm_error *err) {
    TIMED(Q_ROPE, q_norm_rope(b, s, q, ldq, m, q_norm, cos, sin, err));
}
static lm_status timed_kv(lm_backend *b, const lm_attn_shape *s, float *k, const float *v, int64_t ldkv,
                          const lm_attn_segment *segments, int n_segments, const float *k_norm, const float *cos,
                          const float *sin, lm_error *err) {
    TIMED(KV_STORE, kv_store(b, s, k, v, ldkv, segments, n_segments, k_norm, cos, sin, err));
}
static lm_status timed_attention(lm_backend *b, const lm_attn_shape *s, const float *q, int64_t ldq,
                                 const lm_attn_segment *segments, int n_segments, float *out, int64_t ldo,
                                 lm_error *err) {
    TIMED(ATTENTION, attention(b, s, q, ldq, segments, n_segments, out, ldo, err));
}
static lm_status timed_swiglu(lm_backend *b, const float *gate, const float *up, int64_t m, int64_t n, float *y,
                              lm_error *err) {
    TIMED(SWIGLU, swiglu(b, gate, up, m, n, y, err));
}
static lm_status timed_add(lm_backend *b, float *x, const float *y, int64_t m, int64_t n, lm_error *err) {
    TIMED(ADD, add(b, x, y, m, n, err));
}
static lm_status timed_gather(lm_backend *b, const float *x, int64_t n, const int64_t *rows, int64_t m, float *y,
                              lm_error *err) {
    TIMED(GATHER, gather(b, x, n, rows, m, y, err));
}
static lm_status timed_moe(lm_backend *b, const lm_moe_weights *w, const float *router, const float *x, int64_t hidden,
                           int64_t m, float *y, lm_error *err) {
    TIMED(MOE, moe(b, w, router, x, hidden, m, y, err));
}
static lm_status timed_sample(lm_backend *b, const float *logits, int64_t vocab, const lm_sample_item *items, int64_t n,
                              lm_error *err) {
    TIMED(SAMPLE, sample(b, logits, vocab, items, n, err));
}

void cpu_profile(lm_backend *b, bool on) {
    cpu_backend *c = cpu_of(b);
    if (on) memset(c->stages, 0, sizeof c->stages);
    b->embed = on ? timed_embed : c->ops.embed;
    b->rms_norm = on ? timed_norm : c->ops.rms_norm;
    b->linear = on ? timed_linear : c->ops.linear;
    b->q_norm_rope = on ? timed_q : c->ops.q_norm_rope;
    b->kv_store = on ? timed_kv : c->ops.kv_store;
    b->attention = on ? timed_attention : c->ops.attention;
    b->swiglu = on ? timed_swiglu : c->ops.swiglu;
    b->add = on ? timed_add : c->ops.add;
    b->gather = on ? timed_gather : c->ops.gather;
    b->moe = on ? timed_moe : c->ops.moe;
    b->sample = on ? timed_sample : c->ops.sample;
}

size_t cpu_stages(const lm_backend *b, lm_stage *out, size_t room) {
    const cpu_backend *c = (const cpu_backend *)b;
    size_t n = 0;
    for (int s = 0; s < CPU_STAGES && n < room; s++)
        if (c->stages[s].calls)
            out[n++] = (lm_stage){names[s], c->stages[s].seconds, c->stages[s].calls, c->stages[s].bytes};
    return n;
}
