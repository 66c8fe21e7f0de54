/* SPDX-License-Identifier: MIT
 * topology_hwloc.c: cores, packages, memory nodes and kinds of cores as hwloc knows them. */
#if LM_HWLOC
#include "base/topology.h"
#include <hwloc.h>
#include <string.h>

#define MAX_KINDS 64

typedef struct kinds {
    int n;
    int rank[MAX_KINDS]; /* of hwloc's kinds: the larger the faster */
} kinds;

static const char *info_of(const struct hwloc_info_s *infos, unsigned n, const char *name) {
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(infos[i].name, name)) return infos[i].value;
    return NULL;
}

/* hwloc sorts kinds by efficiency, the fastest last. It also makes kinds of cores that only differ in their highest
 * frequency; those work alike for us. Kinds of one core type (two sorts of Intel's E cores) are one. */
static kinds read_kinds(hwloc_topology_t t) {
    static const char *const telling[] = {"CoreType", "LinuxCapacity", "DarwinCompatible"};
    kinds k = {.n = hwloc_cpukinds_get_nr(t, 0)};
    const char *types[MAX_KINDS] = {NULL};
    bool differ = false;
    if (k.n > MAX_KINDS) k.n = 0;
    for (int i = 0; i < k.n; i++) {
        int efficiency = -1;
        unsigned n_infos = 0;
        struct hwloc_info_s *infos = NULL;
        if (hwloc_cpukinds_get_info(t, (unsigned)i, NULL, &efficiency, &n_infos, &infos, 0) || efficiency < 0)
            return (kinds){0};
        for (size_t j = 0; j < sizeof telling / sizeof *telling; j++)
            differ = differ || info_of(infos, n_infos, telling[j]);
        types[i] = info_of(infos, n_infos, "CoreType");
        k.rank[i] = i;
        for (int j = 0; types[i] && j < i; j++)
            if (types[j] && !strcmp(types[i], types[j])) k.rank[i] = k.rank[j];
    }
    return differ ? k : (kinds){0};
}

static int index_above(hwloc_topology_t t, hwloc_obj_t pu, hwloc_obj_type_t type, int otherwise) {
    const hwloc_obj_t o = hwloc_get_ancestor_obj_by_type(t, type, pu);
    return o ? (int)o->logical_index : otherwise;
}

int lm_topology_read_hwloc(hwloc_topology_t t, lm_cpu_unit *units) {
    const kinds k = read_kinds(t);
    int n = 0;
    for (hwloc_obj_t pu = NULL; n < LM_TOPOLOGY_CPUS && (pu = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_PU, pu));) {
        const int kind = k.n > 1 ? hwloc_cpukinds_get_by_cpuset(t, pu->cpuset, 0) : -1;
        const int node = pu->nodeset ? hwloc_bitmap_first(pu->nodeset) : -1;
        units[n++] = (lm_cpu_unit){(int)pu->os_index, index_above(t, pu, HWLOC_OBJ_CORE, (int)pu->os_index),
                                   index_above(t, pu, HWLOC_OBJ_PACKAGE, 0), node < 0 ? 0 : node,
                                   kind >= 0 && kind < k.n ? k.rank[kind] : 0};
    }
    return n;
}

/* To what taskset and the like leave; not where the topology was made up or comes from another machine. */
static void cut_to_affinity(hwloc_topology_t t) {
    hwloc_bitmap_t set = hwloc_topology_is_thissystem(t) ? hwloc_bitmap_alloc() : NULL;
    if (set && !hwloc_get_cpubind(t, set, HWLOC_CPUBIND_THREAD)) (void)hwloc_topology_restrict(t, set, 0);
    hwloc_bitmap_free(set);
}

int lm_topology_load_hwloc(lm_cpu_unit *units) {
    hwloc_topology_t t;
    int n = 0;
    if (hwloc_topology_init(&t)) return 0;
    hwloc_topology_set_all_types_filter(t, HWLOC_TYPE_FILTER_KEEP_STRUCTURE);
    hwloc_topology_set_io_types_filter(t, HWLOC_TYPE_FILTER_KEEP_NONE);
    hwloc_topology_set_type_filter(t, HWLOC_OBJ_CORE, HWLOC_TYPE_FILTER_KEEP_ALL);
    hwloc_topology_set_type_filter(t, HWLOC_OBJ_PACKAGE, HWLOC_TYPE_FILTER_KEEP_ALL);
    if (!hwloc_topology_load(t)) {
        cut_to_affinity(t);
        n = lm_topology_read_hwloc(t, units);
    }
    hwloc_topology_destroy(t);
    return n;
}
#else
typedef int lm_empty_translation_unit;
#endif
