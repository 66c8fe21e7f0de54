/* SPDX-License-Identifier: MIT
 * gguf_out.c: lm_convert_to_gguf. The plan fixes every offset, so that header and data go out in one pass; no more than
 * a piece of one tensor is in memory. The file appears under its name when it is complete. */
#include "convert/gguf_out.h"
#include "base/fs.h"
#include "base/pool.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define PIECE ((size_t)8 << 20)
#define MAX_HEADER ((size_t)1 << 30)

lm_gguf_write_options lm_gguf_write_options_default(void) {
    return (lm_gguf_write_options){.type = LM_GGUF_OUT_AUTO};
}

/* ---------------------------------------------------------------- rows */

typedef struct output {
    lm_fs_writer *file;
    lm_pool *pool;
    uint8_t *piece; /* [capacity] */
    float *scratch; /* [threads][widest row] */
    size_t capacity, widest;
    uint64_t written, total;
    const lm_gguf_write_options *options;
} output;

/* Rows [first, first + n) of a tensor on their way into the piece. */
typedef struct job {
    const cv_gguf_out_tensor *t;
    output *o;
    int64_t first, n, at_once;
    size_t row_bytes;
    atomic_llong bad; /* the first row that does not fit its type */
} job;

/* A vector is one row, whose elements move as rows of a matrix do. */
static bool emit_vector(const cv_gguf_out_tensor *t, float *scratch, uint8_t *to) {
    for (int64_t i = 0; i < t->shape[0]; i++)
        scratch[i] = t->values ? t->values[i] : cv_gguf_float_at(t->part[0].weight, cv_gguf_source_row(t, i));
    return cv_gguf_encode(t->type, scratch, t->shape[0], to);
}

static bool emit_row(const cv_gguf_out_tensor *t, int64_t row, float *scratch, uint8_t *to) {
    if (t->n_dims == 1) return emit_vector(t, scratch, to);
    const cv_gguf_matrix *m = &t->part[t->n_parts > 1 ? row / t->shape[1] : 0];
    int64_t from = cv_gguf_source_row(t, t->n_parts > 1 ? row % t->shape[1] : row);
    size_t bytes = cv_gguf_row_bytes(t->type, t->shape[0]);
    switch (t->how) {
    case HOW_COPY: memcpy(to, (const uint8_t *)m->weight->data + (size_t)from * bytes, bytes); return true;
    case HOW_CODES: return cv_gguf_row_codes(m, t->type, from, to);
    default: cv_gguf_row_float(m, from, scratch); return cv_gguf_encode(t->type, scratch, t->shape[0], to);
    }
}

static void emit_rows(void *context, int64_t item, int worker) {
    job *j = context;
    float *scratch = j->o->scratch + (size_t)worker * j->o->widest;
    int64_t end = (item + 1) * j->at_once < j->n ? (item + 1) * j->at_once : j->n;
    for (int64_t i = item * j->at_once; i < end; i++) {
        if (emit_row(j->t, j->first + i, scratch, j->o->piece + (size_t)i * j->row_bytes)) continue;
        long long row = j->first + i, seen = atomic_load(&j->bad);
        while ((seen < 0 || row < seen) && !atomic_compare_exchange_weak(&j->bad, &seen, row)) continue;
    }
}

static lm_status write_rows(output *o, const cv_gguf_out_tensor *t, int64_t first, int64_t n, lm_error *err) {
    job j = {.t = t, .o = o, .first = first, .n = n, .row_bytes = cv_gguf_row_bytes(t->type, t->shape[0]), .bad = -1};
    j.at_once = (int64_t)(((size_t)64 << 10) / j.row_bytes) + 1; /* enough that claiming an item costs nothing */
    lm_pool_run(o->pool, (n + j.at_once - 1) / j.at_once, emit_rows, &j);
    if (j.bad >= 0)
        return lm_fail(err, LM_UNSUPPORTED, "%s: row %lld: a value or scale is not finite in %s; choose another type",
                       t->part ? t->part[0].weight->name : t->name, (long long)j.bad,
                       lm_ggml_type(t->type, NULL, NULL));
    return lm_fs_writer_add(o->file, o->piece, (size_t)n * j.row_bytes, err);
}

