/* SPDX-License-Identifier: MIT
 *
 * cmd_convert.c: mlx_lm.convert. So far: a GGUF file becomes an MLX folder. Upstream's own flags are read, so that a
 * command line means the same, and refused one by one where the work behind them is not built. */
#include "common.h"
#include "convert_gguf_out.h"
#include <string.h>

#define NOT_BUILT(flag, what) flag ": " what " is not built yet; --gguf FILE converts a GGUF file"

typedef struct convert_args {
    const char *gguf, *mlx_path;
    const char *hf_path, *q_mode, *quant_predicate, *dtype, *upload_repo;
    int64_t q_group_size, q_bits;
    bool quantize, dequantize, trust_remote_code;
} convert_args;

static int run(const char *prog, const convert_args *a) {
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

int cmd_convert(int argc, char **argv) {
    if (convert_wants_gguf_out(argc, argv)) return cmd_convert_gguf_out(argc, argv);
    convert_args a = {.mlx_path = "mlx_model", .q_mode = "affine"};
    const char *gguf_out = NULL;
    const arg_spec specs[] = {
        {"--gguf", NULL, ARG_STRING, &a.gguf, "GGUF file to convert (llama architecture)", NULL, false, NULL, NULL},
        {"--gguf-out", NULL, ARG_STRING, &gguf_out, "GGUF file to make from --model (its options: --gguf-out F -h)",
         NULL, false, NULL, NULL},
        {"--hf-path", "--model", ARG_STRING, &a.hf_path, "Hugging Face model to convert", NULL, false, NULL,
         NOT_BUILT("--hf-path", "converting a Hugging Face model")},
        {"--mlx-path", NULL, ARG_STRING, &a.mlx_path, "folder to make; it must not exist (default: mlx_model)", NULL,
         false, NULL, NULL},
        {"--quantize", "-q", ARG_FLAG, &a.quantize, "quantize the model", NULL, false, NULL,
         NOT_BUILT("--quantize", "quantizing")},
        {"--q-group-size", NULL, ARG_INT, &a.q_group_size, "group size for quantization", NULL, false, NULL,
         NOT_BUILT("--q-group-size", "quantizing")},
        {"--q-bits", NULL, ARG_INT, &a.q_bits, "bits of a quantized weight", NULL, false, NULL,
         NOT_BUILT("--q-bits", "quantizing")},
        {"--q-mode", NULL, ARG_CHOICE, &a.q_mode, "quantization mode", "affine|mxfp4|nvfp4|mxfp8", false, NULL,
         NOT_BUILT("--q-mode", "quantizing")},
        {"--quant-predicate", NULL, ARG_CHOICE, &a.quant_predicate, "mixed-bit recipe",
         "mixed_2_6|mixed_3_4|mixed_3_6|mixed_4_6", false, NULL, NOT_BUILT("--quant-predicate", "quantizing")},
        {"--dtype", NULL, ARG_CHOICE, &a.dtype, "type of the unquantized weights", "float16|bfloat16|float32", false,
         NULL, NOT_BUILT("--dtype", "casting weights")},
        {"--upload-repo", NULL, ARG_STRING, &a.upload_repo, "Hugging Face repo to upload to", NULL, false, NULL,
         NOT_BUILT("--upload-repo", "uploading")},
        {"--dequantize", "-d", ARG_FLAG, &a.dequantize, "dequantize the model", NULL, false, NULL,
         NOT_BUILT("--dequantize", "dequantizing")},
        {"--trust-remote-code", NULL, ARG_FLAG, &a.trust_remote_code,
         "accepted and ignored: checkpoint code is never run", NULL, false, NULL, NULL},
        {0},
    };
    int code = args_parse(argv[0], "Convert a GGUF file to an MLX folder without loss.", specs, argc, argv);
    if (code >= 0) return code;
    if (!a.gguf) return args_error(argv[0], specs, "the following arguments are required: --gguf");
    return run(argv[0], &a);
}
