/* SPDX-License-Identifier: MIT
 * tensors.c: which tensor becomes what, and the streaming of it. Nothing is lost: scales and biases stay float16 unless
 * a bias would overflow there, and a norm is narrowed only if every value survives. docs/formats/gguf.md has the byte
 * maps. */
#include "base/fs.h"
#include "base/half.h"
#include "convert/convert.h"
#include "convert/names.h"
#include "format/st_write.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE ((size_t)4 << 20)

/* ---------------------------------------------------------------- the plan */

static int quantized_bits(uint32_t type) {
    return type == LM_GGML_Q4_0 || type == LM_GGML_Q4_1 ? 4 : type == LM_GGML_Q8_0 ? 8 : 0;
}

static bool is_float(uint32_t type) {
    return type == LM_GGML_F32 || type == LM_GGML_F16 || type == LM_GGML_BF16;
}

static lm_dtype float_dtype(uint32_t type) {
    return type == LM_GGML_F32 ? LM_DTYPE_F32 : type == LM_GGML_F16 ? LM_DTYPE_F16 : LM_DTYPE_BF16;
}

/* float16 if anything is stored in it (scales included), else bfloat16 if any matrix is, else float32. */
static lm_dtype main_dtype(const lm_gguf *g) {
    lm_dtype main = LM_DTYPE_F32;
    for (size_t i = 0; i < g->n_tensors; i++) {
        uint32_t type = g->tensors[i].type;
        if (type == LM_GGML_F16 || quantized_bits(type)) return LM_DTYPE_F16;
        if (type == LM_GGML_BF16) main = LM_DTYPE_BF16;
    }
    return main;
}

/* True if every float32 of the tensor is a value of `narrow` as well. */
static bool narrows(const lm_gguf_tensor *t, lm_dtype narrow) {
    if (narrow == LM_DTYPE_F32) return false;
    for (uint64_t i = 0; i < t->bytes / 4; i++) {
        float f = lm_load_f32(t->data + 4 * i);
        float back = narrow == LM_DTYPE_F16 ? lm_f16_to_f32(lm_f32_to_f16(f)) : lm_bf16_to_f32(lm_f32_to_bf16(f));
        if (lm_f32_bits(back) != lm_f32_bits(f)) return false;
    }
    return true;
}

static int block_bytes(uint32_t type) {
    int block, bytes = 1;
    lm_ggml_type(type, &block, &bytes);
    return bytes;
}

/* How a type's bias follows from its scale; Q4_1 stores it. */
static float bias_factor(uint32_t type) {
    return type == LM_GGML_Q8_0 ? -128.0f : -8.0f;
}

/* The smallest type that holds all scales and biases: float16, or float32 where a bias overflows. */
static lm_status scale_dtype(const cv_llama_plan *plan, const lm_gguf_tensor *t, lm_dtype *out, lm_error *err) {
    uint64_t step = (uint64_t)block_bytes(t->type);
    *out = LM_DTYPE_F16;
    for (uint64_t at = 0; at < t->bytes; at += step) {
        float d = lm_f16_to_f32(lm_load_u16(t->data + at));
        float m = t->type == LM_GGML_Q4_1 ? lm_f16_to_f32(lm_load_u16(t->data + at + 2)) : bias_factor(t->type) * d;
        if (!isfinite(d) || !isfinite(m))
            return lm_fail(err, LM_FORMAT, "%s: %.160s: block %llu has a scale that is not finite", plan->gguf->path,
                           t->name, (unsigned long long)(at / step));
        if (fabsf(m) > 65504.0f) *out = LM_DTYPE_F32; /* a power of two times a float16: only overflow can lose bits */
    }
    return LM_OK;
}

static lm_status add_tensor(cv_llama_plan *plan, const out_tensor *t, const char *name, lm_error *err) {
    if (plan->n_tensors == plan->capacity) {
        size_t capacity = plan->capacity ? 2 * plan->capacity : 64;
        out_tensor *grown = realloc(plan->tensors, capacity * sizeof *grown);
        if (!grown) return lm_fail_nomem(err, capacity * sizeof *grown, "the list of tensors");
        plan->tensors = grown;
        out_module *modules = realloc(plan->modules, capacity * sizeof *modules);
        if (!modules) return lm_fail_nomem(err, capacity * sizeof *modules, "the list of modules");
        plan->modules = modules;
        plan->capacity = capacity;
    }
    out_tensor *to = &plan->tensors[plan->n_tensors];
    *to = *t;
    to->name = strdup(name);
    if (!to->name) return lm_fail_nomem(err, strlen(name), "a name");
    plan->n_tensors++;
    uint64_t bytes = lm_dtype_bytes(t->dtype) * (uint64_t)t->shape[0] * (t->n_dims > 1 ? (uint64_t)t->shape[1] : 1);
    plan->bytes += bytes;
    return LM_OK;
}

