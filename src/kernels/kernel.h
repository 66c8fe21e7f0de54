/* SPDX-License-Identifier: MIT
 * kernel.h: contracts of the CPU kernels. kernels.def lists the rows; select.c picks; nothing else decides.
 *
 * Letters: M rows of activations (tokens), N outputs, K inputs, G group, D head dimension, R query rows.
 * Weights and keys/values may have any alignment; activations, outputs and scratch are 64-byte aligned float32 unless
 * said otherwise. No kernel reads or writes outside the ranges given, starts threads, or allocates.
 *
 * Bits: every output depends only on its own row of activations and its own row of weights, in an order that the kernel
 * fixes: never on M, on the row's place in M, on how N is split, or on the thread. That is what "row-invariant" means;
 * it holds for every row below, so that the same kernel gives a sequence the same bits whatever else runs. */
#ifndef LM_KERNELS_KERNEL_H
#define LM_KERNELS_KERNEL_H
#include "base/cpu.h"
#include "base/types.h"
#include "kernels/quantize.h"
#include "lm/lm.h"

/* ---- op MATVEC and MATMAT: y[m, n] = sum_k x[m, k] * W[n, k] -------------------------------------------------
 * The same struct serves both. MATVEC rows are written for M of 1 to a few (weights stream once per activation row or
 * per few); MATMAT rows for any M. Under --batch-invariant only MATMAT rows for any M (from_rows 0) are used.
 * Sequence: prep_bytes -> prep (rows m0..m1 of M, may be split over threads by rows) -> run (split over N by threads).
 */
typedef struct lm_linear_impl {
    int n_step; /* ranges given to run begin at a multiple of this (and end at one, or at N) */
    int m_step; /* ranges given to prep begin at a multiple of this (and end at one, or at M) */
    /** Bytes that prepared activations of M rows take. Depends on w->format, group and k only, so that weights that
     *  agree in these share one preparation. A multiple of 64. */
    size_t (*prep_bytes)(const lm_weight *w, int64_t m);
    /** Prepares rows [m0, m1) of x [M, ldx] into xp (whatever the kernel wants: permuted, transposed, packed, summed by
     *  group). */
    void (*prep)(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp);
    /** Bytes of scratch that one thread needs in run (0 allowed; a multiple of 64). */
    size_t (*scratch_bytes)(const lm_weight *w, int64_t m);
    /** Writes y[i*ldy + n] for i in [0,M), n in [n0,n1). y is not read. */
    void (*run)(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, int64_t ldy,
                void *scratch);
    /** Outputs that one pass over the prepared activations serves at best: a wish for the width of ranges where M is
     *  large; 0: none. */
    int n_pass;
    /** MATMAT: rows of activations from which weights are worth what this row makes of them; 0: any. With fewer, and
     *  under --batch-invariant, the best row that has 0 here is used. */
    int from_rows;
} lm_linear_impl;

/* ---- op ATTN: one chunk of at most LM_KV_BLOCK positions for R query rows that share a key/value head --------
 * Keys lie transposed in strips of LM_KV_STRIP positions: kt[lm_kv_key_at(D, d, pos)]; values by position:
 * v[pos*D + d]; element type = the row's format (F32, F16, BF16). Row r sees positions [0, limit[r]) of the chunk
 * (0 <= limit <= LM_KV_BLOCK); limit 0: m = -inf, l = 0, acc = 0. Positions past the largest limit are not read.
 *   s[p] = sum_d q[r,d] * k[p,d]  (q is already scaled);  m = max s;  e[p] = exp(s[p] - m);  l = sum e;
 *   acc[d] = sum_p e[p] * v[p,d]
 * Sums over d and over p run in an order fixed by D alone. */
typedef struct lm_attn_args {
    const void *kt, *v;
    const float *q;       /* [R, ldq] */
    const int32_t *limit; /* [R] */
    float *m, *l;         /* [R] out */
    float *acc;           /* [R, D] out, dense */
    const void *next;     /* a hint: kt of the call that this thread will probably make next; or NULL */
    int64_t ldq;
    int32_t d, r;
    /* op ATTNQ: kt is the whole of the head's part as kvq.h lays it out, v isn't used */
    int32_t group;
    lm_dtype scale_type;
} lm_attn_args;
typedef struct lm_attn_impl {
    size_t (*scratch_bytes)(int32_t d, int32_t r); /* a multiple of 64 */
    void (*chunk)(const lm_attn_args *a, void *scratch);
    /** to = to * a + from * b, n elements; both products and their sum are rounded, so that all rows give the same
     * bits. a = 0: to is not read, to = from * b. */
    void (*merge)(float *to, float a, const float *from, float b, int64_t n);
    /** Query rows of a call that a block's preparation is worth: a wish for prompts; 0: few dozens are enough. */
    int rows;
} lm_attn_impl;

