/* SPDX-License-Identifier: MIT
 * safetensors.c: parses and checks one header. The tensors of a file must tile its data section exactly. */
#include "format/safetensors.h"
#include "base/half.h"
#include "base/json.h"
#include <stdlib.h>
#include <string.h>

#define NAME "%.160s" /* hostile names may be megabytes long */

typedef struct parse_state {
    const char *path;
    lm_st_header *out;
    size_t names_used;
    lm_error *err;
} parse_state;

void lm_st_header_free(lm_st_header *header) {
    if (!header) return;
    free(header->tensors);
    free(header->metadata);
    free(header->names);
    memset(header, 0, sizeof *header);
}

static const char *keep(parse_state *p, const char *s, size_t length) {
    char *at = p->out->names + p->names_used;
    memcpy(at, s, length);
    at[length] = 0;
    p->names_used += length + 1;
    return at;
}

static lm_status read_metadata(parse_state *p, json_t *object) {
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return lm_fail(p->err, LM_FORMAT, "%s: __metadata__: expected an object of strings", p->path);
    p->out->metadata = calloc(2 * json_object_size(object) + 1, sizeof(char *));
    if (!p->out->metadata) return lm_fail_nomem(p->err, json_object_size(object), p->path);
    json_object_foreach(object, key, value) {
        const char *text = json_string_value(value);
        if (!text || strlen(text) != json_string_length(value))
            return lm_fail(p->err, LM_FORMAT, "%s: __metadata__: " NAME ": expected a string without NUL", p->path,
                           key);
        p->out->metadata[2 * p->out->n_metadata] = (char *)(uintptr_t)keep(p, key, strlen(key));
        p->out->metadata[2 * p->out->n_metadata + 1] = (char *)(uintptr_t)keep(p, text, strlen(text));
        p->out->n_metadata++;
    }
    return LM_OK;
}

static lm_status read_dtype(parse_state *p, const char *name, json_t *value, lm_dtype *out) {
    const char *text = json_string_value(value);
    if (!text) return lm_fail(p->err, LM_FORMAT, "%s: " NAME ": dtype: expected a string", p->path, name);
    *out = lm_dtype_find(text, json_string_length(value));
    if (*out == LM_DTYPE_COUNT)
        return lm_fail(p->err, LM_FORMAT, "%s: " NAME ": unknown dtype '%.40s'", p->path, name, text);
    return LM_OK;
}

/* Shape and the number of bytes that it asks for. */
static lm_status read_shape(parse_state *p, json_t *value, lm_st_tensor *t, uint64_t *bytes) {
    size_t n = json_array_size(value);
    bool empty = false;
    if (!json_is_array(value))
        return lm_fail(p->err, LM_FORMAT, "%s: " NAME ": shape: expected an array", p->path, t->name);
    if (n > LM_ST_MAX_DIMS)
        return lm_fail(p->err, LM_FORMAT, "%s: " NAME ": shape: expected at most %d dimensions, found %zu", p->path,
                       t->name, LM_ST_MAX_DIMS, n);
    *bytes = lm_dtype_bytes(t->dtype);
    for (size_t i = 0; i < n; i++) {
        json_t *d = json_array_get(value, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return lm_fail(p->err, LM_FORMAT, "%s: " NAME ": shape: expected non-negative integers", p->path, t->name);
        t->shape[i] = json_integer_value(d);
        if (t->shape[i] == 0) empty = true;
        /* dimensions beside a zero one may be anything up to 2^62: they count as well, so that no later product
         * overflows */
        if (t->shape[i] > 0 && *bytes > (uint64_t)(INT64_MAX / 2) / (uint64_t)t->shape[i])
            return lm_fail(p->err, LM_FORMAT, "%s: " NAME ": shape: the tensor's size overflows", p->path, t->name);
        if (t->shape[i] > 0) *bytes *= (uint64_t)t->shape[i];
    }
    t->n_dims = (int)n;
    if (empty) *bytes = 0;
    return LM_OK;
}

static lm_status read_offsets(parse_state *p, json_t *value, lm_st_tensor *t, uint64_t data_bytes) {
    json_t *b = json_array_get(value, 0), *e = json_array_get(value, 1);
    if (!json_is_array(value) || json_array_size(value) != 2 || !json_is_integer(b) || !json_is_integer(e) ||
        json_integer_value(b) < 0 || json_integer_value(e) < 0)
        return lm_fail(p->err, LM_FORMAT, "%s: " NAME ": data_offsets: expected two non-negative integers", p->path,
                       t->name);
    t->begin = (uint64_t)json_integer_value(b);
    t->end = (uint64_t)json_integer_value(e);
    if (t->begin > t->end)
        return lm_fail(p->err, LM_FORMAT, "%s: " NAME ": data_offsets: begin %llu is after end %llu", p->path, t->name,
                       (unsigned long long)t->begin, (unsigned long long)t->end);
    if (t->end > data_bytes)
        return lm_fail(p->err, LM_FORMAT,
                       "%s: " NAME ": data_offsets: end %llu is outside the file's %llu bytes of data (truncated?)",
                       p->path, t->name, (unsigned long long)t->end, (unsigned long long)data_bytes);
    return LM_OK;
}

static lm_status read_tensor(parse_state *p, const char *name, json_t *info, uint64_t data_bytes) {
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    lm_st_tensor *t = &p->out->tensors[p->out->n_tensors];
    uint64_t bytes = 0;
    const char *key;
    json_t *value;
    if (!json_is_object(info)) return lm_fail(p->err, LM_FORMAT, "%s: " NAME ": expected an object", p->path, name);
    for (int i = 0; i < 3; i++)
        if (!json_object_get(info, keys[i]))
            return lm_fail(p->err, LM_FORMAT, "%s: " NAME ": %s is missing", p->path, name, keys[i]);
    json_object_foreach(info, key, value) if (strcmp(key, keys[0]) && strcmp(key, keys[1]) &&
                                              strcmp(key, keys[2])) return lm_fail(p->err, LM_FORMAT,
                                                                                   "%s: " NAME ": unexpected key '" NAME
                                                                                   "'",
                                                                                   p->path, name, key);
    t->name = keep(p, name, strlen(name));
    LM_TRY(read_dtype(p, name, json_object_get(info, "dtype"), &t->dtype));
    LM_TRY(read_shape(p, json_object_get(info, "shape"), t, &bytes));
    LM_TRY(read_offsets(p, json_object_get(info, "data_offsets"), t, data_bytes));
    if (t->end - t->begin != bytes)
        return lm_fail(p->err, LM_FORMAT, "%s: " NAME ": dtype and shape need %llu bytes, data_offsets span %llu",
                       p->path, name, (unsigned long long)bytes, (unsigned long long)(t->end - t->begin));
    p->out->n_tensors++;
    return LM_OK;
}

static int by_offset(const void *a, const void *b) {
    const lm_st_tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const lm_st_tensor *)a)->name, ((const lm_st_tensor *)b)->name);
}