static lm_status write_tensor(output *o, const cv_gguf_out_tensor *t, lm_error *err) {
    static const uint8_t zeros[32];
    int64_t rows = t->shape[1] * t->shape[2];
    size_t row_bytes = cv_gguf_row_bytes(t->type, t->shape[0]);
    int64_t at_once = (int64_t)(o->capacity / row_bytes);
    for (int64_t row = 0; row < rows; row += at_once) {
        int64_t n = rows - row < at_once ? rows - row : at_once;
        LM_TRY(write_rows(o, t, row, n, err));
        o->written += (uint64_t)n * row_bytes;
        if (o->options->progress &&
            !o->options->progress(o->options->progress_user, (int64_t)o->written, (int64_t)o->total))
            return lm_fail(err, LM_CANCELLED, "the conversion was cancelled");
    }
    size_t padding = (size_t)(-t->bytes & 31);
    o->written += padding;
    return padding ? lm_fs_writer_add(o->file, zeros, padding, err) : LM_OK;
}

/* ---------------------------------------------------------------- the file */

static lm_status build_header(const cv_gguf_plan *plan, const char *name, lm_buf *b, lm_error *err) {
    cv_gguf_pairs pairs = {.count = 0};
    lm_buf_init(&pairs.bytes, MAX_HEADER);
    lm_status s = cv_gguf_meta_add(plan->source, plan, name, &pairs, err);
    lm_buf_adds(b, "GGUF");
    cv_gguf_put(b, 3, 4);
    cv_gguf_put(b, plan->n_tensors, 8);
    cv_gguf_put(b, pairs.count, 8);
    lm_buf_add(b, pairs.bytes.data, pairs.bytes.length);
    lm_buf_free(&pairs.bytes);
    LM_TRY(s);
    for (size_t i = 0; i < plan->n_tensors; i++) {
        const cv_gguf_out_tensor *t = &plan->tensors[i];
        cv_gguf_put_text(b, t->name, strlen(t->name));
        cv_gguf_put(b, (uint64_t)t->n_dims, 4);
        for (int d = 0; d < t->n_dims; d++) cv_gguf_put(b, (uint64_t)t->shape[d], 8);
        cv_gguf_put(b, t->type, 4);
        cv_gguf_put(b, t->offset, 8);
    }
    while (b->length % 32 && !b->failed) lm_buf_addc(b, 0);
    return b->failed ? lm_fail_nomem(err, b->length, "the header") : LM_OK;
}

/* Space is asked for before the work, so that a full disk costs no time. */
static lm_status check_space(const char *path, uint64_t need, lm_error *err) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    struct statvfs fs;
    bool known = folder && !statvfs(folder, &fs);
    free(folder);
    if (!known || !fs.f_frsize) return LM_OK; /* opening or writing will tell */
    uint64_t available = (uint64_t)fs.f_bavail * (uint64_t)fs.f_frsize;
    if (available >= need) return LM_OK;
    return lm_fail(err, LM_IO, "%s: needs %llu bytes, but only %llu are free there", path, (unsigned long long)need,
                   (unsigned long long)available);
}

static lm_status open_output(output *o, const cv_gguf_plan *plan, lm_error *err) {
    LM_TRY(lm_pool_create(o->options->threads, &o->pool, err));
    o->capacity = PIECE;
    for (size_t i = 0; i < plan->n_tensors; i++) {
        const cv_gguf_out_tensor *t = &plan->tensors[i];
        size_t row = cv_gguf_row_bytes(t->type, t->shape[0]);
        if (row > o->capacity) o->capacity = row;
        if ((size_t)t->shape[0] > o->widest) o->widest = (size_t)t->shape[0];
    }
    size_t floats = o->widest * (size_t)lm_pool_threads(o->pool);
    o->piece = malloc(o->capacity);
    o->scratch = calloc(floats, sizeof *o->scratch);
    return o->piece && o->scratch ? LM_OK : lm_fail_nomem(err, o->capacity + floats * sizeof(float), "buffers");
}

