/* SPDX-License-Identifier: MIT
 * hub.c: model arguments. An existing path wins; anything else must be a repo id that the local cache holds. */
#include "format/hub.h"
#include "base/buf.h"
#include "base/fs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_PATH_BYTES 65536

static const char *variable(const char *name) {
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

/* Adds a path, "~" and "~/..." expanded as Python's expanduser does. */
static bool add_path(lm_buf *b, const char *path) {
    const char *home = variable("HOME");
    if (path[0] == '~' && (path[1] == '/' || !path[1]) && home) {
        lm_buf_adds(b, home);
        path++;
    }
    return lm_buf_adds(b, path);
}

char *lm_hub_root(void) {
    lm_buf b;
    const char *v;
    lm_buf_init(&b, MAX_PATH_BYTES);
    if ((v = variable("HF_HUB_CACHE")) || (v = variable("HUGGINGFACE_HUB_CACHE"))) {
        add_path(&b, v);
    } else if ((v = variable("HF_HOME"))) {
        add_path(&b, v);
        lm_buf_adds(&b, "/hub");
    } else if ((v = variable("XDG_CACHE_HOME"))) {
        add_path(&b, v);
        lm_buf_adds(&b, "/huggingface/hub");
    } else {
        add_path(&b, "~/.cache/huggingface/hub");
    }
    char *root = lm_buf_take(&b, NULL);
    lm_buf_free(&b);
    return root;
}

static bool is_plain(const char *s, size_t n, const char *extra) {
    for (size_t i = 0; i < n; i++) {
        bool alnum = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9');
        if (!alnum && !strchr(extra, s[i])) return false;
    }
    return n > 0;
}

bool lm_hub_valid_id(const char *id) {
    const char *slash = strchr(id, '/'), *parts[2] = {id, slash ? slash + 1 : NULL};
    if (strlen(id) > 96 || strstr(id, "--") || strstr(id, "..")) return false;
    for (int i = 0; i < (slash ? 2 : 1); i++) {
        size_t n = i == 0 && slash ? (size_t)(slash - id) : strlen(parts[i]);
        if (!is_plain(parts[i], n, "-_.")) return false;
        if (strchr("-.", parts[i][0]) || strchr("-.", parts[i][n - 1])) return false;
    }
    return true;
}

static bool is_commit(const char *s) {
    return strlen(s) == 40 && strspn(s, "0123456789abcdef") == 40;
}

/* ROOT/models--ORG--NAME */
static char *repo_folder(const char *root, const char *id) {
    lm_buf b;
    lm_buf_init(&b, MAX_PATH_BYTES);
    lm_buf_adds(&b, root);
    lm_buf_adds(&b, "/models--");
    for (; *id; id++) *id == '/' ? lm_buf_adds(&b, "--") : lm_buf_addc(&b, *id);
    char *folder = lm_buf_take(&b, NULL);
    lm_buf_free(&b);
    return folder;
}

static char *path_of(const char *folder, const char *middle, const char *last) {
    lm_buf b;
    lm_buf_init(&b, MAX_PATH_BYTES);
    lm_buf_addf(&b, "%s/%s/%s", folder, middle, last);
    char *path = lm_buf_take(&b, NULL);
    lm_buf_free(&b);
    return path;
}

/* The commit that a revision stands for. A ref file holds its hash and perhaps white space. */
static lm_status read_revision(const char *repo, const char *id, const char *revision, char commit[41], lm_error *err) {
    char *text, *path;
    size_t length;
    if (is_commit(revision)) {
        memcpy(commit, revision, 41);
        return LM_OK;
    }
    if (!is_plain(revision, strlen(revision), "-_./") || strstr(revision, "..") || revision[0] == '/')
        return lm_fail(err, LM_ARG, "%s: '%.80s' is not a revision", id, revision);
    path = path_of(repo, "refs", revision);
    if (!path) return lm_fail_nomem(err, strlen(repo), "a path");
    if (!lm_fs_exists(path)) {
        lm_status s = lm_fail(err, LM_IO,
                              "%s: neither a path nor a model in the local cache: %s is not there, and downloading is "
                              "not built in",
                              id, path);
        free(path);
        return s;
    }
    lm_status s = lm_fs_read(path, 4096, &text, &length, err);
    if (s == LM_OK) {
        text[strcspn(text, " \t\r\n")] = 0;
        if (is_commit(text))
            memcpy(commit, text, 41);
        else
            s = lm_fail(err, LM_FORMAT, "%s: expected a commit hash of 40 hexadecimal digits", path);
        free(text);
    }
    free(path);
    return s;
}

lm_status lm_hub_find(const char *id, const char *revision, char **path, lm_error *err) {
    char commit[41] = "";
    *path = NULL;
    if (!lm_hub_valid_id(id))
        return lm_fail(err, LM_ARG, "'%.200s' is neither an existing path nor a repo id (name or org/name)", id);
    char *root = lm_hub_root(), *repo = root ? repo_folder(root, id) : NULL;
    free(root);
    if (!repo) return lm_fail_nomem(err, MAX_PATH_BYTES, "the path of the Hugging Face cache");
    lm_status s = read_revision(repo, id, revision ? revision : "main", commit, err);
    char *found = s == LM_OK ? path_of(repo, "snapshots", commit) : NULL;
    free(repo);
    if (s != LM_OK) return s;
    if (!found) return lm_fail_nomem(err, MAX_PATH_BYTES, "a path");
    if (!lm_fs_is_folder(found)) {
        s = lm_fail(err, LM_IO, "%s: the local cache has no snapshot %s, and downloading is not built in", id, found);
        free(found);
        return s;
    }
    *path = found;
    return LM_OK;
}

static bool is_gguf(const char *path) {
    char magic[4];
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return false; /* a pipe would wait */
    FILE *f = fopen(path, "rb");
    const bool yes = f && fread(magic, 1, 4, f) == 4 && !memcmp(magic, "GGUF", 4);
    if (f) fclose(f);
    return yes;
}

lm_status lm_model_resolve(const char *model, char **path, lm_error *err) {
    *path = NULL;
    if (!model || !*model) return lm_fail(err, LM_ARG, "the model's name is empty");
    if (lm_fs_exists(model)) {
        if (!lm_fs_is_folder(model))
            return lm_fail(err, LM_IO, "%s: expected a model's folder, found a %s", model,
                           is_gguf(model) ? "GGUF file: convert it first (mlx_lm.convert --gguf)" : "file");
        *path = strdup(model);
        return *path ? LM_OK : lm_fail_nomem(err, strlen(model), "a path");
    }
    return lm_hub_find(model, NULL, path, err);
}
