/* SPDX-License-Identifier: MIT
 * gguf_out_meta.c: metadata of the architecture, and what no GGUF of it can say. */
#include "base/half.h"
#include "convert/gguf_out.h"
#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- pairs */

void cv_gguf_put(lm_buf *b, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) lm_buf_addc(b, (char)(v >> (8 * i)));
}

void cv_gguf_put_text(lm_buf *b, const char *data, size_t length) {
    cv_gguf_put(b, length, 8);
    lm_buf_add(b, data, length);
}

static void pair(cv_gguf_pairs *p, const char *key, lm_gguf_type type) {
    cv_gguf_put_text(&p->bytes, key, strlen(key));
    cv_gguf_put(&p->bytes, type, 4);
    p->count++;
}

void cv_gguf_pair_u32(cv_gguf_pairs *p, const char *key, uint32_t v) {
    pair(p, key, LM_GGUF_U32);
    cv_gguf_put(&p->bytes, v, 4);
}

void cv_gguf_pair_f32(cv_gguf_pairs *p, const char *key, float v) {
    pair(p, key, LM_GGUF_F32);
    cv_gguf_put(&p->bytes, lm_f32_bits(v), 4);
}

void cv_gguf_pair_bool(cv_gguf_pairs *p, const char *key, bool v) {
    pair(p, key, LM_GGUF_BOOL);
    cv_gguf_put(&p->bytes, v, 1);
}

void cv_gguf_pair_string(cv_gguf_pairs *p, const char *key, const char *v) {
    pair(p, key, LM_GGUF_STRING);
    cv_gguf_put_text(&p->bytes, v, strlen(v));
}

void cv_gguf_pair_array(cv_gguf_pairs *p, const char *key, lm_gguf_type item, uint64_t count) {
    pair(p, key, LM_GGUF_ARRAY);
    cv_gguf_put(&p->bytes, item, 4);
    cv_gguf_put(&p->bytes, count, 8);
}

/* ---------------------------------------------------------------- what cannot be said */

static lm_status unsupported(const cv_gguf_source *s, const char *key, const char *why, lm_error *err) {
    return lm_fail(err, LM_UNSUPPORTED, "%s: %s: %s", s->config->path, key, why);
}

/* Windows of attention: upstream's llama and qwen3 compute none, and neither do llama.cpp's. */
static lm_status check_window(const cv_gguf_source *s, lm_error *err) {
    const json_t *root = s->config->root, *window = json_object_get(root, "sliding_window");
    const json_t *use = json_object_get(root, "use_sliding_window"), *types = json_object_get(root, "layer_types"), *t;
    size_t i;
    bool narrow = json_is_number(window) && json_number_value(window) < (double)s->h.max_positions;
    if (json_is_true(use) || (narrow && !json_is_false(use)))
        return unsupported(s, json_is_true(use) ? "use_sliding_window" : "sliding_window",
                           "sliding windows have no place in this architecture's GGUF", err);
    if (json_is_array(types)) {
        json_array_foreach(types, i, t) {
            const char *text = json_string_value(t);
            if (!text || strcmp(text, "full_attention"))
                return lm_fail(err, LM_UNSUPPORTED, "%s: layer_types[%zu]: expected full_attention, found %.60s",
                               s->config->path, i, text ? text : "another type");
        }
    }
    return LM_OK;
}

static lm_status check_experts(const cv_gguf_source *s, lm_error *err) {
    const lm_hparams *h = &s->h;
    if (h->experts < 1) return unsupported(s, "num_experts", "a qwen3moe GGUF needs experts", err);
    if (!h->norm_topk)
        return unsupported(s, "norm_topk_prob", "false has no place in a qwen3moe GGUF, which normalizes", err);
    for (int64_t i = 0; i < h->layers; i++)
        if (!lm_layer_is_moe(h, i))
            return lm_fail(err, LM_UNSUPPORTED,
                           "%s: mlp_only_layers, decoder_sparse_step: layer %lld has no experts, all layers of a "
                           "qwen3moe GGUF have",
                           s->config->path, (long long)i);
    return LM_OK;
}

