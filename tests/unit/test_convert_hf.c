/* SPDX-License-Identifier: MIT
 * test_convert_hf.c: safetensors folders in, MLX folders out: every golden variant byte for byte, float8 and packed
 * sources, hostile ones, and what is left after a kill, a cancellation, a full disk. */
#include "format_util.h"
/* after format_util.h, which brings cmocka in the order it wants */
#include "base/fs.h"
#include "base/half.h"
#include "format/checkpoint.h"
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

/* In memory where the system has /dev/shm: every shard is synced, which says nothing here and takes minutes on a busy
 * disk. */
static folder memory_folder(void) {
    folder f;
    snprintf(f.path, sizeof f.path, "/dev/shm/lm-test-XXXXXX");
    return mkdtemp(f.path) ? f : folder_make();
}

static lm_convert_options options(const char *model, const char *target) {
    lm_convert_options o = lm_convert_options_default();
    o.model = model;
    o.mlx_path = target;
    return o;
}

static void must_convert(const lm_convert_options *o) {
    lm_error err = {LM_OK, ""};
    if (lm_convert_model(o, &err)) fail_msg("%s: %s", o->model, err.message);
}

static void must_fail(const lm_convert_options *o, lm_status status, const char *line) {
    lm_error err = {LM_OK, ""};
    assert_int_not_equal(lm_convert_model(o, &err), LM_OK);
    assert_line(&err, status, line);
}

static char *text_of(const char *where, const char *name) {
    lm_error err = {LM_OK, ""};
    char *path = lm_fs_join(where, name), *text;
    size_t length;
    if (lm_fs_read(path, 1 << 26, &text, &length, &err)) fail_msg("%s", err.message);
    free(path);
    return text;
}

static void same_text(const char *a, const char *b, const char *name) {
    char *x = text_of(a, name), *y = text_of(b, name);
    if (strcmp(x, y)) fail_msg("%s/%s and %s differ:\n%s\n%s", a, name, b, x, y);
    free(x);
    free(y);
}

/* Same tensors in the same files, same config.json, index and card. */
static void same_model(const char *a, const char *b) {
    lm_error err = {LM_OK, ""};
    lm_checkpoint *x, *y;
    if (lm_checkpoint_open(a, true, NULL, NULL, &x, &err) || lm_checkpoint_open(b, true, NULL, NULL, &y, &err))
        fail_msg("%s", err.message);
    assert_int_equal(lm_checkpoint_count(x), lm_checkpoint_count(y));
    for (size_t i = 0; i < lm_checkpoint_count(x); i++) {
        const lm_tensor *t = lm_checkpoint_get(x, i), *u = lm_checkpoint_get(y, i);
        if (strcmp(t->name, u->name) || t->dtype != u->dtype || t->n_dims != u->n_dims || t->file != u->file ||
            memcmp(t->shape, u->shape, sizeof t->shape) || t->bytes != u->bytes || memcmp(t->data, u->data, t->bytes))
            fail_msg("%s and %s differ in %s / %s", a, b, t->name, u->name);
    }
    lm_checkpoint_close(x);
    lm_checkpoint_close(y);
    same_text(a, b, "config.json");
    same_text(a, b, "model.safetensors.index.json");
    same_text(a, b, "README.md");
}

/* ---------------------------------------------------------------- goldens */

