/* SPDX-License-Identifier: MIT
 * folder.c: what both converters need to make a folder appear at once or not at all. */
#include "convert/folder.h"
#include "base/fs.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void cv_folder_remove(const char *folder) {
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

lm_status cv_folder_sync(const char *folder, lm_error *err) {
    int fd = open(folder, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return lm_fail(err, LM_IO, "%s: %s", folder, strerror(errno));
    (void)fsync(fd); /* some file systems refuse it on folders */
    close(fd);
    return LM_OK;
}

lm_status cv_folder_make_parents(char *path, int *made, lm_error *err) {
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

void cv_folder_remove_parents(char *path, int made) {
    char *slash;
    for (; made > 0 && (slash = strrchr(path, '/')); made--) {
        *slash = 0;
        (void)rmdir(path);
    }
}

lm_status cv_folder_refuse_existing(const char *target, lm_error *err) {
    struct stat st;
    if (!lstat(target, &st))
        return lm_fail(err, LM_ARG, "%s exists already; delete it or choose another folder", target);
    return LM_OK;
}

lm_status cv_folder_publish(const char *folder, const char *target, lm_error *err) {
    LM_TRY(cv_folder_sync(folder, err));
    LM_TRY(cv_folder_refuse_existing(target, err)); /* again: a rename would replace an empty folder made meanwhile */
    if (rename(folder, target))
        return lm_fail(err, LM_IO, "%s: rename to %s failed: %s", folder, target, strerror(errno));
    const char *slash = strrchr(target, '/');
    char *parent = slash ? strndup(target, slash == target ? 1 : (size_t)(slash - target)) : strdup(".");
    if (parent) (void)cv_folder_sync(parent, NULL);
    free(parent);
    return LM_OK;
}
