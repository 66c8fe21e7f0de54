/* SPDX-License-Identifier: MIT
 * plan.h: inner contract of the converter from safetensors folders (Hugging Face or MLX) to an MLX folder.
 * families.c knows which tensors a model has and in which order; plan.c finds them in the source and lays out the
 * shards; recipe.c decides what is quantized and how; rows.c reads a slice of a source tensor as numbers; shards.c
 * writes; partial.c owns the temporary folder and its journal; card.c writes the small files; source.c ties them
 * together. */
#ifndef LM_CONVERT_PLAN_H
#define LM_CONVERT_PLAN_H
#include "base/buf.h"
#include "base/json.h"
#include "base/types.h"
#include "convert/names.h"
#include "format/checkpoint.h"
#include "format/config.h"
#include "format/st_write.h"
#include "kernels/quantize.h"

/* ---------------------------------------------------------------- families.c */

/** What a config says about the tensors: their sizes, and which layers have experts. */
typedef struct cv_dims {
    cv_sizes sizes;
    int64_t layers, sparse_step;
    bool *dense; /* [layers] or NULL: layers without experts by mlp_only_layers */
} cv_dims;

struct cv_family;
/** The family of a model_type, or an error that lists those that can be converted. */
lm_status cv_family_find(const lm_config *config, const struct cv_family **out, lm_error *err);
/** Reads and checks the sizes. cv_dims_free afterwards, also after a failure. */
lm_status cv_dims_read(const struct cv_family *family, const lm_config *config, cv_dims *out, lm_error *err);
void cv_dims_free(cv_dims *dims);

enum { CV_LINEAR = 1, CV_EXPERTS = 2 }; /* what may be quantized; what is a stack of experts */
/** One tensor of the model as mlx names it: PATH.LEAF with n_dims sizes. `unstacked` (experts) is a pattern with %lld
 * for the expert, else empty. */
typedef struct cv_slot {
    char path[160], unstacked[160];
    const char *leaf; /* "weight", "bias" */
    int n_dims;
    int64_t shape[3];
    unsigned flags;
} cv_slot;
/** Calls fn for every tensor in the order of mlx-lm's modules, which decides where shards are cut. */
lm_status cv_family_each(const struct cv_family *family, const cv_dims *dims,
                         lm_status (*fn)(void *user, const cv_slot *slot, lm_error *err), void *user, lm_error *err);
/** True for names that the family's sanitize step drops. */
bool cv_family_drops(const struct cv_family *family, const cv_dims *dims, const char *name);
/** True if the family's own rule quantizes this path with 8 bits in groups of 64 (routers). */
bool cv_family_is_router(const struct cv_family *family, const char *path);
/** Bytes that mlx-lm counts per model beside its tensors (rotary tables), for the line on bits per weight. */
int64_t cv_family_extra_bytes(const struct cv_family *family, const cv_dims *dims, const lm_config *config);

/* ---------------------------------------------------------------- plan.c */

/** One source tensor of an item: floats; float8 with block scales; or packed words with scales (and biases). */
typedef struct cv_part {
    const lm_tensor *weight, *scales, *biases;
} cv_part;

typedef enum cv_action {
    CV_COPY,       /* the float type changes at most */
    CV_QUANTIZE,   /* floats become words, scales, biases */
    CV_KEEP,       /* packed in the source, and so it stays */
    CV_DEQUANTIZE, /* packed in the source, floats in the result */
} cv_action;

/** A float tensor, or a quantized module with all its tensors. Rows are those of all parts, one after the other. */
typedef struct cv_item {
    char *path;
    const char *leaf;
    unsigned flags;
    int n_dims;
    int64_t shape[3]; /* unpacked */
    int64_t rows, k;
    cv_part *parts;
    int64_t n_parts;    /* 1, or the experts of a stack */
    lm_quant_spec from; /* packed sources: how (bits 0 otherwise) */
    lm_dtype type;      /* floats and scales of the result */
    cv_action action;
    lm_quant_spec to; /* CV_QUANTIZE */
    size_t first_out;
    int n_outs;
} cv_item;

typedef enum cv_which { CV_WEIGHT, CV_SCALES, CV_BIASES } cv_which;
/** A tensor of the result. */
typedef struct cv_out {
    lm_st_spec spec;
    cv_which which;
    size_t item;
    uint64_t bytes;
    int shard;
    uint64_t offset; /* in the shard's file */
} cv_out;

typedef struct cv_shard {
    char name[64];
    size_t first_out, n_outs;
    uint64_t header_bytes, bytes; /* of the whole file */
} cv_shard;

