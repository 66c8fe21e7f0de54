/* SPDX-License-Identifier: MIT
 * stub.c: what answers where the CUDA back end is not built in, so that callers carry no #ifdef. */
#include "backend/backend.h"

lm_status lm_backend_cuda_create(const lm_backend_options *options, lm_backend **out, lm_error *err) {
    (void)options;
    *out = NULL;
    return lm_fail(err, LM_UNSUPPORTED, "device cuda: this build has no CUDA back end; use --device cpu");
}
