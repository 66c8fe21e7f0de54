/* SPDX-License-Identifier: MIT
 * test_checkpoint.c: folders of shards (mapped and read alike), hostile indices, cancelling, and the model cache. */
#include "format/checkpoint.h"
#include "format/hub.h"
#include "format_util.h"

#define U8(name, n, from, to) "\"" name "\":{\"dtype\":\"U8\",\"shape\":[" n "],\"data_offsets\":[" from "," to "]}"

static bool count_calls(void *user, int64_t done, int64_t total) {
    assert_true(done <= total);
    ++*(int *)user;
    return true;
}

static bool cancel(void *user, int64_t done, int64_t total) {
    (void)user, (void)done, (void)total;
    return false;
}

static void joins_shards(void **state) {
    (void)state;
    folder f = folder_make();
    folder_st(&f, "model-00001-of-00002.safetensors", "{" U8("b", "3", "0", "3") "," U8("a", "2", "3", "5") "}", 5);
    folder_st(&f, "model-00002-of-00002.safetensors", "{" U8("c", "1", "0", "1") "," U8("a", "4", "1", "5") "}  ", 5);
    folder_st(&f, "adapters.safetensors", "{" U8("x", "1", "0", "1") "}", 1);
    folder_text(
        &f, "model.safetensors.index.json",
        "{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\",\"c\":\"model-00002-of-00002.safetensors\"}}");
    uint64_t fingerprint = 0;
    for (int use_mmap = 0; use_mmap < 2; use_mmap++) {
        lm_checkpoint *c;
        lm_error e;
        int calls = 0;
        assert_int_equal(lm_checkpoint_open(f.path, use_mmap, count_calls, &calls, &c, &e), LM_OK);
        assert_true(calls > 0);
        assert_int_equal(lm_checkpoint_count(c), 3);
        assert_int_equal(lm_checkpoint_bytes(c), 8);
        const lm_tensor *a = lm_checkpoint_find(c, "a");
        assert_ptr_equal(a, lm_checkpoint_get(c, 0));
        assert_int_equal(a->file, 1); /* the later file's */
        assert_int_equal(a->shape[0], 4);
        assert_memory_equal(a->data, "\1\2\3\4", 4);
        assert_memory_equal(lm_checkpoint_find(c, "b")->data, "\0\1\2", 3);
        assert_null(lm_checkpoint_find(c, "x"));
        assert_null(lm_checkpoint_get(c, 3));
        if (use_mmap) assert_true(fingerprint == lm_checkpoint_fingerprint(c));
        fingerprint = lm_checkpoint_fingerprint(c);
        lm_checkpoint_close(c);
        assert_int_equal(lm_checkpoint_open(f.path, use_mmap, cancel, NULL, &c, &e), LM_CANCELLED);
        assert_line(&e, LM_CANCELLED, "loading was cancelled");
        assert_null(c);
    }
    remove_tree(f.path);
}

/* 70 MiB: three pieces for the readers, compared with the mapping. */
static void reads_in_pieces(void **state) {
    (void)state;
    folder f = folder_make();
    size_t n = (size_t)70 << 20, length;
    uint8_t *p = st_bytes("{\"a\":{\"dtype\":\"U8\",\"shape\":[73400320],\"data_offsets\":[0,73400320]}}", n, &length);
    for (size_t i = 0; i < n; i += 4096) p[length - n + i] = (uint8_t)(i >> 12 ^ i >> 20);
    folder_write(&f, "model.safetensors", p, length);
    lm_checkpoint *mapped, *read;
    lm_error e;
    int calls = 0;
    assert_int_equal(lm_checkpoint_open(f.path, true, NULL, NULL, &mapped, &e), LM_OK);
    assert_int_equal(lm_checkpoint_open(f.path, false, count_calls, &calls, &read, &e), LM_OK);
    assert_true(calls >= 1);
    assert_memory_equal(lm_checkpoint_find(mapped, "a")->data, p + length - n, n);
    assert_memory_equal(lm_checkpoint_find(read, "a")->data, p + length - n, n);
    lm_checkpoint_close(mapped);
    lm_checkpoint_close(read);
    free(p);
    remove_tree(f.path);
}

