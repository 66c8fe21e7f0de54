/* SPDX-License-Identifier: MIT
 * backend.h: the device contract. A back end owns memory of its device and computes coarse ops on it; it knows nothing
 * of model families. Pointers named here are device pointers unless "host" is said. Each op is row-wise: an output row
 * depends on its own input row only (attention: also on the sequence's keys and values), never on its neighbours.
 *
 * Letters: M rows (tokens), N outputs, K inputs, D head dimension, E experts. All activations are float32. */
#ifndef LM_BACKEND_BACKEND_H
#define LM_BACKEND_BACKEND_H
#include "base/status.h"
#include "base/types.h"

typedef struct lm_backend lm_backend;

/** Bytes of one kind in use; the engine shows them. Updated by alloc and release. */
typedef enum lm_mem_kind { LM_MEM_WEIGHTS, LM_MEM_KV, LM_MEM_SCRATCH, LM_MEM_KINDS } lm_mem_kind;

/** One product of a fused group: y[M, ldy] = x W^T (+ bias). */
typedef struct lm_linear_item {
    const lm_weight *w;
    const float *bias; /* [N] or NULL */
    float *y;
    int64_t ldy;
} lm_linear_item;

/** Shape of attention, fixed per model. */
typedef struct lm_attn_shape {
    int32_t heads, kv_heads, d;
    int32_t rope_dims; /* first dims that rotate, even */
    float scale, norm_eps;
} lm_attn_shape;

/** Rows of one sequence in a step: rows [row, row+n) of the step's arrays. blocks[i] points at the sequence's i-th
 * block of LM_KV_BLOCK positions for the layer at hand: kv_heads times { K in strips [256/64][D][64], V [256][D] }, or,
 * quantized, kv_heads times what kernels/kvq.h lays out with scales of kv_dtype. */
typedef struct lm_attn_segment {
    void *const *blocks; /* host array of block base pointers */
    size_t offset;       /* bytes from a block's base to the layer's part */
    const int64_t *pos;  /* host [n]: position of each row, ascending */
    int64_t row, n;
    lm_dtype kv_dtype;
    lm_kvq quant;
} lm_attn_segment;

/** Weights of a mixture-of-experts layer: tables of references, one per expert. */
typedef struct lm_moe_weights {
    const lm_weight *gate, *up, *down; /* [E] each */
    int32_t n_experts, top_k;
    bool norm_topk;
    int64_t ffn;
} lm_moe_weights;

/** What the caller wants of one row of logits. */
typedef struct lm_sample_item {
    int64_t row; /* row of the logits */
    lm_sampler *sampler;
    int32_t *id;                     /* host out */
    float *logprob;                  /* host out or NULL */
    int32_t target;                  /* id to score, used if target_logprob is not NULL */
    float *target_logprob, *top_gap; /* host out or NULL */
    float *logits;                   /* host out [V] or NULL */
} lm_sample_item;

struct lm_backend {
    const char *name;
    int64_t in_use[LM_MEM_KINDS], peak, limit; /* bytes; limit 0: none */
    int64_t released;                          /* bytes, ever */

    void (*destroy)(lm_backend *b);
    /** Uninitialised device memory, 64-byte aligned. LM_NOMEM names `what`, also when `limit` would be passed. */
    lm_status (*alloc)(lm_backend *b, lm_mem_kind kind, size_t bytes, const char *what, void **out, lm_error *err);
    void (*release)(lm_backend *b, lm_mem_kind kind, void *memory, size_t bytes);
    void (*copy)(lm_backend *b, void *to, const void *from, size_t bytes); /* device to device */

