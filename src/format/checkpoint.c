/* SPDX-License-Identifier: MIT
 * checkpoint.c: opens a folder's shards, mapped or read by a few threads, and joins their tensors into one sorted
 * table. The index file is only checked: like mlx-lm, every model*.safetensors counts. */
#include "format/checkpoint.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/topology.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

#define MAX_FILES 10000
#define MAX_READERS 4
#define PIECE ((uint64_t)32 << 20)
#define INDEX_NAME "model.safetensors.index.json"

typedef struct shard {
    char *name, *path;
    lm_st_header header;
    lm_fs_map map;   /* mapped: the whole file */
    int fd;          /* read: open until the data is in memory */
    uint8_t *memory; /* read: the data section */
    uint64_t bytes;  /* of the data section */
    uint64_t size;   /* of the file */
} shard;

struct lm_checkpoint {
    shard *shards;
    size_t n_shards;
    lm_tensor *tensors;
    size_t n_tensors;
    int64_t bytes;
    uint64_t fingerprint;
};

static void fnv(uint64_t *hash, const void *data, size_t n) {
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++) *hash = (*hash ^ p[i]) * 0x100000001b3u;
}

static void shard_close(shard *s) {
    lm_st_header_free(&s->header);
    lm_fs_map_close(&s->map);
    if (s->memory) munmap(s->memory, (size_t)s->bytes);
    if (s->fd >= 0) close(s->fd);
    free(s->name);
    free(s->path);
}

void lm_checkpoint_close(lm_checkpoint *checkpoint) {
    if (!checkpoint) return;
    for (size_t i = 0; i < checkpoint->n_shards; i++) shard_close(&checkpoint->shards[i]);
    free(checkpoint->shards);
    free(checkpoint->tensors);
    free(checkpoint);
}

/* ---------------------------------------------------------------- the list of files */

static bool is_shard_name(const char *name) {
    size_t n = strlen(name);
    return n >= 17 && !strncmp(name, "model", 5) && !strcmp(name + n - 12, ".safetensors");
}

static int by_shard_name(const void *a, const void *b) {
    return strcmp(((const shard *)a)->name, ((const shard *)b)->name);
}

static lm_status add_shard(lm_checkpoint *c, const char *folder, const char *name, lm_error *err) {
    if (c->n_shards == MAX_FILES)
        return lm_fail(err, LM_FORMAT, "%s: more than %d model*.safetensors files", folder, MAX_FILES);
    if ((c->n_shards & (c->n_shards - 1)) == 0) { /* full at every power of two */
        size_t capacity = c->n_shards ? 2 * c->n_shards : 1;
        shard *grown = realloc(c->shards, capacity * sizeof *grown);
        if (!grown) return lm_fail_nomem(err, capacity * sizeof *grown, folder);
        c->shards = grown;
    }
    shard *s = &c->shards[c->n_shards++];
    memset(s, 0, sizeof *s);
    s->fd = -1;
    s->name = strdup(name);
    s->path = lm_fs_join(folder, name);
    return s->name && s->path ? LM_OK : lm_fail_nomem(err, strlen(name), folder);
}

static lm_status list_shards(lm_checkpoint *c, const char *folder, lm_error *err) {
    DIR *dir = opendir(folder);
    if (!dir) return lm_fail(err, LM_IO, "%s: %s", folder, strerror(errno));
    lm_status s = LM_OK;
    for (struct dirent *e; s == LM_OK && (e = readdir(dir));)
        if (is_shard_name(e->d_name)) s = add_shard(c, folder, e->d_name, err);
    closedir(dir);
    LM_TRY(s);
    if (!c->n_shards) return lm_fail(err, LM_IO, "No safetensors found in %s", folder);
    qsort(c->shards, c->n_shards, sizeof *c->shards, by_shard_name);
    return LM_OK;
}

/* ---------------------------------------------------------------- headers */

static lm_status read_exactly(const shard *s, void *to, size_t n, uint64_t from, lm_error *err) {
    uint8_t *p = to;
    while (n) {
        ssize_t got = pread(s->fd, p, n, (off_t)from);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return lm_fail(err, LM_IO, "%s: read at byte %llu failed: %s", s->path, (unsigned long long)from,
                           got < 0 ? strerror(errno) : "the file became shorter");
        p += got;
        from += (uint64_t)got;
        n -= (size_t)got;
    }
    return LM_OK;
}

