/* SPDX-License-Identifier: MIT
 * qwen3.c: the dense Qwen3 family: llama's block with RMS norms on each query and key head: docs/models/qwen3.md. */
#include "model/arch.h"

static lm_status qwen3_config(const lm_config *c, lm_hparams *h, lm_error *err) {
    LM_TRY(lm_hparams_common(c, h, err));
    LM_TRY(lm_hparams_heads(c, h, true, err));
    LM_TRY(lm_hparams_rope(c, h, -1, true, false, err));
    return lm_config_bool(c, c->root, "tie_word_embeddings", true, false, &h->tied, err);
}

static const lm_tensor_rule rules[] = {
    LM_RULES_LLAMA_ATTENTION, LM_RULES_QK_NORM, LM_RULES_SWIGLU(0), LM_RULES_ENDS, LM_RULES_END,
};

static const char *const ignored[] = {NULL};
const lm_arch lm_arch_qwen3 = {"qwen3", qwen3_config, rules, ignored};
