/* SPDX-License-Identifier: MIT
 * fuzz_gguf.c: the input is a whole GGUF file: reader, metadata, plan, tokenizer files, and the weights of small
 * models. */
#include "convert/convert.h"
#include "fuzz_folder.h"

/* Reads every byte that the tensors claim. */
static void touch(const lm_gguf *g) {
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < g->n_tensors; i++)
        for (uint64_t k = 0; k < g->tensors[i].bytes; k++) sum = (uint8_t)(sum + g->tensors[i].data[k]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lm_gguf g;
    cv_llama_params p;
    cv_llama_plan plan;
    cv_llama_progress progress = {0};
    lm_error e;
    if (lm_gguf_parse("fuzz", data, size, &g, &e) != LM_OK) return 0;
    touch(&g);
    if (cv_llama_params_read(&g, &p, &e) == LM_OK) {
        (void)cv_llama_tokenizer_write(&g, &p, fuzz_folder(), &e);
        if (cv_llama_plan_make(&g, &p, &plan, &e) == LM_OK) {
            if (cv_llama_configs_write(&p, &plan, fuzz_folder(), &e) != LM_OK) abort();
            if (cv_llama_plan_write(&plan, fuzz_folder(), &progress, &e) != LM_OK) abort();
            cv_llama_plan_free(&plan);
        }
    }
    lm_gguf_free(&g);
    return 0;
}
