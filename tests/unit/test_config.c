/* SPDX-License-Identifier: MIT
 * test_config.c: typed look-ups with ranges, the quantization table, stop ids, and configs that must be refused. */
#include "format/config.h"
#include "format_util.h"
#include <math.h>

static lm_status load(const char *config, const char *generation, lm_config *out, lm_error *err) {
    folder f = folder_make();
    folder_text(&f, "config.json", config);
    if (generation) folder_text(&f, "generation_config.json", generation);
    lm_status s = lm_config_load(f.path, out, err);
    /* messages name the file: put a fixed name there */
    char *at = s == LM_OK ? NULL : strstr(err->message, f.path);
    if (at) {
        size_t n = strlen(f.path);
        at[0] = 'D';
        memmove(at + 1, at + n, strlen(at + n) + 1);
    }
    remove_tree(f.path);
    return s;
}

static void looks_up(void **state) {
    (void)state;
    lm_config c;
    lm_error e;
    int64_t i;
    double d;
    bool b;
    const char *s;
    assert_int_equal(
        load("{\"model_type\":\"qwen3\",\"i\":7,\"neg\":-1,\"big\":1e30,\"huge\":9223372036854775807,\"b\":true,"
             "\"s\":\"x\",\"n\":null,\"f\":0.5,\"inf\":{\"__float__\":\"Infinity\"},"
             "\"nan\":{\"__float__\":\"NaN\"},\"minus\":{\"__float__\":\"-Infinity\"},"
             "\"odd\":{\"__float__\":\"1\"},\"nul\":\"a\\u0000b\",\"o\":{}}",
             NULL, &c, &e),
        LM_OK);
    const json_t *r = c.root;
    assert_int_equal(lm_config_int(&c, r, "i", true, 0, 1, 10, &i, &e), LM_OK);
    assert_int_equal(i, 7);
    assert_int_equal(lm_config_int(&c, r, "absent", false, 5, 6, 10, &i, &e), LM_OK);
    assert_int_equal(i, 5);
    assert_int_equal(lm_config_int(&c, r, "n", false, 5, 6, 10, &i, &e), LM_OK);
    assert_int_equal(i, 5);
    static const struct {
        const char *key, *found;
    } bad[] = {{"neg", "-1"},        {"big", "1e+30"},  {"huge", "9223372036854775807"},
               {"b", "true"},        {"s", "'x'"},      {"f", "0.5"},
               {"inf", "an object"}, {"o", "an object"}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        char message[256];
        snprintf(message, sizeof message, "*/config.json: %s: expected an integer from 0 to 100, found %s", bad[k].key,
                 bad[k].found);
        assert_int_equal(lm_config_int(&c, r, bad[k].key, false, 0, 0, 100, &i, &e), LM_FORMAT);
        assert_line(&e, LM_FORMAT, message);
    }
    assert_int_equal(lm_config_int(&c, r, "absent", true, 0, 0, 1, &i, &e), LM_FORMAT);
    assert_line(&e, LM_FORMAT, "*/config.json: absent is missing");
    assert_int_equal(lm_config_int(&c, r, "n", true, 0, 0, 1, &i, &e), LM_FORMAT);
    assert_int_equal(lm_config_float(&c, r, "i", true, 0, 0, 10, &d, &e), LM_OK);
    assert_true(d == 7);
    assert_int_equal(lm_config_float(&c, r, "inf", true, 0, 0, (double)INFINITY, &d, &e), LM_OK);
    assert_true(isinf(d) && d > 0);
    assert_int_equal(lm_config_float(&c, r, "inf", true, 0, 0, 1e9, &d, &e), LM_FORMAT);
    assert_int_equal(lm_config_float(&c, r, "minus", true, 0, -(double)INFINITY, 0, &d, &e), LM_OK);
    assert_int_equal(lm_config_float(&c, r, "nan", true, 0, -(double)INFINITY, (double)INFINITY, &d, &e), LM_FORMAT);
    assert_int_equal(lm_config_float(&c, r, "odd", true, 0, 0, 10, &d, &e), LM_FORMAT);
    assert_int_equal(lm_config_float(&c, r, "big", true, 0, 0, 10, &d, &e), LM_FORMAT);
    assert_line(&e, LM_FORMAT, "*/config.json: big: expected a number from 0 to 10, found 1e+30");
    assert_int_equal(lm_config_bool(&c, r, "b", true, false, &b, &e), LM_OK);
    assert_true(b);
    assert_int_equal(lm_config_bool(&c, r, "i", true, false, &b, &e), LM_FORMAT);
    assert_line(&e, LM_FORMAT, "*/config.json: i: expected true or false, found 7");
    assert_int_equal(lm_config_string(&c, r, "s", true, &s, &e), LM_OK);
    assert_string_equal(s, "x");
    assert_int_equal(lm_config_string(&c, r, "absent", false, &s, &e), LM_OK);
    assert_null(s);
    assert_int_equal(lm_config_string(&c, r, "i", false, &s, &e), LM_FORMAT);
    assert_int_equal(lm_config_string(&c, r, "nul", false, &s, &e), LM_FORMAT);
    assert_line(&e, LM_FORMAT, "*/config.json: nul: expected a string without NUL");
    lm_config_free(&c);
}

