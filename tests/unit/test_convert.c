/* SPDX-License-Identifier: MIT
 * test_convert.c: synthetic GGUF models of every type are converted, and each value is compared with the GGUF's own
 * formula; broken ones must leave nothing behind. The real SmolLM2 file is used where LM_TEST_GGUF names it. */
#include "format/checkpoint.h"
#include "format/config.h"
#include "gguf_util.h"
#include "sha256.h"
#include <math.h>

enum { HIDDEN = 64, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 16, FFN = 96, LAYERS = 2, VOCAB = 12 };

typedef struct model {
    uint32_t matrix, embedding, norm; /* tensor types */
    bool output, attention_bias, mlp_bias, huge_scale, inexact_norm;
    float rope_freqs; /* 0: none; else the factor of Llama 3's scaling */
    const char *pre, *architecture, *skip, *scaling;
    void (*more)(maker *);
} model;

static const model plain = {LM_GGML_Q4_1, LM_GGML_Q8_0, LM_GGML_F32, .pre = "smollm", .architecture = "llama"};

static void add(maker *m, const model *o, const char *name, uint32_t type, uint64_t columns, uint64_t rows) {
    if (o->skip && !strcmp(o->skip, name)) return;
    tensor_random(m, name, type, columns, rows);
}

static void add_layer(maker *m, const model *o, int layer) {
    static const struct {
        const char *name;
        int columns, rows; /* rows 0: a norm */
        int bias;          /* 1 attention's, 2 the MLP's */
    } parts[] = {
        {"attn_norm", HIDDEN, 0, 0},
        {"attn_q", HIDDEN, HEADS * HEAD_DIM, 1},
        {"attn_k", HIDDEN, KV_HEADS * HEAD_DIM, 1},
        {"attn_v", HIDDEN, KV_HEADS * HEAD_DIM, 1},
        {"attn_output", HEADS * HEAD_DIM, HIDDEN, 1},
        {"ffn_norm", HIDDEN, 0, 0},
        {"ffn_gate", HIDDEN, FFN, 2},
        {"ffn_up", HIDDEN, FFN, 2},
        {"ffn_down", FFN, HIDDEN, 2},
    };
    char name[64];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(name, sizeof name, "blk.%d.%s.weight", layer, parts[i].name);
        add(m, o, name, parts[i].rows ? o->matrix : o->norm, (uint64_t)parts[i].columns, (uint64_t)parts[i].rows);
        snprintf(name, sizeof name, "blk.%d.%s.bias", layer, parts[i].name);
        if ((parts[i].bias == 1 && o->attention_bias) || (parts[i].bias == 2 && o->mlp_bias))
            add(m, o, name, LM_GGML_F32, (uint64_t)parts[i].rows, 0);
    }
}

static void add_tokenizer(maker *m, const model *o) {
    static const char *const tokens[VOCAB] = {"<|bos|>",      "<|eos|>", "a",      "b", "\xc4\xa0", "ab",
                                              "\xc4\xa0\x61", "\"\\",    "<user>", "c", "[PAD]",    "\x01"};
    static const int32_t types[VOCAB] = {3, 3, 1, 1, 1, 1, 1, 1, 4, 1, 5, 1};
    static const char *const merges[] = {"a b", "\xc4\xa0 a"};
    pair_string(m, "tokenizer.ggml.model", "gpt2");
    pair_string(m, "tokenizer.ggml.pre", o->pre);
    pair_strings(m, "tokenizer.ggml.tokens", tokens, VOCAB);
    pair_ints(m, "tokenizer.ggml.token_type", types, VOCAB);
    pair_strings(m, "tokenizer.ggml.merges", merges, 2);
    pair_u32(m, "tokenizer.ggml.bos_token_id", 0);
    pair_u32(m, "tokenizer.ggml.eos_token_id", 1);
}

static void add_rope_freqs(maker *m, float factor) {
    tensor_head(m, "rope_freqs.weight", LM_GGML_F32, HEAD_DIM / 2, 0);
    for (int i = 0; i < HEAD_DIM / 2; i++) {
        double wave = 2 * acos(-1.0) * pow(500000.0, 2.0 * i / HEAD_DIM), smooth = (8192 / wave - 1) / (4 - 1), f = 1;
        if (wave > 8192)
            f = (double)factor;
        else if (wave >= 2048)
            f = 1 / ((1 - smooth) / (double)factor + smooth);
        put(&m->data, lm_f32_bits((float)f), 4);
    }
}

