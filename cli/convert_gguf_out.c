/* SPDX-License-Identifier: MIT
 * convert_gguf_out.c: mlx_lm.convert --model DIR --gguf-out FILE: a folder becomes one GGUF file. */
#include "convert_gguf_out.h"
#include "common.h"
#include <string.h>

typedef struct gguf_out_args {
    const char *model, *out, *type;
    int64_t threads;
    bool trust_remote_code;
} gguf_out_args;

bool convert_wants_gguf_out(int argc, char **argv) {
    static const char option[] = "--gguf-out";
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--")) return false;
        if (!strncmp(argv[i], option, sizeof option - 1) && strchr("=", argv[i][sizeof option - 1])) return true;
    }
    return false;
}

static lm_gguf_out_type out_type(const char *name) {
    static const char *const names[] = {[LM_GGUF_OUT_F16] = "f16",
                                        [LM_GGUF_OUT_BF16] = "bf16",
                                        [LM_GGUF_OUT_Q8_0] = "q8_0",
                                        [LM_GGUF_OUT_Q4_0] = "q4_0",
                                        [LM_GGUF_OUT_Q4_1] = "q4_1"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i] && !strcmp(names[i], name)) return (lm_gguf_out_type)i;
    return LM_GGUF_OUT_AUTO;
}

static int run(const char *prog, const gguf_out_args *a) {
    lm_error err = {0};
    lm_gguf_write_options options = lm_gguf_write_options_default();
    lm_gguf_write_result result;
    cli_progress progress;
    options.type = out_type(a->type);
    options.threads = (int)a->threads;
    options.progress = cli_progress_load;
    options.progress_user = &progress;
    (void)cli_cancel();
    cli_progress_start(&progress, "Writing", "B", 0);
    lm_status status = lm_convert_to_gguf(a->model, a->out, &options, &result, &err);
    cli_progress_end(&progress);
    if (status != LM_OK) return cli_fail(prog, &err);
    printf("[INFO] Converted %s: %lld tensors, %lld of them exact, %lld bytes\n%s\n", a->model,
           (long long)result.n_tensors, (long long)result.n_exact, (long long)result.bytes, a->out);
    return 0;
}

int cmd_convert_gguf_out(int argc, char **argv) {
    gguf_out_args a = {.type = "auto"};
    const arg_spec specs[] = {
        ARG_WITH("--hf-path", ARG_STRING, &a.model, "folder or cached repo id to read", .alias = "--model",
                 .required = true),
        ARG_WITH("--gguf-out", ARG_STRING, &a.out, "GGUF file to make; it must not exist", .required = true),
        ARG_WITH("--gguf-type", ARG_CHOICE, &a.type,
                 "type of the matrices (default: auto, the one that loses nothing, else q8_0)",
                 .choices = "auto|f16|bf16|q8_0|q4_0|q4_1"),
        ARG("--threads", ARG_INT, &a.threads, "threads, 0 = one per fast core"),
        ARG("--trust-remote-code", ARG_FLAG, &a.trust_remote_code,
            "accepted and ignored: checkpoint code is never run"),
        {0},
    };
    int code = args_parse(argv[0], "Write a model as a GGUF file for llama.cpp.", specs, argc, argv);
    if (code >= 0) return code;
    if (a.threads < 0 || a.threads > 1024) return args_error(argv[0], specs, "argument --threads: expected 0 to 1024");
    return run(argv[0], &a);
}
