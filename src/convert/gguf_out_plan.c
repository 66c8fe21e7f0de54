/* SPDX-License-Identifier: MIT
 * gguf_out_plan.c: which tensor of the folder becomes which tensor of the GGUF, in which type, and whether its values
 * survive unchanged. */
#include "base/half.h"
#include "convert/gguf_out.h"
#include "convert/names.h"
#include "format/qformat.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 32u

typedef struct planner {
    cv_gguf_plan *plan;
    const cv_gguf_source *s;
    cv_sizes sizes;
    bool rotates;   /* the architecture holds rotary rows in pairs */
    uint32_t want;  /* a ggml type */
    bool automatic; /* no type was asked for */
    bool *used;     /* [tensors of the source] */
    lm_error *err;
} planner;

static bool is_float(lm_dtype d) {
    return d == LM_DTYPE_F16 || d == LM_DTYPE_BF16 || d == LM_DTYPE_F32;
}

static uint32_t float_type(lm_dtype d) {
    return d == LM_DTYPE_F16 ? LM_GGML_F16 : d == LM_DTYPE_BF16 ? LM_GGML_BF16 : LM_GGML_F32;
}

static bool is_blocks(uint32_t type) {
    return type == LM_GGML_Q8_0 || type == LM_GGML_Q4_0 || type == LM_GGML_Q4_1;
}

/* ---------------------------------------------------------------- finding matrices */

static const lm_tensor *take(planner *p, const char *module, const char *leaf) {
    char name[320];
    if (snprintf(name, sizeof name, "%s.%s", module, leaf) >= (int)sizeof name) return NULL;
    const lm_tensor *t = lm_checkpoint_find(p->s->checkpoint, name);
    if (t) p->used[t - lm_checkpoint_get(p->s->checkpoint, 0)] = true;
    return t;
}

/* [rows] , [rows, columns] or [experts, rows, columns]; experts 0: none; columns 0: a vector. */
static lm_status check_shape(planner *p, const lm_tensor *t, int64_t experts, int64_t rows, int64_t columns) {
    int64_t want[3], n = 0;
    if (experts) want[n++] = experts;
    want[n++] = rows;
    if (columns) want[n++] = columns;
    bool ok = t->n_dims == (int)n;
    for (int i = 0; ok && i < (int)n; i++) ok = t->shape[i] == want[i];
    if (ok) return LM_OK;
    char found[96] = "";
    size_t at = 0;
    for (int i = 0; i < t->n_dims && at < sizeof found; i++)
        at += (size_t)snprintf(found + at, sizeof found - at, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
    return lm_fail(p->err, LM_FORMAT, "%s: %.160s: expected %lld values in %d dimensions, the last %lld, found [%s]",
                   p->s->folder, t->name, (long long)((experts ? experts : 1) * rows * (columns ? columns : 1)), (int)n,
                   (long long)want[n - 1], found);
}

/* The affine parameters that the shapes say; config.json must not contradict them. */
static lm_status read_affine(planner *p, const char *module, cv_gguf_matrix *m, int64_t experts, int64_t rows,
                             int64_t columns) {
    const lm_tensor *w = m->weight, *s = m->scales;
    int64_t words = w->n_dims ? w->shape[w->n_dims - 1] : 0, groups = s->n_dims ? s->shape[s->n_dims - 1] : 0;
    lm_quant q;
    LM_TRY(lm_config_quant(p->s->config, module, &q, p->err));
    if (!is_float(s->dtype) || (q.listed && q.quantized && strcmp(q.mode, "affine")))
        return lm_fail(p->err, LM_FORMAT, "%s: %.160s.scales: type %s, but config.json says mode %s", p->s->folder,
                       module, lm_dtype_name(s->dtype), q.quantized ? q.mode : "none");
    if (!m->biases) return lm_fail(p->err, LM_FORMAT, "%s: %.160s.biases: missing", p->s->folder, module);
    m->bits =
        groups > 0 && words > 0 && words <= columns && words * 32 % columns == 0 ? (int)(words * 32 / columns) : 0;
    m->group = groups > 0 && columns % groups == 0 ? columns / groups : 0;
    if (w->dtype != LM_DTYPE_U32 || lm_format_affine(m->bits) == LM_FORMAT_COUNT ||
        (m->group != 32 && m->group != 64 && m->group != 128) || m->biases->dtype != s->dtype ||
        (q.listed && (!q.quantized || q.bits != m->bits || q.group_size != m->group)))
        return lm_fail(p->err, LM_FORMAT,
                       "%s: %.160s: %lld words and %lld scales a row of %lld values are not what config.json says",
                       p->s->folder, module, (long long)words, (long long)groups, (long long)columns);
    LM_TRY(check_shape(p, w, experts, rows, words));
    LM_TRY(check_shape(p, s, experts, rows, groups));
    return check_shape(p, m->biases, experts, rows, groups);
}

/* Scales of one byte. The mode is the module's own entry of config.json, else what the shapes say, as mlx-lm has it. */
static lm_status read_small(planner *p, const char *module, cv_gguf_matrix *m, int64_t experts, int64_t rows,
                            int64_t columns) {
    static const lm_format formats[] = {LM_FORMAT_MXFP4, LM_FORMAT_NVFP4, LM_FORMAT_MXFP8};
    const lm_tensor *w = m->weight, *s = m->scales;
    int64_t words = w->n_dims ? w->shape[w->n_dims - 1] : 0, groups = s->n_dims ? s->shape[s->n_dims - 1] : 0;
    lm_quant q;
    LM_TRY(lm_config_quant(p->s->config, module, &q, p->err));
    const char *mode = !q.quantized                       ? "none"
                       : q.listed                         ? q.mode
                       : words * 4 == columns             ? "mxfp8"
                       : groups && columns == 16 * groups ? "nvfp4"
                                                          : "mxfp4";
    m->format = LM_FORMAT_COUNT;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(mode, lm_format_name(formats[i]))) m->format = formats[i];
    if (m->format == LM_FORMAT_COUNT || w->dtype != LM_DTYPE_U32)
        return lm_fail(p->err, LM_FORMAT, "%s: %.160s: scales of one byte beside %s, but config.json says mode %s",
                       p->s->folder, module, lm_dtype_name(w->dtype), mode);
    m->small = true;
    m->group = lm_qmode_find(mode)->group_size;
    if (columns % m->group)
        return lm_fail(p->err, LM_FORMAT, "%s: %.160s: %lld columns are not whole groups of %lld", p->s->folder, module,
                       (long long)columns, (long long)m->group);
    LM_TRY(check_shape(p, w, experts, rows, columns * lm_format_bits(m->format) / 32));
    return check_shape(p, s, experts, rows, columns / m->group);
}

