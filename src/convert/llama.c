/* SPDX-License-Identifier: MIT
 * llama.c: metadata of the llama architecture, and the config files made from it. */
#include "base/fs.h"
#include "base/half.h"
#include "convert/convert.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PI 3.14159265358979323846

double cv_shortest(float f) {
    char text[40];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)f);
        if (strtof(text, NULL) == f) break;
    }
    return strtod(text, NULL);
}

/* ---------------------------------------------------------------- reading */

static lm_status check_architecture(const lm_gguf *g, lm_error *err) {
    char *name;
    LM_TRY(lm_gguf_string(g, "general.architecture", true, &name, err));
    bool ok = !strcmp(name, "llama");
    if (!ok) lm_fail(err, LM_UNSUPPORTED, "%s: architecture '%.60s' is not supported, only llama", g->path, name);
    free(name);
    return ok ? LM_OK : LM_UNSUPPORTED;
}

static lm_status read_sizes(const lm_gguf *g, cv_llama_params *p, lm_error *err) {
    const int64_t big = (int64_t)1 << 24;
    int64_t value_length, rotated, experts;
    LM_TRY(lm_gguf_int(g, "llama.block_count", true, 0, 1, 4096, &p->layers, err));
    LM_TRY(lm_gguf_int(g, "llama.context_length", true, 0, 1, (int64_t)1 << 40, &p->context, err));
    LM_TRY(lm_gguf_int(g, "llama.embedding_length", true, 0, 1, big, &p->hidden, err));
    LM_TRY(lm_gguf_int(g, "llama.feed_forward_length", true, 0, 1, big, &p->ffn, err));
    LM_TRY(lm_gguf_int(g, "llama.attention.head_count", true, 0, 1, 65536, &p->heads, err));
    LM_TRY(lm_gguf_int(g, "llama.attention.head_count_kv", false, p->heads, 1, 65536, &p->kv_heads, err));
    LM_TRY(lm_gguf_int(g, "llama.attention.key_length", false, p->hidden / p->heads, 1, 65536, &p->head_dim, err));
    LM_TRY(lm_gguf_int(g, "llama.attention.value_length", false, p->head_dim, 1, 65536, &value_length, err));
    LM_TRY(lm_gguf_int(g, "llama.rope.dimension_count", false, p->head_dim, 1, 65536, &rotated, err));
    LM_TRY(lm_gguf_int(g, "llama.expert_count", false, 0, 0, 65536, &experts, err));
    if (experts)
        return lm_fail(err, LM_UNSUPPORTED, "%s: llama.expert_count: mixtures of experts are not supported", g->path);
    if (p->head_dim % 2 || value_length != p->head_dim || rotated != p->head_dim)
        return lm_fail(err, LM_UNSUPPORTED,
                       "%s: heads of %lld keys, %lld values, %lld rotated: expected one even number", g->path,
                       (long long)p->head_dim, (long long)value_length, (long long)rotated);
    if (p->heads % p->kv_heads)
        return lm_fail(err, LM_FORMAT, "%s: llama.attention.head_count_kv: %lld does not divide %lld heads", g->path,
                       (long long)p->kv_heads, (long long)p->heads);
    return LM_OK;
}

/* Llama 3's frequency scaling is stored as divisors, one per pair; true if they are what `factor` gives with the
 * parameters that every published model uses: low 1, high 4, 8192 positions. */
static bool is_llama3(const cv_llama_params *p, const float *divisors, float factor) {
    int64_t n = p->head_dim / 2;
    for (int64_t i = 0; i < n; i++) {
        double frequency = pow((double)p->rope_theta, -2.0 * (double)i / (double)p->head_dim);
        double wave = 2 * PI / frequency, want = 1, smooth = (8192 / wave - 1) / 3;
        if (wave > 8192)
            want = (double)factor;
        else if (wave >= 8192.0 / 4)
            want = 1 / ((1 - smooth) / (double)factor + smooth);
        if (fabs((double)divisors[i] / want - 1) > 1e-4) return false;
    }
    return true;
}

