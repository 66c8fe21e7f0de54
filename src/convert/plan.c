/* SPDX-License-Identifier: MIT
 * plan.c: from a source folder's headers to the place of every byte of the result. Everything that a hostile or broken
 * source can get wrong is refused here, before a byte is written. */
#include "convert/plan.h"
#include "base/fs.h"
#include "format/qformat.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SHARD ((int64_t)5 << 30)

/* ---------------------------------------------------------------- finding source tensors */

static const lm_tensor *take(cv_plan *plan, const char *name) {
    const lm_tensor *t = lm_checkpoint_find(plan->checkpoint, name);
    if (t) plan->used[t - lm_checkpoint_get(plan->checkpoint, 0)] = true;
    return t;
}

static const lm_tensor *take_leaf(cv_plan *plan, const char *path, const char *leaf) {
    char name[256];
    snprintf(name, sizeof name, "%s.%s", path, leaf);
    return take(plan, name);
}

static bool is_float(lm_dtype type) {
    return type == LM_DTYPE_BF16 || type == LM_DTYPE_F16 || type == LM_DTYPE_F32;
}

static void print_shape(const int64_t *shape, int n, char *text, size_t size) {
    size_t at = 0;
    text[0] = 0;
    for (int i = 0; i < n && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%lld", i ? ", " : "", (long long)shape[i]);
}

static lm_status check_shape(const cv_plan *plan, const lm_tensor *t, const int64_t *shape, int n, lm_error *err) {
    bool same = t->n_dims == n;
    for (int i = 0; same && i < n; i++) same = t->shape[i] == shape[i];
    if (same) return LM_OK;
    char expected[96], found[192];
    print_shape(shape, n, expected, sizeof expected);
    print_shape(t->shape, t->n_dims, found, sizeof found);
    return lm_fail(err, LM_FORMAT, "%s: %.160s: expected shape [%s], found [%s]", plan->folder, t->name, expected,
                   found);
}

static lm_status missing(const cv_plan *plan, const char *path, const char *leaf, lm_error *err) {
    return lm_fail(err, LM_FORMAT, "%s: tensor %.160s.%s is missing", plan->folder, path, leaf);
}

/* ---------------------------------------------------------------- kinds of sources */

/* float8 with a scale per block of fp8_block; `name` is the weight's. */
static lm_status take_fp8(cv_plan *plan, cv_part *part, int64_t rows, int64_t k, lm_error *err) {
    char name[256];
    const lm_tensor *w = part->weight;
    if (!plan->fp8)
        return lm_fail(err, LM_UNSUPPORTED,
                       "%s: %.160s: type F8_E4M3 needs a quantization_config with quant_method fp8", plan->folder,
                       w->name);
    snprintf(name, sizeof name, "%.200s_scale_inv", w->name);
    part->scales = take(plan, name);
    if (!part->scales) return lm_fail(err, LM_FORMAT, "%s: tensor %.160s is missing", plan->folder, name);
    int64_t shape[2] = {(rows + plan->fp8_block[0] - 1) / plan->fp8_block[0],
                        (k + plan->fp8_block[1] - 1) / plan->fp8_block[1]};
    LM_TRY(check_shape(plan, part->scales, shape, 2, err));
    if (part->scales->dtype != LM_DTYPE_F32 && part->scales->dtype != LM_DTYPE_BF16)
        return lm_fail(err, LM_UNSUPPORTED, "%s: %.160s: expected type F32 or BF16, found %s", plan->folder, name,
                       lm_dtype_name(part->scales->dtype));
    return LM_OK;
}

/* How a packed module was packed: by its own entry of the config, else by its shapes, as mlx-lm does. */
static lm_status packed_spec(const cv_plan *plan, const cv_item *item, lm_error *err, lm_quant_spec *out) {
    const lm_tensor *w = item->parts[0].weight, *s = item->parts[0].scales;
    lm_quant q;
    int64_t words = w->n_dims ? w->shape[w->n_dims - 1] : 0, groups = s->n_dims ? s->shape[s->n_dims - 1] : 0;
    if (!plan->config.has_quantization)
        return lm_fail(err, LM_FORMAT, "%s: %.160s: scales without a quantization entry in config.json", plan->folder,
                       item->path);
    LM_TRY(lm_config_quant(&plan->config, item->path, &q, err));
    if (!q.quantized)
        return lm_fail(err, LM_FORMAT, "%s: %.160s: has scales, but config.json says that it is not quantized",
                       plan->folder, item->path);
    if (!q.listed && groups > 0 && words > 0 && words <= item->k) {
        q.group_size = (int32_t)(item->k / groups);
        q.bits = (int32_t)(words * 32 / item->k);
        const char *fp = q.bits == 8 ? "mxfp8" : q.group_size == 16 ? "nvfp4" : "mxfp4";
        snprintf(q.mode, sizeof q.mode, "%s", s->dtype == LM_DTYPE_U8 ? fp : "affine");
    }
    const lm_qmode *mode = lm_qmode_find(q.mode);
    if (!mode || !lm_qmode_allows_group(mode, q.group_size) || !lm_qmode_allows_bits(mode, q.bits) ||
        item->k % q.group_size)
        return lm_fail(err, LM_FORMAT,
                       "%s: %.160s: cannot infer the quantization: mode %s, %d bits, groups of %d, %lld columns",
                       plan->folder, item->path, q.mode, (int)q.bits, (int)q.group_size, (long long)item->k);
    out->bits = q.bits;
    out->group = q.group_size;
    out->mode = !strcmp(q.mode, "affine")  ? LM_QUANT_AFFINE
                : !strcmp(q.mode, "mxfp4") ? LM_QUANT_MXFP4
                : !strcmp(q.mode, "nvfp4") ? LM_QUANT_NVFP4
                                           : LM_QUANT_MXFP8;
    return LM_OK;
}

static lm_status check_type(const cv_plan *plan, const lm_tensor *t, bool right, const char *expected, lm_error *err) {
    if (right) return LM_OK;
    return lm_fail(err, LM_UNSUPPORTED, "%s: %.160s: expected type %s, found %s", plan->folder, t->name, expected,
                   lm_dtype_name(t->dtype));
}

/* Words, scales, biases of a module that the source holds packed. */
static lm_status take_packed(cv_plan *plan, cv_item *item, lm_error *err) {
    cv_part *p = &item->parts[0];
    int64_t shape[3];
    int last = item->n_dims - 1;
    LM_TRY(packed_spec(plan, item, err, &item->from));
    bool affine = item->from.mode == LM_QUANT_AFFINE;
    memcpy(shape, item->shape, sizeof shape);
    shape[last] = item->k * item->from.bits / 32;
    LM_TRY(check_shape(plan, p->weight, shape, item->n_dims, err));
    LM_TRY(check_type(plan, p->weight, p->weight->dtype == LM_DTYPE_U32, "U32", err));
    shape[last] = item->k / item->from.group;
    LM_TRY(check_shape(plan, p->scales, shape, item->n_dims, err));
    LM_TRY(check_type(plan, p->scales, affine ? is_float(p->scales->dtype) : p->scales->dtype == LM_DTYPE_U8,
                      affine ? "BF16, F16 or F32" : "U8", err));
    item->type = affine ? p->scales->dtype : LM_DTYPE_BF16;
    if (!affine) return LM_OK;
    p->biases = take_leaf(plan, item->path, "biases");
    if (!p->biases) return missing(plan, item->path, "biases", err);
    LM_TRY(check_shape(plan, p->biases, shape, item->n_dims, err));
    return check_type(plan, p->biases, p->biases->dtype == p->scales->dtype, lm_dtype_name(p->scales->dtype), err);
}

/* A float tensor (or float8), whole or one expert. */
static lm_status take_float(cv_plan *plan, cv_item *item, int64_t index, const int64_t *shape, int n_dims,
                            lm_error *err) {
    cv_part *p = &item->parts[index];
    LM_TRY(check_shape(plan, p->weight, shape, n_dims, err));
    lm_dtype type = p->weight->dtype;
    if (type == LM_DTYPE_F8_E4M3 && n_dims == 2) {
        LM_TRY(take_fp8(plan, p, shape[0], shape[1], err));
        type = LM_DTYPE_BF16;
    }
    LM_TRY(check_type(plan, p->weight, is_float(type), "BF16, F16, F32 or F8_E4M3", err));
    if (index && type != item->type)
        return check_type(plan, p->weight, false, lm_dtype_name(item->type), err); /* one stack has one type */
    item->type = type;
    return LM_OK;
}

static lm_status take_experts(cv_plan *plan, cv_item *item, const cv_slot *slot, lm_error *err) {
    char name[256];
    for (int64_t e = 0; e < item->n_parts; e++) {
        /* the pattern is families.c's: one %lld */
        const char *hole = strstr(slot->unstacked, "%lld");
        snprintf(name, sizeof name, "%.*s%lld%s", (int)(hole - slot->unstacked), slot->unstacked, (long long)e,
                 hole + 4);
        item->parts[e].weight = take(plan, name);
        if (!item->parts[e].weight) return lm_fail(err, LM_FORMAT, "%s: tensor %.160s is missing", plan->folder, name);
        LM_TRY(take_float(plan, item, e, item->shape + 1, item->n_dims - 1, err));
    }
    return LM_OK;
}

static lm_status find_sources(cv_plan *plan, cv_item *item, const cv_slot *slot, lm_error *err) {
    const lm_tensor *whole = take_leaf(plan, slot->path, slot->leaf);
    bool stack = (slot->flags & CV_EXPERTS) && !whole;
    item->n_parts = stack ? item->shape[0] : 1;
    item->parts = calloc((size_t)item->n_parts, sizeof *item->parts);
    if (!item->parts) return lm_fail_nomem(err, (size_t)item->n_parts * sizeof *item->parts, slot->path);
    if (stack) return take_experts(plan, item, slot, err);
    if (!whole) return missing(plan, slot->path, slot->leaf, err);
    item->parts[0].weight = whole;
    if (slot->flags & CV_LINEAR) item->parts[0].scales = take_leaf(plan, slot->path, "scales");
    if (item->parts[0].scales) return take_packed(plan, item, err);
    return take_float(plan, item, 0, item->shape, item->n_dims, err);
}

/* ---------------------------------------------------------------- items */

static lm_status choose_action(cv_plan *plan, cv_item *item, lm_error *err) {
    bool quantize = false;
    if (plan->cast != LM_DTYPE_COUNT && !(item->from.bits && item->from.mode != LM_QUANT_AFFINE))
        item->type = plan->cast;
    if (item->from.bits) {
        item->action = plan->options->dequantize ? CV_DEQUANTIZE : CV_KEEP;
        return LM_OK;
    }
    if (plan->options->quantize) LM_TRY(cv_recipe_apply(plan, item, &quantize, &item->to, err));
    item->action = quantize ? CV_QUANTIZE : CV_COPY;
    return LM_OK;
}

static lm_status add_out(cv_plan *plan, cv_item *item, cv_which which, lm_dtype type, int64_t last, lm_error *err) {
    static const char *const leaves[] = {NULL, "scales", "biases"};
    if (plan->n_outs == plan->outs_capacity) {
        size_t capacity = plan->outs_capacity ? 2 * plan->outs_capacity : 256;
        cv_out *grown = realloc(plan->outs, capacity * sizeof *grown);
        if (!grown) return lm_fail_nomem(err, capacity * sizeof *grown, "the list of tensors");
        plan->outs = grown;
        plan->outs_capacity = capacity;
    }
    cv_out *out = &plan->outs[plan->n_outs];
    memset(out, 0, sizeof *out);
    out->which = which;
    out->item = (size_t)(item - plan->items);
    out->spec.dtype = type;
    out->spec.n_dims = item->n_dims;
    memcpy(out->spec.shape, item->shape, sizeof item->shape);
    out->spec.shape[item->n_dims - 1] = last;
    const char *leaf = which == CV_WEIGHT ? item->leaf : leaves[which];
    size_t n = strlen(item->path) + strlen(leaf) + 2;
    char *name = malloc(n);
    if (!name) return lm_fail_nomem(err, n, item->path);
    snprintf(name, n, "%s.%s", item->path, leaf);
    out->spec.name = name;
    plan->n_outs++;
    item->n_outs++;
    if (!lm_st_spec_bytes(&out->spec, &out->bytes) || out->bytes > (uint64_t)INT64_MAX / 4 - plan->bytes)
        return lm_fail(err, LM_FORMAT, "%s: %.160s: the tensor's size is out of range", plan->folder, name);
    plan->bytes += out->bytes;
    return LM_OK;
}

static lm_status add_outs(cv_plan *plan, cv_item *item, lm_error *err) {
    item->first_out = plan->n_outs;
    const lm_quant_spec *q = item->action == CV_QUANTIZE ? &item->to : &item->from;
    bool packed = item->action == CV_QUANTIZE || item->action == CV_KEEP, affine = q->mode == LM_QUANT_AFFINE;
    int64_t last = item->shape[item->n_dims - 1];
    if (!packed) return add_out(plan, item, CV_WEIGHT, item->type, last, err);
    LM_TRY(add_out(plan, item, CV_WEIGHT, LM_DTYPE_U32, last * q->bits / 32, err));
    LM_TRY(add_out(plan, item, CV_SCALES, affine ? item->type : LM_DTYPE_U8, last / q->group, err));
    return affine ? add_out(plan, item, CV_BIASES, item->type, last / q->group, err) : LM_OK;
}

static lm_status add_item(void *user, const cv_slot *slot, lm_error *err) {
    cv_plan *plan = user;
    if (plan->n_items == plan->items_capacity) {
        size_t capacity = plan->items_capacity ? 2 * plan->items_capacity : 128;
        cv_item *grown = realloc(plan->items, capacity * sizeof *grown);
        if (!grown) return lm_fail_nomem(err, capacity * sizeof *grown, "the list of modules");
        plan->items = grown;
        plan->items_capacity = capacity;
    }
    cv_item *item = &plan->items[plan->n_items];
    memset(item, 0, sizeof *item);
    item->path = strdup(slot->path);
    if (!item->path) return lm_fail_nomem(err, strlen(slot->path), "a name");
    plan->n_items++;
    item->leaf = slot->leaf;
    item->flags = slot->flags;
    item->n_dims = slot->n_dims;
    memcpy(item->shape, slot->shape, sizeof item->shape);
    item->k = slot->shape[slot->n_dims - 1];
    LM_TRY(find_sources(plan, item, slot, err)); /* sizes are those of real files from here on */
    item->rows = 1;
    for (int i = 0; i + 1 < item->n_dims; i++) item->rows *= item->shape[i];
    plan->parameters += item->rows * item->k;
    for (int64_t i = 0; i < item->n_parts; i++) {
        const cv_part *p = &item->parts[i];
        plan->source_bytes += (int64_t)(p->weight->bytes + (p->scales ? p->scales->bytes : 0));
    }
    LM_TRY(choose_action(plan, item, err));
    return add_outs(plan, item, err);
}

/* Every tensor of the source has a place, or is one that the family drops: as strict as mlx-lm's loading. */
static lm_status check_unused(const cv_plan *plan, lm_error *err) {
    const char *first = NULL;
    size_t n = 0;
    for (size_t i = 0; i < lm_checkpoint_count(plan->checkpoint); i++) {
        const char *name = lm_checkpoint_get(plan->checkpoint, i)->name;
        if (plan->used[i] || cv_family_drops(plan->family, &plan->dims, name)) continue;
        if (!n++) first = name;
    }
    if (!n) return LM_OK;
    return lm_fail(err, LM_UNSUPPORTED, "%s: tensor %.160s has no place in a %s model (%zu such)", plan->folder, first,
                   plan->config.model_type, n);
}

/* ---------------------------------------------------------------- shards */

/* Greedy, in module order; a tensor larger than the limit gets a shard of its own. */
static void cut_shards(cv_plan *plan) {
    uint64_t limit = (uint64_t)(plan->options->max_shard_bytes ? plan->options->max_shard_bytes : DEFAULT_SHARD);
    uint64_t size = 0;
    int shard = -1;
    for (size_t i = 0; i < plan->n_outs; i++) {
        uint64_t bytes = plan->outs[i].bytes;
        if (shard < 0 || bytes > limit - size) {
            shard++;
            size = 0;
        }
        plan->outs[i].shard = shard;
        size = bytes > limit - size ? limit : size + bytes;
    }
    plan->n_shards = shard + 1;
}

static lm_status lay_out_shard(cv_plan *plan, int number, size_t first, size_t n, lm_error *err) {
    cv_shard *shard = &plan->shards[number];
    if (plan->n_shards == 1)
        snprintf(shard->name, sizeof shard->name, "model.safetensors");
    else
        snprintf(shard->name, sizeof shard->name, "model-%05d-of-%05d.safetensors", number + 1, plan->n_shards);
    shard->first_out = first;
    shard->n_outs = n;
    lm_st_spec *specs = calloc(n + 1, sizeof *specs);
    if (!specs) return lm_fail_nomem(err, n * sizeof *specs, shard->name);
    for (size_t i = 0; i < n; i++) specs[i] = plan->outs[first + i].spec;
    char *header;
    size_t length = 0;
    uint64_t data = 0;
    lm_status s = lm_st_header_make(shard->name, specs, n, &header, &length, &data, err);
    free(specs);
    LM_TRY(s);
    free(header);
    shard->header_bytes = length;
    shard->bytes = length + data;
    uint64_t at = length;
    for (size_t i = 0; i < n; i++) {
        plan->outs[first + i].offset = at;
        at += plan->outs[first + i].bytes;
    }
    plan->file_bytes += shard->bytes;
    return LM_OK;
}

static lm_status lay_out_shards(cv_plan *plan, lm_error *err) {
    cut_shards(plan);
    plan->shards = calloc((size_t)plan->n_shards + 1, sizeof *plan->shards);
    if (!plan->shards) return lm_fail_nomem(err, (size_t)plan->n_shards * sizeof *plan->shards, "the list of shards");
    size_t first = 0;
    for (int s = 0; s < plan->n_shards; s++) {
        size_t end = first;
        while (end < plan->n_outs && plan->outs[end].shard == s) end++;
        LM_TRY(lay_out_shard(plan, s, first, end - first, err));
        first = end;
    }
    return LM_OK;
}

/* ---------------------------------------------------------------- config */

static lm_status read_fp8(cv_plan *plan, const json_t *q, lm_error *err) {
    const json_t *block = json_object_get(q, "weight_block_size");
    const char *fmt = json_string_value(json_object_get(q, "fmt"));
    if (fmt && strcmp(fmt, "e4m3"))
        return lm_fail(err, LM_UNSUPPORTED, "%s: quantization_config: fmt '%.40s' is not supported, only e4m3",
                       plan->config.path, fmt);
    if (json_array_size(block) != 2)
        return lm_fail(err, LM_UNSUPPORTED,
                       "%s: quantization_config: weight_block_size: expected two numbers (one scale per tensor is not "
                       "supported)",
                       plan->config.path);
    for (size_t i = 0; i < 2; i++) {
        const json_t *v = json_array_get(block, i);
        plan->fp8_block[i] = json_integer_value(v);
        if (!json_is_integer(v) || plan->fp8_block[i] < 1 || plan->fp8_block[i] > 1 << 20)
            return lm_fail(err, LM_FORMAT, "%s: quantization_config: weight_block_size: expected sizes from 1 to %d",
                           plan->config.path, 1 << 20);
    }
    plan->fp8 = true;
    return LM_OK;
}

static lm_status read_method(cv_plan *plan, lm_error *err) {
    const json_t *q = json_object_get(plan->config.root, "quantization_config");
    const char *method = json_string_value(json_object_get(q, "quant_method"));
    if (plan->config.has_quantization || !method) return LM_OK;
    if (strcmp(method, "fp8"))
        return lm_fail(err, LM_UNSUPPORTED,
                       "%s: quantization_config: quant_method '%.60s' is not supported as a source (fp8 is)",
                       plan->config.path, method);
    return read_fp8(plan, q, err);
}

static lm_dtype dtype_named(const char *name) {
    if (!name) return LM_DTYPE_COUNT;
    return !strcmp(name, "float16")    ? LM_DTYPE_F16
           : !strcmp(name, "bfloat16") ? LM_DTYPE_BF16
           : !strcmp(name, "float32")  ? LM_DTYPE_F32
                                       : LM_DTYPE_COUNT;
}

/* --dtype, else config's torch_dtype, else text_config's dtype; a top-level dtype is not looked at. Another name: no
 * cast. */
static void read_cast(cv_plan *plan) {
    const json_t *root = plan->config.root, *torch = json_object_get(root, "torch_dtype");
    const char *name = plan->options->dtype;
    if (!name && torch && !json_is_null(torch)) name = json_is_string(torch) ? json_string_value(torch) : "";
    if (!name) name = json_string_value(json_object_get(json_object_get(root, "text_config"), "dtype"));
    plan->cast = dtype_named(name);
}

static lm_status make_plan(cv_plan *plan, lm_error *err) {
    LM_TRY(lm_config_load_source(plan->folder, &plan->config, err));
    LM_TRY(cv_family_find(&plan->config, &plan->family, err));
    LM_TRY(cv_dims_read(plan->family, &plan->config, &plan->dims, err));
    LM_TRY(read_method(plan, err));
    read_cast(plan);
    LM_TRY(lm_checkpoint_open(plan->folder, true, NULL, NULL, &plan->checkpoint, err));
    plan->used = calloc(lm_checkpoint_count(plan->checkpoint) + 1, sizeof *plan->used);
    plan->overrides = json_object();
    if (!plan->used || !plan->overrides) return lm_fail_nomem(err, lm_checkpoint_count(plan->checkpoint), plan->folder);
    if (plan->options->quantize) plan->base = cv_options_spec(plan->options);
    LM_TRY(cv_family_each(plan->family, &plan->dims, add_item, plan, err));
    LM_TRY(check_unused(plan, err));
    return lay_out_shards(plan, err);
}

lm_status cv_plan_open(const char *folder, const lm_convert_options *options, cv_plan *out, lm_error *err) {
    memset(out, 0, sizeof *out);
    out->options = options;
    out->folder = strdup(folder);
    lm_status s = out->folder ? make_plan(out, err) : lm_fail_nomem(err, strlen(folder), folder);
    if (s != LM_OK) cv_plan_close(out);
    return s;
}

void cv_plan_close(cv_plan *plan) {
    for (size_t i = 0; i < plan->n_items; i++) {
        free(plan->items[i].path);
        free(plan->items[i].parts);
    }
    for (size_t i = 0; i < plan->n_outs; i++) free((char *)(uintptr_t)plan->outs[i].spec.name);
    free(plan->items);
    free(plan->outs);
    free(plan->shards);
    free(plan->used);
    free(plan->folder);
    json_decref(plan->overrides);
    cv_dims_free(&plan->dims);
    lm_checkpoint_close(plan->checkpoint);
    lm_config_free(&plan->config);
    memset(plan, 0, sizeof *plan);
}
