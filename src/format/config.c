/* SPDX-License-Identifier: MIT
 * config.c: loads config.json and generation_config.json, and answers typed look-ups. A config is outside bytes: every
 * number passes a range before it reaches an allocation. */
#include "format/config.h"
#include "base/fs.h"
#include "format/qformat.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CONFIG ((size_t)64 << 20)
#define MAX_EOS 4096

/* A value as messages show it: short, and never the whole of a large object. */
static void describe(const json_t *value, char *text, size_t size) {
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_OBJECT: snprintf(text, size, "an object"); break;
    case JSON_ARRAY: snprintf(text, size, "an array"); break;
    case JSON_STRING: snprintf(text, size, "'%.60s'", json_string_value(value)); break;
    case JSON_INTEGER: snprintf(text, size, "%lld", (long long)json_integer_value(value)); break;
    case JSON_REAL: snprintf(text, size, "%g", json_real_value(value)); break;
    case JSON_TRUE: snprintf(text, size, "true"); break;
    case JSON_FALSE: snprintf(text, size, "false"); break;
    case JSON_NULL: snprintf(text, size, "nothing"); break;
    }
}

/* ---------------------------------------------------------------- typed look-ups */

/* The value of a key; NULL if it is absent or null, which is an error where it is required. */
static lm_status look_up(const lm_config *c, const json_t *object, const char *key, bool required, json_t **out,
                         lm_error *err) {
    *out = json_object_get(object, key);
    if (json_is_null(*out)) *out = NULL;
    if (!*out && required) return lm_fail(err, LM_FORMAT, "%s: %s is missing", c->path, key);
    return LM_OK;
}

static lm_status wrong(const lm_config *c, const char *key, const char *expected, const json_t *found, lm_error *err) {
    char text[96];
    describe(found, text, sizeof text);
    return lm_fail(err, LM_FORMAT, "%s: %s: expected %s, found %s", c->path, key, expected, text);
}

lm_status lm_config_int(const lm_config *c, const json_t *object, const char *key, bool required, int64_t fallback,
                        int64_t min, int64_t max, int64_t *out, lm_error *err) {
    json_t *v;
    LM_TRY(look_up(c, object, key, required, &v, err));
    *out = fallback;
    if (!v) return LM_OK;
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max) {
        char expected[80];
        snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)min, (long long)max);
        return wrong(c, key, expected, v, err);
    }
    *out = json_integer_value(v);
    return LM_OK;
}

/* A JSON number, or mlx-lm's {"__float__": "Infinity"} (also -Infinity, NaN). */
static bool number(const json_t *v, double *out) {
    if (json_is_number(v)) {
        *out = json_number_value(v);
        return true;
    }
    const char *text =
        json_is_object(v) && json_object_size(v) == 1 ? json_string_value(json_object_get(v, "__float__")) : NULL;
    if (!text) return false;
    if (!strcmp(text, "Infinity"))
        *out = (double)INFINITY;
    else if (!strcmp(text, "-Infinity"))
        *out = -(double)INFINITY;
    else if (!strcmp(text, "NaN"))
        *out = (double)NAN;
    else
        return false;
    return true;
}

lm_status lm_config_float(const lm_config *c, const json_t *object, const char *key, bool required, double fallback,
                          double min, double max, double *out, lm_error *err) {
    json_t *v;
    double x;
    LM_TRY(look_up(c, object, key, required, &v, err));
    *out = fallback;
    if (!v) return LM_OK;
    if (!number(v, &x) || !(x >= min && x <= max)) { /* NaN is in no range */
        char expected[80];
        snprintf(expected, sizeof expected, "a number from %g to %g", min, max);
        return wrong(c, key, expected, v, err);
    }
    *out = x;
    return LM_OK;
}

