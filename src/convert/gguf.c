/* SPDX-License-Identifier: MIT
 * gguf.c: lm_convert_gguf. Everything is written into a temporary folder beside the target, synced, and renamed: the
 * target holds a whole model or does not exist. */
#include "base/fs.h"
#include "convert/convert.h"
#include "convert/folder.h"
#include <stdlib.h>
#include <string.h>

static lm_status write_model(const lm_gguf *g, const llama_params *p, const convert_plan *plan, char *target,
                             const convert_progress *progress, lm_error *err) {
    char *folder = NULL;
    int made = 0;
    lm_status s = folder_make_parents(target, &made, err);
    if (s == LM_OK) s = lm_fs_temporary_folder(target, &folder, err);
    if (s == LM_OK) s = convert_tokenizer_write(g, p, folder, err);
    if (s == LM_OK) s = llama_configs_write(p, plan, folder, err);
    if (s == LM_OK) s = convert_plan_write(plan, folder, progress, err);
    if (s == LM_OK) s = folder_publish(folder, target, err);
    if (s != LM_OK) {
        if (folder) folder_remove(folder);
        folder_remove_parents(target, made);
    }
    free(folder);
    return s;
}

static lm_status convert(const char *path, const lm_fs_map *map, char *target, const convert_progress *progress,
                         lm_error *err) {
    lm_gguf g;
    llama_params p;
    convert_plan plan;
    LM_TRY(lm_gguf_parse(path, map->data, map->length, &g, err));
    lm_status s = llama_params_read(&g, &p, err);
    if (s == LM_OK) s = convert_plan_make(&g, &p, &plan, err);
    if (s == LM_OK) {
        s = write_model(&g, &p, &plan, target, progress, err);
        convert_plan_free(&plan);
    }
    lm_gguf_free(&g);
    return s;
}

lm_status lm_convert_gguf(const char *gguf_path, const char *mlx_path,
                          bool (*progress)(void *user, int64_t done, int64_t total), void *user, lm_error *err) {
    convert_progress p = {progress, user};
    lm_fs_map map;
    size_t n = strlen(mlx_path);
    while (n > 1 && mlx_path[n - 1] == '/') n--;
    if (!n) return lm_fail(err, LM_ARG, "the target folder's name is empty");
    char *target = strndup(mlx_path, n);
    if (!target) return lm_fail_nomem(err, n, mlx_path);
    lm_status s = folder_refuse_existing(target, err);
    if (s == LM_OK) s = lm_fs_map_open(gguf_path, &map, err);
    if (s == LM_OK) {
        s = convert(gguf_path, &map, target, &p, err);
        lm_fs_map_close(&map);
    }
    free(target);
    return s;
}
