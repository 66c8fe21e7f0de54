/* SPDX-License-Identifier: MIT
 * step.c: the engine's one call. All rows' tokens are laid end to end and computed in slices of at most work.rows rows;
 * a slice may hold the end of one row's tokens and the beginning of the next's. Every op is row-wise, so where the cuts
 * fall changes nothing. */
#include "engine/engine.h"
#include <stdlib.h>
#include <string.h>

#define MAX_ROWS 4096

static lm_status check_row(const lm_engine *e, const lm_row *rows, size_t r, lm_error *err) {
    const lm_row *row = &rows[r];
    if (!row->seq || row->seq->engine != e)
        return lm_fail(err, LM_ARG, "step: row %zu: not a sequence of this engine", r);
    if (row->n_tokens == 0) return lm_fail(err, LM_ARG, "step: row %zu: no tokens", r);
    for (size_t i = 0; i < row->n_tokens; i++)
        if (row->tokens[i] < 0 || row->tokens[i] >= e->model->h.vocab)
            return lm_fail(err, LM_ARG, "step: row %zu: token id %d at %zu, expected 0 to %lld", r, row->tokens[i], i,
                           (long long)e->model->h.vocab - 1);
    for (size_t i = 0; i < row->n_want; i++) {
        if (row->want[i] >= row->n_tokens || (i && row->want[i] <= row->want[i - 1]))
            return lm_fail(err, LM_ARG, "step: row %zu: wanted positions must ascend below %zu", r, row->n_tokens);
        if (row->targets && (row->targets[i] < 0 || row->targets[i] >= e->model->h.vocab))
            return lm_fail(err, LM_ARG, "step: row %zu: target id %d is outside the vocabulary", r, row->targets[i]);
    }
    if ((row->sampler && row->n_want && !row->sampled) || (row->targets && !row->target_logprob))
        return lm_fail(err, LM_ARG, "step: row %zu: no room for sampled ids or target log-probabilities", r);
    for (size_t p = 0; p < r; p++)
        if (rows[p].seq == row->seq) return lm_fail(err, LM_ARG, "step: rows %zu and %zu name one sequence", p, r);
    return LM_OK;
}

/* Where the next slice begins. */
typedef struct cursor {
    size_t row, token, want;
} cursor;

static lm_status room_for_seqs(lm_engine *e, size_t n, lm_error *err) {
    if (n <= e->seqs_capacity) return LM_OK;
    lm_slice_seq *p = realloc(e->seqs, n * sizeof *p);
    if (!p) return lm_fail_nomem(err, n * sizeof *p, "slice");
    e->seqs = p;
    e->seqs_capacity = n;
    return LM_OK;
}

/* Fills the slice from the cursor on and moves the cursor. */
static void fill_slice(lm_engine *e, const lm_row *rows, size_t n_rows, cursor *c, lm_slice *s) {
    *s = (lm_slice){.ids = e->ids, .pos = e->pos, .seqs = e->seqs, .want = e->want};
    while (c->row < n_rows && s->m < e->work.rows) {
        const lm_row *row = &rows[c->row];
        int64_t left = (int64_t)(row->n_tokens - c->token), room = e->work.rows - s->m;
        int64_t n = left < room ? left : room;
        e->seqs[s->n_seqs++] = (lm_slice_seq){row->seq->block_data, row->seq->kv_dtype, row->seq->quant, s->m, n};
        for (int64_t i = 0; i < n; i++) {
            e->ids[s->m + i] = row->tokens[c->token + (size_t)i];
            e->pos[s->m + i] = row->seq->length + (int64_t)c->token + i;
        }
        size_t end = c->token + (size_t)n;
        for (; c->want < row->n_want && row->want[c->want] < end; c->want++) {
            e->want[s->n_want] = s->m + (int64_t)(row->want[c->want] - c->token);
            e->wanted[s->n_want++] = (lm_wanted){c->row, c->want};
        }
        s->m += n;
        c->token = end;
        if (end == row->n_tokens) *c = (cursor){c->row + 1, 0, 0};
    }
}

static lm_sample_item item_of(const lm_engine *e, const lm_row *rows, const lm_wanted *w, int64_t logits_row) {
    const lm_row *row = &rows[w->row];
    size_t i = w->index;
    return (lm_sample_item){.row = logits_row,
                            .sampler = row->sampler,
                            .id = row->sampler ? &row->sampled[i] : NULL,
                            .logprob = row->sampler && row->sampled_logprob ? &row->sampled_logprob[i] : NULL,
                            .target = row->targets ? row->targets[i] : 0,
                            .target_logprob = row->targets ? &row->target_logprob[i] : NULL,
                            .top_gap = row->top_gap ? &row->top_gap[i] : NULL,
                            .logits = row->logits ? row->logits + i * (size_t)e->model->h.vocab : NULL};
}