static const struct variant {
    const char *family, *name;
    int bits, group; /* 0: not quantized, or the default */
    const char *mode, *recipe, *dtype;
    int percent; /* of the 1-shard size, as shard limit */
} variants[] = {
    {"llama", "bf16", 0, 0, 0, 0, 0, 0},
    {"llama", "4bit-g64", 4, 64, 0, 0, 0, 0},
    {"llama", "8bit-g64", 8, 64, 0, 0, 0, 0},
    {"qwen3", "bf16", 0, 0, 0, 0, 0, 0},
    {"qwen3", "float16", 0, 0, 0, 0, "float16", 0},
    {"qwen3", "float16-4bit-g64", 4, 64, 0, 0, "float16", 0},
    {"qwen3", "2bit-g64", 2, 64, 0, 0, 0, 0},
    {"qwen3", "3bit-g64", 3, 64, 0, 0, 0, 0},
    {"qwen3", "4bit-g32", 4, 32, 0, 0, 0, 0},
    {"qwen3", "4bit-g64", 4, 64, 0, 0, 0, 0},
    {"qwen3", "4bit-g128", 4, 128, 0, 0, 0, 0},
    {"qwen3", "4bit-g64-2shards", 4, 64, 0, 0, 0, 60},
    {"qwen3", "5bit-g32", 5, 32, 0, 0, 0, 0},
    {"qwen3", "5bit-g64", 5, 64, 0, 0, 0, 0},
    {"qwen3", "6bit-g64", 6, 64, 0, 0, 0, 0},
    {"qwen3", "8bit-g64", 8, 64, 0, 0, 0, 0},
    {"qwen3", "mixed_3_6-default", 0, 0, 0, "mixed_3_6", 0, 0},
    {"qwen3", "mixed_4_6-g64", 0, 64, 0, "mixed_4_6", 0, 0},
    {"qwen3", "mxfp4", 0, 0, "mxfp4", 0, 0, 0},
    {"qwen3", "nvfp4", 0, 0, "nvfp4", 0, 0, 0},
    {"qwen3", "mxfp8", 0, 0, "mxfp8", 0, 0, 0},
    {"qwen3_hf5config", "bf16", 0, 0, 0, 0, 0, 0},
    {"qwen3_hf5config", "4bit-g64", 4, 64, 0, 0, 0, 0},
    {"qwen3_hf5config", "8bit-g64", 8, 64, 0, 0, 0, 0},
    {"qwen3_moe", "bf16", 0, 0, 0, 0, 0, 0},
    {"qwen3_moe", "4bit-g64", 4, 64, 0, 0, 0, 0},
    {"qwen3_moe", "5bit-g32", 5, 32, 0, 0, 0, 0},
    {"qwen3_moe", "8bit-g64", 8, 64, 0, 0, 0, 0},
    {"qwen3_moe", "mxfp4", 0, 0, "mxfp4", 0, 0, 0},
};

static const char *golden(const char *family, const char *name) {
    static char path[4][512];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/golden/checkpoints/%s/%s", test_data(), family, name);
    return p;
}

static int64_t total_size(const char *where) {
    char *text = text_of(where, "model.safetensors.index.json"), *at = strstr(text, "\"total_size\": ");
    assert_non_null(at);
    int64_t size = strtoll(at + 14, NULL, 10);
    free(text);
    return size;
}

static void test_golden(void **state) {
    (void)state;
    folder f = memory_folder();
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        const struct variant *v = &variants[i];
        const char *want = golden(v->family, v->name), *target = folder_path(&f, v->name);
        lm_convert_options o = options(golden(v->family, "hf"), target);
        o.quantize = v->bits || v->mode || v->recipe;
        o.q_bits = v->bits;
        o.q_group_size = v->group;
        o.q_mode = v->mode;
        o.quant_predicate = v->recipe;
        o.dtype = v->dtype;
        o.threads = 1 + (int)(i % 3);
        if (v->percent) o.max_shard_bytes = total_size(want) * v->percent / 100;
        must_convert(&o);
        same_model(want, target);
        same_text(o.model, target, "tokenizer.json");
        same_text(want, target, "generation_config.json");
        remove_tree(target);
    }
    remove_tree(f.path);
}

