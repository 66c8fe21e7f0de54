/* SPDX-License-Identifier: MIT
 * format_util.h: temporary folders and tiny files for the tests of format/ and convert/. */
#ifndef LM_TESTS_FORMAT_UTIL_H
#define LM_TESTS_FORMAT_UTIL_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lm/lm.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct folder {
    char path[128];
} folder;

static inline folder folder_make(void) {
    folder f;
    snprintf(f.path, sizeof f.path, "/tmp/lm-test-XXXXXX");
    assert_non_null(mkdtemp(f.path));
    return f;
}

static inline const char *folder_path(const folder *f, const char *name) {
    static char path[16][512]; /* sixteen at a time */
    static int next;
    char *p = path[next++ % 16];
    snprintf(p, sizeof path[0], "%s/%s", f->path, name);
    return p;
}

static inline void folder_write(const folder *f, const char *name, const void *data, size_t length) {
    FILE *file = fopen(folder_path(f, name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static inline void folder_text(const folder *f, const char *name, const char *text) {
    folder_write(f, name, text, strlen(text));
}

static inline int folder_count(const char *path) {
    DIR *dir = opendir(path);
    int n = 0;
    while (dir && readdir(dir)) n++;
    if (dir) closedir(dir);
    return dir ? n - 2 : -1;
}

/* A folder and everything in it; folder_make's as remove_tree(f.path). */
static inline void remove_tree(const char *path) {
    char inner[1024];
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (snprintf(inner, sizeof inner, "%s/%s", path, e->d_name) >= (int)sizeof inner) continue;
        if (unlink(inner)) remove_tree(inner);
    }
    if (dir) closedir(dir);
    (void)rmdir(path);
}

/* Bytes of a safetensors file: the header's text, then n bytes 0, 1, 2, ... Freed by the caller. */
static inline uint8_t *st_bytes(const char *header, size_t n, size_t *length) {
    size_t size = strlen(header);
    uint8_t *p = calloc(1, 8 + size + n);
    assert_non_null(p);
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)((uint64_t)size >> (8 * i));
    memcpy(p + 8, header, size);
    for (size_t i = 0; i < n; i++) p[8 + size + i] = (uint8_t)i;
    *length = 8 + size + n;
    return p;
}

static inline void folder_st(const folder *f, const char *name, const char *header, size_t n) {
    size_t length;
    uint8_t *p = st_bytes(header, n, &length);
    folder_write(f, name, p, length);
    free(p);
}

/* One '*' in `message` stands for anything (positions inside JSON differ between versions of the library). */
static inline int same_line(const char *found, const char *message) {
    const char *star = strchr(message, '*');
    if (!star) return !strcmp(found, message);
    size_t before = (size_t)(star - message), after = strlen(star + 1), n = strlen(found);
    return n >= before + after && !memcmp(found, message, before) && !strcmp(found + n - after, star + 1);
}

/* A failure must leave one line. */
static inline void assert_line(const lm_error *err, lm_status status, const char *message) {
    if (!same_line(err->message, message)) fail_msg("expected \"%s\"\nfound    \"%s\"", message, err->message);
    assert_int_equal(err->status, status);
    assert_null(strchr(err->message, '\n'));
}

/* The root of the test data: the environment, else the build's. */
static inline const char *test_data(void) {
    const char *root = getenv("LM_TEST_DATA");
#ifdef LM_TEST_DATA
    if (!root) root = LM_TEST_DATA;
#endif
    return root ? root : "testdata";
}
#endif