typedef struct cv_plan {
    const lm_convert_options *options;
    char *folder; /* the source */
    lm_config config;
    lm_checkpoint *checkpoint;
    const struct cv_family *family;
    cv_dims dims;
    bool fp8;             /* quant_method fp8: float8 weights with block scales */
    int64_t fp8_block[2]; /* rows and columns of a block */
    lm_dtype cast;        /* LM_DTYPE_COUNT: every tensor keeps its type */
    lm_quant_spec base;   /* of -q */
    bool *used;           /* source tensors that found their place */
    cv_item *items;
    size_t n_items, items_capacity;
    cv_out *outs;
    size_t n_outs, outs_capacity;
    cv_shard *shards;
    int n_shards;
    json_t *overrides;    /* per-path entries of the quantization table, in module order */
    int64_t parameters;   /* as mlx-lm counts them */
    uint64_t bytes;       /* of all tensors */
    uint64_t file_bytes;  /* of all shards */
    int64_t source_bytes; /* that will be read */
} cv_plan;

/** Reads config and headers of `folder`, checks everything that can be checked without reading weights, and decides
 * every byte's place. Options must be valid (cv_options_check). cv_plan_close afterwards only on success. */
lm_status cv_plan_open(const char *folder, const lm_convert_options *options, cv_plan *out, lm_error *err);
void cv_plan_close(cv_plan *plan);

/* ---------------------------------------------------------------- recipe.c */

/** Modes, bits, groups, recipe names; combinations that upstream refuses. */
lm_status cv_options_check(const lm_convert_options *options, lm_error *err);
/** mode, bits and group of -q with the mode's defaults filled in. */
lm_quant_spec cv_options_spec(const lm_convert_options *options);
/** Whether a float module is quantized and how; records an override where upstream does. `down` tells whether the model
 *  has any down_proj. */
lm_status cv_recipe_apply(cv_plan *plan, const cv_item *item, bool *quantize, lm_quant_spec *spec, lm_error *err);

/* ---------------------------------------------------------------- rows.c */

/** Rows [row, row+n) of an item as float32 [n, k], rounded to its type where the source's is another. */
void cv_rows_read(const cv_plan *plan, const cv_item *item, int64_t row, int64_t n, float *to);
/** n floats of `type` from float32. */
void cv_store(lm_dtype type, const float *from, int64_t n, uint8_t *to);
/** n floats from one float type to another, each once rounded. */
void cv_cast(lm_dtype from_type, const void *from, lm_dtype to_type, int64_t n, uint8_t *to);

/* ---------------------------------------------------------------- shards.c, partial.c, card.c */

typedef struct cv_progress {
    bool (*call)(void *user, int64_t done, int64_t total);
    void *user;
} cv_progress;

/** The temporary folder beside the target. */
typedef struct cv_partial {
    char *target, *folder, *journal;
    int fd;     /* of the journal: open and locked */
    bool *done; /* [n_shards] */
    int made;   /* folders above the target that were made */
    bool resumed;
} cv_partial;
/** Makes or takes up the temporary folder; refuses where another conversion holds it, or --resume finds other options.
 */
lm_status cv_partial_open(const cv_plan *plan, const char *target, cv_partial *out, lm_error *err);
/** Notes a finished shard. */
lm_status cv_partial_mark(cv_partial *partial, const cv_plan *plan, int shard, lm_error *err);
/** Ends it: publishes under the target's name. */
lm_status cv_partial_publish(cv_partial *partial, lm_error *err);
/** Ends it: removes the folder, or keeps it for --resume. */
void cv_partial_abandon(cv_partial *partial, bool keep);

/** Writes every shard that is not done. */
lm_status cv_shards_write(const cv_plan *plan, cv_partial *partial, const cv_progress *progress, lm_error *err);
/** Whether the file system of `folder` has room for what is still to write. */
lm_status cv_space_check(const cv_plan *plan, const cv_partial *partial, lm_error *err);
/** config.json, model.safetensors.index.json, README.md, and copies of the tokenizer's files. `repo`: the hub id that
 * the source was given as, NULL for a folder. */
lm_status cv_card_write(const cv_plan *plan, const char *folder, const char *repo, lm_error *err);
/** The result's config.json as text (freed by the caller). */
lm_status cv_config_text(const cv_plan *plan, char **out, lm_error *err);

/** Python's json.dumps(value, indent=4), optionally with the keys of the outermost object sorted. */
bool cv_json_dump(lm_buf *out, const json_t *value, bool sort_top);
#endif
