/* SPDX-License-Identifier: MIT
 * test_kvq.c: quantized keys and values. Stored bytes against mx.quantize (golden/quantization); logits against mlx-lm
 * in float32 with a quantized cache (golden/kvq, tools/make_kvq_golden.py); the same bits for any number of threads
 * and, under batch_invariant, for any cut of a prompt; conversion, forks and errors. */
#include "golden_case.h"
#include "kernels/kvq.h"
#include "kernels/unpack.h"

/* ---------------------------------------------------------------- bytes */

static void same(const golden_file *f, const char *name, const void *got) {
    const lm_st_tensor *t = lm_st_find(&f->header, name);
    if (!t) fail_msg("no tensor %s", name);
    assert_memory_equal(got, f->map.data + f->header.data_offset + t->begin, (size_t)(t->end - t->begin));
}

/* Rows of the golden input are positions' keys; the values are the same rows, stored in other runs. */
static void store_and_compare(const float *w, int64_t n, int64_t k, lm_kvq q, lm_dtype type, const golden_file *f) {
    const int32_t d = (int32_t)k;
    const size_t elements = (size_t)(n * k);
    void *head = malloc(lm_kvq_head_bytes(q, d, type)), *scratch = malloc(lm_kvq_scratch_bytes(d));
    uint8_t *packed = malloc(elements), *scales = malloc(elements), *biases = malloc(elements);
    assert_true(head && scratch && packed && scales && biases && n <= LM_KV_BLOCK);
    memset(head, 0xff, lm_kvq_head_bytes(q, d, type));
    for (int32_t pos = 0, step = 1; pos < n; pos += step, step = step % 7 + 1) {
        if (step > n - pos) step = (int32_t)n - pos;
        lm_kvq_store(q, type, head, w + pos * k, w + pos * k, k, d, pos, step, scratch);
    }
    for (int half = 0; half < 2; half++) {
        lm_kvq_read(q, type, head, half, d, 0, (int32_t)n, packed, scales, biases);
        same(f, "packed", packed), same(f, "scales", scales), same(f, "biases", biases);
    }
    free(head), free(scratch), free(packed), free(scales), free(biases);
}

static void test_bytes(void **state) {
    static const char *const names[] = {"f32", "f16", "bf16"};
    static const lm_dtype types[] = {LM_DTYPE_F32, LM_DTYPE_F16, LM_DTYPE_BF16};
    static const int bits[] = {2, 3, 4, 5, 6, 8}, groups[] = {32, 64, 128};
    (void)state;
    for (size_t t = 0; t < 3; t++) {
        golden_file input, f;
        golden_open(golden_path("golden/quantization/input_%s.safetensors%s", names[t], ""), &input);
        int64_t n, k;
        uint8_t *raw = golden_copy(&input, "w", &n, &k);
        float *w = malloc((size_t)(n * k) * sizeof *w);
        assert_non_null(w);
        for (int64_t i = 0; i < n * k; i++) w[i] = lm_unpack_scale(raw, types[t], i);
        for (size_t b = 0; b < 6; b++)
            for (size_t g = 0; g < 3; g++) {
                char name[64];
                snprintf(name, sizeof name, "affine_b%d_g%d_%s", bits[b], groups[g], names[t]);
                golden_open(golden_path("golden/quantization/%s.safetensors%s", name, ""), &f);
                store_and_compare(w, n, k, (lm_kvq){bits[b], groups[g]}, types[t], &f);
                golden_close(&f);
            }
        free(raw), free(w);
        golden_close(&input);
    }
}

/* ---------------------------------------------------------------- logits */

