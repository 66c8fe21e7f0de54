/* SPDX-License-Identifier: MIT
 *
 * logits_file.c: the file of a base model's log-probabilities. Little-endian:
 *
 *   0    8  magic "LMLOGP1\n"
 *   8    4  vocabulary, 12 4 bytes of the model's name, 16 8 rows, 24 8 ids, 32 8 skipped predictions a row,
 *   40   8  scored positions, 48 8 weight bytes, 56 8 parameters
 *   64      name; row lengths (u32 each); ids (i32 each)
 *           then a record a scored position: f32 target's log-probability, i32 best id, f32 its log-probability L,
 *           f32 range R, u16 code a token: log-probability L - R (code / 65534)^2; 65535 is -infinity.
 *
 * Squares put the fine steps where the probability is: at d nats below the best token the error is at most
 * sqrt(d R) / 65534. The target's value and the best id are exact. */
#include "score_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "LMLOGP1\n"
#define HEADER_BYTES 64
#define RECORD_HEAD 16
#define MAX_VOCAB (1u << 22)
#define MAX_NAME 4096u
#define MAX_COUNT ((uint64_t)1 << 31)
#define LAST_CODE 65534
#define NO_CODE 65535
#define MAX_TRIES 1000 /* names for a temporary file */

struct lm_logprobs {
    int fd;
    char *path, *model;
    uint32_t *lengths; /* [n_rows] */
    int32_t *ids;      /* [n_tokens] */
    int64_t skip;
    uint64_t records_at;
    lm_logprobs_info info;
    unsigned char *record;
};

struct lm_ev_logprobs_writer {
    int fd;
    char *path, *temporary;
    size_t vocab;
    uint64_t records_at;
    unsigned char *record;
};

/* ---------------------------------------------------------------- bytes */

