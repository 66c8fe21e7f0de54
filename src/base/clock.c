/* SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include <stdio.h>
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
