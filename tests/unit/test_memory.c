/* SPDX-License-Identifier: MIT
 * test_memory.c: under --max-memory the engine gets what the rest of the process leaves: less when that grows, more
 * when it lets go. */
#include "base/fs.h"
#include "engine/engine.h"
#include "unit/format_util.h"
#include <sys/mman.h>

#define MB ((int64_t)1 << 20)

static void follows(void **state) {
    (void)state;
    lm_rest r = {0};
    lm_rest_follow(&r, 50 * MB, 10 * MB, 0, 0); /* opened, nothing of the engine's is resident */
    assert_int_equal(r.bytes, 60 * MB);
    lm_rest_follow(&r, 90 * MB, 10 * MB, 100 * MB, 0); /* 40 MB of the engine's 100 came */
    assert_int_equal(r.bytes, 60 * MB);
    lm_rest_follow(&r, 150 * MB, 10 * MB, 100 * MB, 0); /* all came */
    assert_int_equal(r.bytes, 60 * MB);
    lm_rest_follow(&r, 180 * MB, 10 * MB, 100 * MB, 0); /* the rest grew by 30 */
    assert_int_equal(r.bytes, 90 * MB);
    lm_rest_follow(&r, 130 * MB, 10 * MB, 50 * MB, 50 * MB); /* the engine let 50 go */
    assert_int_equal(r.bytes, 90 * MB);
    lm_rest_follow(&r, 105 * MB, 10 * MB, 50 * MB, 50 * MB); /* the rest 25 */
    assert_int_equal(r.bytes, 65 * MB);
    lm_rest_follow(&r, 70 * MB, 10 * MB, 40 * MB, 60 * MB); /* both: 10 and 25 */
    assert_int_equal(r.bytes, 40 * MB);
    lm_rest_follow(&r, 70 * MB, 0, 40 * MB, 60 * MB); /* pages of a file went: they may be the weights' */
    assert_int_equal(r.bytes, 40 * MB);
    lm_rest_follow(&r, 0, 0, 0, 60 * MB);
    assert_int_equal(r.bytes, 0);
}

static int64_t limit_after_step(lm_engine *engine) {
    lm_error err;
    lm_seq *seq;
    lm_memory_stats m;
    static const int32_t tokens[] = {1, 2, 3};
    assert_int_equal(lm_seq_create(engine, LM_KV_AUTO, &seq, &err), LM_OK);
    lm_row row = {.seq = seq, .tokens = tokens, .n_tokens = 3};
    assert_int_equal(lm_step(engine, &row, 1, NULL, &err), LM_OK);
    lm_seq_destroy(seq);
    lm_engine_get_memory(engine, &m);
    return m.limit;
}

static void limit_follows(void **state) {
    (void)state;
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    char path[512];
    snprintf(path, sizeof path, "%s/golden/checkpoints/qwen3/4bit-g64", test_data());
    if (!lm_fs_exists(path)) {
        print_message("skipped: %s is not here\n", path);
        return;
    }
    lm_engine_options o = lm_engine_options_default();
    lm_engine *engine;
    lm_error err;
    o.max_memory = 1024 * MB;
    assert_int_equal(lm_engine_open(path, &o, &engine, &err), LM_OK);
    const int64_t before = limit_after_step(engine), bytes = 200 * MB;
    char *p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    assert_true(p != MAP_FAILED);
    memset(p, 1, (size_t)bytes);
    const int64_t during = limit_after_step(engine);
    munmap(p, (size_t)bytes);
    const int64_t after = limit_after_step(engine);
    print_message("limit %lld MB, beside 200 MB %lld, then %lld\n", (long long)(before / MB), (long long)(during / MB),
                  (long long)(after / MB));
    /* what the engine reserves and never touches counts as its own: at most its workspace of 88 MB and logits */
    assert_true(during < before - 80 * MB && during > before - bytes - 10 * MB);
    assert_true(after > during + 80 * MB && after <= before + 10 * MB);
    lm_engine_close(engine);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(follows), cmocka_unit_test(limit_follows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
