/* SPDX-License-Identifier: MIT
 * journal.c: every finished answer in an SQLite file, so that an interrupted evaluation goes on where it was. Answers
 * are appended in transactions of about a second; the file says what they depend on (identity.c) and refuses to go on
 * with anything else. The file is outside input like any other: whatever it holds is checked. */
#include "journal.h"
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define APPLICATION 0x4d4c4a31 /* "MLJ1": SQLite's application_id */
#define SYNC_SECONDS 1.0
#define MAX_IDS ((size_t)1 << 24)

struct lm_eval_journal {
    lm_eval *eval;
    char *path;
    sqlite3 *db;
    sqlite3_stmt *insert;
    bool open;      /* a transaction holds unsynced answers */
    double since;   /* when its first one came */
    size_t pending; /* answers in it */
    size_t kept;    /* answers on disk */
};

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- errors */

static lm_status broken(const lm_eval_journal *j, lm_error *err) {
    int code = sqlite3_errcode(j->db) & 0xff;
    if (code == SQLITE_BUSY || code == SQLITE_LOCKED)
        return lm_ev_fail(err, LM_IO, "%s: another evaluation is writing this journal", j->path);
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
        return lm_ev_fail(err, LM_FORMAT, "%s: the journal is damaged (%s): start afresh with --restart", j->path,
                          sqlite3_errmsg(j->db));
    return lm_ev_fail(err, code == SQLITE_NOMEM ? LM_NOMEM : LM_IO,
                      "%s: the journal cannot be written: %s (%zu of %zu answers are kept; the same command goes on "
                      "from there)",
                      j->path, sqlite3_errmsg(j->db), j->kept, j->eval->n_requests * j->eval->repeats);
}

static lm_status run_sql(const lm_eval_journal *j, const char *sql, lm_error *err) {
    return sqlite3_exec(j->db, sql, NULL, NULL, NULL) == SQLITE_OK ? LM_OK : broken(j, err);
}

static lm_status prepare(const lm_eval_journal *j, const char *sql, sqlite3_stmt **statement, lm_error *err) {
    return sqlite3_prepare_v2(j->db, sql, -1, statement, NULL) == SQLITE_OK ? LM_OK : broken(j, err);
}

/* The one number that a query gives. */
static lm_status get_number(const lm_eval_journal *j, const char *sql, int64_t *value, lm_error *err) {
    sqlite3_stmt *statement = NULL;
    EV_TRY(prepare(j, sql, &statement, err));
    int code = sqlite3_step(statement);
    *value = code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    lm_status status = code == SQLITE_ROW || code == SQLITE_DONE ? LM_OK : broken(j, err);
    sqlite3_finalize(statement);
    return status;
}

/* ---- opening */