/* ids in two steps with lm_seq_quantize from 0 on (AUTO: without); logits of the second one. */
static void second_step(lm_engine *e, const int32_t *ids, int64_t t, int64_t first, lm_kv_type type, float *out) {
    lm_error err = {LM_OK, ""};
    lm_seq *s;
    uint32_t want[64];
    const int64_t n = t - first;
    assert_true(n <= 64);
    for (int64_t i = 0; i < n; i++) want[i] = (uint32_t)i;
    assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &s, &err), LM_OK);
    if (type != LM_KV_AUTO && lm_seq_quantize(s, type, 0, &err)) fail_msg("%s", err.message);
    lm_row row = {.seq = s, .tokens = ids, .n_tokens = (size_t)first};
    if (lm_step(e, &row, 1, NULL, &err)) fail_msg("%s", err.message);
    row = (lm_row){
        .seq = s, .tokens = ids + first, .n_tokens = (size_t)n, .want = want, .n_want = (size_t)n, .logits = out};
    if (lm_step(e, &row, 1, NULL, &err)) fail_msg("%s", err.message);
    assert_int_equal(lm_seq_length(s), t);
    lm_seq_destroy(s);
}

static void test_tiny(void **state) {
    static const struct {
        const char *family;
        int bits;
    } cases[] = {{"llama", 8}, {"qwen3", 8}, {"qwen3", 4}};
    golden_file f;
    (void)state;
    golden_open(golden_path("golden/kvq/%s%s", "kvq.safetensors", ""), &f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int exact = 0; exact < 2; exact++) {
            golden_case c;
            char name[32];
            int64_t rows, vocab;
            case_open(cases[i].family, "bf16", &c);
            snprintf(name, sizeof name, "%s.%d", cases[i].family, cases[i].bits);
            float *want = golden_copy(&f, name, &rows, &vocab);
            lm_engine_options o = lm_engine_options_default();
            o.numerics = exact ? LM_NUMERICS_F32 : LM_NUMERICS_AUTO;
            lm_engine *e = engine_open(&c, &o);
            float *got = calloc((size_t)(rows * vocab), sizeof *got);
            assert_non_null(got);
            second_step(e, c.ids, c.t, c.t - rows, LM_KV_AFFINE(cases[i].bits, 32), got);
            double worst = 0, kl = 0, plain = 0, own = 0;
            for (int64_t j = 0; j < rows * vocab; j++) worst = fmax(worst, fabs((double)got[j] - (double)want[j]));
            for (int64_t j = 0; j < rows; j++) {
                kl += golden_kl(want + j * vocab, got + j * vocab, vocab) / (double)rows;
                const int64_t at = (c.t - rows + j) * vocab;
                plain += golden_kl(c.reference + at, want + j * vocab, vocab) / (double)rows;
                own += golden_kl(c.reference + at, c.own + at, vocab) / (double)rows;
            }
            printf("%s (%s): max abs %.3g, KL %.3g; quantizing itself: KL %.3g\n", name, exact ? "f32" : "auto", worst,
                   kl, plain);
            /* In float32 a code differs only where it was about to round the other way; in the checkpoint's type all
             * may: no further than quantizing and mlx-lm's own run in that type move logits. */
            assert_true(kl < (exact ? plain / 100 : plain + own));
            free(got), free(want);
            lm_engine_close(e);
            case_close(&c);
        }
    golden_close(&f);
}

/* ---------------------------------------------------------------- SmolLM2 */

static const char *model_folder(void) {
    const char *folder = getenv("LM_TEST_SMOLLM2");
    char path[1200];
    if (!folder || !*folder) return NULL;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    return lm_fs_exists(path) ? folder : NULL;
}

static lm_engine *open_smollm2(const lm_engine_options *o) {
    lm_engine *e;
    lm_error err = {LM_OK, ""};
    if (!model_folder()) {
        printf("skipped: LM_TEST_SMOLLM2 does not name a converted SmolLM2-135M-Instruct (./quickstart makes one)\n");
        skip();
    }
    if (lm_engine_open(model_folder(), o, &e, &err)) fail_msg("%s", err.message);
    return e;
}

