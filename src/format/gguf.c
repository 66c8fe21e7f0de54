/* SPDX-License-Identifier: MIT
 * gguf.c: one bounds-checked pass over metadata and tensor descriptions. Every count is held against the bytes that are
 * left before anything is allocated for it. */
#include "format/gguf.h"
#include "base/half.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_KEY 65535
#define MAX_ALIGNMENT ((int64_t)1 << 20)

/* Tensor types of ggml: number, name, values per block, bytes per block. */
static const struct ggml_type {
    uint32_t number;
    const char *name;
    int block, bytes;
} ggml_types[] = {
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},      {3, "Q4_1", 32, 20},
    {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},      {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 40},
    {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},   {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},   {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56},
    {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},   {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
    {40, "NVFP4", 64, 36},    {41, "Q1_0", 128, 18},
};

const char *lm_ggml_type(uint32_t type, int *block, int *bytes) {
    for (size_t i = 0; i < sizeof ggml_types / sizeof *ggml_types; i++)
        if (ggml_types[i].number == type) {
            if (block) *block = ggml_types[i].block;
            if (bytes) *bytes = ggml_types[i].bytes;
            return ggml_types[i].name;
        }
    return NULL;
}

static size_t type_bytes(lm_gguf_type type) {
    static const uint8_t sizes[LM_GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return sizes[type];
}

bool lm_gguf_is_int(lm_gguf_type type) {
    return type != LM_GGUF_F32 && type != LM_GGUF_F64 && type != LM_GGUF_BOOL && type != LM_GGUF_STRING &&
           type != LM_GGUF_ARRAY;
}

/* ---------------------------------------------------------------- the cursor */

typedef struct cursor {
    const char *path;
    const uint8_t *start, *at, *end;
    lm_error *err;
} cursor;

static uint64_t left(const cursor *c) {
    return (uint64_t)(c->end - c->at);
}

static lm_status truncated(const cursor *c, const char *what) {
    return lm_fail(c->err, LM_FORMAT, "%s: truncated at byte %llu while reading %s", c->path,
                   (unsigned long long)(c->at - c->start), what);
}

static lm_status take_u32(cursor *c, const char *what, uint32_t *out) {
    if (left(c) < 4) return truncated(c, what);
    *out = (uint32_t)c->at[0] | (uint32_t)c->at[1] << 8 | (uint32_t)c->at[2] << 16 | (uint32_t)c->at[3] << 24;
    c->at += 4;
    return LM_OK;
}

static lm_status take_u64(cursor *c, const char *what, uint64_t *out) {
    uint32_t low = 0, high = 0;
    if (left(c) < 8) return truncated(c, what);
    take_u32(c, what, &low);
    take_u32(c, what, &high);
    *out = (uint64_t)high << 32 | low;
    return LM_OK;
}

static lm_status take_text(cursor *c, const char *what, lm_gguf_text *out) {
    uint64_t n = 0;
    LM_TRY(take_u64(c, what, &n));
    if (n > left(c))
        return lm_fail(c->err, LM_FORMAT, "%s: %s: string of %llu bytes, but only %llu are left (truncated?)", c->path,
                       what, (unsigned long long)n, (unsigned long long)left(c));
    out->data = (const char *)c->at;
    out->length = (size_t)n;
    c->at += n;
    return LM_OK;
}

/* Keys and tensor names: not empty, no NUL, of a sane length. */
static lm_status take_name(cursor *c, const char *what, lm_gguf_text *out) {
    LM_TRY(take_text(c, what, out));
    if (!out->length || out->length > MAX_KEY || memchr(out->data, 0, out->length))
        return lm_fail(c->err, LM_FORMAT, "%s: %s of %zu bytes, expected 1 to %d without NUL", c->path, what,
                       out->length, MAX_KEY);
    return LM_OK;
}

/* ---------------------------------------------------------------- metadata */

static lm_status skip_items(cursor *c, const lm_gguf_value *v, const char *key) {
    size_t size = type_bytes(v->item);
    uint64_t least = v->item == LM_GGUF_STRING ? 8 : size;
    if (v->count > left(c) / least)
        return lm_fail(c->err, LM_FORMAT, "%s: %.160s: %llu items, but only %llu bytes are left (truncated?)", c->path,
                       key, (unsigned long long)v->count, (unsigned long long)left(c));
    if (v->item != LM_GGUF_STRING) {
        c->at += v->count * size;
        return LM_OK;
    }
    for (uint64_t i = 0; i < v->count; i++) {
        lm_gguf_text ignored;
        LM_TRY(take_text(c, key, &ignored));
    }
    return LM_OK;
}

static lm_status take_value(cursor *c, lm_gguf_value *v) {
    char key[161];
    uint32_t type = 0, item;
    LM_TRY(take_name(c, "a metadata key", &v->key));
    size_t n = v->key.length < 160 ? v->key.length : 160;
    memcpy(key, v->key.data, n);
    key[n] = 0;
    LM_TRY(take_u32(c, key, &type));
    item = type;
    v->count = 1;
    if (type == LM_GGUF_ARRAY) {
        LM_TRY(take_u32(c, key, &item));
        LM_TRY(take_u64(c, key, &v->count));
        if (item == LM_GGUF_ARRAY)
            return lm_fail(c->err, LM_FORMAT, "%s: %s: arrays inside arrays are not supported", c->path, key);
    }
    if (type >= LM_GGUF_TYPE_COUNT || item >= LM_GGUF_TYPE_COUNT)
        return lm_fail(c->err, LM_FORMAT, "%s: %s: unknown value type %u", c->path, key,
                       type == LM_GGUF_ARRAY ? item : type);
    v->type = (lm_gguf_type)type;
    v->item = (lm_gguf_type)item;
    v->data = c->at;
    return skip_items(c, v, key);
}

static int compare_text(lm_gguf_text a, lm_gguf_text b) {
    size_t n = a.length < b.length ? a.length : b.length;
    int order = memcmp(a.data, b.data, n);
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

static int by_key(const void *a, const void *b) {
    return compare_text(((const lm_gguf_value *)a)->key, ((const lm_gguf_value *)b)->key);
}

static lm_status take_values(cursor *c, uint64_t count, lm_gguf *g) {
    if (count > left(c) / 13) /* the smallest pair: length, no key, type, one byte */
        return lm_fail(c->err, LM_FORMAT, "%s: %llu metadata pairs do not fit into the file", c->path,
                       (unsigned long long)count);
    g->values = calloc((size_t)count + 1, sizeof *g->values);
    if (!g->values) return lm_fail_nomem(c->err, (size_t)count * sizeof *g->values, c->path);
    for (; g->n_values < count; g->n_values++) LM_TRY(take_value(c, &g->values[g->n_values]));
    if (count) qsort(g->values, g->n_values, sizeof *g->values, by_key);
    for (size_t i = 1; i < g->n_values; i++)
        if (!by_key(&g->values[i - 1], &g->values[i]))
            return lm_fail(c->err, LM_FORMAT, "%s: duplicate metadata key '%.*s'", c->path,
                           g->values[i].key.length < 160 ? (int)g->values[i].key.length : 160, g->values[i].key.data);
    return LM_OK;
}

/* ---------------------------------------------------------------- tensors */

static lm_status take_shape(cursor *c, lm_gguf_tensor *t) {
    uint32_t n = 0;
    LM_TRY(take_u32(c, t->name, &n));
    if (n > LM_GGUF_MAX_DIMS)
        return lm_fail(c->err, LM_FORMAT, "%s: %.160s: %u dimensions, expected at most %d", c->path, t->name, n,
                       LM_GGUF_MAX_DIMS);
    t->n_dims = (int)n;
    for (uint32_t i = 0; i < LM_GGUF_MAX_DIMS; i++) {
        uint64_t d = 1;
        if (i < n) LM_TRY(take_u64(c, t->name, &d));
        if (!d || d > (uint64_t)INT64_MAX)
            return lm_fail(c->err, LM_FORMAT, "%s: %.160s: dimension %u is %llu", c->path, t->name, i,
                           (unsigned long long)d);
        t->shape[i] = (int64_t)d;
    }
    return LM_OK;
}

static lm_status take_tensor(cursor *c, lm_gguf_tensor *t) {
    int block, bytes;
    LM_TRY(take_shape(c, t));
    LM_TRY(take_u32(c, t->name, &t->type));
    LM_TRY(take_u64(c, t->name, &t->offset));
    if (!lm_ggml_type(t->type, &block, &bytes))
        return lm_fail(c->err, LM_FORMAT, "%s: %.160s: unknown tensor type %u", c->path, t->name, t->type);
    if (t->shape[0] % block)
        return lm_fail(c->err, LM_FORMAT, "%s: %.160s: rows of %lld values, expected a multiple of %d for %s", c->path,
                       t->name, (long long)t->shape[0], block, lm_ggml_type(t->type, NULL, NULL));
    t->bytes = (uint64_t)(t->shape[0] / block);
    for (int i = 0; i < LM_GGUF_MAX_DIMS; i++) {
        uint64_t by = i ? (uint64_t)t->shape[i] : (uint64_t)bytes;
        if (t->bytes > (uint64_t)(INT64_MAX / 2) / by)
            return lm_fail(c->err, LM_FORMAT, "%s: %.160s: the tensor's size overflows", c->path, t->name);
        t->bytes *= by;
    }
    return LM_OK;
}

static lm_status take_tensors(cursor *c, uint64_t count, lm_gguf *g) {
    if (count > left(c) / 24) /* the smallest description: length, dimensions, type, offset */
        return lm_fail(c->err, LM_FORMAT, "%s: %llu tensors do not fit into the file", c->path,
                       (unsigned long long)count);
    size_t used = 0;
    g->tensors = calloc((size_t)count + 1, sizeof *g->tensors);
    g->names = malloc((size_t)left(c) < ((size_t)1 << 16) * (size_t)count ? (size_t)left(c) + (size_t)count + 1
                                                                          : ((size_t)1 << 16) * (size_t)count + 1);
    if (!g->tensors || !g->names) return lm_fail_nomem(c->err, (size_t)count * sizeof *g->tensors, c->path);
    for (; g->n_tensors < count; g->n_tensors++) {
        lm_gguf_tensor *t = &g->tensors[g->n_tensors];
        lm_gguf_text name;
        LM_TRY(take_name(c, "a tensor name", &name));
        memcpy(g->names + used, name.data, name.length);
        g->names[used + name.length] = 0;
        t->name = g->names + used;
        used += name.length + 1;
        LM_TRY(take_tensor(c, t));
    }
    return LM_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const lm_gguf_tensor *)a)->name, ((const lm_gguf_tensor *)b)->name);
}

