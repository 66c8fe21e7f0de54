/* SPDX-License-Identifier: MIT
 *
 * common.c: errors, signals, whole files and progress bars of the commands. JSON printing is in json_print.c. */
#include "common.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------- errors */

lm_status cli_error(lm_error *err, lm_status status, const char *fmt, ...) {
    if (!err) return status;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    err->status = status;
    return status;
}

void cli_print_clean(FILE *f, const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        bool latin = *c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0; /* controls of Latin-1: terminals obey them as well */
        fputc(*c < 32 || *c == 127 || latin ? '?' : *c, f);
        c += latin;
    }
}

int cli_fail(const char *prog, const lm_error *err) {
    fflush(stdout);
    if (err->status == LM_CANCELLED && cli_cancel_exit()) return cli_cancel_exit();
    fprintf(stderr, "%s: error: ", prog);
    cli_print_clean(stderr, err->message[0] ? err->message : lm_status_text(err->status));
    fputc('\n', stderr);
    return 1;
}

/* ---------------------------------------------------------------- cancelling */

static volatile sig_atomic_t cancel_flag; /* the only mutable global: a signal handler has no other place */

static void on_signal(int number) {
    cancel_flag = number;
}

/* A signal that was ignored when the program started (nohup, a background job) stays ignored. */
static void catch_signal(int number) {
    struct sigaction action, old;
    if (sigaction(number, NULL, &old) == 0 && old.sa_handler == SIG_IGN) return;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = (int)SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

const volatile int *cli_cancel(void) {
    static bool installed; /* once: after the first signal the default action is back, so that a second one kills */
    if (!installed) {
        installed = true;
        catch_signal(SIGINT);
        catch_signal(SIGTERM);
    }
    return &cancel_flag;
}

int cli_cancel_exit(void) {
    return cancel_flag ? 128 + (int)cancel_flag : 0;
}

double cli_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---------------------------------------------------------------- files */

static lm_status read_stream(FILE *f, const char *path, size_t max, char **data, size_t *length, lm_error *err) {
    size_t capacity = 65536, n = 0;
    char *bytes = malloc(capacity + 1);
    if (!bytes) return cli_error(err, LM_NOMEM, "%s: out of memory", path);
    for (;;) {
        size_t got = fread(bytes + n, 1, capacity - n, f);
        n += got;
        if (got == 0) break;
        if (n < capacity) continue;
        if (n > max) break;
        char *more = capacity > SIZE_MAX / 4 ? NULL : realloc(bytes, capacity * 2 + 1);
        if (!more) {
            free(bytes);
            return cli_error(err, LM_NOMEM, "%s: out of memory", path);
        }
        bytes = more;
        capacity *= 2;
    }
    lm_status status = LM_OK;
    if (ferror(f)) status = cli_error(err, LM_IO, "%s: %s", path, strerror(errno));
    if (n > max) status = cli_error(err, LM_FORMAT, "%s: expected at most %zu bytes, found more", path, max);
    if (status != LM_OK) {
        free(bytes);
        return status;
    }
    bytes[n] = '\0';
    *data = bytes;
    *length = n;
    return LM_OK;
}

lm_status cli_read_file(const char *path, size_t max, char **data, size_t *length, lm_error *err) {
    *data = NULL;
    *length = 0;
    if (strcmp(path, "-") == 0) return read_stream(stdin, "standard input", max, data, length, err);
    FILE *f = fopen(path, "rb");
    if (!f) return cli_error(err, LM_IO, "%s: %s", path, strerror(errno));
    lm_status status = read_stream(f, path, max, data, length, err);
    fclose(f);
    return status;
}

lm_status cli_read_line(FILE *f, size_t max, char **line, size_t *length, lm_error *err) {
    *line = NULL;
    *length = 0;
    size_t capacity = 0;
    errno = 0;
    /* getdelim grows without a limit of its own; lines come from the user's own pipe, so the check after it is enough.
     */
    ssize_t n = getdelim(line, &capacity, '\n', f);
    if (n < 0) {
        free(*line);
        *line = NULL;
        return ferror(f) || errno == ENOMEM ? cli_error(err, LM_IO, "reading a line: %s", strerror(errno)) : LM_OK;
    }
    if ((size_t)n > max) {
        free(*line);
        *line = NULL;
        return cli_error(err, LM_FORMAT, "expected lines of at most %zu bytes, found %zd", max, n);
    }
    if (n > 0 && (*line)[n - 1] == '\n') (*line)[--n] = '\0';
    *length = (size_t)n;
    return LM_OK;
}

/* ---------------------------------------------------------------- progress */

void cli_progress_start(cli_progress *p, const char *label, const char *unit, int64_t total) {
    memset(p, 0, sizeof *p);
    p->on = isatty(STDERR_FILENO) == 1;
    p->label = label;
    p->unit = unit;
    p->bytes = strcmp(unit, "B") == 0;
    p->start = cli_now();
    p->shown = p->start; /* nothing is drawn in the first moments: short work shows no bar at all */
    p->total = total;
}

void cli_progress_update(cli_progress *p, int64_t done) {
    double now = cli_now();
    if (!p->on || now - p->shown < 0.2) return;
    p->shown = now;
    double seconds = now - p->start, rate = seconds > 0 ? (double)done / seconds : 0;
    double part = p->total > 0 ? (double)done / (double)p->total : 0;
    if (part > 1) part = 1;
    char bar[21];
    memset(bar, '-', sizeof bar - 1);
    memset(bar, '#', (size_t)(part * 20));
    bar[20] = '\0';
    fprintf(stderr, "\r\033[K%s [%s] %3.0f%%  ", p->label, bar, part * 100);
    if (p->bytes)
        fprintf(stderr, "%.2f/%.2f GB, %.2f GB/s", (double)done / 1e9, (double)p->total / 1e9, rate / 1e9);
    else
        fprintf(stderr, "%lld/%lld %s, %.2f/s", (long long)done, (long long)p->total, p->unit, rate);
    if (rate > 0 && p->total > done) {
        long left = (long)((double)(p->total - done) / rate);
        fprintf(stderr, ", %ld:%02ld:%02ld left", left / 3600, left / 60 % 60, left % 60);
    }
    fflush(stderr);
}

void cli_progress_end(cli_progress *p) {
    if (p->on && p->shown > p->start) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    p->on = false;
}

bool cli_progress_load(void *user, int64_t done, int64_t total) {
    cli_progress *p = user;
    p->total = total;
    cli_progress_update(p, done);
    return cli_cancel_exit() == 0;
}

lm_status cli_engine_open(const char *model, const lm_engine_options *options, lm_engine **out, lm_error *err) {
    lm_engine_options o = *options;
    cli_progress progress;
    cli_cancel();
    cli_progress_start(&progress, "Loading", "B", 0);
    o.progress = cli_progress_load;
    o.progress_user = &progress;
    if (options->max_memory < 0) o.max_memory = lm_memory_available() / 10 * 9;
    lm_status status = lm_engine_open(model, &o, out, err);
    if (status == LM_NOMEM && options->max_memory < 0) {
        o.max_memory = 0;
        status = lm_engine_open(model, &o, out, err);
    }
    cli_progress_end(&progress);
    return status;
}

lm_status cli_engine_tokenizer(const lm_engine *engine, const char *model, const lm_tokenizer **out, lm_error *err) {
    *out = lm_engine_get_tokenizer(engine);
    return *out ? LM_OK : cli_error(err, LM_FORMAT, "%s: no tokenizer.json", model);
}

lm_kv_type cli_kv_type(const char *name) {
    if (strcmp(name, "f32") == 0) return LM_KV_F32;
    if (strcmp(name, "f16") == 0) return LM_KV_F16;
    return strcmp(name, "bf16") == 0 ? LM_KV_BF16 : LM_KV_AUTO;
}
