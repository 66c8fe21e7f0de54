/* SPDX-License-Identifier: MIT
 * topology.c: counts what the readers found, decides on threads, and spreads memory. topology_files.c and
 * topology_hwloc.c read. */
#include "base/topology.h"
#include "lm/lm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

/* ---------------------------------------------------------------- counting */

static int by_speed_and_place(const void *a, const void *b) {
    const lm_cpu_unit *x = a, *y = b;
    if (x->kind != y->kind) return x->kind > y->kind ? -1 : 1;
    if (x->package != y->package) return x->package < y->package ? -1 : 1;
    if (x->core != y->core) return x->core < y->core ? -1 : 1;
    return (x->cpu > y->cpu) - (x->cpu < y->cpu);
}

static void count_nodes(const lm_cpu_unit *units, int n, lm_topology *out) {
    const int bits = (int)(8 * sizeof *out->node_mask);
    for (int i = 0; i < n; i++) {
        const int node = units[i].node;
        if (node < 0 || node >= LM_TOPOLOGY_NODES) continue;
        unsigned long *word = &out->node_mask[node / bits], bit = 1ul << node % bits;
        out->nodes += !(*word & bit);
        *word |= bit;
    }
    if (!out->nodes) out->nodes = 1;
}

static int count_packages(const lm_cpu_unit *units, int n) {
    int packages = 0;
    for (int i = 0; i < n; i++) { /* a package is counted where it is met first */
        int j = 0;
        while (j < i && units[j].package != units[i].package) j++;
        packages += j == i;
    }
    return packages > 0 ? packages : 1;
}

void lm_topology_of_units(lm_cpu_unit *units, int n, double quota, lm_topology *out) {
    memset(out, 0, sizeof *out);
    lm_cpu_unit lone = {0, 0, 0, 0, 0};
    if (n <= 0) units = &lone, n = 1;
    qsort(units, (size_t)n, sizeof *units, by_speed_and_place);
    const int slowest = units[n - 1].kind;
    const bool alike = units[0].kind == slowest;
    for (int i = 0; i < n; i++) {
        const lm_cpu_unit *u = &units[i];
        /* what shares a core is sorted together */
        if (i && u->kind == u[-1].kind && u->package == u[-1].package && u->core == u[-1].core) continue;
        out->cores++;
        if (!alike && u->kind == slowest) continue;
        out->fast++;
        if (out->n_pin < LM_TOPOLOGY_PIN) out->pin[out->n_pin++] = u->cpu;
    }
    out->cpus = n;
    out->packages = count_packages(units, n);
    count_nodes(units, n, out);
    out->quota = quota;
    out->threads = out->fast;
    /* A thread more than the quota, and the system stops all of them for the rest of each period */
    if (quota > 0 && quota < out->threads) out->threads = quota < 1 ? 1 : (int)quota;
    if (out->threads > LM_TOPOLOGY_PIN) out->threads = LM_TOPOLOGY_PIN;
}

/* ---------------------------------------------------------------- asking the system */

#if defined(__linux__)
static int read_system(lm_cpu_unit *units) {
    bool allowed[LM_TOPOLOGY_CPUS] = {false};
    const size_t bytes = CPU_ALLOC_SIZE(LM_TOPOLOGY_CPUS);
    cpu_set_t *set = CPU_ALLOC(LM_TOPOLOGY_CPUS);
    int n = 0;
    if (set && sched_getaffinity(0, bytes, set) == 0) {
        for (int i = 0; i < LM_TOPOLOGY_CPUS; i++) allowed[i] = CPU_ISSET_S(i, bytes, set);
        n = lm_topology_read_files("", allowed, units);
    }
    if (set) CPU_FREE(set);
    return n;
}
#elif defined(__APPLE__)
static int read_number(const char *name) {
    int value = 0;
    size_t length = sizeof value;
    return sysctlbyname(name, &value, &length, NULL, 0) == 0 ? value : 0;
}
/* Apple's processors have no hardware threads; level 0 are the performance cores. */
static int read_system(lm_cpu_unit *units) {
    int n = read_number("hw.physicalcpu"), fast = read_number("hw.perflevel0.physicalcpu");
    if (n > LM_TOPOLOGY_CPUS) n = LM_TOPOLOGY_CPUS;
    for (int i = 0; i < n; i++) units[i] = (lm_cpu_unit){i, i, 0, 0, i < fast};
    return n;
}
#else
static int read_system(lm_cpu_unit *units) {
    (void)units;
    return 0;
}
#endif

static int read_online(lm_cpu_unit *units) {
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    const int n = online > LM_TOPOLOGY_CPUS ? LM_TOPOLOGY_CPUS : online > 0 ? (int)online : 1;
    for (int i = 0; i < n; i++) units[i] = (lm_cpu_unit){i, i, 0, 0, 0};
    return n;
}

void lm_topology_get(lm_topology *out) {
    lm_cpu_unit *units = malloc(LM_TOPOLOGY_CPUS * sizeof *units);
    const char *source = "system";
    int n = 0;
    if (units) {
#if LM_HWLOC
        n = lm_topology_load_hwloc(units);
        if (n > 0) source = "hwloc";
#endif
        if (n <= 0) n = read_system(units);
        if (n <= 0) n = read_online(units);
    }
    lm_topology_of_units(units, n, lm_topology_read_quota(""), out);
    out->source = source;
    free(units);
}

/* ---------------------------------------------------------------- memory */

bool lm_topology_spread(const lm_topology *t, void *memory, size_t bytes) {
    if (t->nodes < 2 || !memory || !bytes) return false;
#if defined(__linux__) && defined(SYS_mbind)
    enum { INTERLEAVE = 3 }; /* MPOL_INTERLEAVE of the kernel's ABI */
    return syscall(SYS_mbind, memory, bytes, INTERLEAVE, t->node_mask, (unsigned long)LM_TOPOLOGY_NODES, 0u) == 0;
#else
    return false;
#endif
}

/* ---------------------------------------------------------------- in words */

static const char *plural(int n) {
    return n == 1 ? "" : "s";
}

const char *lm_topology_description(void) {
    static _Thread_local char text[256];
    char fast[48] = "", quota[48] = "";
    lm_topology t;
    lm_topology_get(&t);
    if (t.fast < t.cores) snprintf(fast, sizeof fast, " (%d fast)", t.fast);
    if (t.quota > 0) snprintf(quota, sizeof quota, ", a quota of %.4g", t.quota);
    snprintf(text, sizeof text, "%d processor%s, %d core%s%s, %d package%s, %d memory node%s%s (%s): %d thread%s",
             t.cpus, plural(t.cpus), t.cores, plural(t.cores), fast, t.packages, plural(t.packages), t.nodes,
             plural(t.nodes), quota, t.source, t.threads, plural(t.threads));
    return text;
}
