/* SPDX-License-Identifier: MIT
 * cgroup.c: reads which control groups a process is in, "0::/group" (version 2) and "9:cpu,cpuacct:/group" (1). */
#include "base/cgroup.h"
#include <stdio.h>
#include <string.h>

#define PATH_BYTES 1400

typedef struct walk {
    const char *root;
    void (*fn)(void *user, const char *folder, bool unified);
    void *user;
} walk;

/* A group and those above it; cuts `group`. */
static void upwards(const walk *w, const char *controller, char *group) {
    char folder[PATH_BYTES];
    for (;;) {
        const int n = snprintf(folder, sizeof folder, "%s/sys/fs/cgroup%s%s%s", w->root, controller ? "/" : "",
                               controller ? controller : "", group);
        if (n < (int)sizeof folder) w->fn(w->user, folder, !controller);
        char *slash = strrchr(group, '/');
        if (!slash) return;
        *slash = 0;
    }
}

void lm_cgroups_each(const char *root, const char *controller, void (*fn)(void *user, const char *folder, bool unified),
                     void *user) {
    const walk w = {root, fn, user};
    char path[PATH_BYTES], line[1024];
    if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) >= (int)sizeof path) return;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *first = strchr(line, ':'), *second = first ? strchr(first + 1, ':') : NULL;
        if (!second) continue;
        *second = 0;
        char *group = second + 1;
        if (strcmp(group, "/") == 0) *group = 0;
        bool governs = false;
        for (char *at = first + 1, *name; !governs && (name = strsep(&at, ",")) != NULL;)
            governs = strcmp(name, controller) == 0;
        if (first + 1 == second)
            upwards(&w, NULL, group);
        else if (governs)
            upwards(&w, controller, group);
    }
    if (f) fclose(f);
}