static uint8_t *make(const model *o, size_t *length) {
    maker m;
    maker_init(&m);
    pair_string(&m, "general.architecture", o->architecture);
    pair_u32(&m, "llama.block_count", LAYERS);
    pair_u32(&m, "llama.context_length", 512);
    pair_u32(&m, "llama.embedding_length", HIDDEN);
    pair_u32(&m, "llama.feed_forward_length", FFN);
    pair_u32(&m, "llama.attention.head_count", HEADS);
    pair_u32(&m, "llama.attention.head_count_kv", KV_HEADS);
    pair_f32(&m, "llama.attention.layer_norm_rms_epsilon", 1e-6f);
    pair_f32(&m, "llama.rope.freq_base", 500000.0f);
    if (o->scaling)
        pair_string(&m, "llama.rope.scaling.type", o->scaling), pair_f32(&m, "llama.rope.scaling.factor", 4);
    add_tokenizer(&m, o);
    add(&m, o, "token_embd.weight", o->embedding, HIDDEN, VOCAB);
    for (int i = 0; i < LAYERS; i++) add_layer(&m, o, i);
    add(&m, o, "output_norm.weight", o->norm, HIDDEN, 0);
    if (o->output) add(&m, o, "output.weight", o->embedding, HIDDEN, VOCAB);
    if (o->rope_freqs > 0) add_rope_freqs(&m, o->rope_freqs);
    if (o->more) o->more(&m);
    uint8_t *file = maker_file(&m, length);
    maker_free(&m);
    lm_gguf g; /* changes of single values, at the places that the reader finds */
    if ((o->huge_scale || o->inexact_norm) && lm_gguf_parse("F", file, *length, &g, NULL) == LM_OK) {
        uint8_t *q = file + (lm_gguf_find_tensor(&g, "blk.0.attn_q.weight")->data - file);
        uint8_t *n = file + (lm_gguf_find_tensor(&g, "output_norm.weight")->data - file);
        uint16_t big = lm_f32_to_f16(60000.0f);
        float third = 1.0f / 3.0f;
        if (o->huge_scale) memcpy(q, &big, 2);
        if (o->inexact_norm) memcpy(n, &third, 4);
        lm_gguf_free(&g);
    }
    return file;
}

/* ---------------------------------------------------------------- the two sides of the comparison */

/* Value (row, column) by ggml's definition of its types. */
static double gguf_value(const lm_gguf_tensor *t, int64_t row, int64_t column) {
    int block = 1, bytes = 1;
    lm_ggml_type(t->type, &block, &bytes);
    const uint8_t *p = t->data + (row * (t->shape[0] / block) + column / block) * bytes;
    int j = (int)(column % block);
    double d = (double)lm_f16_to_f32(lm_load_u16(p));
    switch (t->type) {
    case LM_GGML_F32: return (double)lm_load_f32(p);
    case LM_GGML_F16: return d;
    case LM_GGML_BF16: return (double)lm_bf16_to_f32(lm_load_u16(p));
    case LM_GGML_Q8_0: return d * (int8_t)p[2 + j];
    case LM_GGML_Q4_0: return d * ((j < 16 ? p[2 + j] & 15 : p[2 + j - 16] >> 4) - 8);
    default: return d * (j < 16 ? p[4 + j] & 15 : p[4 + j - 16] >> 4) + (double)lm_f16_to_f32(lm_load_u16(p + 2));
    }
}

static double float_at(const lm_tensor *t, int64_t i) {
    const uint8_t *p = t->data;
    if (t->dtype == LM_DTYPE_F32) return (double)lm_load_f32(p + 4 * i);
    return (double)(t->dtype == LM_DTYPE_F16 ? lm_f16_to_f32(lm_load_u16(p + 2 * i))
                                             : lm_bf16_to_f32(lm_load_u16(p + 2 * i)));
}