lm_status lm_config_bool(const lm_config *c, const json_t *object, const char *key, bool required, bool fallback,
                         bool *out, lm_error *err) {
    json_t *v;
    LM_TRY(look_up(c, object, key, required, &v, err));
    *out = fallback;
    if (!v) return LM_OK;
    if (!json_is_boolean(v)) return wrong(c, key, "true or false", v, err);
    *out = json_is_true(v);
    return LM_OK;
}

lm_status lm_config_string(const lm_config *c, const json_t *object, const char *key, bool required, const char **out,
                           lm_error *err) {
    json_t *v;
    LM_TRY(look_up(c, object, key, required, &v, err));
    *out = NULL;
    if (!v) return LM_OK;
    if (!json_is_string(v)) return wrong(c, key, "a string", v, err);
    if (strlen(json_string_value(v)) != json_string_length(v))
        return lm_fail(err, LM_FORMAT, "%s: %s: expected a string without NUL", c->path, key);
    *out = json_string_value(v);
    return LM_OK;
}

/* ---------------------------------------------------------------- quantization */

static bool is_parameter_key(const char *key) {
    return !strcmp(key, "group_size") || !strcmp(key, "bits") || !strcmp(key, "mode");
}

/* group_size, bits and mode of one entry. `where` names it in messages. Absent or null parameters are the mode's. */
static lm_status read_entry(const lm_config *c, const json_t *entry, const char *where, lm_quant *out, lm_error *err) {
    lm_error inner;
    const char *mode_name = NULL;
    int64_t group = 0, bits = 0;
    lm_status s = lm_config_string(c, entry, "mode", false, &mode_name, &inner);
    const lm_qmode *mode = lm_qmode_find(mode_name ? mode_name : "affine");
    if (s == LM_OK && !mode)
        return lm_fail(err, LM_UNSUPPORTED, "%s: %.160s: mode: '%.40s' is not a known quantization mode", c->path,
                       where, mode_name);
    if (s == LM_OK) s = lm_config_int(c, entry, "group_size", false, mode->group_size, 1, 1 << 20, &group, &inner);
    if (s == LM_OK) s = lm_config_int(c, entry, "bits", false, mode->bits, 1, 64, &bits, &inner);
    if (s != LM_OK) { /* the inner line begins with the path: put the entry's name behind it */
        size_t n = strlen(c->path) + 2, length = strlen(inner.message);
        return lm_fail(err, s, "%s: %.160s: %s", c->path, where, inner.message + (n < length ? n : length));
    }
    if (!lm_qmode_allows_group(mode, group))
        return lm_fail(err, LM_FORMAT, "%s: %.160s: group_size: mode %s has no groups of %lld", c->path, where,
                       mode->name, (long long)group);
    if (!lm_qmode_allows_bits(mode, bits))
        return lm_fail(err, LM_FORMAT, "%s: %.160s: bits: mode %s has no %lld bits", c->path, where, mode->name,
                       (long long)bits);
    *out = (lm_quant){.quantized = true, .group_size = (int32_t)group, .bits = (int32_t)bits};
    snprintf(out->mode, sizeof out->mode, "%s", mode->name);
    return LM_OK;
}

/* The object that describes quantization the mlx way; NULL if there is none. */
static lm_status find_table(const lm_config *c, const json_t **out, const char **key, lm_error *err) {
    const json_t *own = json_object_get(c->root, "quantization");
    const json_t *hf = json_object_get(c->root, "quantization_config");
    *out = NULL;
    *key = own && !json_is_null(own) ? "quantization" : "quantization_config";
    const json_t *table = own && !json_is_null(own) ? own : hf;
    if (!table || json_is_null(table)) return LM_OK;
    if (!json_is_object(table)) return wrong(c, *key, "an object", table, err);
    if (table == hf) {
        if (!json_object_size(hf)) return LM_OK;
        const char *method = json_string_value(json_object_get(hf, "quant_method"));
        if (method && c->keeps_hf_method) return LM_OK;
        if (method)
            return lm_fail(
                err, LM_UNSUPPORTED,
                "%s: quantization_config: quant_method '%.60s' is not supported; convert the model with mlx-lm",
                c->path, method);
        if (!json_object_get(hf, "group_size") || !json_object_get(hf, "bits"))
            return lm_fail(err, LM_UNSUPPORTED,
                           "%s: quantization_config: unknown kind (no quant_method, group_size, bits)", c->path);
    }
    for (int i = 0; i < 2; i++) {
        const char *need = i ? "bits" : "group_size"; /* null is allowed, absence is not */
        if (!json_object_get(table, need)) return lm_fail(err, LM_FORMAT, "%s: %s: %s is missing", c->path, *key, need);
    }
    *out = table;
    return LM_OK;
}

