/* SPDX-License-Identifier: MIT
 * st_write.c: the streaming writer, and lm_safetensors_write on top of it. */
#include "format/st_write.h"
#include "base/buf.h"
#include "base/fs.h"
#include "base/json.h"
#include <stdlib.h>
#include <string.h>

struct lm_st_writer {
    char *path;
    lm_fs_writer *file;
    uint64_t written, total;
};

bool lm_st_spec_bytes(const lm_st_spec *spec, uint64_t *bytes) {
    *bytes = lm_dtype_bytes(spec->dtype);
    bool empty = false;
    if (spec->n_dims < 0 || spec->n_dims > LM_ST_MAX_DIMS || !*bytes) return false;
    for (int i = 0; i < spec->n_dims; i++) {
        if (spec->shape[i] < 0) return false;
        if (spec->shape[i] == 0)
            empty = true;
        else if (*bytes > (uint64_t)(INT64_MAX / 2) / (uint64_t)spec->shape[i])
            return false;
        else
            *bytes *= (uint64_t)spec->shape[i];
    }
    if (empty) *bytes = 0;
    return true;
}

typedef struct entry {
    const lm_st_spec *spec;
    uint64_t begin, end;
} entry;

static int by_name(const void *a, const void *b) {
    return strcmp(((const entry *)a)->spec->name, ((const entry *)b)->spec->name);
}

/* A name as a JSON string; jansson refuses what is not UTF-8. */
static bool add_name(lm_buf *b, const char *name) {
    json_t *s = json_string(name);
    char *text = s ? json_dumps(s, JSON_ENCODE_ANY) : NULL;
    bool ok = text && lm_buf_adds(b, text);
    free(text);
    json_decref(s);
    return ok;
}

static bool add_entry(lm_buf *b, const entry *e) {
    lm_buf_addc(b, ',');
    if (!add_name(b, e->spec->name)) return false;
    lm_buf_addf(b, ":{\"dtype\":\"%s\",\"shape\":[", lm_dtype_name(e->spec->dtype));
    for (int i = 0; i < e->spec->n_dims; i++) lm_buf_addf(b, "%s%lld", i ? "," : "", (long long)e->spec->shape[i]);
    lm_buf_addf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)e->begin, (unsigned long long)e->end);
    return !b->failed;
}

/* Lays the tensors out in the given order, then sorts the entries for the header. */
static lm_status lay_out(const char *path, const lm_st_spec *specs, size_t n, entry *entries, uint64_t *total,
                         lm_error *err) {
    *total = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t bytes;
        if (!lm_st_spec_bytes(&specs[i], &bytes) || bytes > (uint64_t)INT64_MAX / 2 - *total)
            return lm_fail(err, LM_ARG, "%s: %.160s: the tensor's size is out of range", path, specs[i].name);
        entries[i] = (entry){&specs[i], *total, *total + bytes};
        *total += bytes;
    }
    if (n) qsort(entries, n, sizeof *entries, by_name);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(entries[i].spec->name, entries[i - 1].spec->name))
            return lm_fail(err, LM_ARG, "%s: %.160s: two tensors have this name", path, entries[i].spec->name);
    return LM_OK;
}

/* The bytes before the data: header length, header. */
static lm_status add_header(const char *path, const entry *entries, size_t n, lm_buf *b, lm_error *err) {
    uint8_t size[8] = {0};
    lm_buf_add(b, size, sizeof size);
    lm_buf_adds(b, "{\"__metadata__\":{\"format\":\"mlx\"}");
    for (size_t i = 0; i < n; i++)
        if (!add_entry(b, &entries[i]) && !b->failed)
            return lm_fail(err, LM_ARG, "%s: %.160s: the name is not UTF-8", path, entries[i].spec->name);
    lm_buf_addc(b, '}');
    while (b->length % 8 && !b->failed) lm_buf_addc(b, ' ');
    if (b->failed) return lm_fail(err, LM_NOMEM, "%s: the header is too large", path);
    for (int i = 0; i < 8; i++) b->data[i] = (char)(uint8_t)((uint64_t)(b->length - 8) >> (8 * i));
    return LM_OK;
}

