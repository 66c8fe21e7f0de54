/* SPDX-License-Identifier: MIT
 *
 * chat.c: a conversation to text, prepared as transformers' apply_chat_template prepares it: null message keys dropped,
 * reasoning under each of its names, tools and documents always defined, the last message continued where asked. */
#include "base/json.h"
#include "text/jinja.h"
#include "text/tokenizer.h"
#include <stdlib.h>
#include <string.h>

#define TAG \
    "CONTINUE_FINAL_MESSAGE_TAG " /* marks where the continued message ends; its blank shows whether blanks survive */
#define TAG_WORD (sizeof TAG - 2)

static const char *const reasoning_names[] = {"reasoning_content", "thinking", "reasoning"};
#define N_REASONING (sizeof reasoning_names / sizeof *reasoning_names)

typedef struct chat {
    json_t *vars; /* what the template sees; owned */
    const char *template_text;
    const char *now;        /* borrowed from vars' source */
    const char *field;      /* message key to continue, NULL: none */
    const char *final_text; /* borrowed text of that key before the tag */
    size_t final_length;
    json_t *final_owner; /* keeps final_text */
} chat;

/* A copy of a message without its null keys; with reasoning, "thinking" first and "reasoning_content" too. */
static json_t *prepare_message(const json_t *message) {
    json_t *out = json_object();
    json_t *reasoning = NULL;
    const char *key;
    json_t *value;
    size_t length;
    if (!out) return NULL;
    for (size_t i = 0; i < N_REASONING && !reasoning; i++) {
        reasoning = json_object_get(message, reasoning_names[i]);
        if (json_is_null(reasoning)) reasoning = NULL;
    }
    if (reasoning) json_object_set(out, "thinking", reasoning);
    json_object_keylen_foreach((json_t *)message, key, length, value) if (!json_is_null(value))
        json_object_setn(out, key, length, value);
    if (reasoning) json_object_set(out, "reasoning_content", reasoning);
    return out;
}

static lm_status prepare_messages(const json_t *in, json_t **out, lm_error *err) {
    size_t i;
    json_t *message;
    *out = NULL;
    if (!json_is_array(in)) return lm_fail(err, LM_FORMAT, "chat: messages: expected an array");
    json_t *list = json_array();
    json_array_foreach(in, i, message) {
        if (!json_is_object(message)) {
            json_decref(list);
            return lm_fail(err, LM_FORMAT, "chat: messages[%zu]: expected an object", i);
        }
        if (json_array_append_new(list, prepare_message(message)) != 0) {
            json_decref(list);
            return lm_fail_nomem(err, sizeof(json_t), "chat messages");
        }
    }
    *out = list;
    return list ? LM_OK : lm_fail_nomem(err, sizeof(json_t), "chat messages");
}

static lm_status check_lists(const json_t *input, lm_error *err) {
    static const char *const names[] = {"tools", "documents"};
    size_t i;
    json_t *item;
    for (size_t k = 0; k < 2; k++) {
        const json_t *list = json_object_get(input, names[k]);
        if (!list || json_is_null(list)) continue;
        if (!json_is_array(list)) return lm_fail(err, LM_FORMAT, "chat: %s: expected an array", names[k]);
        json_array_foreach(list, i, item) if (!json_is_object(item)) return lm_fail(
            err, LM_FORMAT, "chat: %s[%zu]: expected an object", names[k], i);
    }
    return LM_OK;
}

/* The text with the tag behind it, as a new JSON string. */
static json_t *tagged(const json_t *text) {
    size_t n = json_string_length(text);
    char *p = malloc(n + sizeof TAG);
    if (!p) return NULL;
    memcpy(p, json_string_value(text), n);
    memcpy(p + n, TAG, sizeof TAG);
    json_t *out = json_stringn(p, n + sizeof TAG - 1);
    free(p);
    return out;
}

static bool same_text(const json_t *a, const json_t *b) {
    return a && b && json_equal((json_t *)a, (json_t *)b);
}

static void keep_final(chat *c, json_t *text) {
    c->final_owner = json_incref(text);
    c->final_text = json_string_value(text);
    c->final_length = json_string_length(text);
}