/* Value (row, column) of an MLX module: scale * q + bias, q from the row's bit string. */
static double mlx_value(const lm_checkpoint *c, const char *path, int64_t row, int64_t column, int64_t columns) {
    char name[160];
    snprintf(name, sizeof name, "%s.weight", path);
    const lm_tensor *w = lm_checkpoint_find(c, name);
    assert_non_null(w);
    if (w->dtype != LM_DTYPE_U32) return float_at(w, row * columns + column);
    snprintf(name, sizeof name, "%s.scales", path);
    const lm_tensor *s = lm_checkpoint_find(c, name);
    snprintf(name, sizeof name, "%s.biases", path);
    const lm_tensor *b = lm_checkpoint_find(c, name);
    int64_t bits = w->shape[1] * 32 / columns, group = row * (columns / 32) + column / 32;
    const uint8_t *p = (const uint8_t *)w->data + row * w->shape[1] * 4;
    int q = bits == 8 ? p[column] : (p[column / 2] >> (column % 2 * 4)) & 15;
    return float_at(s, group) * q + float_at(b, group);
}

static void compare_tensor(const lm_gguf *g, const lm_checkpoint *c, const char *gguf_name, const char *path,
                           int heads) {
    const lm_gguf_tensor *t = lm_gguf_find_tensor(g, gguf_name);
    assert_non_null(t);
    int64_t rows = t->n_dims == 2 ? t->shape[1] : 1, columns = t->shape[0];
    for (int64_t r = 0; r < rows; r++) {
        int64_t from = r;
        if (heads) { /* (head, half, i) of MLX is (head, i, half) of the GGUF */
            int64_t dim = rows / heads, half = dim / 2, head = r / dim, side = r % dim / half, i = r % half;
            from = head * dim + 2 * i + side;
        }
        for (int64_t k = 0; k < columns; k++)
            if (gguf_value(t, from, k) != mlx_value(c, path, r, k, columns))
                fail_msg("%s [%d, %d]: %g, expected %g", path, (int)r, (int)k, mlx_value(c, path, r, k, columns),
                         gguf_value(t, from, k));
    }
}

static void compare_all(const lm_gguf *g, const lm_checkpoint *c, const model *o) {
    static const struct {
        const char *gguf, *mlx;
        int heads;
    } parts[] = {{"attn_norm", "input_layernorm", 0},      {"attn_q", "self_attn.q_proj", HEADS},
                 {"attn_k", "self_attn.k_proj", KV_HEADS}, {"attn_v", "self_attn.v_proj", 0},
                 {"attn_output", "self_attn.o_proj", 0},   {"ffn_norm", "post_attention_layernorm", 0},
                 {"ffn_gate", "mlp.gate_proj", 0},         {"ffn_up", "mlp.up_proj", 0},
                 {"ffn_down", "mlp.down_proj", 0}};
    compare_tensor(g, c, "token_embd.weight", "model.embed_tokens", 0);
    compare_tensor(g, c, "output_norm.weight", "model.norm", 0);
    if (o->output) compare_tensor(g, c, "output.weight", "lm_head", 0);
    for (int layer = 0; layer < LAYERS; layer++)
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            char from[64], to[96];
            snprintf(from, sizeof from, "blk.%d.%s.weight", layer, parts[i].gguf);
            snprintf(to, sizeof to, "model.layers.%d.%s", layer, parts[i].mlx);
            compare_tensor(g, c, from, to, parts[i].heads);
        }
}

/* Converts and compares; the opened results are handed to `check`. */
static void convert_and_compare(const model *o, void (*check)(const lm_checkpoint *, const lm_config *, const char *)) {
    folder f = folder_make();
    size_t length;
    uint8_t *file = make(o, &length);
    lm_gguf g;
    lm_checkpoint *c;
    lm_config config;
    lm_error e = {0};
    const char *out = folder_path(&f, "out");
    folder_write(&f, "m.gguf", file, length);
    if (lm_convert_gguf(folder_path(&f, "m.gguf"), out, NULL, NULL, &e) != LM_OK) fail_msg("%s", e.message);
    assert_int_equal(folder_count(f.path), 2); /* no temporary folder */
    assert_int_equal(folder_count(out), 6);
    assert_int_equal(lm_gguf_parse("F", file, length, &g, &e), LM_OK);
    if (lm_checkpoint_open(out, true, NULL, NULL, &c, &e) != LM_OK) fail_msg("%s", e.message);
    if (lm_config_load(out, &config, &e) != LM_OK) fail_msg("%s", e.message);
    compare_all(&g, c, o);
    if (check) check(c, &config, out);
    lm_config_free(&config);
    lm_checkpoint_close(c);
    lm_gguf_free(&g);
    free(file);
    remove_tree(f.path);
}