static void remaps_types(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"{\"model_type\":\"mistral\"}", "llama"},
        {"{\"model_type\":\"kimi_k2\"}", "deepseek_v3"},
        {"{\"model_type\":\"qwen3_moe\"}", "qwen3_moe"},
        {"{\"model_type\":\"bailing_hybrid\"}", "bailing_hybrid"},
        {"{\"model_type\":\"bailing_hybrid\",\"architectures\":[\"BailingMoeV3ForCausalLM\"]}", "bailing_moe_v3"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        lm_config c;
        lm_error e;
        assert_int_equal(load(pairs[i][0], NULL, &c, &e), LM_OK);
        assert_string_equal(c.model_type, pairs[i][1]);
        assert_false(c.has_quantization);
        lm_config_free(&c);
    }
}

static void assert_quant(const lm_config *c, const char *module, bool quantized, bool listed, int group, int bits,
                         const char *mode) {
    lm_quant q;
    lm_error e;
    assert_int_equal(lm_config_quant(c, module, &q, &e), LM_OK);
    assert_int_equal(q.quantized, quantized);
    assert_int_equal(q.listed, listed);
    assert_int_equal(q.group_size, group);
    assert_int_equal(q.bits, bits);
    assert_string_equal(q.mode, mode);
}

static void reads_quantization(void **state) {
    (void)state;
    lm_config c;
    lm_error e;
    assert_int_equal(load("{\"model_type\":\"x\",\"quantization\":{\"group_size\":32,\"bits\":4,\"mode\":\"mxfp4\","
                          "\"m.gate\":{\"group_size\":64,\"bits\":8},\"off\":false,\"on\":true,"
                          "\"null\":{\"group_size\":null,\"bits\":3},\"quant_method\":\"ignored\"}}",
                          NULL, &c, &e),
                     LM_OK);
    assert_true(c.has_quantization);
    assert_quant(&c, "other", true, false, 32, 4, "mxfp4");
    assert_quant(&c, "m.gate", true, true, 64, 8, "affine"); /* a missing mode is affine, not the global one */
    assert_quant(&c, "off", false, true, 32, 4, "mxfp4");
    assert_quant(&c, "on", true, true, 32, 4, "mxfp4");
    assert_quant(&c, "null", true, true, 64, 3, "affine");
    assert_quant(&c, "group_size", true, false, 32, 4, "mxfp4");
    lm_config_free(&c);
    assert_int_equal(
        load("{\"model_type\":\"x\",\"quantization_config\":{\"group_size\":64,\"bits\":6}}", NULL, &c, &e), LM_OK);
    assert_quant(&c, "a", true, false, 64, 6, "affine");
    lm_config_free(&c);
    assert_int_equal(load("{\"model_type\":\"x\",\"quantization\":{\"group_size\":null,\"bits\":4}}", NULL, &c, &e),
                     LM_OK);
    assert_quant(&c, "a", true, false, 64, 4, "affine");
    lm_config_free(&c);
    assert_int_equal(load("{\"model_type\":\"x\",\"quantization_config\":null}", NULL, &c, &e), LM_OK);
    assert_false(c.has_quantization);
    assert_quant(&c, "a", false, false, 0, 0, "");
    lm_config_free(&c);
}

