/* SPDX-License-Identifier: MIT
 * data.c: documents. Reads the two splits (embedded zstd frames, or JSONL files of a folder), checks every row, keeps
 * those of the selected tasks, and takes fingerprints of the bytes. Files are hostile: sizes are bounded and every
 * error names file and line. */
#include "internal.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define MAX_FILE ((size_t)512 << 20)
#define MAX_LINE ((size_t)4 << 20)

lm_status lm_ev_read_file(const char *path, char **text, size_t *length, lm_error *err) {
    FILE *file = fopen(path, "rb");
    if (!file) return lm_ev_fail(err, LM_IO, "%s: cannot be opened: %s", path, strerror(errno));
    lm_ev_buf buf = {0};
    char *chunk = malloc(1 << 16);
    size_t n = 0;
    while (chunk && buf.length <= MAX_FILE && !buf.failed && (n = fread(chunk, 1, 1 << 16, file)) > 0)
        lm_ev_buf_add(&buf, chunk, n);
    const char *bad = ferror(file) ? strerror(errno) : NULL;
    fclose(file);
    bool memory = chunk != NULL;
    free(chunk);
    lm_status status = LM_OK;
    if (!memory)
        status = lm_ev_fail(err, LM_NOMEM, "out of memory while reading %s", path);
    else if (bad)
        status = lm_ev_fail(err, LM_IO, "%s: cannot be read: %s", path, bad);
    else if (buf.length > MAX_FILE)
        status = lm_ev_fail(err, LM_FORMAT, "%s: expected at most %zu bytes, found more", path, MAX_FILE);
    if (status != LM_OK) {
        lm_ev_buf_free(&buf);
        return status;
    }
    return lm_ev_buf_take(&buf, text, length, err);
}

static lm_status unpack(const char *name, const unsigned char *data, size_t size, char **text, size_t *length,
                        lm_error *err) {
    unsigned long long n = ZSTD_getFrameContentSize(data, size);
    if (n == ZSTD_CONTENTSIZE_ERROR || n == ZSTD_CONTENTSIZE_UNKNOWN || n > MAX_FILE)
        return lm_ev_fail(err, LM_FORMAT, "%s: the embedded copy isn't a zstd frame of known size", name);
    char *out = malloc((size_t)n + 1);
    if (!out) return lm_ev_fail(err, LM_NOMEM, "out of memory for %s", name);
    size_t got = ZSTD_decompress(out, (size_t)n, data, size);
    if (ZSTD_isError(got) || got != n) {
        free(out);
        return lm_ev_fail(err, LM_FORMAT, "%s: the embedded copy is damaged", name);
    }
    out[n] = 0;
    *text = out;
    *length = (size_t)n;
    return LM_OK;
}

/* The tasks whose subject a row has; -1 when no selected task wants it. */
static long owner_of(const lm_eval *eval, const json_t *row) {
    const char *subject = json_string_value(json_object_get(row, eval->dataset->subject_key));
    for (size_t i = 0; subject && i < eval->n_tasks; i++)
        if (strcmp(eval->tasks[i].task->subject, subject) == 0) return (long)i;
    return -1;
}

static lm_status keep_row(lm_eval *eval, bool fewshot, json_t *row, lm_error *err) {
    long owner = owner_of(eval, row);
    if (owner < 0) return LM_OK;
    lm_ev_run_task *task = &eval->tasks[owner];
    json_t *list = fewshot ? task->fewshot : task->docs;
    if (!fewshot) {
        task->n_docs_total++;
        if (eval->limit >= 0 && (int64_t)json_array_size(list) >= eval->limit) return LM_OK;
    }
    if (json_array_append(list, row) != 0) return lm_ev_fail(err, LM_NOMEM, "out of memory for the documents");
    return LM_OK;
}