static lm_status find_matrix(planner *p, const char *module, const char *leaf, int64_t experts, int64_t rows,
                             int64_t columns, cv_gguf_matrix *m) {
    m->columns = columns ? columns : rows;
    m->weight = take(p, module, leaf);
    if (!m->weight) return lm_fail(p->err, LM_FORMAT, "%s: %.160s.%s: missing", p->s->folder, module, leaf);
    if (columns) m->scales = take(p, module, "scales"), m->biases = m->scales ? take(p, module, "biases") : NULL;
    if (m->scales && m->scales->dtype == LM_DTYPE_U8) return read_small(p, module, m, experts, rows, columns);
    if (m->scales) return read_affine(p, module, m, experts, rows, columns);
    if (!is_float(m->weight->dtype))
        return lm_fail(p->err, LM_UNSUPPORTED, "%s: %.160s: expected F16, BF16 or F32 (or scales beside it), found %s",
                       p->s->folder, m->weight->name, lm_dtype_name(m->weight->dtype));
    return check_shape(p, m->weight, experts, rows, columns);
}

/* Experts lie stacked (as MLX has them) or one by one (as Hugging Face has them). */
static lm_status find_experts(planner *p, const cv_tensor *r, int64_t layer, cv_gguf_out_tensor *t) {
    const char *expert = cv_tensor_expert(r);
    char module[256], name[300];
    int64_t experts = p->sizes.experts, rows = cv_size(&p->sizes, r->rows), columns = cv_size(&p->sizes, r->columns);
    cv_tensor_path(r, layer, module, sizeof module);
    snprintf(name, sizeof name, "model.layers.%lld.mlp.experts.0.%s.weight", (long long)layer, expert);
    bool stacked = !lm_checkpoint_find(p->s->checkpoint, name);
    t->n_parts = stacked ? 1 : experts;
    t->part = calloc((size_t)t->n_parts, sizeof *t->part);
    if (!t->part) return lm_fail_nomem(p->err, (size_t)t->n_parts * sizeof *t->part, name);
    if (stacked) return find_matrix(p, module, r->leaf, experts, rows, columns, t->part);
    for (int64_t i = 0; i < experts; i++) {
        snprintf(module, sizeof module, "model.layers.%lld.mlp.experts.%lld.%s", (long long)layer, (long long)i,
                 expert);
        LM_TRY(find_matrix(p, module, r->leaf, 0, rows, columns, &t->part[i]));
    }
    return LM_OK;
}