static lm_status read_rope_freqs(const lm_gguf *g, cv_llama_params *p, lm_error *err) {
    const lm_gguf_tensor *t = lm_gguf_find_tensor(g, "rope_freqs.weight");
    if (!t) return LM_OK;
    if (t->type != LM_GGML_F32 || t->n_dims != 1 || t->shape[0] != p->head_dim / 2)
        return lm_fail(err, LM_FORMAT, "%s: rope_freqs.weight: expected %lld float32 values", g->path,
                       (long long)p->head_dim / 2);
    float *divisors = malloc((size_t)t->bytes), factor = 1;
    if (!divisors) return lm_fail_nomem(err, (size_t)t->bytes, t->name);
    memcpy(divisors, t->data, (size_t)t->bytes);
    for (int64_t i = 0; i < t->shape[0]; i++)
        if (divisors[i] > factor) factor = divisors[i];
    bool plain = true, known = isfinite(factor) && is_llama3(p, divisors, factor);
    for (int64_t i = 0; i < t->shape[0]; i++) plain = plain && divisors[i] == 1.0f;
    free(divisors);
    if (plain) return LM_OK;
    if (!known || p->rope != ROPE_PLAIN)
        return lm_fail(err, LM_UNSUPPORTED,
                       "%s: rope_freqs.weight: not Llama 3's frequency scaling, which is all that is known", g->path);
    p->rope = ROPE_LLAMA3;
    p->rope_factor = factor;
    return LM_OK;
}

static lm_status read_rope(const lm_gguf *g, cv_llama_params *p, lm_error *err) {
    char *type;
    float old_linear;
    LM_TRY(lm_gguf_float(g, "llama.rope.freq_base", false, 10000.0f, &p->rope_theta, err));
    LM_TRY(lm_gguf_float(g, "llama.rope.scale_linear", false, 1.0f, &old_linear, err));
    LM_TRY(lm_gguf_float(g, "llama.rope.scaling.factor", false, old_linear, &p->rope_factor, err));
    if (!(p->rope_theta > 0) || !(p->rope_factor > 0))
        return lm_fail(err, LM_FORMAT, "%s: llama.rope: freq_base and scaling.factor must be positive", g->path);
    LM_TRY(lm_gguf_string(g, "llama.rope.scaling.type", false, &type, err));
    lm_status s = LM_OK;
    if (type && strcmp(type, "none") && strcmp(type, "linear"))
        s = lm_fail(err, LM_UNSUPPORTED, "%s: llama.rope.scaling.type: '%.60s' is not supported", g->path, type);
    bool none = type && !strcmp(type, "none");
    free(type);
    LM_TRY(s);
    p->rope = !none && p->rope_factor != 1.0f ? ROPE_LINEAR : ROPE_PLAIN;
    return read_rope_freqs(g, p, err);
}

static lm_status read_token_ids(const lm_gguf *g, cv_llama_params *p, lm_error *err) {
    static const char *const ends[LM_CONVERT_MAX_EOS] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                                         "tokenizer.ggml.eom_token_id"};
    const int64_t max = p->vocab - 1;
    LM_TRY(lm_gguf_int(g, "tokenizer.ggml.bos_token_id", false, -1, 0, max, &p->bos, err));
    LM_TRY(lm_gguf_int(g, "tokenizer.ggml.padding_token_id", false, -1, 0, max, &p->pad, err));
    LM_TRY(lm_gguf_int(g, "tokenizer.ggml.unknown_token_id", false, -1, 0, max, &p->unk, err));
    for (int i = 0; i < LM_CONVERT_MAX_EOS; i++) {
        int64_t id;
        bool new_one = true;
        LM_TRY(lm_gguf_int(g, ends[i], i == 0, -1, 0, max, &id, err));
        for (int j = 0; j < p->n_eos; j++) new_one = new_one && p->eos[j] != id;
        if (id >= 0 && new_one) p->eos[p->n_eos++] = id;
    }
    return LM_OK;
}

lm_status cv_llama_params_read(const lm_gguf *g, cv_llama_params *out, lm_error *err) {
    memset(out, 0, sizeof *out);
    LM_TRY(check_architecture(g, err));
    LM_TRY(read_sizes(g, out, err));
    LM_TRY(lm_gguf_float(g, "llama.attention.layer_norm_rms_epsilon", true, 0, &out->eps, err));
    LM_TRY(read_rope(g, out, err));
    const lm_gguf_tensor *embedding = lm_gguf_find_tensor(g, "token_embd.weight");
    if (!embedding) return lm_fail(err, LM_FORMAT, "%s: tensor token_embd.weight is missing", g->path);
    out->vocab = embedding->shape[1];
    out->tied = !lm_gguf_find_tensor(g, "output.weight");
    out->attention_bias = lm_gguf_find_tensor(g, "blk.0.attn_q.bias") != NULL;
    out->mlp_bias = lm_gguf_find_tensor(g, "blk.0.ffn_gate.bias") != NULL;
    return read_token_ids(g, out, err);
}

/* ---------------------------------------------------------------- writing */

lm_status cv_write_json(const char *folder, const char *name, json_t *value, size_t indent, lm_error *err) {
    char *path = lm_fs_join(folder, name);
    /* every float here came from a float32: nine digits say it all */
    char *text = value ? json_dumps(value, JSON_INDENT(indent) | JSON_REAL_PRECISION(9)) : NULL;
    lm_status s = path && text ? lm_file_write(path, text, strlen(text), err) : lm_fail_nomem(err, 0, name);
    json_decref(value);
    free(path);
    free(text);
    return s;
}