lm_status cv_gguf_source_check(cv_gguf_source *s, lm_error *err) {
    static const char *const names[][2] = {{"llama", "llama"}, {"qwen3", "qwen3"}, {"qwen3_moe", "qwen3moe"}};
    s->arch = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i][0], s->config->model_type)) s->arch = names[i][1];
    if (!s->arch)
        return lm_fail(err, LM_UNSUPPORTED, "%s: model_type '%.60s' has no GGUF architecture here (%s have)",
                       s->config->path, s->config->model_type, lm_arch_names());
    LM_TRY(check_window(s, err));
    if (!s->h.max_positions)
        return lm_fail(err, LM_FORMAT, "%s: max_position_embeddings: missing, and a GGUF needs it", s->config->path);
    if (s->h.max_positions > UINT32_MAX)
        return lm_fail(err, LM_UNSUPPORTED, "%s: max_position_embeddings: %lld is more than a GGUF holds",
                       s->config->path, (long long)s->h.max_positions);
    if (s->h.rope_kind == LM_ROPE_LLAMA3 && strcmp(s->arch, "llama"))
        return unsupported(s, "rope_scaling", "llama3 has a place in llama GGUFs only", err);
    return strcmp(s->arch, "qwen3moe") ? LM_OK : check_experts(s, err);
}

/* ---------------------------------------------------------------- what is said */

void cv_gguf_rope_factors(const lm_hparams *h, float *out) {
    const double two_pi = 6.283185307179586;
    double low = h->rope_original_positions / h->rope_low_freq, high = h->rope_original_positions / h->rope_high_freq;
    for (int64_t i = 0; i < h->head_dim / 2; i++) {
        double wave = two_pi * pow(h->rope_theta, 2.0 * (double)i / (double)h->head_dim), f = 1;
        double smooth = (h->rope_original_positions / wave - h->rope_low_freq) / (h->rope_high_freq - h->rope_low_freq);
        if (wave > low)
            f = h->rope_factor;
        else if (wave > high)
            f = 1 / ((1 - smooth) / h->rope_factor + smooth);
        out[i] = (float)f;
    }
}

/* "llama." + the rest of a key. */
static const char *key(const cv_gguf_source *s, const char *rest, char *text, size_t size) {
    snprintf(text, size, "%s.%s", s->arch, rest);
    return text;
}

static void add_architecture(const cv_gguf_source *s, cv_gguf_pairs *p) {
    const lm_hparams *h = &s->h;
    const struct {
        const char *key;
        int64_t value; /* -1: left out */
    } numbers[] = {
        {"block_count", h->layers},
        {"context_length", h->max_positions},
        {"embedding_length", h->hidden},
        {"feed_forward_length", h->ffn},
        {"attention.head_count", h->heads},
        {"attention.head_count_kv", h->kv_heads},
        {"attention.key_length", h->head_dim},
        {"attention.value_length", h->head_dim},
        {"rope.dimension_count", h->head_dim},
        {"vocab_size", h->vocab},
        {"expert_count", h->experts > 0 ? h->experts : -1},
        {"expert_used_count", h->experts > 0 ? h->top_k : -1},
        {"expert_feed_forward_length", h->experts > 0 ? h->moe_ffn : -1},
    };
    char name[96];
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].value >= 0)
            cv_gguf_pair_u32(p, key(s, numbers[i].key, name, sizeof name), (uint32_t)numbers[i].value);
    cv_gguf_pair_f32(p, key(s, "attention.layer_norm_rms_epsilon", name, sizeof name), (float)h->norm_eps);
    cv_gguf_pair_f32(p, key(s, "rope.freq_base", name, sizeof name), (float)h->rope_theta);
    if (h->rope_kind == LM_ROPE_LINEAR) {
        cv_gguf_pair_string(p, key(s, "rope.scaling.type", name, sizeof name), "linear");
        cv_gguf_pair_f32(p, key(s, "rope.scaling.factor", name, sizeof name), (float)h->rope_factor);
    }
}

lm_status cv_gguf_meta_add(const cv_gguf_source *s, const cv_gguf_plan *plan, const char *name, cv_gguf_pairs *p,
                           lm_error *err) {
    cv_gguf_pair_string(p, "general.architecture", s->arch);
    cv_gguf_pair_string(p, "general.type", "model");
    if (*name) cv_gguf_pair_string(p, "general.name", name);
    cv_gguf_pair_u32(p, "general.alignment", 32);
    cv_gguf_pair_u32(p, "general.file_type", (uint32_t)plan->file_type);
    cv_gguf_pair_u32(p, "general.quantization_version", 2);
    add_architecture(s, p);
    LM_TRY(cv_gguf_vocab_add(s, p, err));
    return p->bytes.failed ? lm_fail_nomem(err, p->bytes.length, "the metadata") : LM_OK;
}
