/* SPDX-License-Identifier: MIT
 * seq.c: sequences: blocks of keys and values by reference, copied when a shared one is written. */
#include "engine/engine.h"
#include <stdlib.h>
#include <string.h>

#define KEEP_FREE_BLOCKS 4 /* freed blocks kept for the next sequence: fresh pages are dear */

/* ---------------------------------------------------------------- blocks (lock held) */

static lm_status block_create(lm_engine *e, lm_dtype dtype, lm_kvq quant, lm_kv_block **out, lm_error *err) {
    for (lm_kv_block **p = &e->free_blocks; *p; p = &(*p)->next_free)
        if ((*p)->dtype == dtype && (*p)->quant.bits == quant.bits && (*p)->quant.group == quant.group) {
            *out = *p;
            *p = (*out)->next_free;
            (*out)->next_free = NULL;
            (*out)->references = 1;
            e->n_free_blocks--;
            return LM_OK;
        }
    lm_engine_trim_blocks(e, 0); /* of another type: make room */
    lm_kv_block *b = calloc(1, sizeof *b);
    if (!b) return lm_fail_nomem(err, sizeof *b, "key/value block");
    b->bytes = lm_model_block_bytes(e->model, dtype, quant);
    lm_status s = e->backend->alloc(e->backend, LM_MEM_KV, b->bytes, "keys and values", &b->data, err);
    if (s != LM_OK) {
        free(b);
        return s;
    }
    b->references = 1;
    b->dtype = dtype;
    b->quant = quant;
    *out = b;
    return LM_OK;
}

void lm_engine_trim_blocks(lm_engine *e, int64_t keep) {
    while (e->free_blocks && e->n_free_blocks > keep) {
        lm_kv_block *b = e->free_blocks;
        e->free_blocks = b->next_free;
        e->n_free_blocks--;
        e->backend->release(e->backend, LM_MEM_KV, b->data, b->bytes);
        free(b);
    }
}

static void block_release(lm_engine *e, lm_kv_block *b) {
    if (--b->references > 0) return;
    b->next_free = e->free_blocks;
    e->free_blocks = b;
    e->n_free_blocks++;
    const int64_t limit = e->backend->limit; /* near it, freed blocks are wanted elsewhere */
    lm_engine_trim_blocks(e, limit > 0 && lm_mem_total(e->backend) > limit / 4 * 3 ? 0 : KEEP_FREE_BLOCKS);
}

static lm_status grow_tokens(lm_seq *s, int64_t length, lm_error *err) {
    if ((size_t)length <= s->tokens_capacity) return LM_OK;
    size_t cap = s->tokens_capacity ? s->tokens_capacity : 256;
    while (cap < (size_t)length) cap *= 2;
    int32_t *p = realloc(s->tokens, cap * sizeof *p);
    if (!p) return lm_fail_nomem(err, cap * sizeof *p, "tokens");
    s->tokens = p;
    s->tokens_capacity = cap;
    return LM_OK;
}

static lm_status grow_blocks(lm_seq *s, size_t n, lm_error *err) {
    if (n <= s->blocks_capacity) return LM_OK;
    size_t cap = s->blocks_capacity ? s->blocks_capacity : 8;
    while (cap < n) cap *= 2;
    lm_kv_block **p = realloc(s->blocks, cap * sizeof *p);
    if (p) s->blocks = p;
    void **d = realloc(s->block_data, cap * sizeof *d);
    if (d) s->block_data = d;
    if (!p || !d) return lm_fail_nomem(err, cap * sizeof *p, "block list");
    s->blocks_capacity = cap;
    return LM_OK;
}

/* The block that holds the first new position may be shared: it gets a copy of its own. */
static lm_status own_last_block(lm_seq *s, lm_error *err) {
    size_t at = (size_t)(s->length / LM_KV_BLOCK);
    if (at >= s->n_blocks || s->blocks[at]->references == 1) return LM_OK;
    lm_engine *e = s->engine;
    lm_kv_block *copy;
    LM_TRY(block_create(e, s->kv_dtype, s->quant, &copy, err));
    e->backend->copy(e->backend, copy->data, s->blocks[at]->data, copy->bytes);
    block_release(e, s->blocks[at]);
    s->blocks[at] = copy;
    s->block_data[at] = copy->data;
    return LM_OK;
}

static lm_status quantize_block(lm_seq *s, size_t at, lm_kv_block **out, lm_error *err) {
    lm_engine *e = s->engine;
    const int64_t held = s->length - (int64_t)at * LM_KV_BLOCK;
    const lm_attn_shape shape = lm_model_attn_shape(e->model);
    LM_TRY(block_create(e, s->kv_dtype, s->later, out, err));
    return e->backend->kv_quantize(e->backend, &shape, e->model->h.layers, s->later, s->kv_dtype, s->block_data[at],
                                   (*out)->data, (int32_t)(held < LM_KV_BLOCK ? held : LM_KV_BLOCK), err);
}

lm_status lm_seq_settle(lm_seq *s, lm_error *err) {
    if (!s->later.bits || s->length < s->later_start || s->length == 0) return LM_OK;
    const size_t n = (size_t)((s->length + LM_KV_BLOCK - 1) / LM_KV_BLOCK);
    lm_kv_block **fresh = calloc(n, sizeof *fresh);
    if (!fresh) return lm_fail_nomem(err, n * sizeof *fresh, "block list");
    lm_status status = LM_OK;
    for (size_t i = 0; status == LM_OK && i < n; i++) status = quantize_block(s, i, &fresh[i], err);
    for (size_t i = 0; status != LM_OK && i < n; i++)
        if (fresh[i]) block_release(s->engine, fresh[i]);
    while (status == LM_OK && s->n_blocks > n) block_release(s->engine, s->blocks[--s->n_blocks]);
    for (size_t i = 0; status == LM_OK && i < n; i++) {
        block_release(s->engine, s->blocks[i]);
        s->blocks[i] = fresh[i];
        s->block_data[i] = fresh[i]->data;
    }
    if (status == LM_OK) {
        s->quant = s->later, s->later = (lm_kvq){0, 0};
        lm_engine_trim_blocks(s->engine, 0); /* smaller memory is what was asked for */
    }
    free(fresh);
    return status;
}

