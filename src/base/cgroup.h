/* SPDX-License-Identifier: MIT
 * cgroup.h: the control groups (Linux, versions 1 and 2) that this process runs in. */
#ifndef LM_BASE_CGROUP_H
#define LM_BASE_CGROUP_H
#include <stdbool.h>

/** Calls fn with the folder of each group that `controller` ("cpu", "memory") governs: the process's own, as
 * ROOT/proc/self/cgroup names it, and those above it up to the mount. `root`: "" for the system's own files. A name
 * that leads nowhere here (another namespace) ends at the mount itself, which is then the process's own group.
 * `unified`: version 2. Elsewhere than on Linux there is none. */
void lm_cgroups_each(const char *root, const char *controller, void (*fn)(void *user, const char *folder, bool unified),
                     void *user);
#endif
