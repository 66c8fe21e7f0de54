/* SPDX-License-Identifier: MIT
 * pool.h: the engine's one thread pool. Work is split over outputs, never over a sum, so any thread count gives the
 * same bits. Kernels receive a range and start no threads. */
#ifndef LM_BASE_POOL_H
#define LM_BASE_POOL_H
#include "base/status.h"

typedef struct lm_pool lm_pool;
/** `threads` includes the caller's, 0 to 1024 (else LM_ARG); 0: as many as lm_topology_get counts. */
lm_status lm_pool_create(int threads, lm_pool **out, lm_error *err);
void lm_pool_destroy(lm_pool *pool);
int lm_pool_threads(const lm_pool *pool);
/** Keeps every thread but the caller's on a fast core of its own, if there are as many threads as fast cores, and no
 * quota. False where nothing was bound. */
bool lm_pool_pin(lm_pool *pool);
/** Calls fn(context, item, worker) once for every item in [0, n), worker in [0, threads). Items are claimed one at a
 *  time in order. Returns when all are done. One item, or one thread: runs in the caller. Not re-entrant. */
void lm_pool_run(lm_pool *pool, int64_t n, void (*fn)(void *context, int64_t item, int worker), void *context);
/** Something useful to do while a thread waits, for a job or for the last items of one: idle(context, worker) is called
 *  again and again, must return within about a microsecond, and says whether there was anything to do. To be set
 *  once, between jobs, and perhaps taken away again (NULL); `context` outlives the pool. The worker number is the
 * thread's own: the caller's is 0. */
void lm_pool_set_idle(lm_pool *pool, bool (*idle)(void *context, int worker), void *context);
#endif