static void converts_every_type(void **state) {
    (void)state;
    static const uint32_t types[] = {LM_GGML_F32, LM_GGML_F16, LM_GGML_BF16, LM_GGML_Q4_0, LM_GGML_Q4_1, LM_GGML_Q8_0};
    for (size_t i = 0; i < 6; i++)
        for (size_t j = 0; j < 6; j++) {
            model o = plain;
            o.matrix = types[i];
            o.embedding = types[j];
            o.output = j % 2;
            convert_and_compare(&o, NULL);
        }
}

static void check_plain(const lm_checkpoint *c, const lm_config *config, const char *out) {
    lm_quant q;
    lm_error e;
    (void)out;
    assert_int_equal(lm_config_quant(config, "model.embed_tokens", &q, &e), LM_OK);
    assert_true(q.listed && q.bits == 8 && q.group_size == 32);
    assert_int_equal(lm_config_quant(config, "model.layers.0.mlp.up_proj", &q, &e), LM_OK);
    assert_true(!q.listed && q.bits == 4 && q.group_size == 32);
    assert_string_equal(json_string_value(json_object_get(config->root, "torch_dtype")), "float16");
    assert_true(json_is_true(json_object_get(config->root, "tie_word_embeddings")));
    assert_true(json_is_null(json_object_get(config->root, "rope_scaling")));
    assert_true(json_real_value(json_object_get(config->root, "rms_norm_eps")) == 1e-6);
    assert_int_equal(lm_checkpoint_find(c, "model.norm.weight")->dtype, LM_DTYPE_F16);
    assert_int_equal(config->n_eos_ids, 1);
    assert_int_equal(config->eos_ids[0], 1);
}

static void check_f32_norm(const lm_checkpoint *c, const lm_config *config, const char *out) {
    (void)config, (void)out;
    assert_int_equal(lm_checkpoint_find(c, "model.norm.weight")->dtype, LM_DTYPE_F32);
    assert_int_equal(lm_checkpoint_find(c, "model.layers.0.input_layernorm.weight")->dtype, LM_DTYPE_F16);
}

static void check_f32_scales(const lm_checkpoint *c, const lm_config *config, const char *out) {
    (void)config, (void)out;
    assert_int_equal(lm_checkpoint_find(c, "model.layers.0.self_attn.q_proj.biases")->dtype, LM_DTYPE_F32);
    assert_int_equal(lm_checkpoint_find(c, "model.layers.0.self_attn.q_proj.scales")->dtype, LM_DTYPE_F32);
    assert_int_equal(lm_checkpoint_find(c, "model.layers.1.self_attn.q_proj.biases")->dtype, LM_DTYPE_F16);
}

static void check_bf16(const lm_checkpoint *c, const lm_config *config, const char *out) {
    (void)c, (void)out;
    assert_false(config->has_quantization);
    assert_string_equal(json_string_value(json_object_get(config->root, "torch_dtype")), "bfloat16");
}

static void check_biases(const lm_checkpoint *c, const lm_config *config, const char *out) {
    (void)out;
    assert_true(json_is_true(json_object_get(config->root, "attention_bias")));
    assert_true(json_is_true(json_object_get(config->root, "mlp_bias")));
    assert_int_equal(lm_checkpoint_find(c, "model.layers.1.self_attn.q_proj.bias")->shape[0], HEADS * HEAD_DIM);
    assert_int_equal(lm_checkpoint_find(c, "model.layers.1.mlp.down_proj.bias")->shape[0], HIDDEN);
}

static void check_llama3(const lm_checkpoint *c, const lm_config *config, const char *out) {
    (void)c, (void)out;
    const json_t *rope = json_object_get(config->root, "rope_scaling");
    assert_string_equal(json_string_value(json_object_get(rope, "rope_type")), "llama3");
    assert_true(json_number_value(json_object_get(rope, "factor")) == 32);
    assert_int_equal(json_integer_value(json_object_get(rope, "original_max_position_embeddings")), 8192);
}

