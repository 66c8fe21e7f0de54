/* SPDX-License-Identifier: MIT
 * test_checkpoints.c: logits and greedy tokens of every golden checkpoint against mlx-lm's float32 reference, and equal
 * bits however a run is cut: chunks, threads, mapped or read, alone or in a batch, forked or not. */
#include "golden_case.h"
#include <unistd.h>

/* Greedy tokens equal the reference's up to the first step whose gap is below `error`. */
static void check_greedy(lm_engine *e, const golden_case *c, double error) {
    static const uint32_t first = 0;
    lm_error err = {LM_OK, ""};
    json_t *greedy = json_object_get(c->json, "greedy_f32ref");
    json_t *tokens = json_object_get(greedy, "tokens"), *gaps = json_object_get(greedy, "top1_minus_top2");
    size_t n = json_array_size(tokens);
    lm_seq *s;
    lm_sampler sampler = lm_sampler_greedy();
    int32_t out[64], id;
    assert_true(n > 0 && n <= 64);
    assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &s, &err), LM_OK);
    uint32_t last = (uint32_t)c->t - 1;
    lm_row row = {.seq = s,
                  .tokens = c->ids,
                  .n_tokens = (size_t)c->t,
                  .want = &last,
                  .n_want = 1,
                  .sampler = &sampler,
                  .sampled = &id};
    (void)first;
    if (lm_step(e, &row, 1, NULL, &err)) fail_msg("%s", err.message);
    out[0] = id;
    lm_decode_row d = {.seq = s, .token = id, .sampler = &sampler, .out = out + 1};
    if (lm_decode(e, &d, 1, n - 1, NULL, 0, NULL, &err)) fail_msg("%s", err.message);
    assert_int_equal(d.n_out, n - 1);
    for (size_t i = 0; i < n; i++) {
        if (json_number_value(json_array_get(gaps, i)) < error) break;
        if (out[i] != json_integer_value(json_array_get(tokens, i)))
            fail_msg("%s/%s: greedy token %zu: expected %lld, found %d", c->family, c->variant, i,
                     (long long)json_integer_value(json_array_get(tokens, i)), out[i]);
    }
    lm_seq_destroy(s);
}

static void check_f32(const golden_case *c, float *logits) {
    lm_engine_options o = lm_engine_options_default();
    o.numerics = LM_NUMERICS_F32;
    lm_engine *e = engine_open(c, &o);
    logits_of(e, c, 0, logits);
    double worst = golden_max_abs(logits, c->reference, c->t * c->vocab);
    printf("%-18s %-22s f32: max abs %.2g", c->family, c->variant, worst);
    assert_true(worst < 1e-3);
    check_greedy(e, c, 2e-3);
    lm_engine_close(e);
}

/* The default class: mean and median KL below 0.4 (quantized) or 1 (bf16, f16) times mlx-lm's own. */
static void check_default(const golden_case *c, float *logits) {
    lm_engine_options o = lm_engine_options_default();
    lm_engine *e = engine_open(c, &o);
    lm_engine_info info;
    lm_engine_get_info(e, &info);
    logits_of(e, c, 0, logits);
    double mean = 0, mean_own = 0, *kl = malloc((size_t)c->t * sizeof *kl), *own = malloc((size_t)c->t * sizeof *own);
    assert_true(kl && own);
    for (int64_t i = 0; i < c->t; i++) {
        kl[i] = golden_kl(c->reference + i * c->vocab, logits + i * c->vocab, c->vocab);
        own[i] = golden_kl(c->reference + i * c->vocab, c->own + i * c->vocab, c->vocab);
        mean += kl[i] / (double)c->t;
        mean_own += own[i] / (double)c->t;
    }
    double median = golden_median(kl, c->t), median_own = golden_median(own, c->t);
    const bool dense = !strcmp(info.precision, "bf16") || !strcmp(info.precision, "f16");
    double allowed = dense ? 1.0 : 0.4;
    double worst = golden_max_abs(logits, c->reference, c->t * c->vocab);
    printf("   %s, %s: max abs %.2g, KL mean %.2g (mlx-lm %.2g), median %.2g (%.2g)\n", info.precision, info.numerics,
           worst, mean, mean_own, median, median_own);
    assert_true(mean <= allowed * mean_own);
    assert_true(median <= allowed * median_own);
    check_greedy(e, c, 2 * worst);
    free(kl);
    free(own);
    lm_engine_close(e);
}

