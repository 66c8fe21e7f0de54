/* SPDX-License-Identifier: MIT
 * request.c: the text of a request, as lm-eval's fewshot_context puts it together: system text, exemplars (question,
 * answer), the question; as one plain text, one user turn, or a turn each. */
#include "internal.h"
#include <stdlib.h>
#include <string.h>

/* One turn: `delimiter` follows it in plain text and is dropped where turns stay apart. */
typedef struct turn {
    const char *role, *delimiter;
    lm_ev_buf text;
} turn;

static void free_turns(turn *turns, size_t n) {
    for (size_t i = 0; i < n; i++) lm_ev_buf_free(&turns[i].text);
    free(turns);
}

static void add_description(const lm_ev_task *task, lm_ev_buf *out) {
    const char *text = task->family->description, *hole = strstr(text, "{}");
    if (!hole) {
        lm_ev_buf_text(out, text);
        return;
    }
    lm_ev_buf_add(out, text, (size_t)(hole - text));
    lm_ev_buf_text(out, task->subject);
    lm_ev_buf_text(out, hole + 2);
}

/* Fills `turns` (room for 2 * shots + 2); an exemplar with an empty answer is a question without any delimiter. */
static size_t make_turns(const lm_eval *eval, const lm_ev_run_task *run, size_t doc, turn *turns) {
    const lm_ev_family *family = run->task->family;
    void (*add_text)(const json_t *, lm_ev_buf *) =
        eval->rules == LM_EVAL_RULES_SEED ? family->doc_to_text_seed : family->doc_to_text;
    size_t n = 0;
    if (family->description && *family->description) {
        turns[n].role = "system";
        turns[n].delimiter = "";
        add_description(run->task, &turns[n++].text);
    }
    int64_t shots = lm_ev_shots(eval, run->task);
    for (int64_t i = 0; i < shots; i++) {
        const json_t *row = json_array_get(run->fewshot, (size_t)i);
        turn *question = &turns[n++], *answer = &turns[n];
        add_text(row, &question->text);
        family->fewshot_to_target(row, &answer->text);
        bool has_answer = answer->text.length > 0;
        question->role = "user";
        question->delimiter = has_answer ? family->target_delimiter : "";
        if (!has_answer) continue;
        answer->role = "assistant";
        answer->delimiter = family->fewshot_delimiter;
        n++;
    }
    turns[n].role = "user";
    turns[n].delimiter = "";
    add_text(json_array_get(run->docs, doc), &turns[n++].text);
    return n;
}

static bool add_message(json_t *messages, const char *role, const lm_ev_buf *text) {
    json_t *message = json_object();
    if (!message) return false;
    const char *data = text->data ? text->data : "";
    if (json_object_set_new(message, "role", json_string(role)) != 0 ||
        json_object_set_new(message, "content", json_stringn(data, text->length)) != 0) {
        json_decref(message);
        return false;
    }
    return json_array_append_new(messages, message) == 0;
}

static bool add_messages(const lm_eval *eval, turn *turns, size_t n, json_t *messages) {
    size_t first = 0;
    if (eval->multiturn) {
        for (size_t i = 0; i < n; i++)
            if (!add_message(messages, turns[i].role, &turns[i].text)) return false;
        return true;
    }
    if (strcmp(turns[0].role, "system") == 0 && !add_message(messages, "system", &turns[first++].text)) return false;
    lm_ev_buf all = {0};
    for (size_t i = first; i < n; i++) {
        lm_ev_buf_add(&all, turns[i].text.data, turns[i].text.length);
        lm_ev_buf_text(&all, turns[i].delimiter);
    }
    bool ok = !all.failed && add_message(messages, "user", &all);
    lm_ev_buf_free(&all);
    return ok;
}

static lm_status render_chat(const lm_eval *eval, turn *turns, size_t n, char **text, size_t *length, lm_error *err) {
    json_t *input = json_deep_copy(eval->template_args), *messages = json_array();
    char *input_json = NULL;
    lm_status status;
    if (input && messages && add_messages(eval, turns, n, messages) &&
        json_object_set(input, "messages", messages) == 0 &&
        json_object_set_new(input, "add_generation_prompt", json_true()) == 0 &&
        json_object_set_new(input, "continue_final_message", json_false()) == 0)
        input_json = json_dumps(input, JSON_COMPACT);
    json_decref(input);
    json_decref(messages);
    if (input_json) {
        status = lm_chat_render(eval->tokenizer, NULL, input_json, text, length, err);
    } else {
        status = lm_ev_fail(err, LM_FORMAT, "a prompt cannot be written as JSON (out of memory, or invalid UTF-8)");
    }
    free(input_json);
    return status;
}

lm_status lm_ev_prompt(const lm_eval *eval, const lm_ev_run_task *run, size_t doc, char **text, size_t *length,
                       lm_error *err) {
    int64_t shots = lm_ev_shots(eval, run->task);
    size_t capacity = 2 * (size_t)(shots > 0 ? shots : 0) + 3;
    turn *turns = calloc(capacity, sizeof *turns);
    if (!turns) return lm_ev_fail(err, LM_NOMEM, "out of memory for a prompt");
    size_t n = make_turns(eval, run, doc, turns);
    lm_status status = LM_OK;
    for (size_t i = 0; i < n; i++)
        if (turns[i].text.failed) status = lm_ev_fail(err, LM_NOMEM, "out of memory for a prompt");
    if (status == LM_OK && eval->chat) {
        status = render_chat(eval, turns, n, text, length, err);
    } else if (status == LM_OK) {
        lm_ev_buf all = {0};
        for (size_t i = 0; i < n; i++) {
            lm_ev_buf_add(&all, turns[i].text.data, turns[i].text.length);
            lm_ev_buf_text(&all, turns[i].delimiter);
        }
        status = lm_ev_buf_take(&all, text, length, err);
    }
    free_turns(turns, capacity);
    return status;
}

const char *lm_ev_target(const lm_ev_run_task *run, size_t doc) {
    return json_string_value(json_object_get(json_array_get(run->docs, doc), run->task->family->target_key));
}

const lm_ev_run_task *lm_ev_task_of(const lm_eval *eval, size_t request, size_t *doc) {
    for (size_t i = 0; i < eval->n_tasks; i++)
        if (request - eval->tasks[i].first < eval->tasks[i].count) {
            *doc = request - eval->tasks[i].first;
            return &eval->tasks[i];
        }
    return NULL;
}

lm_status lm_eval_get_request(const lm_eval *eval, size_t index, lm_eval_request *request, lm_error *err) {
    size_t doc = 0;
    const lm_ev_run_task *run = lm_ev_task_of(eval, index, &doc);
    if (!run) return lm_ev_fail(err, LM_ARG, "request %zu of %zu", index, eval->n_requests);
    *request = (lm_eval_request){.task = run->task->name, .doc_id = (int64_t)doc, .target = lm_ev_target(run, doc)};
    return lm_ev_prompt(eval, run, doc, &request->prompt, &request->prompt_length, err);
}