static void test_packed_sources(void **state) {
    (void)state;
    folder f = memory_folder();
    /* as it is: nothing changes */
    lm_convert_options o = options(golden("qwen3_moe", "5bit-g32"), folder_path(&f, "same"));
    must_convert(&o);
    same_model(o.model, o.mlx_path);
    /* dequantized: scale * q + bias, each rounded to bfloat16, of the first element of a matrix of experts */
    o.mlx_path = folder_path(&f, "floats");
    o.dequantize = true;
    must_convert(&o);
    lm_checkpoint *x, *y;
    lm_error err;
    assert_int_equal(lm_checkpoint_open(o.model, true, NULL, NULL, &x, &err), LM_OK);
    assert_int_equal(lm_checkpoint_open(o.mlx_path, true, NULL, NULL, &y, &err), LM_OK);
#define MODULE "model.layers.1.mlp.switch_mlp.up_proj."
    const lm_tensor *q = lm_checkpoint_find(x, MODULE "weight"), *s = lm_checkpoint_find(x, MODULE "scales");
    const lm_tensor *b = lm_checkpoint_find(x, MODULE "biases"), *w = lm_checkpoint_find(y, MODULE "weight");
    assert_true(q && s && b && w);
    assert_int_equal(w->dtype, LM_DTYPE_BF16);
    assert_null(lm_checkpoint_find(y, MODULE "scales"));
    for (int i = 0; i < 6; i++) { /* six codes of five bits in the first word */
        float code = (float)(lm_load_u32(q->data) >> (5 * i) & 31);
        float product = lm_bf16_to_f32(lm_f32_to_bf16(code * lm_bf16_to_f32(lm_load_u16(s->data))));
        uint16_t want = lm_f32_to_bf16(product + lm_bf16_to_f32(lm_load_u16(b->data)));
        assert_int_equal(lm_load_u16((const uint8_t *)w->data + 2 * i), want);
    }
    lm_checkpoint_close(x);
    lm_checkpoint_close(y);
    char *config = text_of(o.mlx_path, "config.json");
    assert_null(strstr(config, "quantization"));
    free(config);
    remove_tree(f.path);
}

/* ---------------------------------------------------------------- sources made here */

#define CONFIG(more)                                                                                         \
    "{\"model_type\": \"llama\", \"hidden_size\": 64, \"num_hidden_layers\": 1, \"intermediate_size\": 96, " \
    "\"num_attention_heads\": 2, \"vocab_size\": 40, \"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": true" more "}"
#define FP8(more) \
    CONFIG(", \"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [32, 64]" more "}")

typedef struct made {
    const char *name;
    lm_dtype dtype;
    int64_t n, k; /* k 0: a vector */
} made;

static const made tiny[] = {
    {"model.embed_tokens.weight", LM_DTYPE_BF16, 40, 64},
    {"model.layers.0.self_attn.q_proj.weight", LM_DTYPE_BF16, 64, 64},
    {"model.layers.0.self_attn.k_proj.weight", LM_DTYPE_BF16, 64, 64},
    {"model.layers.0.self_attn.v_proj.weight", LM_DTYPE_BF16, 64, 64},
    {"model.layers.0.self_attn.o_proj.weight", LM_DTYPE_BF16, 64, 64},
    {"model.layers.0.mlp.gate_proj.weight", LM_DTYPE_BF16, 96, 64},
    {"model.layers.0.mlp.up_proj.weight", LM_DTYPE_BF16, 96, 64},
    {"model.layers.0.mlp.down_proj.weight", LM_DTYPE_BF16, 64, 96},
    {"model.layers.0.input_layernorm.weight", LM_DTYPE_BF16, 64, 0},
    {"model.layers.0.post_attention_layernorm.weight", LM_DTYPE_BF16, 64, 0},
    {"model.norm.weight", LM_DTYPE_BF16, 64, 0},
};
#define N_TINY (sizeof tiny / sizeof *tiny)

