/* SPDX-License-Identifier: MIT
 * journal.h: finished answers on disk while an evaluation runs. */
#ifndef LM_EVAL_JOURNAL_H
#define LM_EVAL_JOURNAL_H
#include "internal.h"

/** What an answer depends on, in order: name and value. */
typedef struct lm_ev_fact {
    char key[64];
    char *value;
} lm_ev_fact;
typedef struct lm_ev_facts {
    lm_ev_fact items[48];
    size_t n;
    bool failed; /* out of memory */
} lm_ev_facts;

/** identity.c: the facts of a run. Freed with lm_ev_facts_free, also on failure. */
lm_status lm_ev_facts_make(const lm_eval *eval, lm_engine *engine, const lm_eval_run_options *options,
                           lm_ev_facts *facts, lm_error *err);
void lm_ev_facts_free(lm_ev_facts *facts);

/** Appends the answer of `request`; it is on disk after the next sync. */
lm_status lm_ev_journal_add(lm_eval_journal *journal, size_t request, lm_error *err);
/** Syncs if waiting for another step of `step_seconds` would leave an answer unsynced for too long. */
lm_status lm_ev_journal_tick(lm_eval_journal *journal, double now, double step_seconds, lm_error *err);
/** Syncs what was appended. */
lm_status lm_ev_journal_sync(lm_eval_journal *journal, lm_error *err);
#endif
