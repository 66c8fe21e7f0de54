/* SPDX-License-Identifier: MIT
 * test_args.c: command lines against what Python 3.11's argparse does with them (recorded from mlx-lm 0.32.2's
 * parsers), and what is ours: sizes, unsupported options, prefixes that our own options must not make ambiguous. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "../../cli/args.c"
#include "../../cli/args_help.c"
#include <cmocka.h>
#include <unistd.h>

/* args.c needs two functions of common.c, which would bring the whole CLI along. */
void cli_print_clean(FILE *f, const char *text) {
    fputs(text, f);
}

typedef struct values {
    const char *model, *prompt, *mode, *draft;
    int64_t p, g, delay, num, kv_bits, kv_group;
    double temp;
    bool pipeline, qa, given, ignored;
    arg_list eos;
    engine_args engine;
} values;

static values v;
static char captured[8192]; /* what the last parse wrote to stdout and stderr */

static int parse(int argc, const char *const *argv, bool required) {
    args_list_free(&v.eos);
    v = (values){.p = 512, .g = 1024, .kv_bits = -1, .kv_group = 64, .prompt = "hello", .mode = "affine"};
    v.engine = (engine_args)ENGINE_ARGS_DEFAULT(false);
    const arg_spec specs[] = {
        ARG_WITH("--model", ARG_STRING, &v.model, "the model", .required = required),
        ARG_WITH("--prompt-tokens", ARG_INT, &v.p, "length of the prompt", .alias = "-p", .given = &v.given),
        ARG_WITH("--generation-tokens", ARG_INT, &v.g, NULL, .alias = "-g", .required = required),
        ARG_WITH("--num-trials", ARG_INT, &v.num, "trials", .alias = "-n"),
        ARG("--pipeline", ARG_FLAG, &v.pipeline, "pipeline"),
        ARG_WITH("--quantize-activations", ARG_FLAG, &v.qa, "qa", .alias = "-qa"),
        ARG("--prefill-step-size", ARG_INT, &v.num, "step"),
        ARG("--delay", ARG_INT, &v.delay, "delay"),
        ARG("--extra-eos-token", ARG_STRINGS, &v.eos, "eos"),
        ARG("--temp", ARG_FLOAT, &v.temp, "temperature"),
        ARG_WITH("--mode", ARG_CHOICE, &v.mode, "mode", .choices = "affine|mxfp4"),
        ARG_WITH("--kv-bits", ARG_INT, &v.kv_bits, "bits", .unsupported = "--kv-bits: not built yet"),
        ARG_WITH("--kv-group-size", ARG_INT, &v.kv_group, "group", .unsupported = "--kv-group-size: not built yet"),
        ARG_WITH("--draft-model", ARG_STRING, &v.draft, "draft", .unsupported = "--draft-model: not built yet"),
        ARG_WITH("--ignored", ARG_FLAG, &v.ignored, "flag", .unsupported = "--ignored: not built yet"),
        ENGINE_ARGS(v.engine),
        {0},
    };
    FILE *f = tmpfile();
    assert_non_null(f);
    fflush(NULL);
    int out = dup(1), err = dup(2);
    dup2(fileno(f), 1);
    dup2(fileno(f), 2);
    int code = args_parse("P", "What it does.", specs, argc, (char **)(uintptr_t)argv);
    fflush(NULL);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    rewind(f);
    captured[fread(captured, 1, sizeof captured - 1, f)] = '\0';
    fclose(f);
    return code;
}

#define WORDS(...) ((const char *const[]){"P", __VA_ARGS__, NULL})
#define COUNT(...) ((int)(sizeof WORDS(__VA_ARGS__) / sizeof(char *)) - 1)
#define PARSE(...) parse(COUNT(__VA_ARGS__), WORDS(__VA_ARGS__), false)

#define EXPECT_GOOD(...) assert_int_equal(PARSE(__VA_ARGS__), -1)
#define EXPECT_ERROR(message, ...)                           \
    do {                                                     \
        assert_int_equal(PARSE(__VA_ARGS__), 2);             \
        assert_memory_equal(captured, "usage: P [-h]", 13);  \
        const char *line = strstr(captured, "\nP: error: "); \
        assert_non_null(line);                               \
        assert_string_equal(line + 11, message "\n");        \
    } while (0)