static void against_reference(golden_case *c) {
    float *logits = new_logits(c);
    check_f32(c, logits);
    check_default(c, logits);
    free(logits);
}

static void test_logits(void **state) {
    (void)state;
    for_each_case(against_reference);
}

/* ---------------------------------------------------------------- equal bits */

static void same_bits(const golden_case *c, const char *what, const float *a, const float *b) {
    if (memcmp(a, b, (size_t)(c->t * c->vocab) * sizeof *a))
        fail_msg("%s/%s: %s: bits differ (max abs %g)", c->family, c->variant, what,
                 golden_max_abs(a, b, c->t * c->vocab));
}

/* The sequence among four others of other lengths, decode and prefill rows mixed. */
static void logits_in_batch(lm_engine *e, const golden_case *c, float *out) {
    lm_error err = {LM_OK, ""};
    lm_seq *s[5];
    lm_row rows[5];
    uint32_t *want = malloc((size_t)c->t * sizeof *want);
    assert_non_null(want);
    for (int i = 0; i < 5; i++) assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &s[i], &err), LM_OK);
    for (int64_t at = 0; at < c->t; at += 9) {
        int64_t n = c->t - at < 9 ? c->t - at : 9;
        for (int64_t i = 0; i < n; i++) want[i] = (uint32_t)i;
        for (int i = 0; i < 5; i++) {
            int64_t from = (at * 3 + i * 7) % (c->t - 8), count = i % 2 ? 1 : 3 + i;
            rows[i] = (lm_row){.seq = s[i], .tokens = c->ids + from, .n_tokens = (size_t)count};
        }
        rows[2] = (lm_row){.seq = s[2],
                           .tokens = c->ids + at,
                           .n_tokens = (size_t)n,
                           .want = want,
                           .n_want = (size_t)n,
                           .logits = out + at * c->vocab};
        if (lm_step(e, rows, 5, NULL, &err)) fail_msg("%s", err.message);
    }
    for (int i = 0; i < 5; i++) lm_seq_destroy(s[i]);
    free(want);
}

/* Half of the ids in one sequence, the rest in a fork of it; the fork's parent goes another way first. */
static void logits_by_fork(lm_engine *e, const golden_case *c, const float *expected, float *out) {
    lm_error err = {LM_OK, ""};
    lm_seq *parent, *child;
    int64_t half = c->t / 2, n = c->t - half;
    uint32_t *want = malloc((size_t)c->t * sizeof *want);
    assert_non_null(want);
    for (int64_t i = 0; i < c->t; i++) want[i] = (uint32_t)i;
    assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &parent, &err), LM_OK);
    lm_row a = {.seq = parent, .tokens = c->ids, .n_tokens = (size_t)half};
    assert_int_equal(lm_step(e, &a, 1, NULL, &err), LM_OK);
    assert_int_equal(lm_seq_fork(parent, half, &child, &err), LM_OK);
    lm_row other = {.seq = parent, .tokens = c->ids, .n_tokens = (size_t)half};
    assert_int_equal(lm_step(e, &other, 1, NULL, &err), LM_OK);
    lm_row b = {
        .seq = child, .tokens = c->ids + half, .n_tokens = (size_t)n, .want = want, .n_want = (size_t)n, .logits = out};
    assert_int_equal(lm_step(e, &b, 1, NULL, &err), LM_OK);
    assert_memory_equal(out, expected + half * c->vocab, (size_t)(n * c->vocab) * sizeof *out);
    /* and once more after trimming the child back */
    assert_int_equal(lm_seq_trim(child, half, &err), LM_OK);
    b.logits = out;
    assert_int_equal(lm_step(e, &b, 1, NULL, &err), LM_OK);
    assert_memory_equal(out, expected + half * c->vocab, (size_t)(n * c->vocab) * sizeof *out);
    lm_seq_destroy(child);
    lm_seq_destroy(parent);
    free(want);
}