static void hash_shard(lm_checkpoint *c, const shard *s, const uint8_t *header) {
    uint8_t size[8];
    for (int i = 0; i < 8; i++) size[i] = (uint8_t)(s->size >> (8 * i));
    fnv(&c->fingerprint, s->name, strlen(s->name) + 1);
    fnv(&c->fingerprint, size, sizeof size);
    fnv(&c->fingerprint, header, (size_t)s->header.data_offset);
}

static lm_status map_shard(lm_checkpoint *c, shard *s, lm_error *err) {
    LM_TRY(lm_fs_map_open(s->path, &s->map, err));
    s->size = s->map.length;
    LM_TRY(lm_st_parse(s->path, s->map.data, s->size, s->size, &s->header, err));
    s->bytes = s->size - s->header.data_offset;
    hash_shard(c, s, s->map.data);
    return LM_OK;
}

/* Opens a file to be read: parses its header and reserves memory for its data. */
static lm_status open_shard(lm_checkpoint *c, shard *s, lm_error *err) {
    struct stat st;
    uint8_t first[8] = {0};
    s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0) return lm_fail(err, LM_IO, "%s: %s", s->path, strerror(errno));
    if (fstat(s->fd, &st) || !S_ISREG(st.st_mode)) return lm_fail(err, LM_IO, "%s: not a regular file", s->path);
    s->size = (uint64_t)st.st_size;
    uint64_t n = 0, head = s->size < 8 ? s->size : 8;
    LM_TRY(read_exactly(s, first, (size_t)head, 0, err));
    for (int i = 0; i < 8; i++) n |= (uint64_t)first[i] << (8 * i);
    if (head == 8 && n < s->size && n < LM_ST_MAX_HEADER) head = 8 + n < s->size ? 8 + n : s->size;
    uint8_t *header = malloc((size_t)head + 1);
    if (!header) return lm_fail_nomem(err, (size_t)head, s->path);
    lm_status status = read_exactly(s, header, (size_t)head, 0, err);
    if (status == LM_OK) status = lm_st_parse(s->path, header, head, s->size, &s->header, err);
    if (status == LM_OK) hash_shard(c, s, header);
    free(header);
    LM_TRY(status);
    s->bytes = s->size - s->header.data_offset;
    if (!s->bytes) return LM_OK;
    void *p = mmap(NULL, (size_t)s->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return lm_fail_nomem(err, (size_t)s->bytes, s->path);
#if defined(MADV_HUGEPAGE)
    (void)madvise(p, (size_t)s->bytes, MADV_HUGEPAGE); /* a wish */
#endif
    s->memory = p;
    return LM_OK;
}

/* ---------------------------------------------------------------- reading */

typedef struct reading {
    lm_checkpoint *c;
    uint64_t n_pieces;
    _Atomic uint64_t next, done; /* pieces claimed; bytes in memory */
    atomic_bool stop;
    pthread_mutex_t lock; /* of status and err */
    lm_status status;
    lm_error *err;
    int64_t total;
    bool (*progress)(void *, int64_t, int64_t);
    void *user;
} reading;

static void read_failed(reading *r, lm_status status, const lm_error *e) {
    pthread_mutex_lock(&r->lock);
    if (r->status == LM_OK) {
        r->status = status;
        if (r->err && e) *r->err = *e;
        if (!e) lm_fail(r->err, status, "loading was cancelled");
    }
    pthread_mutex_unlock(&r->lock);
    atomic_store(&r->stop, true);
}

/* Pieces are counted through all files in order. */
static lm_status read_piece(reading *r, uint64_t piece, lm_error *err) {
    for (size_t i = 0; i < r->c->n_shards; i++) {
        shard *s = &r->c->shards[i];
        uint64_t pieces = (s->bytes + PIECE - 1) / PIECE;
        if (piece >= pieces) {
            piece -= pieces;
            continue;
        }
        uint64_t from = piece * PIECE, n = s->bytes - from < PIECE ? s->bytes - from : PIECE;
        LM_TRY(read_exactly(s, s->memory + from, (size_t)n, s->header.data_offset + from, err));
        atomic_fetch_add(&r->done, n);
        return LM_OK;
    }
    return LM_OK;
}

