/* SPDX-License-Identifier: MIT
 * golden.h: reading golden safetensors and JSON in tests, and comparing logits. static inline: one program a test. */
#ifndef LM_TESTS_GOLDEN_H
#define LM_TESTS_GOLDEN_H
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include "base/fs.h"
#include "base/half.h"
#include "base/json.h"
#include "format/safetensors.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef LM_TEST_DATA
#define LM_TEST_DATA ""
#endif

/** ROOT/a/b of the test data; a static buffer of four, so that a few may be used at once. */
static inline const char *golden_path(const char *format, const char *a, const char *b) {
    static char text[4][1024];
    static int at;
    char tail[512];
    const char *root = getenv("LM_TEST_DATA");
    at = (at + 1) % 4;
    snprintf(tail, sizeof tail, format, a, b);
    snprintf(text[at], sizeof text[at], "%s/%s", root && *root ? root : LM_TEST_DATA, tail);
    return text[at];
}

typedef struct golden_file {
    lm_fs_map map;
    lm_st_header header;
} golden_file;

static inline void golden_open(const char *path, golden_file *f) {
    lm_error err = {LM_OK, ""};
    if (lm_fs_map_open(path, &f->map, &err) ||
        lm_st_parse(path, f->map.data, f->map.length, f->map.length, &f->header, &err))
        fail_msg("%s", err.message);
}
static inline void golden_close(golden_file *f) {
    lm_st_header_free(&f->header);
    lm_fs_map_close(&f->map);
}
/** A copy of a tensor's data (float32 or int32), freed by the caller; *rows and *cols its shape. */
static inline void *golden_copy(const golden_file *f, const char *name, int64_t *rows, int64_t *cols) {
    const lm_st_tensor *t = lm_st_find(&f->header, name);
    if (!t) fail_msg("no tensor %s", name);
    size_t bytes = (size_t)(t->end - t->begin);
    void *p = malloc(bytes ? bytes : 1);
    assert_non_null(p);
    memcpy(p, f->map.data + f->header.data_offset + t->begin, bytes);
    *rows = t->n_dims > 0 ? t->shape[0] : 1;
    if (cols) *cols = t->n_dims > 1 ? t->shape[1] : 1;
    return p;
}

static inline json_t *golden_json(const char *path) {
    lm_error err = {LM_OK, ""};
    json_t *j;
    if (lm_json_load(path, 0, &j, &err)) fail_msg("%s", err.message);
    return j;
}

/** KL(p || q) in nats of two rows of logits. */
static inline double golden_kl(const float *p, const float *q, int64_t n) {
    double mp = -(double)INFINITY, mq = -(double)INFINITY, sp = 0, sq = 0, kl = 0;
    for (int64_t i = 0; i < n; i++) mp = fmax(mp, (double)p[i]), mq = fmax(mq, (double)q[i]);
    for (int64_t i = 0; i < n; i++) sp += exp((double)p[i] - mp), sq += exp((double)q[i] - mq);
    for (int64_t i = 0; i < n; i++) {
        double lp = (double)p[i] - mp - log(sp), lq = (double)q[i] - mq - log(sq);
        kl += exp(lp) * (lp - lq);
    }
    return kl;
}

static inline double golden_max_abs(const float *a, const float *b, int64_t n) {
    double m = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= m)) m = d; /* NaN counts as the worst */
    }
    return m;
}

static inline int golden_compare_double(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static inline double golden_median(double *x, int64_t n) {
    qsort(x, (size_t)n, sizeof *x, golden_compare_double);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}
#endif
