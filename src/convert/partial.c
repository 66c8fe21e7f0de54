/* SPDX-License-Identifier: MIT
 * partial.c: the temporary folder `.NAME.partial` beside the target. Its journal says which conversion it belongs to,
 * then which shards are whole; the journal's lock says that a process is at work. The target's name appears by one
 * rename. */
#include "base/fs.h"
#include "convert/folder.h"
#include "convert/plan.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOURNAL "convert.journal"
#define MAX_JOURNAL ((size_t)1 << 22)

/* ---------------------------------------------------------------- what a conversion is */

static uint64_t fnv(uint64_t hash, const void *data, size_t n) {
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}
#define FNV_START 0xcbf29ce484222325u

/* Headers, sizes and times of the source's files. A sum, since folders list their files in any order. */
static uint64_t source_identity(const cv_plan *plan) {
    uint64_t sum = lm_checkpoint_fingerprint(plan->checkpoint);
    DIR *dir = opendir(plan->folder);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        size_t n = strlen(e->d_name);
        if (n < 12 || strcmp(e->d_name + n - 12, ".safetensors")) continue;
        struct stat st;
        char *path = lm_fs_join(plan->folder, e->d_name);
        if (path && !stat(path, &st)) {
            int64_t facts[2] = {(int64_t)st.st_size, (int64_t)st.st_mtime};
            sum += fnv(fnv(FNV_START, e->d_name, n), facts, sizeof facts);
        }
        free(path);
    }
    if (dir) closedir(dir);
    return sum;
}

static lm_status result_identity(const cv_plan *plan, uint64_t *out, lm_error *err) {
    char *config;
    LM_TRY(cv_config_text(plan, &config, err));
    uint64_t hash = fnv(FNV_START, config, strlen(config));
    free(config);
    for (size_t i = 0; i < plan->n_outs; i++) {
        const cv_out *o = &plan->outs[i];
        uint64_t facts[] = {o->bytes, (uint64_t)o->shard, o->offset, (uint64_t)o->spec.dtype};
        hash = fnv(fnv(hash, o->spec.name, strlen(o->spec.name) + 1), facts, sizeof facts);
    }
    *out = hash;
    return LM_OK;
}

/* The head of a journal: "key: value" lines, options first, so that a difference is named by its option. */
static lm_status journal_head(const cv_plan *plan, lm_buf *b, lm_error *err) {
    const lm_convert_options *o = plan->options;
    uint64_t result;
    LM_TRY(result_identity(plan, &result, err));
    lm_buf_addf(b, "mlx-lm.c convert journal: 1\nquantize: %s\n", o->quantize ? "yes" : "no");
    lm_buf_addf(b, "dequantize: %s\ndtype: %s\n", o->dequantize ? "yes" : "no", o->dtype ? o->dtype : "as configured");
    lm_buf_addf(b, "q-mode: %s\nq-bits: %d\n", o->q_mode ? o->q_mode : "affine", plan->base.bits);
    lm_buf_addf(b, "q-group-size: %d\nquant-predicate: %s\n", plan->base.group,
                o->quant_predicate ? o->quant_predicate : "none");
    lm_buf_addf(b, "q-rule: %s\nshard size: %lld\n", o->q_rule ? o->q_rule : "cpu", (long long)o->max_shard_bytes);
    lm_buf_addf(b, "source files: %016llx\nresult: %016llx\nbegin\n", (unsigned long long)source_identity(plan),
                (unsigned long long)result);
    return b->failed ? lm_fail_nomem(err, b->length, JOURNAL) : LM_OK;
}

/* ---------------------------------------------------------------- the journal */

/* Compares the journal's head with ours; names the first line that differs. */
static lm_status compare_heads(const cv_partial *p, const char *old, const char *new, lm_error *err) {
    while (*new) {
        size_t n_old = strcspn(old, "\n"), n_new = strcspn(new, "\n"), key = strcspn(new, ":");
        if (n_old != n_new || memcmp(old, new, n_new)) {
            const char *was = n_old > key + 2 && !strncmp(old, new, key) ? old + key + 2 : old;
            return lm_fail(err, LM_ARG, "%s: --resume: %.*s was '%.*s', is '%.*s' now; without --resume it starts over",
                           p->folder, (int)key, new, (int)(n_old - (size_t)(was - old)), was,
                           (int)(n_new > key + 2 ? n_new - key - 2 : 0), n_new > key + 2 ? new + key + 2 : "");
        }
        old += n_old + (old[n_old] == '\n');
        new += n_new + (new[n_new] == '\n');
    }
    return LM_OK;
}

static bool shard_is_whole(const cv_partial *p, const cv_shard *shard) {
    struct stat st;
    char *path = lm_fs_join(p->folder, shard->name);
    bool whole = path && !stat(path, &st) && S_ISREG(st.st_mode) && (uint64_t)st.st_size == shard->bytes;
    free(path);
    return whole;
}

/* "shard N" lines after the head; a torn last line doesn't count. */
static void read_marks(cv_partial *p, const cv_plan *plan, const char *text) {
    for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
        if (strncmp(text, "shard ", 6)) continue;
        long n = strtol(text + 6, NULL, 10);
        if (n >= 1 && n <= plan->n_shards) p->done[n - 1] = shard_is_whole(p, &plan->shards[n - 1]);
    }
}

static lm_status take_up(cv_partial *p, const cv_plan *plan, const char *head, bool *taken, lm_error *err) {
    char *text;
    size_t length;
    *taken = false;
    LM_TRY(lm_fs_read(p->journal, MAX_JOURNAL, &text, &length, err));
    const char *begin = strlen(text) == length ? strstr(text, "\nbegin\n") : NULL;
    lm_status s = LM_OK;
    if (begin) { /* else it was killed before it began */
        s = compare_heads(p, text, head, err);
        if (s == LM_OK) read_marks(p, plan, begin + 7);
        *taken = s == LM_OK;
    }
    free(text);
    return s;
}

