/* SPDX-License-Identifier: MIT
 * test_fs.c: files and folders that appear under a temporary name first: permissions, names, what is left behind. */
#include "base/fs.h"
#include "format_util.h"
#include <sys/syscall.h>

/* In place of the C library's: asking for the umask changes it for every thread of the process meanwhile. */
static int umask_calls;
mode_t umask(mode_t mask) {
    umask_calls++;
    return (mode_t)syscall(SYS_umask, mask);
}

static mode_t mode_of(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 0777;
}

static void test_permissions(void **state) {
    (void)state;
    folder f = folder_make();
    lm_error err;
    lm_fs_writer *w;
    char *name;
    const mode_t before = umask(027);
    umask_calls = 0;
    assert_int_equal(lm_fs_writer_create(folder_path(&f, "a"), &w, &err), LM_OK);
    assert_int_equal(lm_fs_writer_add(w, "text", 4, &err), LM_OK);
    assert_int_equal(lm_fs_writer_commit(w, &err), LM_OK);
    assert_int_equal(lm_fs_temporary_folder(folder_path(&f, "b"), &name, &err), LM_OK);
    assert_int_equal(umask_calls, 0);
    umask(before);
    assert_int_equal(mode_of(folder_path(&f, "a")), 0640);
    assert_int_equal(mode_of(name), 0750);
    assert_int_equal(strncmp(name, folder_path(&f, "b.tmp"), strlen(f.path) + 6), 0);
    assert_int_equal(folder_count(f.path), 2);
    free(name);
    remove_tree(f.path);
}

/* Two writers of one path don't share a temporary file; the last to commit wins; one given up leaves nothing. */
static void test_two_writers(void **state) {
    (void)state;
    folder f = folder_make();
    lm_error err;
    lm_fs_writer *w[3];
    char *data;
    size_t length;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(lm_fs_writer_create(folder_path(&f, "a"), &w[i], &err), LM_OK);
        assert_int_equal(lm_fs_writer_add(w[i], i ? "second" : "first", i ? 6 : 5, &err), LM_OK);
    }
    assert_int_equal(folder_count(f.path), 3);
    assert_int_equal(lm_fs_writer_commit(w[0], &err), LM_OK);
    assert_int_equal(lm_fs_writer_commit(w[1], &err), LM_OK);
    lm_fs_writer_abandon(w[2]);
    assert_int_equal(folder_count(f.path), 1);
    assert_int_equal(lm_fs_read(folder_path(&f, "a"), 100, &data, &length, &err), LM_OK);
    assert_string_equal(data, "second");
    free(data);
    remove_tree(f.path);
}

/* What is added arrives whole and in order, however it is cut: within pieces, at their ends, across several. */
static void test_pieces(void **state) {
    (void)state;
    static const size_t parts[] = {7, LM_FS_PIECE - 7, LM_FS_PIECE, 0, 3 * LM_FS_PIECE + 5, LM_FS_PIECE, 1};
    folder f = folder_make();
    lm_error err;
    lm_fs_writer *w;
    char *data;
    size_t length, all = 0, at = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) all += parts[i];
    uint8_t *bytes = malloc(all);
    assert_non_null(bytes);
    for (size_t i = 0; i < all; i++) bytes[i] = (uint8_t)(i * 2654435761u >> 24);
    assert_int_equal(lm_fs_writer_create(folder_path(&f, "a"), &w, &err), LM_OK);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; at += parts[i++])
        assert_int_equal(lm_fs_writer_add(w, bytes + at, parts[i], &err), LM_OK);
    assert_int_equal(lm_fs_writer_commit(w, &err), LM_OK);
    assert_int_equal(lm_fs_read(folder_path(&f, "a"), all, &data, &length, &err), LM_OK);
    assert_int_equal(length, all);
    assert_memory_equal(data, bytes, all);
    free(data);
    free(bytes);
    remove_tree(f.path);
}

static void test_failures(void **state) {
    (void)state;
    folder f = folder_make();
    lm_error err;
    lm_fs_writer *w;
    char message[300], *name;
    const char *path = folder_path(&f, "none/a");
    snprintf(message, sizeof message, "%s: cannot create: No such file or directory", path);
    assert_line(&err, lm_fs_writer_create(path, &w, &err), message);
    assert_null(w);
    assert_line(&err, lm_fs_temporary_folder(path, &name, &err), message);
    assert_null(name);
    remove_tree(f.path);
}

/* Names from outside can hold what a terminal obeys: ESC, and CSI as one character. */
static void test_controls(void **state) {
    (void)state;
    lm_error err;
    lm_fail(&err, LM_IO,
            "a\033[2J\nb\xc2\x9b"
            "c\xc3\x9b\x7f");
    assert_string_equal(err.message, "a?[2J?b?\?c\xc3\x9b?");
}

/* A message is UTF-8 whatever it quotes, and where its own end cuts a character: it may go into JSON. */
static void test_utf8(void **state) {
    (void)state;
    lm_error err;
    char text[LM_ERROR_CAPACITY + 8];
    lm_fail(&err, LM_IO, "%.3s \xff \xed\xa0\x80 \xc0\xaf \xf0\x9f\x8e\x89", "a\xe2\x82\xac");
    assert_string_equal(err.message, "a?? ? ??? ?? \xf0\x9f\x8e\x89");
    for (size_t i = 0; i + 1 < sizeof text; i++) text[i] = i % 2 ? '\xa9' : '\xc3';
    text[sizeof text - 1] = 0;
    lm_fail(&err, LM_IO, "%s", text);
    assert_int_equal(strlen(err.message), LM_ERROR_CAPACITY - 1);
    assert_int_equal(err.message[LM_ERROR_CAPACITY - 2], '?');
    assert_int_equal(err.message[LM_ERROR_CAPACITY - 3], '\xa9');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_permissions), cmocka_unit_test(test_two_writers), cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_failures),    cmocka_unit_test(test_controls),    cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