/* Content in blocks: the last one with text gets the tag. The message keeps a copy: the caller's input stays. */
static lm_status tag_blocks(chat *c, json_t *message, lm_error *err) {
    json_t *blocks = json_deep_copy(json_object_get(message, c->field));
    if (!blocks || json_object_set_new(message, c->field, blocks) != 0)
        return lm_fail_nomem(err, sizeof *blocks, "chat messages");
    for (size_t i = json_array_size(blocks); i-- > 0;) {
        json_t *block = json_array_get(blocks, i), *text = json_object_get(block, "text");
        if (!text) continue;
        if (!json_is_string(text))
            return lm_fail(err, LM_FORMAT, "chat: continue_final_message: the last text block holds no string");
        keep_final(c, text);
        if (json_object_set_new(block, "text", tagged(text)) != 0)
            return lm_fail_nomem(err, c->final_length, "chat messages");
        return LM_OK;
    }
    return lm_fail(err, LM_FORMAT,
                   "continue_final_message is set but we could not find any text to continue in the final message!");
}

static lm_status tag_final(chat *c, json_t *messages, lm_error *err) {
    size_t n = json_array_size(messages);
    if (!n) return lm_fail(err, LM_FORMAT, "continue_final_message is set but the conversation is empty!");
    json_t *message = json_array_get(messages, n - 1), *final = json_object_get(message, c->field);
    if (!final)
        return lm_fail(err, LM_FORMAT, "continue_final_message is set but the final message has no \"%s\" to continue!",
                       c->field);
    const char *names[N_REASONING] = {c->field};
    size_t n_names = 1;
    bool is_reasoning = false, known = false;
    for (size_t i = 0; i < N_REASONING; i++) is_reasoning = is_reasoning || strcmp(c->field, reasoning_names[i]) == 0;
    if (is_reasoning) {
        n_names = 0;
        for (size_t i = 0; i < N_REASONING; i++)
            if (same_text(json_object_get(message, reasoning_names[i]), final)) names[n_names++] = reasoning_names[i];
    }
    for (size_t i = 0; i < n_names; i++) known = known || strstr(c->template_text, names[i]);
    if (!known)
        return lm_fail(err, LM_FORMAT,
                       "continue_final_message is set to \"%s\" but this is not an accepted field in the chat_template",
                       c->field);
    if (json_is_array(final)) return tag_blocks(c, message, err);
    if (!json_is_string(final))
        return lm_fail(err, LM_FORMAT, "chat: continue_final_message: \"%s\" is neither text nor a list", c->field);
    keep_final(c, final);
    for (size_t i = 0; i < n_names; i++)
        if (json_object_set_new(message, names[i], tagged(final)) != 0)
            return lm_fail_nomem(err, c->final_length, "chat messages");
    return LM_OK;
}

/* Fills vars: special tokens, then everything of the input, then what is always defined. */
static lm_status prepare(chat *c, const lm_tokenizer *tokenizer, const json_t *input, lm_error *err) {
    const char *key;
    json_t *value, *messages;
    size_t length;
    if (!json_is_object(input)) return lm_fail(err, LM_FORMAT, "chat: expected a JSON object with \"messages\"");
    if (!json_object_get(input, "messages")) return lm_fail(err, LM_FORMAT, "chat: \"messages\" is missing");
    LM_TRY(check_lists(input, err));
    if (!(c->vars = json_object())) return lm_fail_nomem(err, sizeof(json_t), "chat variables");
    if (tokenizer) json_object_update(c->vars, (json_t *)lm_tokenizer_special_tokens(tokenizer));
    json_object_keylen_foreach((json_t *)input, key, length, value) if (strcmp(key, "strftime_now") != 0 &&
                                                                        strcmp(key, "continue_final_message") != 0)
        json_object_setn(c->vars, key, length, value);
    if (!json_object_get(c->vars, "tools")) json_object_set_new(c->vars, "tools", json_null());
    if (!json_object_get(c->vars, "documents")) json_object_set_new(c->vars, "documents", json_null());
    if (!json_object_get(c->vars, "add_generation_prompt"))
        json_object_set_new(c->vars, "add_generation_prompt", json_false());
    LM_TRY(prepare_messages(json_object_get(input, "messages"), &messages, err));
    if (json_object_set_new(c->vars, "messages", messages) != 0)
        return lm_fail_nomem(err, sizeof(json_t), "chat messages");
    const json_t *now = json_object_get(input, "strftime_now"),
                 *go_on = json_object_get(input, "continue_final_message");
    if (json_is_string(now))
        c->now = json_string_value(now);
    else if (now && !json_is_null(now))
        return lm_fail(err, LM_FORMAT, "chat: strftime_now: expected an ISO time in a string");
    if (json_is_string(go_on) && json_string_length(go_on))
        c->field = json_string_value(go_on);
    else if (json_is_true(go_on) || (json_is_integer(go_on) && json_integer_value(go_on)))
        c->field = "content";
    if (c->field && json_is_true(json_object_get(input, "add_generation_prompt")))
        return lm_fail(err, LM_FORMAT,
                       "continue_final_message and add_generation_prompt are not compatible. Use "
                       "continue_final_message when you want "
                       "the model to continue the final message, and add_generation_prompt when you want to add a "
                       "header that will "
                       "prompt it to start a new assistant message instead.");
    return c->field ? tag_final(c, messages, err) : LM_OK;
}