static void put32(unsigned char *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (unsigned char)(v >> 8 * i);
}
static void put64(unsigned char *p, uint64_t v) {
    for (int i = 0; i < 8; i++) p[i] = (unsigned char)(v >> 8 * i);
}
static void put_float(unsigned char *p, float v) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    put32(p, bits);
}
static uint32_t get32(const unsigned char *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static uint64_t get64(const unsigned char *p) {
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}
static float get_float(const unsigned char *p) {
    uint32_t bits = get32(p);
    float v;
    memcpy(&v, &bits, 4);
    return v;
}

static size_t record_bytes(size_t vocab) {
    return RECORD_HEAD + 2 * vocab;
}

static lm_status write_at(int fd, const char *path, uint64_t at, const void *data, size_t n, lm_error *err) {
    const unsigned char *p = data;
    while (n) {
        ssize_t put = pwrite(fd, p, n, (off_t)at);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return lm_ev_fail(err, LM_IO, "%s: write failed: %s", path, strerror(put < 0 ? errno : ENOSPC));
        p += put;
        at += (uint64_t)put;
        n -= (size_t)put;
    }
    return LM_OK;
}

static lm_status read_at(int fd, const char *path, uint64_t at, void *data, size_t n, lm_error *err) {
    unsigned char *p = data;
    while (n) {
        ssize_t got = pread(fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return lm_ev_fail(err, LM_IO, "%s: read failed: %s", path, strerror(errno));
        if (got == 0) return lm_ev_fail(err, LM_FORMAT, "%s: the file ends at byte %llu", path, (unsigned long long)at);
        p += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return LM_OK;
}

/* ---------------------------------------------------------------- writing */

static void writer_free(lm_ev_logprobs_writer *w) {
    free(w->path);
    free(w->temporary);
    free(w->record);
    free(w);
}

/* Header, name, row lengths, ids in one buffer. */
static unsigned char *make_head(const char *model, const lm_engine_info *info, const lm_rows *rows, size_t *size) {
    size_t name = strlen(model), n = HEADER_BYTES + name + 4 * rows->n_rows + 4 * (size_t)rows->n_ids;
    unsigned char *head = calloc(1, n), *p;
    if (!head) return NULL;
    memcpy(head, MAGIC, 8);
    put32(head + 8, (uint32_t)info->vocab_size);
    put32(head + 12, (uint32_t)name);
    put64(head + 16, rows->n_rows);
    put64(head + 24, (uint64_t)rows->n_ids);
    put64(head + 32, (uint64_t)rows->skip);
    put64(head + 40, (uint64_t)rows->n_scored);
    put64(head + 48, (uint64_t)info->weight_bytes);
    put64(head + 56, (uint64_t)info->n_parameters);
    memcpy(head + HEADER_BYTES, model, name);
    p = head + HEADER_BYTES + name;
    for (size_t i = 0; i < rows->n_rows; i++, p += 4) put32(p, (uint32_t)(rows->starts[i + 1] - rows->starts[i]));
    for (int64_t i = 0; i < rows->n_ids; i++, p += 4) put32(p, (uint32_t)rows->ids[i]);
    *size = n;
    return head;
}

static lm_status open_temporary(lm_ev_logprobs_writer *w, const char *path, lm_error *err) {
    size_t n = strlen(path);
    w->path = malloc(n + 1);
    w->temporary = malloc(n + 40);
    w->record = malloc(record_bytes(w->vocab));
    if (!w->path || !w->temporary || !w->record) return lm_ev_fail(err, LM_NOMEM, "%s: out of memory", path);
    memcpy(w->path, path, n + 1);
    for (int i = 0; i < MAX_TRIES && w->fd < 0; i++) { /* a name that nobody else has; the kernel applies the umask */
        snprintf(w->temporary, n + 40, "%s.tmp%ld-%d", path, (long)getpid(), i);
        w->fd = open(w->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->fd < 0 && errno != EEXIST) break;
    }
    if (w->fd < 0) return lm_ev_fail(err, LM_IO, "%s: cannot create: %s", path, strerror(errno));
    return LM_OK;
}

lm_status lm_ev_logprobs_create(const char *path, const char *model, const lm_engine_info *info, const lm_rows *rows,
                                lm_ev_logprobs_writer **out, lm_error *err) {
    *out = NULL;
    if (strlen(model) > MAX_NAME || info->vocab_size > (int64_t)MAX_VOCAB)
        return lm_ev_fail(err, LM_ARG, "%s: expected a name of at most %u bytes and a vocabulary of at most %u", path,
                          MAX_NAME, MAX_VOCAB);
    lm_ev_logprobs_writer *w = calloc(1, sizeof *w);
    if (!w) return lm_ev_fail(err, LM_NOMEM, "%s: out of memory", path);
    w->fd = -1;
    w->vocab = (size_t)info->vocab_size;
    size_t size = 0;
    unsigned char *head = make_head(model, info, rows, &size);
    lm_status status = head ? open_temporary(w, path, err) : lm_ev_fail(err, LM_NOMEM, "%s: out of memory", path);
    if (status == LM_OK) status = write_at(w->fd, path, 0, head, size, err);
    w->records_at = size;
    free(head);
    if (status != LM_OK) {
        lm_ev_logprobs_abandon(w);
        return status;
    }
    *out = w;
    return LM_OK;
}

lm_status lm_ev_logprobs_write(lm_ev_logprobs_writer *w, int64_t index, const float *logits, double lse, float target,
                               int32_t top, lm_error *err) {
    float best = logits[top], low = best;
    for (size_t i = 0; i < w->vocab; i++)
        if (logits[i] < low && logits[i] > -INFINITY) low = logits[i];
    float range = best - low, scale = range > 0 ? 1 / range : 0;
    put_float(w->record, target);
    put32(w->record + 4, (uint32_t)top);
    put_float(w->record + 8, (float)((double)best - lse));
    put_float(w->record + 12, range);
    unsigned char *p = w->record + RECORD_HEAD;
    for (size_t i = 0; i < w->vocab; i++, p += 2) {
        float x = logits[i];
        unsigned code = NO_CODE;
        if (x > -INFINITY) code = (unsigned)(sqrtf((best - x) * scale) * LAST_CODE + 0.5f);
        p[0] = (unsigned char)code;
        p[1] = (unsigned char)(code >> 8);
    }
    size_t n = record_bytes(w->vocab);
    return write_at(w->fd, w->path, w->records_at + (uint64_t)index * n, w->record, n, err);
}

void lm_ev_logprobs_abandon(lm_ev_logprobs_writer *w) {
    if (!w) return;
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->temporary);
    }
    writer_free(w);
}

static void sync_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(folder);
}

lm_status lm_ev_logprobs_commit(lm_ev_logprobs_writer *w, lm_error *err) {
    lm_status status = LM_OK;
    if (fsync(w->fd) != 0) status = lm_ev_fail(err, LM_IO, "%s: fsync failed: %s", w->path, strerror(errno));
    if (close(w->fd) != 0 && status == LM_OK)
        status = lm_ev_fail(err, LM_IO, "%s: close failed: %s", w->path, strerror(errno));
    if (status == LM_OK && rename(w->temporary, w->path) != 0)
        status = lm_ev_fail(err, LM_IO, "%s: rename failed: %s", w->path, strerror(errno));
    if (status == LM_OK)
        sync_folder(w->path);
    else
        unlink(w->temporary);
    writer_free(w);
    return status;
}

/* ---------------------------------------------------------------- reading */

