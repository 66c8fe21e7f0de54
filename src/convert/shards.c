/* SPDX-License-Identifier: MIT
 * shards.c: writes the shards. Sizes are known, so each file gets its header first and then its tensors in any order,
 * by slices of rows that the pool's threads read, convert and put in place: reading, computing and writing overlap, and
 * what is in memory is one slice per thread. A module whose words and scales fall into two shards is converted for
 * both. */
#include "base/fs.h"
#include "base/pool.h"
#include "convert/plan.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SLICE ((int64_t)1 << 20) /* elements of a slice */

typedef struct buffers {
    float *values;
    uint8_t *packed, *scales, *biases;
} buffers;

/* Some rows of one item. */
typedef struct task {
    const cv_item *item;
    int64_t first_slice, rows_per_slice;
} task;

typedef struct writing {
    const cv_plan *plan;
    const cv_shard *shard;
    int number, fd;
    task *tasks;
    size_t n_tasks;
    int64_t n_slices;
    buffers *buffers; /* one per thread */
    bool *begun;      /* pieces of the file (LM_FS_PIECE) */
    uint8_t *zeros;   /* a piece of them */
    const cv_progress *progress;
    _Atomic int64_t done;
    int64_t total;
    atomic_bool stop;
    pthread_mutex_t lock; /* of status and err, and of begun */
    lm_status status;
    lm_error *err;
} writing;

static void failed(writing *w, lm_status status, const lm_error *e) {
    pthread_mutex_lock(&w->lock);
    if (w->status == LM_OK) {
        w->status = status;
        if (w->err) *w->err = *e;
    }
    pthread_mutex_unlock(&w->lock);
    atomic_store(&w->stop, true);
}

/* ---------------------------------------------------------------- a slice */

static lm_status write_there(const writing *w, const void *data, uint64_t length, uint64_t at, lm_error *err) {
    const uint8_t *p = data;
    while (length) {
        size_t part = length < ((uint64_t)1 << 30) ? (size_t)length : (size_t)1 << 30;
        ssize_t n = pwrite(w->fd, p, part, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return lm_fail(err, LM_IO, "%s: write failed: %s", w->shard->name, strerror(n < 0 ? errno : ENOSPC));
        p += n;
        at += (uint64_t)n;
        length -= (uint64_t)n;
    }
    return LM_OK;
}

/* Slices come from all threads and go to several places, so a piece of the file is written bit by bit. Zeros first, in
 * one go: then the system takes one large page for it, which the model is read from faster than from small ones. */
static lm_status begin_piece(const writing *w, uint64_t piece, lm_error *err) {
    const uint64_t at = piece * LM_FS_PIECE, left = w->shard->bytes - at;
    if (w->begun[piece]) return LM_OK;
    w->begun[piece] = true;
    return write_there(w, w->zeros, left < LM_FS_PIECE ? left : LM_FS_PIECE, at, err);
}

static lm_status write_at(writing *w, const void *data, uint64_t length, uint64_t at, lm_error *err) {
    lm_status s = LM_OK;
    pthread_mutex_lock(&w->lock);
    for (uint64_t p = at / LM_FS_PIECE; length && s == LM_OK && p <= (at + length - 1) / LM_FS_PIECE; p++)
        s = begin_piece(w, p, err);
    pthread_mutex_unlock(&w->lock);
    return s == LM_OK ? write_there(w, data, length, at, err) : s;
}

/* Bytes of one row of a tensor of the item. */
static uint64_t row_bytes(const cv_out *out, const cv_item *item) {
    return out->bytes / (uint64_t)item->rows;
}

/* Tells the kernel what is read next and what is not needed again; whole pages only. */
static void advise(const void *data, size_t length, int advice) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)data, to = from + length;
    bool next = advice == POSIX_MADV_WILLNEED;
    from = next ? from & ~(page - 1) : (from + page - 1) & ~(page - 1);
    to &= ~(page - 1);
    if (to <= from) return;
    if (next)
        (void)posix_madvise((void *)from, to - from, advice);
    else
        (void)madvise((void *)from, to - from, MADV_DONTNEED); /* a shared file mapping: only our view of it goes */
}