    /** x[m] = dequantized row ids[m] (host ids, already checked) of `table`. */
    lm_status (*embed)(lm_backend *b, const lm_weight *table, const int32_t *ids, int64_t m, float *x, lm_error *err);
    /** y = rms_norm(x) * w, rows of n. */
    lm_status (*rms_norm)(lm_backend *b, const float *x, const float *w, float eps, int64_t m, int64_t n, float *y,
                          lm_error *err);
    /** All items read the same x [M, ldx]. */
    lm_status (*linear)(lm_backend *b, const float *x, int64_t ldx, int64_t m, const lm_linear_item *items, int n_items,
                        lm_error *err);
    /** A hint: the next call of linear but one will be of these weights and M rows (the next one is what the caller is
     * about to make). May be NULL. */
    void (*linear_next)(lm_backend *b, const lm_weight *const *weights, int n_weights, int64_t m);
    /** Normalises (if the norm is not NULL) and rotates q [M, heads*D] in place; cos, sin: host-visible [M,
     * rope_dims/2]. */
    lm_status (*q_norm_rope)(lm_backend *b, const lm_attn_shape *s, float *q, int64_t ldq, int64_t m,
                             const float *q_norm, const float *cos, const float *sin, lm_error *err);
    /** The same for k [M, kv_heads*D], then stores k and v at each segment's positions. k is overwritten. */
    lm_status (*kv_store)(lm_backend *b, const lm_attn_shape *s, float *k, const float *v, int64_t ldkv,
                          const lm_attn_segment *segments, int n_segments, const float *k_norm, const float *cos,
                          const float *sin, lm_error *err);
    /** Quantizes the first n positions of a block's parts of all layers, `from` (elements of kv_dtype) to `to`. */
    lm_status (*kv_quantize)(lm_backend *b, const lm_attn_shape *s, int64_t layers, lm_kvq quant, lm_dtype kv_dtype,
                             const void *from, void *to, int32_t n, lm_error *err);
    /** out [M, heads*D]: causal attention of each row over positions 0..pos of its sequence. */
    lm_status (*attention)(lm_backend *b, const lm_attn_shape *s, const float *q, int64_t ldq,
                           const lm_attn_segment *segments, int n_segments, float *out, int64_t ldo, lm_error *err);
    /** y[M, n] = silu(gate) * up; y may be gate. */
    lm_status (*swiglu)(lm_backend *b, const float *gate, const float *up, int64_t m, int64_t n, float *y,
                        lm_error *err);
    /** x[M, n] += y */
    lm_status (*add)(lm_backend *b, float *x, const float *y, int64_t m, int64_t n, lm_error *err);
    /** y[i] = x[rows[i]] for i in [0, m): rows of n; host indices, ascending; y may be x. */
    lm_status (*gather)(lm_backend *b, const float *x, int64_t n, const int64_t *rows, int64_t m, float *y,
                        lm_error *err);
    /** y[M, hidden] = sum over the top_k experts of softmax(router)[e] * down_e(swiglu(gate_e x, up_e x)).
     *  router: logits [M, E]. */
    lm_status (*moe)(lm_backend *b, const lm_moe_weights *w, const float *router, const float *x, int64_t hidden,
                     int64_t m, float *y, lm_error *err);
    /** Reads logits [*, vocab] and fills what each item wants. */
    lm_status (*sample)(lm_backend *b, const float *logits, int64_t vocab, const lm_sample_item *items, int64_t n,
                        lm_error *err);

    /** Stage clocks: starts them from zero or stops them; lists the stages that were called. NULL: none. */
    void (*profile)(lm_backend *b, bool on);
    size_t (*stages)(const lm_backend *b, lm_stage *out, size_t room);
};

typedef struct lm_backend_options {
    int threads;
    lm_numerics numerics; /* resolved: not AUTO */
    bool batch_invariant;
    int64_t limit;
    bool pin_threads;
} lm_backend_options;

/** Device names: "cpu", "cuda". An unknown or unbuilt one: LM_UNSUPPORTED with a sentence. */
lm_status lm_backend_create(const char *device, const lm_backend_options *options, lm_backend **out, lm_error *err);
lm_status lm_backend_cpu_create(const lm_backend_options *options, lm_backend **out, lm_error *err);
lm_status lm_backend_cuda_create(const lm_backend_options *options, lm_backend **out, lm_error *err);
/** Threads the back end computes with. */
int lm_backend_threads(const lm_backend *b);

/** Accounting used by every back end's alloc and release. */
lm_status lm_mem_reserve(lm_backend *b, lm_mem_kind kind, size_t bytes, const char *what, lm_error *err);
void lm_mem_unreserve(lm_backend *b, lm_mem_kind kind, size_t bytes);
int64_t lm_mem_total(const lm_backend *b);
#endif
