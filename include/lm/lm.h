/* SPDX-License-Identifier: MIT
 *
 * lm.h: the one public header of libmlxlm.
 *
 * Owns: the contract between the library and its callers (CLI, evaluation, server, embedders).
 * An *engine* is a loaded model: immutable once open, shareable by any number of sequences.
 * A *sequence* is one mutable timeline: the tokens it holds and their keys and values.
 * A *step* is the engine's one call: many rows, each a sequence with the tokens that are new to it.
 *
 * Rules that hold everywhere:
 *  - functions return an lm_status; on anything but LM_OK the lm_error (may be NULL) says what happened
 *    in one line, naming file, tensor or key, what was expected and what was found;
 *  - the library never prints, never exits, never aborts on input;
 *  - open/close, create/destroy pair up; `get` borrows, `take` moves, `copy` copies; strings are UTF-8;
 *  - text that the library allocates for the caller is freed with lm_free.
 */
#ifndef LM_LM_H
#define LM_LM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- status */

#define LM_STATUS_MAP(X)            \
    X(OK, "ok")                     \
    X(NOMEM, "out of memory")       \
    X(IO, "input/output error")     \
    X(FORMAT, "malformed input")    \
    X(UNSUPPORTED, "not supported") \
    X(ARG, "invalid argument")      \
    X(BACKEND, "device error")      \
    X(CANCELLED, "cancelled")       \
    X(BUDGET, "budget exceeded")

typedef enum lm_status {
#define LM_X(name, text) LM_##name,
    LM_STATUS_MAP(LM_X)
#undef LM_X
} lm_status;

#define LM_ERROR_CAPACITY 4096
/** What went wrong. `message` is one line, always terminated. */
typedef struct lm_error {
    lm_status status;
    char message[LM_ERROR_CAPACITY];
} lm_error;

/** The fixed text of a status ("out of memory"). Never NULL. */
const char *lm_status_text(lm_status status);
/** Frees memory that this library handed to the caller. NULL is allowed. */
void lm_free(void *memory);

/* ---------------------------------------------------------------- versions */

/** Version of this library ("0.1.0"). */
const char *lm_version(void);
/** The mlx-lm version whose behaviour is reproduced ("0.32.2"). */
const char *lm_version_mlx_lm(void);
/** The mlx version whose formats and random numbers are reproduced ("0.32.4"). */
const char *lm_version_mlx(void);
/** One-line description of the processor and of the instruction sets in use (under the LM_CPU mask). */
const char *lm_cpu_description(void);
/** One line on the processors that this process may use, their cores, packages and memory nodes, what control groups
 *  leave of them, and the number of threads that follows: one per core, fast cores only where there are kinds of cores,
 *  and no more than the quota. The text is the calling thread's, until it calls again. */
const char *lm_topology_description(void);

/** One kernel row as `mlx_lm kernels` lists it. Strings live as long as the program. */
typedef struct lm_kernel_info {
    const char *op, *format, *name, *needs, *layout, *numerics;
    int rank;
    bool runnable;      /* this processor, under the mask */
    const char *chosen; /* the tightest numerics class under which this row is the choice here; NULL: under none */
} lm_kernel_info;
/** Fills `*info` with row `index` of the kernel table; false past its end. */
bool lm_kernel_get_info(size_t index, lm_kernel_info *info);

/* ---------------------------------------------------------------- engine */

/** How loosely the inputs of a matrix product may be rounded. Accumulators are float32 always. A class allows every
 *  tighter one. AUTO: F16 for float16 checkpoints, BF16 for bfloat16 ones, F32 for float32 ones. */
typedef enum lm_numerics {
    LM_NUMERICS_AUTO,
    LM_NUMERICS_F32,  /* activations and dequantized weights in float32; keys and values float32 */
    LM_NUMERICS_F16,  /* no looser than float16 */
    LM_NUMERICS_BF16, /* no looser than bfloat16 */
    LM_NUMERICS_INT8, /* activations may be quantized to 8 bits: opt-in only */
} lm_numerics;

/** How a sequence holds its keys and values: in elements of a type, or quantized, LM_KV_AFFINE(bits, group): codes of
 *  2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128 along the head, equal to mx.quantize of elements of the engine's
 *  type. Codes of 5 and more bits take a byte, those of 4 and fewer half of one. */
