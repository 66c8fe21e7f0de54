/* SPDX-License-Identifier: MIT
 * archs.c: the list of families, and the config pieces they share. */
#include "model/arch.h"
#include <string.h>

static const lm_arch *const archs[] = {&lm_arch_llama, &lm_arch_qwen3, &lm_arch_qwen3_moe};

const lm_arch *lm_arch_find(const char *model_type) {
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        if (!strcmp(archs[i]->model_type, model_type)) return archs[i];
    return NULL;
}

bool lm_arch_ignores(const lm_arch *arch, const char *tensor) {
    for (const char *const *part = arch->ignored; *part; part++)
        if (strstr(tensor, *part)) return true;
    return false;
}

const char *lm_arch_names(void) {
    return "llama, mistral, qwen3, qwen3_moe";
}

/* Bounds that any real model keeps by orders of magnitude: they only stop absurd configs before they multiply. */
#define MAX_HIDDEN (1 << 20)
#define MAX_LAYERS 4096
#define MAX_HEADS (1 << 16)
#define MAX_VOCAB (1 << 27)
#define MAX_FFN (1 << 24)
#define MAX_HEAD_DIM 4096
#define MAX_POSITIONS ((int64_t)1 << 40)

lm_status lm_hparams_common(const lm_config *c, lm_hparams *h, lm_error *err) {
    const json_t *r = c->root;
    LM_TRY(lm_config_int(c, r, "hidden_size", true, 0, 1, MAX_HIDDEN, &h->hidden, err));
    LM_TRY(lm_config_int(c, r, "num_hidden_layers", true, 0, 1, MAX_LAYERS, &h->layers, err));
    LM_TRY(lm_config_int(c, r, "intermediate_size", true, 0, 1, MAX_FFN, &h->ffn, err));
    LM_TRY(lm_config_int(c, r, "num_attention_heads", true, 0, 1, MAX_HEADS, &h->heads, err));
    LM_TRY(lm_config_int(c, r, "vocab_size", true, 0, 1, MAX_VOCAB, &h->vocab, err));
    LM_TRY(lm_config_float(c, r, "rms_norm_eps", true, 0, 0, 1, &h->norm_eps, err));
    return lm_config_int(c, r, "max_position_embeddings", false, 0, 0, MAX_POSITIONS, &h->max_positions, err);
}

lm_status lm_hparams_heads(const lm_config *c, lm_hparams *h, bool required, lm_error *err) {
    const json_t *r = c->root;
    LM_TRY(lm_config_int(c, r, "num_key_value_heads", required, h->heads, 1, MAX_HEADS, &h->kv_heads, err));
    LM_TRY(lm_config_int(c, r, "head_dim", required, h->hidden / h->heads, 1, MAX_HEAD_DIM, &h->head_dim, err));
    if (h->heads % h->kv_heads)
        return lm_fail(err, LM_FORMAT, "%s: num_attention_heads %lld: expected a multiple of num_key_value_heads %lld",
                       c->path, (long long)h->heads, (long long)h->kv_heads);
    if (h->head_dim % 2)
        return lm_fail(err, LM_FORMAT, "%s: head_dim: expected an even number, found %lld", c->path,
                       (long long)h->head_dim);
    return LM_OK;
}

static lm_status read_scaling(const lm_config *c, const json_t *s, const char *where, lm_hparams *h, lm_error *err) {
    const char *kind = NULL;
    h->rope_kind = LM_ROPE_PLAIN;
    if (!s || json_is_null(s)) return LM_OK;
    if (!json_is_object(s)) return lm_fail(err, LM_FORMAT, "%s: %s: expected an object or null", c->path, where);
    LM_TRY(lm_config_string(c, s, "type", false, &kind, err));
    if (!kind) LM_TRY(lm_config_string(c, s, "rope_type", false, &kind, err));
    if (!kind || !strcmp(kind, "default") || !strcmp(kind, "mrope")) return LM_OK;
    LM_TRY(lm_config_float(c, s, "factor", true, 1, 1e-6, 1e9, &h->rope_factor, err));
    if (!strcmp(kind, "linear")) {
        h->rope_kind = LM_ROPE_LINEAR;
        return LM_OK;
    }
    if (strcmp(kind, "llama3"))
        return lm_fail(err, LM_UNSUPPORTED, "%s: %s type '%s': expected default, linear or llama3", c->path, where,
                       kind);
    h->rope_kind = LM_ROPE_LLAMA3;
    LM_TRY(lm_config_float(c, s, "low_freq_factor", false, 1, 1e-6, 1e9, &h->rope_low_freq, err));
    LM_TRY(lm_config_float(c, s, "high_freq_factor", false, 4, 1e-6, 1e9, &h->rope_high_freq, err));
    return lm_config_float(c, s, "original_max_position_embeddings", false, 8192, 1, 1e12, &h->rope_original_positions,
                           err);
}

lm_status lm_hparams_rope(const lm_config *c, lm_hparams *h, double fallback, bool parameters_allowed,
                          bool ignore_scaling, lm_error *err) {
    const json_t *top = json_object_get(c->root, "rope_theta"), *where = c->root;
    const json_t *parameters = json_object_get(c->root, "rope_parameters");
    if ((!top || json_is_null(top)) && parameters_allowed && json_is_object(parameters)) where = parameters;
    LM_TRY(lm_config_float(c, where, "rope_theta", fallback < 0, fallback, 1e-3, 1e15, &h->rope_theta, err));
    h->rope_kind = LM_ROPE_PLAIN;
    if (ignore_scaling) return LM_OK;
    const json_t *scaling = json_object_get(c->root, "rope_scaling");
    if (scaling && !json_is_null(scaling)) return read_scaling(c, scaling, "rope_scaling", h, err);
    return parameters_allowed ? read_scaling(c, parameters, "rope_parameters", h, err) : LM_OK;
}
