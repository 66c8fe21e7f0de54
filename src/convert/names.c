/* SPDX-License-Identifier: MIT
 * names.c: the table of names.h, and the orders in which it is walked. */
#include "convert/names.h"
#include <stdio.h>
#include <string.h>

enum {
    EMBED,
    ATTN_NORM,
    Q,
    Q_BIAS,
    K,
    K_BIAS,
    V,
    V_BIAS,
    O,
    O_BIAS,
    Q_NORM,
    K_NORM,
    FFN_NORM,
    GATE,
    GATE_BIAS,
    UP,
    UP_BIAS,
    DOWN,
    DOWN_BIAS,
    ROUTER,
    EXPERT_GATE,
    EXPERT_UP,
    EXPERT_DOWN,
    NORM,
    HEAD,
    N_TENSORS
};

#define LAYER CV_PER_LAYER
#define EXPERT LAYER | CV_IF_MOE | CV_STACK
#define ATTN_BIAS LAYER | CV_IF_ATTENTION_BIAS
#define MLP_BIAS LAYER | CV_IF_DENSE | CV_IF_MLP_BIAS
static const cv_tensor tensors[N_TENSORS] = {
    [EMBED] = {"model.embed_tokens", "weight", "token_embd.weight", 'v', 'h', 0},
    [ATTN_NORM] = {"input_layernorm", "weight", "attn_norm.weight", 'h', 0, LAYER},
    [Q] = {"self_attn.q_proj", "weight", "attn_q.weight", 'q', 'h', LAYER | CV_ROTARY},
    [Q_BIAS] = {"self_attn.q_proj", "bias", "attn_q.bias", 'q', 0, ATTN_BIAS | CV_ROTARY},
    [K] = {"self_attn.k_proj", "weight", "attn_k.weight", 'k', 'h', LAYER | CV_ROTARY},
    [K_BIAS] = {"self_attn.k_proj", "bias", "attn_k.bias", 'k', 0, ATTN_BIAS | CV_ROTARY},
    [V] = {"self_attn.v_proj", "weight", "attn_v.weight", 'k', 'h', LAYER},
    [V_BIAS] = {"self_attn.v_proj", "bias", "attn_v.bias", 'k', 0, ATTN_BIAS},
    [O] = {"self_attn.o_proj", "weight", "attn_output.weight", 'h', 'q', LAYER},
    [O_BIAS] = {"self_attn.o_proj", "bias", "attn_output.bias", 'h', 0, ATTN_BIAS},
    [Q_NORM] = {"self_attn.q_norm", "weight", "attn_q_norm.weight", 'd', 0, LAYER | CV_IF_QK_NORM},
    [K_NORM] = {"self_attn.k_norm", "weight", "attn_k_norm.weight", 'd', 0, LAYER | CV_IF_QK_NORM},
    [FFN_NORM] = {"post_attention_layernorm", "weight", "ffn_norm.weight", 'h', 0, LAYER},
    [GATE] = {"mlp.gate_proj", "weight", "ffn_gate.weight", 'f', 'h', LAYER | CV_IF_DENSE},
    [GATE_BIAS] = {"mlp.gate_proj", "bias", "ffn_gate.bias", 'f', 0, MLP_BIAS},
    [UP] = {"mlp.up_proj", "weight", "ffn_up.weight", 'f', 'h', LAYER | CV_IF_DENSE},
    [UP_BIAS] = {"mlp.up_proj", "bias", "ffn_up.bias", 'f', 0, MLP_BIAS},
    [DOWN] = {"mlp.down_proj", "weight", "ffn_down.weight", 'h', 'f', LAYER | CV_IF_DENSE},
    [DOWN_BIAS] = {"mlp.down_proj", "bias", "ffn_down.bias", 'h', 0, MLP_BIAS},
    [ROUTER] = {"mlp.gate", "weight", "ffn_gate_inp.weight", 'e', 'h', LAYER | CV_IF_MOE | CV_ROUTER},
    [EXPERT_GATE] = {"mlp.switch_mlp.gate_proj", "weight", "ffn_gate_exps.weight", 'm', 'h', EXPERT},
    [EXPERT_UP] = {"mlp.switch_mlp.up_proj", "weight", "ffn_up_exps.weight", 'm', 'h', EXPERT},
    [EXPERT_DOWN] = {"mlp.switch_mlp.down_proj", "weight", "ffn_down_exps.weight", 'h', 'm', EXPERT},
    [NORM] = {"model.norm", "weight", "output_norm.weight", 'h', 0, 0},
    [HEAD] = {"lm_head", "weight", "output.weight", 'v', 'h', CV_IF_UNTIED | CV_HEAD},
};

