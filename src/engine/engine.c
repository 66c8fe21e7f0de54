/* SPDX-License-Identifier: MIT
 * engine.c: opening and closing a model, and the facts about it. */
#include "engine/engine.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/fs.h"
#include "kernels/kvq.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ACTIVATION_BYTES ((size_t)88 << 20) /* activations of one slice are planned to stay below this */
#define LOGITS_BYTES ((size_t)16 << 20)     /* logits computed at once */
#define MAX_SLICE 2048
/* Activations of so many rows come from caches and unpacking weights for them costs little. Experts want more: each
 * sees a few percent of them. */
#define DENSE_SLICE 512

lm_engine_options lm_engine_options_default(void) {
    return (lm_engine_options){.device = "cpu", .use_mmap = true};
}

/* ---------------------------------------------------------------- open */

static lm_numerics resolve_numerics(lm_numerics asked, lm_dtype dtype) {
    if (asked != LM_NUMERICS_AUTO) return asked;
    return dtype == LM_DTYPE_F16 ? LM_NUMERICS_F16 : dtype == LM_DTYPE_BF16 ? LM_NUMERICS_BF16 : LM_NUMERICS_F32;
}

static lm_status add_stop_id(lm_engine *e, int32_t id) {
    for (size_t i = 0; i < e->n_stop_ids; i++)
        if (e->stop_ids[i] == id) return LM_OK;
    int32_t *p = realloc(e->stop_ids, (e->n_stop_ids + 1) * sizeof *p);
    if (!p) return LM_NOMEM;
    e->stop_ids = p;
    e->stop_ids[e->n_stop_ids++] = id;
    return LM_OK;
}

static lm_status collect_stop_ids(lm_engine *e, lm_error *err) {
    for (size_t i = 0; i < e->config.n_eos_ids; i++)
        if (add_stop_id(e, e->config.eos_ids[i])) return lm_fail_nomem(err, 4, "stop ids");
    const char *eos = e->tokenizer ? lm_tokenizer_eos_token(e->tokenizer) : NULL;
    int32_t id = eos ? lm_tokenizer_token_id(e->tokenizer, eos) : -1;
    if (id >= 0 && add_stop_id(e, id)) return lm_fail_nomem(err, 4, "stop ids");
    return LM_OK;
}

static lm_status open_tokenizer(lm_engine *e, bool required, lm_error *err) {
    char *file = lm_fs_join(e->path, "tokenizer.json");
    if (!file) return lm_fail_nomem(err, strlen(e->path), "path");
    bool there = lm_fs_exists(file);
    free(file);
    if (!there && !required) return LM_OK;
    return lm_tokenizer_open(e->path, &e->tokenizer, err);
}

static lm_status plan_slices(lm_engine *e, lm_error *err) {
    size_t row = lm_workspace_row_bytes(e->model), activations = ACTIVATION_BYTES, logits = LOGITS_BYTES;
    if (e->options.max_memory > 0 && (size_t)e->options.max_memory / 16 < activations) { /* where cuts fall is free */
        activations = (size_t)e->options.max_memory / 16;
        if (activations / 2 < logits) logits = activations / 2;
    }
    int64_t rows = e->options.max_step_rows;
    if (rows <= 0) {
        rows = (int64_t)(activations / row) / 64 * 64;
        if (rows < 64) rows = 64;
        if (!e->model->h.experts && rows > DENSE_SLICE) rows = DENSE_SLICE;
    }
    if (rows > MAX_SLICE) rows = MAX_SLICE;
    LM_TRY(lm_workspace_create(e->model, rows, &e->work, err));
    size_t n = (size_t)rows;
    e->ids = malloc(n * sizeof *e->ids);
    e->pos = malloc(n * sizeof *e->pos);
    e->want = malloc(n * sizeof *e->want);
    e->wanted = malloc(n * sizeof *e->wanted);
    if (!e->ids || !e->pos || !e->want || !e->wanted) return lm_fail_nomem(err, n * 40, "slice");
    size_t logit_row = (size_t)e->model->h.vocab * sizeof(float);
    e->logit_rows = (int64_t)(logits / logit_row);
    if (e->logit_rows < 1) e->logit_rows = 1;
    if (e->logit_rows > rows) e->logit_rows = rows;
    return LM_OK;
}

static const char *dtype_long(lm_dtype d) {
    return d == LM_DTYPE_F16 ? "float16" : d == LM_DTYPE_BF16 ? "bfloat16" : "float32";
}