static void test_smollm2(void **state) {
    static const int bits[] = {8, 8, 6, 4}, groups[] = {64, 32, 64, 64};
    (void)state;
    golden_file f, prompts;
    lm_engine_options o = lm_engine_options_default();
    for (int exact = 0; exact < 2; exact++) {
        o.numerics = exact ? LM_NUMERICS_F32 : LM_NUMERICS_AUTO;
        lm_engine *e = open_smollm2(&o);
        golden_open(golden_path("golden/kvq/%s%s", "kvq.safetensors", ""), &f);
        golden_open(golden_path("golden/smollm2/%s%s", "logits.safetensors", ""), &prompts);
        lm_engine_info info;
        lm_engine_get_info(e, &info);
        int64_t t, rows, k;
        int32_t *ids = golden_copy(&prompts, "prompt1.ids", &t, NULL);
        float *plain = malloc((size_t)(8 * info.vocab_size) * sizeof *plain);
        assert_non_null(plain);
        second_step(e, ids, t, t - 8, LM_KV_AUTO, plain);
        for (size_t i = 0; i < 4; i++) {
            char name[64];
            snprintf(name, sizeof name, "smollm2.%d.%d.ids", bits[i], groups[i]);
            int32_t *top = golden_copy(&f, name, &rows, &k);
            snprintf(name, sizeof name, "smollm2.%d.%d.logits", bits[i], groups[i]);
            float *want = golden_copy(&f, name, &rows, &k);
            float *got = malloc((size_t)(rows * info.vocab_size) * sizeof *got);
            assert_non_null(got);
            second_step(e, ids, t, t - rows, LM_KV_AFFINE(bits[i], groups[i]), got);
            double worst = 0, moved = 0;
            for (int64_t r = 0; r < rows; r++)
                for (int64_t j = 0; j < k; j++) {
                    const int32_t id = top[r * k + j];
                    worst = fmax(worst, fabs((double)got[r * info.vocab_size + id] - (double)want[r * k + j]));
                    moved = fmax(moved, fabs((double)plain[r * info.vocab_size + id] - (double)want[r * k + j]));
                }
            printf("SmolLM2, %d bits g%d (%s): max abs of the top 64: %.3g; quantizing itself: %.3g\n", bits[i],
                   groups[i], info.numerics, worst, moved);
            /* A code that rounds the other way moves the next layer's keys, and with them more codes, so even float32
             * runs part over 30 layers. Bound: no further apart than quantizing itself moves logits. */
            assert_true(worst < moved);
            free(got), free(want), free(top);
        }
        free(ids), free(plain);
        golden_close(&f), golden_close(&prompts);
        lm_engine_close(e);
    }
}

/* ---------------------------------------------------------------- bits */

/* 300 tokens in steps of `step`; logits of the last position. */
static void feed(lm_engine *e, const golden_case *c, int64_t step, float *out) {
    lm_error err = {LM_OK, ""};
    int32_t ids[300];
    lm_seq *s;
    for (int i = 0; i < 300; i++) ids[i] = c->ids[i % c->t];
    assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &s, &err), LM_OK);
    for (int64_t at = 0; at < 300; at += step) {
        const int64_t n = step < 300 - at ? step : 300 - at;
        const uint32_t last = (uint32_t)(n - 1);
        lm_row row = {.seq = s, .tokens = ids + at, .n_tokens = (size_t)n, .want = &last, .n_want = 1, .logits = out};
        if (lm_step(e, &row, 1, NULL, &err)) fail_msg("%s", err.message);
    }
    lm_seq_destroy(s);
}

static void test_bits(void **state) {
    static const int64_t steps[] = {1, 7, 64, 257};
    golden_case c;
    (void)state;
    case_open("llama", "bf16", &c);
    const size_t bytes = (size_t)c.vocab * sizeof(float);
    float *want = malloc(bytes), *got = malloc(bytes);
    assert_true(want && got);
    for (int bits = 4; bits <= 8; bits += 4)
        for (int threads = 1; threads <= 2; threads++) {
            lm_engine_options o = lm_engine_options_default();
            o.batch_invariant = true;
            o.threads = threads;
            o.kv_type = LM_KV_AFFINE(bits, 32);
            lm_engine *e = engine_open(&c, &o);
            feed(e, &c, 300, threads == 1 ? want : got);
            if (threads == 2) assert_memory_equal(want, got, bytes);
            for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
                feed(e, &c, steps[i], got);
                assert_memory_equal(want, got, bytes);
            }
            lm_engine_close(e);
        }
    free(want), free(got);
    case_close(&c);
}

/* ---------------------------------------------------------------- sequences */

