/* SPDX-License-Identifier: MIT
 * source.c: lm_convert_model, the order of operations. */
#include "base/fs.h"
#include "convert/folder.h"
#include "convert/plan.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

lm_convert_options lm_convert_options_default(void) {
    lm_convert_options o;
    memset(&o, 0, sizeof o);
    o.mlx_path = "mlx_model";
    return o;
}

static void say(const lm_convert_options *o, const char *line) {
    if (o->info) o->info(o->user, line);
}

static const char *cast_name(const cv_plan *plan) {
    return plan->cast == LM_DTYPE_F16    ? "float16"
           : plan->cast == LM_DTYPE_BF16 ? "bfloat16"
           : plan->cast == LM_DTYPE_F32  ? "float32"
                                         : NULL;
}

static void say_plan(const cv_plan *plan) {
    const lm_convert_options *o = plan->options;
    char line[96];
    if (cast_name(plan)) {
        snprintf(line, sizeof line, "Using dtype: %s", cast_name(plan));
        say(o, line);
    }
    if (o->quantize) {
        int64_t extra = cv_family_extra_bytes(plan->family, &plan->dims, &plan->config);
        double bits = 8.0 * (double)((int64_t)plan->bytes + extra) / (double)plan->parameters;
        say(o, "Quantizing");
        snprintf(line, sizeof line, "Quantized model with %.3f bits per weight.", bits);
        say(o, line);
    }
    if (o->dequantize) say(o, "Dequantizing");
}

static lm_status refuse_target(const char *target, lm_error *err) {
    struct stat st;
    if (lstat(target, &st)) return LM_OK;
    return lm_fail(err, LM_ARG,
                   "Cannot save to the path %s as it already exists. Please delete the file/directory or specify a new "
                   "path to save to.",
                   target);
}

static lm_status write_result(const cv_plan *plan, const char *target, const char *repo, lm_error *err) {
    cv_partial partial;
    cv_progress progress = {plan->options->progress, plan->options->user};
    LM_TRY(cv_partial_open(plan, target, &partial, err));
    lm_status s = cv_space_check(plan, &partial, err);
    if (s == LM_OK) s = cv_shards_write(plan, &partial, &progress, err);
    if (s == LM_OK) s = cv_card_write(plan, partial.folder, repo, err);
    if (s == LM_OK) s = cv_partial_publish(&partial, err);
    if (s != LM_OK) cv_partial_abandon(&partial, s == LM_CANCELLED);
    return s;
}

static lm_status convert(const lm_convert_options *o, const char *target, lm_error *err) {
    char *folder;
    cv_plan plan;
    LM_TRY(refuse_target(target, err));
    say(o, "Loading");
    LM_TRY(cv_options_check(o, err));
    LM_TRY(lm_model_resolve(o->model, &folder, err));
    const char *repo = lm_fs_exists(o->model) ? NULL : o->model;
    lm_status s = cv_plan_open(folder, o, &plan, err);
    free(folder);
    LM_TRY(s);
    say_plan(&plan);
    s = write_result(&plan, target, repo, err);
    cv_plan_close(&plan);
    return s;
}

lm_status lm_convert_model(const lm_convert_options *options, lm_error *err) {
    if (!options->model || !*options->model) return lm_fail(err, LM_ARG, "no model to convert is given");
    const char *path = options->mlx_path ? options->mlx_path : "mlx_model";
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    if (!n) return lm_fail(err, LM_ARG, "the target folder's name is empty");
    char *target = strndup(path, n);
    if (!target) return lm_fail_nomem(err, n, path);
    lm_status s = convert(options, target, err);
    free(target);
    return s;
}
