/* SPDX-License-Identifier: MIT
 * decoder.c: the forward pass of a pre-norm decoder over a slice of rows, on a back end's ops. */
#include "kernels/kvq.h"
#include "model/model.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- workspace */

static size_t up64(size_t floats) {
    return (floats * sizeof(float) + 63) & ~(size_t)63;
}

typedef struct row_widths {
    size_t hidden, q, kv, ffn, experts, half;
} row_widths;

static row_widths widths_of(const lm_model *m) {
    const lm_hparams *h = &m->h;
    bool dense = false, moe = false;
    for (int64_t i = 0; i < h->layers; i++) {
        if (lm_layer_is_moe(h, i))
            moe = true;
        else
            dense = true;
    }
    return (row_widths){
        (size_t)h->hidden,          (size_t)(h->heads * h->head_dim), (size_t)(h->kv_heads * h->head_dim),
        dense ? (size_t)h->ffn : 0, moe ? (size_t)h->experts : 0,     (size_t)(h->head_dim / 2)};
}

size_t lm_workspace_row_bytes(const lm_model *model) {
    row_widths w = widths_of(model);
    size_t attention = 2 * w.q + 2 * w.kv, mlp = 2 * w.ffn, widest = w.ffn > w.hidden ? w.ffn : w.hidden;
    /* routing and sums of experts; what they compute is kept in batches of fixed size */
    size_t moe = w.experts ? w.experts + (size_t)model->h.top_k * 8 + w.hidden : 0;
    size_t floats = 2 * w.hidden + (attention > mlp ? attention : mlp) + 2 * w.half + widest + moe;
    return floats * sizeof(float);
}

lm_status lm_workspace_create(const lm_model *model, int64_t rows, lm_workspace *out, lm_error *err) {
    row_widths w = widths_of(model);
    size_t r = (size_t)rows;
    memset(out, 0, sizeof *out);
    /* q, k, v, att and gate, up are never alive together: they share one region */
    size_t attention = 2 * up64(r * w.q) + 2 * up64(r * w.kv), mlp = 2 * up64(r * w.ffn);
    size_t shared = attention > mlp ? attention : mlp;
    size_t tables = 2 * up64(r * w.half);
    out->bytes = 2 * up64(r * w.hidden) + shared + up64(r * w.experts) + tables;
    void *memory;
    LM_TRY(model->backend->alloc(model->backend, LM_MEM_SCRATCH, out->bytes, "activations", &memory, err));
    out->backend = model->backend;
    out->rows = rows;
    out->memory = memory;
    out->want_pos = malloc(r * sizeof *out->want_pos);
    if (!out->want_pos) {
        lm_workspace_destroy(out);
        return lm_fail_nomem(err, r * sizeof *out->want_pos, "positions");
    }
    char *p = memory;
    out->x = (float *)(void *)p;
    out->xn = (float *)(void *)(p += up64(r * w.hidden));
    p += up64(r * w.hidden);
    out->q = (float *)(void *)p;
    out->k = (float *)(void *)(p + up64(r * w.q));
    out->v = (float *)(void *)(p + up64(r * w.q) + up64(r * w.kv));
    out->att = (float *)(void *)(p + up64(r * w.q) + 2 * up64(r * w.kv));
    out->gate = (float *)(void *)p;
    out->up = (float *)(void *)(p + up64(r * w.ffn));
    p += shared;
    out->router = (float *)(void *)p;
    p += up64(r * w.experts);
    out->cos = (float *)(void *)p;
    out->sin = (float *)(void *)(p + up64(r * w.half));
    return LM_OK;
}

void lm_workspace_destroy(lm_workspace *w) {
    if (w->memory) w->backend->release(w->backend, LM_MEM_SCRATCH, w->memory, w->bytes);
    free(w->want_pos);
    free(w->segments);
    memset(w, 0, sizeof *w);
}

size_t lm_model_block_bytes(const lm_model *model, lm_dtype kv_dtype, lm_kvq quant) {
    const lm_hparams *h = &model->h;
    const size_t heads = (size_t)h->layers * (size_t)h->kv_heads;
    if (quant.bits) return heads * lm_kvq_head_bytes(quant, (int32_t)h->head_dim, kv_dtype);
    return heads * 2 * (size_t)h->head_dim * LM_KV_BLOCK * lm_dtype_bytes(kv_dtype);
}

/* ---------------------------------------------------------------- layers */

typedef struct pass {
    const lm_model *m;
    lm_workspace *w;
    lm_backend *b;
    lm_attn_shape shape;
    int64_t rows;              /* rows alive: all, or the wanted ones in the last layer */
    lm_attn_segment *segments; /* [n_seqs], of the rows alive */
    int n_segments;
    lm_error *err;
} pass;

