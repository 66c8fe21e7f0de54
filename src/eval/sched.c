/* SPDX-License-Identifier: MIT
 *
 * sched.c: rows in flight. Every step takes one token (and drafts) of each row that generates and up to `chunk` ids of
 * rows that still read; a finished row's place is taken before the next step. Beginnings are shared by way of the
 * prefix tree, or from a row in flight: a row whose beginning another one is about to compute waits for it.
 *
 * Memory: rows come in while the engine's limit has room for their ids. Where a step finds none, kept beginnings go
 * first, then steps get smaller, then the youngest row gives its keys and values back; it computes them again when
 * there is room, from its prompt and from what it had generated: bits don't depend on steps, so nothing is lost. */
#include "sched.h"
#include "prefix.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MIN_SHARED 32  /* a shorter common beginning isn't worth a fork */
#define MIN_CHUNK 64   /* ids a step when memory is short */
#define MAX_SLOTS 1024 /* lm_step takes 4096 rows */
#define MAX_CHUNK 65536
#define STEP_DRAFTS 512 /* tokens tried in one step */
#define GROWTH 64       /* positions a row should find room for beyond its ids */
#define MOST_KEPT 128   /* blocks in the prefix tree */
#define LEAST_KEPT 16

typedef struct sched {
    lm_engine *engine;
    lm_engine_info info;
    const lm_tokenizer *tokenizer;
    const lm_ev_sched_options *o;
    lm_ev_sched_stats *stats;
    lm_ev_slot *slots;
    size_t n_slots, chunk;
    size_t allowed; /* rows that may hold memory: fewer after it ran short, one more with every row that ends */
    bool drained;   /* `next` has no more */
    uint64_t age;
    lm_ev_prefix tree;
    lm_row *rows;
    lm_ev_slot **owner;
    uint32_t *want;
    lm_sampler greedy;
} sched;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t holding(const sched *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->n_slots; i++) n += s->slots[i].seq != NULL;
    return n;
}

/* ---------------------------------------------------------------- coming in */

/* Whether the engine's limit has room for `positions` more; kept beginnings go where it hasn't. */
static bool has_room(sched *s, size_t positions) {
    int64_t need = lm_engine_plan_kv(s->engine, (int64_t)positions, s->o->kv_type);
    do {
        lm_memory_stats m;
        lm_engine_get_memory(s->engine, &m);
        if (!m.limit || m.total + need <= m.limit) return true;
    } while (lm_ev_prefix_drop(&s->tree, false));
    return false;
}

typedef struct source {
    const lm_seq *seq;
    size_t n;
    bool wait; /* another row is about to compute more of it */
} source;

static source find_source(sched *s, const lm_ev_slot *slot) {
    source best = {NULL, 0, false};
    const size_t most = lm_ev_slot_sharable(slot);
    if (!s->o->share_prefix || most < MIN_SHARED) return best;
    best.n = lm_ev_prefix_find(&s->tree, slot->ids, most, &best.seq);
    for (size_t i = 0; i < s->n_slots; i++) {
        const lm_ev_slot *other = &s->slots[i];
        if (!other->seq) continue;
        size_t n = 0, end = other->n_prompt < most ? other->n_prompt : most;
        while (n < end && other->ids[n] == slot->ids[n]) n++;
        if (n < best.n + MIN_SHARED) continue;
        best = (source){other->seq, n, other->fed < n};
    }
    if (best.n < MIN_SHARED) return (source){NULL, 0, false};
    return best;
}

/* Gives a row its sequence, unless it has to wait. */
static lm_status open_slot(sched *s, lm_ev_slot *slot, lm_error *err) {
    if (s->allowed <= holding(s)) return LM_OK;
    source from = find_source(s, slot);
    if (from.wait) return LM_OK;
    size_t whole = from.n / 256 * 256; /* blocks that stay shared */
    if (holding(s) && !has_room(s, slot->n_ids + GROWTH - whole)) return LM_OK;
    from = find_source(s, slot); /* making room may have cost it */
    if (from.wait) return LM_OK;
    lm_status status = from.n ? lm_seq_fork(from.seq, (int64_t)from.n, &slot->seq, err)
                              : lm_seq_create(s->engine, s->o->kv_type, &slot->seq, err);
    if (status == LM_OK) slot->fed = from.n;
    if ((status == LM_NOMEM || status == LM_BUDGET) && holding(s)) { /* until one of the others ends */
        s->allowed = holding(s);
        return LM_OK;
    }
    return status;
}

static lm_status take_work(sched *s, lm_ev_slot *slot, lm_error *err) {
    lm_ev_work work = {0};
    bool more = false;
    EV_TRY(s->o->next(s->o->user, &work, &more, err));
    if (!more) {
        s->drained = true;
        return LM_OK;
    }
    EV_TRY(lm_ev_slot_start(slot, &work, err));
    slot->age = s->age++;
    s->stats->prompt_tokens += (int64_t)lm_ev_slot_sharable(slot);
    return LM_OK;
}

