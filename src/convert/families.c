/* SPDX-License-Identifier: MIT
 * families.c: the tensors of each family, in the order in which mlx-lm's modules hold them. The order is part of the
 * contract: shards are cut along it. */
#include "convert/plan.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINEAR = 1,
    PER_LAYER = 2,
    IF_ATTENTION_BIAS = 4,
    IF_MLP_BIAS = 8,
    IF_DENSE = 16,
    IF_MOE = 32,
    IF_UNTIED = 64,
    EXPERTS = 128,
};

/* Sizes by letters: v vocabulary, h hidden, q heads x head_dim, k kv heads x head_dim, d head_dim, f feed-forward,
 * e experts, m an expert's feed-forward, 0 none. */
typedef struct rule {
    const char *path, *leaf;
    char n, k;
    unsigned flags;
} rule;

#define ATTENTION                                                            \
    {"self_attn.q_proj", "weight", 'q', 'h', PER_LAYER | LINEAR},            \
        {"self_attn.q_proj", "bias", 'q', 0, PER_LAYER | IF_ATTENTION_BIAS}, \
        {"self_attn.k_proj", "weight", 'k', 'h', PER_LAYER | LINEAR},        \
        {"self_attn.k_proj", "bias", 'k', 0, PER_LAYER | IF_ATTENTION_BIAS}, \
        {"self_attn.v_proj", "weight", 'k', 'h', PER_LAYER | LINEAR},        \
        {"self_attn.v_proj", "bias", 'k', 0, PER_LAYER | IF_ATTENTION_BIAS}, \
        {"self_attn.o_proj", "weight", 'h', 'q', PER_LAYER | LINEAR}, {      \
        "self_attn.o_proj", "bias", 'h', 0, PER_LAYER | IF_ATTENTION_BIAS    \
    }
#define QK_NORM                                          \
    {"self_attn.q_norm", "weight", 'd', 0, PER_LAYER}, { \
        "self_attn.k_norm", "weight", 'd', 0, PER_LAYER  \
    }
#define MLP                                                                   \
    {"mlp.gate_proj", "weight", 'f', 'h', PER_LAYER | LINEAR | IF_DENSE},     \
        {"mlp.gate_proj", "bias", 'f', 0, PER_LAYER | IF_MLP_BIAS},           \
        {"mlp.down_proj", "weight", 'h', 'f', PER_LAYER | LINEAR | IF_DENSE}, \
        {"mlp.down_proj", "bias", 'h', 0, PER_LAYER | IF_MLP_BIAS},           \
        {"mlp.up_proj", "weight", 'f', 'h', PER_LAYER | LINEAR | IF_DENSE}, { \
        "mlp.up_proj", "bias", 'f', 0, PER_LAYER | IF_MLP_BIAS                \
    }
#define NORMS                                                   \
    {"input_layernorm", "weight", 'h', 0, PER_LAYER}, {         \
        "post_attention_layernorm", "weight", 'h', 0, PER_LAYER \
    }
#define EMBEDDING \
    { "model.embed_tokens", "weight", 'v', 'h', LINEAR }
#define ENDS                                              \
    {"model.norm", "weight", 'h', 0, 0}, {                \
        "lm_head", "weight", 'v', 'h', LINEAR | IF_UNTIED \
    }
#define END \
    { NULL, NULL, 0, 0, 0 }

static const rule llama_rules[] = {EMBEDDING, ATTENTION, MLP, NORMS, ENDS, END};
static const rule qwen3_rules[] = {EMBEDDING, ATTENTION, QK_NORM, MLP, NORMS, ENDS, END};
static const rule qwen3_moe_rules[] = {
    EMBEDDING,
    ATTENTION,
    QK_NORM,
    NORMS,
    {"mlp.gate", "weight", 'e', 'h', PER_LAYER | LINEAR | IF_MOE},
    {"mlp.switch_mlp.gate_proj", "weight", 'm', 'h', PER_LAYER | LINEAR | IF_MOE | EXPERTS},
    {"mlp.switch_mlp.up_proj", "weight", 'm', 'h', PER_LAYER | LINEAR | IF_MOE | EXPERTS},
    {"mlp.switch_mlp.down_proj", "weight", 'h', 'm', PER_LAYER | LINEAR | IF_MOE | EXPERTS},
    MLP,
    ENDS,
    END,
};