lm_status lm_ev_parse(lm_eval *eval, bool fewshot, const char *name, const char *text, size_t length, lm_error *err) {
    size_t offset = 0, number = 0, n = 0;
    const char *line = NULL;
    while (lm_ev_next_line(text, length, &offset, &number, &line, &n)) {
        char where[600];
        snprintf(where, sizeof where, "%.500s:%zu", name, number);
        if (n > MAX_LINE)
            return lm_ev_fail(err, LM_FORMAT, "%s: expected a line of at most %zu bytes", where, MAX_LINE);
        json_error_t json_err;
        json_t *row = json_loadb(line, n, JSON_REJECT_DUPLICATES, &json_err);
        if (!row) return lm_ev_fail(err, LM_FORMAT, "%s: %s (column %d)", where, json_err.text, json_err.column);
        lm_status status = json_is_object(row) ? eval->dataset->check(row, where, err)
                                               : lm_ev_fail(err, LM_FORMAT, "%s: expected a JSON object", where);
        if (status == LM_OK) status = keep_row(eval, fewshot, row, err);
        json_decref(row);
        EV_TRY(status);
        eval->n_rows[fewshot]++;
    }
    return LM_OK;
}

static lm_status load_split(lm_eval *eval, bool fewshot, lm_error *err) {
    const char *file = fewshot ? eval->dataset->fewshot_file : eval->dataset->test_file;
    char *text = NULL, *path = NULL;
    size_t length = 0;
    lm_status status;
    if (eval->data_dir) {
        lm_ev_buf buf = {0};
        lm_ev_buf_format(&buf, "%s/%s", eval->data_dir, file);
        status = lm_ev_buf_take(&buf, &path, NULL, err);
        if (status == LM_OK) status = lm_ev_read_file(path, &text, &length, err);
    } else {
        const unsigned char *data = NULL;
        size_t size = 0;
        eval->dataset->embedded(fewshot, &data, &size);
        status = unpack(file, data, size, &text, &length, err);
    }
    if (status == LM_OK) {
        lm_ev_sha256(text, length, eval->sha256[fewshot]);
        status = lm_ev_parse(eval, fewshot, path ? path : file, text, length, err);
    }
    free(text);
    free(path);
    return status;
}

/* The note that goes with every score: the embedded copy's own, also when the folder holds the same bytes. */
static lm_status make_note(lm_eval *eval, lm_error *err) {
    bool same = !eval->data_dir;
    if (!same) {
        same = true;
        for (int fewshot = 0; fewshot < 2 && same; fewshot++) {
            const unsigned char *data = NULL;
            size_t size = 0, length = 0;
            char *text = NULL, hex[65];
            eval->dataset->embedded(fewshot, &data, &size);
            EV_TRY(unpack(eval->dataset->name, data, size, &text, &length, err));
            lm_ev_sha256(text, length, hex);
            free(text);
            same = strcmp(hex, eval->sha256[fewshot]) == 0;
        }
    }
    lm_ev_buf buf = {0};
    if (same)
        lm_ev_buf_text(&buf, eval->dataset->note);
    else
        lm_ev_buf_format(&buf,
                         "the questions come from %s (test sha256 %.16s, exemplars %.16s): compare scores only with "
                         "runs on the same data",
                         eval->data_dir, eval->sha256[0], eval->sha256[1]);
    return lm_ev_buf_take(&buf, &eval->note, NULL, err);
}

lm_status lm_ev_load(lm_eval *eval, lm_error *err) {
    for (size_t i = 0; i < eval->n_tasks; i++) {
        eval->tasks[i].docs = json_array();
        eval->tasks[i].fewshot = json_array();
        if (!eval->tasks[i].docs || !eval->tasks[i].fewshot)
            return lm_ev_fail(err, LM_NOMEM, "out of memory for the documents");
    }
    EV_TRY(load_split(eval, false, err));
    EV_TRY(load_split(eval, true, err));
    EV_TRY(make_note(eval, err));
    for (size_t i = 0; i < eval->n_tasks; i++) {
        lm_ev_run_task *task = &eval->tasks[i];
        int64_t shots = lm_ev_shots(eval, task->task), available = (int64_t)json_array_size(task->fewshot);
        if (!json_array_size(task->docs))
            return lm_ev_fail(err, LM_ARG, "%s: did not find any docs (limit %lld, %lld rows of this subject)",
                              task->task->name, (long long)eval->limit, (long long)task->n_docs_total);
        if (shots > available)
            return lm_ev_fail(err, LM_ARG,
                              "%s: number of fewshot samples requested (%lld) exceeds the %lld that are "
                              "available",
                              task->task->name, (long long)shots, (long long)available);
        task->first = eval->n_requests;
        task->count = json_array_size(task->docs);
        eval->n_requests += task->count;
    }
    return LM_OK;
}