typedef enum lm_kv_type { LM_KV_AUTO, LM_KV_F32, LM_KV_F16, LM_KV_BF16, LM_KV_QUANTIZED = 1 << 16 } lm_kv_type;
#define LM_KV_AFFINE(bits, group) ((lm_kv_type)(LM_KV_QUANTIZED | (bits) << 8 | (group)))

/** Options of lm_engine_open; lm_engine_options_default() gives the documented defaults. The same set in every command.
 */
typedef struct lm_engine_options {
    const char *device; /* NULL or "cpu" ("cuda" answers LM_UNSUPPORTED unless built with it) */
    int threads;        /* 0: one per fast core that the process may use (lm_topology_description) */
    bool pin_threads;   /* true: every thread but the caller's stays on a fast core of its own, where there are as many
                            threads as such cores and control groups don't limit them; elsewhere nothing happens */
    bool use_mmap;      /* true: weights stay in the mapped file; false: read into memory */
    int64_t max_memory; /* bytes this process may have resident, mapped weights included: the engine stays within what
                           is left beside the rest of the process; 0: no limit of ours */
    lm_numerics numerics;  /* AUTO */
    lm_kv_type kv_type;    /* of sequences that are created with AUTO; AUTO: float32 with numerics F32, else the
                              checkpoint's type */
    bool batch_invariant;  /* true: a sequence's bits never depend on what else is in a step */
    int64_t max_step_rows; /* internal slice of positions computed at once; 0: planned from the model's widths */
    bool tokenizer_only;   /* open tokenizer and template, no weights: text functions only */
    /** Called while weights are read or mapped; may be NULL. Return false to cancel. */
    bool (*progress)(void *user, int64_t bytes_done, int64_t bytes_total);
    void *progress_user;
} lm_engine_options;

typedef struct lm_engine lm_engine;
/** CPU, all processors, mapped files, no limit of memory, AUTO numerics. */
lm_engine_options lm_engine_options_default(void);

/** Opens a model: `model` is a folder, else a repo id resolved in the local Hugging Face cache.
 *  All names, shapes and types are checked first; the error lists everything missing, misshapen or unexpected. */
lm_status lm_engine_open(const char *model, const lm_engine_options *options, lm_engine **out, lm_error *err);
/** Closes an engine. Every sequence of it must be destroyed before. NULL is allowed. */
void lm_engine_close(lm_engine *engine);

/** Facts of an open engine. Strings are borrowed from it. */
typedef struct lm_engine_info {
    const char *path;       /* the resolved folder */
    const char *model_type; /* "qwen3" */
    const char *dtype;      /* activation dtype of the checkpoint: "bfloat16" */
    const char *precision;  /* "bf16", "q4 g64", "q4 g64 (mixed)" */
    const char *device, *numerics, *kv_type;
    bool batch_invariant, use_mmap;
    int threads;
    int64_t vocab_size, hidden_size, n_layers, max_position_embeddings;
    int64_t n_parameters;       /* logical parameters (quantized ones counted unpacked) */
    int64_t weight_bytes;       /* bytes of all weights on disk */
    int64_t kv_bytes_per_token; /* in the engine's default KV type */
    double load_seconds;        /* folder open to weights ready, tokenizer excluded */
    const int32_t *stop_ids;    /* end-of-text ids: config, generation_config, tokenizer */
    size_t n_stop_ids;
    uint64_t weights_fingerprint; /* of names, shapes, types and sizes of the checkpoint's files */
} lm_engine_info;
/** Fills `*info`; its strings and ids stay the engine's. */
void lm_engine_get_info(const lm_engine *engine, lm_engine_info *info);

/** Bytes in use now and at most since the last reset. `peak` counts what the run needed: weights (mapped ones too),
 * keys and values, scratch, logits. `rss_peak` is the process's own high-water mark; `rss_anon` and `rss_file` are
 * resident now: memory of its own, and mapped files. `limit`: what `total` may be under max_memory, given the rest of
 * the process as it was after the last step; 0: no limit. `budget` is max_memory. */
typedef struct lm_memory_stats {
    int64_t weights, kv, scratch, total, peak, rss, rss_peak, rss_anon, rss_file, limit, budget;
} lm_memory_stats;
/** Bytes that this process might have in all: those it has and those available, page cache that can be dropped among
 * them, within the control groups (cgroup 1 and 2) it runs in. 0: the system doesn't say. */