static lm_status write_all(output *o, const cv_gguf_plan *plan, const char *path, lm_buf *header, lm_error *err) {
    LM_TRY(open_output(o, plan, err));
    LM_TRY(check_space(path, header->length + plan->bytes, err));
    LM_TRY(lm_fs_writer_create(path, &o->file, err));
    LM_TRY(lm_fs_writer_add(o->file, header->data, header->length, err));
    lm_buf_free(header);
    o->total = plan->bytes;
    for (size_t i = 0; i < plan->n_tensors; i++) LM_TRY(write_tensor(o, &plan->tensors[i], err));
    return LM_OK;
}

static void count(const cv_gguf_plan *plan, uint64_t header, lm_gguf_write_result *r) {
    memset(r, 0, sizeof *r);
    r->bytes = (int64_t)(header + plan->bytes);
    r->n_tensors = (int64_t)plan->n_tensors;
    for (size_t i = 0; i < plan->n_tensors; i++) r->n_exact += plan->tensors[i].exact;
}

static lm_status write_file(const cv_gguf_plan *plan, const char *path, const char *name,
                            const lm_gguf_write_options *options, lm_gguf_write_result *result, lm_error *err) {
    output o = {.options = options};
    lm_buf header;
    lm_buf_init(&header, MAX_HEADER);
    lm_status s = build_header(plan, name, &header, err);
    uint64_t header_bytes = header.length;
    if (s == LM_OK) s = write_all(&o, plan, path, &header, err);
    lm_buf_free(&header);
    free(o.piece);
    free(o.scratch);
    lm_pool_destroy(o.pool);
    if (s == LM_OK)
        s = lm_fs_writer_commit(o.file, err);
    else
        lm_fs_writer_abandon(o.file);
    if (s == LM_OK && result) count(plan, header_bytes, result);
    return s;
}

/* ---------------------------------------------------------------- the source */

/* The last part of the model's name. */
static char *base_name(const char *model) {
    size_t n = strlen(model);
    while (n > 1 && model[n - 1] == '/') n--;
    size_t start = n;
    while (start && model[start - 1] != '/') start--;
    return strndup(model + start, n - start);
}

static lm_status convert(cv_gguf_source *s, const char *path, const char *name, const lm_gguf_write_options *options,
                         lm_gguf_write_result *result, lm_error *err) {
    cv_gguf_plan plan;
    const lm_arch *arch = lm_arch_find(s->config->model_type);
    if (!arch)
        return lm_fail(err, LM_UNSUPPORTED, "%s: model_type '%.60s' is not supported yet (%s are)", s->config->path,
                       s->config->model_type, lm_arch_names());
    LM_TRY(arch->read_config(s->config, &s->h, err));
    LM_TRY(cv_gguf_source_check(s, err));
    LM_TRY(cv_gguf_plan_make(s, options->type, &plan, err));
    lm_status status = write_file(&plan, path, name, options, result, err);
    cv_gguf_plan_free(&plan);
    return status;
}

static lm_status open_and_convert(const char *folder, const char *path, const char *name,
                                  const lm_gguf_write_options *options, lm_gguf_write_result *result, lm_error *err) {
    lm_config config;
    lm_checkpoint *checkpoint;
    LM_TRY(lm_config_load(folder, &config, err));
    lm_status s = lm_checkpoint_open(folder, true, NULL, NULL, &checkpoint, err);
    if (s == LM_OK) {
        cv_gguf_source source = {.folder = folder, .config = &config, .checkpoint = checkpoint};
        s = convert(&source, path, name, options, result, err);
        free(source.h.dense_layer);
        lm_checkpoint_close(checkpoint);
    }
    lm_config_free(&config);
    return s;
}

lm_status lm_convert_to_gguf(const char *model, const char *gguf_path, const lm_gguf_write_options *options,
                             lm_gguf_write_result *result, lm_error *err) {
    lm_gguf_write_options defaults = lm_gguf_write_options_default();
    struct stat st;
    char *folder = NULL;
    if (!*gguf_path) return lm_fail(err, LM_ARG, "the GGUF file's name is empty");
    if (!lstat(gguf_path, &st))
        return lm_fail(err, LM_ARG, "%s exists already; delete it or choose another name", gguf_path);
    char *name = base_name(model);
    lm_status s = name ? lm_model_resolve(model, &folder, err) : lm_fail_nomem(err, strlen(model), model);
    if (s == LM_OK) s = open_and_convert(folder, gguf_path, name, options ? options : &defaults, result, err);
    lm_free(folder);
    free(name);
    return s;
}