static void step_once(lm_engine *e, lm_seq *s, const int32_t *ids, size_t n, float *logits) {
    lm_error err = {LM_OK, ""};
    const uint32_t last = (uint32_t)(n - 1);
    lm_row row = {.seq = s, .tokens = ids, .n_tokens = n, .want = &last, .n_want = 1, .logits = logits};
    if (lm_step(e, &row, 1, NULL, &err)) fail_msg("%s", err.message);
}

/* A fork taken before its time is quantized on its own; what was shared stays as it was. Memory shrinks to what was
 * planned, and all of it comes back. */
static void test_sequences(void **state) {
    golden_case c;
    lm_error err = {LM_OK, ""};
    lm_memory_stats before, m;
    (void)state;
    case_open("llama", "bf16", &c);
    lm_engine_options o = lm_engine_options_default();
    lm_engine *e = engine_open(&c, &o);
    const size_t bytes = (size_t)c.vocab * sizeof(float);
    float *a = malloc(bytes), *b = malloc(bytes), *plain = malloc(bytes);
    assert_true(a && b && plain);
    lm_seq *s, *fork;
    lm_engine_get_memory(e, &before);
    assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &s, &err), LM_OK);
    step_once(e, s, c.ids, 20, a);
    assert_int_equal(lm_seq_fork(s, 20, &fork, &err), LM_OK);
    step_once(e, s, c.ids + 20, 1, plain);
    assert_int_equal(lm_seq_trim(s, 20, &err), LM_OK);
    assert_int_equal(lm_seq_quantize(fork, LM_KV_AFFINE(8, 32), 21, &err), LM_OK);
    step_once(e, fork, c.ids + 20, 1, a); /* 20 positions: not yet */
    assert_memory_equal(a, plain, bytes);
    step_once(e, fork, c.ids + 21, 1, a);
    assert_int_equal(lm_seq_quantize(s, LM_KV_AFFINE(8, 32), 21, &err), LM_OK);
    step_once(e, s, c.ids + 20, 1, b);
    assert_memory_equal(b, plain, bytes);
    lm_engine_get_memory(e, &m);
    step_once(e, s, c.ids + 21, 1, b);
    assert_memory_equal(a, b, bytes);
    assert_int_equal(lm_seq_quantize(s, LM_KV_AFFINE(4, 32), 0, &err), LM_ARG);
    assert_int_equal(lm_seq_save(s, "/nonexistent/x.safetensors", &err), LM_UNSUPPORTED);
    const int64_t small = lm_engine_plan_kv(e, 100, LM_KV_AFFINE(8, 32)),
                  half = lm_engine_plan_kv(e, 100, LM_KV_AFFINE(4, 32));
    lm_engine_get_memory(e, &m);
    assert_true(m.kv - before.kv == 2 * small);
    assert_true(small < lm_engine_plan_kv(e, 100, LM_KV_BF16) && half < small);
    lm_seq_destroy(s);
    lm_seq_destroy(fork);
    free(a), free(b), free(plain);
    lm_engine_close(e);
    case_close(&c);
}

static void test_errors(void **state) {
    static const struct {
        int bits, group;
        const char *message;
    } cases[] = {{7, 32, "expected 2, 3, 4, 5, 6 or 8 bits, found 7"},
                 {0, 32, "expected 2, 3, 4, 5, 6 or 8 bits, found 0"},
                 {8, 16, "expected groups of 32, 64 or 128, found 16"},
                 {8, 64, "expected groups that divide head_dim 32, found 64"}};
    golden_case c;
    (void)state;
    case_open("qwen3", "bf16", &c);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lm_engine_options o = lm_engine_options_default();
        lm_error err = {LM_OK, ""};
        lm_engine *e = NULL;
        o.kv_type = LM_KV_AFFINE(cases[i].bits, cases[i].group);
        assert_int_equal(lm_engine_open(c.folder, &o, &e, &err), LM_ARG);
        if (!strstr(err.message, cases[i].message)) fail_msg("%s", err.message);
    }
    case_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bytes),     cmocka_unit_test(test_tiny),
                                       cmocka_unit_test(test_smollm2),   cmocka_unit_test(test_bits),
                                       cmocka_unit_test(test_sequences), cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
