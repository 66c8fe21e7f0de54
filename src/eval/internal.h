/* SPDX-License-Identifier: MIT
 * internal.h: what the files of the evaluation share: text buffers, task rows, documents, answers.
 * A task is data: a row of tasks.c naming its pieces (documents, prompt text, filter, metric). Code is written only for
 * a new kind of piece. */
#ifndef LM_EVAL_INTERNAL_H
#define LM_EVAL_INTERNAL_H
#include "lm/eval.h"
#include <jansson.h>

#if defined(__GNUC__)
#define EV_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define EV_PRINTF(f, a)
#endif
#define EV_TRY(expr)                                      \
    do {                                                  \
        lm_status lm_ev_status_ = (expr);                 \
        if (lm_ev_status_ != LM_OK) return lm_ev_status_; \
    } while (0)

/* ---- text.c */

/** Fills err with one formatted line and returns `status`. */
lm_status lm_ev_fail(lm_error *err, lm_status status, const char *format, ...) EV_PRINTF(3, 4);

/** snprintf with a point in numbers, whatever the locale. */
int lm_ev_format(char *text, size_t size, const char *format, ...) EV_PRINTF(3, 4);

/** A growing text. A failed allocation sticks in `failed`: check once, at the end. */
typedef struct lm_ev_buf {
    char *data;
    size_t length, capacity;
    bool failed;
} lm_ev_buf;
void lm_ev_buf_add(lm_ev_buf *buf, const char *data, size_t length);
void lm_ev_buf_text(lm_ev_buf *buf, const char *text);
void lm_ev_buf_format(lm_ev_buf *buf, const char *format, ...) EV_PRINTF(2, 3);
void lm_ev_buf_json(lm_ev_buf *buf, const char *text, size_t length); /* a JSON string, UTF-8 kept */
void lm_ev_buf_double(lm_ev_buf *buf, double value);                  /* Python's repr: shortest that reads back */
void lm_ev_buf_free(lm_ev_buf *buf);
/** Moves the terminated text out. */
lm_status lm_ev_buf_take(lm_ev_buf *buf, char **text, size_t *length, lm_error *err);

/** Python's str.strip(): narrows [*text, *text + *length) past Unicode white space. */
void lm_ev_strip(const char **text, size_t *length);
/** First occurrence of needle, or `length`. An empty needle is at 0, as in Python. */
size_t lm_ev_find(const char *text, size_t length, const char *needle, size_t needle_length);
char *lm_ev_copy(const char *text, size_t length);
/** SHA-256 of a text as 64 hex digits and a NUL. */
void lm_ev_sha256(const void *data, size_t length, char hex[65]);
/** Next line of a JSONL text: false at its end. Blank lines are stepped over; `*number` counts from 1. */
bool lm_ev_next_line(const char *text, size_t length, size_t *offset, size_t *number, const char **line, size_t *n);
/** Calls fn with the JSON value of each line (borrowed), until one fails; errors get "NAME:LINE: " in front. */
lm_status lm_ev_each_row(const char *name, const char *text, size_t length,
                         lm_status (*fn)(void *user, const json_t *row, lm_error *err), void *user, lm_error *err);

/* ---- tasks.c: the rows */

typedef enum lm_ev_filter_kind { EV_FILTER_END, EV_FILTER_REGEX, EV_FILTER_TAKE_FIRST } lm_ev_filter_kind;
typedef struct lm_ev_filter_step {
    lm_ev_filter_kind kind;
    const char *pattern, *fallback; /* regex */
    int group_select;               /* which match: 0 first, -1 last */
} lm_ev_filter_step;
typedef struct lm_ev_filter {
    const char *name;
    lm_ev_filter_step steps[4];
} lm_ev_filter;

enum { EV_IGNORE_CASE = 1, EV_IGNORE_PUNCTUATION = 2, EV_IGNORE_NUMBERS = 4 };
typedef struct lm_ev_metric {
    const char *name;
    double (*score)(const struct lm_ev_metric *metric, const char *prediction, const char *target);
    int flags;
    bool higher_is_better;
} lm_ev_metric;

/** A question set: two files, embedded compressed, and the check of a row. */
typedef struct lm_ev_dataset {
    const char *name;
    const char *test_file, *fewshot_file;
    void (*embedded)(bool fewshot, const unsigned char **data, size_t *size);
    lm_status (*check)(const json_t *row, const char *where, lm_error *err);
    const char *subject_key; /* column that tells a task's rows apart */
    const char *note;        /* said with every score of the embedded copy */
} lm_ev_dataset;

/** What tasks of one family share. */
typedef struct lm_ev_family {
    const lm_ev_dataset *dataset;
    const char *description; /* system text; "{}" stands for the subject */
    void (*doc_to_text)(const json_t *doc, lm_ev_buf *out);
    void (*doc_to_text_seed)(const json_t *doc, lm_ev_buf *out); /* under the seed's rules */
    void (*fewshot_to_target)(const json_t *doc, lm_ev_buf *out);
    const char *target_key; /* column with the gold answer */
    const char *target_delimiter, *fewshot_delimiter;
    int64_t num_shots;
    const char *until[4]; /* NULL ends */
    int64_t max_gen_toks;
    const char *generation_kwargs; /* as lm-eval hands them to a model, JSON */
    lm_ev_filter filter;
    lm_ev_metric metric;
    const char *version, *version_seed;
} lm_ev_family;

typedef struct lm_ev_task {
    const char *name, *alias, *subject;
    const lm_ev_family *family;
} lm_ev_task;

