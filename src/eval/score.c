/* SPDX-License-Identifier: MIT
 * score.c: from a completion to numbers: cut at `until`, reasoning stripped, filter, metric, means and standard errors.
 * Sums run in plain double from left to right, as Python's sum() of version 3.11 does: the last digit counts. */
#include "internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

size_t lm_ev_cut_until(const char *text, size_t length, const char *const *until) {
    size_t cut = length;
    for (; *until; until++) {
        size_t at = lm_ev_find(text, length, *until, strlen(*until));
        if (at < cut) cut = at;
    }
    return cut;
}

bool lm_ev_until_complete(const char *text, size_t length, const char *const *until) {
    size_t cut = lm_ev_cut_until(text, length, until);
    if (cut == length) return false;
    for (const char *const *u = until; *u; u++) { /* an earlier start that is still incomplete at the end? */
        size_t n = strlen(*u);
        for (size_t at = length > n ? length - n + 1 : 0; at < cut; at++)
            if (memcmp(text + at, *u, length - at) == 0) return false;
    }
    return true;
}

/* Every match of the pattern is taken as Python's findall does; which one counts is the step's group_select. */
static lm_status match_regex(const lm_ev_filter_step *step, pcre2_code *code, pcre2_match_data *data, const char *text,
                             size_t length, lm_ev_buf *out, lm_error *err) {
    uint32_t groups = 0;
    pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, &groups);
    long wanted = step->group_select, seen = 0;
    bool found = false;
    for (size_t at = 0; at <= length;) {
        int rc = pcre2_match(code, (PCRE2_SPTR)text, length, at, 0, data, NULL);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc < 0)
            return lm_ev_fail(err, LM_BUDGET, "the answer filter %s gave up on a completion (pcre2 %d)", step->pattern,
                              rc);
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(data);
        if (seen++ == wanted || wanted == -1) {
            found = true;
            out->length = 0;
            uint32_t group = groups ? 1 : 0;
            while (groups > 1 && group < groups && (v[2 * group] == PCRE2_UNSET || v[2 * group] == v[2 * group + 1]))
                group++; /* several groups: the first that isn't empty */
            const char *part = text;
            size_t n = 0;
            if (v[2 * group] != PCRE2_UNSET) {
                part = text + v[2 * group];
                n = v[2 * group + 1] - v[2 * group];
            }
            if (groups > 1 && n == 0) {
                part = step->fallback;
                n = strlen(part);
            }
            lm_ev_strip(&part, &n);
            lm_ev_buf_add(out, part, n);
            if (wanted >= 0) break;
        }
        at = v[1] > v[0] ? v[1] : v[1] + 1;
        while (at < length && ((unsigned char)text[at] & 0xc0) == 0x80) at++; /* never inside a character */
    }
    if (!found) {
        out->length = 0;
        lm_ev_buf_text(out, step->fallback);
    }
    return LM_OK;
}

static lm_status apply_regex(const lm_ev_filter_step *step, const char *text, size_t length, lm_ev_buf *out,
                             lm_error *err) {
    int code_err = 0;
    PCRE2_SIZE at = 0;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)step->pattern, PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &code_err, &at, NULL);
    if (!code)
        return lm_ev_fail(err, LM_FORMAT, "the answer filter %s is no pattern (pcre2 %d)", step->pattern, code_err);
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, NULL);
    lm_status status = data ? match_regex(step, code, data, text, length, out, err)
                            : lm_ev_fail(err, LM_NOMEM, "out of memory for the answer filter");
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    return status;
}

lm_status lm_ev_filter_answer(const lm_ev_family *family, const char *think_end, const char *text, size_t length,
                              char **filtered, lm_error *err) {
    length = lm_ev_cut_until(text, length, family->until);
    if (think_end && *think_end) {
        size_t n = strlen(think_end), at = lm_ev_find(text, length, think_end, n);
        if (at < length) {
            text += at + n;
            length -= at + n;
        }
    }
    lm_ev_buf now = {0}, next = {0};
    lm_ev_buf_add(&now, text, length);
    lm_status status = LM_OK;
    for (const lm_ev_filter_step *step = family->filter.steps; status == LM_OK && step->kind != EV_FILTER_END; step++) {
        if (step->kind != EV_FILTER_REGEX) continue; /* take_first: there is one response a request */
        status = apply_regex(step, now.data ? now.data : "", now.length, &next, err);
        lm_ev_buf swap = now;
        now = next;
        next = swap;
        next.length = 0;
    }
    lm_ev_buf_free(&next);
    if (status != LM_OK) {
        lm_ev_buf_free(&now);
        return status;
    }
    return lm_ev_buf_take(&now, filtered, NULL, err);
}

