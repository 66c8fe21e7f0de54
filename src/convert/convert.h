/* SPDX-License-Identifier: MIT
 * convert.h: inner contract of the converter from GGUF (llama architecture) to an MLX folder.
 * llama.c reads metadata and writes configs, tensors.c plans and streams weights, tokenizer.c rebuilds tokenizer files,
 * gguf.c makes the folder appear at once or not at all. */
#ifndef LM_CONVERT_CONVERT_H
#define LM_CONVERT_CONVERT_H
#include "base/buf.h"
#include "base/json.h"
#include "base/types.h"
#include "format/gguf.h"

#define LM_CONVERT_MAX_EOS 3

typedef struct cv_llama_params {
    int64_t layers, context, hidden, ffn, heads, kv_heads, head_dim, vocab;
    float eps, rope_theta;
    enum { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3 } rope;
    float rope_factor;
    int64_t bos, pad, unk; /* -1: none */
    int64_t eos[LM_CONVERT_MAX_EOS];
    int n_eos;
    bool attention_bias, mlp_bias, tied;
} cv_llama_params;

/** Reads and checks the metadata and which optional tensors there are. */
lm_status cv_llama_params_read(const lm_gguf *g, cv_llama_params *out, lm_error *err);

/** What becomes of a tensor's bytes. */
typedef enum part { PART_COPY, PART_NARROW, PART_WORDS, PART_SCALES, PART_BIASES } part;

typedef struct out_tensor {
    const lm_gguf_tensor *source;
    char *name;
    part part;
    lm_dtype dtype;
    int n_dims;
    int64_t shape[2]; /* [rows, columns] or [n] */
    int64_t heads;    /* > 0: rows lie in rotary order and go back to halves, head by head */
} out_tensor;

typedef struct out_module {
    char *path;
    int bits; /* of a quantized matrix; groups are 32 */
} out_module;

typedef struct cv_llama_plan {
    const lm_gguf *gguf;
    out_tensor *tensors; /* in the order of writing */
    size_t n_tensors, capacity;
    out_module *modules; /* the quantized ones, in the same order */
    size_t n_modules;
    lm_dtype main;    /* F16, BF16, F32: torch_dtype of the result */
    int default_bits; /* 0: nothing is quantized */
    int64_t parameters;
    uint64_t bytes;
} cv_llama_plan;

typedef struct cv_llama_progress {
    bool (*call)(void *user, int64_t done, int64_t total);
    void *user;
} cv_llama_progress;

/** Finds every tensor of the model, checks its shape, and decides types so that nothing is lost. Every tensor of the
 * file must be used. */
lm_status cv_llama_plan_make(const lm_gguf *g, const cv_llama_params *p, cv_llama_plan *out, lm_error *err);
void cv_llama_plan_free(cv_llama_plan *plan);
/** Writes FOLDER/model.safetensors and its index. */
lm_status cv_llama_plan_write(const cv_llama_plan *plan, const char *folder, const cv_llama_progress *progress,
                              lm_error *err);

/** Write FOLDER/config.json and generation_config.json. */
lm_status cv_llama_configs_write(const cv_llama_params *p, const cv_llama_plan *plan, const char *folder,
                                 lm_error *err);
/** Writes FOLDER/tokenizer.json and tokenizer_config.json. */
lm_status cv_llama_tokenizer_write(const lm_gguf *g, const cv_llama_params *p, const char *folder, lm_error *err);

/** The decimal number of fewest digits that is this float32 again (1e-05, not 9.99999975e-06). */
double cv_shortest(float f);
/** Dumps with `indent`, no final newline, and writes FOLDER/NAME. Takes `value` (also on failure; NULL: out of memory).
 */
lm_status cv_write_json(const char *folder, const char *name, json_t *value, size_t indent, lm_error *err);
#endif
