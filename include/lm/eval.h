/* SPDX-License-Identifier: MIT
 *
 * eval.h: evaluation of a model on question sets, as lm-eval does it (requests, answer filter, metric, groups).
 *
 * Owns: the life of one evaluation. create -> (generate | read_answers) -> render/samples -> destroy. Requests are
 * built from task rows (src/eval/tasks.c) and documents that are embedded in the library or read from a folder. It
 * doesn't write files or print: it hands texts to its caller. It uses lm.h only.
 */
#ifndef LM_EVAL_H
#define LM_EVAL_H

#include "lm/lm.h"

#ifdef __cplusplus
extern "C" {
#endif

/** The lm-eval version whose prompts, filters and numbers are reproduced ("0.4.13"). */
const char *lm_version_lm_eval(void);

typedef struct lm_eval lm_eval;

/** Whether prompts go through the chat template. AUTO: exactly if the tokenizer has one. */
typedef enum lm_eval_template { LM_EVAL_TEMPLATE_AUTO, LM_EVAL_TEMPLATE_ON, LM_EVAL_TEMPLATE_OFF } lm_eval_template;

/** Whose rules hold where they differ. MLX_LM: what mlx_lm.evaluate 0.32.2 does. LM_EVAL: the task file to the letter
 *  (plain text unless a template is asked for, no think stripping, greedy). SEED: what mlx-lm 0.28.2 with lm-eval 0.4.9
 *  did (options not stripped, no think stripping, the task's token cap, greedy). */
typedef enum lm_eval_rules { LM_EVAL_RULES_MLX_LM, LM_EVAL_RULES_LM_EVAL, LM_EVAL_RULES_SEED } lm_eval_rules;
/** "mlx-lm", "lm-eval", "seed". */
const char *lm_eval_rules_name(lm_eval_rules rules);

/** What an evaluation consists of. All strings are copied by lm_eval_create. */
typedef struct lm_eval_options {
    const char *const *tasks; /* names of tasks or groups, or globs */
    size_t n_tasks;
    bool has_num_shots; /* false: each task's own number */
    int64_t num_shots;
    int64_t limit;      /* first documents of each task; -1: all */
    int64_t max_tokens; /* generated tokens per question; 0: the task's own cap */
    lm_eval_template chat_template;
    lm_eval_rules rules;
    int64_t repeats;                /* sampled answers to each question; 0: 1 */
    bool fewshot_as_multiturn;      /* exemplars as turns of their own; only with a chat template */
    const char *chat_template_args; /* JSON object of template variables, or NULL */
    const char *data_dir;           /* folder with test.jsonl and validation.jsonl; NULL: the embedded copy */
} lm_eval_options;
lm_eval_options lm_eval_options_default(void);

/** Resolves the tasks and loads their documents. `tokenizer` is borrowed until lm_eval_destroy; NULL is allowed where
 *  no chat template is asked for and no model is run. */
lm_status lm_eval_create(const lm_tokenizer *tokenizer, const lm_eval_options *options, lm_eval **out, lm_error *err);
/** After the journal's lm_eval_journal_close. NULL is allowed. */
void lm_eval_destroy(lm_eval *eval);

/** Facts of an evaluation. Strings are borrowed from it. */
typedef struct lm_eval_info {
    size_t n_tasks, n_requests, n_answered; /* n_answered: of n_requests * repeats */
    size_t repeats;
    bool chat_template;      /* prompts go through a template */
    const char *data_source; /* "embedded" or the folder */
    const char *data_note;   /* what must be said wherever a score is shown */
    const char *test_sha256, *validation_sha256;
    int64_t n_test, n_validation; /* rows of the two splits */
} lm_eval_info;
/** Fills `*info` as of now. */
void lm_eval_get_info(const lm_eval *eval, lm_eval_info *info);
/** Name of task `index` in evaluation order, NULL past the end. */
const char *lm_eval_task_name(const lm_eval *eval, size_t index);

/** One request in lm-eval's order. `prompt` is freed with lm_free, the rest is borrowed. */
typedef struct lm_eval_request {
    const char *task;
    int64_t doc_id; /* index among the task's documents, from 0 */
    const char *target;
    char *prompt;
    size_t prompt_length;
} lm_eval_request;
/** Builds request `index` of [0, n_requests). LM_ARG past the end. */
lm_status lm_eval_get_request(const lm_eval *eval, size_t index, lm_eval_request *request, lm_error *err);

/* ---------------------------------------------------------------- answers */

/** Where a running evaluation stands. With repeats, an answer counts as a question. */
typedef struct lm_eval_progress {
    size_t n_done, n_total;
    int64_t prompt_tokens;    /* of started questions, each prompt's last token excluded */
    int64_t computed_tokens;  /* prompt tokens really computed: shared prefixes once */
    int64_t generated_tokens; /* stop tokens included */
    double seconds, prompt_seconds;
    double score_sum;       /* of the first metric over finished questions, those answered before this run included */
    size_t n_before;        /* answered before this run: from a journal */
    int64_t steps, decoded; /* decoded: positions computed for generation, wrong guesses included */
    int64_t suspended;      /* times that a question waited for memory midway */
    int64_t anon_bytes, file_bytes; /* resident after the step where their sum was largest so far */
} lm_eval_progress;

/** Answers on disk: see lm_eval_journal_open. */
typedef struct lm_eval_journal lm_eval_journal;

typedef struct lm_eval_run_options {
    int64_t batch_size;       /* questions in flight, at least 1 */
    int64_t prefill_chunk;    /* prompt tokens computed in one step, at least 1 */
    bool share_prefix;        /* compute common beginnings of prompts once */
    bool speculate;           /* greedy rows compute guesses along with the last token: the same bits, sooner */
    bool early_stop;          /* a row ends where an `until` string is complete, not only where the model stops */
    lm_kv_type kv_type;       /* AUTO: the engine's */
    lm_sampler sampler;       /* copied for every question */
    uint64_t seed;            /* each answer samples from its own stream derived from seed, question and repeat */
    lm_eval_journal *journal; /* gets every finished answer, synced within 2 s; may be NULL. Borrowed */
    const volatile int *cancel;
    void (*progress)(void *user, const lm_eval_progress *progress); /* after every step; may be NULL */
    void *progress_user;
} lm_eval_run_options;
lm_eval_run_options lm_eval_run_options_default(void);

/** Answers every unanswered request with the model: up to batch_size questions decode together, prefill and decode mix,
 *  a row ends at a stop id, at its cap, or when an `until` string is complete, and the next question takes its place.
 *  On LM_CANCELLED (and any other failure) the answers finished so far stay. */
lm_status lm_eval_generate(lm_eval *eval, lm_engine *engine, const lm_eval_run_options *options, lm_error *err);

/** Opens the journal file at `path` for a run of `eval` with `engine` and `options` (sampler and seed count; set
 *  options->journal to `*out` afterwards), or starts it. An SQLite file with every finished answer and with what
 * answers depend on: program, processor, model files, tasks, data, prompts, numerics, sampling. Answers that it has are
 * taken into `eval`. LM_ARG where it holds an unfinished run that differs (the message names the first difference),
 * LM_FORMAT where it is damaged, LM_IO where it can't be written or another process writes it. `restart` drops what it
 * holds. */
lm_status lm_eval_journal_open(lm_eval *eval, lm_engine *engine, const lm_eval_run_options *options, const char *path,
                               bool restart, lm_eval_journal **out, lm_error *err);
/** Marks the run as complete: a different run may then replace it. */
lm_status lm_eval_journal_complete(lm_eval_journal *journal, lm_error *err);
/** Syncs and closes. NULL is allowed. Before lm_eval_destroy. */
void lm_eval_journal_close(lm_eval_journal *journal);

/** Gives one answer from outside. `text` is what a model generated, uncut. An answer given twice is an error. */
lm_status lm_eval_set_answer(lm_eval *eval, const char *task, int64_t doc_id, const char *text, size_t length,
                             lm_error *err);
/** Reads answers: JSONL of {"task", "doc_id", "completion"}, with repeats "repeat"; `name` is for messages. Answers
 *  to questions that aren't selected are skipped and counted in `*n_skipped` (may be NULL). */
lm_status lm_eval_read_answers(lm_eval *eval, const char *name, const char *text, size_t length, size_t *n_skipped,
                               lm_error *err);

/* ---------------------------------------------------------------- results */

typedef enum lm_eval_text {
    LM_EVAL_TEXT_REQUESTS,  /* JSONL {"task", "doc_id", "prompt", "target", "generation_kwargs"} */
    LM_EVAL_TEXT_FILE,      /* mlx_lm's result file: object name -> metrics, indent 4, no final newline */
    LM_EVAL_TEXT_STDOUT,    /* mlx_lm's stdout: each inner object, indent 4 */
    LM_EVAL_TEXT_TABLE,     /* lm-eval's markdown tables, then the note on the data */
    LM_EVAL_TEXT_REPORT,    /* JSON: results, 95 % intervals, data, settings, model: nothing that a schedule changes */
    LM_EVAL_TEXT_RUN,       /* JSON: schedule, times and memory of this run */
    LM_EVAL_TEXT_FULL,      /* JSON: the report and the run */
    LM_EVAL_TEXT_REPEATS,   /* markdown: mean score and variance between repeats */
    LM_EVAL_TEXT_INTERVALS, /* markdown: scores with standard errors and 95 % intervals (Wilson) */
} lm_eval_text;
/** Renders what is answered so far. Tasks without an answer are left out. `*text` is freed with lm_free. */
lm_status lm_eval_render(const lm_eval *eval, lm_eval_text what, char **text, size_t *length, lm_error *err);
/** JSONL of one task's answered documents: {"task", "doc_id", "prompt_hash", "target", "completion", "filtered",
 *  METRIC, "repeat" (where there are several), "finish", "prompt_tokens", "ids"}; lm_eval_read_answers takes it back.
 */
lm_status lm_eval_samples(const lm_eval *eval, size_t task, char **text, size_t *length, lm_error *err);
/** mlx_lm's name of the result file: eval_MODEL_VERSION[_SHOTS]_TASKS. `*name` is freed with lm_free. */
lm_status lm_eval_file_name(const lm_eval *eval, const char *model, char **name, lm_error *err);

/* ---------------------------------------------------------------- comparing results */

/** Compares n (2 to 100) results that answer the same questions. `folders` name folders with one *_report.json and its
 *  samples files, or such a report itself. For every pair: the paired difference of every task, group and the whole
 * with normal and bootstrap 95 % intervals (10,000 resamples within tasks, drawn from `seed`), McNemar's exact p,
 * agreement, the questions that flipped; pairs whose p, adjusted by Holm, is 0.05 or more are marked as not separable.
 * `*text` is Markdown or one JSON object, freed with lm_free. LM_ARG where data, tasks or questions differ. */
lm_status lm_eval_compare(const char *const *folders, size_t n, uint64_t seed, bool json, char **text, size_t *length,
                          lm_error *err);

#ifdef __cplusplus
}
#endif
#endif