static int by_offset(const void *a, const void *b) {
    const lm_gguf_tensor *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Places every tensor in the data section; two must not share bytes. */
static lm_status place_tensors(cursor *c, lm_gguf *g, uint64_t alignment) {
    uint64_t at = (uint64_t)(c->at - c->start), data = (at + alignment - 1) / alignment * alignment;
    uint64_t size = (uint64_t)(c->end - c->start), end = 0;
    if (g->n_tensors) qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_offset);
    for (size_t i = 0; i < g->n_tensors; i++) {
        lm_gguf_tensor *t = &g->tensors[i];
        if (t->offset % alignment)
            return lm_fail(c->err, LM_FORMAT, "%s: %.160s: offset %llu is not a multiple of the alignment %llu",
                           c->path, t->name, (unsigned long long)t->offset, (unsigned long long)alignment);
        if (data > size || t->offset > size - data || t->bytes > size - data - t->offset)
            return lm_fail(c->err, LM_FORMAT, "%s: %.160s: %llu bytes at offset %llu lie outside the file (truncated?)",
                           c->path, t->name, (unsigned long long)t->bytes, (unsigned long long)t->offset);
        if (i && t->offset < end)
            return lm_fail(c->err, LM_FORMAT, "%s: %.160s: overlaps %.160s", c->path, t->name, g->tensors[i - 1].name);
        end = t->offset + t->bytes;
        t->data = c->start + data + t->offset;
    }
    if (g->n_tensors) qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_name);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (!by_name(&g->tensors[i - 1], &g->tensors[i]))
            return lm_fail(c->err, LM_FORMAT, "%s: duplicate tensor '%.160s'", c->path, g->tensors[i].name);
    return LM_OK;
}

