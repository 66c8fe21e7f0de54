/* SPDX-License-Identifier: MIT
 * model.h: a loaded model: hyper-parameters, checked weights by layer, and the forward pass over a slice of rows.
 * Letters as in backend.h. */
#ifndef LM_MODEL_MODEL_H
#define LM_MODEL_MODEL_H
#include "backend/backend.h"
#include "format/checkpoint.h"
#include "format/config.h"

/** Numbers that a family reads from config.json. */
typedef struct lm_hparams {
    int64_t hidden, layers, heads, kv_heads, head_dim, ffn, vocab, max_positions;
    double norm_eps, rope_theta;
    bool tied, attention_bias, mlp_bias;
    /* rope scaling */
    enum { LM_ROPE_PLAIN, LM_ROPE_LINEAR, LM_ROPE_LLAMA3 } rope_kind;
    double rope_factor, rope_low_freq, rope_high_freq, rope_original_positions;
    /* mixture of experts: 0 experts = dense everywhere */
    int64_t experts, top_k, moe_ffn, sparse_step;
    bool norm_topk;
    bool *dense_layer; /* [layers]: layers without experts; owned; NULL: by sparse_step alone */
} lm_hparams;

typedef struct lm_layer {
    float *attn_norm, *ffn_norm; /* [hidden] */
    float *q_norm, *k_norm;      /* [head_dim] or NULL */
    lm_weight q, k, v, o; /* [heads*head_dim, hidden], [kv_heads*head_dim, hidden] x 2, [hidden, heads*head_dim] */
    float *q_bias, *k_bias, *v_bias, *o_bias; /* or NULL */
    lm_weight gate, up, down;                 /* [ffn, hidden] x 2, [hidden, ffn] */
    float *gate_bias, *up_bias, *down_bias;   /* or NULL */
    lm_weight router;                         /* [experts, hidden] */
    lm_weight *e_gate, *e_up, *e_down;        /* [experts] references, NULL in a dense layer */
} lm_layer;

struct lm_arch;
typedef struct lm_model {
    const struct lm_arch *arch;
    lm_hparams h;
    lm_backend *backend; /* borrowed */
    lm_checkpoint *checkpoint;
    lm_weight embed, head; /* head: the embedding when tied */
    float *norm;           /* [hidden] */
    lm_layer *layer;
    double *inv_freq; /* [head_dim/2], position scale included */
    lm_dtype dtype;   /* of activations as the checkpoint has it: F16, BF16, F32 */
    int64_t n_parameters;
    size_t reserved;    /* weight bytes accounted with the back end */
    char precision[48]; /* "q4 g64" */
    char **names;       /* module paths that weights point to */
    size_t n_names;
    void **vectors; /* back-end memory of norms and biases */
    size_t *vector_bytes;
    size_t n_vectors;
} lm_model;

/** Takes the checkpoint (closed with the model, or on failure) and checks every tensor against the family's rules:
 *  everything missing, misshapen or unexpected is in one error. */
lm_status lm_model_open(const lm_config *config, lm_checkpoint *checkpoint, lm_backend *backend, lm_model **out,
                        lm_error *err);
void lm_model_close(lm_model *model);
/** The activation dtype (F16, BF16 or F32) that config and tensors imply, before any back end exists. */
lm_dtype lm_model_dtype(const lm_checkpoint *checkpoint);

/** Whether layer i has experts. */
bool lm_layer_is_moe(const lm_hparams *h, int64_t i);
/** inv_freq [head_dim/2] of the family's rotation. */
void lm_rope_frequencies(const lm_hparams *h, double *inv_freq);
/** cos and sin [n, half] of positions pos[n]. */
void lm_rope_table(const double *inv_freq, int64_t half, const int64_t *pos, int64_t n, float *cos, float *sin);

/* ---------------------------------------------------------------- forward */

/** Buffers for `rows` rows at once. */
typedef struct lm_workspace {
    lm_backend *backend;
    int64_t rows;
    void *memory;
    size_t bytes;
    float *x, *xn, *q, *k, *v, *att, *gate, *up, *router;
    float *cos, *sin;                 /* host */
    int64_t *want_pos;                /* host [rows] */
    struct lm_attn_segment *segments; /* host, grows to the most sequences of a slice */
    int n_segments;
} lm_workspace;
/** Bytes of activations per row, preparations included: what the slice length is planned from. */
size_t lm_workspace_row_bytes(const lm_model *model);
lm_status lm_workspace_create(const lm_model *model, int64_t rows, lm_workspace *out, lm_error *err);
void lm_workspace_destroy(lm_workspace *w);

/** One sequence's rows in a slice. */
typedef struct lm_slice_seq {
    void *const *blocks; /* the sequence's blocks, long enough for its last position here */
    lm_dtype kv_dtype;
    lm_kvq quant;
    int64_t row, n; /* rows [row, row+n) of the slice */
} lm_slice_seq;

typedef struct lm_slice {
    int64_t m;
    const int32_t *ids; /* [m] */
    const int64_t *pos; /* [m], ascending within a sequence */
    const lm_slice_seq *seqs;
    int n_seqs;
    const int64_t *want; /* [n_want] ascending rows whose final hidden state is wanted */
    int64_t n_want;
} lm_slice;

/** Runs all layers; stores keys and values of all rows; leaves the normalised final states of the wanted rows in
 *  w->xn [n_want, hidden]. Rows nobody wants skip everything after the last layer's keys and values. */
lm_status lm_model_forward(const lm_model *model, lm_workspace *w, const lm_slice *slice, lm_error *err);
/** logits [n, vocab] of states [n, hidden]. */
lm_status lm_model_logits(const lm_model *model, const float *states, int64_t n, float *logits, lm_error *err);

/** Bytes of one block of LM_KV_BLOCK positions (all layers). */
size_t lm_model_block_bytes(const lm_model *model, lm_dtype kv_dtype, lm_kvq quant);
lm_attn_shape lm_model_attn_shape(const lm_model *model);
#endif
