/* SPDX-License-Identifier: MIT
 * card.c: the small files of a converted model: config.json, the index, the model card, and what is copied. */
#include "base/fs.h"
#include "convert/plan.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILE ((size_t)1 << 28)

static lm_status write_text(const char *folder, const char *name, const lm_buf *b, lm_error *err) {
    char *path = lm_fs_join(folder, name);
    lm_status s = path && !b->failed ? lm_file_write(path, b->data ? b->data : "", b->length, err)
                                     : lm_fail_nomem(err, b->length, name);
    free(path);
    return s;
}

/* ---------------------------------------------------------------- config.json */

static const char *mode_name(const cv_plan *plan) {
    return plan->options->q_mode ? plan->options->q_mode : "affine";
}

/* The table of -q: the source's own where it was quantized in part, else the defaults; then the entries per path. */
static json_t *quantization(const cv_plan *plan) {
    json_t *own = json_object_get(plan->config.root, "quantization");
    json_t *table = json_is_object(own) ? json_deep_copy(own)
                                        : json_pack("{s:i, s:i, s:s}", "group_size", plan->base.group, "bits",
                                                    plan->base.bits, "mode", mode_name(plan));
    if (table && json_object_update(table, plan->overrides)) {
        json_decref(table);
        return NULL;
    }
    return table;
}

static bool truthy(const json_t *v) {
    if (json_is_integer(v)) return json_integer_value(v) != 0;
    if (json_is_array(v)) return json_array_size(v) > 0;
    return v && !json_is_null(v) && !json_is_false(v);
}

/* generation_config.json's stop ids replace config's; a file that is not JSON counts as absent, as upstream. */
static bool override_eos(const cv_plan *plan, json_t *root) {
    char *path = lm_fs_join(plan->folder, "generation_config.json");
    json_t *generation = NULL;
    bool ok = path != NULL;
    if (ok && lm_fs_exists(path) && lm_json_load(path, MAX_FILE, &generation, NULL) == LM_OK) {
        json_t *eos = json_object_get(generation, "eos_token_id");
        if (truthy(eos)) ok = !json_object_set(root, "eos_token_id", eos);
    }
    json_decref(generation);
    free(path);
    return ok;
}

static bool edit_config(const cv_plan *plan, json_t *root) {
    bool ok = override_eos(plan, root);
    if (plan->options->dequantize || plan->fp8) {
        json_object_del(root, "quantization_config"); /* float8 sources are floats in the result */
        if (plan->options->dequantize) json_object_del(root, "quantization");
    }
    if (plan->options->quantize) ok = ok && !json_object_set_new(root, "quantization", quantization(plan));
    json_t *table = json_object_get(root, "quantization");
    if (table) ok = ok && !json_object_set(root, "quantization_config", table);
    json_object_del(root, "_name_or_path");
    json_object_del(root, "vision_config");
    return ok;
}

lm_status cv_config_text(const cv_plan *plan, char **out, lm_error *err) {
    lm_buf b;
    *out = NULL;
    json_t *root = json_deep_copy(plan->config.root);
    lm_buf_init(&b, MAX_FILE);
    if (root && edit_config(plan, root) && cv_json_dump(&b, root, true)) *out = lm_buf_take(&b, NULL);
    lm_buf_free(&b);
    json_decref(root);
    return *out ? LM_OK : lm_fail_nomem(err, 0, "config.json");
}

static lm_status write_config(const cv_plan *plan, const char *folder, lm_error *err) {
    char *text, *path = lm_fs_join(folder, "config.json");
    lm_status s = path ? cv_config_text(plan, &text, err) : lm_fail_nomem(err, strlen(folder), folder);
    if (s == LM_OK) {
        s = lm_file_write(path, text, strlen(text), err);
        free(text);
    }
    free(path);
    return s;
}

/* ---------------------------------------------------------------- the index */

static int by_name(const void *a, const void *b) {
    return strcmp((*(const cv_out *const *)a)->spec.name, (*(const cv_out *const *)b)->spec.name);
}

static lm_status write_index(const cv_plan *plan, const char *folder, lm_error *err) {
    lm_buf b;
    lm_buf_init(&b, MAX_FILE);
    const cv_out **sorted = calloc(plan->n_outs + 1, sizeof *sorted);
    json_t *index = sorted ? json_pack("{s:{s:I, s:I}, s:{}}", "metadata", "total_size", (json_int_t)plan->bytes,
                                       "total_parameters", (json_int_t)plan->parameters, "weight_map")
                           : NULL;
    json_t *map = json_object_get(index, "weight_map");
    bool ok = map != NULL;
    for (size_t i = 0; sorted && i < plan->n_outs; i++) sorted[i] = &plan->outs[i];
    if (sorted) qsort(sorted, plan->n_outs, sizeof *sorted, by_name);
    for (size_t i = 0; ok && i < plan->n_outs; i++)
        ok = !json_object_set_new(map, sorted[i]->spec.name, json_string(plan->shards[sorted[i]->shard].name));
    free(sorted);
    if (!ok || !cv_json_dump(&b, index, false)) b.failed = true;
    json_decref(index);
    lm_status s = write_text(folder, "model.safetensors.index.json", &b, err);
    lm_buf_free(&b);
    return s;
}

/* ---------------------------------------------------------------- README.md */

/* The front matter of a card: the lines between the first two "---"; length 0 if there is none. */
static const char *front_matter(const char *text, size_t *length) {
    *length = 0;
    if (strncmp(text, "---\n", 4)) return text;
    const char *start = text + 4, *end = strstr(text + 3, "\n---");
    if (end && end >= start - 1) *length = end < start ? 0 : (size_t)(end + 1 - start);
    return start;
}

