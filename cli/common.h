/* SPDX-License-Identifier: MIT
 * common.h: what the commands share besides flags: errors, cancelling, whole files, progress on a terminal, and JSON as
 * Python prints it. */
#ifndef LM_CLI_COMMON_H
#define LM_CLI_COMMON_H
#include "args.h"
#include <jansson.h>
#include <stdio.h>

#define CLI_DEFAULT_MODEL "mlx-community/Llama-3.2-3B-Instruct-4bit"

#if defined(__GNUC__)
#define CLI_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define CLI_PRINTF(f, a)
#endif

/** Fills `err` with a formatted line and returns `status`. */
lm_status cli_error(lm_error *err, lm_status status, const char *fmt, ...) CLI_PRINTF(3, 4);
/** Prints text with control characters replaced, so that argument words cannot forge terminal output. */
void cli_print_clean(FILE *f, const char *text);
/** "usage..." and "PROG: error: ..." on stderr, returns 2: for values that parse but cannot be meant. */
int args_error(const char *prog, const arg_spec *specs, const char *fmt, ...) CLI_PRINTF(3, 4);

/** Installs handlers for SIGINT and SIGTERM and returns the flag they set (for lm_step). A second signal kills. */
const volatile int *cli_cancel(void);
/** 128 + the signal that was caught (130 for Ctrl-C), 0 if none. */
int cli_cancel_exit(void);

/** Monotonic seconds. */
double cli_now(void);

/** Reads a whole file ("-": stdin) of at most `max` bytes. `*data` is terminated, freed with free(). */
lm_status cli_read_file(const char *path, size_t max, char **data, size_t *length, lm_error *err);
/** One line of `f` without its newline, grown as needed up to `max` bytes. `*line` NULL at the end of the file. Freed
 *  with free(); may hold NUL. */
lm_status cli_read_line(FILE *f, size_t max, char **line, size_t *length, lm_error *err);

/** A bar on stderr with rate and time left; silent unless stderr is a terminal. */
typedef struct cli_progress {
    bool on;
    const char *label, *unit;
    double start, shown;
    int64_t total;
    bool bytes; /* show GB */
} cli_progress;
void cli_progress_start(cli_progress *p, const char *label, const char *unit, int64_t total);
void cli_progress_update(cli_progress *p, int64_t done);
/** Erases the bar. */
void cli_progress_end(cli_progress *p);
/** For lm_engine_options.progress: `user` is a cli_progress (start it with total 0, unit "B"). */
bool cli_progress_load(void *user, int64_t done, int64_t total);
/** Of --kv-type's choices. */
lm_kv_type cli_kv_type(const char *name);
/** Opens an engine with the bar and the cancel flag in place. max_memory below 0: nine tenths of what the machine or
 * the control groups leave, unless the weights alone are more (mapped ones can do with less than their size). */
lm_status cli_engine_open(const char *model, const lm_engine_options *options, lm_engine **out, lm_error *err);

/** The engine's tokenizer, or an error where the folder has none. */
lm_status cli_engine_tokenizer(const lm_engine *engine, const char *model, const lm_tokenizer **out, lm_error *err);

/** Writes JSON as Python's json.dumps does: ", " and ": ", shortest floats, NaN and Infinity by name. indent 0: one
 * line. ascii: everything beyond ASCII as \uXXXX (Python's default). No newline at the end. */
void cli_json_print(FILE *f, const json_t *value, int indent, bool ascii);
/** Python's repr of a float. */
void cli_json_float(double value, char *text, size_t size);
#endif