lm_status lm_st_header_make(const char *path, const lm_st_spec *specs, size_t n, char **header, size_t *length,
                            uint64_t *data_bytes, lm_error *err) {
    lm_buf b;
    *header = NULL;
    entry *entries = calloc(n + 1, sizeof *entries);
    if (!entries) return lm_fail_nomem(err, n * sizeof *entries, path);
    lm_buf_init(&b, LM_ST_MAX_HEADER + 7);
    lm_status s = lay_out(path, specs, n, entries, data_bytes, err);
    if (s == LM_OK) s = add_header(path, entries, n, &b, err);
    free(entries);
    if (s == LM_OK) {
        *header = lm_buf_take(&b, length);
        if (!*header) s = lm_fail_nomem(err, b.length, path);
    }
    lm_buf_free(&b);
    return s;
}

lm_status lm_st_writer_create(const char *path, const lm_st_spec *specs, size_t n, lm_st_writer **out, lm_error *err) {
    *out = NULL;
    char *header = NULL;
    size_t length = 0;
    lm_st_writer *w = calloc(1, sizeof *w);
    if (w) w->path = strdup(path);
    lm_status s = w && w->path ? LM_OK : lm_fail_nomem(err, sizeof *w, path);
    if (s == LM_OK) s = lm_st_header_make(path, specs, n, &header, &length, &w->total, err);
    if (s == LM_OK) s = lm_fs_writer_create(path, &w->file, err);
    if (s == LM_OK) s = lm_fs_writer_add(w->file, header, length, err);
    free(header);
    if (s != LM_OK) {
        lm_st_writer_abandon(w);
        return s;
    }
    *out = w;
    return LM_OK;
}

lm_status lm_st_writer_add(lm_st_writer *w, const void *data, size_t length, lm_error *err) {
    if (length > w->total - w->written) return lm_fail(err, LM_ARG, "%s: more data than the header announced", w->path);
    w->written += length;
    return lm_fs_writer_add(w->file, data, length, err);
}

uint64_t lm_st_writer_written(const lm_st_writer *w) {
    return w->written;
}

lm_status lm_st_writer_commit(lm_st_writer *w, lm_error *err) {
    if (w->written != w->total) {
        lm_status s = lm_fail(err, LM_ARG, "%s: %llu of %llu bytes of data were added", w->path,
                              (unsigned long long)w->written, (unsigned long long)w->total);
        lm_st_writer_abandon(w);
        return s;
    }
    lm_status s = lm_fs_writer_commit(w->file, err);
    w->file = NULL;
    lm_st_writer_abandon(w);
    return s;
}

void lm_st_writer_abandon(lm_st_writer *w) {
    if (!w) return;
    lm_fs_writer_abandon(w->file);
    free(w->path);
    free(w);
}

lm_status lm_safetensors_write(const char *path, const lm_tensor_out *tensors, size_t n_tensors, lm_error *err) {
    lm_st_spec *specs = calloc(n_tensors + 1, sizeof *specs);
    lm_st_writer *w = NULL;
    lm_status s = specs ? LM_OK : lm_fail_nomem(err, n_tensors * sizeof *specs, path);
    for (size_t i = 0; s == LM_OK && i < n_tensors; i++) {
        specs[i].name = tensors[i].name;
        specs[i].dtype = lm_dtype_find(tensors[i].dtype, strlen(tensors[i].dtype));
        specs[i].n_dims = tensors[i].n_dims;
        if (specs[i].dtype == LM_DTYPE_COUNT || tensors[i].n_dims < 0 || tensors[i].n_dims > 4)
            s = lm_fail(err, LM_ARG, "%s: %.160s: unknown dtype '%.40s', or not 0 to 4 dimensions", path,
                        tensors[i].name, tensors[i].dtype);
        else
            memcpy(specs[i].shape, tensors[i].shape, sizeof tensors[i].shape);
    }
    if (s == LM_OK) s = lm_st_writer_create(path, specs, n_tensors, &w, err);
    for (size_t i = 0; s == LM_OK && i < n_tensors; i++) {
        uint64_t bytes = 0;
        lm_st_spec_bytes(&specs[i], &bytes);
        s = lm_st_writer_add(w, tensors[i].data, (size_t)bytes, err);
    }
    free(specs);
    if (s != LM_OK) {
        lm_st_writer_abandon(w);
        return s;
    }
    return lm_st_writer_commit(w, err);
}