int64_t cv_size(const cv_sizes *s, char letter) {
    switch (letter) {
    case 'v': return s->vocab;
    case 'h': return s->hidden;
    case 'q': return s->heads * s->head_dim;
    case 'k': return s->kv_heads * s->head_dim;
    case 'd': return s->head_dim;
    case 'f': return s->ffn;
    case 'e': return s->experts;
    case 'm': return s->moe_ffn;
    default: return 1;
    }
}

bool cv_tensor_applies(const cv_tensor *t, const cv_sizes *s, bool moe) {
    return !((t->flags & CV_IF_ATTENTION_BIAS && !s->attention_bias) || (t->flags & CV_IF_MLP_BIAS && !s->mlp_bias) ||
             (t->flags & CV_IF_UNTIED && s->tied) || (t->flags & CV_IF_QK_NORM && !s->qk_norm) ||
             (t->flags & CV_IF_DENSE && moe) || (t->flags & CV_IF_MOE && !moe));
}

int64_t cv_tensor_rotary_heads(const cv_tensor *t, const cv_sizes *s) {
    return !(t->flags & CV_ROTARY) ? 0 : t->rows == 'q' ? s->heads : s->kv_heads;
}

void cv_tensor_path(const cv_tensor *t, int64_t layer, char *out, size_t size) {
    if (t->flags & CV_PER_LAYER)
        snprintf(out, size, "model.layers.%lld.%s", (long long)layer, t->path);
    else
        snprintf(out, size, "%s", t->path);
}

void cv_tensor_gguf(const cv_tensor *t, int64_t layer, char *out, size_t size) {
    if (t->flags & CV_PER_LAYER)
        snprintf(out, size, "blk.%lld.%s", (long long)layer, t->gguf);
    else
        snprintf(out, size, "%s", t->gguf);
}

const char *cv_tensor_expert(const cv_tensor *t) {
    return strrchr(t->path, '.') + 1;
}

/* ---------------------------------------------------------------- orders */

static const uint8_t gguf_order[] = {EMBED,     ATTN_NORM,   Q,       Q_BIAS, K,         K_BIAS,   V,
                                     V_BIAS,    O,           O_BIAS,  Q_NORM, K_NORM,    FFN_NORM, GATE,
                                     GATE_BIAS, UP,          UP_BIAS, DOWN,   DOWN_BIAS, ROUTER,   EXPERT_GATE,
                                     EXPERT_UP, EXPERT_DOWN, NORM,    HEAD};
/* Modules in the order in which mlx-lm's classes make them. */
#define ATTENTION_ORDER Q, Q_BIAS, K, K_BIAS, V, V_BIAS, O, O_BIAS, Q_NORM, K_NORM
#define MLP_ORDER GATE, GATE_BIAS, DOWN, DOWN_BIAS, UP, UP_BIAS
static const uint8_t dense_order[] = {EMBED, ATTENTION_ORDER, MLP_ORDER, ATTN_NORM, FFN_NORM, NORM, HEAD};
static const uint8_t moe_order[] = {
    EMBED, ATTENTION_ORDER, ATTN_NORM, FFN_NORM, ROUTER, EXPERT_GATE, EXPERT_UP, EXPERT_DOWN, MLP_ORDER, NORM, HEAD,
};

lm_status cv_tensors_each(cv_order order, int64_t layers,
                          lm_status (*fn)(void *user, const cv_tensor *t, int64_t layer, lm_error *err), void *user,
                          lm_error *err) {
    static const struct {
        const uint8_t *list;
        size_t n;
    } orders[] = {[CV_ORDER_GGUF] = {gguf_order, sizeof gguf_order},
                  [CV_ORDER_DENSE] = {dense_order, sizeof dense_order},
                  [CV_ORDER_MOE] = {moe_order, sizeof moe_order}};
    const uint8_t *list = orders[order].list;
    size_t n = orders[order].n, end;
    for (size_t i = 0; i < n; i = end) {
        for (end = i; end < n && tensors[list[end]].flags & CV_PER_LAYER;) end++;
        if (end == i) { /* a tensor outside the layers */
            LM_TRY(fn(user, &tensors[list[end++]], 0, err));
            continue;
        }
        for (int64_t layer = 0; layer < layers; layer++)
            for (size_t k = i; k < end; k++) LM_TRY(fn(user, &tensors[list[k]], layer, err));
    }
    return LM_OK;
}
