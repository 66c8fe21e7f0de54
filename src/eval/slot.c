/* SPDX-License-Identifier: MIT
 *
 * slot.c: one row in flight: its ids, what it wants of the next step, what it makes of the result.
 *
 * Drafts: where the last ids of a greedy row stood before in its own text, the ids that followed are computed along
 * with the last one, and those that the model chooses as well are kept. A position's bits don't depend on how many
 * positions a step has (lm.h's batch_invariant), so drafts change the time only. Small models fall into loops until
 * their token cap; there every draft is right. */
#include "sched.h"
#include <stdlib.h>
#include <string.h>

#define UNTIL_SLACK 16 /* tokens looked at beyond the bytes of the longest `until` */
#define DRAFT_MATCH 3  /* ids that must agree before a draft */
#define DRAFT_BEGIN 3

static lm_status reserve(lm_ev_slot *s, size_t n, lm_error *err) {
    if (n <= s->capacity) return LM_OK;
    size_t capacity = s->capacity ? s->capacity : 64;
    while (capacity < n) capacity *= 2;
    int32_t *more = realloc(s->ids, capacity * sizeof *more);
    if (!more) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu tokens", capacity);
    s->ids = more;
    s->capacity = capacity;
    return LM_OK;
}

lm_status lm_ev_slot_start(lm_ev_slot *s, const lm_ev_work *work, lm_error *err) {
    *s = (lm_ev_slot){.active = true, .work = *work, .limit = DRAFT_BEGIN};
    lm_status status = reserve(s, work->n_ids + 1, err);
    if (status == LM_OK) memcpy(s->ids, work->ids, work->n_ids * sizeof *s->ids);
    s->n_ids = s->n_prompt = work->n_ids;
    lm_free(work->ids);
    s->work.ids = NULL;
    if (status != LM_OK || !work->scored) return status;
    size_t n = work->n_ids - work->scored;
    s->logprob = malloc(n * sizeof *s->logprob);
    if (work->want_top) s->top = malloc(n * sizeof *s->top);
    if (s->logprob && (s->top || !work->want_top)) return LM_OK;
    return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu log-probabilities", n);
}

void lm_ev_slot_free(lm_ev_slot *s) {
    lm_seq_destroy(s->seq);
    free(s->ids);
    free(s->logprob);
    free(s->top);
    *s = (lm_ev_slot){0};
}

size_t lm_ev_slot_end(const lm_ev_slot *s) {
    return s->work.scored ? s->n_ids - 1 : s->n_ids;
}

size_t lm_ev_slot_sharable(const lm_ev_slot *s) {
    return s->work.scored ? s->work.scored - 1 : s->n_ids - 1;
}

bool lm_ev_slot_decodes(const lm_ev_slot *s) {
    return !s->work.scored && s->n_ids > s->n_prompt && s->n_ids - s->fed == 1;
}

/* ---------------------------------------------------------------- drafts */

lm_status lm_ev_slot_draft(lm_ev_slot *s, size_t most, lm_error *err) {
    size_t out = s->n_ids - s->n_prompt, left = s->work.max_out - out;
    s->draft = 0;
    if (most > s->limit) most = s->limit;
    if (most >= left) most = left - 1; /* the last token needs no successor */
    if (!most || s->n_ids <= DRAFT_MATCH) return LM_OK;
    EV_TRY(reserve(s, s->n_ids + most, err));
    const int32_t *last = s->ids + s->n_ids - DRAFT_MATCH;
    size_t at = s->n_ids - DRAFT_MATCH; /* the latest earlier place where they stood */
    while (at-- > 0)
        if (memcmp(s->ids + at, last, DRAFT_MATCH * sizeof *last) == 0) break;
    if (at == (size_t)-1) return LM_OK;
    const size_t from = at + DRAFT_MATCH;
    for (size_t i = 0; i < most; i++) s->ids[s->n_ids + i] = s->ids[from + i]; /* may run into itself: a loop */
    s->draft = most;
    return LM_OK;
}

/* As long as drafts are right they grow; a wrong one makes the next shorter. */
static void judge_draft(lm_ev_slot *s, size_t right) {
    if (!s->draft) return;
    if (right == s->draft)
        s->limit = 2 * s->limit < LM_EV_MAX_DRAFT ? 2 * s->limit : LM_EV_MAX_DRAFT;
    else
        s->limit = right > 1 ? right : 1;
    s->draft = 0;
}

/* ---------------------------------------------------------------- rows */

