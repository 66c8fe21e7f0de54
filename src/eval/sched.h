/* SPDX-License-Identifier: MIT
 * sched.h: the one scheduler of rows. It serves generate_until, loglikelihood, loglikelihood_rolling and whole
 * evaluations: each hands it works (ids to read, then tokens to generate or positions to score) and takes results. */
#ifndef LM_EVAL_SCHED_H
#define LM_EVAL_SCHED_H
#include "internal.h"

/** One row of work. */
typedef struct lm_ev_work {
    size_t id;     /* the caller's number */
    int32_t *ids;  /* [n_ids] lm_free: the scheduler's from now on */
    size_t n_ids;  /* generating: at least 1; scoring: at least 2 */
    size_t scored; /* 0: generate after all ids. Else ids[scored, n_ids) get log-probabilities; at least 1 */
    bool want_top; /* scoring: the likeliest ids, too */
    size_t max_out;
    lm_sampler sampler;
    const char *const *until; /* NULL-terminated, may be NULL */
} lm_ev_work;

/** What became of it. Borrowed until the call returns. */
typedef struct lm_ev_done {
    size_t id;
    const int32_t *ids, *out;
    size_t n_ids, n_out;
    const char *finish;   /* generating: "stop", "until" or "length" */
    const float *logprob; /* scoring: [n_scored] */
    const int32_t *top;   /* [n_scored] or NULL */
    size_t n_scored;
} lm_ev_done;

typedef struct lm_ev_sched_stats {
    int64_t prompt_tokens;          /* of works begun: ids that are read before the first wanted position */
    int64_t computed_tokens;        /* positions computed, but for the decoded ones */
    int64_t generated_tokens;       /* stop ids included */
    int64_t steps, decoded;         /* decoded: positions of rows that generate, drafts included */
    int64_t suspended;              /* rows that gave their memory back for a while */
    double prompt_seconds;          /* of steps' time, by tokens */
    int64_t anon_bytes, file_bytes; /* resident after a step, where their sum was largest */
} lm_ev_sched_stats;

typedef struct lm_ev_sched_options {
    int64_t batch_size; /* rows in flight */
    int64_t chunk;      /* ids read in one step, of all rows together */
    bool share_prefix;  /* what was computed of a common beginning is used again */
    bool speculate;     /* greedy rows try tokens that followed the same ids before */
    bool early_stop;    /* rows end where an `until` is complete */
    lm_kv_type kv_type;
    const volatile int *cancel;
    void *user;
    /** The next work; `*more` false: there is none. */
    lm_status (*next)(void *user, lm_ev_work *work, bool *more, lm_error *err);
    lm_status (*done)(void *user, const lm_ev_done *done, lm_error *err);
    /** After every step; may be NULL. */
    lm_status (*stepped)(void *user, const lm_ev_sched_stats *stats, double seconds, lm_error *err);
} lm_ev_sched_options;

/** Runs everything that `next` gives. On failure `done` has been called for what was finished before. */
lm_status lm_ev_sched_run(lm_engine *engine, const lm_ev_sched_options *options, lm_ev_sched_stats *stats,
                          lm_error *err);

/* ---- slot.c: one row in flight */

#define LM_EV_MAX_DRAFT 48

typedef struct lm_ev_slot {
    bool active;
    lm_ev_work work; /* its ids are `ids` */
    lm_seq *seq;     /* NULL: waits for a beginning that another row computes, or for memory */
    int32_t *ids;    /* prompt, then what was generated, then this step's draft */
    size_t n_ids, capacity, n_prompt;
    size_t fed;          /* ids that seq holds */
    size_t draft, limit; /* tokens tried in this step; most that are worth trying */
    int32_t sampled[LM_EV_MAX_DRAFT + 1];
    float *logprob; /* scoring: [n_ids - scored] */
    int32_t *top;
    uint64_t age; /* order of coming */
    bool kept;    /* its prompt went to the prefix tree */
} lm_ev_slot;

/** Takes the work. */
lm_status lm_ev_slot_start(lm_ev_slot *slot, const lm_ev_work *work, lm_error *err);
void lm_ev_slot_free(lm_ev_slot *slot);
/** Ids that are read in all: of a scored row, all but the last. */
size_t lm_ev_slot_end(const lm_ev_slot *slot);
/** Beginning that may come from elsewhere: everything before the first wanted position. */
size_t lm_ev_slot_sharable(const lm_ev_slot *slot);
/** Its next step is one generated token. */
bool lm_ev_slot_decodes(const lm_ev_slot *slot);
/** Sets slot->draft: tokens that followed the last few ids before, at most `most`. */
lm_status lm_ev_slot_draft(lm_ev_slot *slot, size_t most, lm_error *err);
/** Row for the next `n` ids. `want` has room for what it may want; returns how many it does. */
size_t lm_ev_slot_row(lm_ev_slot *slot, size_t n, uint32_t *want, lm_sampler *greedy, lm_row *row);
/** Takes what the row computed: `*finish` is set where the row is over, `*generated` counts tokens. */
lm_status lm_ev_slot_take(lm_ev_slot *slot, const lm_row *row, const lm_engine_info *info,
                          const lm_tokenizer *tokenizer, bool early_stop, const char **finish, size_t *generated,
                          lm_error *err);
#endif
