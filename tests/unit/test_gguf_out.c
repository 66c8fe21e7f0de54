/* SPDX-License-Identifier: MIT
 * test_gguf_out.c: ggml's rounding against hashes that the Python package gguf gave, whole models against their sources
 * value by value, refusals, and the real SmolLM2 file, whose tensors must come back byte for byte. */
#include "base/fs.h"
#include "base/half.h"
#include "convert/gguf_out.h"
#include "format_util.h"
#include "sha256.h"

#define N 2048

/* The vector that the hashes were made from: 64 blocks of many sizes, the first three constant. */
static void fill(float *x) {
    uint32_t r = 1;
    for (int i = 0; i < N; i++) {
        r = r * 1664525u + 1013904223u;
        x[i] = ((float)((r >> 8) % 2001) - 1000.0f) / 1024.0f * ldexpf(1, i / 32 % 16 - 8);
        if (i < 96) x[i] = i < 32 ? 0.0f : i < 64 ? 0.75f : -3.5f;
    }
}

static void rounds_as_ggml(void **state) {
    (void)state;
    static const struct {
        uint32_t type;
        const char *hash;
    } cases[] = {
        {LM_GGML_Q8_0, "54fddddea98be40f410e5119bbf2f1f892ca1eb12c6ba3b68294871e8d46a025"},
        {LM_GGML_Q4_0, "bb564d35420e447feaa1885db490909a1502b2d064e56c926889f0794e044789"},
        {LM_GGML_Q4_1, "35e28b38c0abb001ce46b6596199f9538afa52e84f35d3db8e8347c4318614b4"},
        {LM_GGML_F16, "aa6b53e4deec01ad4a565c116a011ce7abb93197345e5d76db0ecedcc9359468"},
        {LM_GGML_BF16, "61ceef5883ba22eb500a7d3aa6f621455560cedc8ab85afde77698971edcf0d6"},
    };
    static float x[N];
    static uint8_t to[N * 4];
    char digest[65];
    fill(x);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(cv_gguf_encode(cases[i].type, x, N, to));
        sha256(to, cv_gguf_row_bytes(cases[i].type, N), digest);
        assert_string_equal(digest, cases[i].hash);
    }
}

static void refuses_infinities(void **state) {
    (void)state;
    float x[32] = {0};
    uint8_t to[128];
    static const uint32_t types[] = {LM_GGML_F16, LM_GGML_Q8_0, LM_GGML_Q4_0, LM_GGML_Q4_1};
    for (size_t i = 0; i < 4; i++) {
        x[5] = NAN;
        assert_false(cv_gguf_encode(types[i], x, 32, to));
        x[5] = 1e30f;
        assert_false(cv_gguf_encode(types[i], x, 32, to));
    }
    assert_true(cv_gguf_encode(LM_GGML_BF16, x, 32, to));
}

/* ---------------------------------------------------------------- whole models */

static const char *golden_folder(const char *name) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/golden/checkpoints/%s", test_data(), name);
    if (!access(path, R_OK)) return path;
    printf("skipped: %s is not here\n", path);
    return NULL;
}

typedef struct opened {
    folder f;
    lm_fs_map map;
    lm_gguf g;
    lm_checkpoint *c;
} opened;

static bool open_both(opened *o, const char *name, lm_gguf_out_type type) {
    lm_error e = {0};
    const char *source = golden_folder(name);
    lm_gguf_write_options options = lm_gguf_write_options_default();
    if (!source) return false;
    options.type = type;
    o->f = folder_make();
    const char *path = folder_path(&o->f, "m.gguf");
    if (lm_convert_to_gguf(source, path, &options, NULL, &e) != LM_OK) fail_msg("%s", e.message);
    assert_int_equal(folder_count(o->f.path), 1);
    assert_int_equal(lm_fs_map_open(path, &o->map, &e), LM_OK);
    if (lm_gguf_parse(path, o->map.data, o->map.length, &o->g, &e) != LM_OK) fail_msg("%s", e.message);
    assert_int_equal(lm_checkpoint_open(source, true, NULL, NULL, &o->c, &e), LM_OK);
    return true;
}

static void close_both(opened *o) {
    lm_checkpoint_close(o->c);
    lm_gguf_free(&o->g);
    lm_fs_map_close(&o->map);
    remove_tree(o->f.path);
}

