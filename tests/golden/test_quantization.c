/* SPDX-License-Identifier: MIT
 * test_quantization.c: the vectors of golden/quantization. Dequantized values bit for bit in each element type;
 * products by every linear row that this processor can run against y_exact_f32. */
#include "golden.h"
/* after golden.h, which brings cmocka in the order it wants */
#include "base/cpu.h"
#include "kernels/kernel.h"

static const int all_bits[] = {2, 3, 4, 5, 6, 8};
static const char *const type_names[] = {"f32", "f16", "bf16"};
static const lm_dtype types[] = {LM_DTYPE_F32, LM_DTYPE_F16, LM_DTYPE_BF16};

static float load(const void *p, lm_dtype type, int64_t i) {
    const uint8_t *b = p;
    if (type == LM_DTYPE_F32) return lm_load_f32(b + 4 * i);
    return type == LM_DTYPE_F16 ? lm_f16_to_f32(lm_load_u16(b + 2 * i)) : lm_bf16_to_f32(lm_load_u16(b + 2 * i));
}

static float rounded(float v, lm_dtype type) {
    if (type == LM_DTYPE_F32) return v;
    return type == LM_DTYPE_F16 ? lm_f16_to_f32(lm_f32_to_f16(v)) : lm_bf16_to_f32(lm_f32_to_bf16(v));
}

/* The weight made of three tensors; it refers to f. */
static lm_weight weight_of(const golden_file *f, const char *prefix, int bits, int group, lm_dtype type) {
    const void *data[3];
    int64_t n = 0, k = 0;
    static const char *const parts[] = {"packed", "scales", "biases"};
    for (int i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", prefix, parts[i]);
        const lm_st_tensor *t = lm_st_find(&f->header, name);
        if (!t) fail_msg("no tensor %s", name);
        data[i] = f->map.data + f->header.data_offset + t->begin;
        if (i == 0) n = t->shape[0], k = t->shape[1] * 32 / bits;
        if (i > 0) assert_int_equal(t->dtype, type);
    }
    return (lm_weight){.data = data[0],
                       .scales = data[1],
                       .biases = data[2],
                       .n = n,
                       .k = k,
                       .group = group,
                       .row_bytes = (size_t)(k * bits / 8),
                       .format = lm_format_affine(bits),
                       .scale_type = type,
                       .name = prefix};
}

/* The same for mxfp4, nvfp4, mxfp8: bytes for scales, no biases. */
static lm_weight weight_of_mx(const golden_file *f, const char *prefix, lm_format format, int group) {
    char name[64];
    snprintf(name, sizeof name, "%spacked", prefix);
    const lm_st_tensor *packed = lm_st_find(&f->header, name);
    snprintf(name, sizeof name, "%sscales", prefix);
    const lm_st_tensor *scales = lm_st_find(&f->header, name);
    assert_true(packed && scales);
    assert_int_equal(scales->dtype, LM_DTYPE_U8);
    const uint8_t *data = f->map.data + f->header.data_offset;
    const int64_t k = packed->shape[1] * 32 / lm_format_bits(format);
    return (lm_weight){.data = data + packed->begin,
                       .scales = data + scales->begin,
                       .n = packed->shape[0],
                       .k = k,
                       .group = group,
                       .row_bytes = (size_t)(k * lm_format_bits(format) / 8),
                       .format = format,
                       .scale_type = LM_DTYPE_U8,
                       .name = prefix};
}

/* mlx gives the exact product rounded to the element type. */
static void check_dequantized_mx(const golden_file *f, const char *path, const lm_weight *w, lm_dtype type) {
    const lm_st_tensor *t = lm_st_find(&f->header, "dequantized");
    assert_non_null(t);
    const uint8_t *want = f->map.data + f->header.data_offset + t->begin;
    float *row = malloc((size_t)w->k * 4);
    assert_non_null(row);
    for (int64_t n = 0; n < w->n; n++) {
        lm_weight_row(w, n, row);
        for (int64_t k = 0; k < w->k; k++) {
            float got = rounded(row[k], type), expected = load(want, type, n * w->k + k);
            if (lm_f32_bits(got) != lm_f32_bits(expected))
                fail_msg("%s: row %d element %d: %a, expected %a", path, (int)n, (int)k, (double)got, (double)expected);
        }
    }
    free(row);
}

