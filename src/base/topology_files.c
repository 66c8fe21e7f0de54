/* SPDX-License-Identifier: MIT
 * topology_files.c: cores, nodes and quotas as Linux tells them in /sys and /proc. Elsewhere nothing is found. */
#include "base/cgroup.h"
#include "base/topology.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 1400

/* The first line of a file, without its end; false: no such file. */
static bool read_line(char *text, size_t size, const char *path) {
    FILE *f = fopen(path, "r");
    if (!f) return false;
    const bool got = fgets(text, (int)size, f) != NULL;
    fclose(f);
    if (got) text[strcspn(text, "\n")] = 0;
    return got;
}

/* "0-3,8": marks[i] for each number below n; returns the first, -1: none. */
static int read_list(const char *text, bool *marks, int n) {
    int first = -1;
    while (*text >= '0' && *text <= '9') {
        char *end;
        long from = strtol(text, &end, 10), to = from;
        if (*end == '-') to = strtol(end + 1, &end, 10);
        if (first < 0 && from < n) first = (int)from;
        for (long i = from; marks && i <= to && i < n; i++) marks[i] = true;
        text = end + (*end == ',');
    }
    return first;
}

static int read_cpu_number(const char *root, int cpu, const char *name, int otherwise) {
    char path[PATH_BYTES], text[64];
    snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/%s", root, cpu, name);
    return read_line(text, sizeof text, path) ? (int)strtol(text, NULL, 10) : otherwise;
}

/* A core's name: the first of the processors that share it. */
static int core_of(const char *root, int cpu) {
    static const char *const names[] = {"core_cpus_list", "thread_siblings_list"}; /* the latter before Linux 5.3 */
    char path[PATH_BYTES], text[4096];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/topology/%s", root, cpu, names[i]);
        if (!read_line(text, sizeof text, path)) continue;
        const int first = read_list(text, NULL, LM_TOPOLOGY_CPUS);
        if (first >= 0) return first;
    }
    return cpu;
}

static void set_nodes(const char *root, lm_cpu_unit *units, int n) {
    char path[PATH_BYTES], text[4096];
    bool online[LM_TOPOLOGY_NODES] = {false}, here[LM_TOPOLOGY_CPUS];
    snprintf(path, sizeof path, "%s/sys/devices/system/node/online", root);
    if (!read_line(text, sizeof text, path)) return;
    read_list(text, online, LM_TOPOLOGY_NODES);
    for (int node = 0; node < LM_TOPOLOGY_NODES; node++) {
        if (!online[node]) continue;
        snprintf(path, sizeof path, "%s/sys/devices/system/node/node%d/cpulist", root, node);
        if (!read_line(text, sizeof text, path)) continue;
        memset(here, 0, sizeof here);
        read_list(text, here, LM_TOPOLOGY_CPUS);
        for (int i = 0; i < n; i++)
            if (here[units[i].cpu]) units[i].node = node;
    }
}

/* Intel's two kinds have a counter each, with a list of processors; on Arm every processor has a capacity. */
static void set_kinds(const char *root, lm_cpu_unit *units, int n) {
    char path[PATH_BYTES], text[4096];
    bool slow[LM_TOPOLOGY_CPUS] = {false};
    snprintf(path, sizeof path, "%s/sys/devices/cpu_atom/cpus", root);
    const bool atoms = read_line(text, sizeof text, path) && read_list(text, slow, LM_TOPOLOGY_CPUS) >= 0;
    for (int i = 0; i < n; i++)
        units[i].kind = atoms ? !slow[units[i].cpu] : read_cpu_number(root, units[i].cpu, "cpu_capacity", 0);
}

int lm_topology_read_files(const char *root, const bool allowed[LM_TOPOLOGY_CPUS], lm_cpu_unit *units) {
    int n = 0;
    for (int cpu = 0; cpu < LM_TOPOLOGY_CPUS; cpu++)
        if (allowed[cpu])
            units[n++] = (lm_cpu_unit){cpu, core_of(root, cpu),
                                       read_cpu_number(root, cpu, "topology/physical_package_id", 0), 0, 0};
    set_nodes(root, units, n);
    set_kinds(root, units, n);
    return n;
}

/* ---------------------------------------------------------------- quotas */

/* "max 100000" or "250000 100000" (version 2); two files (version 1), -1: no limit. 0: none. */
static double quota_of(const char *folder, bool unified) {
    char path[PATH_BYTES + 32], text[128], *end;
    snprintf(path, sizeof path, "%s/%s", folder, unified ? "cpu.max" : "cpu.cfs_quota_us");
    if (!read_line(text, sizeof text, path)) return 0;
    const double most = strtod(text, &end);
    if (end == text || most <= 0) return 0;
    if (!unified) {
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
        if (!read_line(text, sizeof text, path)) return 0;
        end = text;
    }
    const double period = strtod(end, NULL);
    return period > 0 ? most / period : 0;
}

static void keep_smallest(void *user, const char *folder, bool unified) {
    double *quota = user;
    const double here = quota_of(folder, unified);
    if (here > 0 && (*quota <= 0 || here < *quota)) *quota = here;
}

double lm_topology_read_quota(const char *root) {
    double quota = 0;
    lm_cgroups_each(root, "cpu", keep_smallest, &quota);
    return quota;
}
