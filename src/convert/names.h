/* SPDX-License-Identifier: MIT
 * names.h: the one table of the tensors of all families: what Hugging Face's and MLX's folders call them, what GGUF
 * files call them, and their shapes. Every converter walks it in the order of what it writes. */
#ifndef LM_CONVERT_NAMES_H
#define LM_CONVERT_NAMES_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    CV_PER_LAYER = 1, /* the path stands behind "model.layers.N.", the GGUF name behind "blk.N." */
    CV_STACK = 2,     /* one matrix per expert: a dimension in front */
    CV_ROUTER = 4,    /* chooses experts */
    CV_HEAD = 8,      /* gives the logits */
    CV_ROTARY = 16,   /* rows of query or key heads: llama's GGUFs hold them in rotary order */
    CV_IF_ATTENTION_BIAS = 32,
    CV_IF_MLP_BIAS = 64,
    CV_IF_UNTIED = 128,
    CV_IF_QK_NORM = 256,
    CV_IF_DENSE = 512, /* layers without experts */
    CV_IF_MOE = 1024,  /* layers with experts */
};

/** A tensor: PATH.LEAF in folders. Sizes by letters: v vocabulary, h hidden, q heads x head_dim, k kv heads x head_dim,
 * d head_dim, f feed-forward, e experts, m an expert's feed-forward; columns 0: a vector. */
typedef struct cv_tensor {
    const char *path, *leaf, *gguf;
    char rows, columns;
    unsigned flags;
} cv_tensor;

/** Sizes that shapes are made of, and what decides which tensors a model has. */
typedef struct cv_sizes {
    int64_t vocab, hidden, heads, kv_heads, head_dim, ffn, experts, moe_ffn;
    bool attention_bias, mlp_bias, tied, qk_norm;
} cv_sizes;

/** The size that a letter names; 1 for 0. */
int64_t cv_size(const cv_sizes *sizes, char letter);
/** Whether the model has the tensor (of a layer: in one that has experts or hasn't). */
bool cv_tensor_applies(const cv_tensor *t, const cv_sizes *sizes, bool moe);
/** Heads whose rows lie in rotary order, 0 for other tensors. */
int64_t cv_tensor_rotary_heads(const cv_tensor *t, const cv_sizes *sizes);
/** "model.layers.3.mlp.up_proj" and "blk.3.ffn_up.weight". */
void cv_tensor_path(const cv_tensor *t, int64_t layer, char *out, size_t size);
void cv_tensor_gguf(const cv_tensor *t, int64_t layer, char *out, size_t size);
/** The last part of the path of a CV_STACK: "up_proj". */
const char *cv_tensor_expert(const cv_tensor *t);

/** That of this program's GGUF files (and of the folders made from GGUF files), and those of mlx-lm's modules, along
 * which shards are cut. */
typedef enum cv_order { CV_ORDER_GGUF, CV_ORDER_DENSE, CV_ORDER_MOE } cv_order;
/** Calls fn for every tensor of the table, those of layers layer by layer; until one fails. */
lm_status cv_tensors_each(cv_order order, int64_t layers,
                          lm_status (*fn)(void *user, const cv_tensor *t, int64_t layer, lm_error *err), void *user,
                          lm_error *err);
#endif
