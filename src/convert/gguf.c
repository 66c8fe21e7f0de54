/* SPDX-License-Identifier: MIT
 * gguf.c: lm_convert_gguf. Everything is written into a temporary folder beside the target, synced, and renamed: the
 * target holds a whole model or does not exist. */
#include "base/fs.h"
#include "convert/convert.h"
#include "convert/folder.h"
#include <stdlib.h>
#include <string.h>

static lm_status write_model(const lm_gguf *g, const cv_llama_params *p, const cv_llama_plan *plan, char *target,
                             const cv_llama_progress *progress, lm_error *err) {
    char *folder = NULL;
    int made = 0;
    lm_status s = cv_folder_make_parents(target, &made, err);
    if (s == LM_OK) s = lm_fs_temporary_folder(target, &folder, err);
    if (s == LM_OK) s = cv_llama_tokenizer_write(g, p, folder, err);
    if (s == LM_OK) s = cv_llama_configs_write(p, plan, folder, err);
    if (s == LM_OK) s = cv_llama_plan_write(plan, folder, progress, err);
    if (s == LM_OK) s = cv_folder_publish(folder, target, err);
    if (s != LM_OK) {
        if (folder) cv_folder_remove(folder);
        cv_folder_remove_parents(target, made);
    }
    free(folder);
    return s;
}

static lm_status convert(const char *path, const lm_fs_map *map, char *target, const cv_llama_progress *progress,
                         lm_error *err) {
    lm_gguf g;
    cv_llama_params p;
    cv_llama_plan plan;
    LM_TRY(lm_gguf_parse(path, map->data, map->length, &g, err));
    lm_status s = cv_llama_params_read(&g, &p, err);
    if (s == LM_OK) s = cv_llama_plan_make(&g, &p, &plan, err);
    if (s == LM_OK) {
        s = write_model(&g, &p, &plan, target, progress, err);
        cv_llama_plan_free(&plan);
    }
    lm_gguf_free(&g);
    return s;
}

lm_status lm_convert_gguf(const char *gguf_path, const char *mlx_path,
                          bool (*progress)(void *user, int64_t done, int64_t total), void *user, lm_error *err) {
    cv_llama_progress p = {progress, user};
    lm_fs_map map;
    size_t n = strlen(mlx_path);
    while (n > 1 && mlx_path[n - 1] == '/') n--;
    if (!n) return lm_fail(err, LM_ARG, "the target folder's name is empty");
    char *target = strndup(mlx_path, n);
    if (!target) return lm_fail_nomem(err, n, mlx_path);
    lm_status s = cv_folder_refuse_existing(target, err);
    if (s == LM_OK) s = lm_fs_map_open(gguf_path, &map, err);
    if (s == LM_OK) {
        s = convert(gguf_path, &map, target, &p, err);
        lm_fs_map_close(&map);
    }
    free(target);
    return s;
}
