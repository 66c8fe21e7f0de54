/* SPDX-License-Identifier: MIT
 * fuzz_convert.c: planning a conversion. The input is config.json, a zero byte, model.safetensors.index.json (left out
 * when empty), a zero byte, the header of model.safetensors; its data is zeros. The first byte chooses the options.
 * Nothing is written. */
#include "convert/plan.h"
#include "fuzz_folder.h"

#define MAX_DATA ((size_t)1 << 16)

/* The file's size is what makes shapes true, so it may be cut short, but not be large. */
static void write_weights(const uint8_t *header, size_t size) {
    uint8_t *file = calloc(1, 8 + size + MAX_DATA);
    size_t data = 0;
    if (!file) exit(2);
    for (size_t i = 0; i + 1 < size; i++) /* the last "...,N]}" of a well-formed header is the data's size */
        if (header[i] == ',' && header[i + 1] >= '0' && header[i + 1] <= '9') {
            size_t n = strtoul((const char *)header + i + 1, NULL, 10);
            if (n > data && n <= MAX_DATA) data = n;
        }
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)size >> (8 * i));
    memcpy(file + 8, header, size);
    fuzz_write("model.safetensors", file, 8 + size + data);
    free(file);
}

static const uint8_t *part(const uint8_t **data, const uint8_t *end, size_t *size) {
    const uint8_t *start = *data, *zero = memchr(start, 0, (size_t)(end - start));
    *size = (size_t)((zero ? zero : end) - start);
    *data = zero ? zero + 1 : end;
    return start;
}

static void plan(const lm_convert_options *o) {
    cv_plan p;
    lm_error e = {LM_OK, ""};
    char *config;
    if (cv_plan_open(fuzz_folder(), o, &p, &e) != LM_OK) {
        if (!e.message[0] || strchr(e.message, '\n')) abort();
        return;
    }
    uint64_t bytes = 0;
    for (int i = 0; i < p.n_shards; i++) bytes += p.shards[i].bytes - p.shards[i].header_bytes;
    if (bytes != p.bytes) abort();
    if (cv_config_text(&p, &config, &e) != LM_OK) abort();
    free(config);
    float row[4096];
    for (size_t i = 0; i < p.n_items; i++)
        if (p.items[i].k <= 4096) cv_rows_read(&p, &p.items[i], p.items[i].rows - 1, 1, row);
    cv_plan_close(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 1 << 16) return 0;
    char *text = malloc(size); /* terminated, for strtoul */
    if (!text) exit(2);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    const uint8_t *at = (const uint8_t *)text, *end = at + size - 1;
    size_t n;
    const uint8_t *config = part(&at, end, &n);
    fuzz_write("config.json", config, n);
    const uint8_t *index = part(&at, end, &n);
    if (n)
        fuzz_write("model.safetensors.index.json", index, n);
    else {
        char path[512];
        snprintf(path, sizeof path, "%s/model.safetensors.index.json", fuzz_folder());
        (void)unlink(path);
    }
    write_weights(at, (size_t)(end - at));
    lm_convert_options o = lm_convert_options_default();
    o.quantize = data[0] & 1;
    o.dequantize = !o.quantize && (data[0] & 2);
    o.q_mode = o.quantize && (data[0] & 4) ? "nvfp4" : NULL;
    o.quant_predicate = o.quantize && !o.q_mode && (data[0] & 8) ? "mixed_3_6" : NULL;
    o.max_shard_bytes = data[0] & 16 ? 100 : 0;
    plan(&o);
    free(text);
    return 0;
}
