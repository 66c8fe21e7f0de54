/* SPDX-License-Identifier: MIT
 * jinja.h: the Jinja interpreter's door: a template and JSON variables in, text out. See docs/formats/jinja.md. */
#ifndef LM_TEXT_JINJA_H
#define LM_TEXT_JINJA_H
#include "base/json.h"

/** Bounds of one render; 0 anywhere means the default. Crossing one is LM_BUDGET. */
typedef struct lm_jinja_limits {
    int64_t steps;   /* expression and statement visits, plus a share of the bytes moved: 30 million */
    size_t memory;   /* bytes that values and the syntax tree may take: 512 MiB */
    size_t output;   /* bytes of rendered text: 64 MiB */
    int parse_depth; /* nesting of the template text: 200 */
    int depth;       /* nesting of evaluation (recursive macros, nested data): 600 */
} lm_jinja_limits;

/** What a render gets. */
typedef struct lm_jinja_input {
    const char *text; /* template, UTF-8 */
    size_t length;
    const json_t *variables; /* object name -> value; borrowed for the call */
    const char *now;         /* ISO local time ("2026-11-23T14:05:09") that fixes strftime_now; NULL: the clock */
    lm_jinja_limits limits;
} lm_jinja_input;

/** Renders as jinja2's ImmutableSandboxedEnvironment does under transformers (trim_blocks, lstrip_blocks, loop
 * controls, the generation tag). `*text` is terminated and freed with free(); `*length` may be NULL. LM_FORMAT: the
 * template is malformed or failed (raise_exception's own words come alone); LM_BUDGET: a bound of `limits`. */
lm_status lm_jinja_render(const lm_jinja_input *input, char **text, size_t *length, lm_error *err);
#endif