/* Writes the tensors, with one replaced by `with` (by name) and `more` appended. Values are small and vary. */
static void write_source(const folder *f, const char *config, const made *with, const made *more) {
    made list[N_TINY + 2];
    size_t n = N_TINY;
    memcpy(list, tiny, sizeof tiny);
    for (size_t i = 0; with && i < N_TINY; i++)
        if (!strcmp(list[i].name, with->name)) list[i] = *with;
    if (more) list[n++] = *more;
    lm_tensor_out outs[N_TINY + 2];
    uint32_t seed = 1;
    for (size_t i = 0; i < n; i++) {
        const made *m = &list[i];
        size_t count = (size_t)(m->n * (m->k ? m->k : 1)), size = lm_dtype_bytes(m->dtype);
        uint8_t *data = malloc(count * size + 4);
        assert_non_null(data);
        for (size_t j = 0; j < count; j++) {
            seed = seed * 1664525u + 1013904223u;
            float x = (float)(int)(seed >> 16) / 65536.0f - 0.5f;
            uint16_t half = lm_f32_to_bf16(x);
            if (size == 1)
                data[j] = (uint8_t)((seed >> 16) % 253);
            else
                memcpy(data + size * j, size == 2 ? (void *)&half : (void *)&x, size);
        }
        outs[i] = (lm_tensor_out){m->name, lm_dtype_name(m->dtype), {m->n, m->k}, m->k ? 2 : 1, data};
    }
    lm_error err = {LM_OK, ""};
    if (lm_safetensors_write(folder_path(f, "model.safetensors"), outs, n, &err)) fail_msg("%s", err.message);
    for (size_t i = 0; i < n; i++) free((void *)(uintptr_t)outs[i].data);
    folder_text(f, "config.json", config);
}

static float e4m3(uint8_t c) {
    int e = c >> 3 & 15;
    float m = (float)(c & 7);
    float x = e ? ldexpf(1 + m / 8, e - 7) : ldexpf(m / 8, -6);
    return c & 128 ? -x : x;
}

static void test_fp8(void **state) {
    (void)state;
    folder f = memory_folder(), out = memory_folder();
    const made weight = {"model.layers.0.mlp.down_proj.weight", LM_DTYPE_F8_E4M3, 64, 96};
    const made scale = {"model.layers.0.mlp.down_proj.weight_scale_inv", LM_DTYPE_F32, 2, 2};
    write_source(&f, FP8(""), &weight, &scale);
    lm_convert_options o = options(f.path, folder_path(&out, "floats"));
    must_convert(&o);
    lm_checkpoint *x, *y;
    lm_error err;
    assert_int_equal(lm_checkpoint_open(f.path, true, NULL, NULL, &x, &err), LM_OK);
    assert_int_equal(lm_checkpoint_open(o.mlx_path, true, NULL, NULL, &y, &err), LM_OK);
    const lm_tensor *w = lm_checkpoint_find(x, weight.name), *s = lm_checkpoint_find(x, scale.name);
    const lm_tensor *r = lm_checkpoint_find(y, weight.name);
    assert_null(lm_checkpoint_find(y, scale.name));
    assert_int_equal(r->dtype, LM_DTYPE_BF16);
    for (int i = 0; i < 64; i++)
        for (int j = 0; j < 96; j++) {
            float by = lm_load_f32((const uint8_t *)s->data + 4 * (i / 32 * 2 + j / 64));
            uint16_t want = lm_f32_to_bf16(e4m3(((const uint8_t *)w->data)[i * 96 + j]) * by);
            assert_int_equal(lm_load_u16((const uint8_t *)r->data + 2 * (i * 96 + j)), want);
        }
    lm_checkpoint_close(x);
    lm_checkpoint_close(y);
    char *config = text_of(o.mlx_path, "config.json");
    assert_null(strstr(config, "quantization_config"));
    free(config);
    /* quantized from float8, and from the bfloat16 that came of it: the same */
    lm_convert_options direct = options(f.path, folder_path(&out, "direct"));
    lm_convert_options later = options(o.mlx_path, folder_path(&out, "later"));
    direct.quantize = later.quantize = true;
    direct.q_group_size = later.q_group_size = 32;
    must_convert(&direct);
    must_convert(&later);
    same_model(later.mlx_path, direct.mlx_path);
    remove_tree(f.path);
    remove_tree(out.path);
}