/* Checks the whole table now, so that lm_config_quant cannot meet a surprise half way through a load. */
static lm_status load_quantization(lm_config *c, lm_error *err) {
    const json_t *table;
    const char *section, *key;
    json_t *value;
    lm_quant ignored;
    LM_TRY(find_table(c, &table, &section, err));
    if (!table) return LM_OK;
    c->has_quantization = true;
    LM_TRY(read_entry(c, table, section, &c->quant_default, err));
    json_object_foreach((json_t *)(uintptr_t)table, key, value) {
        if (!is_parameter_key(key) && json_is_object(value)) LM_TRY(read_entry(c, value, key, &ignored, err));
    }
    return LM_OK;
}

lm_status lm_config_quant(const lm_config *config, const char *module, lm_quant *out, lm_error *err) {
    const json_t *table;
    const char *section;
    *out = config->quant_default;
    out->listed = false;
    if (!config->has_quantization) return LM_OK;
    LM_TRY(find_table(config, &table, &section, err));
    const json_t *entry = is_parameter_key(module) ? NULL : json_object_get(table, module);
    if (json_is_object(entry)) LM_TRY(read_entry(config, entry, module, out, err));
    if (json_is_false(entry)) out->quantized = false;
    out->listed = json_is_object(entry) || json_is_boolean(entry);
    return LM_OK;
}

/* ---------------------------------------------------------------- model type, stop ids */

static const char *const remaps[][2] = {
    {"mistral", "llama"},
    {"iquestcoder", "llama"},
    {"xverse", "llama"},
    {"llava", "mistral3"},
    {"phi-msft", "phixtral"},
    {"falcon_mamba", "mamba"},
    {"joyai_llm_flash", "deepseek_v3"},
    {"kimi_k2", "deepseek_v3"},
    {"qwen2_5_vl", "qwen2_vl"},
    {"minimax_m2", "minimax"},
    {"gemma4_unified", "gemma4"},
    {"deepseek_v41_text", "deepseek_v41"},
};

static lm_status load_model_type(lm_config *c, lm_error *err) {
    const char *type;
    LM_TRY(lm_config_string(c, c->root, "model_type", true, &type, err));
    const char *first = json_string_value(json_array_get(json_object_get(c->root, "architectures"), 0));
    if (!strcmp(type, "bailing_hybrid") && first && !strcmp(first, "BailingMoeV3ForCausalLM")) type = "bailing_moe_v3";
    for (size_t i = 0; i < sizeof remaps / sizeof *remaps; i++)
        if (!strcmp(type, remaps[i][0])) {
            type = remaps[i][1];
            break;
        }
    c->model_type = strdup(type);
    return c->model_type ? LM_OK : lm_fail_nomem(err, strlen(type), c->path);
}

/* An int or a list of ints. */
static lm_status set_eos(lm_config *c, const char *path, const json_t *value, lm_error *err) {
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (n > MAX_EOS) return lm_fail(err, LM_FORMAT, "%s: eos_token_id: more than %d ids", path, MAX_EOS);
    int32_t *ids = calloc(n + 1, sizeof *ids);
    if (!ids) return lm_fail_nomem(err, n * sizeof *ids, path);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX) {
            char text[96];
            describe(id, text, sizeof text);
            free(ids);
            return lm_fail(err, LM_FORMAT, "%s: eos_token_id: expected a token id or a list of them, found %s", path,
                           text);
        }
        ids[i] = (int32_t)json_integer_value(id);
    }
    free(c->eos_ids);
    c->eos_ids = ids;
    c->n_eos_ids = n;
    return LM_OK;
}

