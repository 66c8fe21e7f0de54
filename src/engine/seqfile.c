/* SPDX-License-Identifier: MIT
 * seqfile.c: a sequence in a safetensors file: "tokens" I32 [n]; per layer "L.0" keys and "L.1" values
 * [1, kv_heads, n, head_dim] in the sequence's element type, rows by position (mlx's order, not the blocks' own). */
#include "base/fs.h"
#include "base/half.h"
#include "engine/engine.h"
#include "format/checkpoint.h"
#include "format/st_write.h"
#include <stdlib.h>
#include <string.h>

static size_t head_part(const lm_seq *s) {
    return (size_t)s->engine->model->h.head_dim * LM_KV_BLOCK * lm_dtype_bytes(s->kv_dtype);
}

static char *head_of(const lm_seq *s, int64_t layer, int64_t head, int64_t pos) {
    size_t per_layer = 2 * head_part(s) * (size_t)s->engine->model->h.kv_heads;
    return (char *)s->block_data[pos / LM_KV_BLOCK] + per_layer * (size_t)layer + 2 * head_part(s) * (size_t)head;
}

/* Copies one head's keys (transposed in the block) or values between the blocks and rows [n, d]. */
static void move_rows(const lm_seq *s, int64_t layer, int64_t head, bool values, char *rows, bool to_rows) {
    size_t size = lm_dtype_bytes(s->kv_dtype), d = (size_t)s->engine->model->h.head_dim;
    for (int64_t p = 0; p < s->length; p++) {
        char *base = head_of(s, layer, head, p), *row = rows + (size_t)p * d * size;
        size_t at = (size_t)(p % LM_KV_BLOCK);
        for (size_t e = 0; e < d; e++) {
            char *cell = values ? base + head_part(s) + (at * d + e) * size
                                : base + lm_kv_key_at((int32_t)d, (int32_t)e, (int32_t)at) * size;
            if (to_rows)
                memcpy(row + e * size, cell, size);
            else
                memcpy(cell, row + e * size, size);
        }
    }
}

static lm_st_spec array_spec(const lm_seq *s, const char *name) {
    const lm_hparams *h = &s->engine->model->h;
    return (lm_st_spec){name, s->kv_dtype, 4, {1, h->kv_heads, s->length, h->head_dim}};
}

static lm_status write_arrays(const lm_seq *s, lm_st_writer *w, lm_error *err) {
    const lm_hparams *h = &s->engine->model->h;
    size_t bytes = (size_t)s->length * (size_t)h->head_dim * lm_dtype_bytes(s->kv_dtype);
    char *rows = malloc(bytes ? bytes : 1);
    if (!rows) return lm_fail_nomem(err, bytes, "keys and values");
    lm_status status = lm_st_writer_add(w, s->tokens, (size_t)s->length * sizeof *s->tokens, err);
    for (int64_t i = 0; i < h->layers * 2 * h->kv_heads && status == LM_OK; i++) {
        move_rows(s, i / (2 * h->kv_heads), i % h->kv_heads, i / h->kv_heads % 2, rows, true);
        status = lm_st_writer_add(w, rows, bytes, err);
    }
    free(rows);
    return status;
}

lm_status lm_seq_save(const lm_seq *s, const char *path, lm_error *err) {
    size_t n = (size_t)s->engine->model->h.layers * 2 + 1;
    lm_st_spec *specs = calloc(n, sizeof *specs);
    char(*names)[24] = calloc(n, sizeof *names);
    lm_st_writer *w = NULL;
    lm_status status = specs && names ? LM_OK : lm_fail_nomem(err, n * sizeof *specs, path);
    if (status == LM_OK && s->length == 0) status = lm_fail(err, LM_ARG, "%s: the sequence is empty", path);
    if (status == LM_OK && (s->quant.bits || s->later.bits))
        status = lm_fail(err, LM_UNSUPPORTED, "%s: quantized keys and values cannot be saved", path);
    if (status == LM_OK) {
        specs[0] = (lm_st_spec){"tokens", LM_DTYPE_I32, 1, {s->length}};
        for (size_t i = 1; i < n; i++) {
            snprintf(names[i], sizeof names[i], "%zu.%zu", (i - 1) / 2, (i - 1) % 2);
            specs[i] = array_spec(s, names[i]);
        }
        status = lm_st_writer_create(path, specs, n, &w, err);
    }
    if (status == LM_OK) {
        status = write_arrays(s, w, err);
        if (status == LM_OK)
            status = lm_st_writer_commit(w, err);
        else
            lm_st_writer_abandon(w);
    }
    free(specs);
    free(names);
    return status;
}