static void invariant_bits(golden_case *c) {
    float *base = new_logits(c), *other = new_logits(c);
    lm_engine_options o = lm_engine_options_default();
    o.batch_invariant = true;
    o.threads = 1;
    lm_engine *e = engine_open(c, &o);
    logits_of(e, c, 0, base);
    logits_of(e, c, 1, other);
    same_bits(c, "token by token", base, other);
    logits_of(e, c, 7, other);
    same_bits(c, "chunks of 7", base, other);
    logits_in_batch(e, c, other);
    same_bits(c, "in a batch of 5", base, other);
    logits_by_fork(e, c, base, other);
    lm_engine_close(e);
    o.threads = 2;
    e = engine_open(c, &o);
    logits_of(e, c, 0, other);
    same_bits(c, "2 threads", base, other);
    logits_in_batch(e, c, other);
    same_bits(c, "2 threads in a batch", base, other);
    lm_engine_close(e);
    o.use_mmap = false;
    o.max_step_rows = 16;
    e = engine_open(c, &o);
    logits_of(e, c, 0, other);
    same_bits(c, "read, slices of 16", base, other);
    lm_engine_close(e);
    free(base);
    free(other);
}

static void test_invariant_bits(void **state) {
    (void)state;
    for_each_case(invariant_bits);
}

/* Without --batch-invariant: threads and load mode still change nothing; chunks only within rounding. */
static void default_bits(golden_case *c) {
    float *base = new_logits(c), *other = new_logits(c);
    lm_engine_options o = lm_engine_options_default();
    o.threads = 1;
    lm_engine *e = engine_open(c, &o);
    logits_of(e, c, 1, base);
    lm_engine_close(e);
    o.threads = 2;
    o.use_mmap = false;
    e = engine_open(c, &o);
    logits_of(e, c, 1, other);
    same_bits(c, "2 threads, read", base, other);
    lm_engine_close(e);
    o.numerics = LM_NUMERICS_F32;
    e = engine_open(c, &o);
    logits_of(e, c, 0, base);
    logits_of(e, c, 7, other);
    assert_true(golden_max_abs(base, other, c->t * c->vocab) < 1e-4);
    lm_engine_close(e);
    free(base);
    free(other);
}

static void test_default_bits(void **state) {
    (void)state;
    for_each_case(default_bits);
}

/* ---------------------------------------------------------------- sequences and refusals */

static int cancel_at_once = 1;

static void test_sequences(void **state) {
    (void)state;
    golden_case c;
    lm_error err = {LM_OK, ""};
    case_open("qwen3", "4bit-g64", &c);
    lm_engine_options o = lm_engine_options_default();
    o.batch_invariant = true;
    lm_engine *e = engine_open(&c, &o);
    float *expected = new_logits(&c), *row = new_logits(&c);
    logits_of(e, &c, 0, expected);
    lm_seq *s, *loaded;
    char path[] = "/tmp/lm-seq-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &s, &err), LM_OK);
    lm_row r = {.seq = s, .tokens = c.ids, .n_tokens = (size_t)c.t - 1};
    assert_int_equal(lm_step(e, &r, 1, &cancel_at_once, &err), LM_CANCELLED);
    assert_int_equal(lm_seq_length(s), 0);
    assert_int_equal(lm_step(e, &r, 1, NULL, &err), LM_OK);
    int32_t bad = (int32_t)c.vocab;
    lm_row wrong = {.seq = s, .tokens = &bad, .n_tokens = 1};
    assert_int_equal(lm_step(e, &wrong, 1, NULL, &err), LM_ARG);
    lm_row twice[2] = {r, r};
    assert_int_equal(lm_step(e, twice, 2, NULL, &err), LM_ARG);
    assert_int_equal(lm_seq_length(s), c.t - 1);
    if (lm_seq_save(s, path, &err)) fail_msg("%s", err.message);
    if (lm_seq_load(e, path, &loaded, &err)) fail_msg("%s", err.message);
    assert_int_equal(lm_seq_length(loaded), c.t - 1);
    assert_memory_equal(lm_seq_tokens(loaded), c.ids, (size_t)(c.t - 1) * sizeof *c.ids);
    uint32_t zero = 0;
    float logprob;
    lm_row last = {.seq = loaded,
                   .tokens = c.ids + c.t - 1,
                   .n_tokens = 1,
                   .want = &zero,
                   .n_want = 1,
                   .logits = row,
                   .targets = c.ids,
                   .target_logprob = &logprob};
    assert_int_equal(lm_step(e, &last, 1, NULL, &err), LM_OK);
    assert_memory_equal(row, expected + (c.t - 1) * c.vocab, (size_t)c.vocab * sizeof *row);
    assert_true(logprob < 0 && logprob > -100);
    remove(path);
    lm_seq_destroy(loaded);
    lm_seq_destroy(s);
    lm_memory_stats m;
    lm_engine_get_memory(e, &m);
    assert_true(m.peak >= m.total && m.weights > 0);
    lm_engine_close(e);
    /* a memory limit that holds the weights but no keys and values */
    o.max_memory = m.weights + m.scratch + 1000;
    e = engine_open(&c, &o);
    assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &s, &err), LM_OK);
    r.seq = s;
    assert_int_equal(lm_step(e, &r, 1, NULL, &err), LM_NOMEM);
    assert_int_equal(lm_seq_length(s), 0);
    lm_seq_destroy(s);
    lm_engine_close(e);
    free(expected);
    free(row);
    case_close(&c);
}