/* ---- metrics */

static bool dropped(const lm_ev_metric *metric, unsigned char c) {
    bool punctuation =
        (c >= 0x21 && c <= 0x2f) || (c >= 0x3a && c <= 0x40) || (c >= 0x5b && c <= 0x60) || (c >= 0x7b && c <= 0x7e);
    return (punctuation && (metric->flags & EV_IGNORE_PUNCTUATION)) ||
           (c >= '0' && c <= '9' && (metric->flags & EV_IGNORE_NUMBERS));
}

double lm_ev_exact_match(const lm_ev_metric *metric, const char *prediction, const char *target) {
    const unsigned char *a = (const unsigned char *)prediction, *b = (const unsigned char *)target;
    for (;;) {
        while (*a && dropped(metric, *a)) a++;
        while (*b && dropped(metric, *b)) b++;
        unsigned char x = *a, y = *b;
        if (metric->flags & EV_IGNORE_CASE) {
            if (x >= 'A' && x <= 'Z') x = (unsigned char)(x | 0x20);
            if (y >= 'A' && y <= 'Z') y = (unsigned char)(y | 0x20);
        }
        if (x != y) return 0.0;
        if (!x) return 1.0;
        a++;
        b++;
    }
}

double lm_ev_mean(const double *values, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    return sum / (double)n;
}

double lm_ev_mean_stderr(const double *values, size_t n) {
    double mu = lm_ev_mean(values, n), sum = 0;
    for (size_t i = 0; i < n; i++) sum += (values[i] - mu) * (values[i] - mu);
    return sqrt(sum / (double)(n - 1)) / sqrt((double)n);
}

double lm_ev_group_mean(const double *values, const int64_t *sizes, size_t n, bool weighted) {
    double sum = 0, total = 0;
    for (size_t i = 0; i < n; i++) {
        double size = weighted ? (double)sizes[i] : 1.0;
        sum += values[i] * size;
        total += size;
    }
    return sum / total;
}

double lm_ev_group_stderr(const double *stderrs, const int64_t *sizes, size_t n, bool weighted) {
    double sum = 0, total = 0;
    for (size_t i = 0; i < n; i++) {
        double size = (double)sizes[i], square = pow(stderrs[i], 2.0);
        sum += weighted ? (size - 1.0) * square * size : square;
        total += size;
    }
    if (!weighted) return sqrt(sum) / (double)n;
    return sqrt(sum / (total - (double)n) / total);
}

/* ---- storing */

static lm_status score_into(lm_eval *eval, size_t unit, lm_ev_answer *answer, lm_error *err) {
    size_t doc = 0, request = unit / eval->repeats;
    const lm_ev_run_task *run = lm_ev_task_of(eval, request, &doc);
    if (!run) return lm_ev_fail(err, LM_ARG, "request %zu of %zu", request, eval->n_requests);
    const char *think_start = NULL, *think_end = NULL;
    if (eval->tokenizer && eval->rules == LM_EVAL_RULES_MLX_LM)
        lm_tokenizer_think_tokens(eval->tokenizer, &think_start, &think_end);
    const lm_ev_family *family = run->task->family;
    EV_TRY(lm_ev_filter_answer(family, think_end, answer->text, answer->length, &answer->filtered, err));
    answer->score = family->metric.score(&family->metric, answer->filtered, lm_ev_target(run, doc));
    return LM_OK;
}

lm_status lm_ev_store(lm_eval *eval, size_t unit, char *text, size_t length, int32_t *ids, size_t n_ids,
                      size_t n_prompt, const char *finish, lm_error *err) {
    lm_ev_answer answer = {.answered = true,
                           .text = text,
                           .length = length,
                           .finish = finish,
                           .ids = ids,
                           .n_ids = n_ids,
                           .n_prompt = n_prompt};
    lm_status status = score_into(eval, unit, &answer, err);
    if (status != LM_OK) {
        free(text);
        free(ids);
        return status;
    }
    eval->answers[unit] = answer;
    eval->n_answered++;
    return LM_OK;
}
