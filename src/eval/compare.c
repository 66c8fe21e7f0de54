/* SPDX-License-Identifier: MIT
 * compare.c: reads result folders, makes sure that they answer the same questions, and computes every pair: paired
 * differences with intervals, McNemar's exact test, a stratified bootstrap, agreement. */
#include "compare.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_FOLDERS 100
#define MAX_SAMPLES ((size_t)1 << 24)
#define DRAWS 10000
#define REPORT "_report.json"

/* ---- reading */

void lm_ev_samples_free(lm_ev_sample_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i].target);
        free(list->items[i].filtered);
    }
    free(list->items);
    *list = (lm_ev_sample_list){.task = list->task};
}

static lm_status add_sample(void *user, const json_t *row, lm_error *err) {
    lm_ev_sample_list *list = user;
    const json_t *task = json_object_get(row, "task"), *doc_id = json_object_get(row, "doc_id"),
                 *target = json_object_get(row, "target"), *filtered = json_object_get(row, "filtered"),
                 *score = json_object_get(row, list->task->family->metric.name);
    if (!json_is_string(task) || strcmp(json_string_value(task), list->task->name) != 0)
        return lm_ev_fail(err, LM_FORMAT, "task: expected \"%s\", found something else", list->task->name);
    if (!json_is_integer(doc_id)) return lm_ev_fail(err, LM_FORMAT, "doc_id: expected an integer");
    if (json_object_get(row, "repeat"))
        return lm_ev_fail(err, LM_ARG, "repeat: expected one answer a question, found a result with --repeats");
    if (!json_is_string(target)) return lm_ev_fail(err, LM_FORMAT, "target: expected a string");
    if (!json_is_string(filtered)) return lm_ev_fail(err, LM_FORMAT, "filtered: expected a string");
    double value = json_number_value(score);
    if (!json_is_number(score) || !(value == 0 || value == 1))
        return lm_ev_fail(err, LM_FORMAT, "%s: expected 0 or 1", list->task->family->metric.name);
    json_int_t id = json_integer_value(doc_id);
    if (id < 0 || (list->n && id <= list->items[list->n - 1].doc_id))
        return lm_ev_fail(err, LM_FORMAT, "doc_id %lld: expected ascending numbers from 0", (long long)id);
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 256;
        lm_ev_sample *items = capacity <= MAX_SAMPLES ? realloc(list->items, capacity * sizeof *items) : NULL;
        if (!items) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu samples", capacity);
        list->items = items;
        list->capacity = capacity;
    }
    lm_ev_sample sample = {.doc_id = id,
                           .score = value,
                           .target = lm_ev_copy(json_string_value(target), json_string_length(target)),
                           .filtered = lm_ev_copy(json_string_value(filtered), json_string_length(filtered))};
    list->items[list->n++] = sample;
    return sample.target && sample.filtered ? LM_OK : lm_ev_fail(err, LM_NOMEM, "out of memory for a sample");
}