static lm_status append(const cv_partial *p, const char *text, size_t length, lm_error *err) {
    ssize_t n = write(p->fd, text, length);
    if (n != (ssize_t)length || fsync(p->fd))
        return lm_fail(err, LM_IO, "%s: write failed: %s", p->journal,
                       strerror(n >= 0 && n < (ssize_t)length ? ENOSPC : errno));
    return LM_OK;
}

lm_status cv_partial_mark(cv_partial *p, const cv_plan *plan, int shard, lm_error *err) {
    char line[32];
    (void)plan;
    LM_TRY(cv_folder_sync(p->folder, err)); /* the shard's name before the line that counts on it */
    p->done[shard] = true;
    return append(p, line, (size_t)snprintf(line, sizeof line, "shard %d\n", shard + 1), err);
}

/* ---------------------------------------------------------------- the folder */

static char *partial_name(const char *target) {
    const char *slash = strrchr(target, '/'), *name = slash ? slash + 1 : target;
    size_t n = strlen(target) + 10;
    char *out = malloc(n);
    if (out) snprintf(out, n, "%.*s.%s.partial", (int)(name - target), target, name);
    return out;
}

static bool is_whole_shard(const cv_partial *p, const cv_plan *plan, const char *name) {
    for (int i = 0; i < plan->n_shards; i++)
        if (p->done[i] && !strcmp(plan->shards[i].name, name)) return true;
    return false;
}

/* Everything but the journal and whole shards. What is to be resumed may hold temporary files of a killed process. */
static void clear(const cv_partial *p, const cv_plan *plan) {
    DIR *dir = opendir(p->folder);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || !strcmp(e->d_name, JOURNAL)) continue;
        if (is_whole_shard(p, plan, e->d_name)) continue;
        char *path = lm_fs_join(p->folder, e->d_name);
        if (path) (void)unlink(path);
        free(path);
    }
    if (dir) closedir(dir);
}

static lm_status lock_journal(cv_partial *p, lm_error *err) {
    struct stat st;
    if (mkdir(p->folder, 0777) && errno != EEXIST)
        return lm_fail(err, LM_IO, "%s: cannot create the folder: %s", p->folder, strerror(errno));
    if (lstat(p->folder, &st) || !S_ISDIR(st.st_mode))
        return lm_fail(err, LM_IO, "%s: in the way: not a folder", p->folder);
    p->fd = open(p->journal, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (p->fd < 0) return lm_fail(err, LM_IO, "%s: cannot create: %s", p->journal, strerror(errno));
    if (flock(p->fd, LOCK_EX | LOCK_NB)) {
        lm_status s = errno == EWOULDBLOCK
                          ? lm_fail(err, LM_ARG, "%s: another conversion to this name is at work", p->folder)
                          : lm_fail(err, LM_IO, "%s: cannot lock: %s", p->journal, strerror(errno));
        close(p->fd);
        p->fd = -1; /* not ours: leave it alone */
        return s;
    }
    return LM_OK;
}

static lm_status begin(cv_partial *p, const cv_plan *plan, lm_error *err) {
    lm_buf head;
    lm_buf_init(&head, MAX_JOURNAL);
    lm_status s = journal_head(plan, &head, err);
    if (s == LM_OK && plan->options->resume) s = take_up(p, plan, head.data, &p->resumed, err);
    if (s == LM_OK) clear(p, plan);
    if (s == LM_OK && !p->resumed) {
        if (ftruncate(p->fd, 0)) s = lm_fail(err, LM_IO, "%s: cannot truncate: %s", p->journal, strerror(errno));
        if (s == LM_OK) s = append(p, head.data, head.length, err);
    }
    lm_buf_free(&head);
    return s;
}

static void release(cv_partial *p) {
    if (p->fd >= 0) close(p->fd);
    free(p->target);
    free(p->folder);
    free(p->journal);
    free(p->done);
    memset(p, 0, sizeof *p);
    p->fd = -1;
}

lm_status cv_partial_open(const cv_plan *plan, const char *target, cv_partial *p, lm_error *err) {
    memset(p, 0, sizeof *p);
    p->fd = -1;
    p->target = strdup(target);
    p->folder = partial_name(target);
    p->journal = p->folder ? lm_fs_join(p->folder, JOURNAL) : NULL;
    p->done = calloc((size_t)plan->n_shards + 1, sizeof *p->done);
    lm_status s = p->target && p->journal && p->done ? LM_OK : lm_fail_nomem(err, strlen(target), target);
    if (s == LM_OK) s = cv_folder_make_parents(p->target, &p->made, err);
    if (s == LM_OK) s = lock_journal(p, err);
    if (s == LM_OK) s = begin(p, plan, err);
    if (s != LM_OK) { /* what is there belongs to another conversion, or can't be written */
        if (p->target && p->made) {
            cv_folder_remove(p->folder);
            cv_folder_remove_parents(p->target, p->made);
        }
        release(p);
    }
    return s;
}

lm_status cv_partial_publish(cv_partial *p, lm_error *err) {
    if (unlink(p->journal)) return lm_fail(err, LM_IO, "%s: cannot remove: %s", p->journal, strerror(errno));
    LM_TRY(cv_folder_publish(p->folder, p->target, err));
    release(p);
    return LM_OK;
}

void cv_partial_abandon(cv_partial *p, bool keep) {
    bool any = false;
    for (size_t i = 0; p->done && keep && p->done[i]; i++) any = true;
    if (!any) {
        cv_folder_remove(p->folder);
        cv_folder_remove_parents(p->target, p->made);
    }
    release(p);
}