int64_t lm_memory_available(void);
/** Fills `*stats` as of now. */
void lm_engine_get_memory(const lm_engine *engine, lm_memory_stats *stats);
/** `peak` counts from here on. */
void lm_engine_reset_peak(lm_engine *engine);
/** Bytes that one sequence of `n_tokens` positions will take (keys and values, whole blocks). */
int64_t lm_engine_plan_kv(const lm_engine *engine, int64_t n_tokens, lm_kv_type type);

/** What this machine does at most with `threads` threads: bytes read in a second (of 2 MB pages of memory; of the
 * engine's own weights, where they lie), operations in a second of its widest matrix instructions: `peak` on registers
 * alone, `blocked` in tiles whose operands come from panels in the second-level cache. 0: none. */
typedef struct lm_ceilings {
    int threads;
    double read_anonymous, read_weights, peak_f32, peak_bf16, peak_int8, blocked_f32, blocked_bf16, blocked_int8;
} lm_ceilings;
/** Measures with 1, 2, 4, ... and at last all of the engine's threads: `*n` entries, at most `room` (> 0). Takes some
 * seconds, 512 MB and up to 1 MB a thread. LM_ARG without weights, LM_NOMEM. */
lm_status lm_engine_measure_ceilings(const lm_engine *engine, lm_ceilings *out, size_t room, size_t *n, lm_error *err);
/** Bytes of weights, keys and values that computing one token at position `depth` reads. */
double lm_engine_plan_token_bytes(const lm_engine *engine, int64_t depth);
/** Additions and multiplications of a prompt: products with weights, causal attention, one row of logits. */
double lm_engine_plan_prompt_operations(const lm_engine *engine, int64_t n_tokens);

/** One stage of a step: seconds of the calling thread's wall clock, calls, and the bytes of weights that were named. */
typedef struct lm_stage {
    const char *name;
    double seconds;
    uint64_t calls, bytes;
} lm_stage;
/** Starts stage clocks from zero, or stops them. LM_UNSUPPORTED where the device has none. */
lm_status lm_engine_profile(lm_engine *engine, bool on, lm_error *err);
/** Stages since the start, those that were called: at most `room`. Returns how many. Names live as long as the program.
 */
size_t lm_engine_get_stages(const lm_engine *engine, lm_stage *out, size_t room);

/* ---------------------------------------------------------------- sequences */

typedef struct lm_seq lm_seq;
/** Creates an empty sequence. `type` AUTO follows the engine. */
lm_status lm_seq_create(lm_engine *engine, lm_kv_type type, lm_seq **out, lm_error *err);
/** Gives back its blocks (those that no fork shares). NULL is allowed. */
void lm_seq_destroy(lm_seq *seq);
/** From `start` positions on, the sequence is quantized, as mlx-lm's quantized_kv_start has it: after the first step
 * that leaves it with that many (at least one), all that it holds becomes LM_KV_AFFINE `type`, and later tokens are
 * stored so. LM_ARG: another type, one that the model's heads can't have, or a sequence that is quantized already. */
lm_status lm_seq_quantize(lm_seq *seq, lm_kv_type type, int64_t start, lm_error *err);
/** A new sequence that shares the first `n_tokens` positions of `seq` (blocks are reference-counted, copied on write).
 */
lm_status lm_seq_fork(const lm_seq *seq, int64_t n_tokens, lm_seq **out, lm_error *err);
/** Drops all positions from `n_tokens` on. */
lm_status lm_seq_trim(lm_seq *seq, int64_t n_tokens, lm_error *err);
/** Positions held, and the tokens that made them (borrowed until the sequence changes). */
int64_t lm_seq_length(const lm_seq *seq);
const int32_t *lm_seq_tokens(const lm_seq *seq);
/** Writes the sequence's keys, values and tokens to a safetensors file (temporary name, fsync, rename). */
lm_status lm_seq_save(const lm_seq *seq, const char *path, lm_error *err);
/** Reads a file of lm_seq_save made by the same model. */
lm_status lm_seq_load(lm_engine *engine, const char *path, lm_seq **out, lm_error *err);

/* ---------------------------------------------------------------- sampling */

/** Sampling parameters and the random state of one stream. Filters act on the untempered distribution in the order
 *  top-p, min-p, XTC, top-k, then categorical(logprobs / temp), as mlx-lm's make_sampler does. temp 0: argmax, lowest
 * id wins a tie. */