/* mlx works in the element type T: T(T(scale * q) + bias). With zeros for biases lm_weight_row gives scale * q, exact
 * in float32 for f16 and bf16 scales and rounded as mlx rounds for f32 ones. */
static void check_dequantized(const golden_file *f, const char *path, const lm_weight *w) {
    const lm_st_tensor *t = lm_st_find(&f->header, "dequantized");
    assert_non_null(t);
    const uint8_t *want = f->map.data + f->header.data_offset + t->begin;
    const int64_t groups = w->k / w->group;
    float *product = malloc((size_t)w->k * 4), *row = malloc((size_t)w->k * 4);
    void *zeros = calloc((size_t)(w->n * groups), 4);
    assert_true(product && row && zeros);
    lm_weight unbiased = *w;
    unbiased.biases = zeros;
    for (int64_t n = 0; n < w->n; n++) {
        lm_weight_row(w, n, row);
        lm_weight_row(&unbiased, n, product);
        for (int64_t k = 0; k < w->k; k++) {
            float bias = load(w->biases, w->scale_type, n * groups + k / w->group);
            float got = rounded(rounded(product[k], w->scale_type) + bias, w->scale_type);
            float expected = load(want, w->scale_type, n * w->k + k);
            if (lm_f32_bits(got) != lm_f32_bits(expected))
                fail_msg("%s: row %d element %d: %a, expected %a", path, (int)n, (int)k, (double)got, (double)expected);
            /* and the float32 value that kernels use is the same sum, rounded once */
            if (lm_f32_bits(row[k]) != lm_f32_bits(product[k] + bias))
                fail_msg("%s: row %d element %d in float32: %a", path, (int)n, (int)k, (double)row[k]);
        }
    }
    free(product), free(row), free(zeros);
}

static void *aligned(size_t bytes) {
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, (bytes + 127) & ~(size_t)63), 0);
    return p;
}

/* y of one row of the table against the exact product; returns the largest error in units of 2^-23 sum |w x|. */
static double product_error(const lm_kernel_row *r, const lm_weight *w, const float *x, int64_t m, const float *exact) {
    const lm_linear_impl *impl = r->impl;
    void *xp = aligned(impl->prep_bytes(w, m)), *scratch = aligned(impl->scratch_bytes(w, m));
    float *y = aligned((size_t)(m * w->n) * 4), *row = aligned((size_t)w->k * 4);
    double worst = 0;
    impl->prep(w, x, w->k, 0, m, m, xp);
    impl->run(w, xp, m, 0, w->n, y, w->n, scratch);
    for (int64_t n = 0; n < w->n; n++) {
        lm_weight_row(w, n, row);
        for (int64_t i = 0; i < m; i++) {
            double sum = 0;
            for (int64_t k = 0; k < w->k; k++) sum += fabs((double)row[k] * (double)x[i * w->k + k]);
            double e = fabs((double)y[i * w->n + n] - (double)exact[i * w->n + n]) / (sum * 0x1p-23);
            if (!(e <= worst)) worst = e;
        }
    }
    free(xp), free(scratch), free(y), free(row);
    return worst;
}

static double worst_of[256]; /* by row of the table */

static void check_products(const golden_file *f, const golden_file *input, const char *path, const lm_weight *w,
                           lm_dtype type) {
    int64_t m, k, n;
    float *exact = golden_copy(f, "y_exact_f32", &m, &n);
    void *raw = golden_copy(input, "x", &m, &k);
    float *x = aligned((size_t)(m * k) * 4);
    for (int64_t i = 0; i < m * k; i++) x[i] = load(raw, type, i);
    assert_int_equal(k, w->k), assert_int_equal(n, w->n);
    size_t count;
    const lm_kernel_row *rows = lm_kernel_rows(&count);
    assert_true(count <= sizeof worst_of / sizeof worst_of[0]);
    for (size_t i = 0; i < count; i++) {
        if ((rows[i].op != LM_OP_MATVEC && rows[i].op != LM_OP_MATMAT) || rows[i].format != w->format) continue;
        if (rows[i].needs & ~lm_cpu_flags()) continue;
        /* float32: 2 ulps of what is summed; narrower classes round both inputs */
        double most = rows[i].numerics == LM_NUMERICS_F32 ? 2 : rows[i].numerics == LM_NUMERICS_F16 ? 0x1p12 : 0x1p15;
        double e = product_error(&rows[i], w, x, m, exact);
        if (!(e <= most)) fail_msg("%s: %s: error %g of 2^-23 sum|wx|", path, rows[i].name, e);
        if (e > worst_of[i]) worst_of[i] = e;
    }
    free(exact), free(raw), free(x);
}

