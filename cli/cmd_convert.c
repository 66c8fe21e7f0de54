/* SPDX-License-Identifier: MIT
 *
 * cmd_convert.c: mlx_lm.convert: a Hugging Face or MLX folder to an MLX folder with upstream's flags, or a GGUF file
 * (--gguf). */
#include "common.h"
#include "convert_gguf_out.h"
#include <limits.h>
#include <string.h>

typedef struct convert_args {
    const char *gguf, *mlx_path;
    const char *hf_path, *q_mode, *quant_predicate, *dtype, *q_rule, *upload_repo;
    int64_t q_group_size, q_bits, threads, max_shard_size;
    bool quantize, dequantize, resume, trust_remote_code;
} convert_args;

static int run_gguf(const char *prog, const convert_args *a) {
    lm_error err = {0};
    cli_progress progress;
    (void)cli_cancel();
    cli_progress_start(&progress, "Converting", "B", 0);
    lm_status status = lm_convert_gguf(a->gguf, a->mlx_path, cli_progress_load, &progress, &err);
    cli_progress_end(&progress);
    if (status != LM_OK) return cli_fail(prog, &err);
    size_t n = strlen(a->mlx_path);
    const char *slash = n && a->mlx_path[n - 1] == '/' ? "" : "/";
    static const char *const files[] = {"model.safetensors", "model.safetensors.index.json",
                                        "config.json",       "generation_config.json",
                                        "tokenizer.json",    "tokenizer_config.json"};
    printf("[INFO] Converted %s\n", a->gguf);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) printf("%s%s%s\n", a->mlx_path, slash, files[i]);
    return 0;
}

static void print_info(void *user, const char *line) {
    (void)user;
    printf("[INFO] %s\n", line);
    fflush(stdout);
}

static int run_model(const char *prog, const convert_args *a) {
    lm_error err = {0};
    cli_progress progress;
    lm_convert_options o = lm_convert_options_default();
    o.model = a->hf_path;
    o.mlx_path = a->mlx_path;
    o.quantize = a->quantize;
    o.dequantize = a->dequantize;
    o.q_mode = a->q_mode;
    o.q_bits = (int)a->q_bits;
    o.q_group_size = (int)a->q_group_size;
    o.q_rule = a->q_rule;
    o.quant_predicate = a->quant_predicate;
    o.dtype = a->dtype;
    o.resume = a->resume;
    o.threads = (int)a->threads;
    o.max_shard_bytes = a->max_shard_size;
    o.progress = cli_progress_load;
    o.info = print_info;
    o.user = &progress;
    (void)cli_cancel();
    cli_progress_start(&progress, "Converting", "B", 0);
    lm_status status = lm_convert_model(&o, &err);
    cli_progress_end(&progress);
    if (status == LM_OK) return 0;
    int signal_exit = cli_cancel_exit(), code = cli_fail(prog, &err);
    return status == LM_CANCELLED && signal_exit ? signal_exit : code;
}

static bool in_range(int64_t v) {
    return v >= 0 && v <= INT_MAX;
}

int cmd_convert(int argc, char **argv) {
    if (convert_wants_gguf_out(argc, argv)) return cmd_convert_gguf_out(argc, argv);
    convert_args a = {.mlx_path = "mlx_model", .q_mode = "affine", .q_rule = "cpu"};
    const char *gguf_out = NULL;
    const arg_spec specs[] = {
        ARG_WITH("--hf-path", ARG_STRING, &a.hf_path, "model to convert: a folder, or a repo id in the local cache",
                 .alias = "--model"),
        ARG("--gguf-out", ARG_STRING, &gguf_out, "GGUF file to make from --model (its options: --gguf-out F -h)"),
        ARG("--mlx-path", ARG_STRING, &a.mlx_path, "folder to make; it must not exist (default: mlx_model)"),
        ARG_WITH("--quantize", ARG_FLAG, &a.quantize, "quantize the model", .alias = "-q"),
        ARG("--q-group-size", ARG_INT, &a.q_group_size,
            "group size (default: 64 for affine, 16 for nvfp4, 32 for mxfp4 and mxfp8)"),
        ARG("--q-bits", ARG_INT, &a.q_bits, "bits of a quantized weight (default: 4, mxfp8: 8)"),
        ARG_WITH("--q-mode", ARG_CHOICE, &a.q_mode, "quantization mode (default: affine)",
                 .choices = "affine|mxfp4|nvfp4|mxfp8"),
        ARG_WITH("--quant-predicate", ARG_CHOICE, &a.quant_predicate, "mixed-bit recipe",
                 .choices = "mixed_2_6|mixed_3_4|mixed_3_6|mixed_4_6"),
        ARG_WITH("--dtype", ARG_CHOICE, &a.dtype, "type of the unquantized weights (default: config's torch_dtype)",
                 .choices = "float16|bfloat16|float32"),
        ARG_WITH("--dequantize", ARG_FLAG, &a.dequantize, "dequantize a quantized model", .alias = "-d"),
        ARG_WITH("--q-rule", ARG_CHOICE, &a.q_rule,
                 "round affine weights as mlx does on a CPU or on a GPU (default: cpu)", .choices = "cpu|gpu"),
        ARG("--resume", ARG_FLAG, &a.resume, "go on with what an interrupted conversion left"),
        ARG("--threads", ARG_INT, &a.threads, "threads, 0 = one per fast core"),
        ARG("--max-shard-size", ARG_SIZE, &a.max_shard_size, "bytes of tensors in one file (default: 5GiB)"),
        ARG("--gguf", ARG_STRING, &a.gguf, "GGUF file to convert without loss (llama architecture)"),
        ARG_WITH("--upload-repo", ARG_STRING, &a.upload_repo, "Hugging Face repo to upload to",
                 .unsupported = "--upload-repo: uploading is not built yet"),
        ARG("--trust-remote-code", ARG_FLAG, &a.trust_remote_code,
            "accepted and ignored: checkpoint code is never run"),
        {0},
    };
    int code = args_parse(argv[0], "Convert a model to MLX format.", specs, argc, argv);
    if (code >= 0) return code;
    if (gguf_out) return cmd_convert_gguf_out(argc, argv); /* abbreviated: --gguf-o */
    if (a.gguf && (a.hf_path || a.quantize || a.dequantize || a.dtype || a.quant_predicate))
        return args_error(argv[0], specs, "--gguf converts as it is: convert the result again to change its weights");
    if (a.gguf) return run_gguf(argv[0], &a);
    if (!a.hf_path) return args_error(argv[0], specs, "the following arguments are required: --hf-path/--model");
    if (!in_range(a.q_bits) || !in_range(a.q_group_size) || !in_range(a.threads))
        return args_error(argv[0], specs, "--q-bits, --q-group-size, --threads: expected 0 or more");
    return run_model(argv[0], &a);
}
