/* SPDX-License-Identifier: MIT
 *
 * synth.c: MLX folders of a real model's shape with random weights, for speed only. Codes are uniform, scales powers of
 * two times 1, 1.25, 1.5 or 1.75, biases -2^(bits - 1) scales: so 4 and 8 bits become GGUF's Q4_0 and Q8_0 without
 * loss (`mlx_lm convert --gguf-out`), and a peer reads the same numbers. SmolLM2 is float16 with embeddings of 8 bits,
 * as the real file has them; its biases are half a scale higher than that, so that its 4 bits become Q4_1, as they are
 * in the real one. Each tensor's numbers follow from its name.
 *
 *     bench_synth SHAPE PRECISION TOKENIZER_FOLDER OUT
 *     SHAPE: smollm2-135m, qwen3-0.6b, qwen3-4b, qwen3-30b-a3b, or SHAPE:LAYERS
 *     PRECISION: bf16, qBITS or qBITS-gGROUP */
#include "base/half.h"
#include "format/st_write.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PIECE ((size_t)1 << 20)
#define MAX_TENSORS 4096
#define SHARD_BYTES ((uint64_t)5 << 30)

typedef struct shape {
    const char *name;
    int64_t hidden, layers, heads, kv_heads, head_dim, inter, vocab, context;
    double theta;
    bool tied;
    int64_t experts, top_k, expert_inter;
    bool llama; /* no norms of queries and keys; float16, embeddings of 8 bits */
} shape;

static const shape shapes[] = {
    {"smollm2-135m", 576, 30, 9, 3, 64, 1536, 49152, 8192, 1e5, true, 0, 0, 0, true},
    {"qwen3-0.6b", 1024, 28, 16, 8, 128, 3072, 151936, 40960, 1e6, true, 0, 0, 0, false},
    {"qwen3-4b", 2560, 36, 32, 8, 128, 9728, 151936, 262144, 5e6, true, 0, 0, 0, false},
    {"qwen3-30b-a3b", 2048, 48, 32, 4, 128, 6144, 151936, 262144, 1e7, false, 128, 8, 768, false},
};

typedef enum content { ONES, FLOATS, CODES, SCALES, BIASES } content;

typedef struct tensor {
    char name[96];
    lm_st_spec spec;
    content content;
    int bits;
    uint64_t seed;
} tensor;

typedef struct folder {
    shape s;
    int bits, group; /* bits 16: bf16 */
    const char *out;
    tensor tensors[MAX_TENSORS];
    size_t n;
} folder;

/* ---------------------------------------------------------------- random numbers */

static uint64_t hash(const char *text) { /* FNV-1a */
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h;
}