typedef struct lm_sampler {
    float temp, top_p, min_p, xtc_probability, xtc_threshold;
    int32_t top_k, min_tokens_to_keep;
    const int32_t *xtc_special; /* ids never removed by XTC */
    size_t n_xtc_special;
    uint32_t key[2]; /* mlx's threefry key: see lm_sampler_seed */
} lm_sampler;
/** Greedy sampler: temp 0, top_p 1, everything else off. */
lm_sampler lm_sampler_greedy(void);
/** Sets the key as mx.random.seed(seed) does. */
void lm_sampler_seed(lm_sampler *sampler, uint64_t seed);
/** mx.random.randint(0, high, shape) with `n` words drawn from `key`, which is split first as mlx does.
 *  A (batch, n) draw of mlx is one draw of batch*n words. */
void lm_random_randint(uint32_t key[2], int32_t low, int32_t high, size_t n, int32_t *out);

/* ---------------------------------------------------------------- the step */

/** One row of a step: tokens that follow what `seq` holds, and what is wanted of them. */
typedef struct lm_row {
    lm_seq *seq;
    const int32_t *tokens;
    size_t n_tokens;
    const uint32_t *want; /* ascending indices into tokens whose logits are computed; NULL: none */
    size_t n_want;
    float *logits;          /* out, may be NULL: [n_want][vocab_size] float32 */
    lm_sampler *sampler;    /* may be NULL; else one token is sampled per wanted position (state advances) */
    int32_t *sampled;       /* out [n_want]: sampled ids; needs sampler */
    float *sampled_logprob; /* out, may be NULL: [n_want] log-probabilities of the sampled ids, untempered */
    const int32_t *targets; /* may be NULL: [n_want] ids to score */
    float *target_logprob;  /* out [n_want]: log-probability of targets[i] at want[i] */
    float *top_gap;         /* out, may be NULL: [n_want] best minus second best logit */
} lm_row;

/** Computes all rows in one pass: prefill and decode rows mix freely; a sequence appears at most once.
 *  Positions nobody wants skip the last layer's attention output, MLP, final norm and logits.
 *  `cancel` (may be NULL) is polled between slices: non-zero ends the step with LM_CANCELLED. After any failure every
 *  sequence holds exactly what it held before. */
lm_status lm_step(lm_engine *engine, lm_row *rows, size_t n_rows, const volatile int *cancel, lm_error *err);

/** One stream of lm_decode. */
typedef struct lm_decode_row {
    lm_seq *seq;
    int32_t token;       /* in: the token to feed first; out: the last one sampled (not yet fed) */
    lm_sampler *sampler; /* required */
    int32_t *out;        /* out [n]: sampled ids */
    float *out_logprob;  /* out [n], may be NULL */
    size_t n_out;        /* out: how many were produced; fewer than n where a stop id came (it is included) */
} lm_decode_row;

/** Decodes up to `n` tokens for every row on the device; only ids come back. A row ends at a stop id of `stop` (may be
 *  NULL). */
lm_status lm_decode(lm_engine *engine, lm_decode_row *rows, size_t n_rows, size_t n, const int32_t *stop, size_t n_stop,
                    const volatile int *cancel, lm_error *err);

/* ---------------------------------------------------------------- text */

typedef struct lm_tokenizer lm_tokenizer;
/** The engine's tokenizer (borrowed); NULL if the folder has no tokenizer.json. */
const lm_tokenizer *lm_engine_get_tokenizer(const lm_engine *engine);
/** Opens tokenizer.json and tokenizer_config.json (and chat_template.jinja, special_tokens_map.json,
 *  generation_config.json, config.json where present) of a folder; no weights are needed. */
lm_status lm_tokenizer_open(const char *folder, lm_tokenizer **out, lm_error *err);
/** Closes one that lm_tokenizer_open opened. NULL is allowed. */
void lm_tokenizer_close(lm_tokenizer *tokenizer);

/** Encodes UTF-8 text. Special tokens inside the text are recognised. `*ids` is freed with lm_free. */
lm_status lm_tokenizer_encode(const lm_tokenizer *tokenizer, const char *text, size_t length, bool add_special_tokens,
                              int32_t **ids, size_t *n_ids, lm_error *err);
/** Decodes ids as transformers' decode does. `*text` is terminated, freed with lm_free; `*length` may be NULL. */
lm_status lm_tokenizer_decode(const lm_tokenizer *tokenizer, const int32_t *ids, size_t n_ids, bool skip_special_tokens,
                              char **text, size_t *length, lm_error *err);
