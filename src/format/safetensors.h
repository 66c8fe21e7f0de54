/* SPDX-License-Identifier: MIT
 * safetensors.h: one safetensors file: header parsed and checked, data by reference. See docs/formats/safetensors.md.
 */
#ifndef LM_FORMAT_SAFETENSORS_H
#define LM_FORMAT_SAFETENSORS_H
#include "base/status.h"
#include "base/types.h"

#define LM_ST_MAX_DIMS 8
#define LM_ST_MAX_HEADER 100000000u /* bytes; a header has fewer */

typedef struct lm_st_tensor {
    const char *name; /* owned by the file */
    lm_dtype dtype;
    int n_dims;
    int64_t shape[LM_ST_MAX_DIMS];
    uint64_t begin, end; /* relative to the data section */
} lm_st_tensor;

typedef struct lm_st_header {
    lm_st_tensor *tensors; /* sorted by name */
    size_t n_tensors;
    char **metadata; /* key, value, key, value, ... */
    size_t n_metadata;
    uint64_t data_offset; /* of the data section in the file */
    char *names;          /* storage */
} lm_st_header;

/** Parses the header of a file of `file_size` bytes from its first `length` bytes (at least 8 + header). `path` is for
 *  messages. Refuses: header of 0 or >= LM_ST_MAX_HEADER bytes, unknown dtype, sizes that overflow, offsets that do not
 *  match shape * size, leave the file, overlap, or leave gaps, duplicate names, nesting, trailing bytes. */
lm_status lm_st_parse(const char *path, const uint8_t *bytes, uint64_t length, uint64_t file_size, lm_st_header *out,
                      lm_error *err);
void lm_st_header_free(lm_st_header *header);
/** Binary search by name; NULL if absent. */
const lm_st_tensor *lm_st_find(const lm_st_header *header, const char *name);
#endif
