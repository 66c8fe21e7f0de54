/* SPDX-License-Identifier: MIT */
#include "base/fs.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_TRIES 1000 /* names for a temporary file */

bool lm_fs_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool lm_fs_is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *lm_fs_join(const char *a, const char *b) {
    size_t la = strlen(a), lb = strlen(b);
    while (la > 1 && a[la - 1] == '/') la--;
    char *p = malloc(la + lb + 2);
    if (!p) return NULL;
    memcpy(p, a, la);
    p[la] = '/';
    memcpy(p + la + 1, b, lb + 1);
    return p;
}

static lm_status open_regular(const char *path, int *fd, struct stat *st, lm_error *err) {
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return lm_fail(err, LM_IO, "%s: %s", path, strerror(errno));
    if (fstat(*fd, st) || !S_ISREG(st->st_mode)) {
        close(*fd);
        return lm_fail(err, LM_IO, "%s: not a regular file", path);
    }
    return LM_OK;
}

lm_status lm_fs_read(const char *path, size_t max, char **data, size_t *length, lm_error *err) {
    int fd;
    struct stat st;
    *data = NULL;
    *length = 0;
    LM_TRY(open_regular(path, &fd, &st, err));
    if ((uint64_t)st.st_size > max) {
        close(fd);
        return lm_fail(err, LM_FORMAT, "%s: %lld bytes, expected at most %zu", path, (long long)st.st_size, max);
    }
    size_t size = (size_t)st.st_size, got = 0;
    char *p = malloc(size + 1);
    if (!p) {
        close(fd);
        return lm_fail_nomem(err, size, path);
    }
    ssize_t n = 0;
    while (got < size) {
        n = read(fd, p + got, size - got);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        got += (size_t)n;
    }
    const char *why = n < 0 ? strerror(errno) : "the file became shorter";
    close(fd);
    if (got < size) {
        free(p);
        return lm_fail(err, LM_IO, "%s: read %zu of %zu bytes: %s", path, got, size, why);
    }
    p[size] = 0;
    *data = p;
    *length = size;
    return LM_OK;
}

struct lm_fs_writer {
    int fd;
    char *path, *temporary;
    char *piece; /* what isn't written yet: less than a piece of the file; NULL: nothing was kept so far */
    size_t kept;
};

/* A name that nobody else has: PATH.tmpPID-N, the first N that is free. The kernel applies the umask, which only the
 * whole process could ask for otherwise. */