static lm_status open_weights(lm_engine *e, lm_error *err) {
    double start = lm_now_seconds();
    lm_checkpoint *checkpoint;
    LM_TRY(lm_checkpoint_open(e->path, e->options.use_mmap, e->options.progress, e->options.progress_user, &checkpoint,
                              err));
    e->fingerprint = lm_checkpoint_fingerprint(checkpoint);
    lm_dtype dtype = lm_model_dtype(checkpoint);
    e->numerics = resolve_numerics(e->options.numerics, dtype);
    e->kv_dtype = e->numerics == LM_NUMERICS_F32 ? LM_DTYPE_F32 : dtype;
    lm_backend_options b = {e->options.threads, e->numerics, e->options.batch_invariant, e->options.max_memory,
                            e->options.pin_threads};
    lm_status s = lm_backend_create(e->options.device, &b, &e->backend, err);
    if (s != LM_OK) {
        lm_checkpoint_close(checkpoint);
        return s;
    }
    LM_TRY(lm_model_open(&e->config, checkpoint, e->backend, &e->model, err));
    e->load_seconds = lm_now_seconds() - start;
    LM_TRY(lm_engine_kv_quant(e, e->options.kv_type, &e->kv_quant, err));
    e->kv_dtype = lm_engine_kv_dtype(e, e->options.kv_type);
    if (e->kv_quant.bits)
        snprintf(e->kv_name, sizeof e->kv_name, "%d bits g%d", (int)e->kv_quant.bits, (int)e->kv_quant.group);
    else
        snprintf(e->kv_name, sizeof e->kv_name, "%s", dtype_long(e->kv_dtype));
    return plan_slices(e, err);
}

static lm_status open_into(lm_engine *e, const char *model, lm_error *err) {
    LM_TRY(lm_model_resolve(model, &e->path, err));
    if (e->options.tokenizer_only) return open_tokenizer(e, true, err);
    LM_TRY(lm_config_load(e->path, &e->config, err));
    e->has_config = true;
    LM_TRY(open_weights(e, err));
    LM_TRY(open_tokenizer(e, false, err));
    LM_TRY(collect_stop_ids(e, err));
    lm_engine_watch_memory(e);
    return LM_OK;
}

lm_status lm_engine_open(const char *model, const lm_engine_options *options, lm_engine **out, lm_error *err) {
    *out = NULL;
    if (!model || !*model) return lm_fail(err, LM_ARG, "model: expected a folder or a repo id, found nothing");
    lm_engine *e = calloc(1, sizeof *e);
    if (!e) return lm_fail_nomem(err, sizeof *e, "engine");
    e->options = options ? *options : lm_engine_options_default();
    pthread_mutex_init(&e->lock, NULL);
    lm_status s = open_into(e, model, err);
    if (s != LM_OK) {
        lm_engine_close(e);
        return s;
    }
    *out = e;
    return LM_OK;
}