static uint64_t next(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* ---------------------------------------------------------------- the list of tensors */

static void add(folder *f, const char *name, const char *part, int n_dims, const int64_t *dims, content c, int bits) {
    if (f->n == MAX_TENSORS) return; /* main finds the folder incomplete */
    tensor *t = &f->tensors[f->n++];
    snprintf(t->name, sizeof t->name, "%s.%s", name, part);
    t->spec = (lm_st_spec){t->name, c == CODES ? LM_DTYPE_U32 : f->s.llama ? LM_DTYPE_F16 : LM_DTYPE_BF16, n_dims, {0}};
    memcpy(t->spec.shape, dims, (size_t)n_dims * sizeof *dims);
    t->content = c;
    t->bits = bits;
    t->seed = hash(name); /* scales and biases share it */
}

static void add_norm(folder *f, const char *name, int64_t n) {
    add(f, name, "weight", 1, &n, ONES, 16);
}

/* [n, k], or [experts, n, k] where experts > 0 */
static void add_weight(folder *f, const char *name, int bits, int64_t experts, int64_t n, int64_t k) {
    int64_t dims[3] = {experts, n, k};
    const int64_t *from = experts ? dims : dims + 1;
    const int n_dims = experts ? 3 : 2;
    if (bits == 16) {
        add(f, name, "weight", n_dims, from, FLOATS, bits);
        return;
    }
    dims[2] = k * bits / 32;
    add(f, name, "weight", n_dims, from, CODES, bits);
    dims[2] = k / f->group;
    add(f, name, "scales", n_dims, from, SCALES, bits);
    add(f, name, "biases", n_dims, from, BIASES, bits);
}
static void add_linear(folder *f, const char *name, int64_t experts, int64_t n, int64_t k) {
    add_weight(f, name, f->bits, experts, n, k);
}

/* The bits of the embeddings, which are the output product's too. */
static int embedding_bits(const folder *f) {
    return f->s.llama && f->bits != 16 ? 8 : f->bits;
}

static void list_layer(folder *f, int64_t layer) {
    const shape *s = &f->s;
    char name[80];
#define NAME(part) (snprintf(name, sizeof name, "model.layers.%lld." part, (long long)layer), name)
    add_norm(f, NAME("input_layernorm"), s->hidden);
    add_linear(f, NAME("self_attn.q_proj"), 0, s->heads * s->head_dim, s->hidden);
    add_linear(f, NAME("self_attn.k_proj"), 0, s->kv_heads * s->head_dim, s->hidden);
    add_linear(f, NAME("self_attn.v_proj"), 0, s->kv_heads * s->head_dim, s->hidden);
    add_linear(f, NAME("self_attn.o_proj"), 0, s->hidden, s->heads * s->head_dim);
    if (!s->llama) {
        add_norm(f, NAME("self_attn.q_norm"), s->head_dim);
        add_norm(f, NAME("self_attn.k_norm"), s->head_dim);
    }
    add_norm(f, NAME("post_attention_layernorm"), s->hidden);
    if (s->experts) {
        add_linear(f, NAME("mlp.gate"), 0, s->experts, s->hidden);
        add_linear(f, NAME("mlp.switch_mlp.gate_proj"), s->experts, s->expert_inter, s->hidden);
        add_linear(f, NAME("mlp.switch_mlp.up_proj"), s->experts, s->expert_inter, s->hidden);
        add_linear(f, NAME("mlp.switch_mlp.down_proj"), s->experts, s->hidden, s->expert_inter);
    } else {
        add_linear(f, NAME("mlp.gate_proj"), 0, s->inter, s->hidden);
        add_linear(f, NAME("mlp.up_proj"), 0, s->inter, s->hidden);
        add_linear(f, NAME("mlp.down_proj"), 0, s->hidden, s->inter);
    }
#undef NAME
}

static void list_tensors(folder *f) {
    add_weight(f, "model.embed_tokens", embedding_bits(f), 0, f->s.vocab, f->s.hidden);
    for (int64_t i = 0; i < f->s.layers; i++) list_layer(f, i);
    add_norm(f, "model.norm", f->s.hidden);
    if (!f->s.tied) add_linear(f, "lm_head", 0, f->s.vocab, f->s.hidden);
}

/* ---------------------------------------------------------------- writing */

/* n values of 16 bits. Every scale is drawn alike for scales and biases. */
static void fill_halves(const folder *f, const tensor *t, uint64_t *state, uint16_t *out, size_t n) {
    static const float fractions[4] = {1, 1.25f, 1.5f, 1.75f};
    const float scale = 1.0f / (float)(1 << (4 + t->bits)); /* weights of about 0.02 */
    const float centre = (float)(1 << (t->bits - 1)) - (f->s.llama && t->bits != 8 ? 0.5f : 0);
    for (size_t i = 0; i < n; i++) {
        const uint64_t r = next(state);
        float x = 1;
        if (t->content == FLOATS) /* +- 2^-7 to 2^-5 */
            x = (1 + (float)(r & 0x7f) / 128) * (r & 0x80 ? 0x1p-6f : 0x1p-7f) * (r & 0x8000 ? -1 : 1);
        else if (t->content != ONES)
            x = scale * fractions[r & 3] * (t->content == BIASES ? -centre : 1);
        out[i] = f->s.llama ? lm_f32_to_f16(x) : lm_f32_to_bf16(x);
    }
}

static lm_status write_tensor(const folder *f, const tensor *t, lm_st_writer *w, lm_error *err) {
    static uint64_t buffer[PIECE / 8];
    uint64_t bytes, state = t->seed + (t->content == CODES);
    lm_st_spec_bytes(&t->spec, &bytes);
    for (uint64_t at = 0; at < bytes; at += PIECE) {
        const size_t n = bytes - at < PIECE ? (size_t)(bytes - at) : PIECE;
        if (t->content == CODES)
            for (size_t i = 0; i < (n + 7) / 8; i++) buffer[i] = next(&state);
        else
            fill_halves(f, t, &state, (uint16_t *)(void *)buffer, n / 2);
        LM_TRY(lm_st_writer_add(w, buffer, n, err));
    }
    return LM_OK;
}

static lm_status write_shard(const folder *f, const char *path, size_t from, size_t to, lm_error *err) {
    static lm_st_spec specs[MAX_TENSORS];
    lm_st_writer *w;
    for (size_t i = from; i < to; i++) specs[i - from] = f->tensors[i].spec;
    LM_TRY(lm_st_writer_create(path, specs, to - from, &w, err));
    lm_status s = LM_OK;
    for (size_t i = from; s == LM_OK && i < to; i++) s = write_tensor(f, &f->tensors[i], w, err);
    if (s == LM_OK) return lm_st_writer_commit(w, err);
    lm_st_writer_abandon(w);
    return s;
}

/* The end of the shard that begins at `from`. */
static size_t shard_end(const folder *f, size_t from) {
    uint64_t sum = 0, bytes;
    size_t i = from;
    for (; i < f->n; i++) {
        lm_st_spec_bytes(&f->tensors[i].spec, &bytes);
        if (i > from && sum + bytes > SHARD_BYTES) break;
        sum += bytes;
    }
    return i;
}

static lm_status write_weights(const folder *f, lm_error *err) {
    char path[4096];
    size_t shards = 0, number = 0;
    for (size_t at = 0; at < f->n; at = shard_end(f, at)) shards++;
    for (size_t at = 0, end; at < f->n; at = end) {
        end = shard_end(f, at);
        number++;
        if (shards == 1)
            snprintf(path, sizeof path, "%s/model.safetensors", f->out);
        else
            snprintf(path, sizeof path, "%s/model-%05zu-of-%05zu.safetensors", f->out, number, shards);
        LM_TRY(write_shard(f, path, at, end, err));
    }
    return LM_OK;
}

static lm_status write_config(const folder *f, lm_error *err) {
    const shape *s = &f->s;
    char path[4096];
    snprintf(path, sizeof path, "%s/config.json", f->out);
    FILE *o = fopen(path, "w");
    if (!o) return lm_fail(err, LM_IO, "%s: %s", path, strerror(errno));
    fprintf(o,
            "{\"architectures\": [\"%s\"], \"model_type\": \"%s\", \"attention_bias\": false, \"bos_token_id\": %d,\n"
            " \"eos_token_id\": %d, \"hidden_act\": \"silu\", \"hidden_size\": %lld, \"num_hidden_layers\": %lld,\n"
            " \"num_attention_heads\": %lld, \"num_key_value_heads\": %lld, \"head_dim\": %lld, \"intermediate_size\": "
            "%lld,\n"
            " \"max_position_embeddings\": %lld, \"rms_norm_eps\": 1e-6, \"rope_theta\": %g, \"rope_scaling\": null,\n"
            " \"tie_word_embeddings\": %s, \"use_sliding_window\": false, \"vocab_size\": %lld, \"torch_dtype\": "
            "\"%s\"",
            s->llama     ? "LlamaForCausalLM"
            : s->experts ? "Qwen3MoeForCausalLM"
                         : "Qwen3ForCausalLM",
            s->llama     ? "llama"
            : s->experts ? "qwen3_moe"
                         : "qwen3",
            s->llama ? 1 : 151643, s->llama ? 2 : 151645, (long long)s->hidden, (long long)s->layers,
            (long long)s->heads, (long long)s->kv_heads, (long long)s->head_dim, (long long)s->inter,
            (long long)s->context, s->theta, s->tied ? "true" : "false", (long long)s->vocab,
            s->llama ? "float16" : "bfloat16");
    if (s->experts)
        fprintf(o,
                ",\n \"num_experts\": %lld, \"num_experts_per_tok\": %lld, \"moe_intermediate_size\": %lld,\n"
                " \"decoder_sparse_step\": 1, \"mlp_only_layers\": [], \"norm_topk_prob\": true",
                (long long)s->experts, (long long)s->top_k, (long long)s->expert_inter);
    if (f->bits != 16) {
        fprintf(o, ",\n \"quantization\": {\"group_size\": %d, \"bits\": %d, \"mode\": \"affine\"", f->group, f->bits);
        if (embedding_bits(f) != f->bits)
            fprintf(o, ",\n  \"model.embed_tokens\": {\"group_size\": %d, \"bits\": %d, \"mode\": \"affine\"}",
                    f->group, embedding_bits(f));
        fprintf(o, "}");
    }
    fprintf(o, "}\n");
    const bool failed = ferror(o);
    return fclose(o) || failed ? lm_fail(err, LM_IO, "%s: %s", path, strerror(errno)) : LM_OK;
}

static lm_status copy_file(const char *from, const char *to, const char *name, lm_error *err) {
    static char buffer[1 << 16];
    char a[4096], b[4096];
    snprintf(a, sizeof a, "%s/%s", from, name);
    snprintf(b, sizeof b, "%s/%s", to, name);
    FILE *in = fopen(a, "rb"), *out = in ? fopen(b, "wb") : NULL;
    lm_status s = LM_OK;
    if (!in || !out) s = lm_fail(err, LM_IO, "%s: %s", in ? b : a, strerror(errno));
    for (size_t n; s == LM_OK && (n = fread(buffer, 1, sizeof buffer, in)) > 0;)
        if (fwrite(buffer, 1, n, out) != n) s = lm_fail(err, LM_IO, "%s: %s", b, strerror(errno));
    if (in) fclose(in);
    if (out && fclose(out) && s == LM_OK) s = lm_fail(err, LM_IO, "%s: %s", b, strerror(errno));
    return s;
}

/* ---------------------------------------------------------------- arguments */

static bool read_shape(const char *text, shape *s) {
    const char *colon = strchr(text, ':');
    const size_t n = colon ? (size_t)(colon - text) : strlen(text);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (strlen(shapes[i].name) != n || strncmp(shapes[i].name, text, n) != 0) continue;
        *s = shapes[i];
        const int64_t layers = colon ? strtoll(colon + 1, NULL, 10) : s->layers;
        if (layers < 1 || layers > s->layers) return false;
        s->layers = layers;
        return true;
    }
    return false;
}