static void check_linear(const lm_checkpoint *c, const lm_config *config, const char *out) {
    (void)c, (void)out;
    const json_t *rope = json_object_get(config->root, "rope_scaling");
    assert_string_equal(json_string_value(json_object_get(rope, "type")), "linear");
    assert_true(json_number_value(json_object_get(rope, "factor")) == 4);
}

static void keeps_every_bit(void **state) {
    (void)state;
    model o = plain;
    convert_and_compare(&o, check_plain);
    o.inexact_norm = true; /* 1/3 is no float16 */
    convert_and_compare(&o, check_f32_norm);
    o = plain;
    o.matrix = LM_GGML_Q8_0; /* -128 * 60000 is no float16 */
    o.huge_scale = true;
    convert_and_compare(&o, check_f32_scales);
    o.matrix = LM_GGML_Q4_0;
    convert_and_compare(&o, check_f32_scales);
    o = plain;
    o.matrix = o.embedding = LM_GGML_BF16;
    convert_and_compare(&o, check_bf16);
    o = plain;
    o.attention_bias = o.mlp_bias = true;
    convert_and_compare(&o, check_biases);
    o = plain;
    o.rope_freqs = 32;
    convert_and_compare(&o, check_llama3);
    o = plain;
    o.scaling = "linear";
    convert_and_compare(&o, check_linear);
}

/* ---------------------------------------------------------------- tokenizer */

static void load_tokenizer(const char *out, json_t **tokenizer) {
    char path[1024];
    lm_error e;
    snprintf(path, sizeof path, "%s/tokenizer.json", out);
    assert_int_equal(lm_json_load(path, 0, tokenizer, &e), LM_OK);
}

static void check_tokenizer(const lm_checkpoint *c, const lm_config *config, const char *out) {
    (void)c, (void)config;
    json_t *t;
    load_tokenizer(out, &t);
    json_t *bpe = json_object_get(t, "model"), *added = json_object_get(t, "added_tokens");
    assert_int_equal(json_object_size(json_object_get(bpe, "vocab")), VOCAB);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(bpe, "vocab"), "\"\\")), 7);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(bpe, "vocab"), "\x01")), 11);
    assert_int_equal(json_array_size(json_object_get(bpe, "merges")), 2);
    assert_int_equal(json_array_size(added), 3);
    assert_true(json_is_false(json_object_get(json_array_get(added, 2), "special"))); /* user-defined */
    assert_true(json_is_null(json_object_get(t, "post_processor")));
    json_decref(t);
}

static void check_bos(const lm_checkpoint *c, const lm_config *config, const char *out) {
    (void)c, (void)config;
    json_t *t;
    load_tokenizer(out, &t);
    json_t *processors = json_object_get(json_object_get(t, "post_processor"), "processors");
    json_t *single = json_object_get(json_array_get(processors, 1), "single");
    json_t *bos = json_object_get(json_array_get(single, 0), "SpecialToken");
    assert_string_equal(json_string_value(json_object_get(bos, "id")), "<|bos|>");
    assert_true(json_is_true(json_object_get(json_object_get(t, "model"), "ignore_merges")));
    json_decref(t);
}

/* Everything but vocabulary and added tokens equals the published tokenizer of the same kind. */
static void compare_published(const char *out, const char *folder_name) {
    static const char *const parts[] = {"normalizer", "pre_tokenizer", "decoder"};
    char path[1024];
    json_t *ours, *theirs;
    lm_error e = {0};
    snprintf(path, sizeof path, "%s/tokenizers/%s/tokenizer.json", test_data(), folder_name);
    if (access(path, R_OK)) {
        printf("skipped: %s is not here\n", path);
        return;
    }
    load_tokenizer(out, &ours);
    assert_int_equal(lm_json_load(path, 0, &theirs, &e), LM_OK);
    for (size_t i = 0; i < 3; i++)
        if (!json_equal(json_object_get(ours, parts[i]), json_object_get(theirs, parts[i]))) fail_msg("%s", parts[i]);
    json_decref(ours);
    json_decref(theirs);
}

static void check_llama_bpe(const lm_checkpoint *c, const lm_config *config, const char *out) {
    check_bos(c, config, out);
    compare_published(out, "llama3_1");
}

static void check_qwen2(const lm_checkpoint *c, const lm_config *config, const char *out) {
    (void)c, (void)config;
    compare_published(out, "qwen3");
}