/* The oldest row without a sequence after `age`. */
static lm_ev_slot *next_waiting(const sched *s, uint64_t age) {
    lm_ev_slot *best = NULL;
    for (size_t i = 0; i < s->n_slots; i++) {
        lm_ev_slot *slot = &s->slots[i];
        if (slot->active && !slot->seq && slot->age >= age && (!best || slot->age < best->age)) best = slot;
    }
    return best;
}

static lm_status fill_slots(sched *s, bool *idle, lm_error *err) {
    *idle = true;
    for (size_t i = 0; i < s->n_slots; i++) {
        if (!s->slots[i].active && !s->drained) EV_TRY(take_work(s, &s->slots[i], err));
        *idle = *idle && !s->slots[i].active;
    }
    for (lm_ev_slot *slot = next_waiting(s, 0); slot; slot = next_waiting(s, slot->age + 1))
        EV_TRY(open_slot(s, slot, err));
    return LM_OK;
}

/* ---------------------------------------------------------------- a step */

typedef struct step {
    size_t rows, wants, read, decoded;
} step;

static void add_row(sched *s, step *t, lm_ev_slot *slot, size_t n) {
    t->wants += lm_ev_slot_row(slot, n, s->want + t->wants, &s->greedy, &s->rows[t->rows]);
    s->owner[t->rows++] = slot;
}

static lm_status make_rows(sched *s, step *t, lm_error *err) {
    size_t budget = s->chunk, drafts = s->o->speculate ? STEP_DRAFTS : 0;
    *t = (step){0};
    for (size_t i = 0; i < s->n_slots; i++) {
        lm_ev_slot *slot = &s->slots[i];
        if (!slot->seq || !lm_ev_slot_decodes(slot)) continue;
        EV_TRY(lm_ev_slot_draft(slot, slot->work.sampler.temp > 0 ? 0 : drafts, err));
        drafts -= slot->draft;
        t->decoded += 1 + slot->draft;
        add_row(s, t, slot, 1);
    }
    for (uint64_t age = 0; budget;) { /* the oldest reads first */
        lm_ev_slot *slot = NULL;
        for (size_t i = 0; i < s->n_slots; i++) {
            lm_ev_slot *other = &s->slots[i];
            if (other->seq && !lm_ev_slot_decodes(other) && other->age >= age && (!slot || other->age < slot->age))
                slot = other;
        }
        if (!slot) break;
        age = slot->age + 1;
        size_t left = lm_ev_slot_end(slot) - slot->fed, n = left < budget ? left : budget;
        add_row(s, t, slot, n);
        t->read += n;
        budget -= n;
    }
    return LM_OK;
}

static lm_status finish_slot(sched *s, lm_ev_slot *slot, const char *finish, lm_error *err) {
    const lm_ev_work *w = &slot->work;
    lm_ev_done done = {.id = w->id, .ids = slot->ids, .n_ids = slot->n_prompt};
    if (w->scored) {
        done.logprob = slot->logprob;
        done.top = slot->top;
        done.n_scored = slot->n_ids - w->scored;
    } else {
        done.out = slot->ids + slot->n_prompt;
        done.n_out = slot->n_ids - slot->n_prompt;
        done.finish = finish;
    }
    EV_TRY(s->o->done(s->o->user, &done, err));
    lm_ev_slot_free(slot);
    if (s->allowed < s->n_slots) s->allowed++;
    return LM_OK;
}

/* What the next rows may begin with: all of a prompt, but of a scored text the context only. */
static void keep_prompt(sched *s, lm_ev_slot *slot) {
    size_t n = slot->work.scored ? slot->work.scored : slot->n_prompt;
    if (!s->o->share_prefix || slot->kept || slot->fed < n || n < MIN_SHARED) return;
    slot->kept = true;
    lm_ev_prefix_add(&s->tree, slot->seq, n);
}

static lm_status take_rows(sched *s, const step *t, lm_error *err) {
    for (size_t i = 0; i < t->rows; i++) {
        const char *finish = NULL;
        size_t generated = 0;
        EV_TRY(lm_ev_slot_take(s->owner[i], &s->rows[i], &s->info, s->tokenizer, s->o->early_stop, &finish, &generated,
                               err));
        s->stats->generated_tokens += (int64_t)generated;
        keep_prompt(s, s->owner[i]);
        if (finish) EV_TRY(finish_slot(s, s->owner[i], finish, err));
    }
    return LM_OK;
}

/* ---------------------------------------------------------------- memory */