/* qwen3/mxfp4 with `entry` for one path in its config. The error's text goes to err. */
static lm_status open_with_entry(const char *path, json_t *entry, lm_error *err) {
    char folder[] = "/tmp/lm-entry-XXXXXX", to[1100];
    assert_non_null(mkdtemp(folder));
    const char *from = golden_path("golden/checkpoints/%s/%s", "qwen3", "mxfp4");
    static const char *const files[] = {"model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    for (size_t i = 0; i < 3; i++) {
        char target[1200];
        snprintf(target, sizeof target, "%s/%s", from, files[i]);
        snprintf(to, sizeof to, "%s/%s", folder, files[i]);
        assert_int_equal(symlink(target, to), 0);
    }
    json_t *config = golden_json(golden_path("golden/checkpoints/%s/%s", "qwen3/mxfp4", "config.json"));
    json_object_set(json_object_get(config, "quantization"), path, entry);
    snprintf(to, sizeof to, "%s/config.json", folder);
    assert_int_equal(json_dump_file(config, to, 0), 0);
    lm_engine *e = NULL;
    lm_status s = lm_engine_open(folder, NULL, &e, err);
    lm_engine_close(e);
    remove(to);
    for (size_t i = 0; i < 3; i++) {
        snprintf(to, sizeof to, "%s/%s", folder, files[i]);
        remove(to);
    }
    remove(folder);
    json_decref(config);
    return s;
}

/* Entries that repeat what the file holds open; entries that contradict it are refused by name. */
static void test_entries(void **state) {
    (void)state;
    static const struct {
        const char *entry, *expected; /* NULL: opens */
    } cases[] = {
        {"{\"group_size\": 32, \"bits\": 4, \"mode\": \"mxfp4\"}", NULL},
        {"{\"group_size\": null, \"bits\": null, \"mode\": \"mxfp4\"}", NULL},
        {"{\"mode\": \"mxfp4\"}", NULL},
        {"true", NULL},
        {"{\"group_size\": 32, \"bits\": 4}", "down_proj.scales: expected F16, BF16 or F32"},
        {"{\"group_size\": 16, \"bits\": 4, \"mode\": \"nvfp4\"}", "down_proj: expected 4 bits in groups of 16"},
        {"{\"group_size\": 32, \"bits\": 8, \"mode\": \"mxfp8\"}", "down_proj: expected 8 bits in groups of 32"},
        {"false", "down_proj: config says not quantized"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lm_error err = {LM_OK, ""};
        json_t *entry = json_loads(cases[i].entry, JSON_DECODE_ANY, NULL);
        assert_non_null(entry);
        lm_status s = open_with_entry("model.layers.0.mlp.down_proj", entry, &err);
        json_decref(entry);
        if (!cases[i].expected && s) fail_msg("%s: %s", cases[i].entry, err.message);
        if (cases[i].expected && (!s || !strstr(err.message, cases[i].expected)))
            fail_msg("%s: expected '%s', found '%s'", cases[i].entry, cases[i].expected, err.message);
        assert_null(strchr(err.message, '\n'));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_logits), cmocka_unit_test(test_invariant_bits),
                                       cmocka_unit_test(test_default_bits), cmocka_unit_test(test_sequences),
                                       cmocka_unit_test(test_entries)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
