/* SPDX-License-Identifier: MIT
 * test_topology.c: default thread counts and nodes on machines of other shapes: made by hand, as files of a system that
 * isn't this one, and as hwloc's synthetic topologies. */
#include "base/topology.h"
#include "lm/lm.h"
#include "unit/made_root.h"
#include <sys/mman.h>
#include <unistd.h>
#if LM_HWLOC
#include <hwloc.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#endif

static lm_cpu_unit units[LM_TOPOLOGY_CPUS];
static lm_topology t;

static void expect(int cpus, int cores, int fast, int packages, int nodes, int threads) {
    assert_int_equal(t.cpus, cpus);
    assert_int_equal(t.cores, cores);
    assert_int_equal(t.fast, fast);
    assert_int_equal(t.packages, packages);
    assert_int_equal(t.nodes, nodes);
    assert_int_equal(t.threads, threads);
    assert_int_equal(t.n_pin, fast);
}

/* ---------------------------------------------------------------- by hand */

static void counts(void **state) {
    (void)state;
    lm_topology_of_units(units, 0, 0, &t);
    expect(1, 1, 1, 1, 1, 1);
    for (int i = 0; i < 16; i++) units[i] = (lm_cpu_unit){i, i % 8, i % 8 / 4, i % 8 / 4, 0}; /* siblings: i, i + 8 */
    lm_topology_of_units(units, 16, 0, &t);
    expect(16, 8, 8, 2, 2, 8);
    assert_int_equal(t.node_mask[0], 3);
    for (int i = 0; i < 8; i++) assert_int_equal(t.pin[i], i);
    static const struct {
        double quota;
        int threads;
    } quotas[] = {{0.5, 1}, {1, 1}, {2, 2}, {3.5, 3}, {8, 8}, {100, 8}};
    for (size_t i = 0; i < sizeof quotas / sizeof *quotas; i++) {
        lm_topology_of_units(units, 16, quotas[i].quota, &t);
        expect(16, 8, 8, 2, 2, quotas[i].threads);
    }
    for (int i = 0; i < LM_TOPOLOGY_CPUS; i++) units[i] = (lm_cpu_unit){i, i, 0, 0, 0};
    lm_topology_of_units(units, LM_TOPOLOGY_CPUS, 0, &t);
    assert_int_equal(t.cores, LM_TOPOLOGY_CPUS);
    assert_int_equal(t.threads, LM_TOPOLOGY_PIN); /* a pool's most */
}

/* One fast, three middle, four slow cores: all but the slow ones. */
static void three_kinds(void **state) {
    (void)state;
    for (int i = 0; i < 8; i++) units[i] = (lm_cpu_unit){i, i, 0, 0, i < 4 ? 160 : i < 7 ? 498 : 1024};
    lm_topology_of_units(units, 8, 0, &t);
    expect(8, 8, 4, 1, 1, 4);
    assert_int_equal(t.pin[0], 7);
}

/* ---------------------------------------------------------------- a system's files */

static void read_files(int first, int end) {
    bool allowed[LM_TOPOLOGY_CPUS] = {false};
    for (int i = first; i < end; i++) allowed[i] = true;
    lm_topology_of_units(units, lm_topology_read_files(root, allowed, units), 0, &t);
}

static void files_packages(void **state) {
    (void)state;
    read_files(0, 4); /* nothing is told: each processor is a core */
    expect(4, 4, 4, 1, 1, 4);
    for (int i = 0; i < 8; i++) { /* two packages of two cores of two threads, a node each */
        char siblings[32];
        snprintf(siblings, sizeof siblings, "%d,%d\n", i % 4, i % 4 + 4);
        put(siblings,
            i < 4 ? "sys/devices/system/cpu/cpu%d/topology/core_cpus_list"
                  : "sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
            i);
        put(i % 4 < 2 ? "0\n" : "1\n", "sys/devices/system/cpu/cpu%d/topology/physical_package_id", i);
    }
    put("0,3\n", "sys/devices/system/node/online");
    put("0-1,4-5\n", "sys/devices/system/node/node0/cpulist");
    put("2-3,6-7\n", "sys/devices/system/node/node3/cpulist");
    read_files(0, 8);
    expect(8, 4, 4, 2, 2, 4);
    assert_int_equal(t.node_mask[0], 9);
    read_files(4, 8); /* an affinity to the second threads only */
    expect(4, 4, 4, 2, 2, 4);
    read_files(0, 2);
    expect(2, 2, 2, 1, 1, 2);
}

static void files_kinds(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) put(i < 4 ? "446\n" : "1024\n", "sys/devices/system/cpu/cpu%d/cpu_capacity", i);
    read_files(0, 6); /* Arm: four slow, two fast */
    expect(6, 6, 2, 1, 1, 2);
    put("0-7\n", "sys/devices/cpu_core/cpus");
    put("8-15\n", "sys/devices/cpu_atom/cpus");
    for (int i = 0; i < 8; i++) {
        char siblings[32];
        snprintf(siblings, sizeof siblings, "%d-%d\n", i / 2 * 2, i / 2 * 2 + 1);
        put(siblings, "sys/devices/system/cpu/cpu%d/topology/core_cpus_list", i);
    }
    read_files(0, 16); /* Intel: four fast cores of two threads, eight slow ones */
    expect(16, 12, 4, 1, 1, 4);
    read_files(8, 16); /* only slow ones are allowed */
    expect(8, 8, 8, 1, 1, 8);
}

