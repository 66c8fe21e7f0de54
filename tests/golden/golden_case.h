/* SPDX-License-Identifier: MIT
 * golden_case.h: the golden checkpoints one by one, and the logits that our engine computes for their prompts. */
#ifndef LM_TESTS_GOLDEN_CASE_H
#define LM_TESTS_GOLDEN_CASE_H
#include "golden.h"
#include "lm/lm.h"
#include <dirent.h>

typedef struct golden_case {
    char family[64], variant[64], folder[1024];
    int32_t *ids;
    float *reference, *own; /* [t, vocab] */
    int64_t t, vocab;
    json_t *json;
} golden_case;

static inline bool has_weights(const char *folder) {
    char path[1200];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (lm_fs_exists(path)) return true;
    snprintf(path, sizeof path, "%s/model-00001-of-00002.safetensors", folder);
    return lm_fs_exists(path);
}

static inline void case_open(const char *family, const char *variant, golden_case *c) {
    golden_file f;
    char file[160];
    memset(c, 0, sizeof *c);
    snprintf(c->family, sizeof c->family, "%s", family);
    snprintf(c->variant, sizeof c->variant, "%s", variant);
    snprintf(c->folder, sizeof c->folder, "%s", golden_path("golden/checkpoints/%s/%s", family, variant));
    if (!has_weights(c->folder)) /* the goldens say so where the converted weights would repeat the source's */
        snprintf(c->folder, sizeof c->folder, "%s", golden_path("golden/checkpoints/%s/%s", family, "hf"));
    snprintf(file, sizeof file, "golden/%s.safetensors", variant);
    golden_open(golden_path("golden/checkpoints/%s/%s", family, file), &f);
    c->ids = golden_copy(&f, "prompt_ids", &c->t, NULL);
    c->reference = golden_copy(&f, "logits_f32ref", &c->t, &c->vocab);
    c->own = golden_copy(&f, "logits", &c->t, &c->vocab);
    golden_close(&f);
    snprintf(file, sizeof file, "golden/%s.json", variant);
    c->json = golden_json(golden_path("golden/checkpoints/%s/%s", family, file));
}

static inline void case_close(golden_case *c) {
    free(c->ids);
    free(c->reference);
    free(c->own);
    json_decref(c->json);
}

static inline lm_engine *engine_open(const golden_case *c, const lm_engine_options *options) {
    lm_engine *e;
    lm_error err = {LM_OK, ""};
    if (lm_engine_open(c->folder, options, &e, &err)) fail_msg("%s", err.message);
    return e;
}

/* Feeds all ids in pieces of `chunk` (0: at once) and returns the logits of every position. */
static inline void logits_of(lm_engine *e, const golden_case *c, int64_t chunk, float *out) {
    lm_error err = {LM_OK, ""};
    lm_seq *s;
    assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &s, &err), LM_OK);
    uint32_t *want = malloc((size_t)c->t * sizeof *want);
    assert_non_null(want);
    for (int64_t at = 0; at < c->t;) {
        int64_t n = chunk && chunk < c->t - at ? chunk : c->t - at;
        for (int64_t i = 0; i < n; i++) want[i] = (uint32_t)i;
        lm_row row = {.seq = s,
                      .tokens = c->ids + at,
                      .n_tokens = (size_t)n,
                      .want = want,
                      .n_want = (size_t)n,
                      .logits = out + at * c->vocab};
        if (lm_step(e, &row, 1, NULL, &err)) fail_msg("%s", err.message);
        at += n;
    }
    assert_int_equal(lm_seq_length(s), c->t);
    free(want);
    lm_seq_destroy(s);
}

static inline float *new_logits(const golden_case *c) {
    float *p = calloc((size_t)(c->t * c->vocab), sizeof *p);
    assert_non_null(p);
    return p;
}

static inline void for_each_case(void (*fn)(golden_case *c)) {
    static const char *const families[] = {"llama", "qwen3", "qwen3_hf5config", "qwen3_moe"};
    int count = 0;
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        DIR *d = opendir(golden_path("golden/checkpoints/%s/%s", families[f], "golden"));
        assert_non_null(d);
        for (struct dirent *entry; (entry = readdir(d));) {
            char variant[64];
            size_t n = strlen(entry->d_name);
            if (n < 6 || n - 5 >= sizeof variant || strcmp(entry->d_name + n - 5, ".json")) continue;
            memcpy(variant, entry->d_name, n - 5);
            variant[n - 5] = 0;
            golden_case c;
            case_open(families[f], variant, &c);
            fn(&c);
            case_close(&c);
            count++;
        }
        closedir(d);
    }
    assert_true(count >= 30);
}
#endif