/* Value (row, column) by ggml's definition of its types. */
static float gguf_value(const lm_gguf_tensor *t, int64_t row, int64_t column) {
    int block = 1, bytes = 1;
    lm_ggml_type(t->type, &block, &bytes);
    const uint8_t *p = t->data + (row * (t->shape[0] / block) + column / block) * bytes;
    int j = (int)(column % block);
    float d = lm_f16_to_f32(lm_load_u16(p));
    switch (t->type) {
    case LM_GGML_F32: return lm_load_f32(p);
    case LM_GGML_F16: return d;
    case LM_GGML_BF16: return lm_bf16_to_f32(lm_load_u16(p));
    case LM_GGML_Q8_0: return d * (float)(int8_t)p[2 + j];
    case LM_GGML_Q4_0: return d * (float)((j < 16 ? p[2 + j] & 15 : p[2 + j - 16] >> 4) - 8);
    default: return d * (float)(j < 16 ? p[4 + j] & 15 : p[4 + j - 16] >> 4) + lm_f16_to_f32(lm_load_u16(p + 2));
    }
}

/* Value (row, column) of a module, by the definition of affine quantization. */
static float mlx_value(const lm_checkpoint *c, const char *path, int64_t row, int64_t column, int64_t columns) {
    char name[200];
    snprintf(name, sizeof name, "%s.weight", path);
    const lm_tensor *w = lm_checkpoint_find(c, name);
    if (!w) fail_msg("%s is missing", name);
    if (w->dtype != LM_DTYPE_U32) return cv_gguf_float_at(w, row * columns + column);
    snprintf(name, sizeof name, "%s.scales", path);
    const lm_tensor *s = lm_checkpoint_find(c, name);
    snprintf(name, sizeof name, "%s.biases", path);
    const lm_tensor *b = lm_checkpoint_find(c, name);
    int64_t words = w->shape[w->n_dims - 1], groups = s->shape[s->n_dims - 1], bits = words * 32 / columns;
    unsigned q = 0;
    for (int64_t i = 0; i < bits; i++) {
        int64_t at = column * bits + i;
        q |= (unsigned)(((const uint8_t *)w->data)[row * words * 4 + at / 8] >> (at % 8) & 1) << i;
    }
    int64_t g = row * groups + column / (columns / groups);
    return cv_gguf_float_at(s, g) * (float)q + cv_gguf_float_at(b, g);
}

/* heads > 0: row 2 i + t of a head is row t half + i of the source. `tolerance` is relative to the row's largest:
 * half a step, and what the float16 scale adds at the largest code (2^-11 of it). */
static void compare(const opened *o, const char *gguf_name, const char *path, int64_t heads, float tolerance) {
    const lm_gguf_tensor *t = lm_gguf_find_tensor(&o->g, gguf_name);
    if (!t) fail_msg("%s is missing", gguf_name);
    int64_t rows = t->n_dims > 1 ? t->shape[1] * t->shape[2] : 1, columns = t->shape[0];
    for (int64_t r = 0; r < rows; r++) {
        int64_t dim = heads ? rows / heads : 1, from = r;
        if (heads) from = r / dim * dim + r % 2 * (dim / 2) + r % dim / 2;
        float most = 0;
        for (int64_t k = 0; k < columns; k++) most = fmaxf(most, fabsf(mlx_value(o->c, path, from, k, columns)));
        for (int64_t k = 0; k < columns; k++)
            if (!(fabsf(gguf_value(t, r, k) - mlx_value(o->c, path, from, k, columns)) <= tolerance * most))
                fail_msg("%s [%d, %d]: %g, expected %g", gguf_name, (int)r, (int)k, (double)gguf_value(t, r, k),
                         (double)mlx_value(o->c, path, from, k, columns));
    }
}

static void compare_attention(const opened *o, int64_t heads, int64_t kv_heads, float tolerance) {
    compare(o, "blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj", heads, tolerance);
    compare(o, "blk.1.attn_k.weight", "model.layers.1.self_attn.k_proj", kv_heads, tolerance);
    compare(o, "blk.1.attn_v.weight", "model.layers.1.self_attn.v_proj", 0, tolerance);
    compare(o, "blk.1.attn_output.weight", "model.layers.1.self_attn.o_proj", 0, tolerance);
    compare(o, "blk.1.attn_norm.weight", "model.layers.1.input_layernorm", 0, 0);
    compare(o, "blk.1.ffn_norm.weight", "model.layers.1.post_attention_layernorm", 0, 0);
    compare(o, "token_embd.weight", "model.embed_tokens", 0, tolerance);
    compare(o, "output_norm.weight", "model.norm", 0, 0);
}