static bool read_precision(const char *text, folder *f) {
    char tail;
    f->group = 64;
    f->bits = 16;
    if (!strcmp(text, "bf16")) return true;
    const int n = sscanf(text, "q%d-g%d%c", &f->bits, &f->group, &tail);
    if (n < 1 || n > 2 || (n == 1 && strchr(text, '-'))) return false;
    const bool bits = (f->bits >= 2 && f->bits <= 6) || f->bits == 8;
    return bits && (f->group == 32 || f->group == 64 || f->group == 128);
}

int main(int argc, char **argv) {
    static folder f;
    lm_error err = {LM_OK, ""};
    if (argc != 5 || !read_shape(argv[1], &f.s) || !read_precision(argv[2], &f)) {
        fprintf(stderr,
                "usage: bench_synth smollm2-135m|qwen3-0.6b|qwen3-4b|qwen3-30b-a3b[:LAYERS] bf16|qBITS[-gGROUP] "
                "TOKENIZER_FOLDER OUT\n");
        return 2;
    }
    f.out = argv[4];
    list_tensors(&f);
    lm_status s = LM_OK;
    if (f.n == MAX_TENSORS) s = lm_fail(&err, LM_ARG, "%s: more than %d tensors", argv[1], MAX_TENSORS - 1);
    if (s == LM_OK && mkdir(f.out, 0777) && errno != EEXIST) s = lm_fail(&err, LM_IO, "%s: %s", f.out, strerror(errno));
    if (s == LM_OK) s = copy_file(argv[3], f.out, "tokenizer.json", &err);
    if (s == LM_OK) s = copy_file(argv[3], f.out, "tokenizer_config.json", &err);
    if (s == LM_OK) s = write_weights(&f, &err);
    if (s == LM_OK) s = write_config(&f, &err); /* last: a folder with it is whole */
    if (s != LM_OK) fprintf(stderr, "bench_synth: %s\n", err.message);
    return s == LM_OK ? 0 : 1;
}
