/* SPDX-License-Identifier: MIT
 * engine.h: inside of lm_engine and lm_seq. An engine's calls are serialised by its lock; sequences belong to their
 * engine. */
#ifndef LM_ENGINE_ENGINE_H
#define LM_ENGINE_ENGINE_H
#include "model/model.h"
#include <pthread.h>

/** LM_KV_BLOCK positions of keys and values of all layers, shared by reference count (under the engine's lock). */
typedef struct lm_kv_block {
    void *data;
    size_t bytes;
    int64_t references;
    lm_dtype dtype;
    lm_kvq quant;
    struct lm_kv_block *next_free;
} lm_kv_block;

struct lm_seq {
    lm_engine *engine;
    lm_dtype kv_dtype; /* of elements; quantized: of scales and biases */
    lm_kvq quant;      /* bits 0: elements as they are */
    lm_kvq later;      /* what it becomes before the next step, once it holds later_start positions; bits 0: nothing */
    int64_t later_start;
    int64_t length;
    int32_t *tokens; /* [length] */
    size_t tokens_capacity;
    lm_kv_block **blocks;
    void **block_data; /* the blocks' data pointers, as the model reads them */
    size_t n_blocks, blocks_capacity;
};

/** What the process holds beside the engine, as far as the system's sums tell. */
typedef struct lm_rest {
    int64_t bytes;          /* resident and not the engine's: at least that */
    int64_t anon, released; /* when it was looked at last */
} lm_rest;

struct lm_engine {
    lm_engine_options options;
    char *path;
    lm_config config;
    bool has_config;
    lm_tokenizer *tokenizer; /* NULL if the folder has no tokenizer.json */
    lm_backend *backend;
    lm_model *model;
    lm_numerics numerics;
    lm_dtype kv_dtype;
    lm_kvq kv_quant;  /* of sequences that follow the engine */
    char kv_name[24]; /* "bfloat16", "8 bits g64" */
    lm_workspace work;
    float *logits; /* [logit_rows][vocab] */
    size_t logits_bytes;
    int64_t logit_rows;
    /* a slice's arrays, work.rows long */
    int32_t *ids;
    int64_t *pos, *want;
    struct lm_wanted *wanted;
    lm_slice_seq *seqs;
    size_t seqs_capacity;
    lm_kv_block *free_blocks;
    int64_t n_free_blocks, n_sequences;
    int32_t *stop_ids;
    size_t n_stop_ids;
    double load_seconds;
    lm_rest rest;
    uint64_t fingerprint;
    pthread_mutex_t lock;
};

/** Where one wanted position of a slice goes. */
typedef struct lm_wanted {
    size_t row, index; /* rows[row].want[index] */
} lm_wanted;

/** Makes positions [length, length+extra) of seq writable: allocates blocks, copies shared ones. Call with the lock. */
lm_status lm_seq_reserve(lm_seq *seq, int64_t extra, lm_error *err);
/** Appends tokens whose keys and values are stored. Call with the lock, after lm_seq_reserve. */
void lm_seq_commit(lm_seq *seq, const int32_t *tokens, size_t n);
/** Under options.max_memory: sets the back end's limit to what the rest of the process leaves. */
void lm_engine_watch_memory(lm_engine *engine);
/** Takes a look: resident memory of its own and of mapped files, bytes the engine has in use (not all of which need be
 *  resident), and those it has released ever. */
void lm_rest_follow(lm_rest *rest, int64_t anon, int64_t file, int64_t in_use, int64_t released);
/** Gives all unused blocks back to the device. */
void lm_engine_trim_blocks(lm_engine *engine, int64_t keep);
lm_dtype lm_engine_kv_dtype(const lm_engine *engine, lm_kv_type type);
/** The quantization that `type` asks for (AUTO: the engine's). LM_ARG: one that this model's heads can't have. */
lm_status lm_engine_kv_quant(const lm_engine *engine, lm_kv_type type, lm_kvq *out, lm_error *err);
/** Quantizes what seq holds, if lm_seq_quantize asked for it and its time has come. Call with the lock. On failure
 * nothing has changed. */
lm_status lm_seq_settle(lm_seq *seq, lm_error *err);
#endif