/* ---------------------------------------------------------------- types */

/* What a look at all scales tells. */
typedef struct scales_facts {
    bool affine, plain; /* every part is affine alike; none is quantized */
    bool small;         /* every part is mxfp4, nvfp4 or mxfp8 */
    int bits;
    bool centred; /* bias = -2^(bits-1) * scale everywhere: ggml's types without a minimum */
    bool exact;   /* scales and biases are float16 values */
    lm_dtype dtype;
} scales_facts;

static bool f16_exact(float f) {
    return lm_f32_bits(lm_f16_to_f32(lm_f32_to_f16(f))) == lm_f32_bits(f);
}

static scales_facts look(const cv_gguf_out_tensor *t) {
    scales_facts f = {true, true, true, t->part[0].bits, true, true, t->part[0].weight->dtype};
    for (int64_t i = 0; i < t->n_parts; i++) {
        const cv_gguf_matrix *m = &t->part[i];
        f.affine = f.affine && m->bits && m->bits == f.bits;
        f.plain = f.plain && !m->bits && !m->small && m->weight->dtype == f.dtype;
        f.small = f.small && m->small;
    }
    for (int64_t i = 0; f.affine && i < t->n_parts; i++) {
        const cv_gguf_matrix *m = &t->part[i];
        float middle = -(float)(1 << (f.bits - 1));
        int64_t n = (int64_t)(m->scales->bytes / lm_dtype_bytes(m->scales->dtype));
        for (int64_t k = 0; k < n && (f.centred || f.exact); k++) {
            float s = cv_gguf_float_at(m->scales, k), b = cv_gguf_float_at(m->biases, k);
            f.centred = f.centred && b == middle * s;
            f.exact = f.exact && f16_exact(s);
        }
        if (f.centred) continue; /* the bias is not stored */
        for (int64_t k = 0; k < n && f.exact; k++) f.exact = f16_exact(cv_gguf_float_at(m->biases, k));
    }
    return f;
}

/* Without a wish: the type that loses nothing, or the nearest above. Up to 4 bits Q4_1 holds every affine code. */
static uint32_t natural_type(const scales_facts *f) {
    if (f->plain) return float_type(f->dtype);
    if (f->small) return LM_GGML_BF16; /* element times scale has at most six significant bits */
    if (!f->affine) return LM_GGML_Q8_0;
    if (f->bits == 4 && f->centred) return LM_GGML_Q4_0;
    return f->bits <= 4 ? LM_GGML_Q4_1 : LM_GGML_Q8_0;
}

static bool keeps_codes(const scales_facts *f, uint32_t type) {
    if (!f->affine) return false;
    if (type == LM_GGML_Q4_1) return f->bits <= 4;
    return f->centred && ((type == LM_GGML_Q4_0 && f->bits == 4) || (type == LM_GGML_Q8_0 && f->bits == 8));
}

static void choose_type(const planner *p, const cv_tensor *r, cv_gguf_out_tensor *t) {
    scales_facts f = look(t);
    bool head = r->flags & CV_HEAD || (r->rows == 'v' && p->s->h.tied);
    t->type = p->automatic ? natural_type(&f) : p->want;
    /* four bits are too few where the logits are made; ggml's tools keep more there, too */
    if (head && !p->automatic && (t->type == LM_GGML_Q4_0 || t->type == LM_GGML_Q4_1)) t->type = LM_GGML_Q8_0;
    if (is_blocks(t->type) && t->shape[0] % 32) t->type = LM_GGML_F16;
    if (!r->columns || r->flags & CV_ROUTER) t->type = LM_GGML_F32;
    t->how = HOW_ENCODE;
    if (f.plain && float_type(f.dtype) == t->type) {
        t->how = HOW_COPY;
        t->exact = true;
    } else if (keeps_codes(&f, t->type)) {
        t->how = HOW_CODES;
        t->exact = f.exact;
    } else {
        t->exact = (f.plain && t->type == LM_GGML_F32) || (f.small && t->type == LM_GGML_BF16);
    }
}

