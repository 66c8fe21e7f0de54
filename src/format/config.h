/* SPDX-License-Identifier: MIT
 * config.h: config.json and generation_config.json of a folder: typed look-ups with ranges, and the quantization table.
 * What a family's keys mean is model/'s business. */
#ifndef LM_FORMAT_CONFIG_H
#define LM_FORMAT_CONFIG_H
#include "base/json.h"
#include "base/status.h"

/** Quantization of one module path. */
typedef struct lm_quant {
    bool quantized; /* false: an explicit `false` */
    bool listed;    /* the path has its own entry */
    int32_t group_size, bits;
    char mode[16]; /* "affine", "mxfp4", ... */
} lm_quant;

typedef struct lm_config {
    char *path;            /* of config.json, for messages */
    json_t *root;          /* whole config, {"__float__": ...} objects resolved */
    char *model_type;      /* after mlx-lm's remaps (mistral -> llama, ...) */
    bool has_quantization; /* `quantization`, or an HF `quantization_config` of a kind that is supported */
    bool keeps_hf_method;  /* a Hugging Face quant_method counts as no quantization, not as an error */
    lm_quant quant_default;
    int32_t *eos_ids; /* config's, replaced by generation_config's when that is truthy */
    size_t n_eos_ids;
} lm_config;

/** Loads config.json (+ generation_config.json, whose invalid JSON is ignored). Unsupported quant_method: a clear
 * error. */
lm_status lm_config_load(const char *folder, lm_config *out, lm_error *err);
/** The same for a source of conversion: a `quantization_config` with a quant_method is left to the caller. */
lm_status lm_config_load_source(const char *folder, lm_config *out, lm_error *err);
void lm_config_free(lm_config *config);

/** Quantization entry of a module path ("model.layers.0.mlp.gate"): its override, else the default with listed=false.
 */
lm_status lm_config_quant(const lm_config *config, const char *module, lm_quant *out, lm_error *err);

/** Typed look-ups in `object` (a json object, usually config->root). A key of another type or out of [min,max] is an
 * error that names file and key. `fallback` is used when the key is absent or null; pass required=true to make absence
 * an error. */
lm_status lm_config_int(const lm_config *c, const json_t *object, const char *key, bool required, int64_t fallback,
                        int64_t min, int64_t max, int64_t *out, lm_error *err);
lm_status lm_config_float(const lm_config *c, const json_t *object, const char *key, bool required, double fallback,
                          double min, double max, double *out, lm_error *err);
lm_status lm_config_bool(const lm_config *c, const json_t *object, const char *key, bool required, bool fallback,
                         bool *out, lm_error *err);
/** *out NULL when absent; borrowed. */
lm_status lm_config_string(const lm_config *c, const json_t *object, const char *key, bool required, const char **out,
                           lm_error *err);
#endif