static lm_status parse_head(lm_logprobs *f, uint64_t size, uint32_t *name, lm_error *err) {
    unsigned char head[HEADER_BYTES];
    if (size < HEADER_BYTES)
        return lm_ev_fail(err, LM_FORMAT, "%s: expected at least %d bytes, found %llu", f->path, HEADER_BYTES,
                          (unsigned long long)size);
    EV_TRY(read_at(f->fd, f->path, 0, head, sizeof head, err));
    if (memcmp(head, MAGIC, 8) != 0)
        return lm_ev_fail(err, LM_FORMAT, "%s: not a file of log-probabilities (--save-logits writes them)", f->path);
    uint64_t vocab = get32(head + 8), rows = get64(head + 16), ids = get64(head + 24), skip = get64(head + 32);
    uint64_t scored = get64(head + 40), bytes = get64(head + 48), parameters = get64(head + 56);
    *name = get32(head + 12);
    if (vocab < 1 || vocab > MAX_VOCAB || *name > MAX_NAME || rows < 1 || rows > MAX_COUNT || ids < 2 ||
        ids > MAX_COUNT || scored < 1 || scored > ids || skip > MAX_COUNT || bytes > INT64_MAX ||
        parameters > INT64_MAX)
        return lm_ev_fail(err, LM_FORMAT, "%s: a count in the header is out of bounds", f->path);
    f->records_at = HEADER_BYTES + *name + 4 * rows + 4 * ids;
    uint64_t expected = f->records_at + scored * record_bytes((size_t)vocab); /* at most 2^31 * 2^23: no overflow */
    if (size != expected)
        return lm_ev_fail(err, LM_FORMAT, "%s: expected %llu bytes, found %llu", f->path, (unsigned long long)expected,
                          (unsigned long long)size);
    f->skip = (int64_t)skip;
    f->info = (lm_logprobs_info){.weight_bytes = (int64_t)bytes,
                                 .n_parameters = (int64_t)parameters,
                                 .vocab = (int64_t)vocab,
                                 .n_rows = (int64_t)rows,
                                 .n_tokens = (int64_t)ids,
                                 .n_scored = (int64_t)scored};
    return LM_OK;
}

/* Row lengths must add up to the ids, their predictions to the scored positions. */
static lm_status check_rows(const lm_logprobs *f, lm_error *err) {
    int64_t ids = 0, scored = 0;
    for (int64_t i = 0; i < f->info.n_rows; i++) {
        int64_t n = f->lengths[i];
        ids += n;
        if (n - 1 > f->skip) scored += n - 1 - f->skip;
    }
    if (ids != f->info.n_tokens || scored != f->info.n_scored)
        return lm_ev_fail(err, LM_FORMAT, "%s: expected rows of %lld ids and %lld predictions, found %lld and %lld",
                          f->path, (long long)f->info.n_tokens, (long long)f->info.n_scored, (long long)ids,
                          (long long)scored);
    for (int64_t i = 0; i < f->info.n_tokens; i++)
        if (f->ids[i] < 0 || f->ids[i] >= f->info.vocab)
            return lm_ev_fail(err, LM_FORMAT, "%s: id %lld: expected 0 to %lld, found %d", f->path, (long long)i,
                              (long long)f->info.vocab - 1, (int)f->ids[i]);
    return LM_OK;
}

/* Turns `n` little-endian words into numbers in place. */
static void to_words(void *data, size_t n) {
    unsigned char *p = data;
    for (size_t i = 0; i < n; i++, p += 4) {
        uint32_t v = get32(p);
        memcpy(p, &v, 4);
    }
}

