/* SPDX-License-Identifier: MIT
 * evaluate_compare.c: mlx_lm.evaluate --compare A B …: what can be said about the difference of finished evaluations.
 */
#include "evaluate.h"
#include "lm/eval.h"

int cli_evaluate_compare(int argc, char **argv) {
    arg_list folders = {0};
    int64_t seed = 123;
    bool json = false;
    const arg_spec specs[] = {
        ARG_WITH("--compare", ARG_STRINGS, &folders, "result folders, or *_report.json files in them",
                 .required = true),
        ARG("--seed", ARG_INT, &seed, "seed of the bootstrap (default: 123)"),
        ARG("--json", ARG_FLAG, &json, "print JSON instead of Markdown"),
        {0},
    };
    int code = args_parse(argv[0], "Compare finished evaluations.", specs, argc, argv);
    if (code < 0 && folders.count < 2)
        code = args_error(argv[0], specs, "argument --compare: expected at least two folders");
    if (code < 0) {
        lm_error err = {LM_OK, ""};
        char *text = NULL;
        size_t length = 0;
        lm_status status = lm_eval_compare(folders.items, folders.count, (uint64_t)seed, json, &text, &length, &err);
        if (status == LM_OK && (fwrite(text, 1, length, stdout) != length || fflush(stdout) != 0))
            status = cli_error(&err, LM_IO, "stdout: cannot be written");
        lm_free(text);
        code = status == LM_OK ? 0 : cli_fail(argv[0], &err);
    }
    args_list_free(&folders);
    return code;
}
