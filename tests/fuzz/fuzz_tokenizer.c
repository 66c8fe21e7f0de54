/* SPDX-License-Identifier: MIT
 * fuzz_tokenizer.c: a tokenizer.json (up to the first 0xff byte, which no UTF-8 holds), and text behind it that is
 * encoded, decoded and streamed. */
#include "text/tokenizer_impl.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void stream(const lm_tokenizer *t, const int32_t *ids, size_t n, lm_error *err) {
    lm_detokenizer *d = NULL;
    const char *segment;
    size_t length;
    if (lm_detokenizer_create(t, &d, err) != LM_OK) return;
    for (size_t i = 0; i < n; i++)
        if (lm_detokenizer_add(d, ids[i], &segment, &length, err) != LM_OK) break;
    if (lm_detokenizer_finalize(d, &segment, &length, err) == LM_OK && strlen(segment) > length) abort();
    lm_detokenizer_destroy(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *mark = size ? memchr(data, 0xff, size) : NULL;
    size_t length = mark ? (size_t)(mark - data) : size;
    const char *text = mark ? (const char *)mark + 1 : "The 3 <|x|> \xe4\xbd\xa0";
    size_t n_text = mark ? size - length - 1 : strlen(text), n = 0;
    if (n_text > 512) n_text = 512;
    lm_tokenizer *t = NULL;
    lm_error err = {LM_OK, ""};
    int32_t *ids = NULL;
    char *back = NULL;
    json_t *config = json_pack("{s:s, s:s}", "bos_token", "<s>", "eos_token", "<|x|>");
    if (lm_tokenizer_open_text((const char *)data, length, "fuzz", config, &t, &err) != LM_OK) {
        if (strchr(err.message, '\n') || !*err.message) abort();
        return 0;
    }
    if (lm_tokenizer_encode(t, text, n_text, true, &ids, &n, &err) == LM_OK) {
        size_t n_back = 0;
        for (size_t i = 0; i < n; i++)
            if (ids[i] < 0 || ids[i] >= LM_VOCAB_MAX_ID) abort();
        if (lm_tokenizer_decode(t, ids, n, true, &back, &n_back, &err) == LM_OK && back[n_back]) abort();
        stream(t, ids, n, &err);
        lm_free(back);
        lm_free(ids);
    }
    lm_tokenizer_close(t);
    return 0;
}