static void read_pieces(reading *r, bool reports) {
    for (;;) {
        uint64_t piece = atomic_fetch_add(&r->next, 1);
        lm_error e;
        if (piece >= r->n_pieces || atomic_load(&r->stop)) return;
        lm_status s = read_piece(r, piece, &e);
        if (s != LM_OK)
            read_failed(r, s, &e);
        else if (reports && r->progress && !r->progress(r->user, (int64_t)atomic_load(&r->done), r->total))
            read_failed(r, LM_CANCELLED, NULL);
    }
}

static void *reader_main(void *arg) {
    read_pieces(arg, false);
    return NULL;
}

/* Every thread reads some of every tensor, so no node is the right one for any: all share the load. Before the first
 * byte arrives. */
static void spread_memory(lm_checkpoint *c) {
    lm_topology t;
    lm_topology_get(&t);
    for (size_t i = 0; i < c->n_shards; i++)
        (void)lm_topology_spread(&t, c->shards[i].memory, (size_t)c->shards[i].bytes);
}

static lm_status read_all(lm_checkpoint *c, bool (*progress)(void *, int64_t, int64_t), void *user, lm_error *err) {
    reading r = {.c = c, .err = err, .progress = progress, .user = user};
    pthread_t threads[MAX_READERS];
    int n = 0;
    for (size_t i = 0; i < c->n_shards; i++) {
        r.n_pieces += (c->shards[i].bytes + PIECE - 1) / PIECE;
        r.total += (int64_t)c->shards[i].bytes;
    }
    spread_memory(c);
    if (pthread_mutex_init(&r.lock, NULL)) return lm_fail_nomem(err, sizeof r.lock, "a lock");
    /* the caller reads as well and is the only one that reports; a thread that cannot start is done without */
    while (n < MAX_READERS - 1 && (uint64_t)n + 1 < r.n_pieces && !pthread_create(&threads[n], NULL, reader_main, &r))
        n++;
    read_pieces(&r, true);
    for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&r.lock);
    LM_TRY(r.status);
    for (size_t i = 0; i < c->n_shards; i++) {
        shard *s = &c->shards[i];
        close(s->fd);
        s->fd = -1;
        if (s->memory) (void)mprotect(s->memory, (size_t)s->bytes, PROT_READ);
    }
    if (progress && !progress(user, r.total, r.total)) return lm_fail(err, LM_CANCELLED, "loading was cancelled");
    return LM_OK;
}

static lm_status map_all(lm_checkpoint *c, bool (*progress)(void *, int64_t, int64_t), void *user, lm_error *err) {
    int64_t done = 0, total = 0;
    for (size_t i = 0; i < c->n_shards; i++) total += (int64_t)c->shards[i].bytes;
    for (size_t i = 0; progress && i < c->n_shards; i++) {
        done += (int64_t)c->shards[i].bytes;
        if (!progress(user, done, total)) return lm_fail(err, LM_CANCELLED, "loading was cancelled");
    }
    return LM_OK;
}

/* ---------------------------------------------------------------- the table */

static int by_tensor(const void *a, const void *b) {
    const lm_tensor *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->file > y->file) - (x->file < y->file);
}

static int by_tensor_name(const void *a, const void *b) {
    return strcmp(((const lm_tensor *)a)->name, ((const lm_tensor *)b)->name);
}

static lm_tensor make_tensor(const shard *s, int file, const lm_st_tensor *t) {
    lm_tensor out = {.name = t->name, .dtype = t->dtype, .n_dims = t->n_dims, .file = file};
    const uint8_t *data = s->memory ? s->memory : s->map.data ? s->map.data + s->header.data_offset : NULL;
    memcpy(out.shape, t->shape, sizeof out.shape);
    out.bytes = (size_t)(t->end - t->begin);
    out.data = data ? data + t->begin : (const uint8_t *)""; /* never NULL, also where a file has no data */
    return out;
}

static lm_status build_table(lm_checkpoint *c, lm_error *err) {
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < c->n_shards; i++) n += c->shards[i].header.n_tensors;
    c->tensors = calloc(n + 1, sizeof *c->tensors);
    if (!c->tensors) return lm_fail_nomem(err, n * sizeof *c->tensors, "the table of tensors");
    for (size_t i = 0; i < c->n_shards; i++)
        for (size_t j = 0; j < c->shards[i].header.n_tensors; j++)
            c->tensors[c->n_tensors++] = make_tensor(&c->shards[i], (int)i, &c->shards[i].header.tensors[j]);
    qsort(c->tensors, n, sizeof *c->tensors, by_tensor);
    for (size_t i = 0; i < n; i++) { /* of equal names the last file's stays */
        if (i + 1 < n && !strcmp(c->tensors[i].name, c->tensors[i + 1].name)) continue;
        c->tensors[kept++] = c->tensors[i];
        c->bytes += (int64_t)c->tensors[kept - 1].bytes;
    }
    c->n_tensors = kept;
    return LM_OK;
}