static void quota_is(double want) {
    assert_true(lm_topology_read_quota(root) == want);
}

static void files_quota(void **state) {
    (void)state;
    quota_is(0);
    put("0::/a/b\n", "proc/self/cgroup");
    quota_is(0);
    put("max 100000\n", "sys/fs/cgroup/a/b/cpu.max");
    quota_is(0);
    put("400000 100000\n", "sys/fs/cgroup/a/cpu.max"); /* the group above binds as well */
    quota_is(4);
    put("200000 100000\n", "sys/fs/cgroup/a/b/cpu.max");
    quota_is(2);
    put("0::/elsewhere/gone\n", "proc/self/cgroup");
    put("150000 100000\n", "sys/fs/cgroup/cpu.max");
    quota_is(1.5);
    put("nonsense\n", "sys/fs/cgroup/cpu.max");
    quota_is(0);
    put("12:memory:/x\n4:cpu,cpuacct:/x\n1:cpuset:/\n", "proc/self/cgroup");
    put("-1\n", "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us");
    put("100000\n", "sys/fs/cgroup/cpu/x/cpu.cfs_period_us");
    quota_is(0);
    put("50000\n", "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us");
    quota_is(0.5);
    put("12:memory\nnothing\n4:cpuacct:/x\n", "proc/self/cgroup");
    quota_is(0);
}

/* ---------------------------------------------------------------- hwloc */

#if LM_HWLOC
static hwloc_topology_t synthetic(const char *description) {
    hwloc_topology_t h;
    assert_int_equal(hwloc_topology_init(&h), 0);
    assert_int_equal(hwloc_topology_set_synthetic(h, description), 0);
    assert_int_equal(hwloc_topology_load(h), 0);
    return h;
}

static void count_hwloc(hwloc_topology_t h, double quota) {
    lm_topology_of_units(units, lm_topology_read_hwloc(h, units), quota, &t);
}

static void hwloc_shapes(void **state) {
    (void)state;
    static const struct {
        const char *description;
        int cpus, cores, packages, nodes;
    } shapes[] = {
        {"package:1 core:8 pu:2", 16, 8, 1, 1},
        {"package:1 core:2 pu:1", 2, 2, 1, 1},
        {"package:2 core:16 pu:2", 64, 32, 2, 1},
        {"package:2 [numa] core:16 pu:2", 64, 32, 2, 2},
        {"package:2 [numa] l3:4 core:8 pu:2", 128, 64, 2, 2},
        {"package:2 group:4 [numa] core:8 pu:1", 64, 64, 2, 8},
        {"pu:3", 3, 3, 1, 1},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        hwloc_topology_t h = synthetic(shapes[i].description);
        count_hwloc(h, 0);
        expect(shapes[i].cpus, shapes[i].cores, shapes[i].cores, shapes[i].packages, shapes[i].nodes, shapes[i].cores);
        count_hwloc(h, 2); /* a control group's quota of 2 */
        assert_int_equal(t.threads, 2);
        hwloc_topology_destroy(h);
    }
}

/* A control group's set of 2 processors, as hwloc cuts a topology to it. */
static void hwloc_cut(void **state) {
    (void)state;
    static const struct {
        int first, second, cores, packages, nodes;
    } cuts[] = {{0, 1, 1, 1, 1}, {0, 2, 2, 1, 1}, {1, 15, 2, 2, 2}};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        hwloc_topology_t h = synthetic("package:2 [numa] core:4 pu:2");
        hwloc_bitmap_t set = hwloc_bitmap_alloc();
        hwloc_bitmap_set(set, (unsigned)cuts[i].first);
        hwloc_bitmap_set(set, (unsigned)cuts[i].second);
        assert_int_equal(hwloc_topology_restrict(h, set, 0), 0);
        count_hwloc(h, 0);
        assert_int_equal(t.pin[0], cuts[i].first);
        expect(2, cuts[i].cores, cuts[i].cores, cuts[i].packages, cuts[i].nodes, cuts[i].cores);
        hwloc_bitmap_free(set);
        hwloc_topology_destroy(h);
    }
}

static void add_kind(hwloc_topology_t h, int first, int last, int efficiency, const char *name, const char *value) {
    struct hwloc_info_s info = {(char *)(uintptr_t)name, (char *)(uintptr_t)value};
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    hwloc_bitmap_set_range(set, (unsigned)first, last);
    assert_int_equal(hwloc_cpukinds_register(h, set, efficiency, 1, &info, 0), 0);
    hwloc_bitmap_free(set);
}

