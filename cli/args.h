/* SPDX-License-Identifier: MIT
 * args.h: Python argparse's behaviour for a command's flags: unique prefixes of long options, --x=y and --x y, -p5 and
 * -p 5, repeated options keep the last value, nargs="+", -h to stdout with exit 0, errors as usage + "PROG: error: ..."
 * on stderr with exit 2. */
#ifndef LM_CLI_ARGS_H
#define LM_CLI_ARGS_H
#include "lm/lm.h"

typedef enum arg_kind {
    ARG_FLAG,    /* bool: store_true */
    ARG_ON_OFF,  /* bool with --x and --no-x (BooleanOptionalAction) */
    ARG_INT,     /* int64_t */
    ARG_FLOAT,   /* double */
    ARG_STRING,  /* const char * (borrowed from argv) */
    ARG_STRINGS, /* arg_list: one or more words */
    ARG_CHOICE,  /* const char *, one of `choices` separated by '|' */
    ARG_SIZE,    /* int64_t bytes: decimal number with optional K, KB, M, MB, G, GB (powers of 1000), KiB, MiB, GiB */
} arg_kind;

typedef struct arg_list {
    const char **items;
    size_t count;
} arg_list;

typedef struct arg_spec {
    const char *name;  /* "--prompt-tokens"; NULL name ends the table */
    const char *alias; /* "-p", a second long name, or NULL */
    arg_kind kind;
    void *value; /* where the value goes; its content before parsing is the default */
    const char *help;
    const char *choices;
    bool required;
    bool *given;             /* may be NULL: set when the option occurred */
    const char *unsupported; /* not NULL: an upstream flag that is not built yet: parsed, then refused with this
                                sentence (stderr, exit 1) when it is given a value that would change anything */
} arg_spec;
/* A row of a table of options; with further fields named behind it. */
#define ARG(NAME, KIND, VALUE, HELP) \
    { .name = (NAME), .kind = (KIND), .value = (VALUE), .help = (HELP) }
#define ARG_WITH(NAME, KIND, VALUE, HELP, ...) \
    { .name = (NAME), .kind = (KIND), .value = (VALUE), .help = (HELP), __VA_ARGS__ }

/** Parses argv[1..]. Returns -1 to go on, else the exit code (0 after -h, 2 after an error, 1 for an unsupported flag).
 */
int args_parse(const char *prog, const char *description, const arg_spec *specs, int argc, char **argv);
void args_list_free(arg_list *list);

/** The engine options that every command takes, spelled alike: --device, --threads, --use-mmap/--no-use-mmap,
 *  --max-memory, --numerics {auto,f32,f16,bf16,int8}, --batch-invariant/--no-batch-invariant, --trust-remote-code
 * (accepted, ignored). Put ENGINE_ARGS(e) into a spec table and call engine_args_options afterwards. */
typedef struct engine_args {
    const char *device, *numerics;
    int64_t threads, max_memory;
    bool use_mmap, batch_invariant, trust_remote_code, pin_threads;
    bool kv_given; /* --kv-bits, of KV_ARGS */
    int64_t kv_bits, kv_group;
} engine_args;
#define ENGINE_ARGS_DEFAULT(invariant) \
    { "cpu", "auto", 0, 0, true, (invariant), false, false, false, 0, 64 }
#define ENGINE_ARGS(e)                                                                                                 \
    ARG("--device", ARG_STRING, &(e).device, "device to run on (cpu)"),                                                \
        ARG("--threads", ARG_INT, &(e).threads, "threads, 0 = one per fast core"),                                     \
        ARG("--pin-threads", ARG_ON_OFF, &(e).pin_threads, "keep workers on cores"),                                   \
        ARG("--use-mmap", ARG_ON_OFF, &(e).use_mmap, "map weight files instead of reading them (default: on)"),        \
        ARG("--max-memory", ARG_SIZE, &(e).max_memory, "bytes the process may have resident, e.g. 8GB; 0 = no limit"), \
        ARG_WITH("--numerics", ARG_CHOICE, &(e).numerics, "loosest rounding of matrix product inputs",                 \
                 .choices = "auto|f32|f16|bf16|int8"),                                                                 \
        ARG("--batch-invariant", ARG_ON_OFF, &(e).batch_invariant, "same bits whatever else runs in a batch"),         \
        ARG("--trust-remote-code", ARG_FLAG, &(e).trust_remote_code,                                                   \
            "accepted and ignored: checkpoint code is never run")
/** --kv-bits and --kv-group-size of commands whose sequences are quantized from their first token on. */
#define KV_ARGS(e)                                                                                            \
    ARG_WITH("--kv-bits", ARG_INT, &(e).kv_bits, "quantize keys and values to this many bits (default: not)", \
             .given = &(e).kv_given),                                                                         \
        ARG("--kv-group-size", ARG_INT, &(e).kv_group, "group size of quantized keys and values (default: 64)")
/** Keys and values of so many bits; what cannot be stays so: the engine refuses it. */
lm_kv_type args_kv_type(int64_t bits, int64_t group);
lm_engine_options engine_args_options(const engine_args *args);

/** Prints "PROG: error: MESSAGE" from err on stderr; returns the exit code 1. */
int cli_fail(const char *prog, const lm_error *err);

/** Commands: argv[0] is the program name shown ("mlx_lm.generate"). Return the exit code. */
int cmd_benchmark(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_evaluate(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_kernels(int argc, char **argv);
int cmd_logits(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_render(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
#endif
