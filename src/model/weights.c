/* SPDX-License-Identifier: MIT
 * weights.c: from a checkpoint's tensors to a model's checked references, by the family's rules. Every missing,
 * misshapen and unexpected tensor is collected and reported in one error. Nothing of a weight matrix is copied; norms
 * and biases become float32. */
#include "base/buf.h"
#include "base/half.h"
#include "format/qformat.h"
#include "model/arch.h"
#include <stdlib.h>
#include <string.h>

#define MAX_LISTED 24 /* problems named; the rest is counted */

typedef struct loader {
    lm_model *m;
    const lm_config *config;
    const lm_checkpoint *ck;
    bool *used; /* [tensors] */
    lm_buf problems;
    size_t n_problems;
    lm_error *err;
    size_t names_capacity, vectors_capacity;
    lm_format quantized_format; /* of the first quantized layer seen, for the label */
    int32_t quantized_group;    /* 0: none seen */
    bool mixed;
} loader;

static void problem(loader *l, const char *fmt, ...) LM_PRINTF(2, 3);
static void problem(loader *l, const char *fmt, ...) {
    char line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (l->n_problems++ < MAX_LISTED) {
        if (l->n_problems > 1) lm_buf_adds(&l->problems, "; ");
        lm_buf_adds(&l->problems, line);
    }
}

static const lm_tensor *take(loader *l, const char *name) {
    const lm_tensor *t = lm_checkpoint_find(l->ck, name);
    if (t) l->used[t - lm_checkpoint_get(l->ck, 0)] = true;
    return t;
}