typedef struct lm_ev_group {
    const char *name, *alias, *version;
    const char *const *members; /* task names, NULL ends */
    bool weight_by_size;
} lm_ev_group;

extern const lm_ev_task lm_ev_tasks[];
extern const size_t lm_ev_n_tasks;
extern const lm_ev_group lm_ev_groups[];
extern const size_t lm_ev_n_groups;

/* ---- one evaluation */

typedef struct lm_ev_answer {
    bool answered;
    char *text; /* uncut completion */
    size_t length;
    char *filtered;
    double score;
    const char *finish; /* "stop", "length", "until", "given" */
    int32_t *ids;
    size_t n_ids, n_prompt;
} lm_ev_answer;

typedef struct lm_ev_run_task { /* a selected task with its documents */
    const lm_ev_task *task;
    json_t *docs, *fewshot; /* arrays */
    int64_t n_docs_total;   /* before the limit */
    size_t first, count;    /* its requests: [first, first + count) */
} lm_ev_run_task;

struct lm_eval {
    const lm_tokenizer *tokenizer;
    lm_eval_rules rules;
    bool chat, multiturn, has_num_shots;
    int64_t num_shots, limit, max_tokens;
    char **names; /* as given, for the file name */
    size_t n_names;
    json_t *template_args; /* variables for the template, enable_thinking among them */
    char *data_dir;
    const lm_ev_dataset *dataset;
    char sha256[2][65]; /* test, few-shot */
    int64_t n_rows[2];
    char *note;
    lm_ev_run_task *tasks;
    size_t n_tasks;
    const lm_ev_group **groups;
    size_t n_groups;
    lm_ev_answer *answers; /* [n_requests * repeats]: those of one question together */
    size_t n_requests, n_answered, repeats;
    bool ran;
    lm_eval_progress stats;
    lm_engine_info engine; /* of the run; strings copied into engine_text */
    char *engine_text;
    int64_t peak_bytes, batch_size, memory_budget, rss_peak;
    bool shared, speculated, stopped_early; /* as the run was asked to */
};

/** generate.c: element type of keys and values in words: info's where AUTO. */
const char *lm_ev_kv_name(lm_kv_type type, const lm_engine_info *info);
/** Most tokens that an answer gets. */
int64_t lm_ev_token_cap(const lm_eval *eval, const lm_ev_task *task);
/** Shots that task `t` gets. */
int64_t lm_ev_shots(const lm_eval *eval, const lm_ev_task *task);
/** Looks names up: fills eval->tasks (without documents) and eval->groups. */
lm_status lm_ev_resolve(lm_eval *eval, lm_error *err);
/** data.c: a whole file of at most 512 MiB, terminated; freed with free. */
lm_status lm_ev_read_file(const char *path, char **text, size_t *length, lm_error *err);
/** data.c: loads documents of every selected task. */
lm_status lm_ev_load(lm_eval *eval, lm_error *err);
/** data.c: checks the rows of one JSONL text and keeps those of selected tasks. `name` is for messages. */
lm_status lm_ev_parse(lm_eval *eval, bool fewshot, const char *name, const char *text, size_t length, lm_error *err);
/** request.c: the prompt of document `doc` of a task. */
lm_status lm_ev_prompt(const lm_eval *eval, const lm_ev_run_task *task, size_t doc, char **text, size_t *length,
                       lm_error *err);
const char *lm_ev_target(const lm_ev_run_task *task, size_t doc);
/** Task of a request; `*doc` is its index there. */
const lm_ev_run_task *lm_ev_task_of(const lm_eval *eval, size_t request, size_t *doc);

/* ---- score.c */

/** Length that is left of a completion after the earliest `until`. */
size_t lm_ev_cut_until(const char *text, size_t length, const char *const *until);
/** True if the text ends a row: an `until` is complete and no earlier one may still become so. */
bool lm_ev_until_complete(const char *text, size_t length, const char *const *until);
/** Cut, think-strip, filter. `*filtered` is malloc'ed. */
lm_status lm_ev_filter_answer(const lm_ev_family *family, const char *think_end, const char *text, size_t length,
                              char **filtered, lm_error *err);
double lm_ev_exact_match(const lm_ev_metric *metric, const char *prediction, const char *target);
double lm_ev_mean(const double *values, size_t n);
double lm_ev_mean_stderr(const double *values, size_t n); /* n > 1 */
double lm_ev_group_mean(const double *values, const int64_t *sizes, size_t n, bool weighted);
double lm_ev_group_stderr(const double *stderrs, const int64_t *sizes, size_t n, bool weighted);
/** Filters and scores answer `unit` (question * repeats + repeat) and stores it. Takes `text` and `ids` (malloc'ed),
 * also on failure. */
lm_status lm_ev_store(lm_eval *eval, size_t unit, char *text, size_t length, int32_t *ids, size_t n_ids,
                      size_t n_prompt, const char *finish, lm_error *err);

/* ---- embedded.c, mmlu_pro.c */
void lm_ev_mmlu_pro_embedded(bool fewshot, const unsigned char **data, size_t *size);
lm_status lm_ev_mmlu_pro_check(const json_t *row, const char *where, lm_error *err);
void lm_ev_mmlu_pro_text(const json_t *doc, lm_ev_buf *out);
void lm_ev_mmlu_pro_text_seed(const json_t *doc, lm_ev_buf *out);
void lm_ev_mmlu_pro_cot(const json_t *doc, lm_ev_buf *out);
#endif