static void rebuilds_tokenizers(void **state) {
    (void)state;
    model o = plain;
    convert_and_compare(&o, check_tokenizer);
    o.pre = "llama-bpe";
    convert_and_compare(&o, check_llama_bpe);
    o.pre = "qwen2";
    convert_and_compare(&o, check_qwen2);
}

/* ---------------------------------------------------------------- refusals */

static void more_unknown(maker *m) {
    tensor_random(m, "blk.0.attn_q_norm.weight", LM_GGML_F32, 16, 0);
}
static void more_experts(maker *m) {
    pair_u32(m, "llama.expert_count", 8);
}
static void more_eos(maker *m) {
    pair_u32(m, "tokenizer.ggml.padding_token_id", 99);
}
static void more_partial(maker *m) {
    pair_u32(m, "llama.rope.dimension_count", 8);
}
static void more_chat(maker *m) {
    pair_string(m, "tokenizer.chat_template", "\xff");
}
static void more_freqs(maker *m) {
    tensor_head(m, "rope_freqs.weight", LM_GGML_F32, HEAD_DIM / 2, 0);
    for (int i = 0; i < HEAD_DIM / 2; i++) put(&m->data, lm_f32_bits((float)(i + 1)), 4);
}

static void expect_failure(const model *o, lm_status status, const char *message) {
    folder f = folder_make();
    size_t length;
    uint8_t *file = make(o, &length);
    char expected[1024];
    lm_error e = {0};
    folder_write(&f, "m.gguf", file, length);
    lm_status s = lm_convert_gguf(folder_path(&f, "m.gguf"), folder_path(&f, "new/out"), NULL, NULL, &e);
    if (s == LM_OK) fail_msg("accepted: %s", message);
    snprintf(expected, sizeof expected, "%s/m.gguf: %s", f.path, message);
    assert_line(&e, status, expected);
    assert_int_equal(folder_count(f.path), 1); /* neither target, parents, nor a temporary folder */
    free(file);
    remove_tree(f.path);
}

static void refuses_models(void **state) {
    (void)state;
    model o = plain;
#define EXPECT(change, status, message)      \
    do {                                     \
        o = plain;                           \
        change;                              \
        expect_failure(&o, status, message); \
    } while (0)
    EXPECT(o.architecture = "qwen3", LM_UNSUPPORTED, "architecture 'qwen3' is not supported, only llama");
    EXPECT(o.pre = "deepseek-v3", LM_UNSUPPORTED,
           "tokenizer.ggml.pre: 'deepseek-v3' is not supported (smollm, llama-bpe, qwen2)");
    EXPECT(o.skip = "blk.1.ffn_up.weight", LM_FORMAT, "tensor blk.1.ffn_up.weight is missing");
    EXPECT(o.skip = "token_embd.weight", LM_FORMAT, "tensor token_embd.weight is missing");
    EXPECT(o.more = more_unknown, LM_UNSUPPORTED,
           "tensor blk.0.attn_q_norm.weight has no place in a llama model (1 such)");
    EXPECT(o.more = more_experts, LM_UNSUPPORTED, "llama.expert_count: mixtures of experts are not supported");
    EXPECT(o.more = more_eos, LM_FORMAT, "tokenizer.ggml.padding_token_id: expected an integer from 0 to 11, found 99");
    EXPECT(o.more = more_partial, LM_UNSUPPORTED, "heads of 16 keys, 16 values, 8 rotated: expected one even number");
    EXPECT(o.more = more_chat, LM_FORMAT, "tokenizer.chat_template: expected UTF-8");
    EXPECT(o.more = more_freqs, LM_UNSUPPORTED,
           "rope_freqs.weight: not Llama 3's frequency scaling, which is all that is known");
    EXPECT(o.scaling = "yarn", LM_UNSUPPORTED, "llama.rope.scaling.type: 'yarn' is not supported");
    EXPECT(o.matrix = 6, LM_UNSUPPORTED,
           "blk.0.attn_q.weight: type Q5_0 is not supported here (F32, F16, BF16; matrices also Q4_0, Q4_1, Q8_0)");
    EXPECT(o.norm = LM_GGML_Q8_0, LM_UNSUPPORTED,
           "blk.0.attn_norm.weight: type Q8_0 is not supported here (F32, F16, BF16; matrices also Q4_0, Q4_1, Q8_0)");
}