static void refuse_source(const char *config, const made *with, const made *more, lm_status status, const char *line) {
    folder f = memory_folder(), out = memory_folder();
    write_source(&f, config, with, more);
    lm_convert_options o = options(f.path, folder_path(&out, "model"));
    must_fail(&o, status, line);
    assert_int_equal(folder_count(out.path), 0);
    remove_tree(f.path);
    remove_tree(out.path);
}

static void test_hostile(void **state) {
    (void)state;
#define DOWN "model.layers.0.mlp.down_proj.weight"
    const made fp8 = {DOWN, LM_DTYPE_F8_E4M3, 64, 96}, right = {DOWN "_scale_inv", LM_DTYPE_F32, 2, 2};
    const made few = {DOWN "_scale_inv", LM_DTYPE_F32, 2, 1}, many = {DOWN "_scale_inv", LM_DTYPE_F32, 3, 2};
    const made flat = {DOWN "_scale_inv", LM_DTYPE_F32, 4, 0}, type = {DOWN "_scale_inv", LM_DTYPE_I32, 2, 2};
    const made wide = {DOWN, LM_DTYPE_BF16, 64, 128}, integers = {DOWN, LM_DTYPE_I32, 64, 96};
    const made extra = {"model.extra", LM_DTYPE_BF16, 4, 0}, elsewhere = {"model.layers.7.x", LM_DTYPE_BF16, 4, 0};
    const made scales = {"model.layers.0.mlp.down_proj.scales", LM_DTYPE_BF16, 64, 3};
    refuse_source(FP8(""), &fp8, NULL, LM_FORMAT, "*: tensor " DOWN "_scale_inv is missing");
    refuse_source(FP8(""), &fp8, &few, LM_FORMAT, "*: " DOWN "_scale_inv: expected shape [2, 2], found [2, 1]");
    refuse_source(FP8(""), &fp8, &many, LM_FORMAT, "*: " DOWN "_scale_inv: expected shape [2, 2], found [3, 2]");
    refuse_source(FP8(""), &fp8, &flat, LM_FORMAT, "*: " DOWN "_scale_inv: expected shape [2, 2], found [4]");
    refuse_source(FP8(""), &fp8, &type, LM_UNSUPPORTED, "*: " DOWN "_scale_inv: expected type F32 or BF16, found I32");
    refuse_source(CONFIG(""), &fp8, &right, LM_UNSUPPORTED,
                  "*: " DOWN ": type F8_E4M3 needs a quantization_config with quant_method fp8");
    refuse_source(FP8(", \"fmt\": \"e5m2\""), &fp8, &right, LM_UNSUPPORTED,
                  "*: quantization_config: fmt 'e5m2' is not supported, only e4m3");
    refuse_source(CONFIG(", \"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [0, 9]}"), &fp8,
                  &right, LM_FORMAT, "*: weight_block_size: expected sizes from 1 to 1048576");
    refuse_source(CONFIG(", \"quantization_config\": {\"quant_method\": \"fp8\"}"), &fp8, &right, LM_UNSUPPORTED,
                  "*: weight_block_size: expected two numbers (one scale per tensor is not supported)");
    refuse_source(CONFIG(", \"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 4}"), NULL, NULL,
                  LM_UNSUPPORTED, "*: quantization_config: quant_method 'awq' is not supported as a source (fp8 is)");
    refuse_source(CONFIG(""), &wide, NULL, LM_FORMAT, "*: " DOWN ": expected shape [64, 96], found [64, 128]");
    refuse_source(CONFIG(""), &integers, NULL, LM_UNSUPPORTED,
                  "*: " DOWN ": expected type BF16, F16, F32 or F8_E4M3, found I32");
    refuse_source(CONFIG(""), NULL, &extra, LM_UNSUPPORTED,
                  "*: tensor model.extra has no place in a llama model (1 such)");
    refuse_source(CONFIG(", \"num_hidden_layers\": 2"), NULL, NULL, LM_FORMAT, "*");
    refuse_source(CONFIG(""), NULL, &elsewhere, LM_UNSUPPORTED,
                  "*: tensor model.layers.7.x has no place in a llama model (1 such)");
    refuse_source(CONFIG(""), NULL, &scales, LM_FORMAT,
                  "*: model.layers.0.mlp.down_proj: scales without a quantization entry in config.json");
    refuse_source(CONFIG(", \"quantization\": {\"group_size\": 32, \"bits\": 4}"), NULL, &scales, LM_FORMAT,
                  "*: model.layers.0.mlp.down_proj: cannot infer the quantization: mode affine, 32 bits, groups of 32, "
                  "96 columns");
    refuse_source("{\"model_type\": \"gpt2\"}", NULL, NULL, LM_UNSUPPORTED,
                  "*: model_type 'gpt2' is not supported (llama, mistral, qwen3, qwen3_moe)");
}

