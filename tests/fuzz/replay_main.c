/* SPDX-License-Identifier: MIT
 *
 * replay_main.c: runs a fuzz target without libFuzzer: every file of the folders and files given as arguments, then
 * deterministic mutations of each (cut short, one byte changed), so that an ordinary test run visits error paths too.
 *
 * Owns nothing of the library. A crash or a sanitizer report is the failure; the count of inputs goes to stdout.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES_MAX = 1 << 20, FILES_MAX = 4096, MUTATIONS = 64 };

static size_t n_inputs;
static double deadline;

static double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* An exact-size copy: a read past the end is a read past an allocation, which ASan sees. */
static void run_one(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    n_inputs++;
}

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void run_mutations(uint8_t *data, size_t size) {
    uint32_t state = 1 + (uint32_t)size;
    for (int i = 0; i < MUTATIONS && size > 0 && now_seconds() < deadline; i++) {
        size_t at = next_random(&state) % size;
        uint8_t kept = data[at];
        run_one(data, at);
        data[at] = i % 3 == 0 ? (uint8_t)next_random(&state) : i % 3 == 1 ? (uint8_t)(kept ^ (1u << (i & 7))) : 0xff;
        run_one(data, size);
        data[at] = kept;
    }
}

static int run_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    uint8_t *data = malloc(INPUT_BYTES_MAX);
    if (!data) {
        fclose(file);
        return 1;
    }
    size_t size = fread(data, 1, INPUT_BYTES_MAX, file);
    fclose(file);
    run_one(data, size);
    run_mutations(data, size);
    free(data);
    return 0;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int run_folder(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    static char *names[FILES_MAX];
    size_t n = 0;
    int failed = 0;
    for (struct dirent *entry; n < FILES_MAX && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        size_t length = strlen(path) + strlen(entry->d_name) + 2;
        names[n] = malloc(length);
        if (names[n]) {
            snprintf(names[n++], length, "%s/%s", path, entry->d_name);
        }
    }
    closedir(dir);
    qsort(names, n, sizeof names[0], compare_names);
    for (size_t i = 0; i < n; i++) {
        failed |= run_file(names[i]);
        free(names[i]);
    }
    if (n == 0) {
        fprintf(stderr, "%s: no inputs\n", path);
        failed = 1;
    }
    return failed;
}

int main(int argc, char **argv) {
    int failed = argc < 2;
    deadline = now_seconds() + 60; /* the files themselves always run; mutations only this long */
    run_one((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) != 0) {
            fprintf(stderr, "%s: %s\n", argv[i], strerror(errno));
            failed = 1;
        } else {
            failed |= S_ISDIR(st.st_mode) ? run_folder(argv[i]) : run_file(argv[i]);
        }
    }
    printf("%zu inputs replayed\n", n_inputs);
    return failed;
}
