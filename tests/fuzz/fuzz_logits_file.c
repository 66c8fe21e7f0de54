/* SPDX-License-Identifier: MIT
 * fuzz_logits_file.c: the input is a whole file of log-probabilities (--against). What opens must keep its promises:
 * every position reads as a distribution or is refused with one line. */
#include "eval/score_internal.h"
#include "fuzz_folder.h"
#include <math.h>

static void read_all(lm_logprobs *file, const lm_logprobs_info *info) {
    lm_error err = {LM_OK, ""};
    int64_t n = info->n_scored < 256 ? info->n_scored : 256;
    float *all = malloc((size_t)info->vocab * sizeof *all);
    if (!all) return;
    for (int64_t i = 0; i < n; i++) {
        float target;
        int32_t top;
        if (lm_logprobs_read(file, i, all, &target, &top, &err) != LM_OK) {
            if (!err.message[0] || strchr(err.message, '\n')) abort();
            continue;
        }
        if (top < 0 || top >= info->vocab || isnan(target)) abort();
        for (int64_t k = 0; k < info->vocab; k++)
            if (isnan(all[k]) || all[k] > 0.01f) abort();
    }
    free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[128];
    lm_logprobs *file;
    lm_error err = {LM_OK, ""};
    fuzz_write("logits", data, size);
    snprintf(path, sizeof path, "%s/logits", fuzz_folder());
    if (lm_logprobs_open(path, &file, &err) != LM_OK) {
        if (file || strchr(err.message, '\n')) abort();
        return 0;
    }
    lm_logprobs_info info;
    lm_logprobs_get_info(file, &info);
    if (info.vocab < 1 || info.n_scored < 1 || info.n_rows < 1 || info.n_tokens < info.n_scored) abort();
    read_all(file, &info);
    lm_logprobs_close(file);
    return 0;
}