static void assert_eos(const char *config, const char *generation, size_t n, int first) {
    lm_config c;
    lm_error e;
    if (load(config, generation, &c, &e) != LM_OK) fail_msg("%s", e.message);
    assert_int_equal(c.n_eos_ids, n);
    if (n) assert_int_equal(c.eos_ids[0], first);
    lm_config_free(&c);
}

static void reads_stop_ids(void **state) {
    (void)state;
    const char *one = "{\"model_type\":\"x\",\"eos_token_id\":5}";
    assert_eos("{\"model_type\":\"x\"}", NULL, 0, 0);
    assert_eos("{\"model_type\":\"x\",\"eos_token_id\":null}", NULL, 0, 0);
    assert_eos("{\"model_type\":\"x\",\"eos_token_id\":[7,8]}", NULL, 2, 7);
    assert_eos(one, NULL, 1, 5);
    assert_eos(one, "{\"eos_token_id\":[9,10]}", 2, 9);
    assert_eos(one, "{\"eos_token_id\":0}", 1, 5);
    assert_eos(one, "{\"eos_token_id\":[]}", 1, 5);
    assert_eos(one, "{\"eos_token_id\":null}", 1, 5);
    assert_eos(one, "{}", 1, 5);
    assert_eos(one, "{\"eos_token_id\":9,", 1, 5); /* not JSON: ignored */
    assert_eos(one, "[]", 1, 5);
}

