/* SPDX-License-Identifier: MIT
 * arch.h: how a family is declared: which config keys it reads, and a rule per tensor. A family is a file and a row in
 * archs.c; code is written only where the math differs. */
#ifndef LM_MODEL_ARCH_H
#define LM_MODEL_ARCH_H
#include "model/model.h"

/* Sizes that rules name; resolved from lm_hparams. */
typedef enum lm_dim {
    DIM_NONE,
    DIM_HIDDEN,
    DIM_Q,
    DIM_KV,
    DIM_HEAD,
    DIM_FFN,
    DIM_VOCAB,
    DIM_EXPERTS,
    DIM_MOE_FFN
} lm_dim;

enum {
    R_LAYER = 1,      /* the pattern holds %d, the slot lies in lm_layer (else in lm_model) */
    R_LINEAR = 2,     /* lm_weight of PATTERN.weight (+ .scales, .biases) */
    R_VECTOR = 4,     /* float * of PATTERN.weight, or of PATTERN itself if it ends in .bias */
    R_EXPERTS = 8,    /* lm_weight * [experts]: stacked as PATTERN, else one by one as `unstacked` */
    R_IF_DENSE = 16,  /* layers without experts */
    R_IF_MOE = 32,    /* layers with experts */
    R_IF_UNTIED = 64, /* only if the head is a tensor of its own */
    R_IF_ATTN_BIAS = 128,
    R_IF_MLP_BIAS = 256,
};

typedef struct lm_tensor_rule {
    const char *pattern;
    size_t slot;
    lm_dim n, k; /* [n, k]; vectors: [n] */
    unsigned flags;
    const char *unstacked; /* R_EXPERTS: holds %d (layer) and %d (expert) */
} lm_tensor_rule;

typedef struct lm_arch {
    const char *model_type;
    lm_status (*read_config)(const lm_config *config, lm_hparams *h, lm_error *err);
    const lm_tensor_rule *rules; /* ended by a NULL pattern */
    const char *const *ignored;  /* substrings of tensor names that are dropped, NULL-ended */
} lm_arch;

/** The family of a model_type, NULL if there is none. */
const lm_arch *lm_arch_find(const char *model_type);
/** True for tensors that may be in a checkpoint and are never used. */
bool lm_arch_ignores(const lm_arch *arch, const char *tensor);
/** "llama, qwen3, qwen3_moe" for messages. */
const char *lm_arch_names(void);
extern const lm_arch lm_arch_llama, lm_arch_qwen3, lm_arch_qwen3_moe;

/* Pieces of read_config that families share. */
/** hidden, layers, heads, vocab, eps, ffn and positions; checks that they can be. */
lm_status lm_hparams_common(const lm_config *c, lm_hparams *h, lm_error *err);
/** kv_heads and head_dim; *_required as the family says, else heads and hidden/heads. */
lm_status lm_hparams_heads(const lm_config *c, lm_hparams *h, bool required, lm_error *err);
/** rope_theta at top level or in rope_parameters (if allowed); fallback < 0: required. Scaling from rope_scaling or
 *  rope_parameters unless `ignore_scaling`. */
lm_status lm_hparams_rope(const lm_config *c, lm_hparams *h, double fallback, bool parameters_allowed,
                          bool ignore_scaling, lm_error *err);

/* Rules that the llama shape shares. */
#define LM_RULES_LLAMA_ATTENTION                                                                                     \
    {"model.layers.%d.input_layernorm", offsetof(lm_layer, attn_norm), DIM_HIDDEN, DIM_NONE, R_LAYER | R_VECTOR, 0}, \
        {"model.layers.%d.self_attn.q_proj", offsetof(lm_layer, q), DIM_Q, DIM_HIDDEN, R_LAYER | R_LINEAR, 0},       \
        {"model.layers.%d.self_attn.k_proj", offsetof(lm_layer, k), DIM_KV, DIM_HIDDEN, R_LAYER | R_LINEAR, 0},      \
        {"model.layers.%d.self_attn.v_proj", offsetof(lm_layer, v), DIM_KV, DIM_HIDDEN, R_LAYER | R_LINEAR, 0},      \
        {"model.layers.%d.self_attn.o_proj", offsetof(lm_layer, o), DIM_HIDDEN, DIM_Q, R_LAYER | R_LINEAR, 0}, {     \
        "model.layers.%d.post_attention_layernorm", offsetof(lm_layer, ffn_norm), DIM_HIDDEN, DIM_NONE,              \
            R_LAYER | R_VECTOR, 0                                                                                    \
    }
#define LM_RULES_QK_NORM                                                                                           \
    {"model.layers.%d.self_attn.q_norm", offsetof(lm_layer, q_norm), DIM_HEAD, DIM_NONE, R_LAYER | R_VECTOR, 0}, { \
        "model.layers.%d.self_attn.k_norm", offsetof(lm_layer, k_norm), DIM_HEAD, DIM_NONE, R_LAYER | R_VECTOR, 0  \
    }
#define LM_RULES_SWIGLU(condition)                                                      \
    {"model.layers.%d.mlp.gate_proj",                                                   \
     offsetof(lm_layer, gate),                                                          \
     DIM_FFN,                                                                           \
     DIM_HIDDEN,                                                                        \
     R_LAYER | R_LINEAR | (condition),                                                  \
     0},                                                                                \
        {"model.layers.%d.mlp.up_proj",                                                 \
         offsetof(lm_layer, up),                                                        \
         DIM_FFN,                                                                       \
         DIM_HIDDEN,                                                                    \
         R_LAYER | R_LINEAR | (condition),                                              \
         0},                                                                            \
    {                                                                                   \
        "model.layers.%d.mlp.down_proj", offsetof(lm_layer, down), DIM_HIDDEN, DIM_FFN, \
            R_LAYER | R_LINEAR | (condition), 0                                         \
    }
#define LM_RULES_ENDS                                                                         \
    {"model.embed_tokens", offsetof(lm_model, embed), DIM_VOCAB, DIM_HIDDEN, R_LINEAR, 0},    \
        {"model.norm", offsetof(lm_model, norm), DIM_HIDDEN, DIM_NONE, R_VECTOR, 0}, {        \
        "lm_head", offsetof(lm_model, head), DIM_VOCAB, DIM_HIDDEN, R_LINEAR | R_IF_UNTIED, 0 \
    }
#define LM_RULES_END \
    { NULL, 0, DIM_NONE, DIM_NONE, 0, 0 }
#endif
