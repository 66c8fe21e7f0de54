/* SPDX-License-Identifier: MIT
 * fs.h: whole files in, whole files out (temporary name, fsync, rename), and read-only mappings. */
#ifndef LM_BASE_FS_H
#define LM_BASE_FS_H
#include "base/status.h"

/** Reads a whole regular file of at most `max` bytes. `*data` is terminated (one byte more than `*length`), freed by
 * the caller. LM_IO if it cannot be read, LM_FORMAT if it is larger. */
lm_status lm_fs_read(const char *path, size_t max, char **data, size_t *length, lm_error *err);

/** A piece of a file that a system with large folios keeps in one large page, if the piece is written at once: then it
 * is mapped by one entry of the page table, and reading it needs one translation instead of 512. */
#define LM_FS_PIECE ((size_t)2 << 20)

/** A file being written: bytes go to a temporary name beside `path`, in whole pieces; commit writes the rest, fsyncs
 * and renames; abandon removes it. */
typedef struct lm_fs_writer lm_fs_writer;
lm_status lm_fs_writer_create(const char *path, lm_fs_writer **out, lm_error *err);
lm_status lm_fs_writer_add(lm_fs_writer *w, const void *data, size_t length, lm_error *err);
/** Ends the writer either way (also after a failed add). commit: fsync file, rename, fsync folder. */
lm_status lm_fs_writer_commit(lm_fs_writer *w, lm_error *err);
void lm_fs_writer_abandon(lm_fs_writer *w);

/** Makes a new folder beside `path`, named after it, with the permissions that the umask leaves. *name: its path, freed
 * by the caller. */
lm_status lm_fs_temporary_folder(const char *path, char **name, lm_error *err);

/** Maps a file read-only. Empty files give data NULL, length 0. What isn't in the page cache yet comes in large pages
 * where the system can do that. */
typedef struct lm_fs_map {
    const uint8_t *data;
    size_t length;
} lm_fs_map;
lm_status lm_fs_map_open(const char *path, lm_fs_map *out, lm_error *err);
void lm_fs_map_close(lm_fs_map *map);

bool lm_fs_exists(const char *path);
bool lm_fs_is_folder(const char *path);
/** "a/b" in a new string; NULL without memory. */
char *lm_fs_join(const char *a, const char *b);
#endif
