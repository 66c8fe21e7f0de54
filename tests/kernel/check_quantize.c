/* SPDX-License-Identifier: MIT
 *
 * check_quantize.c: op QUANT: the bytes of the scalar row, for every mode, width, group, element type and rule, on
 * weights of all magnitudes, with ties, NaN and infinities; odd addresses, an unreadable page behind the input. */
#include "check.h"
#include <string.h>

static const lm_quant_spec specs[] = {
    {LM_QUANT_AFFINE, 2, 32, 0}, {LM_QUANT_AFFINE, 2, 64, 0}, {LM_QUANT_AFFINE, 2, 128, 0},
    {LM_QUANT_AFFINE, 3, 32, 0}, {LM_QUANT_AFFINE, 3, 64, 0}, {LM_QUANT_AFFINE, 3, 128, 0},
    {LM_QUANT_AFFINE, 4, 32, 0}, {LM_QUANT_AFFINE, 4, 64, 0}, {LM_QUANT_AFFINE, 4, 128, 0},
    {LM_QUANT_AFFINE, 5, 32, 0}, {LM_QUANT_AFFINE, 5, 64, 0}, {LM_QUANT_AFFINE, 5, 128, 0},
    {LM_QUANT_AFFINE, 6, 32, 0}, {LM_QUANT_AFFINE, 6, 64, 0}, {LM_QUANT_AFFINE, 6, 128, 0},
    {LM_QUANT_AFFINE, 8, 32, 0}, {LM_QUANT_AFFINE, 8, 64, 0}, {LM_QUANT_AFFINE, 8, 128, 0},
    {LM_QUANT_MXFP4, 4, 32, 0},  {LM_QUANT_NVFP4, 4, 16, 0},  {LM_QUANT_MXFP8, 8, 32, 0},
};
static const char *const mode_names[] = {"affine", "mxfp4", "nvfp4", "mxfp8"};
static const lm_format types[] = {LM_FORMAT_F32, LM_FORMAT_F16, LM_FORMAT_BF16};
static const lm_dtype dtypes[] = {LM_DTYPE_F32, LM_DTYPE_F16, LM_DTYPE_BF16};

/* One group in one of many styles, exact in the element type. */
static void fill_group(check *c, lm_format type, float *w, int group) {
    static const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, 0x1p-149f, -0x1p-133f, 3.3e38f, -0.0f};
    const int style = check_int(c, 0, 11), shift = check_int(c, -150, 127), near = check_int(c, -24, 15);
    for (int i = 0; i < group; i++) {
        float v = check_uniform(c, -1, 1), whole = (float)check_int(c, -128, 127);
        switch (style) {
        case 0: v = ldexpf(v, shift); break; /* all magnitudes */
        case 1: v = fabsf(v); break;         /* one sign */
        case 2: v = -fabsf(v) - 0.25f; break;
        case 3: v = whole * 0.5f; break;                  /* ties of affine codes */
        case 4: v = ldexpf(whole * 0.0625f, near); break; /* ties of e2m1 and e4m3 */
        case 5: v = 0; break;
        case 6: v = near < 0 ? -0.3f : 0.7f; break; /* a constant group */
        case 7: v = i ? v * 1e-3f : 3 * v; break;   /* an outlier */
        case 8: v = check_int(c, 0, 7) ? v : odd[check_int(c, 0, 7)]; break;
        case 9: v = odd[near & 7]; break;
        case 10: v = ldexpf(1 + ldexpf((float)check_int(c, 0, 3), -23), shift) * (i % 2 ? 6.0f : 448.0f); break;
        default: v *= ldexpf(1, near); break;
        }
        check_put(type, w, 0, v); /* rounded to the type and back */
        w[0] = check_get(type, w, 0);
        w++;
    }
}

typedef struct quantize_call {
    const lm_quant_impl *impl;
    const lm_quant_spec *spec;
    const float *w;
    lm_dtype dtype;
    int64_t n, k;
    void *packed, *scales, *biases;
} quantize_call;

static void call(void *arg) {
    const quantize_call *q = arg;
    q->impl->rows(q->spec, q->w, q->dtype, q->n, q->k, q->packed, q->scales, q->biases);
}

static void one(check *c, const lm_quant_spec *spec, size_t type, int64_t n, int64_t k, size_t gap) {
    const size_t size = spec->mode == LM_QUANT_AFFINE ? lm_dtype_bytes(dtypes[type]) : 1;
    const size_t bytes = (size_t)(n * k * spec->bits / 8), scale_bytes = (size_t)(n * k / spec->group) * size;
    float *w = check_at_edge(c, (size_t)(n * k) * 4, 0);
    for (int64_t i = 0; i < n * k; i += spec->group) fill_group(c, types[type], w + i, spec->group);
    quantize_call calls[2];
    for (int i = 0; i < 2; i++) {
        calls[i] = (quantize_call){i ? c->ref->impl : c->row->impl, spec, w, dtypes[type], n, k, NULL, NULL, NULL};
        calls[i].packed = check_at_edge(c, bytes, gap);
        calls[i].scales = check_at_edge(c, scale_bytes, gap);
        calls[i].biases = check_at_edge(c, scale_bytes, gap);
        if (!check_run(c, call, &calls[i])) return;
    }
    char what[96];
    snprintf(what, sizeof what, "%s b%d g%d %s %s", mode_names[spec->mode], spec->bits, spec->group,
             lm_format_name(types[type]), spec->rule == LM_QUANT_RULE_CPU ? "cpu" : "gpu");
    c->stage = what;
    check_bits(c, "packed", calls[0].packed, calls[1].packed, bytes);
    check_bits(c, "scales", calls[0].scales, calls[1].scales, scale_bytes);
    check_bits(c, "biases", calls[0].biases, calls[1].biases, scale_bytes);
    c->stage = "frames";
    check_release(c);
}

static void bench(check *c) {
    const int64_t n = 64, k = 4096;
    float *w = check_aligned(c, (size_t)(n * k) * 4);
    check_fill(c, CHECK_PLAIN, w, (size_t)(n * k));
    for (int64_t i = 0; i < n * k; i++) w[i] = lm_bf16_to_f32(lm_f32_to_bf16(w[i]));
    quantize_call q = {c->row->impl, NULL, w, LM_DTYPE_BF16, n, k, NULL, NULL, NULL};
    q.packed = check_aligned(c, (size_t)(n * k) * 4);
    q.scales = check_aligned(c, (size_t)(n * k)), q.biases = check_aligned(c, (size_t)(n * k));
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++)
        for (int rule = 0; rule < 2; rule++) {
            lm_quant_spec spec = specs[i];
            char what[64];
            if (spec.group > 64 || (rule && spec.bits != 4)) continue;
            spec.rule = (lm_quant_rule)rule, q.spec = &spec;
            snprintf(what, sizeof what, "%s b%d g%d %s, bytes of bf16 in", mode_names[spec.mode], spec.bits, spec.group,
                     rule ? "gpu" : "cpu");
            check_bench(c, what, call, &q, (double)(n * k) * 2, 0);
        }
    check_release(c);
}

void check_quantize(check *c) {
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++)
        for (size_t t = 0; t < 3; t++)
            for (int rule = 0; rule < 2 && !c->failures; rule++) {
                lm_quant_spec spec = specs[i];
                spec.rule = (lm_quant_rule)rule;
                one(c, &spec, t, 1, spec.group, 1);
                one(c, &spec, t, 13, 384, i % 4);
                one(c, &spec, t, 64, 1152, (i + t) % 4);
            }
    bench(c);
}