static lm_ev_slot *youngest(const sched *s) {
    lm_ev_slot *found = NULL;
    for (size_t i = 0; i < s->n_slots; i++)
        if (s->slots[i].seq && (!found || s->slots[i].age > found->age)) found = &s->slots[i];
    return found;
}

/* False if one row alone doesn't fit. */
static bool make_room(sched *s) {
    for (size_t i = 0; i < s->n_slots; i++) s->slots[i].draft = 0;
    if (lm_ev_prefix_drop(&s->tree, true)) return true;
    size_t rows = holding(s);
    if (s->chunk > MIN_CHUNK) { /* scratch grows with a step's ids */
        s->chunk /= 2;
        return true;
    }
    if (rows < 2) return false;
    lm_ev_slot *slot = youngest(s);
    lm_seq_destroy(slot->seq);
    slot->seq = NULL;
    slot->fed = 0;
    slot->kept = true; /* once was enough */
    s->stats->suspended++;
    s->allowed = rows - 1;
    return true;
}

static void note_memory(sched *s) {
    lm_memory_stats m;
    lm_engine_get_memory(s->engine, &m);
    if (m.limit && m.total > m.limit) make_room(s); /* the rest of the process has grown */
    if (m.rss_anon + m.rss_file <= s->stats->anon_bytes + s->stats->file_bytes) return;
    s->stats->anon_bytes = m.rss_anon;
    s->stats->file_bytes = m.rss_file;
}

/* ---------------------------------------------------------------- all of it */

static lm_status one_step(sched *s, bool *idle, lm_error *err) {
    step t = {0};
    lm_status status = fill_slots(s, idle, err);
    if (status == LM_OK && *idle) return LM_OK;
    double start = now();
    if (status == LM_OK) status = make_rows(s, &t, err);
    if (status == LM_OK) status = lm_step(s->engine, s->rows, t.rows, s->o->cancel, err);
    if (status == LM_BUDGET || status == LM_NOMEM) {
        *idle = false;
        return make_room(s) ? LM_OK : status;
    }
    EV_TRY(status);
    EV_TRY(take_rows(s, &t, err));
    double seconds = now() - start;
    s->stats->steps++;
    s->stats->computed_tokens += (int64_t)t.read;
    s->stats->decoded += (int64_t)t.decoded;
    if (t.read) s->stats->prompt_seconds += seconds * (double)t.read / (double)(t.read + t.decoded);
    note_memory(s);
    return s->o->stepped ? s->o->stepped(s->o->user, s->stats, seconds, err) : LM_OK;
}

static lm_status prepare(sched *s, lm_error *err) {
    const lm_ev_sched_options *o = s->o;
    s->n_slots = o->batch_size < MAX_SLOTS ? (size_t)o->batch_size : MAX_SLOTS;
    s->allowed = s->n_slots;
    s->chunk = o->chunk < MAX_CHUNK ? (size_t)o->chunk : MAX_CHUNK;
    s->slots = calloc(s->n_slots, sizeof *s->slots);
    s->rows = calloc(s->n_slots, sizeof *s->rows);
    s->owner = calloc(s->n_slots, sizeof(lm_ev_slot *));
    s->want = calloc(s->chunk + s->n_slots + STEP_DRAFTS, sizeof *s->want);
    if (!s->slots || !s->rows || !s->owner || !s->want)
        return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu rows in flight", s->n_slots);
    lm_memory_stats m;
    lm_engine_get_memory(s->engine, &m);
    int64_t block = lm_engine_plan_kv(s->engine, 1, o->kv_type);
    s->tree.most = MOST_KEPT;
    if (m.limit && block > 0 && m.limit / 8 / block < MOST_KEPT) s->tree.most = (size_t)(m.limit / 8 / block);
    if (s->tree.most < LEAST_KEPT) s->tree.most = LEAST_KEPT;
    return LM_OK;
}

lm_status lm_ev_sched_run(lm_engine *engine, const lm_ev_sched_options *options, lm_ev_sched_stats *stats,
                          lm_error *err) {
    sched s = {.engine = engine,
               .tokenizer = lm_engine_get_tokenizer(engine),
               .o = options,
               .stats = stats,
               .greedy = lm_sampler_greedy()};
    *stats = (lm_ev_sched_stats){0};
    lm_engine_get_info(engine, &s.info);
    lm_status status = prepare(&s, err);
    bool idle = false;
    while (status == LM_OK && !idle) {
        if (options->cancel && *options->cancel)
            status = lm_ev_fail(err, LM_CANCELLED, "cancelled");
        else
            status = one_step(&s, &idle, err);
    }
    for (size_t i = 0; s.slots && i < s.n_slots; i++) lm_ev_slot_free(&s.slots[i]);
    lm_ev_prefix_clear(&s.tree);
    free(s.slots);
    free(s.rows);
    free(s.owner);
    free(s.want);
    return status;
}