/* One quantization entry: the defaults, or a module's. */
static json_t *entry(int bits) {
    return json_pack("{s:i, s:i, s:s}", "group_size", 32, "bits", bits, "mode", "affine");
}

static json_t *quantization(const cv_llama_plan *plan) {
    json_t *table = entry(plan->default_bits);
    for (size_t i = 0; table && i < plan->n_modules; i++)
        if (plan->modules[i].bits != plan->default_bits &&
            json_object_set_new(table, plan->modules[i].path, entry(plan->modules[i].bits))) {
            json_decref(table);
            return NULL;
        }
    return table;
}

static json_t *rope_scaling(const cv_llama_params *p) {
    double factor = cv_shortest(p->rope_factor);
    switch (p->rope) {
    case ROPE_LINEAR: return json_pack("{s:f, s:s, s:s}", "factor", factor, "rope_type", "linear", "type", "linear");
    case ROPE_LLAMA3:
        return json_pack("{s:f, s:f, s:f, s:i, s:s}", "factor", factor, "high_freq_factor", 4.0, "low_freq_factor", 1.0,
                         "original_max_position_embeddings", 8192, "rope_type", "llama3");
    default: return json_null();
    }
}

static json_t *eos_ids(const cv_llama_params *p) {
    if (p->n_eos == 1) return json_integer(p->eos[0]);
    json_t *list = json_array();
    for (int i = 0; i < p->n_eos; i++) json_array_append_new(list, json_integer(p->eos[i]));
    return list;
}

static const char *torch_name(lm_dtype dtype) {
    return dtype == LM_DTYPE_F16 ? "float16" : dtype == LM_DTYPE_BF16 ? "bfloat16" : "float32";
}

/* Keys in alphabetical order, as upstream writes them. A failed insertion shows as a missing key: `ok`. */
static json_t *config(const cv_llama_params *p, const cv_llama_plan *plan) {
    json_t *c = json_object();
    bool ok = c != NULL;
#define SET(key, value) ok = !json_object_set_new(c, key, value) && ok
    SET("architectures", json_pack("[s]", "LlamaForCausalLM"));
    SET("attention_bias", json_boolean(p->attention_bias));
    if (p->bos >= 0) SET("bos_token_id", json_integer(p->bos));
    SET("eos_token_id", eos_ids(p));
    SET("head_dim", json_integer(p->head_dim));
    SET("hidden_act", json_string("silu"));
    SET("hidden_size", json_integer(p->hidden));
    SET("intermediate_size", json_integer(p->ffn));
    SET("max_position_embeddings", json_integer(p->context));
    SET("mlp_bias", json_boolean(p->mlp_bias));
    SET("model_type", json_string("llama"));
    SET("num_attention_heads", json_integer(p->heads));
    SET("num_hidden_layers", json_integer(p->layers));
    SET("num_key_value_heads", json_integer(p->kv_heads));
    if (p->pad >= 0) SET("pad_token_id", json_integer(p->pad));
    if (plan->default_bits) SET("quantization", quantization(plan));
    if (plan->default_bits) SET("quantization_config", quantization(plan));
    SET("rms_norm_eps", json_real(cv_shortest(p->eps)));
    SET("rope_scaling", rope_scaling(p));
    SET("rope_theta", json_real(cv_shortest(p->rope_theta)));
    SET("tie_word_embeddings", json_boolean(p->tied));
    SET("torch_dtype", json_string(torch_name(plan->main)));
    SET("vocab_size", json_integer(p->vocab));
#undef SET
    if (ok) return c;
    json_decref(c);
    return NULL;
}

lm_status cv_llama_configs_write(const cv_llama_params *p, const cv_llama_plan *plan, const char *folder,
                                 lm_error *err) {
    json_t *generation = json_pack("{s:b}", "_from_model_config", 1);
    bool ok = generation != NULL;
    if (p->bos >= 0) ok = !json_object_set_new(generation, "bos_token_id", json_integer(p->bos)) && ok;
    ok = !json_object_set_new(generation, "eos_token_id", eos_ids(p)) && ok;
    if (p->pad >= 0) ok = !json_object_set_new(generation, "pad_token_id", json_integer(p->pad)) && ok;
    if (!ok) {
        json_decref(generation);
        generation = NULL;
    }
    LM_TRY(cv_write_json(folder, "generation_config.json", generation, 2, err));
    return cv_write_json(folder, "config.json", config(p, plan), 4, err);
}