static void test_hostile_index(void **state) {
    (void)state;
    folder f = memory_folder(), out = memory_folder();
    write_source(&f, CONFIG(""), NULL, NULL);
    lm_convert_options o = options(f.path, folder_path(&out, "model"));
    folder_text(&f, "model.safetensors.index.json", "{\"weight_map\": {\"model.norm.weight\": \"../../etc/passwd\"}}");
    must_fail(&o, LM_FORMAT,
              "*: weight_map: model.norm.weight: expected a plain file name of this folder, found '../../etc/passwd'");
    folder_text(&f, "model.safetensors.index.json", "{\"weight_map\": {\"gone\": \"model.safetensors\"}}");
    must_fail(&o, LM_FORMAT, "*: tensor gone is not in the folder's files (listed in model.safetensors)");
    assert_int_equal(folder_count(out.path), 0);
    remove_tree(f.path);
    remove_tree(out.path);
}

static void test_options(void **state) {
    (void)state;
    folder f = memory_folder(), out = memory_folder();
    write_source(&f, CONFIG(", \"torch_dtype\": \"float16\""), NULL, NULL);
    lm_convert_options plain = options(f.path, folder_path(&out, "model")), o = plain;
    o.quantize = o.dequantize = true;
    must_fail(&o, LM_ARG, "Choose either quantize or dequantize, not both.");
    o = plain, o.quantize = true, o.q_bits = 7;
    must_fail(&o, LM_ARG, "q_bits: mode affine has no 7 bits");
    o = plain, o.quantize = true, o.q_mode = "nvfp4", o.q_group_size = 32;
    must_fail(&o, LM_ARG, "q_group_size: mode nvfp4 has no groups of 32");
    o = plain, o.quant_predicate = "mixed_4_6", o.q_mode = "mxfp4";
    must_fail(&o, LM_ARG, "Quant predicates only support 'affine' quantization.");
    o = plain, o.dtype = "float64";
    must_fail(&o, LM_ARG, "dtype 'float64': expected float16, bfloat16 or float32");
    o = plain, o.mlx_path = out.path;
    must_fail(&o, LM_ARG,
              "Cannot save to the path * as it already exists. Please delete the file/directory or specify a "
              "new path to save to.");
    o = plain, o.model = NULL;
    must_fail(&o, LM_ARG, "no model to convert is given");
    assert_int_equal(folder_count(out.path), 0);
    remove_tree(f.path);
    remove_tree(out.path);
}

/* ---------------------------------------------------------------- interruptions */