static lm_status make_temporary(const char *path, bool folder, char **name, int *fd, lm_error *err) {
    size_t n = strlen(path) + 40;
    *fd = -1;
    *name = malloc(n);
    if (!*name) return lm_fail_nomem(err, n, path);
    for (int i = 0; i < MAX_TRIES; i++) {
        snprintf(*name, n, "%s.tmp%ld-%d", path, (long)getpid(), i);
        if (folder && !mkdir(*name, 0777)) return LM_OK;
        if (!folder && (*fd = open(*name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) >= 0) return LM_OK;
        if (errno != EEXIST) break;
    }
    lm_status s = lm_fail(err, LM_IO, "%s: cannot create: %s", path, strerror(errno));
    free(*name);
    *name = NULL;
    return s;
}

lm_status lm_fs_temporary_folder(const char *path, char **name, lm_error *err) {
    int unused;
    return make_temporary(path, true, name, &unused, err);
}

lm_status lm_fs_writer_create(const char *path, lm_fs_writer **out, lm_error *err) {
    *out = NULL;
    lm_fs_writer *w = calloc(1, sizeof *w);
    if (w) w->path = strdup(path);
    lm_status s =
        w && w->path ? make_temporary(path, false, &w->temporary, &w->fd, err) : lm_fail_nomem(err, strlen(path), path);
    if (s != LM_OK) {
        if (w) free(w->path);
        free(w);
        return s;
    }
    *out = w;
    return LM_OK;
}

static lm_status write_all(const lm_fs_writer *w, const char *p, size_t length, lm_error *err) {
    while (length) {
        size_t part = length < ((size_t)1 << 30) ? length : (size_t)1 << 30;
        ssize_t n = write(w->fd, p, part);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return lm_fail(err, LM_IO, "%s: write failed: %s", w->path, strerror(n < 0 ? errno : ENOSPC));
        p += n;
        length -= (size_t)n;
    }
    return LM_OK;
}

lm_status lm_fs_writer_add(lm_fs_writer *w, const void *data, size_t length, lm_error *err) {
    const char *p = data;
    while (length) {
        if (!w->kept && length >= LM_FS_PIECE) {
            const size_t whole = length / LM_FS_PIECE * LM_FS_PIECE;
            LM_TRY(write_all(w, p, whole, err));
            p += whole;
            length -= whole;
            continue;
        }
        if (!w->piece && !(w->piece = malloc(LM_FS_PIECE))) return lm_fail_nomem(err, LM_FS_PIECE, w->path);
        const size_t room = LM_FS_PIECE - w->kept, n = length < room ? length : room;
        memcpy(w->piece + w->kept, p, n);
        w->kept += n;
        p += n;
        length -= n;
        if (w->kept < LM_FS_PIECE) continue;
        w->kept = 0;
        LM_TRY(write_all(w, w->piece, LM_FS_PIECE, err));
    }
    return LM_OK;
}

static void writer_free(lm_fs_writer *w) {
    free(w->path);
    free(w->temporary);
    free(w->piece);
    free(w);
}

void lm_fs_writer_abandon(lm_fs_writer *w) {
    if (!w) return;
    close(w->fd);
    unlink(w->temporary);
    writer_free(w);
}

static void sync_folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd); /* some file systems refuse it on folders; the rename itself succeeded */
        close(fd);
    }
    free(folder);
}

lm_status lm_fs_writer_commit(lm_fs_writer *w, lm_error *err) {
    lm_status s = write_all(w, w->piece, w->kept, err);
    if (s == LM_OK && fsync(w->fd)) s = lm_fail(err, LM_IO, "%s: fsync failed: %s", w->path, strerror(errno));
    if (close(w->fd) && s == LM_OK) s = lm_fail(err, LM_IO, "%s: close failed: %s", w->path, strerror(errno));
    if (s == LM_OK && rename(w->temporary, w->path))
        s = lm_fail(err, LM_IO, "%s: rename failed: %s", w->path, strerror(errno));
    if (s == LM_OK)
        sync_folder_of(w->path);
    else
        unlink(w->temporary);
    writer_free(w);
    return s;
}

lm_status lm_file_write(const char *path, const void *data, size_t length, lm_error *err) {
    lm_fs_writer *w;
    LM_TRY(lm_fs_writer_create(path, &w, err));
    lm_status s = lm_fs_writer_add(w, data, length, err);
    if (s != LM_OK) {
        lm_fs_writer_abandon(w);
        return s;
    }
    return lm_fs_writer_commit(w, err);
}

lm_status lm_fs_map_open(const char *path, lm_fs_map *out, lm_error *err) {
    int fd;
    struct stat st;
    out->data = NULL;
    out->length = 0;
    LM_TRY(open_regular(path, &fd, &st, err));
    if (st.st_size == 0) {
        close(fd);
        return LM_OK;
    }
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    int saved = errno;
    close(fd);
    if (p == MAP_FAILED) return lm_fail(err, LM_IO, "%s: mmap failed: %s", path, strerror(saved));
#if defined(MADV_HUGEPAGE)
    (void)madvise(p, (size_t)st.st_size, MADV_HUGEPAGE); /* a wish */
#endif
    out->data = p;
    out->length = (size_t)st.st_size;
    return LM_OK;
}

void lm_fs_map_close(lm_fs_map *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->length);
    map->data = NULL;
    map->length = 0;
}