struct cv_family {
    const char *model_type;
    const rule *rules;
    bool needs_heads;     /* num_key_value_heads and head_dim are required */
    bool moe, has_biases; /* attention_bias and mlp_bias are read */
    bool scales_rope;
    int tied_default;  /* -1: required */
    const char *drops; /* part of names that are dropped */
};
static const struct cv_family families[] = {
    {"llama", llama_rules, false, false, true, true, 1, "self_attn.rotary_emb.inv_freq"},
    {"qwen3", qwen3_rules, true, false, false, true, -1, NULL},
    {"qwen3_moe", qwen3_moe_rules, true, true, false, false, -1, NULL},
};

lm_status cv_family_find(const lm_config *config, const struct cv_family **out, lm_error *err) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (!strcmp(families[i].model_type, config->model_type)) {
            *out = &families[i];
            return LM_OK;
        }
    return lm_fail(err, LM_UNSUPPORTED, "%s: model_type '%.60s' is not supported (llama, mistral, qwen3, qwen3_moe)",
                   config->path, config->model_type);
}

/* ---------------------------------------------------------------- sizes */

static lm_status read_moe(const lm_config *c, cv_dims *d, lm_error *err) {
    const json_t *r = c->root, *list = json_object_get(r, "mlp_only_layers"), *item;
    size_t i;
    LM_TRY(lm_config_int(c, r, "num_experts", true, 0, 0, 1 << 16, &d->experts, err));
    LM_TRY(lm_config_int(c, r, "decoder_sparse_step", true, 0, 1, 1 << 16, &d->sparse_step, err));
    LM_TRY(lm_config_int(c, r, "moe_intermediate_size", true, 0, 1, 1 << 24, &d->moe_ffn, err));
    if (!json_is_array(list)) return lm_fail(err, LM_FORMAT, "%s: mlp_only_layers: expected a list", c->path);
    d->dense = calloc((size_t)d->layers, sizeof *d->dense);
    if (!d->dense) return lm_fail_nomem(err, (size_t)d->layers, "mlp_only_layers");
    json_array_foreach(list, i, item) {
        json_int_t v = json_integer_value(item);
        if (!json_is_integer(item))
            return lm_fail(err, LM_FORMAT, "%s: mlp_only_layers[%zu]: expected a layer number", c->path, i);
        if (v >= 0 && v < d->layers) d->dense[v] = true;
    }
    return LM_OK;
}

lm_status cv_dims_read(const struct cv_family *family, const lm_config *c, cv_dims *d, lm_error *err) {
    const json_t *r = c->root;
    memset(d, 0, sizeof *d);
    LM_TRY(lm_config_int(c, r, "hidden_size", true, 0, 1, 1 << 20, &d->hidden, err));
    LM_TRY(lm_config_int(c, r, "num_hidden_layers", true, 0, 1, 4096, &d->layers, err));
    LM_TRY(lm_config_int(c, r, "intermediate_size", true, 0, 1, 1 << 24, &d->ffn, err));
    LM_TRY(lm_config_int(c, r, "num_attention_heads", true, 0, 1, 1 << 16, &d->heads, err));
    LM_TRY(lm_config_int(c, r, "vocab_size", true, 0, 1, 1 << 27, &d->vocab, err));
    LM_TRY(lm_config_int(c, r, "num_key_value_heads", family->needs_heads, d->heads, 1, 1 << 16, &d->kv_heads, err));
    LM_TRY(lm_config_int(c, r, "head_dim", family->needs_heads, 0, 0, 4096, &d->head_dim, err));
    if (!d->head_dim) d->head_dim = d->hidden / d->heads;
    if (!d->head_dim)
        return lm_fail(err, LM_FORMAT, "%s: hidden_size %lld: expected at least num_attention_heads %lld", c->path,
                       (long long)d->hidden, (long long)d->heads);
    LM_TRY(lm_config_bool(c, r, "tie_word_embeddings", family->tied_default<0, family->tied_default> 0, &d->tied, err));
    if (family->has_biases) {
        LM_TRY(lm_config_bool(c, r, "attention_bias", false, false, &d->attention_bias, err));
        LM_TRY(lm_config_bool(c, r, "mlp_bias", false, false, &d->mlp_bias, err));
    }
    return family->moe ? read_moe(c, d, err) : LM_OK;
}

