/* SPDX-License-Identifier: MIT
 * llama.c: the llama family (also mistral by remap): docs/models/llama.md. */
#include "model/arch.h"
#include <string.h>

static lm_status llama_config(const lm_config *c, lm_hparams *h, lm_error *err) {
    const json_t *r = c->root;
    LM_TRY(lm_hparams_common(c, h, err));
    LM_TRY(lm_hparams_heads(c, h, false, err));
    LM_TRY(lm_hparams_rope(c, h, 10000, true, false, err));
    LM_TRY(lm_config_bool(c, r, "tie_word_embeddings", false, true, &h->tied, err));
    LM_TRY(lm_config_bool(c, r, "attention_bias", false, false, &h->attention_bias, err));
    LM_TRY(lm_config_bool(c, r, "mlp_bias", false, false, &h->mlp_bias, err));
    bool traditional;
    LM_TRY(lm_config_bool(c, r, "rope_traditional", false, false, &traditional, err));
    if (traditional) return lm_fail(err, LM_UNSUPPORTED, "%s: rope_traditional: true is not supported yet", c->path);
    const json_t *types = json_object_get(r, "layer_types"), *type;
    size_t i;
    if (json_is_array(types)) {
        json_array_foreach(types, i, type) {
            const char *s = json_string_value(type);
            if (!s || strcmp(s, "full_attention"))
                return lm_fail(err, LM_UNSUPPORTED, "%s: layer_types[%zu]: expected full_attention, found %s", c->path,
                               i, s ? s : "another type");
        }
    }
    return LM_OK;
}

#define BIAS(name, field, dim, condition) \
    { "model.layers.%d." name ".bias", offsetof(lm_layer, field), dim, DIM_NONE, R_LAYER | R_VECTOR | (condition), 0 }
static const lm_tensor_rule rules[] = {
    LM_RULES_LLAMA_ATTENTION,
    LM_RULES_SWIGLU(0),
    LM_RULES_ENDS,
    BIAS("self_attn.q_proj", q_bias, DIM_Q, R_IF_ATTN_BIAS),
    BIAS("self_attn.k_proj", k_bias, DIM_KV, R_IF_ATTN_BIAS),
    BIAS("self_attn.v_proj", v_bias, DIM_KV, R_IF_ATTN_BIAS),
    BIAS("self_attn.o_proj", o_bias, DIM_HIDDEN, R_IF_ATTN_BIAS),
    BIAS("mlp.gate_proj", gate_bias, DIM_FFN, R_IF_MLP_BIAS),
    BIAS("mlp.up_proj", up_bias, DIM_FFN, R_IF_MLP_BIAS),
    BIAS("mlp.down_proj", down_bias, DIM_HIDDEN, R_IF_MLP_BIAS),
    LM_RULES_END,
};

static const char *const ignored[] = {"self_attn.rotary_emb.inv_freq", NULL};
const lm_arch lm_arch_llama = {"llama", llama_config, rules, ignored};
