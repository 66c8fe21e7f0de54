/* SPDX-License-Identifier: MIT
 * test_quantize.c: every vector of golden/quantization, quantized here: words, scales and biases bit for bit, in each
 * element type, from outputs at odd addresses too. */
#include "golden.h"
/* after golden.h, which brings cmocka in the order it wants */
#include "kernels/quantize.h"

static const char *const type_names[] = {"f32", "f16", "bf16"};
static const lm_dtype types[] = {LM_DTYPE_F32, LM_DTYPE_F16, LM_DTYPE_BF16};

static const struct {
    const char *name;
    lm_quant_mode mode;
    int bits, groups[4];
} modes[] = {
    {"affine", LM_QUANT_AFFINE, 2, {32, 64, 128}},
    {"affine", LM_QUANT_AFFINE, 3, {32, 64, 128}},
    {"affine", LM_QUANT_AFFINE, 4, {32, 64, 128}},
    {"affine", LM_QUANT_AFFINE, 5, {32, 64, 128}},
    {"affine", LM_QUANT_AFFINE, 6, {32, 64, 128}},
    {"affine", LM_QUANT_AFFINE, 8, {32, 64, 128}},
    {"mxfp4", LM_QUANT_MXFP4, 4, {32}},
    {"nvfp4", LM_QUANT_NVFP4, 4, {16}},
    {"mxfp8", LM_QUANT_MXFP8, 8, {32}},
};

static float load(const uint8_t *b, lm_dtype type, int64_t i) {
    if (type == LM_DTYPE_F32) return lm_load_f32(b + 4 * i);
    return type == LM_DTYPE_F16 ? lm_f16_to_f32(lm_load_u16(b + 2 * i)) : lm_bf16_to_f32(lm_load_u16(b + 2 * i));
}

static void compare(const golden_file *f, const char *path, const char *prefix, const char *part, const uint8_t *got) {
    char name[80];
    snprintf(name, sizeof name, "%s%s", prefix, part);
    const lm_st_tensor *t = lm_st_find(&f->header, name);
    if (!t) fail_msg("%s: no tensor %s", path, name);
    const uint8_t *want = f->map.data + f->header.data_offset + t->begin;
    size_t bytes = (size_t)(t->end - t->begin), row = bytes / (size_t)t->shape[0], differ = 0, first = bytes;
    for (size_t i = 0; i < bytes; i++)
        if (got[i] != want[i]) {
            if (!differ++) first = i;
        }
    if (differ)
        fail_msg("%s: %s: %zu of %zu bytes differ, the first in row %zu at byte %zu: %02x, expected %02x", path, name,
                 differ, bytes, first / row, first % row, got[first], want[first]);
}

/* prefix: of the names of the parts in f */
static void check(const golden_file *input, const char *matrix, const char *prefix, const lm_quant_spec *spec,
                  size_t type, const golden_file *f, const char *path) {
    int64_t n, k;
    uint8_t *raw = golden_copy(input, matrix, &n, &k);
    float *w = malloc((size_t)(n * k) * sizeof *w);
    size_t bytes = (size_t)(n * k) * 4 + 8;
    uint8_t *packed = malloc(bytes), *scales = malloc(bytes), *biases = malloc(bytes);
    assert_true(w && packed && scales && biases);
    for (int64_t i = 0; i < n * k; i++) w[i] = load(raw, types[type], i);
    lm_quantize_rows(spec, w, types[type], n, k, packed + 1, scales + 3, biases + 5);
    compare(f, path, prefix, "packed", packed + 1);
    compare(f, path, prefix, "scales", scales + 3);
    if (spec->mode == LM_QUANT_AFFINE) compare(f, path, prefix, "biases", biases + 5);
    free(raw), free(w), free(packed), free(scales), free(biases);
}

static void vectors(void **state) {
    (void)state;
    int files = 0;
    for (size_t t = 0; t < 3; t++) {
        golden_file input, f;
        golden_open(golden_path("golden/quantization/input_%s.safetensors%s", type_names[t], ""), &input);
        for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++)
            for (const int *g = modes[m].groups; *g; g++, files++) {
                lm_quant_spec spec = {modes[m].mode, modes[m].bits, *g, LM_QUANT_RULE_CPU};
                char name[64];
                snprintf(name, sizeof name, "%s_b%d_g%d_%s", modes[m].name, spec.bits, *g, type_names[t]);
                golden_open(golden_path("golden/quantization/%s.safetensors%s", name, ""), &f);
                check(&input, "w", "", &spec, t, &f, name);
                check(&input, "mm_w", "mm_", &spec, t, &f, name);
                golden_close(&f);
            }
        golden_close(&input);
    }
    printf("%d files\n", files);
}

/* What mlx-cuda made of the same inputs on an H100 (tools/make_gpu_quantization.py). */
static void gpu_vectors(void **state) {
    (void)state;
    golden_file f;
    golden_open(golden_path("golden/quantization_gpu/gpu.safetensors%s%s", "", ""), &f);
    for (size_t t = 0; t < 3; t++) {
        golden_file input;
        golden_open(golden_path("golden/quantization/input_%s.safetensors%s", type_names[t], ""), &input);
        for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++)
            for (const int *g = modes[m].groups; *g; g++) {
                lm_quant_spec spec = {modes[m].mode, modes[m].bits, *g, LM_QUANT_RULE_GPU};
                char name[48], prefix[56];
                snprintf(name, sizeof name, "%s_b%d_g%d_%s", modes[m].name, spec.bits, *g, type_names[t]);
                snprintf(prefix, sizeof prefix, "%s.", name);
                check(&input, "w", prefix, &spec, t, &f, name);
                snprintf(prefix, sizeof prefix, "%s.mm_", name);
                check(&input, "mm_w", prefix, &spec, t, &f, name);
            }
        golden_close(&input);
    }
    golden_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(vectors), cmocka_unit_test(gpu_vectors)};
    return cmocka_run_group_tests_name("quantize", tests, NULL, NULL);
}
