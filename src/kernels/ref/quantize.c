/* SPDX-License-Identifier: MIT
 * quantize.c: quantizing, one element after another: the definition of every row of op QUANT. */
#include "kernels/quant_group.h"
#include "kernels/rows.h"

/* Appends `bits` bits at a time to a little-endian bit string. */
typedef struct bit_writer {
    uint8_t *out;
    uint64_t held;
    int n_held;
} bit_writer;

static void put(bit_writer *b, uint32_t code, int bits) {
    b->held |= (uint64_t)code << b->n_held;
    for (b->n_held += bits; b->n_held >= 8; b->n_held -= 8, b->held >>= 8) *b->out++ = (uint8_t)b->held;
}

static void affine_group(const lm_quant_spec *spec, const float *w, lm_dtype dtype, int64_t at, bit_writer *out,
                         void *scales, void *biases) {
    float lo = lm_quant_min_start(spec->rule), hi = lm_quant_max_start(spec->rule), scale, bias;
    for (int i = 0; i < spec->group; i++) {
        lo = w[i] < lo ? w[i] : lo;
        hi = w[i] > hi ? w[i] : hi;
    }
    lm_quant_affine(lo, hi, spec->bits, spec->rule, &scale, &bias);
    for (int i = 0; i < spec->group; i++)
        put(out, lm_quant_code(w[i], scale, bias, spec->bits, spec->rule), spec->bits);
    lm_quant_store(scales, at, scale, dtype);
    lm_quant_store(biases, at, bias, dtype);
}

static uint32_t float_code(const lm_quant_spec *spec, float w, lm_dtype dtype, float divisor) {
    if (divisor == 0) return 0;
    float x = w / divisor;
    if (spec->rule == LM_QUANT_RULE_CPU) x = lm_quant_round(x, dtype);
    if (spec->bits == 8) return lm_quant_e4m3(x);
    return spec->rule == LM_QUANT_RULE_CPU ? lm_quant_e2m1_first(x) : lm_quant_e2m1_even(x);
}

static void float_group(const lm_quant_spec *spec, const float *w, lm_dtype dtype, bit_writer *out, uint8_t *scale) {
    float largest = 0, divisor;
    for (int i = 0; i < spec->group; i++) {
        float a = fabsf(w[i]);
        largest = a > largest ? a : largest;
    }
    *scale = lm_quant_scale(spec, largest, dtype, &divisor);
    for (int i = 0; i < spec->group; i++) put(out, float_code(spec, w[i], dtype, divisor), spec->bits);
}

static void quantize(const lm_quant_spec *spec, const float *w, lm_dtype dtype, int64_t n, int64_t k, void *packed,
                     void *scales, void *biases) {
    bit_writer out = {packed, 0, 0}; /* rows are whole bytes: one string */
    for (int64_t g = 0; g < n * (k / spec->group); g++, w += spec->group)
        if (spec->mode == LM_QUANT_AFFINE)
            affine_group(spec, w, dtype, g, &out, scales, biases);
        else
            float_group(spec, w, dtype, &out, (uint8_t *)scales + g);
}

const lm_quant_impl lm_quantize__scalar = {quantize};
