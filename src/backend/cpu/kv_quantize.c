/* SPDX-License-Identifier: MIT
 * kv_quantize.c: a block of keys and values as it is to a quantized one, all layers. */
#include "backend/cpu/cpu.h"
#include "kernels/kvq.h"

typedef struct quantize_job {
    cpu_backend *c;
    int32_t d, n;
    lm_kvq quant;
    lm_dtype dtype;
    const char *from;
    char *to;
    size_t rows_bytes; /* of LM_KVQ_ROWS keys in float32 */
} quantize_job;

/* A task is one head of one layer. */
static void run_quantize(void *context, int64_t task, int worker) {
    const quantize_job *j = context;
    const size_t part = (size_t)j->d * LM_KV_BLOCK * lm_dtype_bytes(j->dtype);
    const char *kt = j->from + 2 * part * (size_t)task;
    char *head = j->to + lm_kvq_head_bytes(j->quant, j->d, j->dtype) * (size_t)task;
    char *scratch = cpu_worker_scratch(j->c, worker);
    float *keys = (float *)(void *)scratch, *values = (float *)(void *)(scratch + j->rows_bytes);
    for (int32_t pos = 0; pos < j->n; pos += LM_KVQ_ROWS) {
        const int32_t n = j->n - pos < LM_KVQ_ROWS ? j->n - pos : LM_KVQ_ROWS;
        for (int32_t i = 0; i < n; i++)
            lm_kv_load(j->dtype, kt, kt + part, j->d, pos + i, keys + (int64_t)i * j->d, values + (int64_t)i * j->d);
        lm_kvq_store(j->quant, j->dtype, head, keys, values, j->d, j->d, pos, n, scratch + 2 * j->rows_bytes);
    }
}

lm_status cpu_kv_quantize(lm_backend *b, const lm_attn_shape *s, int64_t layers, lm_kvq quant, lm_dtype kv_dtype,
                          const void *from, void *to, int32_t n, lm_error *err) {
    quantize_job j = {.c = cpu_of(b), .d = s->d, .n = n, .quant = quant, .dtype = kv_dtype, .from = from, .to = to};
    j.rows_bytes = cpu_round64((size_t)LM_KVQ_ROWS * (size_t)s->d * sizeof(float));
    LM_TRY(cpu_reserve_worker(j.c, 2 * j.rows_bytes + cpu_round64(lm_kvq_scratch_bytes(s->d)), err));
    lm_pool_run(j.c->pool, layers * s->kv_heads, run_quantize, &j);
    return LM_OK;
}