void lm_engine_close(lm_engine *e) {
    if (!e) return;
    if (e->backend) {
        lm_engine_trim_blocks(e, 0);
        lm_workspace_destroy(&e->work);
        if (e->logits) e->backend->release(e->backend, LM_MEM_SCRATCH, e->logits, e->logits_bytes);
        lm_model_close(e->model);
        e->backend->destroy(e->backend);
    }
    lm_tokenizer_close(e->tokenizer);
    if (e->has_config) lm_config_free(&e->config);
    free(e->ids);
    free(e->pos);
    free(e->want);
    free(e->wanted);
    free(e->seqs);
    free(e->stop_ids);
    free(e->path);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

/* ---------------------------------------------------------------- memory */

/* What the engine has reserved may not be resident yet, so what is left of the sum is the least that the rest can have.
 * It stays until memory goes that the engine didn't release: only the rest can have let go of that. Mapped files don't
 * count there: the system drops and brings back pages of weights as it likes. */
void lm_rest_follow(lm_rest *rest, int64_t anon, int64_t file, int64_t in_use, int64_t released) {
    const int64_t gone = rest->anon - anon - (released - rest->released);
    if (gone > 0) rest->bytes = rest->bytes > gone ? rest->bytes - gone : 0;
    if (anon + file - in_use > rest->bytes) rest->bytes = anon + file - in_use;
    rest->anon = anon;
    rest->released = released;
}

void lm_engine_watch_memory(lm_engine *e) {
    if (e->options.max_memory <= 0) return;
    int64_t anon, file, ours = 0;
    lm_rss_parts(&anon, &file);
    /* When nothing has run yet, mapped weights and scratch aren't resident at all. */
    if (e->rest.bytes)
        ours = lm_mem_total(e->backend);
    else if (!e->options.use_mmap)
        ours = e->backend->in_use[LM_MEM_WEIGHTS];
    lm_rest_follow(&e->rest, anon, file, ours, e->backend->released);
    int64_t limit = e->options.max_memory - e->options.max_memory / 128 - e->rest.bytes;
    e->backend->limit = limit > 1 ? limit : 1;
}

/* ---------------------------------------------------------------- facts */

static const char *numerics_text(lm_numerics n) {
    static const char *const names[] = {"auto", "f32", "f16", "bf16", "int8"};
    return names[n];
}

void lm_engine_get_info(const lm_engine *e, lm_engine_info *info) {
    memset(info, 0, sizeof *info);
    info->path = e->path;
    info->device = "cpu";
    info->batch_invariant = e->options.batch_invariant;
    info->use_mmap = e->options.use_mmap;
    info->stop_ids = e->stop_ids;
    info->n_stop_ids = e->n_stop_ids;
    info->model_type = info->dtype = info->precision = info->numerics = info->kv_type = "";
    if (!e->model) return;
    const lm_hparams *h = &e->model->h;
    info->model_type = e->config.model_type;
    info->dtype = dtype_long(e->model->dtype);
    info->precision = e->model->precision;
    info->device = e->backend->name;
    info->numerics = numerics_text(e->numerics);
    info->kv_type = e->kv_name;
    info->threads = lm_backend_threads(e->backend);
    info->vocab_size = h->vocab;
    info->hidden_size = h->hidden;
    info->n_layers = h->layers;
    info->max_position_embeddings = h->max_positions;
    info->n_parameters = e->model->n_parameters;
    info->weight_bytes = lm_checkpoint_bytes(e->model->checkpoint);
    info->kv_bytes_per_token = (int64_t)(lm_model_block_bytes(e->model, e->kv_dtype, e->kv_quant) / LM_KV_BLOCK);
    info->load_seconds = e->load_seconds;
    info->weights_fingerprint = e->fingerprint;
}

const lm_tokenizer *lm_engine_get_tokenizer(const lm_engine *engine) {
    return engine->tokenizer;
}

void lm_engine_get_memory(const lm_engine *e, lm_memory_stats *stats) {
    memset(stats, 0, sizeof *stats);
    lm_rss(&stats->rss, &stats->rss_peak);
    lm_rss_parts(&stats->rss_anon, &stats->rss_file);
    if (!e->backend) return;
    stats->weights = e->backend->in_use[LM_MEM_WEIGHTS];
    stats->kv = e->backend->in_use[LM_MEM_KV];
    stats->scratch = e->backend->in_use[LM_MEM_SCRATCH];
    stats->total = lm_mem_total(e->backend);
    stats->peak = e->backend->peak;
    stats->budget = e->options.max_memory > 0 ? e->options.max_memory : 0;
    stats->limit = e->backend->limit > 0 ? e->backend->limit : 0;
}

void lm_engine_reset_peak(lm_engine *e) {
    if (e->backend) e->backend->peak = lm_mem_total(e->backend);
}

lm_status lm_engine_profile(lm_engine *e, bool on, lm_error *err) {
    if (!e->backend || !e->backend->profile) return lm_fail(err, LM_UNSUPPORTED, "this device has no stage clocks");
    pthread_mutex_lock(&e->lock);
    e->backend->profile(e->backend, on);
    pthread_mutex_unlock(&e->lock);
    return LM_OK;
}

size_t lm_engine_get_stages(const lm_engine *e, lm_stage *out, size_t room) {
    return e->backend && e->backend->stages ? e->backend->stages(e->backend, out, room) : 0;
}

lm_dtype lm_engine_kv_dtype(const lm_engine *e, lm_kv_type type) {
    switch (type) {
    case LM_KV_F32: return LM_DTYPE_F32;
    case LM_KV_F16: return LM_DTYPE_F16;
    case LM_KV_BF16: return LM_DTYPE_BF16;
    case LM_KV_AUTO:
    case LM_KV_QUANTIZED: break;
    }
    return e->kv_dtype;
}

lm_status lm_engine_kv_quant(const lm_engine *e, lm_kv_type type, lm_kvq *out, lm_error *err) {
    const int64_t d = e->model->h.head_dim;
    const lm_kvq q = {(int32_t)type >> 8 & 0xff, (int32_t)type & 0xff};
    *out = type == LM_KV_AUTO ? e->kv_quant : (lm_kvq){0, 0};
    if (type < LM_KV_QUANTIZED) return LM_OK;
    if (!lm_kvq_valid((lm_kvq){q.bits, 32}, 32))
        return lm_fail(err, LM_ARG, "quantized keys and values: expected 2, 3, 4, 5, 6 or 8 bits, found %d",
                       (int)q.bits);
    if (q.group != 32 && q.group != 64 && q.group != 128)
        return lm_fail(err, LM_ARG, "quantized keys and values: expected groups of 32, 64 or 128, found %d",
                       (int)q.group);
    if (!lm_kvq_valid(q, d))
        return lm_fail(err, LM_ARG, "quantized keys and values: expected groups that divide head_dim %lld, found %d",
                       (long long)d, (int)q.group);
    *out = q;
    return LM_OK;
}

int64_t lm_engine_plan_kv(const lm_engine *e, int64_t n_tokens, lm_kv_type type) {
    if (!e->model || n_tokens <= 0) return 0;
    int64_t blocks = (n_tokens + LM_KV_BLOCK - 1) / LM_KV_BLOCK;
    lm_kvq quant;
    if (lm_engine_kv_quant(e, type, &quant, NULL) != LM_OK) return 0;
    return blocks * (int64_t)lm_model_block_bytes(e->model, lm_engine_kv_dtype(e, type), quant);
}