static lm_status parse(cursor *c, lm_gguf *g) {
    uint64_t n_tensors = 0, n_values = 0;
    int64_t alignment;
    if (left(c) < 4 || memcmp(c->at, "GGUF", 4)) return lm_fail(c->err, LM_FORMAT, "%s: not a GGUF file", c->path);
    c->at += 4;
    LM_TRY(take_u32(c, "the version", &g->version));
    if (g->version == 0x02000000 || g->version == 0x03000000)
        return lm_fail(c->err, LM_UNSUPPORTED, "%s: big-endian GGUF files are not supported", c->path);
    if (g->version != 2 && g->version != 3)
        return lm_fail(c->err, LM_UNSUPPORTED, "%s: GGUF version %u, expected 2 or 3", c->path, g->version);
    LM_TRY(take_u64(c, "the number of tensors", &n_tensors));
    LM_TRY(take_u64(c, "the number of metadata pairs", &n_values));
    LM_TRY(take_values(c, n_values, g));
    LM_TRY(lm_gguf_int(g, "general.alignment", false, 32, 1, MAX_ALIGNMENT, &alignment, c->err));
    if (alignment & (alignment - 1))
        return lm_fail(c->err, LM_FORMAT, "%s: general.alignment: expected a power of two, found %lld", c->path,
                       (long long)alignment);
    LM_TRY(take_tensors(c, n_tensors, g));
    return place_tensors(c, g, (uint64_t)alignment);
}

