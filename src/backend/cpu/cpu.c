/* SPDX-License-Identifier: MIT
 * cpu.c: the CPU back end: kernel choice, memory, and the small ops. */
#include "backend/cpu/cpu.h"
#include "backend/sampler.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---------------------------------------------------------------- memory */

/* Large memory comes from the system and goes back to it at once: an allocator keeps freed pieces resident, and then a
 * budget for the whole process has no room for the next. Sanitizers watch the allocator's memory only. */
#if defined(__SANITIZE_ADDRESS__)
#define LARGE SIZE_MAX
#else
#define LARGE ((size_t)1 << 20)
#endif

static void *take_memory(size_t bytes) {
    void *p = NULL;
    if (bytes < LARGE) return posix_memalign(&p, 64, bytes ? bytes : 64) ? NULL : p;
    p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static lm_status cpu_alloc(lm_backend *b, lm_mem_kind kind, size_t bytes, const char *what, void **out, lm_error *err) {
    *out = NULL;
    LM_TRY(lm_mem_reserve(b, kind, bytes, what, err));
    *out = take_memory(bytes);
    if (!*out) {
        lm_mem_unreserve(b, kind, bytes);
        return lm_fail_nomem(err, bytes, what);
    }
    return LM_OK;
}

static void cpu_release(lm_backend *b, lm_mem_kind kind, void *memory, size_t bytes) {
    if (!memory) return;
    if (bytes < LARGE)
        free(memory);
    else
        (void)munmap(memory, bytes);
    lm_mem_unreserve(b, kind, bytes);
}

static void cpu_copy(lm_backend *b, void *to, const void *from, size_t bytes) {
    (void)b;
    memcpy(to, from, bytes);
}

lm_status cpu_reserve(cpu_backend *c, cpu_scratch *s, size_t bytes, const char *what, lm_error *err) {
    if (bytes <= s->bytes) return LM_OK;
    cpu_release(&c->base, LM_MEM_SCRATCH, s->data, s->bytes);
    s->data = NULL;
    s->bytes = 0;
    LM_TRY(cpu_alloc(&c->base, LM_MEM_SCRATCH, bytes, what, &s->data, err));
    s->bytes = bytes;
    return LM_OK;
}

lm_status cpu_reserve_worker(cpu_backend *c, size_t bytes, lm_error *err) {
    bytes = cpu_round64(bytes);
    if (bytes <= c->worker_bytes) return LM_OK;
    LM_TRY(cpu_reserve(c, &c->worker, bytes * (size_t)c->threads, "thread scratch", err));
    c->worker_bytes = bytes;
    return LM_OK;
}

/* ---------------------------------------------------------------- small ops */

static lm_status cpu_embed(lm_backend *b, const lm_weight *table, const int32_t *ids, int64_t m, float *x,
                           lm_error *err) {
    (void)b, (void)err;
    for (int64_t i = 0; i < m; i++) lm_weight_row(table, ids[i], x + i * table->k);
    return LM_OK;
}

typedef struct rows_job {
    cpu_backend *c;
    const float *x, *w;
    float eps, *y;
    int64_t m, n, rows;
} rows_job;

static void run_rms_norm(void *context, int64_t task, int worker) {
    rows_job *j = context;
    (void)worker;
    for (int64_t i = task * j->rows; i < (task + 1) * j->rows && i < j->m; i++)
        j->c->row->rms_norm(j->x + i * j->n, j->w, j->eps, j->n, j->y + i * j->n);
}

/* Rows per task such that a task is worth handing to a thread. */
static int64_t rows_per_task(int64_t n) {
    int64_t rows = 16384 / (n > 0 ? n : 1);
    return rows < 1 ? 1 : rows;
}

static lm_status cpu_rms_norm(lm_backend *b, const float *x, const float *w, float eps, int64_t m, int64_t n, float *y,
                              lm_error *err) {
    (void)err;
    rows_job j = {cpu_of(b), x, w, eps, y, m, n, rows_per_task(n)};
    lm_pool_run(j.c->pool, (m + j.rows - 1) / j.rows, run_rms_norm, &j);
    return LM_OK;
}

static void run_swiglu(void *context, int64_t task, int worker) {
    rows_job *j = context;
    (void)worker;
    for (int64_t i = task * j->rows; i < (task + 1) * j->rows && i < j->m; i++)
        j->c->row->swiglu(j->x + i * j->n, j->w + i * j->n, j->n, j->y + i * j->n);
}

static lm_status cpu_swiglu(lm_backend *b, const float *gate, const float *up, int64_t m, int64_t n, float *y,
                            lm_error *err) {
    (void)err;
    rows_job j = {cpu_of(b), gate, up, 0, y, m, n, rows_per_task(n)};
    lm_pool_run(j.c->pool, (m + j.rows - 1) / j.rows, run_swiglu, &j);
    return LM_OK;
}

static void run_add(void *context, int64_t task, int worker) {
    rows_job *j = context;
    (void)worker;
    for (int64_t i = task * j->rows; i < (task + 1) * j->rows && i < j->m; i++)
        j->c->row->add(j->y + i * j->n, j->x + i * j->n, j->n);
}

static lm_status cpu_add(lm_backend *b, float *x, const float *y, int64_t m, int64_t n, lm_error *err) {
    (void)err;
    rows_job j = {cpu_of(b), y, NULL, 0, x, m, n, rows_per_task(n)};
    lm_pool_run(j.c->pool, (m + j.rows - 1) / j.rows, run_add, &j);
    return LM_OK;
}

static lm_status cpu_gather(lm_backend *b, const float *x, int64_t n, const int64_t *rows, int64_t m, float *y,
                            lm_error *err) {
    (void)b, (void)err;
    for (int64_t i = 0; i < m; i++)
        if (y + i * n != x + rows[i] * n) memcpy(y + i * n, x + rows[i] * n, (size_t)n * sizeof(float));
    return LM_OK;
}

/* ---------------------------------------------------------------- sampling */

static float top_gap(const lm_row_impl *row, const float *logits, int64_t vocab) {
    int64_t best = row->argmax(logits, vocab);
    float second = -3.4e38f;
    if (best > 0) second = logits[row->argmax(logits, best)];
    if (best + 1 < vocab) {
        float right = logits[best + 1 + row->argmax(logits + best + 1, vocab - best - 1)];
        if (right > second) second = right;
    }
    return logits[best] - second;
}

static lm_status sample_one(const cpu_backend *c, const float *logits, int64_t vocab, const lm_sample_item *it,
                            lm_error *err) {
    if (it->logits) memcpy(it->logits, logits, (size_t)vocab * sizeof(float));
    if (it->target_logprob) {
        float max, sum;
        c->row->logsumexp(logits, vocab, &max, &sum);
        *it->target_logprob = (float)((double)logits[it->target] - (double)max - log((double)sum));
    }
    if (it->top_gap) *it->top_gap = top_gap(c->row, logits, vocab);
    if (!it->sampler) return LM_OK;
    if (it->sampler->temp == 0.0f && !it->logprob) { /* argmax needs no distribution */
        *it->id = (int32_t)c->row->argmax(logits, vocab);
        return LM_OK;
    }
    return lm_sample_row(it->sampler, logits, vocab, it->id, it->logprob, err);
}

static lm_status cpu_sample(lm_backend *b, const float *logits, int64_t vocab, const lm_sample_item *items, int64_t n,
                            lm_error *err) {
    cpu_backend *c = cpu_of(b);
    for (int64_t i = 0; i < n; i++) LM_TRY(sample_one(c, logits + items[i].row * vocab, vocab, &items[i], err));
    return LM_OK;
}

/* ---------------------------------------------------------------- life */

static void cpu_destroy(lm_backend *b) {
    cpu_backend *c = cpu_of(b);
    cpu_release(b, LM_MEM_SCRATCH, c->prep.data, c->prep.bytes);
    cpu_release(b, LM_MEM_SCRATCH, c->shared.data, c->shared.bytes);
    cpu_release(b, LM_MEM_SCRATCH, c->routing.data, c->routing.bytes);
    cpu_release(b, LM_MEM_SCRATCH, c->worker.data, c->worker.bytes);
    lm_pool_destroy(c->pool);
    free(c->ahead);
    free(c->lanes);
    free(c);
}

static const lm_kernel_row *select_row(const cpu_backend *c, lm_op op, lm_format format) {
    return lm_kernel_select(op, format, LM_LAYOUT_MLX, c->numerics, c->flags);
}

static const void *select_impl(const cpu_backend *c, lm_op op, lm_format format) {
    const lm_kernel_row *row = select_row(c, op, format);
    return row ? row->impl : NULL;
}

/* The MATMAT row for any number of rows. */
static const lm_kernel_row *any_rows(const cpu_backend *c, lm_format format, lm_numerics loosest) {
    const lm_kernel_row *best = lm_kernel_select(LM_OP_MATMAT, format, LM_LAYOUT_MLX, loosest, c->flags);
    if (!best || !((const lm_linear_impl *)best->impl)->from_rows) return best;
    size_t n;
    const lm_kernel_row *rows = lm_kernel_rows(&n);
    best = NULL;
    for (const lm_kernel_row *row = rows; row < rows + n; row++)
        if (row->op == LM_OP_MATMAT && row->format == format && row->layout == LM_LAYOUT_MLX &&
            !(row->needs & ~c->flags) && row->numerics <= loosest && (!best || row->rank > best->rank) &&
            !((const lm_linear_impl *)row->impl)->from_rows)
            best = row;
    return best;
}

/* Up to how many rows a product is faster by MATVEC, by the classes of the two kernels (docs/speed/cpu.md). MATMAT,
 * which unpacks weights into panels first, begins late beside a MATVEC row on bytes if it computes in float32 (dotprod
 * without i8mm), and sooner if its panels are bytes too (i8mm). Elsewhere there is a MATMAT row as quick to begin. */
#define ROWS_ONE_PASS 4 /* what MATVEC takes at once */
#define ROWS_BYTES 7
#define ROWS_BYTES_F32 28
/* ... and by the MATMAT row on bytes, where the class lets vdpbf16ps be chosen for many rows */
#define ROWS_PANELS_OF_BYTES 32

static int matvec_rows(const cpu_backend *c, lm_format format) {
    const lm_kernel_row *vec = select_row(c, LM_OP_MATVEC, format), *mat = select_row(c, LM_OP_MATMAT, format);
    if (!vec || !mat) return ROWS_ONE_PASS;
    if (vec->numerics == LM_NUMERICS_F32 || mat->needs == LM_CPU_VNNI || mat->needs == LM_CPU_AMX || c->few[format])
        return ROWS_ONE_PASS;
    return mat->numerics == LM_NUMERICS_F16 ? ROWS_BYTES : ROWS_BYTES_F32;
}

/* The MATMAT row for a few rows beside one of class BF16, or one for many rows only: bytes are unpacked several times
 * faster. NULL: none. */
static const lm_linear_impl *few_impl(const cpu_backend *c, lm_format format) {
    const lm_kernel_row *mat = select_row(c, LM_OP_MATMAT, format);
    const bool many = mat && ((const lm_linear_impl *)mat->impl)->from_rows;
    if (!mat || (mat->numerics != LM_NUMERICS_BF16 && !many) || !lm_format_is_affine(format)) return NULL;
    const lm_kernel_row *row = any_rows(c, format, LM_NUMERICS_F16);
    return row && (row->numerics == LM_NUMERICS_F16 || many) ? row->impl : NULL;
}

/* Up to how many rows that one is the faster one. */
static int few_rows(const cpu_backend *c, lm_format format) {
    const lm_linear_impl *mat = select_impl(c, LM_OP_MATMAT, format);
    return !c->few[format] ? 0 : mat->from_rows ? mat->from_rows - 1 : ROWS_PANELS_OF_BYTES;
}

/* The one MATMAT row of a batch-invariant back end serves decoding too: bytes unpack twice as fast as bfloat16 panels
 * and lose a tenth of the speed where rows are many. Tiles lead by too much for that. */
static const lm_linear_impl *invariant_impl(const cpu_backend *c, lm_format format) {
    const lm_kernel_row *row = any_rows(c, format, c->numerics);
    if (row && row->needs == LM_CPU_BF16 && lm_format_is_affine(format)) row = any_rows(c, format, LM_NUMERICS_F16);
    return row ? row->impl : NULL;
}

int lm_backend_threads(const lm_backend *b) {
    return ((const cpu_backend *)b)->threads;
}

static lm_status workers_create(cpu_backend *c, lm_error *err) {
    const size_t n = (size_t)c->threads, ahead = n * sizeof *c->ahead, lanes = 2 * n * sizeof *c->lanes;
    void *a = NULL, *l = NULL;
    if (posix_memalign(&a, 64, ahead) || posix_memalign(&l, 64, lanes)) {
        free(a);
        return lm_fail_nomem(err, ahead + lanes, "threads");
    }
    c->ahead = memset(a, 0, ahead);
    c->lanes = memset(l, 0, lanes);
    lm_pool_set_idle(c->pool, cpu_ahead_look, c);
    return LM_OK;
}

lm_status lm_backend_cpu_create(const lm_backend_options *options, lm_backend **out, lm_error *err) {
    *out = NULL;
    cpu_backend *c = calloc(1, sizeof *c);
    if (!c) return lm_fail_nomem(err, sizeof *c, "back end");
    lm_status s = lm_pool_create(options->threads, &c->pool, err);
    if (s != LM_OK) {
        free(c);
        return s;
    }
    if (options->pin_threads) (void)lm_pool_pin(c->pool);
    c->threads = lm_pool_threads(c->pool);
    s = workers_create(c, err);
    if (s != LM_OK) {
        lm_pool_destroy(c->pool);
        free(c);
        return s;
    }
    c->flags = lm_cpu_flags();
    c->numerics = options->numerics;
    c->batch_invariant = options->batch_invariant;
    for (int f = 0; f < LM_FORMAT_COUNT; f++) {
        c->matvec[f] = select_impl(c, LM_OP_MATVEC, (lm_format)f);
        c->matmat[f] =
            c->batch_invariant ? invariant_impl(c, (lm_format)f) : select_impl(c, LM_OP_MATMAT, (lm_format)f);
        c->few[f] = few_impl(c, (lm_format)f);
        c->few_rows[f] = few_rows(c, (lm_format)f);
        c->matvec_rows[f] = matvec_rows(c, (lm_format)f);
        c->attn[f] = select_impl(c, LM_OP_ATTN, (lm_format)f);
        const lm_kernel_row *few = lm_kernel_select(LM_OP_ATTN, (lm_format)f, LM_LAYOUT_MLX, LM_NUMERICS_F32, c->flags);
        c->attn_few[f] = few ? few->impl : NULL;
        c->attnq[f] = select_impl(c, LM_OP_ATTNQ, (lm_format)f);
        c->kv[f] = select_impl(c, LM_OP_KV, (lm_format)f);
    }
    c->row = select_impl(c, LM_OP_ROW, LM_FORMAT_F32);
    c->base = (lm_backend){.name = "cpu",
                           .limit = options->limit,
                           .destroy = cpu_destroy,
                           .alloc = cpu_alloc,
                           .release = cpu_release,
                           .copy = cpu_copy,
                           .embed = cpu_embed,
                           .rms_norm = cpu_rms_norm,
                           .linear = cpu_linear,
                           .linear_next = cpu_linear_next,
                           .q_norm_rope = cpu_q_norm_rope,
                           .kv_store = cpu_kv_store,
                           .kv_quantize = cpu_kv_quantize,
                           .attention = cpu_attention,
                           .swiglu = cpu_swiglu,
                           .add = cpu_add,
                           .gather = cpu_gather,
                           .moe = cpu_moe,
                           .sample = cpu_sample,
                           .profile = cpu_profile,
                           .stages = cpu_stages};
    c->ops = c->base;
    *out = &c->base;
    return LM_OK;
}