/* The white space at a side of text, as Python's strip sees it (ASCII and the common wide ones). */
static size_t blank_at(const char *p, size_t n, bool end) {
    static const char *const wide[] = {"\xc2\x85",     "\xc2\xa0",     "\xe2\x80\xa8", "\xe2\x80\xa9",
                                       "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80", "\xe1\x9a\x80"};
    if (!n) return 0;
    unsigned char ch = (unsigned char)(end ? p[n - 1] : p[0]);
    if (ch == ' ' || (ch >= 9 && ch <= 13) || (ch >= 0x1c && ch <= 0x1f)) return 1;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        size_t k = strlen(wide[i]);
        if (n >= k && memcmp(end ? p + n - k : p, wide[i], k) == 0) return k;
    }
    const char *q = end ? p + n - 3 : p; /* U+2000..U+200A */
    if (n >= 3 && memcmp(q, "\xe2\x80", 2) == 0 && (unsigned char)q[2] >= 0x80 && (unsigned char)q[2] <= 0x8a) return 3;
    return 0;
}

static lm_status cut(const chat *c, char *text, size_t *length, lm_error *err) {
    const char *p = c->final_text;
    size_t n = c->final_length, k, at = *length, found = SIZE_MAX;
    while ((k = blank_at(p, n, false))) p += k, n -= k;
    while ((k = blank_at(p, n, true))) n -= k;
    for (at = *length; at-- > 0 && found == SIZE_MAX;)
        if (*length - at >= TAG_WORD && memcmp(text + at, TAG, TAG_WORD) == 0) found = at;
    if (found == SIZE_MAX || (n && !memmem(text, *length, p, n)))
        return lm_fail(
            err, LM_FORMAT,
            "continue_final_message is set but the final message does not appear in the chat after applying the "
            "chat template! This can happen if the chat template deletes portions of the final message.");
    bool spacing_kept = *length - found > TAG_WORD && text[found + TAG_WORD] == ' ';
    *length = found;
    while (!spacing_kept && (k = blank_at(text, *length, true))) *length -= k;
    text[*length] = 0;
    return LM_OK;
}

lm_status lm_chat_render(const lm_tokenizer *tokenizer, const char *template_text, const char *input_json, char **text,
                         size_t *length, lm_error *err) {
    json_t *input = NULL;
    chat c = {.template_text = template_text};
    size_t n = 0;
    *text = NULL;
    if (!c.template_text && tokenizer) c.template_text = lm_tokenizer_chat_template(tokenizer);
    if (!c.template_text) return lm_fail(err, LM_ARG, "chat: the model has no chat template");
    if (!input_json) return lm_fail(err, LM_ARG, "chat: no input");
    LM_TRY(lm_json_parse(input_json, strlen(input_json), "chat", &input, err));
    lm_status status = prepare(&c, tokenizer, input, err);
    if (status == LM_OK) {
        lm_jinja_input in = {
            .text = c.template_text, .length = strlen(c.template_text), .variables = c.vars, .now = c.now};
        status = lm_jinja_render(&in, text, &n, err);
    }
    if (status == LM_OK && c.field) status = cut(&c, *text, &n, err);
    if (status != LM_OK) {
        free(*text);
        *text = NULL;
    } else if (length) {
        *length = n;
    }
    json_decref(c.final_owner);
    json_decref(c.vars);
    json_decref(input);
    return status;
}