static bool truthy(const json_t *v) {
    if (json_is_integer(v)) return json_integer_value(v) != 0;
    if (json_is_array(v)) return json_array_size(v) > 0;
    return v && !json_is_null(v) && !json_is_false(v);
}

static lm_status load_eos(lm_config *c, const char *folder, lm_error *err) {
    json_t *eos = json_object_get(c->root, "eos_token_id"), *generation = NULL;
    if (eos && !json_is_null(eos)) LM_TRY(set_eos(c, c->path, eos, err));
    char *path = lm_fs_join(folder, "generation_config.json");
    if (!path) return lm_fail_nomem(err, strlen(folder), folder);
    lm_status s = LM_OK;
    /* as upstream: a generation config that cannot be read as JSON counts as absent */
    if (lm_fs_exists(path) && lm_json_load(path, MAX_CONFIG, &generation, NULL) == LM_OK) {
        eos = json_object_get(generation, "eos_token_id");
        if (truthy(eos)) s = set_eos(c, path, eos, err);
    }
    json_decref(generation);
    free(path);
    return s;
}

/* ---------------------------------------------------------------- load */

/* True if the text has a bare NaN or Infinity outside strings: Python writes them, JSON has none. */
static bool has_bare_float(const char *text, size_t length) {
    bool in_string = false;
    for (size_t i = 0; i < length; i++) {
        if (in_string && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            in_string = !in_string;
        else if (!in_string && (text[i] == 'N' || text[i] == 'I') &&
                 ((length - i >= 3 && !memcmp(text + i, "NaN", 3)) ||
                  (length - i >= 8 && !memcmp(text + i, "Infinity", 8))))
            return true;
    }
    return false;
}

static lm_status load_root(lm_config *c, lm_error *err) {
    char *text;
    size_t length;
    LM_TRY(lm_fs_read(c->path, MAX_CONFIG, &text, &length, err));
    lm_status s = lm_json_parse(text, length, c->path, &c->root, err);
    if (s != LM_OK && has_bare_float(text, length))
        s = lm_fail(err, LM_FORMAT, "%s: NaN and Infinity are not JSON; expected {\"__float__\": \"Infinity\"}",
                    c->path);
    free(text);
    LM_TRY(s);
    if (!json_is_object(c->root)) return lm_fail(err, LM_FORMAT, "%s: expected a JSON object", c->path);
    return LM_OK;
}

static lm_status load(const char *folder, bool keeps_hf_method, lm_config *out, lm_error *err) {
    memset(out, 0, sizeof *out);
    out->keeps_hf_method = keeps_hf_method;
    out->path = lm_fs_join(folder, "config.json");
    lm_status s = out->path ? LM_OK : lm_fail_nomem(err, strlen(folder), folder);
    if (s == LM_OK) s = load_root(out, err);
    if (s == LM_OK) s = load_model_type(out, err);
    if (s == LM_OK) s = load_quantization(out, err);
    if (s == LM_OK) s = load_eos(out, folder, err);
    if (s != LM_OK) lm_config_free(out);
    return s;
}

lm_status lm_config_load(const char *folder, lm_config *out, lm_error *err) {
    return load(folder, false, out, err);
}

lm_status lm_config_load_source(const char *folder, lm_config *out, lm_error *err) {
    return load(folder, true, out, err);
}

void lm_config_free(lm_config *config) {
    if (!config) return;
    json_decref(config->root);
    free(config->path);
    free(config->model_type);
    free(config->eos_ids);
    memset(config, 0, sizeof *config);
}