/* A source of some 20 MB that makes some ten shards. */
static void write_large(const folder *f) {
    static const made sizes[] = {{"model.embed_tokens.weight", LM_DTYPE_BF16, 6000, 512},
                                 {"model.layers.0.self_attn.q_proj.weight", LM_DTYPE_BF16, 512, 512},
                                 {"model.layers.0.self_attn.k_proj.weight", LM_DTYPE_BF16, 512, 512},
                                 {"model.layers.0.self_attn.v_proj.weight", LM_DTYPE_BF16, 512, 512},
                                 {"model.layers.0.self_attn.o_proj.weight", LM_DTYPE_BF16, 512, 512},
                                 {"model.layers.0.mlp.gate_proj.weight", LM_DTYPE_BF16, 4000, 512},
                                 {"model.layers.0.mlp.up_proj.weight", LM_DTYPE_BF16, 4000, 512},
                                 {"model.layers.0.mlp.down_proj.weight", LM_DTYPE_BF16, 512, 4000},
                                 {"model.layers.0.input_layernorm.weight", LM_DTYPE_BF16, 512, 0},
                                 {"model.layers.0.post_attention_layernorm.weight", LM_DTYPE_BF16, 512, 0},
                                 {"model.norm.weight", LM_DTYPE_BF16, 512, 0}};
    lm_tensor_out outs[11];
    uint16_t *values = malloc((size_t)2 * 6000 * 512);
    assert_non_null(values);
    for (uint32_t i = 0, seed = 7; i < 6000 * 512; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (uint16_t)(0x3c00 | (seed >> 16 & 0x81ff));
    }
    for (int i = 0; i < 11; i++)
        outs[i] = (lm_tensor_out){sizes[i].name, "BF16", {sizes[i].n, sizes[i].k}, sizes[i].k ? 2 : 1, values + i};
    outs[0].data = values;
    lm_error err = {LM_OK, ""};
    if (lm_safetensors_write(folder_path(f, "model.safetensors"), outs, 11, &err)) fail_msg("%s", err.message);
    free(values);
    folder_text(
        f, "config.json",
        "{\"model_type\": \"llama\", \"hidden_size\": 512, \"num_hidden_layers\": 1, \"intermediate_size\": 4000, "
        "\"num_attention_heads\": 8, \"vocab_size\": 6000, \"rms_norm_eps\": 1e-5}");
}

static lm_convert_options large_options(const char *model, const char *target) {
    lm_convert_options o = options(model, target);
    o.quantize = true;
    o.q_group_size = 32;
    o.max_shard_bytes = 800000;
    o.threads = 2;
    return o;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Converts in a child that is killed after `seconds`; true if it ended by itself. */
static bool convert_and_kill(const lm_convert_options *o, double seconds) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        lm_error err;
        _exit(lm_convert_model(o, &err) == LM_OK ? 0 : 1);
    }
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
    kill(pid, SIGKILL);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) return false;
    assert_int_equal(WEXITSTATUS(status), 0);
    return true;
}

static void test_kill(void **state) {
    (void)state;
    folder f = memory_folder(), out = memory_folder();
    char all[256], killed[256], partial[256]; /* folder_path's own strings don't live that long */
    snprintf(all, sizeof all, "%s", folder_path(&out, "whole"));
    snprintf(killed, sizeof killed, "%s", folder_path(&out, "killed"));
    snprintf(partial, sizeof partial, "%s", folder_path(&out, ".killed.partial"));
    write_large(&f);
    lm_convert_options whole = large_options(f.path, all);
    double start = now();
    must_convert(&whole);
    double once = now() - start;
    unsigned seed = (unsigned)time(NULL);
    for (int i = 0; i < 20; i++) {
        lm_convert_options o = large_options(f.path, killed);
        seed = seed * 1103515245u + 12345u;
        double at = once * (double)(seed >> 8 & 0xffff) / 65536.0;
        bool ended = convert_and_kill(&o, at);
        if (!lm_fs_exists(o.mlx_path)) {
            assert_false(ended);
            o.resume = i % 4 != 3; /* now and then: started over */
            must_convert(&o);
        }
        same_model(whole.mlx_path, o.mlx_path);
        assert_false(lm_fs_exists(partial));
        remove_tree(o.mlx_path);
    }
    remove_tree(f.path);
    remove_tree(out.path);
}

