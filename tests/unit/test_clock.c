/* SPDX-License-Identifier: MIT
 * test_clock.c: memory that could be had, on systems made of files: meminfo, and control groups of both versions. */
#include "base/clock.h"
#include "lm/lm.h"
#include "unit/made_root.h"

static void free_is(int64_t want) {
    assert_int_equal(lm_memory_read_free(root), want);
}

static void nothing_said(void **state) {
    (void)state;
    free_is(-1);
    put("MemTotal: 9 kB\n", "proc/meminfo");
    free_is(-1);
}

static void meminfo(void) {
    put("MemTotal:       1000 kB\nMemFree:          10 kB\nMemAvailable:    500 kB\n", "proc/meminfo");
}

/* A group of version 2: its limit, what it uses, and of that inactive, active and mapped pages of files. */
static void group(const char *name, const char *most, int used, int inactive, int active, int mapped) {
    char text[256];
    put(most, "sys/fs/cgroup%s/memory.max", name);
    snprintf(text, sizeof text, "%d\n", used);
    put(text, "sys/fs/cgroup%s/memory.current", name);
    snprintf(text, sizeof text,
             "anon 7\nfile 9\nfile_mapped %d\ninactive_anon 5\nactive_anon 2\ninactive_file %d\nactive_file %d\n",
             mapped, inactive, active);
    put(text, "sys/fs/cgroup%s/memory.stat", name);
}

static void version_2(void **state) {
    (void)state;
    meminfo();
    free_is(512000);
    put("0::/a/b\n", "proc/self/cgroup");
    free_is(512000); /* no such group */
    group("/a/b", "max\n", 300000, 0, 0, 0);
    free_is(512000);
    group("/a/b", "400000\n", 300000, 0, 0, 0);
    free_is(100000);
    group("/a/b", "400000\n", 300000, 150000, 50000, 0); /* page cache can be dropped */
    free_is(300000);
    group("/a/b", "400000\n", 300000, 150000, 50000, 60000); /* what is mapped is resident somewhere */
    free_is(240000);
    group("/a/b", "400000\n", 300000, 10, 10, 60000);
    free_is(100000);
    group("/a/b", "400000\n", 300000, 900000, 0, 0); /* counters are not read at one moment */
    free_is(400000);
    group("/a", "350000\n", 340000, 0, 0, 0); /* the group above binds as well */
    free_is(10000);
    group("/a", "350000\n", 360000, 0, 0, 0);
    free_is(0);
    group("/a", "350000\n", 360000, 0, 5000, 0);
    free_is(0);
    put("0::/elsewhere/gone\n", "proc/self/cgroup");
    free_is(512000);
    group("", "200000\n", 50000, 20000, 0, 0); /* the mount is this namespace's group */
    free_is(170000);
    put("nonsense\n", "sys/fs/cgroup/memory.stat");
    free_is(150000);
    put("nonsense\n", "sys/fs/cgroup/memory.current");
    free_is(512000);
}

static void version_1(void **state) {
    (void)state;
    meminfo();
    put("12:memory_other:/x\n9:cpu,memory:/x/y\n1:cpuset:/\n0::/\n", "proc/self/cgroup");
    free_is(512000);
    put("9223372036854771712\n", "sys/fs/cgroup/memory/x/y/memory.limit_in_bytes"); /* no limit */
    put("300000\n", "sys/fs/cgroup/memory/x/y/memory.usage_in_bytes");
    free_is(512000);
    put("400000\n", "sys/fs/cgroup/memory/x/y/memory.limit_in_bytes");
    free_is(100000);
    put("inactive_file 1\nactive_file 1\nmapped_file 1\ntotal_mapped_file 1000\ntotal_inactive_file 30000\n"
        "total_active_file 20000\n",
        "sys/fs/cgroup/memory/x/y/memory.stat");
    free_is(149000);
}

int main(void) {
#if !defined(__linux__)
    print_message("skipped: only Linux has these files\n");
    return 0;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_said, make_root, remove_root),
        cmocka_unit_test_setup_teardown(version_2, make_root, remove_root),
        cmocka_unit_test_setup_teardown(version_1, make_root, remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