static lm_status check_tiling(parse_state *p, uint64_t data_bytes) {
    lm_st_header *h = p->out;
    uint64_t at = 0;
    if (h->n_tensors) qsort(h->tensors, h->n_tensors, sizeof *h->tensors, by_offset);
    for (size_t i = 0; i < h->n_tensors; i++) {
        const lm_st_tensor *t = &h->tensors[i];
        if (t->begin < at)
            return lm_fail(p->err, LM_FORMAT, "%s: " NAME ": overlaps " NAME " (begins at %llu, expected %llu)",
                           p->path, t->name, i ? h->tensors[i - 1].name : "", (unsigned long long)t->begin,
                           (unsigned long long)at);
        if (t->begin > at)
            return lm_fail(p->err, LM_FORMAT, "%s: " NAME ": a gap of %llu bytes lies before it", p->path, t->name,
                           (unsigned long long)(t->begin - at));
        at = t->end;
    }
    if (at != data_bytes)
        return lm_fail(p->err, LM_FORMAT, "%s: %llu bytes follow the last tensor", p->path,
                       (unsigned long long)(data_bytes - at));
    if (h->n_tensors) qsort(h->tensors, h->n_tensors, sizeof *h->tensors, by_name);
    return LM_OK;
}

static lm_status read_root(parse_state *p, json_t *root, uint64_t data_bytes) {
    const char *name;
    json_t *value;
    size_t n = json_object_size(root);
    if (!json_is_object(root)) return lm_fail(p->err, LM_FORMAT, "%s: header: expected a JSON object", p->path);
    p->out->tensors = calloc(n + 1, sizeof *p->out->tensors);
    if (!p->out->tensors) return lm_fail_nomem(p->err, n * sizeof *p->out->tensors, p->path);
    json_object_foreach(root, name, value) {
        if (!strcmp(name, "__metadata__"))
            LM_TRY(read_metadata(p, value));
        else
            LM_TRY(read_tensor(p, name, value, data_bytes));
    }
    return check_tiling(p, data_bytes);
}

/* The 8 bytes before the header; on success the header lies inside both the given bytes and the file. */
static lm_status header_size(const char *path, const uint8_t *bytes, uint64_t length, uint64_t file_size, uint64_t *out,
                             lm_error *err) {
    if (length < 8 || file_size < 8)
        return lm_fail(err, LM_FORMAT, "%s: %llu bytes, too short for a safetensors file", path,
                       (unsigned long long)file_size);
    *out = 0;
    for (int i = 0; i < 8; i++) *out |= (uint64_t)bytes[i] << (8 * i);
    if (*out == 0 || *out >= LM_ST_MAX_HEADER)
        return lm_fail(err, LM_FORMAT, "%s: header of %llu bytes, expected 1 to %u (not a safetensors file?)", path,
                       (unsigned long long)*out, LM_ST_MAX_HEADER - 1);
    if (*out > file_size - 8 || *out > length - 8)
        return lm_fail(err, LM_FORMAT, "%s: truncated: header of %llu bytes in a file of %llu", path,
                       (unsigned long long)*out, (unsigned long long)file_size);
    return LM_OK;
}

lm_status lm_st_parse(const char *path, const uint8_t *bytes, uint64_t length, uint64_t file_size, lm_st_header *out,
                      lm_error *err) {
    parse_state p = {path, out, 0, err};
    uint64_t size = 0;
    json_t *root = NULL;
    memset(out, 0, sizeof *out);
    LM_TRY(header_size(path, bytes, length, file_size, &size, err));
    if (bytes[8] != '{') return lm_fail(err, LM_FORMAT, "%s: header: expected '{' at its start", path);
    LM_TRY(lm_json_parse((const char *)bytes + 8, (size_t)size, path, &root, err));
    out->data_offset = 8 + size;
    /* a decoded string is never longer than its JSON text, whose two quotes pay for the terminator */
    out->names = malloc((size_t)size + 1);
    lm_status s =
        out->names ? read_root(&p, root, file_size - out->data_offset) : lm_fail_nomem(err, (size_t)size, path);
    json_decref(root);
    if (s != LM_OK) lm_st_header_free(out);
    return s;
}

const lm_st_tensor *lm_st_find(const lm_st_header *header, const char *name) {
    lm_st_tensor key = {.name = name};
    if (!header->n_tensors) return NULL;
    return bsearch(&key, header->tensors, header->n_tensors, sizeof key, by_name);
}
