/* SPDX-License-Identifier: MIT
 * clock.c: monotonic seconds; resident and available memory as the system tells them. */
#include "base/clock.h"
#include "lm/lm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

double lm_now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void lm_rss(int64_t *now, int64_t *peak) {
    *now = *peak = 0;
    struct rusage u;
    if (!getrusage(RUSAGE_SELF, &u)) {
#ifdef __APPLE__
        *peak = u.ru_maxrss; /* bytes there, KiB elsewhere */
#else
        *peak = (int64_t)u.ru_maxrss * 1024;
#endif
    }
#ifdef __linux__
    FILE *f = fopen("/proc/self/statm", "r");
    long long size = 0, resident = 0;
    if (f) {
        if (fscanf(f, "%lld %lld", &size, &resident) == 2) *now = (int64_t)resident * sysconf(_SC_PAGESIZE);
        fclose(f);
    }
#endif
}

#ifdef __linux__
/* The number after `key` at the beginning of a line, in bytes ("kB" lines); -1: none. */
static int64_t read_kib(FILE *f, const char *key) {
    char line[256];
    size_t n = strlen(key);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0) return 1024 * (int64_t)strtoll(line + n, NULL, 10);
    return -1;
}

static int64_t read_kib_of(const char *path, const char *key) {
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    int64_t value = read_kib(f, key);
    fclose(f);
    return value;
}

/* The number in a file of a control group; -1: no such file, or "max". */
static int64_t read_group(const char *mount, const char *group, const char *name) {
    char path[1200];
    long long value = -1;
    if (snprintf(path, sizeof path, "%s%s/%s", mount, group, name) >= (int)sizeof path) return -1;
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    if (fscanf(f, "%lld", &value) != 1) value = -1;
    fclose(f);
    return value;
}

/* What a group and those above it leave: limit less use, where there is a limit. */
static void limit_by_groups(int64_t *free_bytes, const char *mount, char *group, const char *limit, const char *use) {
    for (;;) {
        int64_t most = read_group(mount, group, limit), used = read_group(mount, group, use);
        if (most >= 0 && used >= 0 && most - used < *free_bytes) *free_bytes = most > used ? most - used : 0;
        char *slash = strrchr(group, '/');
        if (!slash) return;
        *slash = 0;
    }
}

/* "0::/group" (version 2) and "9:memory:/group" (version 1). A name that leads nowhere here (another namespace) ends at
 * the mount itself, which is then the process's own group. */
static void limit_by_cgroups(int64_t *free_bytes) {
    char line[1024];
    FILE *f = fopen("/proc/self/cgroup", "r");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *first = strchr(line, ':'), *second = first ? strchr(first + 1, ':') : NULL;
        if (!second) continue;
        *second = 0;
        if (strcmp(second + 1, "/") == 0) second[1] = 0;
        if (first + 1 == second)
            limit_by_groups(free_bytes, "/sys/fs/cgroup", second + 1, "memory.max", "memory.current");
        else if (strstr(first + 1, "memory"))
            limit_by_groups(free_bytes, "/sys/fs/cgroup/memory", second + 1, "memory.limit_in_bytes",
                            "memory.usage_in_bytes");
    }
    if (f) fclose(f);
}

void lm_rss_parts(int64_t *anon, int64_t *file) {
    *anon = *file = 0;
    FILE *f = fopen("/proc/self/status", "r");
    if (!f) return;
    int64_t a = read_kib(f, "RssAnon:"), b = read_kib(f, "RssFile:");
    fclose(f);
    *anon = a > 0 ? a : 0;
    *file = b > 0 ? b : 0;
}

int64_t lm_memory_available(void) {
    int64_t anon, file, available = read_kib_of("/proc/meminfo", "MemAvailable:");
    if (available < 0) return 0;
    limit_by_cgroups(&available);
    lm_rss_parts(&anon, &file);
    return available + anon + file;
}
#else
void lm_rss_parts(int64_t *anon, int64_t *file) {
    int64_t peak;
    *file = 0;
    lm_rss(anon, &peak);
}

int64_t lm_memory_available(void) {
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (int64_t)pages * size : 0;
}
#endif