lm_status lm_gguf_parse(const char *path, const uint8_t *bytes, uint64_t length, lm_gguf *out, lm_error *err) {
    static const uint8_t nothing[1];
    if (!bytes) bytes = nothing, length = 0;
    cursor c = {path, bytes, bytes, bytes + length, err};
    memset(out, 0, sizeof *out);
    out->path = path;
    lm_status s = parse(&c, out);
    if (s != LM_OK) lm_gguf_free(out);
    return s;
}

void lm_gguf_free(lm_gguf *gguf) {
    if (!gguf) return;
    free(gguf->values);
    free(gguf->tensors);
    free(gguf->names);
    memset(gguf, 0, sizeof *gguf);
}

/* ---------------------------------------------------------------- look-ups */

const lm_gguf_value *lm_gguf_find(const lm_gguf *gguf, const char *key) {
    lm_gguf_value wanted = {.key = {key, strlen(key)}};
    if (!gguf->n_values) return NULL;
    return bsearch(&wanted, gguf->values, gguf->n_values, sizeof wanted, by_key);
}

const lm_gguf_tensor *lm_gguf_find_tensor(const lm_gguf *gguf, const char *name) {
    lm_gguf_tensor wanted = {.name = name};
    if (!gguf->n_tensors) return NULL;
    return bsearch(&wanted, gguf->tensors, gguf->n_tensors, sizeof wanted, by_name);
}

int64_t lm_gguf_item_int(const lm_gguf_value *value, uint64_t index) {
    const uint8_t *p = value->data + index * type_bytes(value->item);
    switch (value->item) {
    case LM_GGUF_U8: return *p;
    case LM_GGUF_I8: return (int8_t)*p;
    case LM_GGUF_U16: return lm_load_u16(p);
    case LM_GGUF_I16: return (int16_t)lm_load_u16(p);
    case LM_GGUF_U32: return lm_load_u32(p);
    case LM_GGUF_I32: return (int32_t)lm_load_u32(p);
    case LM_GGUF_U64: return lm_load_u64(p) > INT64_MAX ? INT64_MAX : (int64_t)lm_load_u64(p);
    case LM_GGUF_I64: return (int64_t)lm_load_u64(p);
    default: return 0;
    }
}

