/* SPDX-License-Identifier: MIT
 * tasks.c: the rows: datasets, task families, tasks and groups, and the look-up of names.
 * Numbers and texts are those of lm-eval 0.4.13's mmlu_pro (task version 3.1, group version 2.0). */
#include "internal.h"
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static const lm_ev_dataset mmlu_pro_data = {
    .name = "MMLU-Pro",
    .test_file = "test.jsonl",
    .fewshot_file = "validation.jsonl",
    .embedded = lm_ev_mmlu_pro_embedded,
    .check = lm_ev_mmlu_pro_check,
    .subject_key = "category",
    .note = "the few-shot exemplars of this MMLU-Pro copy are stand-ins and its test split has 11962 of the published "
            "12032 questions, so scores are not comparable with published ones",
};

static const lm_ev_family mmlu_pro = {
    .dataset = &mmlu_pro_data,
    .description = "The following are multiple choice questions (with answers) about {}. Think step by step and then "
                   "finish your answer with \"the answer is (X)\" where X is the correct letter choice.\n",
    .doc_to_text = lm_ev_mmlu_pro_text,
    .doc_to_text_seed = lm_ev_mmlu_pro_text_seed,
    .fewshot_to_target = lm_ev_mmlu_pro_cot,
    .target_key = "answer",
    .target_delimiter = " ",
    .fewshot_delimiter = "\n\n",
    .num_shots = 5,
    .until = {"Question:"},
    .max_gen_toks = 2048,
    .generation_kwargs = "{\"until\": [\"Question:\"], \"max_gen_toks\": 2048, \"do_sample\": false, "
                         "\"temperature\": 0.0}",
    .filter = {"custom-extract",
               {{EV_FILTER_REGEX, "answer is \\(?([ABCDEFGHIJ])\\)?", "[invalid]", 0},
                {EV_FILTER_TAKE_FIRST, NULL, NULL, 0}}},
    .metric = {"exact_match", lm_ev_exact_match, EV_IGNORE_CASE | EV_IGNORE_PUNCTUATION, true},
    .version = "3.1",
    .version_seed = "2.1",
};

const lm_ev_task lm_ev_tasks[] = {
    {"mmlu_pro_biology", "biology", "biology", &mmlu_pro},
    {"mmlu_pro_business", "business", "business", &mmlu_pro},
    {"mmlu_pro_chemistry", "chemistry", "chemistry", &mmlu_pro},
    {"mmlu_pro_computer_science", "computer_science", "computer science", &mmlu_pro},
    {"mmlu_pro_economics", "economics", "economics", &mmlu_pro},
    {"mmlu_pro_engineering", "engineering", "engineering", &mmlu_pro},
    {"mmlu_pro_health", "health", "health", &mmlu_pro},
    {"mmlu_pro_history", "history", "history", &mmlu_pro},
    {"mmlu_pro_law", "law", "law", &mmlu_pro},
    {"mmlu_pro_math", "math", "math", &mmlu_pro},
    {"mmlu_pro_other", "other", "other", &mmlu_pro},
    {"mmlu_pro_philosophy", "philosophy", "philosophy", &mmlu_pro},
    {"mmlu_pro_physics", "physics", "physics", &mmlu_pro},
    {"mmlu_pro_psychology", "psychology", "psychology", &mmlu_pro},
};
const size_t lm_ev_n_tasks = sizeof lm_ev_tasks / sizeof *lm_ev_tasks;

static const char *const mmlu_pro_members[] = {
    "mmlu_pro_biology",
    "mmlu_pro_business",
    "mmlu_pro_chemistry",
    "mmlu_pro_computer_science",
    "mmlu_pro_economics",
    "mmlu_pro_engineering",
    "mmlu_pro_health",
    "mmlu_pro_history",
    "mmlu_pro_law",
    "mmlu_pro_math",
    "mmlu_pro_other",
    "mmlu_pro_philosophy",
    "mmlu_pro_physics",
    "mmlu_pro_psychology",
    NULL,
};
const lm_ev_group lm_ev_groups[] = {
    {"mmlu_pro", "mmlu_pro", "2.0", mmlu_pro_members, true},
};
const size_t lm_ev_n_groups = sizeof lm_ev_groups / sizeof *lm_ev_groups;

/* ---- look-up */

static const lm_ev_task *find_task(const char *name) {
    for (size_t i = 0; i < lm_ev_n_tasks; i++)
        if (strcmp(lm_ev_tasks[i].name, name) == 0) return &lm_ev_tasks[i];
    return NULL;
}

static bool is_member(const lm_ev_group *group, const char *name) {
    for (const char *const *m = group->members; *m; m++)
        if (strcmp(*m, name) == 0) return true;
    return false;
}