static void test_values(void **state) {
    (void)state;
    EXPECT_GOOD("--prompt-tokens", "7");
    assert_int_equal(v.p, 7);
    assert_true(v.given);
    EXPECT_GOOD("-p2048", "-g", "128");
    assert_int_equal(v.p, 2048);
    assert_int_equal(v.g, 128);
    EXPECT_GOOD("-p=5");
    assert_int_equal(v.p, 5);
    EXPECT_GOOD("-p", "1_000", "--delay", " -12 ");
    assert_int_equal(v.p, 1000);
    assert_int_equal(v.delay, -12);
    EXPECT_GOOD("-p-1");
    assert_int_equal(v.p, -1);
    EXPECT_GOOD("-p", "-3", "--temp", "-1.5");
    assert_int_equal(v.p, -3);
    assert_true(v.temp == -1.5);
    EXPECT_GOOD("--temp", "1_0.5");
    assert_true(v.temp == 10.5);
    EXPECT_GOOD("--temp", "inf");
    EXPECT_GOOD("--prompt-tokens=3", "-p4");
    assert_int_equal(v.p, 4);
    EXPECT_GOOD("--model=");
    assert_string_equal(v.model, "");
    EXPECT_GOOD("--model", "");
    EXPECT_GOOD("--model", "- x");
    EXPECT_GOOD("--model", "-");
    assert_string_equal(v.model, "-");
    EXPECT_GOOD("--model", "--hello there");
    EXPECT_GOOD("--model", "a=b");
    assert_string_equal(v.model, "a=b");
    EXPECT_GOOD("--model=a=b");
    assert_string_equal(v.model, "a=b");
}

static void test_prefixes(void **state) {
    (void)state;
    EXPECT_GOOD("--prompt", "7", "--pip", "--model=x");
    assert_int_equal(v.p, 7);
    assert_true(v.pipeline);
    EXPECT_GOOD("--prefill=4");
    assert_int_equal(v.num, 4);
    EXPECT_GOOD("-qa");
    assert_true(v.qa);
    EXPECT_GOOD("-q");
    assert_true(v.qa);
    EXPECT_ERROR("ambiguous option: --p could match --prompt-tokens, --pipeline, --prefill-step-size", "--p", "7");
    EXPECT_ERROR("ambiguous option: --mo=3 could match --model, --mode", "--mo=3");
    EXPECT_ERROR("unrecognized arguments: --promp-tokens 4", "--promp-tokens", "4");
    EXPECT_ERROR("unrecognized arguments: -qax", "-qax");
    /* unique in mlx-lm, so unique here: --device and --numerics are ours */
    EXPECT_GOOD("--de", "9", "--n", "3");
    assert_int_equal(v.delay, 9);
    assert_int_equal(v.num, 3);
    EXPECT_GOOD("--dev", "cpu", "--thr", "2", "--no-u", "--no-b", "--batch");
    assert_int_equal(v.engine.threads, 2);
    assert_false(v.engine.use_mmap);
    assert_true(v.engine.batch_invariant);
}

static void test_errors(void **state) {
    (void)state;
    EXPECT_ERROR("argument --prompt-tokens/-p: expected one argument", "-p");
    EXPECT_ERROR("argument --prompt-tokens/-p: expected one argument", "-p", "-3x");
    EXPECT_ERROR("argument --prompt-tokens/-p: expected one argument", "-p", "--", "3");
    EXPECT_ERROR("argument --prompt-tokens/-p: invalid int value: 'x'", "-p", "x");
    EXPECT_ERROR("argument --prompt-tokens/-p: invalid int value: 'x'", "-px");
    EXPECT_ERROR("argument --prompt-tokens/-p: invalid int value: 'x'", "--zz", "-p", "x");
    EXPECT_ERROR("argument --prompt-tokens/-p: invalid int value: '1.5'", "-p", "1.5");
    EXPECT_ERROR("argument --prompt-tokens/-p: invalid int value: '1__0'", "-p", "1__0");
    EXPECT_ERROR("argument --prompt-tokens/-p: invalid int value: '99999999999999999999'", "-p",
                 "99999999999999999999");
    EXPECT_ERROR("argument --delay: invalid int value: ''", "--delay=", "4");
    EXPECT_ERROR("argument --generation-tokens/-g: invalid int value: 'p'", "-gp");
    EXPECT_ERROR("argument --temp: invalid float value: '0x1'", "--temp", "0x1");
    EXPECT_ERROR("argument --temp: invalid float value: 'abc'", "--temp", "abc");
    EXPECT_ERROR("argument --model: expected one argument", "--model", "--x");
    EXPECT_ERROR("argument --quantize-activations/-qa: ignored explicit argument '1'", "-qa=1");
    EXPECT_ERROR("argument --pipeline: ignored explicit argument '1'", "--pipeline=1");
    EXPECT_ERROR("argument -h/--help: ignored explicit argument 'x'", "-hx");
    EXPECT_ERROR("argument --use-mmap/--no-use-mmap: ignored explicit argument 'x'", "--no-use-mmap=x");
    EXPECT_ERROR("argument --mode: invalid choice: 'x' (choose from 'affine', 'mxfp4')", "--mode", "x");
    EXPECT_ERROR("argument --mode: invalid choice: '' (choose from 'affine', 'mxfp4')", "--mode=");
    EXPECT_ERROR("unrecognized arguments: --nope a b", "--nope", "a", "b");
    EXPECT_ERROR("unrecognized arguments: a b", "a", "b", "-p", "3");
    EXPECT_ERROR("unrecognized arguments: -- a", "--", "a");
    EXPECT_ERROR("unrecognized arguments: -- a", "-p", "3", "--", "a");
    EXPECT_ERROR("unrecognized arguments: --x y", "--x y");
    EXPECT_ERROR("unrecognized arguments: -1", "-1");
    EXPECT_ERROR("unrecognized arguments: --version", "--version");
}

