/* SPDX-License-Identifier: MIT
 * clock.h: monotonic seconds, and the process's resident memory. */
#ifndef LM_BASE_CLOCK_H
#define LM_BASE_CLOCK_H
#include <stdint.h>
double lm_now_seconds(void);
/** Resident bytes now and at most (0 where the system does not tell). */
void lm_rss(int64_t *now, int64_t *peak);
/** Resident bytes of memory of its own, and of mapped files. Where the system doesn't tell them apart, all are in
 * `anon`.
 */
void lm_rss_parts(int64_t *anon, int64_t *file);
/** A part of lm_memory_available, for tests: bytes that the files below `root` ("" for the system's own) say could be
 * had beside what is in use, within the control groups, page cache that can be dropped included; -1: they don't say. */
int64_t lm_memory_read_free(const char *root);
#endif