/** Number of ids the tokenizer knows (added tokens included). */
int64_t lm_tokenizer_size(const lm_tokenizer *tokenizer);
/** Id of a token string, -1 if there is none. */
int32_t lm_tokenizer_token_id(const lm_tokenizer *tokenizer, const char *token);
/** Token string of `bos_token` / `eos_token` of tokenizer_config, NULL if unset. Borrowed. */
const char *lm_tokenizer_bos_token(const lm_tokenizer *tokenizer);
const char *lm_tokenizer_eos_token(const lm_tokenizer *tokenizer);
/** Think markers that mlx-lm infers from the vocabulary; both NULL if there are none. Borrowed. */
void lm_tokenizer_think_tokens(const lm_tokenizer *tokenizer, const char **start, const char **end);

/** mlx-lm's streaming detokenizer for this tokenizer. */
typedef struct lm_detokenizer lm_detokenizer;
/** Creates one for a new text. `tokenizer` is borrowed until lm_detokenizer_destroy. */
lm_status lm_detokenizer_create(const lm_tokenizer *tokenizer, lm_detokenizer **out, lm_error *err);
/** NULL is allowed. */
void lm_detokenizer_destroy(lm_detokenizer *detokenizer);
/** Forgets what it was given: the next id begins a new text. */
void lm_detokenizer_reset(lm_detokenizer *detokenizer);
/** Adds one id; `*segment` is the text that became final (borrowed until the next call, may be empty). */
lm_status lm_detokenizer_add(lm_detokenizer *detokenizer, int32_t id, const char **segment, size_t *length,
                             lm_error *err);
/** Flushes what was held back. */
lm_status lm_detokenizer_finalize(lm_detokenizer *detokenizer, const char **segment, size_t *length, lm_error *err);

/* ---------------------------------------------------------------- chat templates */

/** The model's chat template, NULL if it has none. Borrowed. */
const char *lm_tokenizer_chat_template(const lm_tokenizer *tokenizer);

/** Renders a chat template. `template_text` NULL: the tokenizer's. `tokenizer` may be NULL when a template is given.
 *  `input_json`: a JSON object {"messages", "tools"?, "documents"?, "add_generation_prompt"?,
 * "continue_final_message"?, further template variables; "strftime_now": ISO time that fixes the clock}. Special-token
 * strings of the tokenizer are defined unless given. Steps, depth and output are bounded (LM_BUDGET). `*text` is freed
 * with lm_free. */
lm_status lm_chat_render(const lm_tokenizer *tokenizer, const char *template_text, const char *input_json, char **text,
                         size_t *length, lm_error *err);

/* ---------------------------------------------------------------- conversion */

/** Converts a GGUF file (llama architecture; F32, F16, BF16, Q4_0, Q4_1, Q8_0) to an MLX folder without loss.
 *  `mlx_path` must not exist; it appears under its name only when complete. `progress` may be NULL. */
lm_status lm_convert_gguf(const char *gguf_path, const char *mlx_path,
                          bool (*progress)(void *user, int64_t done, int64_t total), void *user, lm_error *err);

/** Options of lm_convert_model; lm_convert_options_default() gives upstream's defaults. Strings are borrowed. */
typedef struct lm_convert_options {
    const char *model;         /* source: a folder, else a repo id in the local Hugging Face cache */
    const char *mlx_path;      /* folder to make; NULL: "mlx_model". It must not exist */
    bool quantize, dequantize; /* not both */
    const char *q_mode;        /* "affine" (NULL), "mxfp4", "nvfp4", "mxfp8" */
    int q_bits, q_group_size;  /* 0: the mode's default */
    const char *q_rule; /* rounding of the affine quantizer: "cpu" (NULL: as mlx on a CPU), "gpu" (as its kernels) */
    const char *quant_predicate; /* NULL, or a mixed recipe: "mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6" */
    const char *dtype;           /* "float16", "bfloat16", "float32"; NULL: as config.json says */
    bool resume;                 /* go on with what an interrupted conversion to the same target left */
    int threads;                 /* 0: as in lm_engine_options */
    int64_t max_shard_bytes;     /* of tensors in one file; 0: 5 GiB, as upstream */
    /** Bytes of source weights converted, and of all; called from the caller's thread. False cancels. May be NULL. */
    bool (*progress)(void *user, int64_t done, int64_t total);
    /** Upstream's lines, without "[INFO] ". May be NULL. */
    void (*info)(void *user, const char *line);
    void *user;
} lm_convert_options;
lm_convert_options lm_convert_options_default(void);