/* Overwrites bytes of the finished file: `find` (once) becomes `put_there`. */
static void expect_patched(const char *find, const char *put_there, size_t n, lm_status status, const char *message) {
    folder f = folder_make();
    size_t length, at = 0;
    uint8_t *file = make(&plain, &length);
    char expected[1024];
    lm_error e = {0};
    while (at + n < length && memcmp(file + at, find, n)) at++;
    assert_true(at + n < length);
    memcpy(file + at, put_there, n);
    folder_write(&f, "m.gguf", file, length);
    if (lm_convert_gguf(folder_path(&f, "m.gguf"), folder_path(&f, "out"), NULL, NULL, &e) == LM_OK)
        fail_msg("accepted: %s", message);
    snprintf(expected, sizeof expected, "%s/m.gguf: %s", f.path, message);
    assert_line(&e, status, expected);
    assert_int_equal(folder_count(f.path), 1);
    free(file);
    remove_tree(f.path);
}

static void refuses_tokenizers(void **state) {
    (void)state;
    expect_patched("[PAD]", "<use\xff", 5, LM_FORMAT, "tokenizer.ggml.tokens: token 10 is not UTF-8");
    expect_patched("<|eos|>", "<|bos|>", 7, LM_FORMAT, "tokenizer.ggml.tokens: tokens * are equal");
    expect_patched("a b", "a c", 3, LM_FORMAT, "tokenizer.ggml.merges: entry 0 is not made of tokens");
    expect_patched("a b", "a  ", 3, LM_FORMAT, "tokenizer.ggml.merges: entry 0: expected two tokens and one space");
    expect_patched("a b", "abc", 3, LM_FORMAT, "tokenizer.ggml.merges: entry 0: expected two tokens and one space");
    expect_patched("gpt2", "bert", 4, LM_UNSUPPORTED,
                   "tokenizer.ggml.model: 'bert' is not supported, only gpt2 (byte-level BPE)");
}

static void refuses_infinite_scales(void **state) {
    (void)state;
    folder f = folder_make();
    size_t length;
    uint8_t *file = make(&plain, &length);
    lm_gguf g;
    lm_error e = {0};
    char expected[1024];
    assert_int_equal(lm_gguf_parse("F", file, length, &g, &e), LM_OK);
    uint8_t *q = file + (lm_gguf_find_tensor(&g, "blk.1.ffn_up.weight")->data - file);
    q[20] = 0, q[21] = 0x7c; /* the second block's scale */
    folder_write(&f, "m.gguf", file, length);
    assert_int_equal(lm_convert_gguf(folder_path(&f, "m.gguf"), folder_path(&f, "out"), NULL, NULL, &e), LM_FORMAT);
    snprintf(expected, sizeof expected, "%s/m.gguf: blk.1.ffn_up.weight: block 1 has a scale that is not finite",
             f.path);
    assert_line(&e, LM_FORMAT, expected);
    assert_int_equal(folder_count(f.path), 1);
    lm_gguf_free(&g);
    free(file);
    remove_tree(f.path);
}

static bool cancel_half_way(void *user, int64_t done, int64_t total) {
    (void)user;
    return done < total / 2;
}

static void leaves_nothing_behind(void **state) {
    (void)state;
    folder f = folder_make();
    size_t length;
    uint8_t *file = make(&plain, &length);
    lm_error e = {0};
    char expected[600];
    folder_write(&f, "m.gguf", file, length);
    free(file);
    const char *gguf = folder_path(&f, "m.gguf");
    assert_int_equal(lm_convert_gguf(gguf, folder_path(&f, "a/b/out"), cancel_half_way, NULL, &e), LM_CANCELLED);
    assert_line(&e, LM_CANCELLED, "the conversion was cancelled");
    assert_int_equal(folder_count(f.path), 1);
    assert_int_equal(lm_convert_gguf(folder_path(&f, "none"), folder_path(&f, "out"), NULL, NULL, &e), LM_IO);
    assert_int_equal(lm_convert_gguf(f.path, folder_path(&f, "out"), NULL, NULL, &e), LM_IO);
    assert_int_equal(lm_convert_gguf(gguf, "", NULL, NULL, &e), LM_ARG);
    assert_int_equal(folder_count(f.path), 1);
    assert_int_equal(lm_convert_gguf(gguf, folder_path(&f, "a/b/out//"), NULL, NULL, &e), LM_OK);
    assert_int_equal(folder_count(folder_path(&f, "a/b/out")), 6);
    assert_int_equal(lm_convert_gguf(gguf, folder_path(&f, "a/b/out"), NULL, NULL, &e), LM_ARG);
    snprintf(expected, sizeof expected, "%s/a/b/out exists already; delete it or choose another folder", f.path);
    assert_line(&e, LM_ARG, expected);
    assert_int_equal(folder_count(folder_path(&f, "a/b")), 1);
    remove_tree(f.path);
}