/* Words, scales and biases of a quantized matrix. */
static lm_status add_quantized(cv_llama_plan *plan, out_tensor t, const char *path, lm_error *err) {
    static const char *const leaves[] = {"weight", "scales", "biases"};
    char name[256];
    int bits = quantized_bits(t.source->type);
    int64_t columns = t.shape[1];
    lm_dtype scales;
    LM_TRY(scale_dtype(plan, t.source, &scales, err));
    for (int i = 0; i < 3; i++) {
        t.part = (part)(PART_WORDS + i);
        t.dtype = i ? scales : LM_DTYPE_U32;
        t.shape[1] = i ? columns / 32 : columns * bits / 32;
        snprintf(name, sizeof name, "%s.%s", path, leaves[i]);
        LM_TRY(add_tensor(plan, &t, name, err));
    }
    out_module *m = &plan->modules[plan->n_modules];
    m->bits = bits;
    m->path = strdup(path);
    if (!m->path) return lm_fail_nomem(err, strlen(path), "a name");
    plan->n_modules++;
    return LM_OK;
}

static lm_status check_shape(const cv_llama_plan *plan, const lm_gguf_tensor *t, int64_t rows, int64_t columns,
                             int dims, lm_error *err) {
    int64_t found_rows = dims == 2 ? t->shape[1] : t->shape[0], found_columns = dims == 2 ? t->shape[0] : 1;
    if (t->n_dims != dims || found_rows != rows || found_columns != columns)
        return lm_fail(err, LM_FORMAT, "%s: %.160s: expected shape [%lld, %lld], found %d dimensions, [%lld, %lld]",
                       plan->gguf->path, t->name, (long long)rows, (long long)columns, t->n_dims, (long long)found_rows,
                       (long long)found_columns);
    return LM_OK;
}

static lm_status plan_tensor(cv_llama_plan *plan, const cv_sizes *sizes, const cv_tensor *r, const lm_gguf_tensor *t,
                             const char *path, lm_error *err) {
    char name[256];
    out_tensor out = {.source = t, .n_dims = r->columns ? 2 : 1};
    out.shape[0] = cv_size(sizes, r->rows);
    out.shape[1] = cv_size(sizes, r->columns);
    out.heads = cv_tensor_rotary_heads(r, sizes);
    LM_TRY(check_shape(plan, t, out.shape[0], out.shape[1], out.n_dims, err));
    plan->parameters += out.shape[0] * out.shape[1];
    if (out.n_dims == 2 && quantized_bits(t->type)) return add_quantized(plan, out, path, err);
    if (!is_float(t->type))
        return lm_fail(err, LM_UNSUPPORTED,
                       "%s: %.160s: type %s is not supported here (F32, F16, BF16; matrices also Q4_0, Q4_1, Q8_0)",
                       plan->gguf->path, t->name, lm_ggml_type(t->type, NULL, NULL));
    out.dtype = float_dtype(t->type);
    out.part = PART_COPY;
    if (!r->columns && t->type == LM_GGML_F32 && narrows(t, plan->main)) {
        out.part = PART_NARROW;
        out.dtype = plan->main;
    }
    snprintf(name, sizeof name, "%s.%s", path, r->leaf);
    return add_tensor(plan, &out, name, err);
}

typedef struct planner {
    cv_llama_plan *plan;
    cv_sizes sizes;
    bool *used; /* [tensors of the file] */
} planner;

static lm_status find_and_plan(void *user, const cv_tensor *r, int64_t layer, lm_error *err) {
    planner *p = user;
    char gguf_name[96], path[128];
    if (!cv_tensor_applies(r, &p->sizes, false)) return LM_OK;
    cv_tensor_gguf(r, layer, gguf_name, sizeof gguf_name);
    cv_tensor_path(r, layer, path, sizeof path);
    const lm_gguf_tensor *t = lm_gguf_find_tensor(p->plan->gguf, gguf_name);
    if (!t) return lm_fail(err, LM_FORMAT, "%s: tensor %s is missing", p->plan->gguf->path, gguf_name);
    p->used[t - p->plan->gguf->tensors] = true;
    return plan_tensor(p->plan, &p->sizes, r, t, path, err);
}