/* ---------------------------------------------------------------- the list */

static lm_status add(planner *p, cv_gguf_out_tensor *t, const char *name) {
    cv_gguf_plan *plan = p->plan;
    if (plan->n_tensors == plan->capacity) {
        size_t capacity = plan->capacity ? 2 * plan->capacity : 64;
        cv_gguf_out_tensor *grown = realloc(plan->tensors, capacity * sizeof *grown);
        if (!grown) return lm_fail_nomem(p->err, capacity * sizeof *grown, "the list of tensors");
        plan->tensors = grown;
        plan->capacity = capacity;
    }
    t->name = strdup(name);
    if (!t->name) return lm_fail_nomem(p->err, strlen(name), "a name");
    t->bytes = (uint64_t)cv_gguf_row_bytes(t->type, t->shape[0]) * (uint64_t)t->shape[1] * (uint64_t)t->shape[2];
    t->offset = plan->bytes;
    plan->bytes += (t->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    plan->tensors[plan->n_tensors++] = *t;
    return LM_OK;
}

static lm_status fill(planner *p, const cv_tensor *r, int64_t layer, cv_gguf_out_tensor *t) {
    char module[256];
    int64_t rows = cv_size(&p->sizes, r->rows), columns = cv_size(&p->sizes, r->columns);
    t->n_dims = r->columns ? r->flags & CV_STACK ? 3 : 2 : 1;
    t->shape[0] = r->columns ? columns : rows;
    t->shape[1] = r->columns ? rows : 1;
    t->shape[2] = r->flags & CV_STACK ? p->sizes.experts : 1;
    t->heads = p->rotates ? cv_tensor_rotary_heads(r, &p->sizes) : 0;
    if (r->flags & CV_STACK) {
        LM_TRY(find_experts(p, r, layer, t));
    } else {
        cv_tensor_path(r, layer, module, sizeof module);
        t->n_parts = 1;
        t->part = calloc(1, sizeof *t->part);
        if (!t->part) return lm_fail_nomem(p->err, sizeof *t->part, module);
        LM_TRY(find_matrix(p, module, r->leaf, 0, rows, r->columns ? columns : 0, t->part));
    }
    choose_type(p, r, t);
    return LM_OK;
}

static lm_status add_tensor(void *user, const cv_tensor *r, int64_t layer, lm_error *err) {
    planner *p = user;
    char name[96];
    cv_gguf_out_tensor t = {.name = NULL};
    (void)err; /* the planner's own */
    /* cv_gguf_source_check refused layers of both kinds in one model */
    if (!cv_tensor_applies(r, &p->sizes, p->sizes.experts > 0)) return LM_OK;
    cv_tensor_gguf(r, layer, name, sizeof name);
    lm_status s = fill(p, r, layer, &t);
    if (s == LM_OK) s = add(p, &t, name);
    if (s != LM_OK) free(t.part), free(t.name);
    return s;
}

static lm_status add_rope_factors(planner *p) {
    const lm_hparams *h = &p->s->h;
    if (h->rope_kind != LM_ROPE_LLAMA3) return LM_OK;
    cv_gguf_out_tensor t = {.n_dims = 1, .shape = {h->head_dim / 2, 1, 1}, .type = LM_GGML_F32, .how = HOW_VALUES};
    t.values = calloc((size_t)h->head_dim, sizeof *t.values);
    if (!t.values) return lm_fail_nomem(p->err, (size_t)h->head_dim * sizeof *t.values, "rope_freqs.weight");
    cv_gguf_rope_factors(h, t.values);
    t.exact = true;
    lm_status s = add(p, &t, "rope_freqs.weight");
    if (s != LM_OK) free(t.values), free(t.name);
    return s;
}

static bool ignored(const cv_gguf_source *s, const char *name) {
    return lm_arch_ignores(lm_arch_find(s->config->model_type), name) || (s->h.tied && !strncmp(name, "lm_head.", 8));
}

static lm_status check_unused(const planner *p) {
    const char *first = NULL;
    size_t n = 0;
    for (size_t i = 0; i < lm_checkpoint_count(p->s->checkpoint); i++) {
        const char *name = lm_checkpoint_get(p->s->checkpoint, i)->name;
        if (!p->used[i] && !ignored(p->s, name) && !n++) first = name;
    }
    if (!n) return LM_OK;
    return lm_fail(p->err, LM_UNSUPPORTED, "%s: tensor %.160s has no place in a %s GGUF (%zu such)", p->s->folder,
                   first, p->s->arch, n);
}

static lm_status add_all(planner *p) {
    LM_TRY(cv_tensors_each(CV_ORDER_GGUF, p->s->h.layers, add_tensor, p, p->err));
    LM_TRY(add_rope_factors(p));
    return check_unused(p);
}

/* general.file_type says what most of the weights are. */
static int file_type(const cv_gguf_plan *plan) {
    static const struct {
        uint32_t type;
        int number;
    } kinds[] = {{LM_GGML_F32, 0},  {LM_GGML_F16, 1},  {LM_GGML_Q4_0, 2},
                 {LM_GGML_Q4_1, 3}, {LM_GGML_Q8_0, 7}, {LM_GGML_BF16, 32}};
    int best = 0;
    int64_t most = -1;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        int64_t n = 0;
        for (size_t i = 0; i < plan->n_tensors; i++) {
            const cv_gguf_out_tensor *t = &plan->tensors[i];
            if (t->type == kinds[k].type && t->n_dims > 1) n += t->shape[0] * t->shape[1] * t->shape[2];
        }
        if (n > most) most = n, best = kinds[k].number;
    }
    return best;
}

