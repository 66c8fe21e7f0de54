/* SPDX-License-Identifier: MIT
 * backend.c: the list of devices, and the byte accounting they share. */
#include "backend/backend.h"
#include <string.h>

lm_status lm_backend_create(const char *device, const lm_backend_options *options, lm_backend **out, lm_error *err) {
    *out = NULL;
    if (!device || !strcmp(device, "cpu")) return lm_backend_cpu_create(options, out, err);
    if (!strcmp(device, "cuda") || !strcmp(device, "gpu")) return lm_backend_cuda_create(options, out, err);
    return lm_fail(err, LM_ARG, "device '%s': expected cpu or cuda", device);
}

int64_t lm_mem_total(const lm_backend *b) {
    int64_t total = 0;
    for (int i = 0; i < LM_MEM_KINDS; i++) total += b->in_use[i];
    return total;
}

lm_status lm_mem_reserve(lm_backend *b, lm_mem_kind kind, size_t bytes, const char *what, lm_error *err) {
    int64_t total = lm_mem_total(b) + (int64_t)bytes;
    if (b->limit > 0 && total > b->limit)
        return lm_fail(err, LM_NOMEM, "%s: %zu bytes would make %lld in use, over the memory limit of %lld", what,
                       bytes, (long long)total, (long long)b->limit);
    b->in_use[kind] += (int64_t)bytes;
    if (total > b->peak) b->peak = total;
    return LM_OK;
}

void lm_mem_unreserve(lm_backend *b, lm_mem_kind kind, size_t bytes) {
    b->in_use[kind] -= (int64_t)bytes;
    b->released += (int64_t)bytes;
}
