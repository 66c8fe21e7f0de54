/* SPDX-License-Identifier: MIT
 * gguf.c: lm_convert_gguf. Everything is written into a temporary folder beside the target, synced, and renamed: the
 * target holds a whole model or does not exist. */
#include "base/fs.h"
#include "convert/convert.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Removes a folder of plain files. */
static void remove_folder(const char *folder) {
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        char *path = lm_fs_join(folder, e->d_name);
        if (path) (void)unlink(path);
        free(path);
    }
    if (dir) closedir(dir);
    (void)rmdir(folder);
}

static lm_status sync_folder(const char *folder, lm_error *err) {
    int fd = open(folder, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return lm_fail(err, LM_IO, "%s: %s", folder, strerror(errno));
    (void)fsync(fd); /* some file systems refuse it on folders */
    close(fd);
    return LM_OK;
}

/* Makes the folders above `path` that are missing; *made tells how many, so that a failure can take them back. */
static lm_status make_parents(char *path, int *made, lm_error *err) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        int failed = mkdir(path, 0777), saved = errno;
        if (!failed) ++*made;
        if (failed && saved != EEXIST && !lm_fs_is_folder(path)) {
            lm_status s = lm_fail(err, LM_IO, "%s: cannot create the folder: %s", path, strerror(saved));
            *slash = '/';
            return s;
        }
        *slash = '/';
    }
    return LM_OK;
}

static void remove_parents(char *path, int made) {
    char *slash;
    for (; made > 0 && (slash = strrchr(path, '/')); made--) {
        *slash = 0;
        (void)rmdir(path);
    }
}

static lm_status make_temporary(const char *target, char **out, lm_error *err) {
    size_t n = strlen(target) + 12;
    *out = malloc(n);
    if (!*out) return lm_fail_nomem(err, n, target);
    snprintf(*out, n, "%s.tmpXXXXXX", target);
    if (!mkdtemp(*out)) {
        lm_status s = lm_fail(err, LM_IO, "%s: cannot create a folder: %s", *out, strerror(errno));
        free(*out);
        *out = NULL;
        return s;
    }
    mode_t mask = umask(0);
    umask(mask);
    (void)chmod(*out, 0777 & ~mask);
    return LM_OK;
}

static lm_status refuse_existing(const char *target, lm_error *err) {
    struct stat st;
    if (!lstat(target, &st))
        return lm_fail(err, LM_ARG, "%s exists already; delete it or choose another folder", target);
    return LM_OK;
}

static lm_status publish(const char *folder, const char *target, lm_error *err) {
    LM_TRY(sync_folder(folder, err));
    LM_TRY(refuse_existing(target, err)); /* again: a rename would replace an empty folder made meanwhile */
    if (rename(folder, target))
        return lm_fail(err, LM_IO, "%s: rename to %s failed: %s", folder, target, strerror(errno));
    const char *slash = strrchr(target, '/');
    char *parent = slash ? strndup(target, slash == target ? 1 : (size_t)(slash - target)) : strdup(".");
    if (parent) (void)sync_folder(parent, NULL);
    free(parent);
    return LM_OK;
}

static lm_status write_model(const lm_gguf *g, const llama_params *p, const convert_plan *plan, char *target,
                             const convert_progress *progress, lm_error *err) {
    char *folder = NULL;
    int made = 0;
    lm_status s = make_parents(target, &made, err);
    if (s == LM_OK) s = make_temporary(target, &folder, err);
    if (s == LM_OK) s = convert_tokenizer_write(g, p, folder, err);
    if (s == LM_OK) s = llama_configs_write(p, plan, folder, err);
    if (s == LM_OK) s = convert_plan_write(plan, folder, progress, err);
    if (s == LM_OK) s = publish(folder, target, err);
    if (s != LM_OK) {
        if (folder) remove_folder(folder);
        remove_parents(target, made);
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
    lm_status s = refuse_existing(target, err);
    if (s == LM_OK) s = lm_fs_map_open(gguf_path, &map, err);
    if (s == LM_OK) {
        s = convert(gguf_path, &map, target, &p, err);
        lm_fs_map_close(&map);
    }
    free(target);
    return s;
}