/* Tells the back end which products come after the op about to be asked for. */
static void expect(const pass *p, const lm_weight *a, const lm_weight *b, const lm_weight *c) {
    const lm_weight *weights[3] = {a, b, c};
    if (p->b->linear_next) p->b->linear_next(p->b, weights, c ? 3 : b ? 2 : 1, p->rows);
}

/* The same: products that follow layer l. */
static void expect_after(const pass *p, const lm_layer *l) {
    const lm_layer *next = l + 1;
    if (next < p->m->layer + p->m->h.layers)
        expect(p, &next->k, &next->v, &next->q);
    else
        expect(p, &p->m->head, NULL, NULL);
}

static lm_status mlp(pass *p, const lm_layer *l) {
    const lm_hparams *h = &p->m->h;
    lm_workspace *w = p->w;
    lm_backend *b = p->b;
    LM_TRY(b->rms_norm(b, w->x, l->ffn_norm, (float)h->norm_eps, p->rows, h->hidden, w->xn, p->err));
    if (l->e_gate) {
        lm_linear_item router = {&l->router, NULL, w->router, h->experts};
        LM_TRY(b->linear(b, w->xn, h->hidden, p->rows, &router, 1, p->err));
        lm_moe_weights moe = {l->e_gate,         l->e_up,      l->e_down, (int32_t)h->experts,
                              (int32_t)h->top_k, h->norm_topk, h->moe_ffn};
        expect_after(p, l);
        LM_TRY(b->moe(b, &moe, w->router, w->xn, h->hidden, p->rows, w->xn, p->err));
    } else {
        lm_linear_item in[2] = {{&l->gate, l->gate_bias, w->gate, h->ffn}, {&l->up, l->up_bias, w->up, h->ffn}};
        lm_linear_item out = {&l->down, l->down_bias, w->xn, h->hidden};
        expect(p, &l->down, NULL, NULL);
        LM_TRY(b->linear(b, w->xn, h->hidden, p->rows, in, 2, p->err));
        LM_TRY(b->swiglu(b, w->gate, w->up, p->rows, h->ffn, w->gate, p->err));
        expect_after(p, l);
        LM_TRY(b->linear(b, w->gate, h->ffn, p->rows, &out, 1, p->err));
    }
    return b->add(b, w->x, w->xn, p->rows, h->hidden, p->err);
}

static void set_layer(pass *p, int64_t layer) {
    for (int i = 0; i < p->n_segments; i++)
        p->segments[i].offset = lm_model_block_bytes(p->m, p->segments[i].kv_dtype, p->segments[i].quant) /
                                (size_t)p->m->h.layers * (size_t)layer;
}

/* Queries, keys and values of the rows alive; keys and values stored. */
static lm_status project(pass *p, const lm_layer *l, bool with_q) {
    const lm_hparams *h = &p->m->h;
    lm_workspace *w = p->w;
    lm_backend *b = p->b;
    int64_t kv = h->kv_heads * h->head_dim, qd = h->heads * h->head_dim;
    lm_linear_item items[3] = {
        {&l->k, l->k_bias, w->k, kv}, {&l->v, l->v_bias, w->v, kv}, {&l->q, l->q_bias, w->q, qd}};
    expect(p, &l->o, NULL, NULL);
    LM_TRY(b->linear(b, w->xn, h->hidden, p->rows, items, with_q ? 3 : 2, p->err));
    LM_TRY(b->kv_store(b, &p->shape, w->k, w->v, kv, p->segments, p->n_segments, l->k_norm, w->cos, w->sin, p->err));
    if (!with_q) return LM_OK;
    return b->q_norm_rope(b, &p->shape, w->q, qd, p->rows, l->q_norm, w->cos, w->sin, p->err);
}

static lm_status attend(pass *p, const lm_layer *l) {
    const lm_hparams *h = &p->m->h;
    lm_workspace *w = p->w;
    lm_backend *b = p->b;
    int64_t qd = h->heads * h->head_dim;
    LM_TRY(b->attention(b, &p->shape, w->q, qd, p->segments, p->n_segments, w->att, qd, p->err));
    lm_linear_item o = {&l->o, l->o_bias, w->xn, h->hidden};
    if (l->e_gate)
        expect(p, &l->router, NULL, NULL);
    else
        expect(p, &l->gate, &l->up, NULL);
    LM_TRY(b->linear(b, w->att, qd, p->rows, &o, 1, p->err));
    return b->add(b, w->x, w->xn, p->rows, h->hidden, p->err);
}

