/* SPDX-License-Identifier: MIT
 * st_write.h: writes one safetensors file tensor by tensor, so that no more than a piece of one tensor is in memory. */
#ifndef LM_FORMAT_ST_WRITE_H
#define LM_FORMAT_ST_WRITE_H
#include "base/status.h"
#include "base/types.h"
#include "format/safetensors.h"

typedef struct lm_st_writer lm_st_writer;

/** What will be written. Every field is copied. */
typedef struct lm_st_spec {
    const char *name;
    lm_dtype dtype;
    int n_dims;
    int64_t shape[LM_ST_MAX_DIMS];
} lm_st_spec;

/** Bytes of a spec's data; false if they overflow or a dimension is negative. */
bool lm_st_spec_bytes(const lm_st_spec *spec, uint64_t *bytes);
/** The bytes of a file before its data, for writers that put the data in place themselves: 8 bytes of length and the
 *  header that lm_st_writer_create describes. The data of `specs` follows in their order, `*data_bytes` in all. `path`
 * is for messages; the caller frees `*header`. */
lm_status lm_st_header_make(const char *path, const lm_st_spec *specs, size_t n, char **header, size_t *length,
                            uint64_t *data_bytes, lm_error *err);
/** Begins a file (temporary name beside `path`): its header goes out at once, keys sorted, `__metadata__` {"format":
 * "mlx"} first, padded with spaces so that the data begins at a multiple of 8. The data follows in the order of
 * `specs`. */
lm_status lm_st_writer_create(const char *path, const lm_st_spec *specs, size_t n, lm_st_writer **out, lm_error *err);
/** Adds the next bytes of the data section, in any portions. */
lm_status lm_st_writer_add(lm_st_writer *w, const void *data, size_t length, lm_error *err);
/** Bytes of data added so far. */
uint64_t lm_st_writer_written(const lm_st_writer *w);
/** Ends the writer either way; commit is refused unless every byte was added. fsync, rename. */
lm_status lm_st_writer_commit(lm_st_writer *w, lm_error *err);
void lm_st_writer_abandon(lm_st_writer *w);
#endif