static lm_status open_file(lm_eval_journal *j, bool restart, lm_error *err) {
    if (restart) {
        lm_ev_buf hot = {0};
        lm_ev_buf_format(&hot, "%s-journal", j->path);
        if (!hot.failed) unlink(hot.data);
        lm_ev_buf_free(&hot);
        unlink(j->path);
    }
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW;
    if (sqlite3_open_v2(j->path, &j->db, flags, NULL) != SQLITE_OK) {
        if (!j->db) return lm_ev_fail(err, LM_NOMEM, "out of memory for the journal");
        return broken(j, err);
    }
    sqlite3_db_config(j->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(j->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(j->db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    sqlite3_db_config(j->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_limit(j->db, SQLITE_LIMIT_LENGTH, 256 << 20);
    return run_sql(j,
                   "PRAGMA cell_size_check = ON; PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = DELETE; "
                   "PRAGMA synchronous = EXTRA; PRAGMA temp_store = MEMORY; BEGIN EXCLUSIVE; COMMIT",
                   err);
}

static lm_status write_facts(const lm_eval_journal *j, const lm_ev_facts *facts, lm_error *err) {
    sqlite3_stmt *insert = NULL;
    EV_TRY(prepare(j, "INSERT INTO facts (key, value) VALUES (?, ?)", &insert, err));
    lm_status status = LM_OK;
    for (size_t i = 0; status == LM_OK && i < facts->n; i++) {
        sqlite3_bind_text(insert, 1, facts->items[i].key, -1, SQLITE_STATIC);
        sqlite3_bind_text(insert, 2, facts->items[i].value, -1, SQLITE_STATIC);
        if (sqlite3_step(insert) != SQLITE_DONE) status = broken(j, err);
        sqlite3_reset(insert);
    }
    sqlite3_finalize(insert);
    return status;
}

/* Empties the file and writes the facts, in one transaction. */
static lm_status start_afresh(const lm_eval_journal *j, const lm_ev_facts *facts, lm_error *err) {
    char sql[700];
    snprintf(sql, sizeof sql,
             "BEGIN; DROP TABLE IF EXISTS facts; DROP TABLE IF EXISTS answers; "
             "CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID; "
             "CREATE TABLE answers (request INTEGER PRIMARY KEY, completion BLOB NOT NULL, finish TEXT NOT NULL, "
             "prompt_tokens INTEGER NOT NULL, ids BLOB NOT NULL); "
             "PRAGMA user_version = 0; PRAGMA application_id = %d",
             APPLICATION);
    lm_status status = run_sql(j, sql, err);
    if (status == LM_OK) status = write_facts(j, facts, err);
    if (status == LM_OK) return run_sql(j, "COMMIT", err);
    sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* The first fact in which file and run differ; `difference` is empty where they agree. */
static lm_status find_difference(const lm_eval_journal *j, const lm_ev_facts *facts, char *difference, size_t size,
                                 lm_error *err) {
    sqlite3_stmt *select = NULL;
    int64_t n = 0;
    *difference = 0;
    EV_TRY(get_number(j, "SELECT count(*) FROM facts", &n, err));
    EV_TRY(prepare(j, "SELECT value FROM facts WHERE key = ?", &select, err));
    lm_status status = LM_OK;
    for (size_t i = 0; status == LM_OK && !*difference && i < facts->n; i++) {
        const lm_ev_fact *fact = &facts->items[i];
        sqlite3_bind_text(select, 1, fact->key, -1, SQLITE_STATIC);
        int code = sqlite3_step(select);
        const char *value = code == SQLITE_ROW ? (const char *)sqlite3_column_text(select, 0) : NULL;
        if (code != SQLITE_ROW && code != SQLITE_DONE)
            status = broken(j, err);
        else if (!value || strcmp(value, fact->value) != 0)
            snprintf(difference, size, "%s is %.200s there and %.200s here", fact->key, value ? value : "not given",
                     fact->value);
        sqlite3_reset(select);
    }
    sqlite3_finalize(select);
    if (status == LM_OK && !*difference && n != (int64_t)facts->n)
        snprintf(difference, size, "it has further settings");
    return status;
}

static const char *finish_named(const char *name) {
    static const char *const names[] = {"stop", "length", "until"};
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0) return names[i];
    return NULL;
}

static lm_status take_answer(const lm_eval_journal *j, sqlite3_stmt *row, lm_error *err) {
    int64_t request = sqlite3_column_int64(row, 0), n_prompt = sqlite3_column_int64(row, 3);
    const void *text = sqlite3_column_blob(row, 1);
    size_t length = (size_t)sqlite3_column_bytes(row, 1);
    const char *finish = finish_named((const char *)sqlite3_column_text(row, 2));
    const unsigned char *ids = sqlite3_column_blob(row, 4);
    size_t n_ids = (size_t)sqlite3_column_bytes(row, 4);
    if (request < 0 || request >= (int64_t)(j->eval->n_requests * j->eval->repeats) || !finish || n_ids % 4 ||
        n_ids / 4 > MAX_IDS || n_prompt < 1 || n_prompt > INT32_MAX)
        return lm_ev_fail(err, LM_FORMAT, "%s: answer %lld is damaged: start afresh with --restart", j->path,
                          (long long)request);
    char *copy = lm_ev_copy(text ? text : "", length);
    int32_t *tokens = malloc(n_ids + 4);
    if (!copy || !tokens) {
        free(copy);
        free(tokens);
        return lm_ev_fail(err, LM_NOMEM, "out of memory for an answer of the journal");
    }
    for (size_t i = 0; i < n_ids / 4; i++)
        tokens[i] = (int32_t)((uint32_t)ids[4 * i] | (uint32_t)ids[4 * i + 1] << 8 | (uint32_t)ids[4 * i + 2] << 16 |
                              (uint32_t)ids[4 * i + 3] << 24);
    return lm_ev_store(j->eval, (size_t)request, copy, length, tokens, n_ids / 4, (size_t)n_prompt, finish, err);
}

static lm_status take_answers(lm_eval_journal *j, lm_error *err) {
    sqlite3_stmt *select = NULL;
    EV_TRY(prepare(j, "SELECT request, completion, finish, prompt_tokens, ids FROM answers ORDER BY request", &select,
                   err));
    lm_status status = LM_OK;
    int code = SQLITE_DONE;
    while (status == LM_OK && (code = sqlite3_step(select)) == SQLITE_ROW) {
        status = take_answer(j, select, err);
        j->kept += status == LM_OK;
    }
    if (status == LM_OK && code != SQLITE_DONE) status = broken(j, err);
    sqlite3_finalize(select);
    return status;
}

/* Goes on with what the file holds, or starts it. Answers of another run are given up only if that run was complete
 * (its results are written) or hadn't answered anything. */
static lm_status go_on(lm_eval_journal *j, const lm_ev_facts *facts, lm_error *err) {
    int64_t application = 0, tables = 0, complete = 0, answers = 0;
    char difference[600];
    EV_TRY(get_number(j, "PRAGMA application_id", &application, err));
    EV_TRY(get_number(j, "SELECT count(*) FROM sqlite_schema", &tables, err));
    if (!application && !tables) return start_afresh(j, facts, err);
    if (application != APPLICATION)
        return lm_ev_fail(err, LM_FORMAT,
                          "%s: not a journal of this program: move it away, or use another --output-dir", j->path);
    EV_TRY(get_number(j, "PRAGMA user_version", &complete, err));
    EV_TRY(get_number(j, "SELECT count(*) FROM answers", &answers, err));
    EV_TRY(find_difference(j, facts, difference, sizeof difference, err));
    if (!*difference) return take_answers(j, err);
    if (complete || !answers) return start_afresh(j, facts, err);
    return lm_ev_fail(err, LM_ARG,
                      "%s: an unfinished evaluation is kept there (%lld answers), but %s: finish it, give --restart to "
                      "drop it, or use another --output-dir",
                      j->path, (long long)answers, difference);
}

lm_status lm_eval_journal_open(lm_eval *eval, lm_engine *engine, const lm_eval_run_options *options, const char *path,
                               bool restart, lm_eval_journal **out, lm_error *err) {
    *out = NULL;
    if (eval->n_answered) return lm_ev_fail(err, LM_ARG, "a journal is opened before any question is answered");
    lm_eval_journal *j = calloc(1, sizeof *j);
    lm_ev_facts *facts = calloc(1, sizeof *facts);
    if (j) j->eval = eval;
    if (j) j->path = lm_ev_copy(path, strlen(path));
    lm_status status = j && j->path && facts ? lm_ev_facts_make(eval, engine, options, facts, err)
                                             : lm_ev_fail(err, LM_NOMEM, "out of memory for the journal");
    if (status == LM_OK) status = open_file(j, restart, err);
    if (status == LM_OK) status = go_on(j, facts, err);
    if (status == LM_OK)
        status =
            prepare(j, "INSERT INTO answers (request, completion, finish, prompt_tokens, ids) VALUES (?, ?, ?, ?, ?)",
                    &j->insert, err);
    if (facts) lm_ev_facts_free(facts);
    free(facts);
    if (status != LM_OK) {
        lm_eval_journal_close(j);
        return status;
    }
    *out = j;
    return LM_OK;
}

void lm_eval_journal_close(lm_eval_journal *j) {
    if (!j) return;
    lm_ev_journal_sync(j, NULL);
    sqlite3_finalize(j->insert);
    sqlite3_close(j->db);
    free(j->path);
    free(j);
}

/* ---- writing */

lm_status lm_ev_journal_sync(lm_eval_journal *j, lm_error *err) {
    if (!j->open) return LM_OK;
    lm_status status = run_sql(j, "COMMIT", err);
    if (status == LM_OK)
        j->kept += j->pending;
    else
        sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
    j->open = false;
    j->pending = 0;
    return status;
}

lm_status lm_ev_journal_tick(lm_eval_journal *j, double now, double step_seconds, lm_error *err) {
    return j->open && now - j->since + step_seconds > SYNC_SECONDS ? lm_ev_journal_sync(j, err) : LM_OK;
}

lm_status lm_ev_journal_add(lm_eval_journal *j, size_t request, lm_error *err) {
    const lm_ev_answer *answer = &j->eval->answers[request];
    unsigned char *ids = malloc(4 * answer->n_ids + 1);
    if (!ids) return lm_ev_fail(err, LM_NOMEM, "out of memory for the journal");
    for (size_t i = 0; i < answer->n_ids; i++)
        for (size_t k = 0; k < 4; k++) ids[4 * i + k] = (unsigned char)((uint32_t)answer->ids[i] >> 8 * k);
    lm_status status = LM_OK;
    if (!j->open) {
        status = run_sql(j, "BEGIN", err);
        j->open = status == LM_OK;
        j->since = seconds();
    }
    if (status == LM_OK) {
        sqlite3_bind_int64(j->insert, 1, (sqlite3_int64)request);
        sqlite3_bind_blob64(j->insert, 2, answer->text, answer->length, SQLITE_STATIC);
        sqlite3_bind_text(j->insert, 3, answer->finish, -1, SQLITE_STATIC);
        sqlite3_bind_int64(j->insert, 4, (sqlite3_int64)answer->n_prompt);
        sqlite3_bind_blob64(j->insert, 5, ids, 4 * answer->n_ids, SQLITE_STATIC);
        if (sqlite3_step(j->insert) != SQLITE_DONE) status = broken(j, err);
        sqlite3_reset(j->insert);
        sqlite3_clear_bindings(j->insert);
        j->pending += status == LM_OK;
    }
    free(ids);
    return status;
}

lm_status lm_eval_journal_complete(lm_eval_journal *j, lm_error *err) {
    EV_TRY(lm_ev_journal_sync(j, err));
    return run_sql(j, "PRAGMA user_version = 1", err);
}