void cv_dims_free(cv_dims *d) {
    free(d->dense);
    d->dense = NULL;
}

static int64_t size_of(const cv_dims *d, char letter) {
    switch (letter) {
    case 'v': return d->vocab;
    case 'h': return d->hidden;
    case 'q': return d->heads * d->head_dim;
    case 'k': return d->kv_heads * d->head_dim;
    case 'd': return d->head_dim;
    case 'f': return d->ffn;
    case 'e': return d->experts;
    case 'm': return d->moe_ffn;
    default: return 1;
    }
}

/* ---------------------------------------------------------------- the walk */

static bool is_moe(const cv_dims *d, int64_t layer) {
    return d->experts > 0 && (layer + 1) % d->sparse_step == 0 && !(d->dense && d->dense[layer]);
}

static bool applies(const rule *r, const cv_dims *d, int64_t layer) {
    bool moe = (r->flags & PER_LAYER) && d->experts > 0 && is_moe(d, layer);
    if ((r->flags & IF_ATTENTION_BIAS) && !d->attention_bias) return false;
    if ((r->flags & IF_MLP_BIAS) && !d->mlp_bias) return false;
    if ((r->flags & IF_UNTIED) && d->tied) return false;
    if ((r->flags & IF_DENSE) && moe) return false;
    return !((r->flags & IF_MOE) && !moe);
}

static void fill_slot(cv_slot *s, const rule *r, const cv_dims *d, int64_t layer) {
    memset(s, 0, sizeof *s);
    s->leaf = r->leaf;
    s->flags = (r->flags & LINEAR ? CV_LINEAR : 0) | (r->flags & EXPERTS ? CV_EXPERTS : 0);
    if (r->flags & PER_LAYER)
        snprintf(s->path, sizeof s->path, "model.layers.%lld.%s", (long long)layer, r->path);
    else
        snprintf(s->path, sizeof s->path, "%s", r->path);
    if (r->flags & EXPERTS) {
        snprintf(s->unstacked, sizeof s->unstacked, "model.layers.%lld.mlp.experts.%%lld.%s.weight", (long long)layer,
                 strrchr(r->path, '.') + 1);
        s->shape[s->n_dims++] = d->experts;
    }
    s->shape[s->n_dims++] = size_of(d, r->n);
    if (r->k) s->shape[s->n_dims++] = size_of(d, r->k);
}

lm_status cv_family_each(const struct cv_family *family, const cv_dims *d,
                         lm_status (*fn)(void *user, const cv_slot *slot, lm_error *err), void *user, lm_error *err) {
    cv_slot slot;
    for (const rule *r = family->rules; r->path; r++) {
        const rule *end = r;
        while (end->path && (end->flags & PER_LAYER)) end++;
        if (end == r) { /* a tensor outside the layers */
            fill_slot(&slot, r, d, 0);
            if (applies(r, d, 0)) LM_TRY(fn(user, &slot, err));
            continue;
        }
        for (int64_t layer = 0; layer < d->layers; layer++)
            for (const rule *each = r; each < end; each++) {
                fill_slot(&slot, each, d, layer);
                if (applies(each, d, layer)) LM_TRY(fn(user, &slot, err));
            }
        r = end - 1;
    }
    return LM_OK;
}

bool cv_family_drops(const struct cv_family *family, const cv_dims *d, const char *name) {
    if (family->drops && strstr(name, family->drops)) return true;
    return d->tied && !strcmp(name, "lm_head.weight");
}

bool cv_family_is_router(const struct cv_family *family, const char *path) {
    size_t n = strlen(path);
    return family->moe && n >= 8 && !strcmp(path + n - 8, "mlp.gate");
}

int64_t cv_family_extra_bytes(const struct cv_family *family, const cv_dims *d, const lm_config *config) {
    if (!family->scales_rope) return 0;
    const json_t *scaling = json_object_get(config->root, "rope_scaling");
    if (!json_is_object(scaling)) scaling = json_object_get(config->root, "rope_parameters");
    const char *type = json_string_value(json_object_get(scaling, "type"));
    if (!type) type = json_string_value(json_object_get(scaling, "rope_type"));
    bool table = type && (!strcmp(type, "llama3") || !strcmp(type, "yarn"));
    return table ? d->layers * (d->head_dim / 2) * 4 : 0;
}