static lm_status check_array(const lm_seq *s, const char *path, const lm_st_tensor *t, const char *name, int64_t length,
                             lm_error *err) {
    const lm_hparams *h = &s->engine->model->h;
    if (t && t->n_dims == 4 && t->shape[0] == 1 && t->shape[1] == h->kv_heads && t->shape[2] == length &&
        t->shape[3] == h->head_dim && t->dtype == s->kv_dtype)
        return LM_OK;
    return lm_fail(err, LM_FORMAT, "%s: %s: expected %s [1, %lld, %lld, %lld] as this model has", path, name,
                   lm_dtype_name(s->kv_dtype), (long long)h->kv_heads, (long long)length, (long long)h->head_dim);
}

static lm_status load_arrays(lm_seq *s, const char *path, const lm_st_header *header, const uint8_t *data,
                             const lm_st_tensor *tokens, lm_error *err) {
    const lm_hparams *h = &s->engine->model->h;
    int64_t n = tokens->shape[0];
    for (int64_t i = 0; i < n; i++) {
        int32_t id = (int32_t)lm_load_u32(data + tokens->begin + 4 * i);
        if (id < 0 || id >= h->vocab)
            return lm_fail(err, LM_FORMAT, "%s: tokens[%lld]: id %d is outside the vocabulary", path, (long long)i, id);
    }
    pthread_mutex_lock(&s->engine->lock);
    lm_status status = lm_seq_reserve(s, n, err);
    pthread_mutex_unlock(&s->engine->lock);
    if (status != LM_OK) return status;
    memcpy(s->tokens, data + tokens->begin, (size_t)n * sizeof *s->tokens);
    s->length = n;
    for (int64_t a = 0; a < h->layers * 2; a++) {
        char name[24];
        snprintf(name, sizeof name, "%lld.%lld", (long long)(a / 2), (long long)(a % 2));
        const lm_st_tensor *t = lm_st_find(header, name);
        LM_TRY(check_array(s, path, t, name, n, err));
        size_t head = (size_t)n * (size_t)h->head_dim * lm_dtype_bytes(s->kv_dtype);
        for (int64_t k = 0; k < h->kv_heads; k++) /* only read from */
            move_rows(s, a / 2, k, a % 2, (char *)(uintptr_t)(data + t->begin) + head * (size_t)k, false);
    }
    return LM_OK;
}

lm_status lm_seq_load(lm_engine *engine, const char *path, lm_seq **out, lm_error *err) {
    lm_fs_map map;
    lm_st_header header;
    lm_seq *s = NULL;
    *out = NULL;
    LM_TRY(lm_fs_map_open(path, &map, err));
    lm_status status = lm_st_parse(path, map.data, map.length, map.length, &header, err);
    if (status != LM_OK) {
        lm_fs_map_close(&map);
        return status;
    }
    const lm_st_tensor *tokens = lm_st_find(&header, "tokens"), *first = lm_st_find(&header, "0.0");
    if (!tokens || tokens->dtype != LM_DTYPE_I32 || tokens->n_dims != 1 || tokens->shape[0] < 1 || !first)
        status = lm_fail(err, LM_FORMAT, "%s: not a saved sequence: expected tokens I32 [n] and 0.0", path);
    if (status == LM_OK) status = lm_seq_create(engine, LM_KV_AUTO, &s, err);
    if (status == LM_OK && s->quant.bits)
        status = lm_fail(err, LM_UNSUPPORTED, "%s: quantized keys and values cannot be loaded", path);
    if (status == LM_OK &&
        (first->dtype == LM_DTYPE_F16 || first->dtype == LM_DTYPE_BF16 || first->dtype == LM_DTYPE_F32))
        s->kv_dtype = first->dtype;
    if (status == LM_OK) status = load_arrays(s, path, &header, map.data + header.data_offset, tokens, err);
    lm_st_header_free(&header);
    lm_fs_map_close(&map);
    if (status != LM_OK) {
        lm_seq_destroy(s);
        return status;
    }
    *out = s;
    return LM_OK;
}