static lm_status read_head(lm_logprobs *f, lm_error *err) {
    struct stat st;
    uint32_t name = 0;
    if (fstat(f->fd, &st) != 0) return lm_ev_fail(err, LM_IO, "%s: %s", f->path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return lm_ev_fail(err, LM_IO, "%s: not a regular file", f->path);
    EV_TRY(parse_head(f, (uint64_t)st.st_size, &name, err));
    size_t rows = (size_t)f->info.n_rows, ids = (size_t)f->info.n_tokens;
    f->model = calloc(1, (size_t)name + 1);
    f->lengths = malloc(rows * sizeof *f->lengths); /* the file's size covers both: no more is asked for than it has */
    f->ids = malloc(ids * sizeof *f->ids);
    f->record = malloc(record_bytes((size_t)f->info.vocab));
    if (!f->model || !f->lengths || !f->ids || !f->record)
        return lm_ev_fail(err, LM_NOMEM, "%s: out of memory for %zu ids", f->path, ids);
    EV_TRY(read_at(f->fd, f->path, HEADER_BYTES, f->model, name, err));
    EV_TRY(read_at(f->fd, f->path, HEADER_BYTES + name, f->lengths, rows * 4, err));
    EV_TRY(read_at(f->fd, f->path, HEADER_BYTES + name + 4 * rows, f->ids, ids * 4, err));
    to_words(f->lengths, rows);
    to_words(f->ids, ids);
    for (char *c = f->model; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127) *c = '?';
    f->info.model = f->model;
    return check_rows(f, err);
}

lm_status lm_logprobs_open(const char *path, lm_logprobs **out, lm_error *err) {
    *out = NULL;
    lm_logprobs *f = calloc(1, sizeof *f);
    if (!f) return lm_ev_fail(err, LM_NOMEM, "%s: out of memory", path);
    f->path = lm_ev_copy(path, strlen(path));
    f->fd = open(path, O_RDONLY | O_CLOEXEC);
    lm_status status = LM_OK;
    if (!f->path)
        status = lm_ev_fail(err, LM_NOMEM, "%s: out of memory", path);
    else if (f->fd < 0)
        status = lm_ev_fail(err, LM_IO, "%s: %s", path, strerror(errno));
    else
        status = read_head(f, err);
    if (status != LM_OK) {
        lm_logprobs_close(f);
        return status;
    }
    *out = f;
    return LM_OK;
}

void lm_logprobs_close(lm_logprobs *f) {
    if (!f) return;
    if (f->fd >= 0) close(f->fd);
    free(f->path);
    free(f->model);
    free(f->lengths);
    free(f->ids);
    free(f->record);
    free(f);
}

void lm_logprobs_get_info(const lm_logprobs *f, lm_logprobs_info *info) {
    *info = f->info;
}

/* Probabilities that don't add up to one mean that the bytes aren't what was written. */
static lm_status decode(const lm_logprobs *f, int64_t index, float best, float range, float *all, lm_error *err) {
    const unsigned char *p = f->record + RECORD_HEAD;
    float scale = range / ((float)LAST_CODE * (float)LAST_CODE);
    double mass = 0;
    for (int64_t i = 0; i < f->info.vocab; i++, p += 2) {
        float code = (float)(p[0] | p[1] << 8);
        all[i] = code > LAST_CODE ? -INFINITY : best - scale * code * code;
        mass += (double)expf(all[i]);
    }
    if (mass > 0.99 && mass < 1.01) return LM_OK;
    return lm_ev_fail(err, LM_FORMAT, "%s: position %lld: expected probabilities that sum to 1, found %g", f->path,
                      (long long)index, mass);
}

lm_status lm_logprobs_read(lm_logprobs *f, int64_t index, float *all, float *target, int32_t *top, lm_error *err) {
    if (index < 0 || index >= f->info.n_scored)
        return lm_ev_fail(err, LM_ARG, "%s: position %lld, expected less than %lld", f->path, (long long)index,
                          (long long)f->info.n_scored);
    size_t n = record_bytes((size_t)f->info.vocab);
    EV_TRY(read_at(f->fd, f->path, f->records_at + (uint64_t)index * n, f->record, all ? n : RECORD_HEAD, err));
    float value = get_float(f->record), best = get_float(f->record + 8), range = get_float(f->record + 12);
    int64_t id = (int32_t)get32(f->record + 4);
    /* a rounding error above 0 is possible where one token has all the probability */
    if (!(value <= 1e-3f) || !(best <= 1e-3f) || !(best > -20) || !(range >= 0 && range < 1e6f) || id < 0 ||
        id >= f->info.vocab)
        return lm_ev_fail(err, LM_FORMAT, "%s: position %lld: not a record of log-probabilities", f->path,
                          (long long)index);
    *target = value;
    *top = (int32_t)id;
    return all ? decode(f, index, best, range, all, err) : LM_OK;
}

lm_status lm_ev_logprobs_match(const lm_logprobs *f, const lm_rows *rows, int64_t vocab, lm_error *err) {
    if (f->info.vocab != vocab)
        return lm_ev_fail(err, LM_ARG, "%s: expected a vocabulary of %lld, found %lld", f->path, (long long)vocab,
                          (long long)f->info.vocab);
    bool same = f->info.n_rows == (int64_t)rows->n_rows && f->info.n_tokens == rows->n_ids && f->skip == rows->skip;
    for (size_t i = 0; same && i < rows->n_rows; i++)
        same = f->lengths[i] == (uint32_t)(rows->starts[i + 1] - rows->starts[i]);
    if (!same)
        return lm_ev_fail(err, LM_ARG, "%s: expected %zu rows of %lld tokens in all, found %lld of %lld (or others)",
                          f->path, rows->n_rows, (long long)rows->n_ids, (long long)f->info.n_rows,
                          (long long)f->info.n_tokens);
    for (int64_t i = 0; i < rows->n_ids; i++)
        if (f->ids[i] != rows->ids[i])
            return lm_ev_fail(err, LM_ARG, "%s: token %lld: expected %d, found %d: made of another text", f->path,
                              (long long)i, (int)rows->ids[i], (int)f->ids[i]);
    return LM_OK;
}