static void compare_hash(const lm_checkpoint *c, const json_t *tensor, const char *leaf, int *compared) {
    char key[32], name[256], digest[65];
    snprintf(key, sizeof key, "%s_sha256", leaf);
    const char *expected = json_string_value(json_object_get(tensor, key));
    if (!expected) return;
    snprintf(name, sizeof name, "%s.%s", json_string_value(json_object_get(tensor, "mlx_name")), leaf);
    const lm_tensor *t = lm_checkpoint_find(c, name);
    assert_non_null(t);
    sha256(t->data, t->bytes, digest);
    if (strcmp(digest, expected)) fail_msg("%s: sha256 %s, expected %s", name, digest, expected);
    ++*compared;
}

static void compare_hashes(const char *folder_name) {
    char path[1024];
    lm_checkpoint *c;
    lm_error e = {0};
    json_t *golden, *tensor;
    size_t i;
    int compared = 0;
    snprintf(path, sizeof path, "%s/golden/smollm2/gguf_tensors.json", test_data());
    assert_int_equal(lm_json_load(path, 0, &golden, &e), LM_OK);
    assert_int_equal(lm_checkpoint_open(folder_name, true, NULL, NULL, &c, &e), LM_OK);
    json_array_foreach(json_object_get(golden, "tensors"), i, tensor) {
        compare_hash(c, tensor, "weight", &compared);
        compare_hash(c, tensor, "scales", &compared);
        compare_hash(c, tensor, "biases", &compared);
    }
    assert_int_equal(compared, 633);
    assert_int_equal(lm_checkpoint_count(c), 633 + 61); /* the norms have no hash */
    lm_checkpoint_close(c);
    json_decref(golden);
}

/* The real SmolLM2-135M-Instruct: weights, configs and tokenizer equal the goldens. */
static void converts_smollm2(void **state) {
    (void)state;
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json"};
    const char *gguf = getenv("LM_TEST_GGUF");
    char golden[1024];
    snprintf(golden, sizeof golden, "%s/golden/smollm2/config.json", test_data());
    if (!gguf || access(golden, R_OK)) {
        printf("skipped: %s is not here\n", gguf ? golden : "LM_TEST_GGUF (SmolLM2-135M-Instruct.Q4_1.gguf)");
        return;
    }
    folder f = folder_make();
    lm_error e = {0};
    if (lm_convert_gguf(gguf, folder_path(&f, "out"), NULL, NULL, &e) != LM_OK) fail_msg("%s", e.message);
    for (int i = 0; i < 3; i++) {
        json_t *ours, *theirs;
        char path[1024];
        snprintf(path, sizeof path, "%s/out/%s", f.path, names[i]);
        snprintf(golden, sizeof golden, "%s/golden/smollm2/%s", test_data(), names[i]);
        assert_int_equal(lm_json_load(path, 0, &ours, &e), LM_OK);
        assert_int_equal(lm_json_load(golden, 0, &theirs, &e), LM_OK);
        if (!json_equal(ours, theirs)) fail_msg("%s differs", names[i]);
        json_decref(ours);
        json_decref(theirs);
    }
    compare_hashes(folder_path(&f, "out"));
    remove_tree(f.path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(converts_every_type),   cmocka_unit_test(keeps_every_bit),
        cmocka_unit_test(rebuilds_tokenizers),   cmocka_unit_test(refuses_models),
        cmocka_unit_test(refuses_tokenizers),    cmocka_unit_test(refuses_infinite_scales),
        cmocka_unit_test(leaves_nothing_behind), cmocka_unit_test(converts_smollm2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