lm_status lm_ev_samples_parse(lm_ev_sample_list *list, const char *name, const char *text, size_t length,
                              lm_error *err) {
    return lm_ev_each_row(name, text, length, add_sample, list, err);
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

/* The report of a folder, or the report itself: base is its path without the ending. */
static lm_status find_report(lm_ev_result *r, lm_error *err) {
    struct stat st;
    if (stat(r->folder, &st) != 0) return lm_ev_fail(err, LM_IO, "%s: no such folder or report", r->folder);
    lm_ev_buf path = {0};
    if (!S_ISDIR(st.st_mode)) {
        if (!ends_with(r->folder, REPORT))
            return lm_ev_fail(err, LM_ARG, "%s: expected a result folder or a *" REPORT " file", r->folder);
        lm_ev_buf_text(&path, r->folder);
    } else {
        DIR *dir = opendir(r->folder);
        if (!dir) return lm_ev_fail(err, LM_IO, "%s: the folder cannot be read", r->folder);
        size_t found = 0;
        for (struct dirent *e; (e = readdir(dir));)
            if (ends_with(e->d_name, REPORT) && found++ == 0) lm_ev_buf_format(&path, "%s/%s", r->folder, e->d_name);
        closedir(dir);
        if (found != 1) {
            lm_ev_buf_free(&path);
            return lm_ev_fail(err, LM_ARG,
                              "%s: expected one *" REPORT " in this folder, found %zu (none: its evaluation isn't "
                              "finished; several: name one of them instead of the folder)",
                              r->folder, found);
        }
    }
    if (!path.failed) path.data[path.length - strlen(REPORT)] = 0;
    return lm_ev_buf_take(&path, &r->base, NULL, err);
}

static const lm_ev_task *task_named(const char *name) {
    for (size_t i = 0; i < lm_ev_n_tasks; i++)
        if (strcmp(lm_ev_tasks[i].name, name) == 0) return &lm_ev_tasks[i];
    return NULL;
}

static lm_status read_text(const lm_ev_result *r, const char *format, const char *name, char **path, char **text,
                           size_t *length, lm_error *err) {
    lm_ev_buf buf = {0};
    lm_ev_buf_text(&buf, r->base);
    lm_ev_buf_text(&buf, format);
    lm_ev_buf_text(&buf, name);
    if (*name) lm_ev_buf_text(&buf, ".jsonl");
    EV_TRY(lm_ev_buf_take(&buf, path, NULL, err));
    lm_status status = lm_ev_read_file(*path, text, length, err);
    if (status != LM_OK) free(*path);
    return status;
}

static lm_status read_report(lm_ev_result *r, lm_error *err) {
    char *path = NULL, *text = NULL;
    size_t length = 0;
    EV_TRY(read_text(r, REPORT, "", &path, &text, &length, err));
    json_error_t json_err;
    r->report = json_loadb(text, length, JSON_REJECT_DUPLICATES, &json_err);
    lm_status status = LM_OK;
    static const char *const hashes[] = {"test_sha256", "fewshot_sha256"};
    if (!r->report)
        status = lm_ev_fail(err, LM_FORMAT, "%.400s:%d: %s", path, json_err.line, json_err.text);
    else if (!json_object_size(json_object_get(r->report, "results")))
        status = lm_ev_fail(err, LM_FORMAT, "%.400s: results: expected an object with a task", path);
    for (size_t i = 0; status == LM_OK && i < 2; i++)
        if (!json_is_string(json_object_get(json_object_get(r->report, "data"), hashes[i])))
            status = lm_ev_fail(err, LM_FORMAT, "%.400s: data.%s: expected a string", path, hashes[i]);
    free(text);
    free(path);
    return status;
}

static lm_status read_result(lm_ev_result *r, lm_error *err) {
    EV_TRY(find_report(r, err));
    EV_TRY(read_report(r, err));
    json_t *results = json_object_get(r->report, "results"), *value;
    r->tasks = calloc(json_object_size(results), sizeof *r->tasks);
    if (!r->tasks) return lm_ev_fail(err, LM_NOMEM, "out of memory for the samples");
    const char *key;
    json_object_foreach(results, key, value) {
        const lm_ev_task *task = task_named(key);
        if (!task) continue; /* a group */
        lm_ev_sample_list *list = &r->tasks[r->n_tasks++];
        list->task = task;
        char *path = NULL, *text = NULL;
        size_t length = 0;
        EV_TRY(read_text(r, "_samples_", task->name, &path, &text, &length, err));
        lm_status status = lm_ev_samples_parse(list, path, text, length, err);
        if (status == LM_OK && !list->n) status = lm_ev_fail(err, LM_FORMAT, "%.400s: no sample in it", path);
        free(text);
        free(path);
        EV_TRY(status);
        r->n += list->n;
    }
    return r->n ? LM_OK : lm_ev_fail(err, LM_FORMAT, "%s: no task known here in its report", r->folder);
}

/* ---- the same questions? */

static lm_status check_same(const lm_ev_result *a, const lm_ev_result *b, lm_error *err) {
    static const char *const hashes[][2] = {{"test_sha256", "test questions"}, {"fewshot_sha256", "exemplars"}};
    const json_t *x = json_object_get(a->report, "data"), *y = json_object_get(b->report, "data");
    for (size_t i = 0; i < 2; i++) {
        const char *s = json_string_value(json_object_get(x, hashes[i][0])),
                   *t = json_string_value(json_object_get(y, hashes[i][0]));
        if (strcmp(s, t) != 0)
            return lm_ev_fail(err, LM_ARG, "%s and %s can't be compared: their %s differ (sha256 %.16s and %.16s)",
                              a->folder, b->folder, hashes[i][1], s, t);
    }
    if (a->n_tasks != b->n_tasks)
        return lm_ev_fail(err, LM_ARG, "%s and %s can't be compared: %zu and %zu tasks", a->folder, b->folder,
                          a->n_tasks, b->n_tasks);
    for (size_t i = 0; i < a->n_tasks; i++) {
        const lm_ev_sample_list *s = &a->tasks[i], *t = &b->tasks[i];
        if (s->task != t->task)
            return lm_ev_fail(err, LM_ARG, "%s and %s can't be compared: task %zu is %s and %s", a->folder, b->folder,
                              i + 1, s->task->name, t->task->name);
        if (s->n != t->n)
            return lm_ev_fail(err, LM_ARG, "%s and %s can't be compared: %zu and %zu questions of %s", a->folder,
                              b->folder, s->n, t->n, s->task->name);
        for (size_t k = 0; k < s->n; k++)
            if (s->items[k].doc_id != t->items[k].doc_id || strcmp(s->items[k].target, t->items[k].target) != 0)
                return lm_ev_fail(err, LM_ARG, "%s and %s can't be compared: question %zu of %s isn't the same",
                                  a->folder, b->folder, k, s->task->name);
    }
    return LM_OK;
}

/* ---- numbers */

/* The tasks of `group` (NULL: all) as strata of one row. Buffers hold a difference a question, a size a task. */
static lm_status make_row(const lm_ev_comparison *c, const lm_ev_pair *pair, const lm_ev_group *group, size_t only,
                          double *differences, size_t *sizes, lm_ev_pair_row *row, lm_error *err) {
    const lm_ev_result *a = &c->results[pair->a], *b = &c->results[pair->b];
    size_t strata = 0;
    double right_a = 0, right_b = 0;
    for (size_t i = 0; i < a->n_tasks; i++) {
        const lm_ev_sample_list *s = &a->tasks[i], *t = &b->tasks[i];
        if (only != SIZE_MAX && i != only) continue;
        bool member = !group;
        for (const char *const *m = group ? group->members : NULL; m && *m && !member; m++)
            member = strcmp(*m, s->task->name) == 0;
        if (!member) continue;
        sizes[strata++] = s->n;
        for (size_t k = 0; k < s->n; k++) {
            double x = s->items[k].score, y = t->items[k].score;
            differences[row->n++] = y - x;
            right_a += x;
            right_b += y;
            row->only_a += x > y;
            row->only_b += y > x;
            row->same_answer += strcmp(s->items[k].filtered, t->items[k].filtered) == 0;
        }
    }
    if (!row->n) return LM_OK;
    double n = (double)row->n;
    row->same_score = (int64_t)row->n - row->only_a - row->only_b;
    row->a = right_a / n;
    row->b = right_b / n;
    row->difference = lm_ev_mean(differences, row->n);
    row->has_se = row->n > 1;
    row->se = row->has_se ? lm_ev_mean_stderr(differences, row->n) : 0;
    row->normal = lm_ev_normal(row->difference, row->se);
    row->p = row->holm = lm_ev_mcnemar(row->only_a, row->only_b);
    return lm_ev_bootstrap(differences, sizes, strata, c->draws, c->seed, &row->bootstrap, err);
}

static lm_status adjust_subjects(lm_ev_pair *pair, size_t n, lm_error *err) {
    double *p = calloc(2 * n, sizeof *p);
    if (!p) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu p values", n);
    for (size_t i = 0; i < n; i++) p[i] = pair->rows[i].p;
    lm_status status = lm_ev_holm(p, n, p + n, err);
    for (size_t i = 0; status == LM_OK && i < n; i++) pair->rows[i].holm = p[n + i];
    free(p);
    return status;
}

static lm_status make_rows(const lm_ev_comparison *c, lm_ev_pair *pair, double *differences, size_t *sizes,
                           lm_error *err) {
    const lm_ev_result *a = &c->results[pair->a];
    size_t n = a->n_tasks;
    for (size_t i = 0; i < n; i++) {
        lm_ev_pair_row *row = &pair->rows[pair->n_rows++];
        row->name = a->tasks[i].task->name;
        EV_TRY(make_row(c, pair, NULL, i, differences, sizes, row, err));
    }
    for (size_t g = 0; g < lm_ev_n_groups; g++) {
        if (!json_object_get(json_object_get(a->report, "results"), lm_ev_groups[g].name)) continue;
        lm_ev_pair_row *row = &pair->rows[pair->n_rows];
        *row = (lm_ev_pair_row){.name = lm_ev_groups[g].name, .group = true};
        EV_TRY(make_row(c, pair, &lm_ev_groups[g], SIZE_MAX, differences, sizes, row, err));
        if (row->n) pair->n_rows++;
    }
    if (pair->rows[pair->n_rows - 1].n != a->n) {
        lm_ev_pair_row *row = &pair->rows[pair->n_rows++];
        *row = (lm_ev_pair_row){.name = "all questions", .group = true};
        EV_TRY(make_row(c, pair, NULL, SIZE_MAX, differences, sizes, row, err));
    }
    return adjust_subjects(pair, n, err);
}

/* Which pairs are told apart: by the last row's p, adjusted for the number of pairs. */
static lm_status adjust_pairs(lm_ev_comparison *c, lm_error *err) {
    double *p = calloc(2 * c->n_pairs, sizeof *p);
    if (!p) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu p values", c->n_pairs);
    for (size_t i = 0; i < c->n_pairs; i++) p[i] = c->pairs[i].rows[c->pairs[i].n_rows - 1].p;
    lm_status status = lm_ev_holm(p, c->n_pairs, p + c->n_pairs, err);
    for (size_t i = 0; status == LM_OK && i < c->n_pairs; i++) {
        c->pairs[i].rows[c->pairs[i].n_rows - 1].holm = p[c->n_pairs + i];
        c->pairs[i].separable = p[c->n_pairs + i] < 0.05;
    }
    free(p);
    return status;
}

static lm_status make_pairs(lm_ev_comparison *c, lm_error *err) {
    size_t n_tasks = c->results[0].n_tasks, n_rows = n_tasks + lm_ev_n_groups + 1;
    c->pairs = calloc(c->n_results * (c->n_results - 1) / 2, sizeof *c->pairs);
    double *differences = calloc(c->results[0].n, sizeof *differences);
    size_t *sizes = calloc(n_tasks, sizeof *sizes);
    lm_status status =
        c->pairs && differences && sizes ? LM_OK : lm_ev_fail(err, LM_NOMEM, "out of memory for the comparison");
    for (size_t a = 0; status == LM_OK && a < c->n_results; a++)
        for (size_t b = a + 1; status == LM_OK && b < c->n_results; b++) {
            lm_ev_pair *pair = &c->pairs[c->n_pairs++];
            *pair = (lm_ev_pair){.a = a, .b = b, .rows = calloc(n_rows, sizeof *pair->rows)};
            status = pair->rows ? make_rows(c, pair, differences, sizes, err)
                                : lm_ev_fail(err, LM_NOMEM, "out of memory for the comparison");
        }
    if (status == LM_OK) status = adjust_pairs(c, err);
    free(differences);
    free(sizes);
    return status;
}

/* ---- entry point */

static void free_comparison(lm_ev_comparison *c) {
    for (size_t i = 0; c->results && i < c->n_results; i++) {
        lm_ev_result *r = &c->results[i];
        for (size_t k = 0; k < r->n_tasks; k++) lm_ev_samples_free(&r->tasks[k]);
        free(r->tasks);
        free(r->base);
        json_decref(r->report);
    }
    for (size_t i = 0; i < c->n_pairs; i++) free(c->pairs[i].rows);
    free(c->results);
    free(c->pairs);
}

lm_status lm_eval_compare(const char *const *folders, size_t n, uint64_t seed, bool json, char **text, size_t *length,
                          lm_error *err) {
    if (n < 2 || n > MAX_FOLDERS)
        return lm_ev_fail(err, LM_ARG, "--compare: expected 2 to %d result folders, found %zu", MAX_FOLDERS, n);
    lm_ev_comparison c = {.n_results = n, .draws = DRAWS, .seed = seed};
    lm_ev_buf out = {0};
    c.results = calloc(n, sizeof *c.results);
    lm_status status = c.results ? LM_OK : lm_ev_fail(err, LM_NOMEM, "out of memory for the comparison");
    for (size_t i = 0; status == LM_OK && i < n; i++) {
        c.results[i].folder = folders[i];
        status = read_result(&c.results[i], err);
        if (status == LM_OK && i) status = check_same(&c.results[0], &c.results[i], err);
    }
    if (status == LM_OK) status = make_pairs(&c, err);
    if (status == LM_OK && json)
        lm_ev_comparison_json(&c, &out);
    else if (status == LM_OK)
        lm_ev_comparison_markdown(&c, &out);
    free_comparison(&c);
    if (status == LM_OK) return lm_ev_buf_take(&out, text, length, err);
    lm_ev_buf_free(&out);
    return status;
}
