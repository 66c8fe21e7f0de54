/* SPDX-License-Identifier: MIT
 * identity.c: what the answers of an evaluation depend on, as names and values that a journal keeps: program,
 * processor, model files, tasks, data, prompts, numerics, sampling. Batch size, threads and load mode aren't among
 * them. */
#include "journal.h"
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SHARDS 10000
#define STRIDE 65536 /* of a weight file, the first BLOCK bytes of every STRIDE are hashed */
#define BLOCK 4096
#define BLOCKS 256 /* in one read buffer */

static void add_fact(lm_ev_facts *facts, const char *key, const char *format, ...) EV_PRINTF(3, 4);
static void add_fact(lm_ev_facts *facts, const char *key, const char *format, ...) {
    if (facts->n == sizeof facts->items / sizeof *facts->items) {
        facts->failed = true;
        return;
    }
    lm_ev_fact *fact = &facts->items[facts->n];
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    fact->value = n >= 0 ? malloc((size_t)n + 1) : NULL;
    if (fact->value) {
        vsnprintf(fact->value, (size_t)n + 1, format, again);
        snprintf(fact->key, sizeof fact->key, "%s", key);
        facts->n++;
    } else {
        facts->failed = true;
    }
    va_end(again);
}

void lm_ev_facts_free(lm_ev_facts *facts) {
    for (size_t i = 0; i < facts->n; i++) free(facts->items[i].value);
    facts->n = 0;
}

static void add_number(lm_ev_facts *facts, const char *key, float value) {
    char text[40];
    lm_ev_format(text, sizeof text, "%.9g", (double)value);
    add_fact(facts, key, "%s", text);
}

static void add_hash(lm_ev_facts *facts, const char *key, const char *text, size_t length) {
    char hex[65];
    lm_ev_sha256(text, length, hex);
    add_fact(facts, key, "%s", hex);
}

/* A small file of the model's folder by its bytes; one that isn't there is a fact, too. */
static lm_status add_file(lm_ev_facts *facts, const char *folder, const char *name, lm_error *err) {
    lm_ev_buf path = {0};
    lm_ev_buf_format(&path, "%s/%s", folder, name);
    char *file = NULL, *text = NULL;
    size_t length = 0;
    EV_TRY(lm_ev_buf_take(&path, &file, NULL, err));
    lm_status status = LM_OK;
    if (access(file, F_OK) != 0)
        add_fact(facts, name, "absent");
    else if ((status = lm_ev_read_file(file, &text, &length, err)) == LM_OK)
        add_hash(facts, name, text, length);
    free(text);
    free(file);
    return status;
}

/* Hashes the chain with the sampled bytes of one weight file. Reading gigabytes whole would cost more than many
 * evaluations; a sixteenth, spread evenly, sees any tensor past 64 KiB. */
static lm_status chain_file(const char *path, unsigned char *buffer, char chain[65], lm_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        if (fd >= 0) close(fd);
        return lm_ev_fail(err, LM_IO, "%s: cannot be read", path);
    }
    size_t used = 64;
    bool ok = true;
    for (int64_t at = 0; ok && at < (int64_t)st.st_size; at += STRIDE) {
        if (used == 64) memcpy(buffer, chain, 64);
        ssize_t n = pread(fd, buffer + used, BLOCK, (off_t)at);
        ok = n > 0;
        if (ok) used += (size_t)n;
        if (used > 64 + BLOCK * (BLOCKS - 1) || at + STRIDE >= (int64_t)st.st_size) {
            lm_ev_sha256(buffer, used, chain);
            used = 64;
        }
    }
    close(fd);
    lm_ev_buf end = {0};
    lm_ev_buf_format(&end, "%s %" PRId64, chain, (int64_t)st.st_size);
    if (!end.failed) lm_ev_sha256(end.data, end.length, chain);
    ok = ok && !end.failed;
    lm_ev_buf_free(&end);
    return ok ? LM_OK : lm_ev_fail(err, LM_IO, "%s: cannot be read", path);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Paths of the folder's safetensors files, sorted. */
static lm_status list_shards(const char *folder, char ***paths, size_t *n, lm_error *err) {
    DIR *dir = opendir(folder);
    if (!dir) return lm_ev_fail(err, LM_IO, "%s: the folder cannot be read", folder);
    size_t capacity = 0;
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(dir));) {
        size_t length = strlen(e->d_name);
        if (length < 12 || strcmp(e->d_name + length - 12, ".safetensors") != 0) continue;
        if (*n == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            char **more = capacity <= MAX_SHARDS * 2 ? realloc(*paths, capacity * sizeof **paths) : NULL;
            ok = more != NULL;
            if (ok) *paths = more;
        }
        if (!ok) break;
        lm_ev_buf path = {0};
        lm_ev_buf_format(&path, "%s/%s", folder, e->d_name);
        ok = lm_ev_buf_take(&path, &(*paths)[*n], NULL, NULL) == LM_OK;
        *n += ok;
    }
    closedir(dir);
    if (!ok) return lm_ev_fail(err, LM_NOMEM, "out of memory for the names of the weight files");
    qsort(*paths, *n, sizeof **paths, by_name);
    return LM_OK;
}

