/* SPDX-License-Identifier: MIT
 * topology.h: which processors this process may use, which cores and memory nodes they belong to, and how many threads
 * make sense on them. From hwloc where it was there at configure time, else from the system's own files. */
#ifndef LM_BASE_TOPOLOGY_H
#define LM_BASE_TOPOLOGY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LM_TOPOLOGY_CPUS 4096  /* more are not counted */
#define LM_TOPOLOGY_NODES 1024 /* nor memory nodes */
#define LM_TOPOLOGY_PIN 1024   /* cores that threads can be bound to */

/** One processor (hardware thread). Numbers of cores and packages only tell them apart. */
typedef struct lm_cpu_unit {
    int cpu; /* the system's number */
    int core, package, node;
    int kind; /* of its core: the larger the faster; all alike: all the same */
} lm_cpu_unit;

typedef struct lm_topology {
    int cpus, cores, packages, nodes; /* that the process's affinity allows, and what they belong to */
    int fast;                         /* cores that aren't of the slowest kind; cores where all are alike */
    double quota;                     /* processors' worth of time that control groups give; 0: no limit */
    int threads;                      /* one per fast core, within the quota; at least 1 */
    const char *source;               /* "hwloc", "system" */
    int pin[LM_TOPOLOGY_PIN];         /* a processor of each fast core, cores of a package together */
    int n_pin;
    unsigned long node_mask[LM_TOPOLOGY_NODES / (8 * sizeof(unsigned long))];
} lm_topology;

/** What there is now. Never fails: in the worst case it is one processor for each that is online. */
void lm_topology_get(lm_topology *out);

/** Asks that pages of memory nobody has touched yet come from all nodes in turn. False where nothing was asked: there
 * is one node, or the system knows no such thing. `memory` is aligned to pages. */
bool lm_topology_spread(const lm_topology *t, void *memory, size_t bytes);

/* ---- the parts, for tests ---- */

/** Sorts units (fast ones first) and counts. n 0: taken for one processor. */
void lm_topology_of_units(lm_cpu_unit *units, int n, double quota, lm_topology *out);
/** Of the processors with allowed[cpu], by the files below `root` ("" for the system's own). Linux. Returns how many.
 */
int lm_topology_read_files(const char *root, const bool allowed[LM_TOPOLOGY_CPUS], lm_cpu_unit *units);
/** The smallest quota of the control groups (versions 1 and 2) of this process and above, in processors; 0: none. */
double lm_topology_read_quota(const char *root);
#if LM_HWLOC
struct hwloc_topology;
/** Of a loaded topology. Returns how many. */
int lm_topology_read_hwloc(struct hwloc_topology *topology, lm_cpu_unit *units);
/** Loads this system's (or, as hwloc has it, HWLOC_SYNTHETIC's or HWLOC_XMLFILE's), cut to the affinity. 0: failed. */
int lm_topology_load_hwloc(lm_cpu_unit *units);
#endif
#endif
