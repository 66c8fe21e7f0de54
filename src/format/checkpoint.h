/* SPDX-License-Identifier: MIT
 * checkpoint.h: a folder's weights: every model*.safetensors, mapped or read into memory, as one table of tensors. */
#ifndef LM_FORMAT_CHECKPOINT_H
#define LM_FORMAT_CHECKPOINT_H
#include "base/types.h"
#include "format/safetensors.h"

typedef struct lm_tensor {
    const char *name;
    const void *data; /* any alignment */
    lm_dtype dtype;
    int n_dims;
    int64_t shape[LM_ST_MAX_DIMS];
    size_t bytes;
    int file; /* index of the shard */
} lm_tensor;

typedef struct lm_checkpoint lm_checkpoint;
/** Opens model*.safetensors of `folder` (mlx-lm's glob; where a name occurs in two files the later file in name order
 *  wins). model.safetensors.index.json, if present, is checked: it may only name plain files of the folder, and every
 * tensor it lists must exist. use_mmap false: file data is read into anonymous memory with `threads` parallel readers.
 *  `progress` may be NULL; false cancels. */
lm_status lm_checkpoint_open(const char *folder, bool use_mmap, bool (*progress)(void *, int64_t, int64_t), void *user,
                             lm_checkpoint **out, lm_error *err);
void lm_checkpoint_close(lm_checkpoint *checkpoint);
size_t lm_checkpoint_count(const lm_checkpoint *checkpoint);
const lm_tensor *lm_checkpoint_get(const lm_checkpoint *checkpoint, size_t index); /* sorted by name */
const lm_tensor *lm_checkpoint_find(const lm_checkpoint *checkpoint, const char *name);
int64_t lm_checkpoint_bytes(const lm_checkpoint *checkpoint); /* of all tensors */
/** FNV-1a over file names, sizes and headers. */
uint64_t lm_checkpoint_fingerprint(const lm_checkpoint *checkpoint);
#endif