static bool is_key(const char *line, size_t n, const char *key) {
    size_t k = strlen(key);
    return n > k && !strncmp(line, key, k) && line[k] == ':';
}

/* A tag of a "- tag" line, or of an inline list, is mlx. */
static bool names_mlx(const char *line, size_t n) {
    for (size_t i = 0; i + 3 <= n; i++)
        if (!strncmp(line + i, "mlx", 3) && (i == 0 || strchr(" -[,'\"", line[i - 1])) &&
            (i + 3 == n || strchr(" ],'\"\r", line[i + 3])))
            return true;
    return false;
}

/* Copies the source's front matter without the keys that are set anew. Tags stay a list; mlx is added if it is not
 * there. Returns whether there were tags. */
static bool copy_matter(lm_buf *b, const char *matter, size_t length) {
    bool drop = false, in_tags = false, tags = false, mlx = false;
    const char *end = matter + length;
    for (const char *line = matter; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t n = stop ? (size_t)(stop - line) : (size_t)(end - line);
        bool item = n && (*line == ' ' || *line == '-' || *line == '\t');
        if (!item && in_tags && !mlx) lm_buf_adds(b, "- mlx\n");
        if (!item) {
            in_tags = false;
            drop = is_key(line, n, "library_name") || is_key(line, n, "pipeline_tag") || is_key(line, n, "base_model");
        }
        bool inline_tags = !item && is_key(line, n, "tags") && memchr(line, '[', n) && memchr(line, ']', n);
        if (!item && is_key(line, n, "tags")) {
            tags = true;
            in_tags = !inline_tags;
            mlx = false;
        }
        if (in_tags || inline_tags) mlx = mlx || names_mlx(line, n);
        if (inline_tags && !mlx) {
            const char *close = memchr(line, ']', n), *open = memchr(line, '[', n);
            lm_buf_add(b, line, (size_t)(close - line));
            lm_buf_adds(b, close > open + 1 ? ", mlx" : "mlx");
            lm_buf_add(b, close, n - (size_t)(close - line));
            lm_buf_addc(b, '\n');
        } else if (!drop) {
            lm_buf_add(b, line, n);
            lm_buf_addc(b, '\n');
        }
        line += n + 1;
    }
    if (in_tags && !mlx) lm_buf_adds(b, "- mlx\n");
    return tags;
}

/* A folder's card is new; a hub model's card keeps its front matter. */
static lm_status write_readme(const cv_plan *plan, const char *folder, const char *repo, lm_error *err) {
    lm_buf b;
    char *path = repo ? lm_fs_join(plan->folder, "README.md") : NULL, *text = NULL;
    size_t length = 0;
    bool tags = false, old = path && lm_fs_exists(path) && lm_fs_read(path, MAX_FILE, &text, &length, NULL) == LM_OK;
    lm_buf_init(&b, MAX_FILE);
    lm_buf_adds(&b, "---\n");
    if (old) {
        const char *matter = front_matter(text, &length);
        tags = copy_matter(&b, matter, length);
    } else if (!repo)
        lm_buf_adds(&b, "language: en\n");
    lm_buf_adds(&b, "library_name: mlx\npipeline_tag: text-generation\n");
    if (!tags) lm_buf_adds(&b, "tags:\n- mlx\n");
    if (repo) lm_buf_addf(&b, "base_model: %s\n", repo);
    lm_buf_adds(&b, "---\n");
    lm_status s = write_text(folder, "README.md", &b, err);
    lm_buf_free(&b);
    free(text);
    free(path);
    return s;
}

/* ---------------------------------------------------------------- copies */

static bool ends_with(const char *name, const char *tail) {
    size_t n = strlen(name), t = strlen(tail);
    return n > t && !strcmp(name + n - t, tail);
}

static bool is_copied(const char *name) {
    static const char *const names[] = {"tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "tokenizer.model",
                                        "chat_template.jinja",
                                        "chat_template.json",
                                        "generation_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return true;
    return name[0] != '.' && (ends_with(name, ".py") || ends_with(name, ".tiktoken"));
}

static lm_status copy_file(const char *from_folder, const char *to_folder, const char *name, lm_error *err) {
    char *from = lm_fs_join(from_folder, name), *to = lm_fs_join(to_folder, name), *data = NULL;
    size_t length;
    lm_status s = from && to ? lm_fs_read(from, MAX_FILE, &data, &length, err) : lm_fail_nomem(err, strlen(name), name);
    if (s == LM_OK) s = lm_file_write(to, data, length, err);
    free(data);
    free(from);
    free(to);
    return s;
}

static lm_status copy_files(const cv_plan *plan, const char *folder, lm_error *err) {
    DIR *dir = opendir(plan->folder);
    if (!dir) return lm_fail(err, LM_IO, "%s: %s", plan->folder, strerror(errno));
    lm_status s = LM_OK;
    for (struct dirent *e; s == LM_OK && (e = readdir(dir));)
        if (is_copied(e->d_name)) s = copy_file(plan->folder, folder, e->d_name, err);
    closedir(dir);
    return s;
}

lm_status cv_card_write(const cv_plan *plan, const char *folder, const char *repo, lm_error *err) {
    LM_TRY(write_config(plan, folder, err));
    LM_TRY(write_index(plan, folder, err));
    LM_TRY(copy_files(plan, folder, err));
    return write_readme(plan, folder, repo, err);
}