/* After the last layer's keys and values only the wanted rows go on. */
static lm_status keep_wanted(pass *p, const lm_slice *s, const lm_layer *l, int64_t *pos) {
    const lm_hparams *h = &p->m->h;
    lm_workspace *w = p->w;
    lm_backend *b = p->b;
    int64_t half = h->head_dim / 2, qd = h->heads * h->head_dim, at = 0;
    LM_TRY(b->gather(b, w->x, h->hidden, s->want, s->n_want, w->x, p->err));
    LM_TRY(b->gather(b, w->xn, h->hidden, s->want, s->n_want, w->xn, p->err));
    for (int64_t i = 0; i < s->n_want; i++) pos[i] = s->pos[s->want[i]];
    int kept = 0;
    for (int i = 0; i < s->n_seqs; i++) {
        int64_t first = at, end = s->seqs[i].row + s->seqs[i].n;
        while (at < s->n_want && s->want[at] < end) at++;
        if (at == first) continue;
        lm_attn_segment g = p->segments[i];
        g.row = first;
        g.n = at - first;
        g.pos = pos + first;
        p->segments[kept++] = g;
    }
    p->n_segments = kept;
    p->rows = s->n_want;
    lm_rope_table(p->m->inv_freq, half, pos, s->n_want, w->cos, w->sin);
    lm_linear_item q = {&l->q, l->q_bias, w->q, qd};
    LM_TRY(b->linear(b, w->xn, h->hidden, p->rows, &q, 1, p->err));
    return b->q_norm_rope(b, &p->shape, w->q, qd, p->rows, l->q_norm, w->cos, w->sin, p->err);
}

static lm_status run_layers(pass *p, const lm_slice *s, int64_t *pos) {
    const lm_hparams *h = &p->m->h;
    lm_workspace *w = p->w;
    lm_backend *b = p->b;
    LM_TRY(b->embed(b, &p->m->embed, s->ids, s->m, w->x, p->err));
    for (int64_t i = 0; i < h->layers; i++) {
        const lm_layer *l = &p->m->layer[i];
        bool cut = i == h->layers - 1 && s->n_want < s->m;
        set_layer(p, i);
        LM_TRY(b->rms_norm(b, w->x, l->attn_norm, (float)h->norm_eps, p->rows, h->hidden, w->xn, p->err));
        LM_TRY(project(p, l, !cut));
        if (cut && s->n_want == 0) return LM_OK;
        if (cut) LM_TRY(keep_wanted(p, s, l, pos));
        LM_TRY(attend(p, l));
        LM_TRY(mlp(p, l));
    }
    return b->rms_norm(b, w->x, p->m->norm, (float)h->norm_eps, p->rows, h->hidden, w->xn, p->err);
}

lm_attn_shape lm_model_attn_shape(const lm_model *model) {
    const lm_hparams *h = &model->h;
    return (lm_attn_shape){.heads = (int32_t)h->heads,
                           .kv_heads = (int32_t)h->kv_heads,
                           .d = (int32_t)h->head_dim,
                           .rope_dims = (int32_t)h->head_dim,
                           .scale = 1.0f / sqrtf((float)h->head_dim),
                           .norm_eps = (float)h->norm_eps};
}

lm_status lm_model_forward(const lm_model *model, lm_workspace *w, const lm_slice *s, lm_error *err) {
    const lm_hparams *h = &model->h;
    pass p = {.m = model, .w = w, .b = model->backend, .rows = s->m, .n_segments = s->n_seqs, .err = err};
    p.shape = lm_model_attn_shape(model);
    if (s->m > w->rows)
        return lm_fail(err, LM_ARG, "slice of %lld rows, room for %lld", (long long)s->m, (long long)w->rows);
    if (s->n_seqs > w->n_segments) {
        lm_attn_segment *more = realloc(w->segments, (size_t)s->n_seqs * sizeof *more);
        if (!more) return lm_fail_nomem(err, (size_t)s->n_seqs * sizeof *more, "segments");
        w->segments = more;
        w->n_segments = s->n_seqs;
    }
    p.segments = w->segments;
    for (int i = 0; i < s->n_seqs; i++)
        p.segments[i] = (lm_attn_segment){.blocks = s->seqs[i].blocks,
                                          .pos = s->pos + s->seqs[i].row,
                                          .row = s->seqs[i].row,
                                          .n = s->seqs[i].n,
                                          .kv_dtype = s->seqs[i].kv_dtype,
                                          .quant = s->seqs[i].quant};
    lm_rope_table(model->inv_freq, h->head_dim / 2, s->pos, s->m, w->cos, w->sin);
    return run_layers(&p, s, w->want_pos);
}

lm_status lm_model_logits(const lm_model *model, const float *states, int64_t n, float *logits, lm_error *err) {
    const lm_linear_item head = {&model->head, NULL, logits, model->h.vocab};
    lm_backend *b = model->backend;
    const lm_weight *first[3] = {&model->layer->k, &model->layer->v, &model->layer->q};
    if (b->linear_next) b->linear_next(b, first, 3, n); /* of the next token */
    return b->linear(b, states, model->h.hidden, n, &head, 1, err);
}