lm_status lm_seq_reserve(lm_seq *s, int64_t extra, lm_error *err) {
    if (extra <= 0) return LM_OK;
    if (s->length > ((int64_t)1 << 31) - extra)
        return lm_fail(err, LM_ARG, "sequence: %lld positions, at most 2^31", (long long)(s->length + extra));
    LM_TRY(lm_seq_settle(s, err));
    int64_t length = s->length + extra;
    size_t need = (size_t)((length + LM_KV_BLOCK - 1) / LM_KV_BLOCK);
    LM_TRY(grow_tokens(s, length, err));
    LM_TRY(grow_blocks(s, need, err));
    LM_TRY(own_last_block(s, err));
    while (s->n_blocks < need) {
        lm_kv_block *b;
        LM_TRY(block_create(s->engine, s->kv_dtype, s->quant, &b, err));
        s->block_data[s->n_blocks] = b->data;
        s->blocks[s->n_blocks++] = b;
    }
    return LM_OK;
}

void lm_seq_commit(lm_seq *s, const int32_t *tokens, size_t n) {
    memcpy(s->tokens + s->length, tokens, n * sizeof *tokens);
    s->length += (int64_t)n;
}

/* ---------------------------------------------------------------- public */

lm_status lm_seq_create(lm_engine *engine, lm_kv_type type, lm_seq **out, lm_error *err) {
    *out = NULL;
    if (!engine->model) return lm_fail(err, LM_ARG, "sequence: the engine was opened without weights");
    lm_kvq quant;
    LM_TRY(lm_engine_kv_quant(engine, type, &quant, err));
    lm_seq *s = calloc(1, sizeof *s);
    if (!s) return lm_fail_nomem(err, sizeof *s, "sequence");
    s->engine = engine;
    s->kv_dtype = lm_engine_kv_dtype(engine, type);
    s->quant = quant;
    *out = s;
    return LM_OK;
}

lm_status lm_seq_quantize(lm_seq *s, lm_kv_type type, int64_t start, lm_error *err) {
    lm_kvq quant;
    LM_TRY(lm_engine_kv_quant(s->engine, type, &quant, err));
    if (!quant.bits) return lm_fail(err, LM_ARG, "quantize: expected LM_KV_AFFINE of some bits and group");
    if (s->quant.bits)
        return lm_fail(err, LM_ARG, "quantize: the sequence has keys and values of %d bits already",
                       (int)s->quant.bits);
    s->later = quant;
    s->later_start = start;
    return LM_OK;
}

static void drop_blocks(lm_seq *s, size_t keep) {
    pthread_mutex_lock(&s->engine->lock);
    while (s->n_blocks > keep) block_release(s->engine, s->blocks[--s->n_blocks]);
    pthread_mutex_unlock(&s->engine->lock);
}

void lm_seq_destroy(lm_seq *s) {
    if (!s) return;
    drop_blocks(s, 0);
    free(s->tokens);
    free(s->blocks);
    free(s->block_data);
    free(s);
}

lm_status lm_seq_fork(const lm_seq *seq, int64_t n_tokens, lm_seq **out, lm_error *err) {
    *out = NULL;
    if (n_tokens < 0 || n_tokens > seq->length)
        return lm_fail(err, LM_ARG, "fork: %lld positions of a sequence of %lld", (long long)n_tokens,
                       (long long)seq->length);
    lm_seq *s = calloc(1, sizeof *s);
    if (!s) return lm_fail_nomem(err, sizeof *s, "sequence");
    s->engine = seq->engine;
    s->kv_dtype = seq->kv_dtype;
    s->quant = seq->quant;
    s->later = seq->later;
    s->later_start = seq->later_start;
    size_t need = (size_t)((n_tokens + LM_KV_BLOCK - 1) / LM_KV_BLOCK);
    lm_status status = grow_tokens(s, n_tokens, err);
    if (status == LM_OK) status = grow_blocks(s, need, err);
    if (status != LM_OK) {
        lm_seq_destroy(s);
        return status;
    }
    pthread_mutex_lock(&s->engine->lock);
    for (size_t i = 0; i < need; i++) {
        s->blocks[i] = seq->blocks[i];
        s->block_data[i] = seq->block_data[i];
        s->blocks[i]->references++;
    }
    s->n_blocks = need;
    pthread_mutex_unlock(&s->engine->lock);
    if (n_tokens) memcpy(s->tokens, seq->tokens, (size_t)n_tokens * sizeof *s->tokens);
    s->length = n_tokens;
    *out = s;
    return LM_OK;
}

lm_status lm_seq_trim(lm_seq *s, int64_t n_tokens, lm_error *err) {
    if (n_tokens < 0 || n_tokens > s->length)
        return lm_fail(err, LM_ARG, "trim: to %lld positions of a sequence of %lld", (long long)n_tokens,
                       (long long)s->length);
    s->length = n_tokens;
    drop_blocks(s, (size_t)((n_tokens + LM_KV_BLOCK - 1) / LM_KV_BLOCK));
    return LM_OK;
}

int64_t lm_seq_length(const lm_seq *seq) {
    return seq->length;
}
const int32_t *lm_seq_tokens(const lm_seq *seq) {
    return seq->tokens;
}