static bool selected(const lm_eval *eval, const char *name) {
    for (size_t i = 0; i < eval->n_tasks; i++)
        if (strcmp(eval->tasks[i].task->name, name) == 0) return true;
    return false;
}

static const lm_ev_group *group_of(const lm_eval *eval, const char *name) {
    for (size_t i = 0; i < eval->n_groups; i++)
        if (is_member(eval->groups[i], name)) return eval->groups[i];
    return NULL;
}

/* lm-eval refuses a task that is named both alone and through a group; a repeated name counts once. A glob takes only
 * what isn't selected yet. */
static lm_status add_task(lm_eval *eval, const lm_ev_task *task, bool glob, lm_error *err) {
    const lm_ev_group *group = group_of(eval, task->name);
    if (group && !glob)
        return lm_ev_fail(err, LM_ARG, "Duplicate task '%s': found in both '%s' and '%s'", task->name, group->name,
                          task->name);
    if (!selected(eval, task->name)) eval->tasks[eval->n_tasks++].task = task;
    return LM_OK;
}

static lm_status add_group(lm_eval *eval, const lm_ev_group *group, bool glob, lm_error *err) {
    for (size_t i = 0; i < eval->n_groups; i++)
        if (eval->groups[i] == group) return LM_OK;
    for (const char *const *m = group->members; *m; m++) {
        if (!selected(eval, *m)) {
            eval->tasks[eval->n_tasks++].task = find_task(*m);
        } else if (!glob) {
            return lm_ev_fail(err, LM_ARG, "Duplicate task '%s': found in both '%s' and '%s'", *m, *m, group->name);
        }
    }
    eval->groups[eval->n_groups++] = group;
    return LM_OK;
}

static lm_status add_name(lm_eval *eval, const char *name, lm_error *err) {
    for (size_t i = 0; i < lm_ev_n_groups; i++)
        if (strcmp(lm_ev_groups[i].name, name) == 0) return add_group(eval, &lm_ev_groups[i], false, err);
    const lm_ev_task *task = find_task(name);
    if (task) return add_task(eval, task, false, err);
    bool found = false;
    if (strpbrk(name, "*?[")) {
        for (size_t i = 0; i < lm_ev_n_groups; i++)
            if (fnmatch(name, lm_ev_groups[i].name, 0) == 0) {
                EV_TRY(add_group(eval, &lm_ev_groups[i], true, err));
                found = true;
            }
        for (size_t i = 0; i < lm_ev_n_tasks; i++)
            if (fnmatch(name, lm_ev_tasks[i].name, 0) == 0) {
                EV_TRY(add_task(eval, &lm_ev_tasks[i], true, err));
                found = true;
            }
    }
    if (found) return LM_OK;
    return lm_ev_fail(err, LM_ARG,
                      "--tasks: '%s' is no task, group or pattern known here (known: mmlu_pro and "
                      "mmlu_pro_SUBJECT)",
                      name);
}

lm_status lm_ev_resolve(lm_eval *eval, lm_error *err) {
    eval->tasks = calloc(lm_ev_n_tasks, sizeof *eval->tasks);
    eval->groups = calloc(lm_ev_n_groups, sizeof *eval->groups);
    if (!eval->tasks || !eval->groups) return lm_ev_fail(err, LM_NOMEM, "out of memory for the list of tasks");
    for (size_t i = 0; i < eval->n_names; i++) EV_TRY(add_name(eval, eval->names[i], err));
    if (!eval->n_tasks) return lm_ev_fail(err, LM_ARG, "--tasks: no task was named");
    for (size_t i = 1; i < eval->n_tasks; i++)
        if (eval->tasks[i].task->family->dataset != eval->tasks[0].task->family->dataset)
            return lm_ev_fail(err, LM_UNSUPPORTED, "--tasks: tasks of different data sets need one run each");
    eval->dataset = eval->tasks[0].task->family->dataset;
    return LM_OK;
}

int64_t lm_ev_token_cap(const lm_eval *eval, const lm_ev_task *task) {
    if (eval->max_tokens > 0) return eval->max_tokens;
    if (task->family->max_gen_toks > 0) return task->family->max_gen_toks;
    return eval->rules == LM_EVAL_RULES_SEED ? 8912 : 8192; /* mlx-lm 0.28.2 really had 8912 */
}

int64_t lm_ev_shots(const lm_eval *eval, const lm_ev_task *task) {
    int64_t own = task->family->num_shots;
    return eval->has_num_shots && own != 0 ? eval->num_shots : own; /* an explicit 0 of a task stays */
}