static void test_lists(void **state) {
    (void)state;
    EXPECT_GOOD("--extra-eos-token", "a", "b", "-p", "4");
    assert_int_equal(v.eos.count, 2);
    assert_string_equal(v.eos.items[1], "b");
    EXPECT_GOOD("--extra", "a", "--extra", "b", "c", "-1");
    assert_int_equal(v.eos.count, 3);
    assert_string_equal(v.eos.items[0], "b");
    EXPECT_ERROR("unrecognized arguments: b", "--extra=a", "b");
    EXPECT_ERROR("argument --extra-eos-token: expected at least one argument", "--extra", "-p", "x");
}

static void test_required_and_help(void **state) {
    (void)state;
    assert_int_equal(parse(COUNT("--zz"), WORDS("--zz"), true), 2);
    assert_non_null(
        strstr(captured, "P: error: the following arguments are required: --model, --generation-tokens/-g\n"));
    assert_int_equal(PARSE("-p", "3", "--help", "-p", "x"), 0);
    assert_memory_equal(captured, "usage: P [-h] [--model MODEL]", 29);
    assert_non_null(strstr(captured, "\nWhat it does.\n\noptions:\n  -h, --help            show this help"));
    assert_non_null(
        strstr(captured, "\n  --prompt-tokens PROMPT_TOKENS, -p PROMPT_TOKENS\n                        length of"));
    assert_non_null(strstr(captured, "[--extra-eos-token EXTRA_EOS_TOKEN [EXTRA_EOS_TOKEN ...]]"));
    assert_non_null(strstr(captured, "[--use-mmap | --no-use-mmap]"));
    assert_non_null(strstr(captured, "--mode {affine,mxfp4}"));
    assert_int_equal(PARSE("-p", "x", "-h"), 2);
}

static void test_unsupported(void **state) {
    (void)state;
    assert_int_equal(PARSE("--kv-bits", "4"), 1);
    assert_string_equal(captured, "P: error: --kv-bits: not built yet\n");
    assert_int_equal(PARSE("--draft", "x"), 1);
    assert_int_equal(PARSE("--ignored"), 1);
    EXPECT_GOOD("--kv-group-size", "64"); /* the default changes nothing */
    EXPECT_ERROR("unrecognized arguments: x", "--ignored", "x");
}

static void test_sizes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"0", 0},       {"12", 12},        {"8GB", 8000000000}, {"8g", 8000000000}, {"1.5G", 1500000000},
                {"2KiB", 2048}, {"1MiB", 1048576}, {"3m", 3000000},     {"4B", 4},          {"1GIB", 1073741824}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        EXPECT_GOOD("--max-memory", good[i].text);
        assert_int_equal(v.engine.max_memory, good[i].bytes);
    }
    EXPECT_ERROR("argument --max-memory: invalid size value: '8XB'", "--max-memory", "8XB");
    EXPECT_ERROR("argument --max-memory: invalid size value: '-8'", "--max-memory", "-8");
    EXPECT_ERROR("argument --max-memory: invalid size value: '1.2.3'", "--max-memory", "1.2.3");
    EXPECT_ERROR("argument --max-memory: invalid size value: '99999999999G'", "--max-memory", "99999999999G");
    EXPECT_ERROR("argument --max-memory: invalid size value: 'GB'", "--max-memory", "GB");
}

static void test_engine_options(void **state) {
    (void)state;
    EXPECT_GOOD("--numerics", "bf16", "--threads", "99999999999", "--no-use-mmap", "--batch-invariant", "--trust");
    lm_engine_options o = engine_args_options(&v.engine);
    assert_int_equal(o.numerics, LM_NUMERICS_BF16);
    assert_true(o.threads > 0 && !o.use_mmap && o.batch_invariant);
    EXPECT_GOOD("--threads", "-7");
    assert_true(engine_args_options(&v.engine).threads < 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),      cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_errors),      cmocka_unit_test(test_lists),
        cmocka_unit_test(test_sizes),       cmocka_unit_test(test_required_and_help),
        cmocka_unit_test(test_unsupported), cmocka_unit_test(test_engine_options),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    args_list_free(&v.eos);
    return failed;
}
