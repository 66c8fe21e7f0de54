/* SPDX-License-Identifier: MIT
 * fuzz_config.c: the input is config.json, a 0xff byte, and generation_config.json; typed look-ups follow. */
#include "format/config.h"
#include "fuzz_folder.h"

static void look_up(const lm_config *c) {
    static const char *const keys[] = {"hidden_size", "num_hidden_layers", "rope_theta", "tie_word_embeddings",
                                       "head_dim"};
    int64_t i;
    double d;
    bool b;
    const char *s;
    lm_error e;
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        if (lm_config_int(c, c->root, keys[k], false, 1, 1, 1 << 20, &i, &e) == LM_OK && (i < 1 || i > 1 << 20))
            abort();
        if (lm_config_float(c, c->root, keys[k], true, 1, 0, 1e9, &d, &e) == LM_OK && !(d >= 0 && d <= 1e9)) abort();
        (void)lm_config_bool(c, c->root, keys[k], false, true, &b, &e);
        (void)lm_config_string(c, c->root, keys[k], false, &s, &e);
    }
}

static void look_up_quantization(const lm_config *c) {
    const char *key;
    json_t *value;
    lm_quant q;
    lm_error e;
    const json_t *table = json_object_get(c->root, "quantization");
    json_object_foreach((json_t *)(uintptr_t)table, key, value) {
        (void)value;
        if (lm_config_quant(c, key, &q, &e) != LM_OK) abort(); /* the table was checked when it was loaded */
        if (c->has_quantization && (q.bits < 2 || q.bits > 8 || q.group_size < 16 || q.group_size > 128)) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *cut = size ? memchr(data, 0xff, size) : NULL;
    size_t n = cut ? (size_t)(cut - data) : size;
    lm_config c;
    lm_error e;
    fuzz_write("config.json", data, n);
    fuzz_write("generation_config.json", cut ? cut + 1 : data, cut ? size - n - 1 : 0);
    if (lm_config_load(fuzz_folder(), &c, &e) != LM_OK) return 0;
    look_up(&c);
    look_up_quantization(&c);
    lm_config_free(&c);
    return 0;
}
