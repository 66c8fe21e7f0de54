/* SPDX-License-Identifier: MIT
 * qwen3_moe.c: Qwen3's attention with softmax-routed experts in place of the MLP: docs/models/qwen3_moe.md. */
#include "model/arch.h"
#include <stdlib.h>

static lm_status mlp_only_layers(const lm_config *c, lm_hparams *h, lm_error *err) {
    const json_t *list = json_object_get(c->root, "mlp_only_layers"), *item;
    size_t i;
    if (!json_is_array(list))
        return lm_fail(err, LM_FORMAT, "%s: mlp_only_layers: expected a list of layer numbers", c->path);
    h->dense_layer = calloc((size_t)h->layers, sizeof *h->dense_layer);
    if (!h->dense_layer) return lm_fail_nomem(err, (size_t)h->layers, "mlp_only_layers");
    json_array_foreach(list, i, item) {
        if (!json_is_integer(item))
            return lm_fail(err, LM_FORMAT, "%s: mlp_only_layers[%zu]: expected a layer number", c->path, i);
        json_int_t v = json_integer_value(item);
        if (v >= 0 && v < h->layers) h->dense_layer[v] = true;
    }
    return LM_OK;
}

static lm_status qwen3_moe_config(const lm_config *c, lm_hparams *h, lm_error *err) {
    const json_t *r = c->root;
    LM_TRY(lm_hparams_common(c, h, err));
    LM_TRY(lm_hparams_heads(c, h, true, err));
    LM_TRY(lm_hparams_rope(c, h, -1, false, true, err));
    LM_TRY(lm_config_bool(c, r, "tie_word_embeddings", true, false, &h->tied, err));
    LM_TRY(lm_config_int(c, r, "num_experts", true, 0, 0, 1 << 16, &h->experts, err));
    LM_TRY(lm_config_int(c, r, "num_experts_per_tok", true, 0, 1, 1 << 10, &h->top_k, err));
    LM_TRY(lm_config_int(c, r, "decoder_sparse_step", true, 0, 1, 1 << 16, &h->sparse_step, err));
    LM_TRY(lm_config_int(c, r, "moe_intermediate_size", true, 0, 1, 1 << 24, &h->moe_ffn, err));
    LM_TRY(lm_config_bool(c, r, "norm_topk_prob", true, false, &h->norm_topk, err));
    if (h->experts > 0 && h->top_k > h->experts)
        return lm_fail(err, LM_FORMAT, "%s: num_experts_per_tok: expected at most num_experts %lld, found %lld",
                       c->path, (long long)h->experts, (long long)h->top_k);
    return mlp_only_layers(c, h, err);
}

#define EXPERTS(name, field, n, k)                                                                               \
    {                                                                                                            \
        "model.layers.%d.mlp.switch_mlp." name, offsetof(lm_layer, field), n, k, R_LAYER | R_EXPERTS | R_IF_MOE, \
            "model.layers.%d.mlp.experts.%d." name                                                               \
    }
static const lm_tensor_rule rules[] = {
    LM_RULES_LLAMA_ATTENTION,
    LM_RULES_QK_NORM,
    LM_RULES_SWIGLU(R_IF_DENSE),
    {"model.layers.%d.mlp.gate", offsetof(lm_layer, router), DIM_EXPERTS, DIM_HIDDEN, R_LAYER | R_LINEAR | R_IF_MOE, 0},
    EXPERTS("gate_proj", e_gate, DIM_MOE_FFN, DIM_HIDDEN),
    EXPERTS("up_proj", e_up, DIM_MOE_FFN, DIM_HIDDEN),
    EXPERTS("down_proj", e_down, DIM_HIDDEN, DIM_MOE_FFN),
    LM_RULES_ENDS,
    LM_RULES_END,
};

static const char *const ignored[] = {NULL};
const lm_arch lm_arch_qwen3_moe = {"qwen3_moe", qwen3_moe_config, rules, ignored};