static void shape_text(const lm_tensor *t, char *out, size_t size) {
    size_t at = 0;
    out[0] = 0;
    for (int i = 0; i < t->n_dims && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
}

static const char *dtype_text(const lm_tensor *t) {
    return lm_dtype_name(t->dtype);
}

/* True if t has exactly this shape; e > 0 puts a leading dimension before [n, k]; k < 0: a vector [n]. */
static bool shape_is(const lm_tensor *t, int64_t e, int64_t n, int64_t k) {
    int at = 0;
    int dims = (e > 0) + 1 + (k >= 0);
    if (t->n_dims != dims) return false;
    if (e > 0 && t->shape[at++] != e) return false;
    if (t->shape[at++] != n) return false;
    return k < 0 || t->shape[at] == k;
}

static void bad_shape(loader *l, const lm_tensor *t, int64_t e, int64_t n, int64_t k) {
    char found[128], want[96];
    shape_text(t, found, sizeof found);
    if (k < 0)
        snprintf(want, sizeof want, "%lld", (long long)n);
    else if (e > 0)
        snprintf(want, sizeof want, "%lld, %lld, %lld", (long long)e, (long long)n, (long long)k);
    else
        snprintf(want, sizeof want, "%lld, %lld", (long long)n, (long long)k);
    problem(l, "%s: expected shape [%s], found [%s]", t->name, want, found);
}

static bool is_float(lm_dtype d) {
    return d == LM_DTYPE_F16 || d == LM_DTYPE_BF16 || d == LM_DTYPE_F32;
}

static char *keep_name(loader *l, const char *module) {
    lm_model *m = l->m;
    if (m->n_names == l->names_capacity) {
        size_t cap = l->names_capacity ? l->names_capacity * 2 : 256;
        char **p = realloc(m->names, cap * sizeof *p);
        if (!p) return NULL;
        m->names = p;
        l->names_capacity = cap;
    }
    char *s = strdup(module);
    if (s) m->names[m->n_names++] = s;
    return s;
}

/* ---------------------------------------------------------------- matrices */

static bool join(char *out, size_t size, const char *a, const char *b) {
    return (size_t)snprintf(out, size, "%s%s", a, b) < size;
}

/* Fills count references [e] of a float tensor [e?, n, k]. */
static bool float_weight(loader *l, const lm_tensor *t, int64_t e, int64_t n, int64_t k, const char *name,
                         lm_weight *out) {
    if (!shape_is(t, e, n, k)) {
        bad_shape(l, t, e, n, k);
        return false;
    }
    size_t size = lm_dtype_bytes(t->dtype), row = (size_t)k * size;
    lm_format f = t->dtype == LM_DTYPE_F16 ? LM_FORMAT_F16 : t->dtype == LM_DTYPE_BF16 ? LM_FORMAT_BF16 : LM_FORMAT_F32;
    for (int64_t i = 0; i < (e > 0 ? e : 1); i++)
        out[i] = (lm_weight){.data = (const char *)t->data + (size_t)i * row * (size_t)n,
                             .n = n,
                             .k = k,
                             .row_bytes = row,
                             .bytes = row * (size_t)n,
                             .format = f,
                             .scale_type = t->dtype,
                             .layout = LM_LAYOUT_MLX,
                             .device = LM_DEVICE_CPU,
                             .name = name};
    l->m->n_parameters += n * k * (e > 0 ? e : 1);
    return true;
}

/* The weight format of a mode and width, LM_FORMAT_COUNT if there is none. */
static lm_format format_of(const char *mode, int64_t bits) {
    static const struct {
        const char *mode;
        lm_format format;
    } others[] = {{"mxfp4", LM_FORMAT_MXFP4}, {"nvfp4", LM_FORMAT_NVFP4}, {"mxfp8", LM_FORMAT_MXFP8}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!strcmp(mode, others[i].mode)) return others[i].format;
    return !strcmp(mode, "affine") ? lm_format_affine((int)bits) : LM_FORMAT_COUNT;
}

/* What mlx-lm infers for a path without an entry, from the type of its scales and the shapes; "?" if nothing fits. */
static const char *inferred_mode(lm_dtype scales, int64_t bits, int64_t group) {
    if (scales != LM_DTYPE_U8) return "affine";
    if (bits == 4 && group == 16) return "nvfp4";
    return group != 32 ? "?" : bits == 4 ? "mxfp4" : bits == 8 ? "mxfp8" : "?";
}

/* Format and group of a quantized tensor: the path's own entry, else what the shapes say. */
static bool quant_parameters(loader *l, const char *module, const lm_tensor *w, const lm_tensor *s, int64_t k,
                             lm_format *format, int64_t *group) {
    lm_quant q;
    lm_error e;
    if (lm_config_quant(l->config, module, &q, &e) != LM_OK) {
        problem(l, "%s", e.message);
        return false;
    }
    int64_t words = w->shape[w->n_dims - 1], groups = s->shape[s->n_dims - 1];
    int64_t shape_group = groups > 0 && k % groups == 0 ? k / groups : 0;
    int64_t shape_bits = k > 0 && (words * 32) % k == 0 ? words * 32 / k : 0;
    if (q.listed && !q.quantized) {
        problem(l, "%s: config says not quantized, but %s.scales exists", module, module);
        return false;
    }
    const char *name = q.listed ? q.mode : inferred_mode(s->dtype, shape_bits, shape_group);
    const lm_qmode *mode = lm_qmode_find(name);
    if (mode && (mode->has_biases ? !is_float(s->dtype) : s->dtype != LM_DTYPE_U8)) {
        problem(l, "%s: expected %s scales of quantization mode %s, found %s", s->name,
                mode->has_biases ? "F16, BF16 or F32" : "U8", name, dtype_text(s));
        return false;
    }
    const int64_t bits = q.listed ? q.bits : shape_bits;
    *group = q.listed ? q.group_size : shape_group;
    *format = format_of(name, bits);
    if (bits != shape_bits || *group != shape_group || *format == LM_FORMAT_COUNT || !mode ||
        !lm_qmode_allows_group(mode, *group) || !lm_qmode_allows_bits(mode, bits)) {
        problem(l, "%s: expected %lld bits in groups of %lld over %lld inputs, found %lld words and %lld scales a row",
                module, (long long)bits, (long long)*group, (long long)k, (long long)words, (long long)groups);
        return false;
    }
    return true;
}

static void note_precision(loader *l, lm_format format, int64_t group) {
    if (!l->quantized_group) {
        l->quantized_format = format;
        l->quantized_group = (int32_t)group;
    } else if (l->quantized_format != format || l->quantized_group != group) {
        l->mixed = true;
    }
}

static bool quant_weight(loader *l, const char *module, const lm_tensor *w, const lm_tensor *s, int64_t e, int64_t n,
                         int64_t k, const char *name, lm_weight *out) {
    char path[512];
    lm_format format;
    int64_t group;
    int lead = e > 0;
    if (w->dtype != LM_DTYPE_U32) {
        problem(l, "%s: expected U32 beside scales, found %s", w->name, dtype_text(w));
        return false;
    }
    if (w->n_dims != 2 + lead || s->n_dims != 2 + lead) {
        bad_shape(l, w->n_dims != 2 + lead ? w : s, e, n, k);
        return false;
    }
    if (!quant_parameters(l, module, w, s, k, &format, &group)) return false;
    const bool affine = lm_format_is_affine(format);
    const int64_t bits = lm_format_bits(format);
    const lm_tensor *b = affine && join(path, sizeof path, module, ".biases") ? take(l, path) : NULL;
    if (affine && !b) {
        problem(l, "%s.biases: missing", module);
        return false;
    }
    if (!shape_is(w, e, n, k * bits / 32)) return bad_shape(l, w, e, n, k * bits / 32), false;
    if (!shape_is(s, e, n, k / group)) return bad_shape(l, s, e, n, k / group), false;
    if (b && !shape_is(b, e, n, k / group)) return bad_shape(l, b, e, n, k / group), false;
    if (b && b->dtype != s->dtype) {
        problem(l, "%s: expected the type of the scales, %s, found %s", b->name, dtype_text(s), dtype_text(b));
        return false;
    }
    size_t row = (size_t)k * (size_t)bits / 8, srow = (size_t)(k / group) * lm_dtype_bytes(s->dtype);
    for (int64_t i = 0; i < (e > 0 ? e : 1); i++) {
        size_t rows = (size_t)i * (size_t)n;
        out[i] = (lm_weight){.data = (const char *)w->data + rows * row,
                             .scales = (const char *)s->data + rows * srow,
                             .biases = b ? (const char *)b->data + rows * srow : NULL,
                             .n = n,
                             .k = k,
                             .row_bytes = row,
                             .bytes = (size_t)n * (row + (b ? 2 : 1) * srow),
                             .group = (int32_t)group,
                             .format = format,
                             .scale_type = s->dtype,
                             .layout = LM_LAYOUT_MLX,
                             .device = LM_DEVICE_CPU,
                             .name = name};
    }
    if (!strstr(module, "mlp.gate") || strstr(module, "gate_proj")) note_precision(l, format, group);
    l->m->n_parameters += n * k * (e > 0 ? e : 1);
    return true;
}

/* One module of [e?, n, k]: float or quantized, into out[max(e,1)]. */
static bool load_matrix(loader *l, const char *module, int64_t e, int64_t n, int64_t k, lm_weight *out) {
    char path[512];
    if (!join(path, sizeof path, module, ".weight")) return false;
    const lm_tensor *w = take(l, path);
    if (!w) {
        problem(l, "%s: missing", path);
        return false;
    }
    char *name = keep_name(l, module);
    if (!name) return lm_fail_nomem(l->err, strlen(module), "names"), false;
    const lm_tensor *s = join(path, sizeof path, module, ".scales") ? take(l, path) : NULL;
    if (s) return quant_weight(l, module, w, s, e, n, k, name, out);
    if (!is_float(w->dtype)) {
        problem(l, "%s: expected F16, BF16 or F32 (or scales beside it), found %s", w->name, dtype_text(w));
        return false;
    }
    return float_weight(l, w, e, n, k, name, out);
}

static bool load_experts(loader *l, const lm_tensor_rule *r, int64_t layer, int64_t n, int64_t k, lm_weight **slot) {
    int64_t e = l->m->h.experts;
    char module[512], path[512];
    *slot = calloc((size_t)e, sizeof **slot);
    if (!*slot) return lm_fail_nomem(l->err, (size_t)e * sizeof **slot, "expert references"), false;
    snprintf(module, sizeof module, r->unstacked, (int)layer, 0);
    bool unstacked = join(path, sizeof path, module, ".weight") && lm_checkpoint_find(l->ck, path);
    if (!unstacked) {
        snprintf(module, sizeof module, r->pattern, (int)layer);
        return load_matrix(l, module, e, n, k, *slot);
    }
    bool ok = true;
    for (int64_t i = 0; i < e; i++) {
        snprintf(module, sizeof module, r->unstacked, (int)layer, (int)i);
        ok = load_matrix(l, module, 0, n, k, &(*slot)[i]) && ok;
    }
    return ok;
}

/* ---------------------------------------------------------------- vectors */

static bool load_vector(loader *l, const char *pattern_name, int64_t n, float **slot) {
    char path[512];
    size_t length = strlen(pattern_name);
    bool whole = length > 5 && !strcmp(pattern_name + length - 5, ".bias");
    if (!join(path, sizeof path, pattern_name, whole ? "" : ".weight")) return false;
    const lm_tensor *t = take(l, path);
    if (!t) {
        problem(l, "%s: missing", path);
        return false;
    }
    if (!is_float(t->dtype)) {
        problem(l, "%s: expected F16, BF16 or F32, found %s", t->name, dtype_text(t));
        return false;
    }
    if (!shape_is(t, 0, n, -1)) return bad_shape(l, t, 0, n, -1), false;
    lm_model *m = l->m;
    if (m->n_vectors == l->vectors_capacity) {
        size_t cap = l->vectors_capacity ? l->vectors_capacity * 2 : 256;
        void **p = realloc(m->vectors, cap * sizeof *p);
        if (p) m->vectors = p;
        size_t *q = realloc(m->vector_bytes, cap * sizeof *q);
        if (q) m->vector_bytes = q;
        if (!p || !q) return lm_fail_nomem(l->err, cap, "norms"), false;
        l->vectors_capacity = cap;
    }
    void *memory;
    size_t bytes = (size_t)n * sizeof(float);
    if (m->backend->alloc(m->backend, LM_MEM_WEIGHTS, bytes, t->name, &memory, l->err) != LM_OK) return false;
    m->vectors[m->n_vectors] = memory;
    m->vector_bytes[m->n_vectors++] = bytes;
    *slot = memory;
    const uint8_t *from = t->data;
    for (int64_t i = 0; i < n; i++)
        (*slot)[i] = t->dtype == LM_DTYPE_F32   ? lm_load_f32(from + 4 * i)
                     : t->dtype == LM_DTYPE_F16 ? lm_f16_to_f32(lm_load_u16(from + 2 * i))
                                                : lm_bf16_to_f32(lm_load_u16(from + 2 * i));
    m->n_parameters += n;
    return true;
}

/* ---------------------------------------------------------------- rules */

static int64_t dim_value(const lm_hparams *h, lm_dim d) {
    switch (d) {
    case DIM_HIDDEN: return h->hidden;
    case DIM_Q: return h->heads * h->head_dim;
    case DIM_KV: return h->kv_heads * h->head_dim;
    case DIM_HEAD: return h->head_dim;
    case DIM_FFN: return h->ffn;
    case DIM_VOCAB: return h->vocab;
    case DIM_EXPERTS: return h->experts;
    case DIM_MOE_FFN: return h->moe_ffn;
    case DIM_NONE: break;
    }
    return 0;
}

bool lm_layer_is_moe(const lm_hparams *h, int64_t i) {
    if (h->experts <= 0 || (h->dense_layer && h->dense_layer[i])) return false;
    return h->sparse_step <= 0 || (i + 1) % h->sparse_step == 0;
}

static bool rule_applies(const lm_hparams *h, const lm_tensor_rule *r, int64_t layer) {
    if ((r->flags & R_IF_DENSE) && lm_layer_is_moe(h, layer)) return false;
    if ((r->flags & R_IF_MOE) && !lm_layer_is_moe(h, layer)) return false;
    if ((r->flags & R_IF_UNTIED) && h->tied) return false;
    if ((r->flags & R_IF_ATTN_BIAS) && !h->attention_bias) return false;
    return !((r->flags & R_IF_MLP_BIAS) && !h->mlp_bias);
}

static void load_rule(loader *l, const lm_tensor_rule *r, int64_t layer) {
    const lm_hparams *h = &l->m->h;
    if (!rule_applies(h, r, layer)) return;
    char name[256];
    void *slot;
    if (r->flags & R_LAYER) {
        snprintf(name, sizeof name, r->pattern, (int)layer);
        slot = (char *)&l->m->layer[layer] + r->slot;
    } else {
        snprintf(name, sizeof name, "%s", r->pattern);
        slot = (char *)l->m + r->slot;
    }
    int64_t n = dim_value(h, r->n), k = dim_value(h, r->k);
    if (r->flags & R_EXPERTS)
        load_experts(l, r, layer, n, k, slot);
    else if (r->flags & R_VECTOR)
        load_vector(l, name, n, slot);
    else
        load_matrix(l, name, 0, n, k, slot);
}

static bool ignored(const loader *l, const char *name) {
    /* upstream drops the head of tied weights, too */
    return lm_arch_ignores(l->m->arch, name) || (l->m->h.tied && !strncmp(name, "lm_head.", 8));
}

static lm_status load_all(loader *l, lm_error *err) {
    lm_model *m = l->m;
    err->status = LM_OK;
    for (const lm_tensor_rule *r = m->arch->rules; r->pattern; r++) {
        int64_t count = r->flags & R_LAYER ? m->h.layers : 1;
        for (int64_t i = 0; i < count && err->status == LM_OK && l->n_problems < 10000; i++) load_rule(l, r, i);
    }
    if (err->status != LM_OK) return err->status;
    for (size_t i = 0; i < lm_checkpoint_count(l->ck); i++) {
        const lm_tensor *t = lm_checkpoint_get(l->ck, i);
        if (!l->used[i] && !ignored(l, t->name)) problem(l, "%s: unexpected", t->name);
    }
    if (!l->n_problems) return LM_OK;
    const char *more = l->problems.data ? l->problems.data : "";
    if (l->n_problems > MAX_LISTED)
        return lm_fail(err, LM_FORMAT, "%s: weights do not fit the model: %s; and %zu more", l->config->path, more,
                       l->n_problems - MAX_LISTED);
    return lm_fail(err, LM_FORMAT, "%s: weights do not fit the model: %s", l->config->path, more);
}

static void label_precision(const loader *l) {
    lm_model *m = l->m;
    const char *dense = m->dtype == LM_DTYPE_F16 ? "f16" : m->dtype == LM_DTYPE_BF16 ? "bf16" : "f32";
    const char *mixed = l->mixed ? " (mixed)" : "";
    if (!l->quantized_group)
        snprintf(m->precision, sizeof m->precision, "%s", dense);
    else if (lm_format_is_affine(l->quantized_format))
        snprintf(m->precision, sizeof m->precision, "q%d g%d%s", lm_format_bits(l->quantized_format),
                 l->quantized_group, mixed);
    else
        snprintf(m->precision, sizeof m->precision, "%s%s", lm_format_name(l->quantized_format), mixed);
}

lm_dtype lm_model_dtype(const lm_checkpoint *checkpoint) {
    const lm_tensor *t = lm_checkpoint_find(checkpoint, "model.embed_tokens.scales");
    if (!t) t = lm_checkpoint_find(checkpoint, "model.embed_tokens.weight");
    return t && is_float(t->dtype) ? t->dtype : LM_DTYPE_BF16;
}

static lm_status open_into(lm_model *m, const lm_config *config, lm_error *err) {
    m->arch = lm_arch_find(config->model_type);
    if (!m->arch)
        return lm_fail(err, LM_UNSUPPORTED, "%s: model_type '%s' is not supported yet (%s are)", config->path,
                       config->model_type, lm_arch_names());
    LM_TRY(m->arch->read_config(config, &m->h, err));
    m->layer = calloc((size_t)m->h.layers, sizeof *m->layer);
    m->inv_freq = calloc((size_t)(m->h.head_dim / 2), sizeof *m->inv_freq);
    if (!m->layer || !m->inv_freq) return lm_fail_nomem(err, (size_t)m->h.layers * sizeof *m->layer, "layers");
    lm_rope_frequencies(&m->h, m->inv_freq);
    size_t count = lm_checkpoint_count(m->checkpoint);
    size_t bytes = (size_t)lm_checkpoint_bytes(m->checkpoint);
    LM_TRY(lm_mem_reserve(m->backend, LM_MEM_WEIGHTS, bytes, "weights", err));
    m->reserved = bytes;
    lm_error local;
    loader l = {.m = m, .config = config, .ck = m->checkpoint, .err = err ? err : &local};
    l.used = calloc(count ? count : 1, sizeof *l.used);
    if (!l.used) return lm_fail_nomem(err, count, "tensor table");
    lm_buf_init(&l.problems, 1 << 16);
    m->dtype = lm_model_dtype(m->checkpoint);
    lm_status s = load_all(&l, l.err);
    if (s == LM_OK) {
        if (m->h.tied) m->head = m->embed;
        label_precision(&l);
    }
    free(l.used);
    lm_buf_free(&l.problems);
    return s;
}

lm_status lm_model_open(const lm_config *config, lm_checkpoint *checkpoint, lm_backend *backend, lm_model **out,
                        lm_error *err) {
    *out = NULL;
    lm_model *m = calloc(1, sizeof *m);
    if (!m) {
        lm_checkpoint_close(checkpoint);
        return lm_fail_nomem(err, sizeof *m, "model");
    }
    m->checkpoint = checkpoint;
    m->backend = backend;
    lm_status s = open_into(m, config, err);
    if (s != LM_OK) {
        lm_model_close(m);
        return s;
    }
    *out = m;
    return LM_OK;
}

void lm_model_close(lm_model *m) {
    if (!m) return;
    for (size_t i = 0; i < m->n_vectors; i++)
        m->backend->release(m->backend, LM_MEM_WEIGHTS, m->vectors[i], m->vector_bytes[i]);
    for (size_t i = 0; i < m->n_names; i++) free(m->names[i]);
    for (int64_t i = 0; m->layer && i < m->h.layers; i++) {
        free(m->layer[i].e_gate);
        free(m->layer[i].e_up);
        free(m->layer[i].e_down);
    }
    lm_mem_unreserve(m->backend, LM_MEM_WEIGHTS, m->reserved);
    free(m->vectors);
    free(m->vector_bytes);
    free(m->names);
    free(m->layer);
    free(m->inv_freq);
    free(m->h.dense_layer);
    lm_checkpoint_close(m->checkpoint);
    free(m);
}