/* The source bytes of rows [row, row+n), part by part. */
static void advise_rows(const cv_item *item, int64_t row, int64_t n, int advice) {
    int64_t per_part = item->rows / item->n_parts;
    while (n > 0 && row < item->rows) {
        int64_t in_part = row % per_part, some = per_part - in_part < n ? per_part - in_part : n;
        const lm_tensor *t = item->parts[row / per_part].weight;
        size_t bytes = t->bytes / (size_t)per_part;
        advise((const uint8_t *)t->data + (size_t)in_part * bytes, (size_t)some * bytes, advice);
        row += some;
        n -= some;
    }
}

/* One tensor's rows from its own bytes in the source: words as they are, floats cast. */
static lm_status copy_rows(writing *w, const cv_out *out, const cv_item *item, const lm_tensor *from, int64_t row,
                           int64_t n, buffers *b, lm_error *err) {
    int64_t per_part = item->rows / item->n_parts, in_part = row % per_part;
    size_t bytes = from->bytes / (size_t)per_part;
    const uint8_t *data = (const uint8_t *)from->data + (size_t)in_part * bytes;
    uint64_t each = row_bytes(out, item), at = out->offset + (uint64_t)row * each;
    if (from->dtype == out->spec.dtype) return write_at(w, data, (uint64_t)n * each, at, err);
    uint8_t *to = out->which == CV_WEIGHT ? b->packed : b->scales;
    cv_cast(from->dtype, data, out->spec.dtype, (int64_t)((uint64_t)n * each / lm_dtype_bytes(out->spec.dtype)), to);
    return write_at(w, to, (uint64_t)n * each, at, err);
}

static lm_status keep_or_copy(writing *w, const cv_item *item, int64_t row, int64_t n, buffers *b, lm_error *err) {
    int64_t per_part = item->rows / item->n_parts;
    for (int i = 0; i < item->n_outs; i++) {
        const cv_out *out = &w->plan->outs[item->first_out + (size_t)i];
        if (out->shard != w->number) continue;
        for (int64_t at = row; at < row + n;) {
            int64_t some = per_part - at % per_part < row + n - at ? per_part - at % per_part : row + n - at;
            const cv_part *p = &item->parts[at / per_part];
            const lm_tensor *from = out->which == CV_WEIGHT   ? p->weight
                                    : out->which == CV_SCALES ? p->scales
                                                              : p->biases;
            LM_TRY(copy_rows(w, out, item, from, at, some, b, err));
            at += some;
        }
    }
    return LM_OK;
}

static lm_status compute(writing *w, const cv_item *item, int64_t row, int64_t n, buffers *b, lm_error *err) {
    const uint8_t *const made[] = {b->packed, b->scales, b->biases};
    cv_rows_read(w->plan, item, row, n, b->values);
    if (item->action == CV_QUANTIZE)
        lm_quantize_rows(&item->to, b->values, item->type, n, item->k, b->packed, b->scales, b->biases);
    else
        cv_store(item->type, b->values, n * item->k, b->packed);
    for (int i = 0; i < item->n_outs; i++) {
        const cv_out *out = &w->plan->outs[item->first_out + (size_t)i];
        uint64_t each = row_bytes(out, item);
        if (out->shard == w->number)
            LM_TRY(write_at(w, made[out->which], (uint64_t)n * each, out->offset + (uint64_t)row * each, err));
    }
    return LM_OK;
}

static bool is_fp8(const cv_item *item) {
    for (int64_t i = 0; i < item->n_parts; i++)
        if (item->parts[i].weight->dtype == LM_DTYPE_F8_E4M3) return true;
    return false;
}

static const task *task_of(const writing *w, int64_t slice) {
    size_t low = 0, high = w->n_tasks - 1;
    while (low < high) {
        size_t middle = (low + high + 1) / 2;
        if (w->tasks[middle].first_slice <= slice)
            low = middle;
        else
            high = middle - 1;
    }
    return &w->tasks[low];
}

