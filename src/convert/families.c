/* SPDX-License-Identifier: MIT
 * families.c: what the families differ in: which config keys they read, and the order in which mlx-lm's modules hold
 * their tensors. The order is part of the contract: shards are cut along it. */
#include "convert/plan.h"
#include "model/arch.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cv_family {
    const char *model_type;
    cv_order order;
    bool qk_norm;
    bool needs_heads;     /* num_key_value_heads and head_dim are required */
    bool moe, has_biases; /* attention_bias and mlp_bias are read */
    bool scales_rope;
    int tied_default; /* -1: required */
};
static const struct cv_family families[] = {
    {"llama", CV_ORDER_DENSE, false, false, false, true, true, 1},
    {"qwen3", CV_ORDER_DENSE, true, true, false, false, true, -1},
    {"qwen3_moe", CV_ORDER_MOE, true, true, true, false, false, -1},
};

lm_status cv_family_find(const lm_config *config, const struct cv_family **out, lm_error *err) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (!strcmp(families[i].model_type, config->model_type)) {
            *out = &families[i];
            return LM_OK;
        }
    return lm_fail(err, LM_UNSUPPORTED, "%s: model_type '%.60s' is not supported (%s)", config->path,
                   config->model_type, lm_arch_names());
}

/* ---------------------------------------------------------------- sizes */

static lm_status read_moe(const lm_config *c, cv_dims *d, lm_error *err) {
    const json_t *r = c->root, *list = json_object_get(r, "mlp_only_layers"), *item;
    size_t i;
    LM_TRY(lm_config_int(c, r, "num_experts", true, 0, 0, 1 << 16, &d->sizes.experts, err));
    LM_TRY(lm_config_int(c, r, "decoder_sparse_step", true, 0, 1, 1 << 16, &d->sparse_step, err));
    LM_TRY(lm_config_int(c, r, "moe_intermediate_size", true, 0, 1, 1 << 24, &d->sizes.moe_ffn, err));
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
    cv_sizes *z = &d->sizes;
    memset(d, 0, sizeof *d);
    z->qk_norm = family->qk_norm;
    LM_TRY(lm_config_int(c, r, "hidden_size", true, 0, 1, 1 << 20, &z->hidden, err));
    LM_TRY(lm_config_int(c, r, "num_hidden_layers", true, 0, 1, 4096, &d->layers, err));
    LM_TRY(lm_config_int(c, r, "intermediate_size", true, 0, 1, 1 << 24, &z->ffn, err));
    LM_TRY(lm_config_int(c, r, "num_attention_heads", true, 0, 1, 1 << 16, &z->heads, err));
    LM_TRY(lm_config_int(c, r, "vocab_size", true, 0, 1, 1 << 27, &z->vocab, err));
    LM_TRY(lm_config_int(c, r, "num_key_value_heads", family->needs_heads, z->heads, 1, 1 << 16, &z->kv_heads, err));
    LM_TRY(lm_config_int(c, r, "head_dim", family->needs_heads, 0, 0, 4096, &z->head_dim, err));
    if (!z->head_dim) z->head_dim = z->hidden / z->heads;
    if (!z->head_dim)
        return lm_fail(err, LM_FORMAT, "%s: hidden_size %lld: expected at least num_attention_heads %lld", c->path,
                       (long long)z->hidden, (long long)z->heads);
    LM_TRY(lm_config_bool(c, r, "tie_word_embeddings", family->tied_default<0, family->tied_default> 0, &z->tied, err));
    if (family->has_biases) {
        LM_TRY(lm_config_bool(c, r, "attention_bias", false, false, &z->attention_bias, err));
        LM_TRY(lm_config_bool(c, r, "mlp_bias", false, false, &z->mlp_bias, err));
    }
    return family->moe ? read_moe(c, d, err) : LM_OK;
}

void cv_dims_free(cv_dims *d) {
    free(d->dense);
    d->dense = NULL;
}

/* ---------------------------------------------------------------- the walk */

static bool is_moe(const cv_dims *d, int64_t layer) {
    return d->sizes.experts > 0 && (layer + 1) % d->sparse_step == 0 && !(d->dense && d->dense[layer]);
}

static void fill_slot(cv_slot *s, const cv_tensor *t, const cv_sizes *sizes, int64_t layer) {
    memset(s, 0, sizeof *s);
    s->leaf = t->leaf;
    s->flags = (t->columns ? CV_LINEAR : 0) | (t->flags & CV_STACK ? CV_EXPERTS : 0);
    cv_tensor_path(t, layer, s->path, sizeof s->path);
    if (t->flags & CV_STACK) {
        snprintf(s->unstacked, sizeof s->unstacked, "model.layers.%lld.mlp.experts.%%lld.%s.weight", (long long)layer,
                 cv_tensor_expert(t));
        s->shape[s->n_dims++] = sizes->experts;
    }
    s->shape[s->n_dims++] = cv_size(sizes, t->rows);
    if (t->columns) s->shape[s->n_dims++] = cv_size(sizes, t->columns);
}

typedef struct walk {
    const cv_dims *dims;
    lm_status (*fn)(void *user, const cv_slot *slot, lm_error *err);
    void *user;
} walk;

static lm_status visit(void *user, const cv_tensor *t, int64_t layer, lm_error *err) {
    const walk *w = user;
    cv_slot slot;
    bool moe = t->flags & CV_PER_LAYER && is_moe(w->dims, layer);
    if (!cv_tensor_applies(t, &w->dims->sizes, moe)) return LM_OK;
    fill_slot(&slot, t, &w->dims->sizes, layer);
    return w->fn(w->user, &slot, err);
}

lm_status cv_family_each(const struct cv_family *family, const cv_dims *d,
                         lm_status (*fn)(void *user, const cv_slot *slot, lm_error *err), void *user, lm_error *err) {
    walk w = {.dims = d, .fn = fn, .user = user};
    return cv_tensors_each(family->order, d->layers, visit, &w, err);
}

bool cv_family_drops(const struct cv_family *family, const cv_dims *d, const char *name) {
    return lm_arch_ignores(lm_arch_find(family->model_type), name) ||
           (d->sizes.tied && !strcmp(name, "lm_head.weight"));
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
    return table ? d->layers * (d->sizes.head_dim / 2) * 4 : 0;
}