static void refuses_bad_folders(void **state) {
    (void)state;
    static const struct {
        const char *index, *message; /* after the folder's name */
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"../model.safetensors\"}}",
         "weight_map: a: expected a plain file name of this folder, found '../model.safetensors'"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}",
         "weight_map: a: expected a plain file name of this folder, found '/etc/passwd'"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "weight_map: a: expected a plain file name of this folder, found '..'"},
        {"{\"weight_map\":{\"a\":\"\"}}", "weight_map: a: expected a file name"},
        {"{\"weight_map\":{\"a\":\"m\\u0000x\"}}", "weight_map: a: expected a file name"},
        {"{\"weight_map\":{\"a\":7}}", "weight_map: a: expected a file name"},
        {"{\"weight_map\":[]}", "weight_map: expected an object"},
        {"{}", "weight_map: expected an object"},
        {"[]", "weight_map: expected an object"},
        {"{\"weight_map\":{\"b\":\"model-00002-of-00002.safetensors\"}}",
         "weight_map: tensor b is not in the folder's files (listed in model-00002-of-00002.safetensors)"},
        {"{\"weight_map\":", "invalid JSON at line 1 *: unexpected token near end of file"},
    };
    folder f = folder_make();
    lm_checkpoint *c;
    lm_error e;
    char message[1024];
    folder_st(&f, "model.safetensors", "{" U8("a", "1", "0", "1") "}", 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int use_mmap = 0; use_mmap < 2; use_mmap++) {
            folder_text(&f, "model.safetensors.index.json", cases[i].index);
            snprintf(message, sizeof message, "%s/model.safetensors.index.json: %s", f.path, cases[i].message);
            assert_int_equal(lm_checkpoint_open(f.path, use_mmap, NULL, NULL, &c, &e), LM_FORMAT);
            assert_line(&e, LM_FORMAT, message);
            assert_null(c);
        }
    unlink(folder_path(&f, "model.safetensors.index.json"));
    for (int use_mmap = 0; use_mmap < 2; use_mmap++) {
        folder_st(&f, "model.safetensors", "{" U8("a", "2", "0", "2") "}", 1);
        snprintf(message, sizeof message,
                 "%s/model.safetensors: a: data_offsets: end 2 is outside the file's 1 bytes of data (truncated?)",
                 f.path);
        assert_int_equal(lm_checkpoint_open(f.path, use_mmap, NULL, NULL, &c, &e), LM_FORMAT);
        assert_line(&e, LM_FORMAT, message);
        for (int n = 0; n < 12; n++) { /* cut inside the length and the header */
            folder_write(&f, "model.safetensors", "\x20\0\0\0\0\0\0\0{\"a\"", (size_t)n);
            assert_int_equal(lm_checkpoint_open(f.path, use_mmap, NULL, NULL, &c, &e), LM_FORMAT);
        }
        unlink(folder_path(&f, "model.safetensors"));
        snprintf(message, sizeof message, "No safetensors found in %s", f.path);
        assert_int_equal(lm_checkpoint_open(f.path, use_mmap, NULL, NULL, &c, &e), LM_IO);
        assert_line(&e, LM_IO, message);
        assert_int_equal(mkdir(folder_path(&f, "model.safetensors"), 0777), 0);
        snprintf(message, sizeof message, "%s/model.safetensors: not a regular file", f.path);
        assert_int_equal(lm_checkpoint_open(f.path, use_mmap, NULL, NULL, &c, &e), LM_IO);
        assert_line(&e, LM_IO, message);
        rmdir(folder_path(&f, "model.safetensors"));
    }
    assert_int_equal(lm_checkpoint_open("/nonexistent", true, NULL, NULL, &c, &e), LM_IO);
    assert_line(&e, LM_IO, "/nonexistent: No such file or directory");
    remove_tree(f.path);
}

static void opens_goldens(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t tensors;
        int64_t bytes;
    } cases[] = {
        {"qwen3/4bit-g64-2shards", 104, 316160}, {"qwen3/3bit-g64", 104, 246528}, {"qwen3_moe/hf", 69, 1250816}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[512];
        lm_checkpoint *c;
        lm_error e = {0};
        snprintf(path, sizeof path, "%s/golden/checkpoints/%s", test_data(), cases[i].name);
        if (access(path, R_OK)) {
            printf("skipped: %s is not here\n", path);
            continue;
        }
        for (int use_mmap = 0; use_mmap < 2; use_mmap++) {
            assert_int_equal(lm_checkpoint_open(path, use_mmap, NULL, NULL, &c, &e), LM_OK);
            assert_int_equal(lm_checkpoint_count(c), cases[i].tensors);
            assert_int_equal(lm_checkpoint_bytes(c), cases[i].bytes);
            lm_checkpoint_close(c);
        }
    }
}

