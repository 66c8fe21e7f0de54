/* SPDX-License-Identifier: MIT
 * fuzz_eval_samples.c: the samples files that --compare reads. */
#include "eval/compare.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lm_error err;
    lm_ev_sample_list list = {.task = &lm_ev_tasks[0]};
    lm_ev_samples_parse(&list, "samples", (const char *)data, size, &err);
    lm_ev_samples_free(&list);
    return 0;
}
