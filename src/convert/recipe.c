/* SPDX-License-Identifier: MIT
 * recipe.c: which modules are quantized and how: the mode's defaults, the family's router rule, mixed recipes. Every
 * choice that upstream records per path is recorded in the same spelling. */
#include "convert/plan.h"
#include "format/qformat.h"
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int low, high;
} recipes[] = {{"mixed_2_6", 2, 6}, {"mixed_3_4", 3, 4}, {"mixed_3_6", 3, 6}, {"mixed_4_6", 4, 6}};
#define N_RECIPES (sizeof recipes / sizeof *recipes)

static const char *const mode_names[] = {"affine", "mxfp4", "nvfp4", "mxfp8"}; /* in the order of lm_quant_mode */
#define N_MODES 4

static int find_recipe(const char *name) {
    for (size_t i = 0; i < N_RECIPES; i++)
        if (!strcmp(recipes[i].name, name)) return (int)i;
    return -1;
}

static int find_mode(const char *name) {
    for (int i = 0; i < N_MODES; i++)
        if (!strcmp(mode_names[i], name ? name : "affine")) return i;
    return -1;
}

lm_quant_spec cv_options_spec(const lm_convert_options *o) {
    int mode = find_mode(o->q_mode);
    const lm_qmode *q = lm_qmode_find(mode_names[mode]);
    lm_quant_spec spec = {.mode = (lm_quant_mode)mode,
                          .bits = o->q_bits ? o->q_bits : q->bits,
                          .group = o->q_group_size ? o->q_group_size : q->group_size};
    spec.rule = o->q_rule && !strcmp(o->q_rule, "gpu") ? LM_QUANT_RULE_GPU : LM_QUANT_RULE_CPU;
    return spec;
}

static lm_status check_spec(const lm_convert_options *o, lm_error *err) {
    lm_quant_spec spec = cv_options_spec(o);
    const lm_qmode *q = lm_qmode_find(mode_names[spec.mode]);
    if (!lm_qmode_allows_group(q, spec.group))
        return lm_fail(err, LM_ARG, "q_group_size: mode %s has no groups of %d", q->name, spec.group);
    if (!lm_qmode_allows_bits(q, spec.bits))
        return lm_fail(err, LM_ARG, "q_bits: mode %s has no %d bits", q->name, spec.bits);
    return LM_OK;
}

lm_status cv_options_check(const lm_convert_options *o, lm_error *err) {
    static const char *const dtypes[] = {"float16", "bfloat16", "float32"};
    bool known = !o->dtype;
    for (int i = 0; i < 3 && !known; i++) known = !strcmp(o->dtype, dtypes[i]);
    if (!known) return lm_fail(err, LM_ARG, "dtype '%.40s': expected float16, bfloat16 or float32", o->dtype);
    if (find_mode(o->q_mode) < 0)
        return lm_fail(err, LM_ARG, "q_mode '%.40s': expected affine, mxfp4, nvfp4 or mxfp8", o->q_mode);
    if (o->q_rule && strcmp(o->q_rule, "cpu") && strcmp(o->q_rule, "gpu"))
        return lm_fail(err, LM_ARG, "q_rule '%.40s': expected cpu or gpu", o->q_rule);
    if (o->quant_predicate && find_recipe(o->quant_predicate) < 0)
        return lm_fail(err, LM_ARG, "Invalid quant recipe %.40s", o->quant_predicate);
    if (o->quant_predicate && find_mode(o->q_mode) != LM_QUANT_AFFINE)
        return lm_fail(err, LM_ARG, "Quant predicates only support 'affine' quantization.");
    if (o->quantize && o->dequantize) return lm_fail(err, LM_ARG, "Choose either quantize or dequantize, not both.");
    if (o->threads < 0 || o->max_shard_bytes < 0)
        return lm_fail(err, LM_ARG, "threads and max_shard_bytes: expected 0 or more");
    return o->quantize ? check_spec(o, err) : LM_OK;
}

/* ---------------------------------------------------------------- the choice */

static lm_status record(cv_plan *plan, const char *path, json_t *entry, lm_error *err) {
    if (!entry || json_object_set_new(plan->overrides, path, entry))
        return lm_fail_nomem(err, strlen(path), "the table of quantized modules");
    return LM_OK;
}

/* The layer that a path names at the place where layers are counted; 0 for paths outside the layers. */
static int64_t layer_of(const char *path) {
    static const char prefix[] = "model.layers.";
    return strncmp(path, prefix, sizeof prefix - 1) ? 0 : strtoll(path + sizeof prefix - 1, NULL, 10);
}

/* Layers at both ends, and every third between them, get the recipe's high bits for values and down projections. */
static int recipe_bits(const cv_plan *plan, const char *path) {
    int r = find_recipe(plan->options->quant_predicate);
    int64_t layers = plan->dims.layers, index = layer_of(path), eighth = layers / 8;
    bool more = index < eighth || index >= 7 * layers / 8 || (index - eighth) % 3 == 2;
    bool high = (more && (strstr(path, "v_proj") || strstr(path, "down_proj"))) || strstr(path, "lm_head");
    return high ? recipes[r].high : recipes[r].low;
}

static lm_status apply_recipe(cv_plan *plan, const cv_item *item, lm_quant_spec *spec, lm_error *err) {
    spec->bits = recipe_bits(plan, item->path);
    json_t *group = plan->options->q_group_size ? json_integer(plan->options->q_group_size) : json_null();
    return record(plan, item->path,
                  json_pack("{s:o, s:i, s:s}", "group_size", group, "bits", spec->bits, "mode", "affine"), err);
}

lm_status cv_recipe_apply(cv_plan *plan, const cv_item *item, bool *quantize, lm_quant_spec *spec, lm_error *err) {
    *spec = plan->base;
    *quantize = (item->flags & CV_LINEAR) && item->k % plan->base.group == 0;
    if (!*quantize) return LM_OK;
    if (plan->options->quant_predicate) {
        LM_TRY(apply_recipe(plan, item, spec, err));
    } else if (cv_family_is_router(plan->family, item->path)) {
        *spec = (lm_quant_spec){LM_QUANT_AFFINE, 8, 64, plan->base.rule};
        LM_TRY(record(plan, item->path, json_pack("{s:i, s:i}", "group_size", 64, "bits", 8), err));
    } else if (json_object_get(plan->config.root, "quantization")) { /* a partly quantized source names every path */
        LM_TRY(record(
            plan, item->path,
            json_pack("{s:i, s:i, s:s}", "group_size", spec->group, "bits", spec->bits, "mode", mode_names[spec->mode]),
            err));
    }
    if (item->k % spec->group)
        return lm_fail(err, LM_UNSUPPORTED, "%s: %.160s: %lld columns cannot be quantized in groups of %d",
                       plan->folder, item->path, (long long)item->k, spec->group);
    return LM_OK;
}
