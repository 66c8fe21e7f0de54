/* SPDX-License-Identifier: MIT
 * fuzz_safetensors.c: the input is a whole file; an accepted header must tile the data. */
#include "format/safetensors.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lm_st_header h;
    lm_error e;
    if (lm_st_parse("fuzz", data, size, size, &h, &e) != LM_OK) return 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < h.n_tensors; i++) {
        const lm_st_tensor *t = &h.tensors[i];
        if (t->end > size - h.data_offset || lm_st_find(&h, t->name) != t) abort();
        bytes += t->end - t->begin;
    }
    if (bytes != size - h.data_offset) abort();
    lm_st_header_free(&h);
    return 0;
}