/** What mlx_lm.convert does: reads a Hugging Face or MLX folder (llama, mistral, qwen3, qwen3_moe; floats, float8 with
 * block scales, MLX-quantized) and writes an MLX folder with the same tensors, shards and config as mlx-lm 0.32.2,
 * streaming: a few MB of memory per thread whatever the model's size. The work is done in `.NAME.partial` beside the
 * target, which appears under its name only when it is complete. On failure the partial folder is removed; it stays
 * after a cancellation once a shard is whole, and after a kill, and `resume` takes it up unless options or source
 * differ (LM_ARG names the difference). Errors: LM_ARG options, target exists; LM_FORMAT, LM_UNSUPPORTED the source;
 * LM_IO also a full disk. */
lm_status lm_convert_model(const lm_convert_options *options, lm_error *err);

/** Type of the matrices of a GGUF file. AUTO: for each matrix the one that loses nothing (F32, F16, BF16 as they are;
 *  affine codes as Q4_0, Q4_1 or Q8_0), else Q8_0. */
typedef enum lm_gguf_out_type {
    LM_GGUF_OUT_AUTO,
    LM_GGUF_OUT_F16,
    LM_GGUF_OUT_BF16,
    LM_GGUF_OUT_Q8_0,
    LM_GGUF_OUT_Q4_0, /* with Q4_0 and Q4_1 the matrix that gives the logits is Q8_0 */
    LM_GGUF_OUT_Q4_1,
} lm_gguf_out_type;

/** Options of lm_convert_to_gguf; lm_gguf_write_options_default() gives AUTO and one thread per fast core. */
typedef struct lm_gguf_write_options {
    lm_gguf_out_type type;
    int threads; /* 0: as in lm_engine_options */
    /** Bytes of the data section; may be NULL. Return false to cancel. */
    bool (*progress)(void *user, int64_t bytes_done, int64_t bytes_total);
    void *progress_user;
} lm_gguf_write_options;

/** What was written. */
typedef struct lm_gguf_write_result {
    int64_t bytes;              /* of the file */
    int64_t n_tensors, n_exact; /* n_exact: those known to keep every value */
} lm_gguf_write_result;

lm_gguf_write_options lm_gguf_write_options_default(void);
/** Writes a model (llama, qwen3, qwen3_moe; a folder or cached repo id, quantized or not) as one GGUF file that
 * llama.cpp loads. Norms, biases and routers become F32; matrices whose rows are no multiple of 32 become F16 where
 * blocks were asked for. `gguf_path` must not exist; it appears under its name only when complete. `options` and
 * `result` may be NULL. Errors: LM_UNSUPPORTED for what GGUF cannot say, named (sliding windows, pre-tokenizers,
 * tensors without a place, values past float16), LM_FORMAT, LM_IO, LM_NOMEM, LM_CANCELLED; nothing is left behind then.
 */
lm_status lm_convert_to_gguf(const char *model, const char *gguf_path, const lm_gguf_write_options *options,
                             lm_gguf_write_result *result, lm_error *err);

/* ---------------------------------------------------------------- files */

/** Resolves a model argument: an existing folder as it is, else a repo id in the local Hugging Face cache
 *  (HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME). `*path` is freed with lm_free. */
lm_status lm_model_resolve(const char *model, char **path, lm_error *err);

/** One tensor to write. */
typedef struct lm_tensor_out {
    const char *name;
    const char *dtype; /* safetensors' name: "F32", "I32" */
    int64_t shape[4];
    int n_dims;
    const void *data;
} lm_tensor_out;
/** Writes a safetensors file atomically: temporary name, fsync, rename. */
lm_status lm_safetensors_write(const char *path, const lm_tensor_out *tensors, size_t n_tensors, lm_error *err);
/** Writes `length` bytes to `path` atomically: temporary name in the same folder, fsync, rename. */
lm_status lm_file_write(const char *path, const void *data, size_t length, lm_error *err);
/** `value` as Python's repr writes it ("0.1", "1e-05", "nan", "-inf"): the fewest digits that read back, with a point
 *  whatever the locale. At most 24 characters and the terminator. */
void lm_number_text(double value, char text[32]);

#ifdef __cplusplus
}
#endif
#endif