/* The value of a key; NULL if absent, which is an error where it is required. */
static lm_status look_up(const lm_gguf *g, const char *key, bool required, const lm_gguf_value **out, lm_error *err) {
    *out = lm_gguf_find(g, key);
    if (!*out && required) return lm_fail(err, LM_FORMAT, "%s: %s is missing", g->path, key);
    return LM_OK;
}

static lm_status wrong(const lm_gguf *g, const char *key, const char *expected, lm_error *err) {
    return lm_fail(err, LM_FORMAT, "%s: %s: expected %s", g->path, key, expected);
}

lm_status lm_gguf_int(const lm_gguf *g, const char *key, bool required, int64_t fallback, int64_t min, int64_t max,
                      int64_t *out, lm_error *err) {
    const lm_gguf_value *v;
    *out = fallback;
    LM_TRY(look_up(g, key, required, &v, err));
    if (!v) return LM_OK;
    if (!lm_gguf_is_int(v->type)) return wrong(g, key, "an integer", err);
    *out = lm_gguf_item_int(v, 0);
    if (*out < min || *out > max)
        return lm_fail(err, LM_FORMAT, "%s: %s: expected an integer from %lld to %lld, found %lld", g->path, key,
                       (long long)min, (long long)max, (long long)*out);
    return LM_OK;
}

lm_status lm_gguf_float(const lm_gguf *g, const char *key, bool required, float fallback, float *out, lm_error *err) {
    const lm_gguf_value *v;
    *out = fallback;
    LM_TRY(look_up(g, key, required, &v, err));
    if (!v) return LM_OK;
    if (v->type != LM_GGUF_F32) return wrong(g, key, "a float32", err);
    *out = lm_load_f32(v->data);
    if (!isfinite(*out)) return wrong(g, key, "a finite number", err);
    return LM_OK;
}

lm_status lm_gguf_bool(const lm_gguf *g, const char *key, bool fallback, bool *out, lm_error *err) {
    const lm_gguf_value *v = lm_gguf_find(g, key);
    *out = fallback;
    if (!v) return LM_OK;
    if (v->type != LM_GGUF_BOOL) return wrong(g, key, "a boolean", err);
    *out = v->data[0] != 0;
    return LM_OK;
}

lm_status lm_gguf_string(const lm_gguf *g, const char *key, bool required, char **out, lm_error *err) {
    const lm_gguf_value *v;
    *out = NULL;
    LM_TRY(look_up(g, key, required, &v, err));
    if (!v) return LM_OK;
    if (v->type != LM_GGUF_STRING) return wrong(g, key, "a string", err);
    size_t n = (size_t)lm_load_u64(v->data);
    if (memchr(v->data + 8, 0, n)) return wrong(g, key, "a string without NUL", err);
    *out = malloc(n + 1);
    if (!*out) return lm_fail_nomem(err, n, key);
    memcpy(*out, v->data + 8, n);
    (*out)[n] = 0;
    return LM_OK;
}

lm_status lm_gguf_strings(const lm_gguf *g, const char *key, bool required, lm_gguf_text **out, size_t *n,
                          lm_error *err) {
    const lm_gguf_value *v;
    *out = NULL;
    *n = 0;
    LM_TRY(look_up(g, key, required, &v, err));
    if (!v) return LM_OK;
    if (v->type != LM_GGUF_ARRAY || v->item != LM_GGUF_STRING) return wrong(g, key, "an array of strings", err);
    *out = calloc((size_t)v->count + 1, sizeof **out);
    if (!*out) return lm_fail_nomem(err, (size_t)v->count * sizeof **out, key);
    const uint8_t *p = v->data;
    for (; *n < v->count; (*n)++) {
        (*out)[*n] = (lm_gguf_text){(const char *)p + 8, (size_t)lm_load_u64(p)};
        p += 8 + (*out)[*n].length;
    }
    return LM_OK;
}