static lm_status finish_wanted(lm_engine *e, const lm_row *rows, const lm_slice *s, lm_error *err) {
    int64_t vocab = e->model->h.vocab;
    for (int64_t at = 0; at < s->n_want; at += e->logit_rows) {
        int64_t n = s->n_want - at < e->logit_rows ? s->n_want - at : e->logit_rows;
        size_t bytes = (size_t)n * (size_t)vocab * sizeof(float);
        if (bytes > e->logits_bytes) {
            if (e->logits) e->backend->release(e->backend, LM_MEM_SCRATCH, e->logits, e->logits_bytes);
            e->logits = NULL;
            e->logits_bytes = 0;
            void *memory;
            LM_TRY(e->backend->alloc(e->backend, LM_MEM_SCRATCH, bytes, "logits", &memory, err));
            e->logits = memory;
            e->logits_bytes = bytes;
        }
        LM_TRY(lm_model_logits(e->model, e->work.xn + at * e->model->h.hidden, n, e->logits, err));
        for (int64_t i = 0; i < n; i++) {
            lm_sample_item item = item_of(e, rows, &e->wanted[at + i], i);
            LM_TRY(e->backend->sample(e->backend, e->logits, vocab, &item, 1, err));
        }
    }
    return LM_OK;
}

static lm_status step_locked(lm_engine *e, lm_row *rows, size_t n_rows, const volatile int *cancel, lm_error *err) {
    LM_TRY(room_for_seqs(e, n_rows, err));
    for (size_t r = 0; r < n_rows; r++) LM_TRY(check_row(e, rows, r, err));
    for (size_t r = 0; r < n_rows; r++) LM_TRY(lm_seq_reserve(rows[r].seq, (int64_t)rows[r].n_tokens, err));
    cursor c = {0, 0, 0};
    while (c.row < n_rows) {
        if (cancel && *cancel) return lm_fail(err, LM_CANCELLED, "cancelled");
        lm_slice s;
        fill_slice(e, rows, n_rows, &c, &s);
        LM_TRY(lm_model_forward(e->model, &e->work, &s, err));
        LM_TRY(finish_wanted(e, rows, &s, err));
    }
    for (size_t r = 0; r < n_rows; r++) lm_seq_commit(rows[r].seq, rows[r].tokens, rows[r].n_tokens);
    return LM_OK;
}

lm_status lm_step(lm_engine *e, lm_row *rows, size_t n_rows, const volatile int *cancel, lm_error *err) {
    if (!e->model) return lm_fail(err, LM_ARG, "step: the engine was opened without weights");
    if (n_rows == 0) return LM_OK;
    if (n_rows > MAX_ROWS) return lm_fail(err, LM_ARG, "step: %zu rows, at most %d", n_rows, MAX_ROWS);
    pthread_mutex_lock(&e->lock);
    lm_status s = step_locked(e, rows, n_rows, cancel, err);
    lm_engine_watch_memory(e);
    pthread_mutex_unlock(&e->lock);
    return s;
}

/* ---------------------------------------------------------------- decode */

static bool is_stop(const int32_t *stop, size_t n, int32_t id) {
    for (size_t i = 0; i < n; i++)
        if (stop[i] == id) return true;
    return false;
}

lm_status lm_decode(lm_engine *e, lm_decode_row *rows, size_t n_rows, size_t n, const int32_t *stop, size_t n_stop,
                    const volatile int *cancel, lm_error *err) {
    static const uint32_t first = 0;
    lm_row *step = calloc(n_rows ? n_rows : 1, sizeof *step);
    size_t *from = calloc(n_rows ? n_rows : 1, sizeof *from);
    bool *done = calloc(n_rows ? n_rows : 1, sizeof *done);
    lm_status s = LM_OK;
    if (!step || !from || !done) s = lm_fail_nomem(err, n_rows * sizeof *step, "decode");
    for (size_t r = 0; r < n_rows && s == LM_OK; r++) {
        rows[r].n_out = 0;
        if (!rows[r].sampler || !rows[r].out) s = lm_fail(err, LM_ARG, "decode: row %zu: no sampler or no room", r);
    }
    for (size_t t = 0; t < n && s == LM_OK; t++) {
        size_t active = 0;
        for (size_t r = 0; r < n_rows; r++) {
            if (done[r]) continue;
            lm_decode_row *d = &rows[r];
            from[active] = r;
            step[active++] = (lm_row){.seq = d->seq,
                                      .tokens = &d->token,
                                      .n_tokens = 1,
                                      .want = &first,
                                      .n_want = 1,
                                      .sampler = d->sampler,
                                      .sampled = &d->out[t],
                                      .sampled_logprob = d->out_logprob ? &d->out_logprob[t] : NULL};
        }
        if (!active) break;
        s = lm_step(e, step, active, cancel, err);
        for (size_t a = 0; a < active && s == LM_OK; a++) {
            lm_decode_row *d = &rows[from[a]];
            d->token = d->out[t];
            d->n_out = t + 1;
            done[from[a]] = is_stop(stop, n_stop, d->token);
        }
    }
    free(step);
    free(from);
    free(done);
    return s;
}
