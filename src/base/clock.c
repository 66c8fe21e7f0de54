/* SPDX-License-Identifier: MIT
 * clock.c: monotonic seconds; resident and available memory as the system tells them. */
#include "base/clock.h"
#include "base/cgroup.h"
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

/* The number that a file of a control group begins with; -1: no such file, or "max". */
static int64_t read_group(const char *folder, const char *name) {
    char path[1500];
    long long value = -1;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return -1;
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    if (fscanf(f, "%lld", &value) != 1) value = -1;
    fclose(f);
    return value;
}

/* Page cache among what a group uses, which the kernel drops when the group needs memory. Mapped pages aren't counted:
 * they are somebody's resident memory, the weights of a model among it. */
static int64_t read_cache(const char *folder, bool unified) {
    static const char *const keys[2][3] = {{"total_inactive_file ", "total_active_file ", "total_mapped_file "},
                                           {"inactive_file ", "active_file ", "file_mapped "}};
    char path[1500], line[256];
    int64_t cache = 0;
    if (snprintf(path, sizeof path, "%s/memory.stat", folder) >= (int)sizeof path) return 0;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        for (int i = 0; i < 3; i++) {
            const size_t n = strlen(keys[unified][i]);
            if (strncmp(line, keys[unified][i], n)) continue;
            const int64_t bytes = (int64_t)strtoll(line + n, NULL, 10);
            cache += i == 2 ? -bytes : bytes;
        }
    if (f) fclose(f);
    return cache > 0 ? cache : 0;
}

/* What a group leaves where it has a limit: that less what is used and can't be dropped. */
static void limit_by_group(void *user, const char *folder, bool unified) {
    int64_t *free_bytes = user;
    const int64_t most = read_group(folder, unified ? "memory.max" : "memory.limit_in_bytes");
    const int64_t used = read_group(folder, unified ? "memory.current" : "memory.usage_in_bytes");
    if (most < 0 || used < 0) return;
    const int64_t cache = read_cache(folder, unified), held = used > cache ? used - cache : 0;
    if (most - held < *free_bytes) *free_bytes = most > held ? most - held : 0;
}

int64_t lm_memory_read_free(const char *root) {
    char path[1500];
    if (snprintf(path, sizeof path, "%s/proc/meminfo", root) >= (int)sizeof path) return -1;
    int64_t available = read_kib_of(path, "MemAvailable:");
    if (available >= 0) lm_cgroups_each(root, "memory", limit_by_group, &available);
    return available;
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
    int64_t anon, file, available = lm_memory_read_free("");
    if (available < 0) return 0;
    lm_rss_parts(&anon, &file);
    return available + anon + file;
}
#else
void lm_rss_parts(int64_t *anon, int64_t *file) {
    int64_t peak;
    *file = 0;
    lm_rss(anon, &peak);
}

int64_t lm_memory_read_free(const char *root) {
    (void)root;
    return -1;
}

int64_t lm_memory_available(void) {
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (int64_t)pages * size : 0;
}
#endif
