/* SPDX-License-Identifier: MIT
 * json.h: jansson with our limits and our error lines. Duplicate keys are refused, order of keys is kept. */
#ifndef LM_BASE_JSON_H
#define LM_BASE_JSON_H
#include "base/status.h"
#include <jansson.h>

/** Parses text. `what` names it in errors (a path). Strings may hold NUL. Caller json_decref()s. */
lm_status lm_json_parse(const char *text, size_t length, const char *what, json_t **out, lm_error *err);
/** Reads and parses a file of at most `max` bytes (0: 256 MiB). */
lm_status lm_json_load(const char *path, size_t max, json_t **out, lm_error *err);
#endif