typedef struct stopper {
    int64_t at, seen, first_total;
} stopper;

static bool stop_at(void *user, int64_t done, int64_t total) {
    stopper *s = user;
    s->seen = done;
    if (!s->first_total) s->first_total = total;
    return done < s->at;
}

static void test_resume(void **state) {
    (void)state;
    folder f = memory_folder(), out = memory_folder();
    write_large(&f);
    stopper s = {.at = 12 << 20};
    lm_convert_options whole = large_options(f.path, folder_path(&out, "whole"));
    lm_convert_options o = large_options(f.path, folder_path(&out, "model"));
    must_convert(&whole);
    o.threads = 1;
    o.progress = stop_at;
    o.user = &s;
    must_fail(&o, LM_CANCELLED, "the conversion was cancelled");
    assert_false(lm_fs_exists(o.mlx_path));
    assert_true(lm_fs_exists(folder_path(&out, ".model.partial")));
    /* other options, another source: named, and nothing is touched */
    int files = folder_count(folder_path(&out, ".model.partial"));
    lm_convert_options other = o;
    other.resume = true;
    other.q_bits = 8;
    must_fail(&other, LM_ARG, "*: --resume: q-bits was '4', is '8' now; without --resume it starts over");
    other = o, other.resume = true, other.dtype = "float16";
    must_fail(&other, LM_ARG,
              "*: --resume: dtype was 'as configured', is 'float16' now; without --resume it starts over");
    assert_int_equal(folder_count(folder_path(&out, ".model.partial")), files);
    /* what a killed process leaves half written is not part of the model */
    folder partial = {0};
    snprintf(partial.path, sizeof partial.path, "%s", folder_path(&out, ".model.partial"));
    folder_text(&partial, "config.json.tmpA1b2C3", "{\"model_");
    folder_text(&partial, "model-00099-of-00099.safetensors.tmpXyZ012", "half a shard");
    folder_text(&partial, "model-00099-of-00099.safetensors", "a shard that no line of the journal counts on");
    /* the same: only the rest is read */
    stopper rest = {.at = INT64_MAX};
    o.resume = true;
    o.user = &rest;
    must_convert(&o);
    assert_true(rest.first_total < s.first_total);
    same_model(whole.mlx_path, o.mlx_path);
    assert_int_equal(folder_count(o.mlx_path), folder_count(whole.mlx_path));
    remove_tree(f.path);
    remove_tree(out.path);
}

/* The disk is full half way: the limit on file sizes stands for it. */
static void test_full(void **state) {
    (void)state;
    folder f = memory_folder(), out = memory_folder();
    struct rlimit old, small;
    write_large(&f);
    lm_convert_options o = large_options(f.path, folder_path(&out, "deep/below/model"));
    o.max_shard_bytes = 0;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    small = old;
    small.rlim_cur = 3 << 20;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    lm_error err = {LM_OK, ""};
    lm_status s = lm_convert_model(&o, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, before);
    assert_int_equal(s, LM_IO);
    assert_line(&err, LM_IO, "model.safetensors: write failed: *");
    assert_int_equal(folder_count(out.path), 0);
    must_convert(&o); /* the source is what it was */
    remove_tree(f.path);
    remove_tree(out.path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),  cmocka_unit_test(test_packed_sources), cmocka_unit_test(test_fp8),
        cmocka_unit_test(test_hostile), cmocka_unit_test(test_hostile_index),  cmocka_unit_test(test_options),
        cmocka_unit_test(test_kill),    cmocka_unit_test(test_resume),         cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
