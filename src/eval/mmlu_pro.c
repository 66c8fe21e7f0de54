/* SPDX-License-Identifier: MIT
 * mmlu_pro.c: what is MMLU-Pro's own: the check of a row, the question text, the exemplar's answer text, and the
 * embedded copy of the questions (data/mmlu_pro, zstd). The rest of the task is rows in tasks.c. */
#include "internal.h"
#include <string.h>

#define MAX_OPTIONS 10
static const char LETTERS[] = "ABCDEFGHIJ";
static const char COT_PREFIX[] = "A: Let's think step by step. ";

/* The files as bytes in the read-only segment. EV_MMLU_PRO_DIR comes from cmake/eval_data.cmake. */
#if defined(__APPLE__)
#define EV_SECTION ".section __DATA,__const\n"
#define EV_SYMBOL(name) "_" #name
#define EV_BACK ".text\n"
#else
#define EV_SECTION ".pushsection .rodata\n"
#define EV_SYMBOL(name) #name
#define EV_BACK ".popsection\n"
#endif
#define EV_EMBED(name, file)                                                                          \
    __asm__(EV_SECTION ".globl " EV_SYMBOL(name) "\n.balign 16\n" EV_SYMBOL(                          \
        name) ":\n.incbin \"" EV_MMLU_PRO_DIR "/" file                                                \
              "\"\n.globl " EV_SYMBOL(name##_end) "\n" EV_SYMBOL(name##_end) ":\n.byte 0\n" EV_BACK); \
    extern const unsigned char name[], name##_end[]
EV_EMBED(lm_mmlu_pro_test, "test.jsonl.zst");
EV_EMBED(lm_mmlu_pro_validation, "validation.jsonl.zst");

void lm_ev_mmlu_pro_embedded(bool fewshot, const unsigned char **data, size_t *size) {
    *data = fewshot ? lm_mmlu_pro_validation : lm_mmlu_pro_test;
    *size = (size_t)((fewshot ? lm_mmlu_pro_validation_end : lm_mmlu_pro_test_end) - *data);
}

lm_status lm_ev_mmlu_pro_check(const json_t *row, const char *where, lm_error *err) {
    static const char *const texts[] = {"question", "answer", "cot_content", "category"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const json_t *value = json_object_get(row, texts[i]);
        if (!json_is_string(value))
            return lm_ev_fail(err, LM_FORMAT, "%s: %s: expected a string, found %s", where, texts[i],
                              value ? "another type" : "nothing");
    }
    const json_t *options = json_object_get(row, "options");
    if (!json_is_array(options))
        return lm_ev_fail(err, LM_FORMAT, "%s: options: expected an array, found %s", where,
                          options ? "another type" : "nothing");
    size_t n = json_array_size(options);
    if (n < 1 || n > MAX_OPTIONS)
        return lm_ev_fail(err, LM_FORMAT, "%s: options: expected 1 to %d of them, found %zu", where, MAX_OPTIONS, n);
    for (size_t i = 0; i < n; i++)
        if (!json_is_string(json_array_get(options, i)))
            return lm_ev_fail(err, LM_FORMAT, "%s: options[%zu]: expected a string, found another type", where, i);
    return LM_OK;
}

static void add_string(lm_ev_buf *out, const json_t *value) {
    lm_ev_buf_add(out, json_string_value(value), json_string_length(value));
}

/* The question is verbatim. */
static void add_question(const json_t *doc, bool strip, lm_ev_buf *out) {
    lm_ev_buf_text(out, "Question:\n");
    add_string(out, json_object_get(doc, "question"));
    lm_ev_buf_text(out, "\nOptions:\n");
    const json_t *options = json_object_get(doc, "options");
    for (size_t i = 0; i < json_array_size(options) && i < MAX_OPTIONS; i++) {
        const json_t *option = json_array_get(options, i);
        const char *text = json_string_value(option);
        size_t length = json_string_length(option);
        if (strip) lm_ev_strip(&text, &length);
        lm_ev_buf_format(out, "%c. ", LETTERS[i]);
        lm_ev_buf_add(out, text, length);
        lm_ev_buf_text(out, "\n");
    }
    lm_ev_buf_text(out, "Answer: Let's think step by step.");
}

/* Options are stripped from task version 3.0 on. */
void lm_ev_mmlu_pro_text(const json_t *doc, lm_ev_buf *out) {
    add_question(doc, true, out);
}

void lm_ev_mmlu_pro_text_seed(const json_t *doc, lm_ev_buf *out) {
    add_question(doc, false, out);
}

/* The exemplar's reasoning without its opening words, every occurrence of them. */
void lm_ev_mmlu_pro_cot(const json_t *doc, lm_ev_buf *out) {
    const json_t *cot = json_object_get(doc, "cot_content");
    const char *text = json_string_value(cot);
    size_t length = json_string_length(cot), prefix = sizeof COT_PREFIX - 1;
    for (;;) {
        size_t at = lm_ev_find(text, length, COT_PREFIX, prefix);
        lm_ev_buf_add(out, text, at);
        if (at == length) return;
        text += at + prefix;
        length -= at + prefix;
    }
}