static void writes_llama(void **state) {
    (void)state;
    static const struct {
        const char *source;
        lm_gguf_out_type type;
        uint32_t found;
        float tolerance;
    } cases[] = {{"llama/bf16", LM_GGUF_OUT_AUTO, LM_GGML_BF16, 0},
                 {"llama/bf16", LM_GGUF_OUT_F16, LM_GGML_F16, 0x1p-11f},
                 {"llama/bf16", LM_GGUF_OUT_Q8_0, LM_GGML_Q8_0, 0.57f / 127},
                 {"llama/bf16", LM_GGUF_OUT_Q4_0, LM_GGML_Q4_0, 1.01f / 8},
                 {"llama/bf16", LM_GGUF_OUT_Q4_1, LM_GGML_Q4_1, 1.03f / 15},
                 {"llama/4bit-g64", LM_GGUF_OUT_AUTO, LM_GGML_Q4_1, 0},
                 {"llama/8bit-g64", LM_GGUF_OUT_AUTO, LM_GGML_Q8_0, 0.57f / 127}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        opened o;
        int64_t divisors;
        lm_error e;
        if (!open_both(&o, cases[i].source, cases[i].type)) return;
        compare_attention(&o, 4, 2, cases[i].tolerance);
        compare(&o, "blk.2.ffn_down.weight", "model.layers.2.mlp.down_proj", 0, cases[i].tolerance);
        compare(&o, "output.weight", "lm_head", 0, cases[i].tolerance);
        assert_int_equal(lm_gguf_find_tensor(&o.g, "blk.0.attn_q.weight")->type, cases[i].found);
        const lm_gguf_tensor *rope = lm_gguf_find_tensor(&o.g, "rope_freqs.weight"); /* factor 8 of 256 positions */
        assert_non_null(rope);
        assert_int_equal(rope->shape[0], 16);
        assert_true(gguf_value(rope, 0, 0) == 1.0f && gguf_value(rope, 0, 15) == 8.0f);
        assert_int_equal(lm_gguf_int(&o.g, "llama.attention.head_count_kv", true, 0, 0, 9, &divisors, &e), LM_OK);
        assert_int_equal(divisors, 2);
        close_both(&o);
    }
}

static void writes_qwen3(void **state) {
    (void)state;
    static const char *const exact[] = {"qwen3/hf",       "qwen3/float16",  "qwen3/4bit-g32",        "qwen3/4bit-g64",
                                        "qwen3/2bit-g64", "qwen3/3bit-g64", "qwen3/4bit-g64-2shards"};
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++) {
        opened o;
        if (!open_both(&o, exact[i], LM_GGUF_OUT_AUTO)) continue;
        compare_attention(&o, 0, 0, 0);
        compare(&o, "blk.3.attn_q_norm.weight", "model.layers.3.self_attn.q_norm", 0, 0);
        compare(&o, "blk.3.ffn_down.weight", "model.layers.3.mlp.down_proj", 0, 0);
        assert_null(lm_gguf_find_tensor(&o.g, "output.weight")); /* tied */
        assert_int_equal(lm_gguf_find(&o.g, "tokenizer.ggml.tokens")->count, 512);
        close_both(&o);
    }
}

/* Experts come stacked from either kind of folder. */
static void writes_experts(void **state) {
    (void)state;
    opened stacked, single;
    if (!open_both(&stacked, "qwen3_moe/bf16", LM_GGUF_OUT_Q8_0)) return;
    if (open_both(&single, "qwen3_moe/hf", LM_GGUF_OUT_Q8_0)) {
        assert_int_equal(stacked.map.length, single.map.length);
        for (size_t i = 0; i < stacked.g.n_tensors; i++) {
            const lm_gguf_tensor *a = &stacked.g.tensors[i], *b = lm_gguf_find_tensor(&single.g, a->name);
            assert_non_null(b);
            assert_int_equal(a->bytes, b->bytes);
            assert_memory_equal(a->data, b->data, a->bytes);
        }
        close_both(&single);
    }
    compare(&stacked, "blk.0.ffn_up_exps.weight", "model.layers.0.mlp.switch_mlp.up_proj", 0, 0.57f / 127);
    compare(&stacked, "blk.1.ffn_down_exps.weight", "model.layers.1.mlp.switch_mlp.down_proj", 0, 0.57f / 127);
    compare(&stacked, "blk.1.ffn_gate_inp.weight", "model.layers.1.mlp.gate", 0, 0);
    assert_int_equal(lm_gguf_find_tensor(&stacked.g, "blk.1.ffn_gate_inp.weight")->type, LM_GGML_F32);
    assert_int_equal(lm_gguf_find_tensor(&stacked.g, "blk.0.ffn_gate_exps.weight")->n_dims, 3);
    close_both(&stacked);
}