static size_t want_scores(lm_ev_slot *s, size_t n, uint32_t *want, lm_sampler *greedy, lm_row *row) {
    size_t first = s->work.scored - 1, n_want = 0; /* position `first` gives the first scored id's */
    for (size_t i = s->fed > first ? s->fed : first; i < s->fed + n; i++) want[n_want++] = (uint32_t)(i - s->fed);
    if (!n_want) return 0;
    size_t at = s->fed + want[0] - first;
    row->targets = s->ids + s->work.scored + at;
    row->target_logprob = s->logprob + at;
    if (s->top) {
        row->sampler = greedy;
        row->sampled = s->top + at;
    }
    return n_want;
}

size_t lm_ev_slot_row(lm_ev_slot *s, size_t n, uint32_t *want, lm_sampler *greedy, lm_row *row) {
    *row = (lm_row){.seq = s->seq, .tokens = s->ids + s->fed, .n_tokens = n + s->draft};
    if (s->work.scored) {
        row->n_want = want_scores(s, n, want, greedy, row);
    } else if (s->fed + n == s->n_ids) {
        for (size_t i = 0; i <= s->draft; i++) want[i] = (uint32_t)(n - 1 + i);
        row->n_want = s->draft + 1;
        row->sampler = &s->work.sampler;
        row->sampled = s->sampled;
    }
    row->want = row->n_want ? want : NULL;
    return row->n_want;
}

/* ---------------------------------------------------------------- results */

/* True as soon as an `until` string is complete. Only the end of the text is decoded each time; the whole decides. */
static lm_status reached_until(const lm_ev_slot *s, const lm_tokenizer *tokenizer, bool *reached, lm_error *err) {
    const char *const *until = s->work.until;
    const int32_t *out = s->ids + s->n_prompt;
    size_t longest = 0, n = s->n_ids - s->n_prompt;
    *reached = false;
    for (size_t i = 0; until && until[i]; i++)
        if (strlen(until[i]) > longest) longest = strlen(until[i]);
    if (!longest) return LM_OK;
    size_t tail = longest + UNTIL_SLACK, first = n > tail ? n - tail : 0;
    for (;; first = 0) {
        char *text = NULL;
        size_t length = 0;
        EV_TRY(lm_tokenizer_decode(tokenizer, out + first, n - first, false, &text, &length, err));
        *reached = lm_ev_until_complete(text, length, until);
        lm_free(text);
        if (!*reached || !first) return LM_OK;
    }
}

static bool is_stop(const lm_engine_info *info, int32_t id) {
    for (size_t i = 0; i < info->n_stop_ids; i++)
        if (info->stop_ids[i] == id) return true;
    return false;
}

static lm_status take_token(lm_ev_slot *s, int32_t id, const lm_engine_info *info, const lm_tokenizer *tokenizer,
                            bool early_stop, const char **finish, lm_error *err) {
    bool reached = false;
    if (is_stop(info, id)) {
        *finish = "stop";
        return LM_OK;
    }
    EV_TRY(reserve(s, s->n_ids + 1, err));
    s->ids[s->n_ids++] = id;
    if (early_stop) EV_TRY(reached_until(s, tokenizer, &reached, err));
    if (reached)
        *finish = "until";
    else if (s->n_ids - s->n_prompt >= s->work.max_out)
        *finish = "length";
    return LM_OK;
}

lm_status lm_ev_slot_take(lm_ev_slot *s, const lm_row *row, const lm_engine_info *info, const lm_tokenizer *tokenizer,
                          bool early_stop, const char **finish, size_t *generated, lm_error *err) {
    size_t tried = s->draft, right = 0;
    *finish = NULL;
    *generated = 0;
    s->fed += row->n_tokens - tried;
    if (s->work.scored) {
        if (s->fed == lm_ev_slot_end(s)) *finish = "scored";
        return LM_OK;
    }
    if (!row->n_want) return LM_OK;
    for (;; right++) { /* sampled[i] follows the i-th tried token: it counts where that one was right */
        bool agrees = right < tried && s->ids[s->n_ids] == s->sampled[right];
        ++*generated;
        EV_TRY(take_token(s, s->sampled[right], info, tokenizer, early_stop, finish, err));
        if (*finish || !agrees) break;
    }
    judge_draft(s, right);
    if (*finish) return LM_OK;
    s->fed = s->n_ids - 1;
    return tried > right ? lm_seq_trim(s->seq, (int64_t)s->fed, err) : LM_OK;
}