static void run_slice(void *context, int64_t slice, int worker) {
    writing *w = context;
    lm_error e;
    if (atomic_load(&w->stop)) return;
    const task *t = task_of(w, slice);
    const cv_item *item = t->item;
    int64_t row = (slice - t->first_slice) * t->rows_per_slice;
    int64_t n = item->rows - row < t->rows_per_slice ? item->rows - row : t->rows_per_slice;
    advise_rows(item, row, 2 * n, POSIX_MADV_WILLNEED);
    bool moves = item->action == CV_KEEP || (item->action == CV_COPY && !is_fp8(item));
    lm_status s = moves ? keep_or_copy(w, item, row, n, &w->buffers[worker], &e)
                        : compute(w, item, row, n, &w->buffers[worker], &e);
    if (s != LM_OK) {
        failed(w, s, &e);
        return;
    }
    advise_rows(item, row, n, -1);
    int64_t bytes = (int64_t)(item->parts[0].weight->bytes / (size_t)(item->rows / item->n_parts)) * n;
    int64_t done = atomic_fetch_add(&w->done, bytes) + bytes;
    if (worker == 0 && w->progress->call && !w->progress->call(w->progress->user, done, w->total)) {
        s = lm_fail(&e, LM_CANCELLED, "the conversion was cancelled");
        failed(w, s, &e);
    }
}

/* ---------------------------------------------------------------- a shard */

static bool in_shard(const cv_plan *plan, const cv_item *item, int shard) {
    for (int i = 0; i < item->n_outs; i++)
        if (plan->outs[item->first_out + (size_t)i].shard == shard) return true;
    return false;
}

static int64_t rows_per_slice(const cv_item *item) {
    int64_t rows = SLICE / item->k;
    return rows < 1 ? 1 : rows > item->rows ? item->rows : rows;
}

static void plan_tasks(writing *w, int number) {
    w->n_tasks = 0;
    w->n_slices = 0;
    for (size_t i = 0; i < w->plan->n_items; i++) {
        const cv_item *item = &w->plan->items[i];
        if (!in_shard(w->plan, item, number)) continue;
        task *t = &w->tasks[w->n_tasks++];
        *t = (task){item, w->n_slices, rows_per_slice(item)};
        w->n_slices += (item->rows + t->rows_per_slice - 1) / t->rows_per_slice;
    }
}

static lm_status write_header(writing *w, lm_error *err) {
    lm_st_spec *specs = calloc(w->shard->n_outs + 1, sizeof *specs);
    char *header;
    size_t length;
    uint64_t data;
    if (!specs) return lm_fail_nomem(err, w->shard->n_outs * sizeof *specs, w->shard->name);
    for (size_t i = 0; i < w->shard->n_outs; i++) specs[i] = w->plan->outs[w->shard->first_out + i].spec;
    lm_status s = lm_st_header_make(w->shard->name, specs, w->shard->n_outs, &header, &length, &data, err);
    if (s == LM_OK) {
        s = write_at(w, header, length, 0, err);
        free(header);
    }
    free(specs);
    return s;
}

static lm_status fill_shard(writing *w, lm_pool *pool, lm_error *err) {
    const size_t pieces = (size_t)(w->shard->bytes / LM_FS_PIECE) + 1;
    free(w->begun);
    w->begun = calloc(pieces, sizeof *w->begun);
    if (!w->begun) return lm_fail_nomem(err, pieces, w->shard->name);
    LM_TRY(write_header(w, err));
    lm_pool_run(pool, w->n_slices, run_slice, w);
    LM_TRY(w->status);
    if (fsync(w->fd)) return lm_fail(err, LM_IO, "%s: fsync failed: %s", w->shard->name, strerror(errno));
    return LM_OK;
}

static lm_status write_shard(writing *w, lm_pool *pool, cv_partial *partial, int number, lm_error *err) {
    w->shard = &w->plan->shards[number];
    w->number = number;
    plan_tasks(w, number);
    char *path = lm_fs_join(partial->folder, w->shard->name);
    if (!path) return lm_fail_nomem(err, strlen(partial->folder), w->shard->name);
    w->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    lm_status s = w->fd < 0 ? lm_fail(err, LM_IO, "%s: cannot create: %s", path, strerror(errno)) : LM_OK;
    if (s == LM_OK) s = fill_shard(w, pool, err);
    if (w->fd >= 0 && close(w->fd) && s == LM_OK)
        s = lm_fail(err, LM_IO, "%s: close failed: %s", path, strerror(errno));
    free(path);
    LM_TRY(s);
    return cv_partial_mark(partial, w->plan, number, err);
}

/* ---------------------------------------------------------------- all */