static void convert_to(const char *model, const char *path, const char *mode) {
    lm_error e = {0};
    lm_convert_options o = lm_convert_options_default();
    o.model = model;
    o.mlx_path = path;
    o.quantize = mode != NULL;
    o.dequantize = !mode;
    o.dtype = "bfloat16";
    o.q_mode = mode;
    if (lm_convert_model(&o, &e) != LM_OK) fail_msg("%s", e.message);
}

/* Small floats times a power of two or a small float are bfloat16 values: what convert -d makes of them. */
static void writes_small_floats(void **state) {
    (void)state;
    static const char *const modes[] = {"mxfp4", "nvfp4", "mxfp8"};
    static const char *const sources[] = {"qwen3_moe/hf", "llama/hf"};
    for (size_t i = 0; i < 6; i++) {
        lm_error e = {0};
        lm_fs_map maps[2];
        lm_gguf g[2];
        char paths[4][256];
        const char *source = golden_folder(sources[i / 3]);
        if (!source) return;
        folder f = folder_make();
        for (int k = 0; k < 4; k++) snprintf(paths[k], sizeof paths[k], "%s/%d", f.path, k);
        convert_to(source, paths[0], modes[i % 3]);
        convert_to(paths[0], paths[1], NULL);
        for (int k = 0; k < 2; k++) {
            if (lm_convert_to_gguf(paths[k], paths[2 + k], NULL, NULL, &e) != LM_OK) fail_msg("%s", e.message);
            assert_int_equal(lm_fs_map_open(paths[2 + k], &maps[k], &e), LM_OK);
            assert_int_equal(lm_gguf_parse(paths[2 + k], maps[k].data, maps[k].length, &g[k], &e), LM_OK);
        }
        assert_int_equal(g[0].n_tensors, g[1].n_tensors);
        for (size_t t = 0; t < g[0].n_tensors; t++) {
            const lm_gguf_tensor *a = &g[0].tensors[t], *b = &g[1].tensors[t];
            assert_string_equal(a->name, b->name);
            assert_int_equal(a->type, b->type);
            if (strstr(a->name, "ffn_gate_inp")) continue; /* affine: float32 there, rounded here */
            assert_int_equal(a->bytes, b->bytes);
            assert_memory_equal(a->data, b->data, a->bytes);
        }
        for (int k = 0; k < 2; k++) lm_gguf_free(&g[k]), lm_fs_map_close(&maps[k]), remove_tree(paths[k]);
        remove_tree(f.path);
    }
}

/* ---------------------------------------------------------------- refusals */

/* A copy of qwen3/bf16 whose `file` has `find` replaced. */
static void expect_refusal(const char *file, const char *find, const char *put_there, lm_status status,
                           const char *message) {
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json", "model.safetensors"};
    const char *source = golden_folder("qwen3/bf16");
    lm_error e = {0};
    char expected[1024];
    if (!source) return;
    folder f = folder_make();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char from[1200], *data, *at;
        size_t length;
        snprintf(from, sizeof from, "%s/%s", source, names[i]);
        assert_int_equal(lm_fs_read(from, (size_t)1 << 30, &data, &length, &e), LM_OK);
        if (strcmp(names[i], file)) {
            folder_write(&f, names[i], data, length);
        } else {
            lm_buf b;
            lm_buf_init(&b, 0);
            at = strstr(data, find);
            if (!at) fail_msg("%s has no %s", file, find);
            lm_buf_add(&b, data, (size_t)(at - data));
            lm_buf_adds(&b, put_there);
            lm_buf_adds(&b, at + strlen(find));
            folder_write(&f, names[i], b.data, b.length);
            lm_buf_free(&b);
        }
        free(data);
    }
    if (lm_convert_to_gguf(f.path, folder_path(&f, "m.gguf"), NULL, NULL, &e) == LM_OK)
        fail_msg("accepted: %s", message);
    snprintf(expected, sizeof expected, "%s/%s: %s", f.path, file, message);
    assert_line(&e, status, expected);
    assert_int_equal(folder_count(f.path), sizeof names / sizeof *names);
    remove_tree(f.path);
}