/* ---- op ATTNQ: the same lm_attn_impl over quantized keys and values (kvq.h): element = scale * code + bias, exact.
 * format AFFINE8: codes in bytes (5, 6 and 8 bits); AFFINE4: two to a byte (2, 3 and 4 bits). d is a multiple of group.
 * Scales, biases and codes past a row's limit may be anything. ------------------------------------------------- */

/* ---- op ROW: element-wise and row-wise pieces, all float32 ---------------------------------------------------- */
typedef struct lm_row_impl {
    /** y = x * rsqrt(mean(x^2) + eps) * w; y may be x. */
    void (*rms_norm)(const float *x, const float *w, float eps, int64_t n, float *y);
    /** y = silu(gate) * up, silu(z) = z / (1 + exp(-z)); y may be gate or up. */
    void (*swiglu)(const float *gate, const float *up, int64_t n, float *y);
    /** y += x */
    void (*add)(float *y, const float *x, int64_t n);
    /** y += a * x */
    void (*axpy)(float *y, float a, const float *x, int64_t n);
    /** NeoX rotation of one head in place over its first 2*half dims: pairs (j, j+half). */
    void (*rope)(float *x, const float *cos, const float *sin, int64_t half);
    /** max and sum of exp(x - max), the sum in a fixed order. */
    void (*logsumexp)(const float *x, int64_t n, float *max, float *sum);
    /** index of the largest value, the lowest on ties; NaN never wins. */
    int64_t (*argmax)(const float *x, int64_t n);
} lm_row_impl;

/* ---- op KV: stores one token's key and value of one head into a block (format = the block's element type) ----- */
typedef struct lm_kv_impl {
    /** k[D], v[D] to position pos: kt[lm_kv_key_at(D, d, pos)], v[pos*D+d], rounded to nearest even. */
    void (*store)(void *kt, void *v, const float *key, const float *value, int32_t d, int32_t pos);
} lm_kv_impl;

/* ---- op QUANT: quantizes rows of weights; every row of the table gives the same bytes --------------------------- */
typedef struct lm_quant_impl {
    /** As lm_quantize_rows. w needs no alignment. */
    void (*rows)(const lm_quant_spec *spec, const float *w, lm_dtype dtype, int64_t n, int64_t k, void *packed,
                 void *scales, void *biases);
} lm_quant_impl;

typedef enum lm_op {
    LM_OP_MATVEC,
    LM_OP_MATMAT,
    LM_OP_ATTN,
    LM_OP_ATTNQ,
    LM_OP_ROW,
    LM_OP_KV,
    LM_OP_QUANT,
    LM_OP_COUNT
} lm_op;

typedef struct lm_kernel_row {
    lm_op op;
    lm_format format;
    const char *name; /* the symbol */
    const void *impl; /* lm_linear_impl, lm_attn_impl, lm_row_impl, lm_kv_impl or lm_quant_impl, by op */
    uint32_t needs;   /* LM_CPU_* */
    lm_layout layout;
    lm_numerics numerics; /* how far the inputs of products are rounded: F32 = not at all */
    int rank;             /* the highest runnable rank wins */
} lm_kernel_row;

/** All rows, in kernels.def's order. */
const lm_kernel_row *lm_kernel_rows(size_t *count);
/** The best row for op and format among those that `cpu` can run and whose numerics class is not looser than `loosest`
 *  (order F32 < F16 < BF16 < INT8). For ATTN, ROW, KV, QUANT, format is the element type. NULL only for unknown
 * formats: a scalar row exists for everything. */
const lm_kernel_row *lm_kernel_select(lm_op op, lm_format format, lm_layout layout, lm_numerics loosest, uint32_t cpu);

/** Dequantizes row n of w to float32 (scalar; the definition of each format): out[k]. */
void lm_weight_row(const lm_weight *w, int64_t n, float *out);
#endif
