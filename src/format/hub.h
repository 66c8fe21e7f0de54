/* SPDX-License-Identifier: MIT
 * hub.h: finds a repo id in the local Hugging Face cache. Nothing is ever downloaded. */
#ifndef LM_FORMAT_HUB_H
#define LM_FORMAT_HUB_H
#include "base/status.h"

/** The cache's root by the environment (see docs/formats/checkpoint.md); NULL without memory or a home. Caller frees.
 */
char *lm_hub_root(void);
/** Checks "name" or "org/name": letters, digits, '-', '_', '.', at most 96 in all, no "--" or "..". */
bool lm_hub_valid_id(const char *id);
/** Snapshot folder of `id` at `revision` (NULL: "main"; a 40-hex commit, or a name below refs/). `*path` is freed by
 * the caller. */
lm_status lm_hub_find(const char *id, const char *revision, char **path, lm_error *err);
#endif