static void refuses_bad_configs(void **state) {
    (void)state;
#define Q(table) "{\"model_type\":\"x\",\"quantization\":" table "}"
    static const struct {
        const char *config, *generation;
        lm_status status;
        const char *message;
    } cases[] = {
        {"", NULL, LM_FORMAT, "D/config.json: invalid JSON at line *"},
        {"[]", NULL, LM_FORMAT, "D/config.json: expected a JSON object"},
        {"{}", NULL, LM_FORMAT, "D/config.json: model_type is missing"},
        {"{\"model_type\":7}", NULL, LM_FORMAT, "D/config.json: model_type: expected a string, found 7"},
        {"{\"model_type\":\"a\",\"model_type\":\"b\"}", NULL, LM_FORMAT,
         "D/config.json: invalid JSON at *'\"model_type\"'"},
        {"{\"model_type\":\"x\",\"a\":NaN}", NULL, LM_FORMAT,
         "D/config.json: NaN and Infinity are not JSON; expected {\"__float__\": \"Infinity\"}"},
        {"{\"model_type\":\"x\",\"a\":[1,-Infinity]}", NULL, LM_FORMAT,
         "D/config.json: NaN and Infinity are not JSON; expected {\"__float__\": \"Infinity\"}"},
        {"{\"model_type\":\"NaN\",}", NULL, LM_FORMAT, "D/config.json: invalid JSON at *"},
        {"{\"model_type\":\"x\",\"a\":1e999}", NULL, LM_FORMAT,
         "D/config.json: invalid JSON at *: real number overflow near '1e999'"},
        {"{\"model_type\":\"x\",\"eos_token_id\":\"</s>\"}", NULL, LM_FORMAT,
         "D/config.json: eos_token_id: expected a token id or a list of them, found '</s>'"},
        {"{\"model_type\":\"x\",\"eos_token_id\":[1,4294967296]}", NULL, LM_FORMAT,
         "D/config.json: eos_token_id: expected a token id or a list of them, found 4294967296"},
        {"{\"model_type\":\"x\"}", "{\"eos_token_id\":1.5}", LM_FORMAT,
         "D/generation_config.json: eos_token_id: expected a token id or a list of them, found 1.5"},
        {Q("7"), NULL, LM_FORMAT, "D/config.json: quantization: expected an object, found 7"},
        {Q("{\"bits\":4}"), NULL, LM_FORMAT, "D/config.json: quantization: group_size is missing"},
        {Q("{\"group_size\":64}"), NULL, LM_FORMAT, "D/config.json: quantization: bits is missing"},
        {Q("{\"group_size\":64,\"bits\":7}"), NULL, LM_FORMAT,
         "D/config.json: quantization: bits: mode affine has no 7 bits"},
        {Q("{\"group_size\":48,\"bits\":4}"), NULL, LM_FORMAT,
         "D/config.json: quantization: group_size: mode affine has no groups of 48"},
        {Q("{\"group_size\":-64,\"bits\":4}"), NULL, LM_FORMAT,
         "D/config.json: quantization: group_size: expected an integer from 1 to 1048576, found -64"},
        {Q("{\"group_size\":64,\"bits\":4,\"mode\":\"int8\"}"), NULL, LM_UNSUPPORTED,
         "D/config.json: quantization: mode: 'int8' is not a known quantization mode"},
        {Q("{\"group_size\":64,\"bits\":4,\"m\":{\"bits\":\"8\"}}"), NULL, LM_FORMAT,
         "D/config.json: m: bits: expected an integer from 1 to 64, found '8'"},
        {"{\"model_type\":\"x\",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":128}}",
         NULL, LM_UNSUPPORTED,
         "D/config.json: quantization_config: quant_method 'gptq' is not supported; convert the model with mlx-lm"},
        {"{\"model_type\":\"x\",\"quantization_config\":{\"load_in_4bit\":true}}", NULL, LM_UNSUPPORTED,
         "D/config.json: quantization_config: unknown kind (no quant_method, group_size, bits)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lm_config c;
        lm_error e = {0};
        if (load(cases[i].config, cases[i].generation, &c, &e) == LM_OK) fail_msg("accepted: %s", cases[i].config);
        assert_line(&e, cases[i].status, cases[i].message);
        assert_null(c.root);
    }
}

static void reads_both_generations(void **state) {
    (void)state;
    static const char *const names[] = {"qwen3/4bit-g64", "qwen3_hf5config/hf", "qwen3/mixed_3_6-default",
                                        "qwen3_moe/mxfp4", "qwen3/override-4bit-g64"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        lm_config c;
        lm_error e = {0};
        snprintf(path, sizeof path, "%s/golden/checkpoints/%s", test_data(), names[i]);
        if (access(path, R_OK)) {
            printf("skipped: %s is not here\n", path);
            continue;
        }
        if (lm_config_load(path, &c, &e) != LM_OK) fail_msg("%s", e.message);
        if (i == 1) assert_true(json_is_object(json_object_get(c.root, "rope_parameters")));
        if (i == 2) assert_quant(&c, "model.embed_tokens", true, true, 64, 3, "affine"); /* "group_size": null */
        if (i == 3) assert_quant(&c, "model.layers.0.mlp.gate", true, true, 64, 8, "affine");
        if (i == 4) assert_quant(&c, "model.embed_tokens", true, true, 32, 8, "affine");
        lm_config_free(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(looks_up),
        cmocka_unit_test(remaps_types),
        cmocka_unit_test(reads_quantization),
        cmocka_unit_test(reads_stop_ids),
        cmocka_unit_test(refuses_bad_configs),
        cmocka_unit_test(reads_both_generations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
