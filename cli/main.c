/* SPDX-License-Identifier: MIT
 *
 * main.c: which command is meant. "mlx_lm SUB ARGS", a link named "mlx_lm.SUB", "mlx_lm --version", and "mlx --version"
 * through a link named "mlx". */
#include "common.h"
#include <stdlib.h>
#include <string.h>

#ifndef LM_BUILD_TYPE
#define LM_BUILD_TYPE "unknown"
#endif
#ifndef LM_BUILD_FLAGS
#define LM_BUILD_FLAGS ""
#endif

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv); /* NULL: mlx-lm has it, we do not yet */
    const char *about;
} command;

/* mlx-lm's commands in its order, then ours. */
static const command commands[] = {
    {"benchmark", cmd_benchmark, "measure prompt and generation speed and memory"},
    {"cache_prompt", NULL, NULL},
    {"chat", NULL, NULL},
    {"convert", cmd_convert, "make an MLX folder (quantized or not) or a GGUF file"},
    {"evaluate", cmd_evaluate, "score a model on lm-eval tasks"},
    {"fuse", NULL, NULL},
    {"generate", cmd_generate, "answer one prompt"},
    {"lora", NULL, NULL},
    {"manage", NULL, NULL},
    {"perplexity", cmd_perplexity, "perplexity of a text, and distance from a base model"},
    {"awq", NULL, NULL},
    {"dwq", NULL, NULL},
    {"dynamic_quant", NULL, NULL},
    {"gptq", NULL, NULL},
    {"server", NULL, NULL},
    {"upload", NULL, NULL},
    {"share", NULL, NULL},
    {"kernels", cmd_kernels, "list the kernels and which of them run here"},
    {"logits", cmd_logits, "write the logits of given ids to a safetensors file"},
    {"render", cmd_render, "render chat templates, one JSON object a line"},
    {"tokenize", cmd_tokenize, "encode and decode text, one JSON value a line"},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static const command *find_command(const char *name) {
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

static void print_commands(FILE *f) {
    const char *comma = "";
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (!commands[i].run) continue;
        fprintf(f, "%s%s", comma, commands[i].name);
        comma = ", ";
    }
}

static int print_help(void) {
    printf("usage: mlx_lm SUBCOMMAND [options], or mlx_lm.SUBCOMMAND [options]\n       mlx_lm --version [--json]\n\n");
    printf("subcommands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (commands[i].run) printf("  %-12s %s\n", commands[i].name, commands[i].about);
    printf("\nin mlx-lm, but not built yet:\n ");
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!commands[i].run) printf(" %s", commands[i].name);
    printf("\n\nFor the options of a subcommand: mlx_lm SUBCOMMAND --help\n");
    return 0;
}

static const char *compiler_text(void) {
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

/* The bare version of mlx-lm (or mlx), since that is what scripts read; details as JSON. */
static int print_version(bool of_mlx, bool details) {
    if (!details) {
        printf("%s\n", of_mlx ? lm_version_mlx() : lm_version_mlx_lm());
        return 0;
    }
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "name", "mlx-lm.c", "version", lm_version(),
                          "mlx_lm", lm_version_mlx_lm(), "mlx", lm_version_mlx(), "cpu", lm_cpu_description(),
                          "topology", lm_topology_description(), "compiler", compiler_text(), "build_type",
                          LM_BUILD_TYPE, "build_flags", LM_BUILD_FLAGS);
    if (!o) {
        fprintf(stderr, "mlx_lm: error: out of memory\n");
        return 1;
    }
    cli_json_print(stdout, o, 4, true);
    putchar('\n');
    json_decref(o);
    return 0;
}

static int run_command(const char *name, int argc, char **argv) {
    const command *c = find_command(name);
    if (!c) {
        fprintf(stderr, "mlx_lm: error: unknown subcommand '");
        cli_print_clean(stderr, name);
        fprintf(stderr, "', expected one of ");
        print_commands(stderr);
        fputc('\n', stderr);
        return 1;
    }
    if (!c->run) {
        fprintf(stderr, "mlx_lm: error: mlx-lm's subcommand '%s' is not built yet in this program\n", name);
        return 1;
    }
    char prog[64];
    snprintf(prog, sizeof prog, "mlx_lm.%s", c->name);
    argv[0] = prog;
    return c->run(argc, argv);
}

/* The program was called through a link named "mlx": only its version is there. */
static int main_mlx(int argc, char **argv) {
    bool version = false, details = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--version") == 0)
            version = true;
        else if (strcmp(argv[i], "--json") == 0)
            details = true;
        else if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            printf("usage: mlx [-h] [--version] [--json]\n");
            return 0;
        } else {
            fprintf(stderr, "usage: mlx [-h] [--version] [--json]\nmlx: error: unrecognized arguments: ");
            cli_print_clean(stderr, argv[i]);
            fputc('\n', stderr);
            return 2;
        }
    }
    return version ? print_version(true, details) : 0;
}

static int main_mlx_lm(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "mlx_lm: error: a subcommand is required: one of ");
        print_commands(stderr);
        fputc('\n', stderr);
        return 1;
    }
    if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0) return print_help();
    if (strcmp(argv[1], "--version") == 0) return print_version(false, argc > 2 && strcmp(argv[2], "--json") == 0);
    return run_command(argv[1], argc - 1, argv + 1);
}

int main(int argc, char **argv) {
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = argc > 0 ? (slash ? slash + 1 : argv[0]) : "mlx_lm";
    int code;
    if (strcmp(name, "mlx") == 0)
        code = main_mlx(argc, argv);
    else if (strncmp(name, "mlx_lm.", 7) == 0 && name[7])
        code = run_command(name + 7, argc, argv);
    else
        code = main_mlx_lm(argc, argv);
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == 0) {
        fprintf(stderr, "mlx_lm: error: standard output could not be written\n");
        code = 1;
    }
    return code;
}