static lm_status check_index_entry(const lm_checkpoint *c, const char *path, const char *name, json_t *value,
                                   lm_error *err) {
    const char *file = json_string_value(value);
    if (!file || !*file || strlen(file) != json_string_length(value))
        return lm_fail(err, LM_FORMAT, "%s: weight_map: %.160s: expected a file name", path, name);
    if (strchr(file, '/') || strchr(file, '\\') || !strcmp(file, "..") || !strcmp(file, "."))
        return lm_fail(err, LM_FORMAT,
                       "%s: weight_map: %.160s: expected a plain file name of this folder, found '%.160s'", path, name,
                       file);
    if (!lm_checkpoint_find(c, name))
        return lm_fail(err, LM_FORMAT, "%s: weight_map: tensor %.160s is not in the folder's files (listed in %.160s)",
                       path, name, file);
    return LM_OK;
}

static lm_status check_index(const lm_checkpoint *c, const char *path, lm_error *err) {
    json_t *root, *value;
    const char *name;
    LM_TRY(lm_json_load(path, 0, &root, err));
    lm_status s = LM_OK;
    json_t *map = json_object_get(root, "weight_map");
    if (!json_is_object(map)) s = lm_fail(err, LM_FORMAT, "%s: weight_map: expected an object", path);
    json_object_foreach(map, name, value) {
        s = check_index_entry(c, path, name, value, err);
        if (s != LM_OK) break;
    }
    json_decref(root);
    return s;
}

static lm_status open_all(lm_checkpoint *c, const char *folder, bool use_mmap,
                          bool (*progress)(void *, int64_t, int64_t), void *user, lm_error *err) {
    LM_TRY(list_shards(c, folder, err));
    for (size_t i = 0; i < c->n_shards; i++)
        LM_TRY(use_mmap ? map_shard(c, &c->shards[i], err) : open_shard(c, &c->shards[i], err));
    LM_TRY(build_table(c, err));
    char *index = lm_fs_join(folder, INDEX_NAME);
    if (!index) return lm_fail_nomem(err, strlen(folder), folder);
    lm_status s = lm_fs_exists(index) ? check_index(c, index, err) : LM_OK;
    free(index);
    LM_TRY(s);
    return use_mmap ? map_all(c, progress, user, err) : read_all(c, progress, user, err);
}

lm_status lm_checkpoint_open(const char *folder, bool use_mmap, bool (*progress)(void *, int64_t, int64_t), void *user,
                             lm_checkpoint **out, lm_error *err) {
    *out = NULL;
    lm_checkpoint *c = calloc(1, sizeof *c);
    if (!c) return lm_fail_nomem(err, sizeof *c, folder);
    c->fingerprint = 0xcbf29ce484222325u;
    lm_status s = open_all(c, folder, use_mmap, progress, user, err);
    if (s != LM_OK) {
        lm_checkpoint_close(c);
        return s;
    }
    *out = c;
    return LM_OK;
}

size_t lm_checkpoint_count(const lm_checkpoint *checkpoint) {
    return checkpoint->n_tensors;
}

const lm_tensor *lm_checkpoint_get(const lm_checkpoint *checkpoint, size_t index) {
    return index < checkpoint->n_tensors ? &checkpoint->tensors[index] : NULL;
}

const lm_tensor *lm_checkpoint_find(const lm_checkpoint *checkpoint, const char *name) {
    lm_tensor key = {.name = name};
    if (!checkpoint->n_tensors) return NULL;
    return bsearch(&key, checkpoint->tensors, checkpoint->n_tensors, sizeof key, by_tensor_name);
}

int64_t lm_checkpoint_bytes(const lm_checkpoint *checkpoint) {
    return checkpoint->bytes;
}
uint64_t lm_checkpoint_fingerprint(const lm_checkpoint *checkpoint) {
    return checkpoint->fingerprint;
}
