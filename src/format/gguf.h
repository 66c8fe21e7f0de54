/* SPDX-License-Identifier: MIT
 * gguf.h: reads GGUF 2 and 3 (little-endian) from memory, without copying tensors or strings. See docs/formats/gguf.md.
 */
#ifndef LM_FORMAT_GGUF_H
#define LM_FORMAT_GGUF_H
#include "base/status.h"

#define LM_GGUF_MAX_DIMS 4

/* Value types as the file numbers them. */
typedef enum lm_gguf_type {
    LM_GGUF_U8,
    LM_GGUF_I8,
    LM_GGUF_U16,
    LM_GGUF_I16,
    LM_GGUF_U32,
    LM_GGUF_I32,
    LM_GGUF_F32,
    LM_GGUF_BOOL,
    LM_GGUF_STRING,
    LM_GGUF_ARRAY,
    LM_GGUF_U64,
    LM_GGUF_I64,
    LM_GGUF_F64,
    LM_GGUF_TYPE_COUNT
} lm_gguf_type;

/* Tensor types that the converter handles; the reader knows the sizes of the others, too. */
enum { LM_GGML_F32 = 0, LM_GGML_F16 = 1, LM_GGML_Q4_0 = 2, LM_GGML_Q4_1 = 3, LM_GGML_Q8_0 = 8, LM_GGML_BF16 = 30 };

/** Bytes inside the file: not terminated. */
typedef struct lm_gguf_text {
    const char *data;
    size_t length;
} lm_gguf_text;

typedef struct lm_gguf_value {
    lm_gguf_text key;
    lm_gguf_type type, item; /* item: of an array; else equal to type */
    uint64_t count;          /* items of an array; else 1 */
    const uint8_t *data;     /* the first item; strings: 8 bytes of length, then bytes, one after another */
} lm_gguf_value;

typedef struct lm_gguf_tensor {
    const char *name; /* owned by the lm_gguf */
    uint32_t type;
    int n_dims;
    int64_t shape[LM_GGUF_MAX_DIMS]; /* as in the file: fastest dimension first; unused ones are 1 */
    const uint8_t *data;
    uint64_t bytes, offset; /* offset: in the data section */
} lm_gguf_tensor;

typedef struct lm_gguf {
    const char *path; /* borrowed, for messages */
    uint32_t version;
    lm_gguf_value *values; /* sorted by key */
    size_t n_values;
    lm_gguf_tensor *tensors; /* sorted by name */
    size_t n_tensors;
    char *names; /* storage */
} lm_gguf;

/** Parses and checks a whole file that lies in memory; `bytes` must outlive `out`. */
lm_status lm_gguf_parse(const char *path, const uint8_t *bytes, uint64_t length, lm_gguf *out, lm_error *err);
void lm_gguf_free(lm_gguf *gguf);

/** Name of a tensor type ("Q4_1"), its values per block and bytes per block; NULL if unknown. */
const char *lm_ggml_type(uint32_t type, int *block, int *bytes);

const lm_gguf_value *lm_gguf_find(const lm_gguf *gguf, const char *key); /* NULL if absent */
const lm_gguf_tensor *lm_gguf_find_tensor(const lm_gguf *gguf, const char *name);

/** Typed look-ups: a value of another type or out of range is an error that names file and key; absent: the fallback,
 *  or an error where `required`. Any integer type serves as an integer. */
lm_status lm_gguf_int(const lm_gguf *g, const char *key, bool required, int64_t fallback, int64_t min, int64_t max,
                      int64_t *out, lm_error *err);
lm_status lm_gguf_float(const lm_gguf *g, const char *key, bool required, float fallback, float *out, lm_error *err);
lm_status lm_gguf_bool(const lm_gguf *g, const char *key, bool fallback, bool *out, lm_error *err);
/** A terminated copy (caller frees) without NUL inside; *out NULL when absent and not required. */
lm_status lm_gguf_string(const lm_gguf *g, const char *key, bool required, char **out, lm_error *err);
/** An array of strings as views (caller frees the array); *out NULL, *n 0 when absent and not required. */
lm_status lm_gguf_strings(const lm_gguf *g, const char *key, bool required, lm_gguf_text **out, size_t *n,
                          lm_error *err);
/** Item `index` of an integer array or of a scalar. */
int64_t lm_gguf_item_int(const lm_gguf_value *value, uint64_t index);
bool lm_gguf_is_int(lm_gguf_type type);
#endif
