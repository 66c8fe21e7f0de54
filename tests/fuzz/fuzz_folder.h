/* SPDX-License-Identifier: MIT
 * fuzz_folder.h: a folder in memory (where the system has /dev/shm) for targets that read files. Removed at exit. */
#ifndef LM_TESTS_FUZZ_FOLDER_H
#define LM_TESTS_FUZZ_FOLDER_H
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char fuzz_folder_path[64];

static void fuzz_folder_remove(void) {
    char path[512];
    DIR *dir = opendir(fuzz_folder_path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (snprintf(path, sizeof path, "%s/%s", fuzz_folder_path, e->d_name) < (int)sizeof path) (void)unlink(path);
    if (dir) closedir(dir);
    (void)rmdir(fuzz_folder_path);
}

static inline const char *fuzz_folder(void) {
    struct stat st;
    if (fuzz_folder_path[0]) return fuzz_folder_path;
    snprintf(fuzz_folder_path, sizeof fuzz_folder_path, "%s/lm-fuzz-XXXXXX",
             stat("/dev/shm", &st) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(fuzz_folder_path)) exit(2);
    atexit(fuzz_folder_remove);
    return fuzz_folder_path;
}

static inline void fuzz_write(const char *name, const uint8_t *data, size_t size) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) exit(2);
}
#endif