static void print_worst(void) {
    size_t count;
    const lm_kernel_row *rows = lm_kernel_rows(&count);
    for (size_t i = 0; i < count; i++)
        if (worst_of[i] > 0) printf("%-28s worst %.3g of 2^-23 sum|wx|\n", rows[i].name, worst_of[i]);
}

static void affine(void **state) {
    (void)state;
    int files = 0;
    for (size_t t = 0; t < 3; t++) {
        golden_file input, f;
        golden_open(golden_path("golden/quantization/input_%s.safetensors%s", type_names[t], ""), &input);
        for (size_t b = 0; b < sizeof all_bits / sizeof all_bits[0]; b++)
            for (int group = 32; group <= 128; group *= 2, files++) {
                char name[64];
                snprintf(name, sizeof name, "affine_b%d_g%d_%s", all_bits[b], group, type_names[t]);
                golden_open(golden_path("golden/quantization/%s.safetensors%s", name, ""), &f);
                lm_weight w = weight_of(&f, "", all_bits[b], group, types[t]);
                check_dequantized(&f, name, &w);
                w = weight_of(&f, "mm_", all_bits[b], group, types[t]);
                check_products(&f, &input, name, &w, types[t]);
                golden_close(&f);
            }
        golden_close(&input);
    }
    print_worst();
    printf("%d files\n", files);
}

static void mx(void **state) {
    (void)state;
    static const struct {
        const char *name;
        lm_format format;
        int group;
    } modes[] = {{"mxfp4_b4_g32", LM_FORMAT_MXFP4, 32},
                 {"nvfp4_b4_g16", LM_FORMAT_NVFP4, 16},
                 {"mxfp8_b8_g32", LM_FORMAT_MXFP8, 32}};
    memset(worst_of, 0, sizeof worst_of);
    for (size_t t = 0; t < 3; t++) {
        golden_file input, f;
        golden_open(golden_path("golden/quantization/input_%s.safetensors%s", type_names[t], ""), &input);
        for (size_t i = 0; i < 3; i++) {
            const char *path = golden_path("golden/quantization/%s_%s.safetensors", modes[i].name, type_names[t]);
            golden_open(path, &f);
            lm_weight w = weight_of_mx(&f, "", modes[i].format, modes[i].group);
            check_dequantized_mx(&f, path, &w, types[t]);
            w = weight_of_mx(&f, "mm_", modes[i].format, modes[i].group);
            check_products(&f, &input, path, &w, types[t]);
            golden_close(&f);
        }
        golden_close(&input);
    }
    print_worst();
}

/* Under every mask the table answers with a row that the mask allows. */
static void selection(void **state) {
    (void)state;
    for (uint32_t cpu = 0; cpu < 32; cpu++)
        for (int format = 0; format < LM_FORMAT_COUNT; format++)
            for (int op = LM_OP_MATVEC; op <= LM_OP_MATMAT; op++)
                for (int numerics = LM_NUMERICS_F32; numerics <= LM_NUMERICS_INT8; numerics++) {
                    const lm_kernel_row *row =
                        lm_kernel_select((lm_op)op, (lm_format)format, LM_LAYOUT_MLX, (lm_numerics)numerics, cpu);
                    assert_non_null(row);
                    assert_int_equal(row->needs & ~cpu, 0);
                    assert_true((int)row->numerics <= numerics);
                }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(affine), cmocka_unit_test(mx), cmocka_unit_test(selection)};
    return cmocka_run_group_tests_name("quantization", tests, NULL, NULL);
}