/* ---------------------------------------------------------------- the cache of models */

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static void clear_environment(void) {
    unsetenv("HF_HUB_CACHE");
    unsetenv("HUGGINGFACE_HUB_CACHE");
    unsetenv("HF_HOME");
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", "/home/x", 1);
}

static void assert_root(const char *expected) {
    char *root = lm_hub_root();
    assert_string_equal(root, expected);
    free(root);
}

static void follows_the_environment(void **state) {
    (void)state;
    clear_environment();
    assert_root("/home/x/.cache/huggingface/hub");
    setenv("XDG_CACHE_HOME", "/xdg", 1);
    assert_root("/xdg/huggingface/hub");
    setenv("HF_HOME", "~/hf", 1);
    assert_root("/home/x/hf/hub");
    setenv("HUGGINGFACE_HUB_CACHE", "/old", 1);
    assert_root("/old");
    setenv("HF_HUB_CACHE", "/new", 1);
    assert_root("/new");
    setenv("HF_HUB_CACHE", "", 1); /* empty counts as unset */
    assert_root("/old");
    clear_environment();
}

static void checks_ids(void **state) {
    (void)state;
    static const char *const good[] = {"gpt2", "mlx-community/Qwen3-0.6B-4bit", "a/b_c.d"};
    static const char *const bad[] = {"",     "a/b/c", "/a",   "a/",  "a--b", "a..b",
                                      "../a", "-a",    "a/.b", "a b", "a\nb", "a/b\\c"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(lm_hub_valid_id(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(lm_hub_valid_id(bad[i]));
    char *path;
    lm_error e;
    assert_int_equal(lm_model_resolve("/no/such\nfolder", &path, &e), LM_ARG);
    assert_line(&e, LM_ARG, "'/no/such?folder' is neither an existing path nor a repo id (name or org/name)");
    assert_int_equal(lm_model_resolve("", &path, &e), LM_ARG);
}

static void finds_snapshots(void **state) {
    (void)state;
    folder f = folder_make();
    char *path, message[1024], repo[256], other[512];
    lm_error e;
    clear_environment();
    setenv("HF_HUB_CACHE", f.path, 1);
    snprintf(repo, sizeof repo, "%s/models--org--name", f.path);
    assert_int_equal(lm_model_resolve("org/name", &path, &e), LM_IO);
    snprintf(
        message, sizeof message,
        "org/name: neither a path nor a model in the local cache: %s/refs/main is not there, and downloading is not "
        "built in",
        repo);
    assert_line(&e, LM_IO, message);
    static const char *const parts[] = {"", "/refs", "/snapshots"};
    for (int i = 0; i < 3; i++) {
        snprintf(other, sizeof other, "%s%s", repo, parts[i]);
        assert_int_equal(mkdir(other, 0777), 0);
    }
    folder_text(&f, "models--org--name/refs/main", "../../../etc");
    assert_int_equal(lm_model_resolve("org/name", &path, &e), LM_FORMAT);
    folder_text(&f, "models--org--name/refs/main", COMMIT "\n");
    assert_int_equal(lm_model_resolve("org/name", &path, &e), LM_IO);
    snprintf(other, sizeof other, "%s/snapshots/" COMMIT, repo);
    snprintf(message, sizeof message, "org/name: the local cache has no snapshot %s, and downloading is not built in",
             other);
    assert_line(&e, LM_IO, message);
    assert_int_equal(mkdir(other, 0777), 0);
    assert_int_equal(lm_model_resolve("org/name", &path, &e), LM_OK);
    assert_string_equal(path, other);
    lm_free(path);
    assert_int_equal(lm_hub_find("org/name", COMMIT, &path, &e), LM_OK);
    lm_free(path);
    assert_int_equal(lm_hub_find("org/name", "../x", &path, &e), LM_ARG);
    folder_write(&f, "model.gguf", "GGUF\3\0\0\0", 8);
    assert_int_equal(lm_model_resolve(folder_path(&f, "model.gguf"), &path, &e), LM_IO);
    assert_non_null(strstr(e.message, "found a GGUF file: convert it first"));
    assert_int_equal(lm_model_resolve(f.path, &path, &e), LM_OK); /* a path as it is */
    assert_string_equal(path, f.path);
    lm_free(path);
    remove_tree(f.path);
    clear_environment();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joins_shards),
        cmocka_unit_test(reads_in_pieces),
        cmocka_unit_test(refuses_bad_folders),
        cmocka_unit_test(opens_goldens),
        cmocka_unit_test(follows_the_environment),
        cmocka_unit_test(checks_ids),
        cmocka_unit_test(finds_snapshots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
