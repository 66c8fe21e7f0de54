/* SPDX-License-Identifier: MIT
 * gguf_util.h: builds small GGUF files in memory, right ones and wrong ones. */
#ifndef LM_TESTS_GGUF_UTIL_H
#define LM_TESTS_GGUF_UTIL_H
#include "base/buf.h"
#include "base/half.h"
#include "format/gguf.h"
#include "format_util.h"

typedef struct maker {
    lm_buf pairs, tensors, data;
    uint64_t n_pairs, n_tensors;
    uint32_t random;
} maker;

static inline void put(lm_buf *b, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) lm_buf_addc(b, (char)(v >> (8 * i)));
}

static inline void put_string(lm_buf *b, const char *s) {
    put(b, strlen(s), 8);
    lm_buf_adds(b, s);
}

static inline void maker_init(maker *m) {
    memset(m, 0, sizeof *m);
    m->random = 1;
    lm_buf_init(&m->pairs, 0);
    lm_buf_init(&m->tensors, 0);
    lm_buf_init(&m->data, 0);
}

static inline void maker_free(maker *m) {
    lm_buf_free(&m->pairs);
    lm_buf_free(&m->tensors);
    lm_buf_free(&m->data);
}

static inline void pair_key(maker *m, const char *key, uint32_t type) {
    put_string(&m->pairs, key);
    put(&m->pairs, type, 4);
    m->n_pairs++;
}

static inline void pair_u32(maker *m, const char *key, uint32_t v) {
    pair_key(m, key, LM_GGUF_U32);
    put(&m->pairs, v, 4);
}

static inline void pair_f32(maker *m, const char *key, float v) {
    pair_key(m, key, LM_GGUF_F32);
    put(&m->pairs, lm_f32_bits(v), 4);
}

static inline void pair_bool(maker *m, const char *key, int v) {
    pair_key(m, key, LM_GGUF_BOOL);
    put(&m->pairs, (uint64_t)v, 1);
}

static inline void pair_string(maker *m, const char *key, const char *v) {
    pair_key(m, key, LM_GGUF_STRING);
    put_string(&m->pairs, v);
}

static inline void pair_strings(maker *m, const char *key, const char *const *v, size_t n) {
    pair_key(m, key, LM_GGUF_ARRAY);
    put(&m->pairs, LM_GGUF_STRING, 4);
    put(&m->pairs, n, 8);
    for (size_t i = 0; i < n; i++) put_string(&m->pairs, v[i]);
}

static inline void pair_ints(maker *m, const char *key, const int32_t *v, size_t n) {
    pair_key(m, key, LM_GGUF_ARRAY);
    put(&m->pairs, LM_GGUF_I32, 4);
    put(&m->pairs, n, 8);
    for (size_t i = 0; i < n; i++) put(&m->pairs, (uint32_t)v[i], 4);
}

static inline uint32_t maker_random(maker *m) {
    m->random = m->random * 1664525u + 1013904223u;
    return m->random >> 8;
}

/* Describes a tensor of `rows` x `columns` (rows 0: a vector); its `bytes` follow with maker_bytes. */
static inline void tensor_head(maker *m, const char *name, uint32_t type, uint64_t columns, uint64_t rows) {
    while (m->data.length % 32) lm_buf_addc(&m->data, 0);
    put_string(&m->tensors, name);
    put(&m->tensors, rows ? 2 : 1, 4);
    put(&m->tensors, columns, 8);
    if (rows) put(&m->tensors, rows, 8);
    put(&m->tensors, type, 4);
    put(&m->tensors, m->data.length, 8);
    m->n_tensors++;
}

/* Random content of a tensor: scales and floats are small, finite and exact in float16. */
static inline void tensor_random(maker *m, const char *name, uint32_t type, uint64_t columns, uint64_t rows) {
    int block = 1, bytes = 1;
    lm_ggml_type(type, &block, &bytes);
    tensor_head(m, name, type, columns, rows);
    uint64_t n = columns / (uint64_t)block * (rows ? rows : 1);
    for (uint64_t i = 0; i < n; i++) {
        float f = ((float)(maker_random(m) % 2001) - 1000.0f) / 1024.0f;
        if (type == LM_GGML_F32) {
            put(&m->data, lm_f32_bits(f), 4);
            continue;
        }
        put(&m->data, type == LM_GGML_BF16 ? lm_f32_to_bf16(f) : lm_f32_to_f16(f), 2);
        if (block == 1) continue;
        int rest = bytes - 2;
        if (type == LM_GGML_Q4_1) put(&m->data, lm_f32_to_f16(-f), 2), rest -= 2;
        for (int j = 0; j < rest; j++) lm_buf_addc(&m->data, (char)maker_random(m));
    }
}

/* The whole file; freed by the caller. */
static inline uint8_t *maker_file(maker *m, size_t *length) {
    lm_buf b;
    lm_buf_init(&b, 0);
    lm_buf_adds(&b, "GGUF");
    put(&b, 3, 4);
    put(&b, m->n_tensors, 8);
    put(&b, m->n_pairs, 8);
    lm_buf_add(&b, m->pairs.data, m->pairs.length);
    lm_buf_add(&b, m->tensors.data, m->tensors.length);
    while (b.length % 32) lm_buf_addc(&b, 0);
    lm_buf_add(&b, m->data.data, m->data.length);
    uint8_t *p = (uint8_t *)lm_buf_take(&b, length);
    assert_non_null(p);
    return p;
}
#endif