static lm_status add_weights(lm_ev_facts *facts, const char *folder, lm_error *err) {
    char **paths = NULL, chain[65];
    size_t n = 0;
    unsigned char *buffer = malloc(64 + (size_t)BLOCK * BLOCKS);
    lm_status status = buffer ? list_shards(folder, &paths, &n, err) : lm_ev_fail(err, LM_NOMEM, "out of memory");
    lm_ev_sha256("", 0, chain);
    for (size_t i = 0; status == LM_OK && i < n; i++) status = chain_file(paths[i], buffer, chain, err);
    if (status == LM_OK) add_fact(facts, "weights", "%s", chain);
    for (size_t i = 0; i < n; i++) free(paths[i]);
    free(paths);
    free(buffer);
    return status;
}

static lm_status add_model(lm_ev_facts *facts, const lm_engine_info *info, lm_error *err) {
    static const char *const files[] = {"config.json", "generation_config.json", "tokenizer.json",
                                        "tokenizer_config.json", "special_tokens_map.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) EV_TRY(add_file(facts, info->path, files[i], err));
    EV_TRY(add_weights(facts, info->path, err));
    add_fact(facts, "device", "%s", info->device ? info->device : "");
    add_fact(facts, "numerics", "%s", info->numerics ? info->numerics : "");
    add_fact(facts, "batch invariance", "%s", info->batch_invariant ? "on" : "off");
    add_fact(facts, "processor", "%s", lm_cpu_description());
    return LM_OK;
}

static lm_status add_prompts(lm_ev_facts *facts, const lm_eval *eval, lm_error *err) {
    const char *template_text = eval->tokenizer ? lm_tokenizer_chat_template(eval->tokenizer) : NULL;
    lm_ev_buf tasks = {0};
    for (size_t i = 0; i < eval->n_tasks; i++)
        lm_ev_buf_format(&tasks, "%s%s %s", i ? ", " : "", eval->tasks[i].task->name,
                         eval->tasks[i].task->family->version);
    char *names = NULL, *args = json_dumps(eval->template_args, JSON_COMPACT | JSON_SORT_KEYS);
    lm_status status = lm_ev_buf_take(&tasks, &names, NULL, err);
    if (status == LM_OK) add_fact(facts, "tasks", "%s", names);
    free(names);
    add_fact(facts, "rules", "%s", lm_eval_rules_name(eval->rules));
    add_fact(facts, "test data", "%s", eval->sha256[0]);
    add_fact(facts, "exemplars", "%s", eval->sha256[1]);
    add_fact(facts, "shots", "%" PRId64, lm_ev_shots(eval, eval->tasks[0].task));
    add_fact(facts, "limit", "%" PRId64, eval->limit);
    add_fact(facts, "max tokens", "%" PRId64, eval->max_tokens);
    add_fact(facts, "chat template", "%s", eval->chat ? "on" : "off");
    if (eval->chat) {
        add_hash(facts, "template text", template_text ? template_text : "", template_text ? strlen(template_text) : 0);
        add_fact(facts, "template arguments", "%s", args ? args : "");
        add_fact(facts, "multiturn", "%s", eval->multiturn ? "on" : "off");
    }
    if (!args) facts->failed = true;
    free(args);
    return status;
}

lm_status lm_ev_facts_make(const lm_eval *eval, lm_engine *engine, const lm_eval_run_options *options,
                           lm_ev_facts *facts, lm_error *err) {
    lm_engine_info info;
    lm_engine_get_info(engine, &info);
    const lm_sampler *s = &options->sampler;
    *facts = (lm_ev_facts){0};
    add_fact(facts, "program", "%s, lm-eval %s", lm_version(), lm_version_lm_eval());
    EV_TRY(add_prompts(facts, eval, err));
    add_fact(facts, "kv type", "%s", lm_ev_kv_name(options->kv_type, &info));
    if (!options->early_stop) add_fact(facts, "early stop", "off");
    add_number(facts, "temp", s->temp);
    if (s->temp > 0) {
        add_number(facts, "top-p", s->top_p);
        add_fact(facts, "top-k", "%d", (int)s->top_k);
        add_number(facts, "min-p", s->min_p);
        add_fact(facts, "seed", "%" PRIu64, options->seed);
        add_fact(facts, "repeats", "%zu", eval->repeats);
    }
    EV_TRY(add_model(facts, &info, err));
    return facts->failed ? lm_ev_fail(err, LM_NOMEM, "out of memory for the journal's facts") : LM_OK;
}