static void refuses_models(void **state) {
    (void)state;
    expect_refusal("config.json", "\"use_sliding_window\": false", "\"use_sliding_window\": true", LM_UNSUPPORTED,
                   "use_sliding_window: sliding windows have no place in this architecture's GGUF");
    expect_refusal("config.json", "\"model_type\": \"qwen3\"", "\"model_type\": \"gpt_neox\"", LM_UNSUPPORTED,
                   "model_type 'gpt_neox' is not supported yet (llama, mistral, qwen3, qwen3_moe are)");
    expect_refusal("config.json", "\"rope_scaling\": null",
                   "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}", LM_UNSUPPORTED,
                   "rope_scaling: llama3 has a place in llama GGUFs only");
    expect_refusal("config.json", "\"max_position_embeddings\": 2048,", "", LM_FORMAT,
                   "max_position_embeddings: missing, and a GGUF needs it");
    expect_refusal(
        "tokenizer.json", "(?i:'s|", "(?i:'x|", LM_UNSUPPORTED,
        "pre_tokenizer: Sequence (Split by *) is none that a GGUF is written for (smollm, llama-bpe, qwen2)");
    expect_refusal("tokenizer.json", "\"ignore_merges\": false", "\"ignore_merges\": true", LM_UNSUPPORTED,
                   "ignore_merges: true does not go with the pre-tokenizer qwen2");
    expect_refusal("tokenizer.json", "\"byte_fallback\": false", "\"byte_fallback\": true", LM_UNSUPPORTED,
                   "model: BPE with byte_fallback is no byte-level BPE, which is all that is written");
}

static bool stop(void *user, int64_t done, int64_t total) {
    (void)user;
    return done < total / 2;
}

static void leaves_nothing_behind(void **state) {
    (void)state;
    const char *source = golden_folder("llama/bf16");
    lm_gguf_write_options options = lm_gguf_write_options_default();
    lm_gguf_write_result result;
    lm_error e = {0};
    char expected[600];
    if (!source) return;
    folder f = folder_make();
    const char *out = folder_path(&f, "m.gguf");
    options.progress = stop;
    assert_int_equal(lm_convert_to_gguf(source, out, &options, NULL, &e), LM_CANCELLED);
    assert_int_equal(folder_count(f.path), 0);
    assert_int_equal(lm_convert_to_gguf(source, "", NULL, NULL, &e), LM_ARG);
    assert_int_equal(lm_convert_to_gguf(source, folder_path(&f, "none/m.gguf"), NULL, NULL, &e), LM_IO);
    assert_int_equal(folder_count(f.path), 0);
    options.progress = NULL;
    assert_int_equal(lm_convert_to_gguf(source, out, &options, &result, &e), LM_OK);
    assert_int_equal(result.n_tensors, 31);
    assert_int_equal(result.n_exact, 31);
    assert_int_equal(lm_convert_to_gguf(source, out, NULL, NULL, &e), LM_ARG);
    snprintf(expected, sizeof expected, "%s exists already; delete it or choose another name", out);
    assert_line(&e, LM_ARG, expected);
    remove_tree(f.path);
}

/* The real file: GGUF, folder, GGUF again. */
static void returns_smollm2(void **state) {
    (void)state;
    const char *gguf = getenv("LM_TEST_GGUF");
    lm_error e = {0};
    lm_fs_map maps[2];
    lm_gguf g[2];
    if (!gguf) {
        printf("skipped: LM_TEST_GGUF (SmolLM2-135M-Instruct.Q4_1.gguf) is not here\n");
        return;
    }
    folder f = folder_make();
    const char *paths[2] = {gguf, folder_path(&f, "again.gguf")};
    if (lm_convert_gguf(gguf, folder_path(&f, "mlx"), NULL, NULL, &e) != LM_OK) fail_msg("%s", e.message);
    if (lm_convert_to_gguf(folder_path(&f, "mlx"), paths[1], NULL, NULL, &e) != LM_OK) fail_msg("%s", e.message);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(lm_fs_map_open(paths[i], &maps[i], &e), LM_OK);
        assert_int_equal(lm_gguf_parse(paths[i], maps[i].data, maps[i].length, &g[i], &e), LM_OK);
    }
    assert_int_equal(g[0].n_tensors, g[1].n_tensors);
    for (size_t i = 0; i < g[0].n_tensors; i++) {
        char a[65], b[65];
        assert_string_equal(g[0].tensors[i].name, g[1].tensors[i].name);
        assert_int_equal(g[0].tensors[i].type, g[1].tensors[i].type);
        sha256(g[0].tensors[i].data, g[0].tensors[i].bytes, a);
        sha256(g[1].tensors[i].data, g[1].tensors[i].bytes, b);
        assert_string_equal(a, b);
    }
    for (int i = 0; i < 2; i++) lm_gguf_free(&g[i]), lm_fs_map_close(&maps[i]);
    remove_tree(f.path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_as_ggml),  cmocka_unit_test(refuses_infinities),
        cmocka_unit_test(writes_llama),    cmocka_unit_test(writes_qwen3),
        cmocka_unit_test(writes_experts),  cmocka_unit_test(writes_small_floats),
        cmocka_unit_test(refuses_models),  cmocka_unit_test(leaves_nothing_behind),
        cmocka_unit_test(returns_smollm2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