static void hwloc_kinds(void **state) {
    (void)state;
    hwloc_topology_t h = synthetic("package:1 core:12 pu:1"); /* 4 P, 6 E, 2 E of the lower sort */
    add_kind(h, 0, 3, 2, "CoreType", "IntelCore");
    add_kind(h, 4, 9, 1, "CoreType", "IntelAtom");
    add_kind(h, 10, 11, 0, "CoreType", "IntelAtom");
    count_hwloc(h, 0);
    expect(12, 12, 4, 1, 1, 4);
    for (int i = 0; i < 4; i++) assert_int_equal(t.pin[i], i);
    count_hwloc(h, 2);
    assert_int_equal(t.threads, 2);
    hwloc_bitmap_t set = hwloc_bitmap_alloc(); /* only E cores are allowed: all of them count */
    hwloc_bitmap_set_range(set, 4, 11);
    assert_int_equal(hwloc_topology_restrict(h, set, 0), 0);
    count_hwloc(h, 0);
    expect(8, 8, 8, 1, 1, 8);
    hwloc_bitmap_free(set);
    hwloc_topology_destroy(h);

    h = synthetic("package:1 core:8 pu:1"); /* two cores that clock higher are no other kind */
    add_kind(h, 0, 5, 0, "FrequencyMaxMHz", "4500");
    add_kind(h, 6, 7, 1, "FrequencyMaxMHz", "5700");
    count_hwloc(h, 0);
    expect(8, 8, 8, 1, 1, 8);
    hwloc_topology_destroy(h);
}

/* The way a user takes: hwloc reads the environment. */
static void hwloc_environment(void **state) {
    (void)state;
    setenv("HWLOC_SYNTHETIC", "package:2 [numa] core:4 pu:2", 1);
    lm_topology_get(&t);
    unsetenv("HWLOC_SYNTHETIC");
    assert_string_equal(t.source, "hwloc");
    assert_int_equal(t.cpus, 16);
    assert_int_equal(t.cores, 8);
    assert_int_equal(t.nodes, 2);
}
#endif

/* ---------------------------------------------------------------- this system */

static void here(void **state) {
    (void)state;
    lm_topology_get(&t);
    assert_true(t.cpus >= 1 && t.cores >= 1 && t.cores <= t.cpus && t.fast <= t.cores && t.threads <= t.fast);
    assert_true(t.threads >= 1);
    assert_non_null(strstr(lm_topology_description(), t.source));
#if defined(__linux__)
    cpu_set_t all, one;
    lm_topology before = t;
    if (sched_getaffinity(0, sizeof all, &all)) return;
    CPU_ZERO(&one);
    CPU_SET((unsigned)t.pin[0], &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    lm_topology_get(&t);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    assert_int_equal(t.cpus, 1);
    assert_int_equal(t.threads, 1);
    assert_int_equal(t.pin[0], before.pin[0]);
    if (!strcmp(before.source, "system")) return;
    bool allowed[LM_TOPOLOGY_CPUS] = {false}; /* both ways of reading agree */
    for (int i = 0; i < CPU_SETSIZE; i++) allowed[i] = CPU_ISSET((unsigned)i, &all);
    lm_topology_of_units(units, lm_topology_read_files("", allowed, units), before.quota, &t);
    assert_int_equal(t.cpus, before.cpus);
    assert_int_equal(t.cores, before.cores);
    assert_int_equal(t.nodes, before.nodes);
#endif
}

/* On one node nothing is asked. Two in the mask, of which this machine may lack one: the kernel takes those it has. */
static void spreading(void **state) {
    (void)state;
    const size_t bytes = (size_t)4 << 20;
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    assert_true(p != MAP_FAILED);
    memset(&t, 0, sizeof t);
    t.nodes = 1;
    t.node_mask[0] = 1;
    assert_false(lm_topology_spread(&t, p, bytes));
    t.nodes = 2;
    assert_false(lm_topology_spread(&t, NULL, 0));
#if defined(__linux__) && defined(SYS_get_mempolicy)
    if (lm_topology_spread(&t, p, bytes)) {
        int mode = -1;
        enum { ADDRESS = 2, INTERLEAVE = 3 };
        assert_int_equal(syscall(SYS_get_mempolicy, &mode, NULL, 0ul, p, (unsigned long)ADDRESS), 0);
        assert_int_equal(mode, INTERLEAVE);
    } else
        print_message("skipped: the system places no memory here\n");
#endif
    memset(p, 1, bytes);
    munmap(p, bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(three_kinds),
        cmocka_unit_test_setup_teardown(files_packages, make_root, remove_root),
        cmocka_unit_test_setup_teardown(files_kinds, make_root, remove_root),
        cmocka_unit_test_setup_teardown(files_quota, make_root, remove_root),
#if LM_HWLOC
        cmocka_unit_test(hwloc_shapes),
        cmocka_unit_test(hwloc_cut),
        cmocka_unit_test(hwloc_kinds),
        cmocka_unit_test(hwloc_environment),
#endif
        cmocka_unit_test(here),
        cmocka_unit_test(spreading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