lm_status cv_gguf_plan_make(const cv_gguf_source *s, lm_gguf_out_type type, cv_gguf_plan *out, lm_error *err) {
    static const uint32_t types[] = {
        [LM_GGUF_OUT_AUTO] = LM_GGML_F32,  [LM_GGUF_OUT_F16] = LM_GGML_F16,   [LM_GGUF_OUT_BF16] = LM_GGML_BF16,
        [LM_GGUF_OUT_Q8_0] = LM_GGML_Q8_0, [LM_GGUF_OUT_Q4_0] = LM_GGML_Q4_0, [LM_GGUF_OUT_Q4_1] = LM_GGML_Q4_1};
    size_t n = lm_checkpoint_count(s->checkpoint);
    memset(out, 0, sizeof *out);
    if ((unsigned)type >= sizeof types / sizeof *types) return lm_fail(err, LM_ARG, "unknown GGUF type %d", (int)type);
    out->source = s;
    const lm_hparams *h = &s->h;
    bool llama = !strcmp(s->arch, "llama");
    planner p = {.plan = out, .s = s, .rotates = llama, .want = types[type], .automatic = type == LM_GGUF_OUT_AUTO};
    p.sizes = (cv_sizes){.vocab = h->vocab,
                         .hidden = h->hidden,
                         .heads = h->heads,
                         .kv_heads = h->kv_heads,
                         .head_dim = h->head_dim,
                         .ffn = h->ffn,
                         .experts = h->experts,
                         .moe_ffn = h->moe_ffn,
                         .attention_bias = h->attention_bias,
                         .mlp_bias = h->mlp_bias,
                         .tied = h->tied,
                         .qk_norm = !llama};
    p.err = err;
    p.used = calloc(n + 1, sizeof *p.used);
    lm_status status = p.used ? add_all(&p) : lm_fail_nomem(err, n, s->folder);
    free(p.used);
    out->file_type = file_type(out);
    if (status != LM_OK) cv_gguf_plan_free(out);
    return status;
}

void cv_gguf_plan_free(cv_gguf_plan *plan) {
    for (size_t i = 0; i < plan->n_tensors; i++) {
        free(plan->tensors[i].name);
        free(plan->tensors[i].part);
        free(plan->tensors[i].values);
    }
    free(plan->tensors);
    memset(plan, 0, sizeof *plan);
}

int64_t cv_gguf_source_row(const cv_gguf_out_tensor *t, int64_t row) {
    if (!t->heads) return row;
    int64_t rows = t->n_dims == 1 ? t->shape[0] : t->shape[1];
    int64_t dim = rows / t->heads, head = row / dim, r = row % dim;
    return head * dim + r % 2 * (dim / 2) + r / 2;
}
