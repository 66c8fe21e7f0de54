/* SPDX-License-Identifier: MIT
 * gguf_out.h: inner contract of the writer from an MLX or Hugging Face folder to one GGUF file.
 * gguf_out.c opens, lays out and streams; gguf_out_plan.c says which tensor becomes what; gguf_out_rows.c turns rows
 * into ggml's blocks; gguf_out_meta.c writes the metadata, gguf_out_vocab.c the tokenizer's part of it. */
#ifndef LM_CONVERT_GGUF_OUT_H
#define LM_CONVERT_GGUF_OUT_H
#include "base/buf.h"
#include "format/checkpoint.h"
#include "format/config.h"
#include "format/gguf.h"
#include "model/arch.h"

/** What is read: everything borrowed by the writer while it runs. */
typedef struct cv_gguf_source {
    const char *folder;
    const lm_config *config;
    const lm_checkpoint *checkpoint;
    lm_hparams h;
    const char *arch; /* as GGUF names it: "llama", "qwen3", "qwen3moe" */
} cv_gguf_source;

/* ---------------------------------------------------------------- rows */

/** One matrix of the source, or a stack of them: floats, affine (bits > 0), or mxfp4, nvfp4, mxfp8 (small). */
typedef struct cv_gguf_matrix {
    const lm_tensor *weight, *scales, *biases;
    int64_t columns; /* unpacked */
    int bits;        /* affine; else 0 */
    bool small;      /* elements are small floats: `format` says which */
    lm_format format;
    int64_t group;
} cv_gguf_matrix;

/** Bytes of a row of `columns` values. */
size_t cv_gguf_row_bytes(uint32_t type, int64_t columns);
/** Row `row` as float32. */
void cv_gguf_row_float(const cv_gguf_matrix *m, int64_t row, float *to);
/** ggml's reference rounding of `n` values to `type` (F32, F16, BF16, Q8_0, Q4_0, Q4_1). False if a value or scale is
 *  not finite there. */
bool cv_gguf_encode(uint32_t type, const float *from, int64_t n, uint8_t *to);
/** Row `row` with its codes kept: scales and biases become float16. False if one is not finite there. */
bool cv_gguf_row_codes(const cv_gguf_matrix *m, uint32_t type, int64_t row, uint8_t *to);
/** One element of a float tensor. */
float cv_gguf_float_at(const lm_tensor *t, int64_t i);

/* ---------------------------------------------------------------- the plan */

/** How a row gets into the file. */
typedef enum cv_gguf_how { HOW_COPY, HOW_CODES, HOW_ENCODE, HOW_VALUES } cv_gguf_how;

typedef struct cv_gguf_out_tensor {
    char *name;
    int n_dims;
    int64_t shape[3];     /* as in the file: fastest first */
    cv_gguf_matrix *part; /* [n_parts]: one, or one per expert */
    int64_t n_parts;
    uint32_t type;
    cv_gguf_how how;
    bool exact;    /* no value changes */
    int64_t heads; /* > 0: rows go to rotary order, head by head */
    float *values; /* HOW_VALUES: made here, not in the source */
    uint64_t bytes, offset;
} cv_gguf_out_tensor;

typedef struct cv_gguf_plan {
    const cv_gguf_source *source;
    cv_gguf_out_tensor *tensors;
    size_t n_tensors, capacity;
    uint64_t bytes; /* of the data section, padding included */
    int file_type;  /* general.file_type: of most weights */
} cv_gguf_plan;

/** Finds every tensor, checks its shape and decides types. Every tensor of the source must be used. */
lm_status cv_gguf_plan_make(const cv_gguf_source *s, lm_gguf_out_type type, cv_gguf_plan *out, lm_error *err);
void cv_gguf_plan_free(cv_gguf_plan *plan);
/** Source row of row `row` of a tensor, counted through its whole stack. */
int64_t cv_gguf_source_row(const cv_gguf_out_tensor *t, int64_t row);

/* ---------------------------------------------------------------- metadata */

/** Metadata pairs as they go to the file. */
typedef struct cv_gguf_pairs {
    lm_buf bytes;
    uint64_t count;
} cv_gguf_pairs;
void cv_gguf_put(lm_buf *b, uint64_t v, int bytes);
void cv_gguf_put_text(lm_buf *b, const char *data, size_t length);
void cv_gguf_pair_u32(cv_gguf_pairs *p, const char *key, uint32_t v);
void cv_gguf_pair_f32(cv_gguf_pairs *p, const char *key, float v);
void cv_gguf_pair_bool(cv_gguf_pairs *p, const char *key, bool v);
void cv_gguf_pair_string(cv_gguf_pairs *p, const char *key, const char *v);
/** The head of an array of `count` items of `item`; the items follow with cv_gguf_put. */
void cv_gguf_pair_array(cv_gguf_pairs *p, const char *key, lm_gguf_type item, uint64_t count);

/** Refuses what GGUF's architectures cannot say, names the architecture. */
lm_status cv_gguf_source_check(cv_gguf_source *s, lm_error *err);
/** Divisors of Llama 3's frequency scaling, [head_dim / 2]. */
void cv_gguf_rope_factors(const lm_hparams *h, float *out);
/** Adds everything: general, the architecture, the tokenizer. `name` is the model's. */
lm_status cv_gguf_meta_add(const cv_gguf_source *s, const cv_gguf_plan *plan, const char *name, cv_gguf_pairs *p,
                           lm_error *err);
/** Adds tokenizer.*. */
lm_status cv_gguf_vocab_add(const cv_gguf_source *s, cv_gguf_pairs *p, lm_error *err);
#endif