static lm_status check_unused(const lm_gguf *g, const bool *used, lm_error *err) {
    const char *first = NULL;
    size_t n = 0;
    for (size_t i = 0; i < g->n_tensors; i++)
        if (!used[i] && strcmp(g->tensors[i].name, "rope_freqs.weight")) {
            if (!n++) first = g->tensors[i].name;
        }
    if (n)
        return lm_fail(err, LM_UNSUPPORTED, "%s: tensor %.160s has no place in a llama model (%zu such)", g->path,
                       first, n);
    return LM_OK;
}

static lm_status plan_all(cv_llama_plan *plan, const cv_llama_params *p, bool *used, lm_error *err) {
    planner all = {.plan = plan, .used = used};
    all.sizes = (cv_sizes){.vocab = p->vocab,
                           .hidden = p->hidden,
                           .heads = p->heads,
                           .kv_heads = p->kv_heads,
                           .head_dim = p->head_dim,
                           .ffn = p->ffn,
                           .attention_bias = p->attention_bias,
                           .mlp_bias = p->mlp_bias,
                           .tied = p->tied};
    LM_TRY(cv_tensors_each(CV_ORDER_GGUF, p->layers, find_and_plan, &all, err));
    return check_unused(plan->gguf, used, err);
}

lm_status cv_llama_plan_make(const lm_gguf *g, const cv_llama_params *p, cv_llama_plan *out, lm_error *err) {
    size_t four = 0;
    memset(out, 0, sizeof *out);
    out->gguf = g;
    out->main = main_dtype(g);
    bool *used = calloc(g->n_tensors + 1, sizeof *used);
    lm_status s = used ? plan_all(out, p, used, err) : lm_fail_nomem(err, g->n_tensors, g->path);
    free(used);
    for (size_t i = 0; i < out->n_modules; i++) four += out->modules[i].bits == 4;
    if (out->n_modules) out->default_bits = 2 * four >= out->n_modules ? 4 : 8;
    if (s != LM_OK) cv_llama_plan_free(out);
    return s;
}

void cv_llama_plan_free(cv_llama_plan *plan) {
    for (size_t i = 0; i < plan->n_tensors; i++) free(plan->tensors[i].name);
    for (size_t i = 0; i < plan->n_modules; i++) free(plan->modules[i].path);
    free(plan->tensors);
    free(plan->modules);
    memset(plan, 0, sizeof *plan);
}

/* ---------------------------------------------------------------- bytes */

/* Row of the file that becomes row `row`: inside a head the file pairs (i, i + half) as neighbours. */
static int64_t source_row(const out_tensor *t, int64_t row) {
    if (!t->heads) return row;
    int64_t dim = t->shape[0] / t->heads, head = row / dim, r = row % dim, half = dim / 2;
    return head * dim + 2 * (r % half) + r / half;
}

/* One block's 32 values as they lie in an MLX row: 16 or 32 bytes. */
static void words(uint32_t type, const uint8_t *block, uint8_t *to) {
    if (type == LM_GGML_Q8_0) {
        for (int i = 0; i < 32; i++) to[i] = (uint8_t)(block[2 + i] ^ 0x80); /* int8 + 128 */
        return;
    }
    const uint8_t *q = block + (type == LM_GGML_Q4_1 ? 4 : 2); /* low nibbles: values 0..15, high ones: 16..31 */
    for (int i = 0; i < 8; i++) {
        to[i] = (uint8_t)((q[2 * i] & 15) | (q[2 * i + 1] & 15) << 4);
        to[8 + i] = (uint8_t)(q[2 * i] >> 4 | (q[2 * i + 1] & 0xf0));
    }
}

static void put_float(uint8_t *to, lm_dtype dtype, float f) {
    uint32_t bits = lm_f32_bits(f);
    uint16_t half = dtype == LM_DTYPE_F16 ? lm_f32_to_f16(f) : lm_f32_to_bf16(f);
    if (dtype == LM_DTYPE_F32)
        memcpy(to, &bits, 4);
    else
        memcpy(to, &half, 2);
}

/* One row (a single value for vectors) of an output tensor. */
static void emit_row(const out_tensor *t, const uint8_t *from, size_t from_bytes, uint8_t *to) {
    uint32_t type = t->source->type;
    size_t step = (size_t)block_bytes(type), n = from_bytes / step, size = lm_dtype_bytes(t->dtype);
    if (t->part == PART_COPY) {
        memcpy(to, from, from_bytes);
        return;
    }
    for (size_t i = 0; i < n; i++, from += step) {
        float d = t->part == PART_NARROW ? lm_load_f32(from) : lm_f16_to_f32(lm_load_u16(from));
        if (t->part == PART_WORDS)
            words(type, from, to + i * (type == LM_GGML_Q8_0 ? 32 : 16));
        else if (t->part != PART_BIASES)
            put_float(to + i * size, t->dtype, d);
        else
            put_float(to + i * size, t->dtype,
                      type == LM_GGML_Q4_1 ? lm_f16_to_f32(lm_load_u16(from + 2)) : bias_factor(type) * d);
    }
}