static void free_buffers(buffers *b, int n) {
    for (int i = 0; b && i < n; i++) {
        free(b[i].values);
        free(b[i].packed);
        free(b[i].scales);
        free(b[i].biases);
    }
    free(b);
}

/* The most elements that a slice holds. */
static size_t slice_elements(const cv_plan *plan) {
    int64_t most = 1;
    for (size_t i = 0; i < plan->n_items; i++) {
        int64_t n = rows_per_slice(&plan->items[i]) * plan->items[i].k;
        if (n > most) most = n;
    }
    return (size_t)most;
}

static lm_status make_buffers(writing *w, int threads, lm_error *err) {
    size_t n = slice_elements(w->plan);
    w->buffers = calloc((size_t)threads, sizeof *w->buffers);
    for (int i = 0; w->buffers && i < threads; i++) {
        buffers *b = &w->buffers[i];
        b->values = malloc(n * sizeof *b->values);
        b->packed = malloc(n * 4); /* words, or floats of any type */
        b->scales = malloc(n);     /* at least 16 elements a group, at most 4 bytes each */
        b->biases = malloc(n);
        if (!b->values || !b->packed || !b->scales || !b->biases) return lm_fail_nomem(err, n * 10, "a slice");
    }
    return w->buffers ? LM_OK : lm_fail_nomem(err, (size_t)threads * sizeof *w->buffers, "slices");
}

/* Source bytes of the shards that are to be written (a module in two shards counts twice, as it is read twice). */
static int64_t bytes_to_read(writing *w, const cv_partial *partial) {
    int64_t total = 0;
    for (int s = 0; s < w->plan->n_shards; s++) {
        if (partial->done[s]) continue;
        plan_tasks(w, s);
        for (size_t i = 0; i < w->n_tasks; i++) {
            const cv_item *item = w->tasks[i].item;
            total += (int64_t)(item->parts[0].weight->bytes / (size_t)(item->rows / item->n_parts)) * item->rows;
        }
    }
    return total;
}

static lm_status write_all(writing *w, cv_partial *partial, lm_error *err) {
    lm_pool *pool;
    LM_TRY(lm_pool_create(w->plan->options->threads, &pool, err));
    lm_status s = make_buffers(w, lm_pool_threads(pool), err);
    w->total = bytes_to_read(w, partial);
    for (int i = 0; s == LM_OK && i < w->plan->n_shards; i++)
        if (!partial->done[i]) s = write_shard(w, pool, partial, i, err);
    free_buffers(w->buffers, lm_pool_threads(pool));
    lm_pool_destroy(pool);
    return s;
}

lm_status cv_shards_write(const cv_plan *plan, cv_partial *partial, const cv_progress *progress, lm_error *err) {
    writing w = {.plan = plan, .progress = progress, .err = err, .fd = -1};
    w.tasks = calloc(plan->n_items + 1, sizeof *w.tasks);
    w.zeros = calloc(1, LM_FS_PIECE);
    if (!w.tasks || !w.zeros) {
        free(w.tasks);
        free(w.zeros);
        return lm_fail_nomem(err, plan->n_items * sizeof *w.tasks + LM_FS_PIECE, "the list of slices");
    }
    if (pthread_mutex_init(&w.lock, NULL)) {
        free(w.tasks);
        free(w.zeros);
        return lm_fail_nomem(err, sizeof w.lock, "a lock");
    }
    lm_status s = write_all(&w, partial, err);
    pthread_mutex_destroy(&w.lock);
    free(w.begun);
    free(w.zeros);
    free(w.tasks);
    return s;
}

lm_status cv_space_check(const cv_plan *plan, const cv_partial *partial, lm_error *err) {
    struct statvfs fs;
    uint64_t needed = (uint64_t)1 << 20;             /* the small files */
    if (statvfs(partial->folder, &fs)) return LM_OK; /* a file system that doesn't tell: writing will */
    for (int i = 0; i < plan->n_shards; i++)
        if (!partial->done[i]) needed += plan->shards[i].bytes;
    uint64_t size = fs.f_frsize ? fs.f_frsize : fs.f_bsize, available = (uint64_t)fs.f_bavail * size;
    if (needed <= available) return LM_OK;
    return lm_fail(err, LM_IO, "%s: not enough space: %.3f GB needed, %.3f GB free", partial->target,
                   (double)needed / 1e9, (double)available / 1e9);
}