typedef struct output {
    lm_st_writer *file;
    uint8_t *piece;
    size_t capacity;
    uint64_t total;
    const cv_llama_progress *progress;
} output;

static lm_status write_tensor(output *o, const out_tensor *t, lm_error *err) {
    size_t rows = (size_t)t->shape[0], from_bytes = (size_t)(t->source->bytes / rows);
    size_t to_bytes = lm_dtype_bytes(t->dtype) * (t->n_dims > 1 ? (size_t)t->shape[1] : 1);
    size_t at_once = o->capacity / to_bytes ? o->capacity / to_bytes : 1;
    for (size_t row = 0; row < rows; row += at_once) {
        size_t n = rows - row < at_once ? rows - row : at_once;
        for (size_t i = 0; i < n; i++)
            emit_row(t, t->source->data + (size_t)source_row(t, (int64_t)(row + i)) * from_bytes, from_bytes,
                     o->piece + i * to_bytes);
        LM_TRY(lm_st_writer_add(o->file, o->piece, n * to_bytes, err));
        if (o->progress->call &&
            !o->progress->call(o->progress->user, (int64_t)lm_st_writer_written(o->file), (int64_t)o->total))
            return lm_fail(err, LM_CANCELLED, "the conversion was cancelled");
    }
    return LM_OK;
}

/* The widest row decides the buffer: a piece, or that row. */
static lm_status open_output(const cv_llama_plan *plan, const char *path, output *o, lm_error *err) {
    lm_st_spec *specs = calloc(plan->n_tensors + 1, sizeof *specs);
    if (!specs) return lm_fail_nomem(err, plan->n_tensors * sizeof *specs, path);
    o->capacity = PIECE;
    for (size_t i = 0; i < plan->n_tensors; i++) {
        const out_tensor *t = &plan->tensors[i];
        specs[i] = (lm_st_spec){t->name, t->dtype, t->n_dims, {t->shape[0], t->shape[1]}};
        size_t row = lm_dtype_bytes(t->dtype) * (t->n_dims > 1 ? (size_t)t->shape[1] : 1);
        if (row > o->capacity) o->capacity = row;
    }
    lm_status s = lm_st_writer_create(path, specs, plan->n_tensors, &o->file, err);
    free(specs);
    LM_TRY(s);
    o->piece = malloc(o->capacity);
    return o->piece ? LM_OK : lm_fail_nomem(err, o->capacity, "a buffer");
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const out_tensor *const *)a)->name, (*(const out_tensor *const *)b)->name);
}

static lm_status write_index(const cv_llama_plan *plan, const char *folder, lm_error *err) {
    const out_tensor **sorted = calloc(plan->n_tensors + 1, sizeof *sorted);
    json_t *map = json_object();
    bool ok = sorted && map;
    for (size_t i = 0; ok && i < plan->n_tensors; i++) sorted[i] = &plan->tensors[i];
    if (ok) qsort(sorted, plan->n_tensors, sizeof *sorted, by_name);
    for (size_t i = 0; ok && i < plan->n_tensors; i++)
        ok = !json_object_set_new(map, sorted[i]->name, json_string("model.safetensors"));
    free(sorted);
    json_t *index = ok ? json_pack("{s:{s:I, s:I}, s:o}", "metadata", "total_size", (json_int_t)plan->bytes,
                                   "total_parameters", (json_int_t)plan->parameters, "weight_map", map)
                       : NULL;
    if (!ok) json_decref(map);
    return cv_write_json(folder, "model.safetensors.index.json", index, 4, err);
}

lm_status cv_llama_plan_write(const cv_llama_plan *plan, const char *folder, const cv_llama_progress *progress,
                              lm_error *err) {
    output o = {.total = plan->bytes, .progress = progress};
    char *path = lm_fs_join(folder, "model.safetensors");
    if (!path) return lm_fail_nomem(err, strlen(folder), folder);
    lm_status s = open_output(plan, path, &o, err);
    for (size_t i = 0; s == LM_OK && i < plan->n_tensors; i++) s = write_tensor(&o, &plan->tensors[i], err);
    free(o.piece);
    free(path);
    if (s != LM_OK) {
        lm_st_writer_abandon(o.file);
        return s;
    }
    LM_TRY(lm_st_writer_commit(o.file, err));
    return write_index(plan, folder, err);
}
