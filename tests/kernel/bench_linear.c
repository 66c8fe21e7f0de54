/* SPDX-License-Identifier: MIT
 * bench_linear.c: speed of the linear rows: best of many runs, against the machine's own roofs, which it measures first
 * (roof.h; read bandwidth of all threads). Up to FEW_ROWS rows weights rotate through more memory than the
 * caches hold.
 *   bench_linear [-t THREADS] [-s SECONDS] [-g GROUP] [-f FORMAT] [-o matvec|matmat] [-r NAME] [-w MIB] [-p GFLOPS]
 *                [M N K]...
 *   bench_linear --all [-s SECONDS] [-g GROUP] [-r NAME]    a table of every row, one thread, in Markdown
 * -r: only rows whose name contains NAME; -w: bytes of weights that rotate; -p: FMA peak of one thread, instead of
 * measuring it. Results are logged in docs/speed/cpu.md. */
#include "base/pool.h"
#include "linear_case.h"
#include "roof.h"
#include <getopt.h>
#include <time.h>
#include <unistd.h>

#define POOL_BYTES ((size_t)256 << 20) /* of weights that rotate */
#define FEW_ROWS 32

/* Seconds: of this thread alone where it is the only one, so that a busy machine shows less. */
static double now_seconds(int threads) {
    return threads > 1 ? lm_now_seconds() : roof_seconds();
}

typedef struct job {
    const lm_linear_impl *impl;
    linear_case *cases;
    size_t n_cases, at;
    void *xp, *scratch;
    size_t scratch_bytes;
    int64_t m, parts, each;
} job;

static void prep_part(void *context, int64_t item, int worker) {
    job *j = context;
    linear_case *c = &j->cases[j->at];
    int64_t step = j->impl->m_step, steps = (j->m + step - 1) / step, each = (steps + j->parts - 1) / j->parts * step;
    int64_t m0 = item * each, m1 = m0 + each < j->m ? m0 + each : j->m;
    if (m0 < m1) j->impl->prep(&c->w, j->cases[0].x, c->ldx, m0, m1, j->m, j->xp);
    (void)worker;
}

static void run_part(void *context, int64_t item, int worker) {
    job *j = context;
    linear_case *c = &j->cases[j->at];
    int64_t n0 = item * j->each, n1 = n0 + j->each < c->w.n ? n0 + j->each : c->w.n;
    if (n0 < n1)
        j->impl->run(&c->w, j->xp, j->m, n0, n1, j->cases[0].y, c->ldy,
                     (char *)j->scratch + j->scratch_bytes * (size_t)worker);
}

static void read_part(void *context, int64_t item, int worker) {
    const uint64_t *p = (const uint64_t *)context + (size_t)item * (POOL_BYTES / 64 / 8);
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = 0; i < POOL_BYTES / 64 / 8; i += 8)
        a |= p[i] | p[i + 1], b |= p[i + 2] | p[i + 3], c |= p[i + 4] | p[i + 5], d |= p[i + 6] | p[i + 7];
    if ((a | b | c | d) == 12345) printf("%d", worker);
}

static double measure_read(lm_pool *pool, double seconds) {
    uint64_t *p = linear_aligned(POOL_BYTES);
    memset(p, 1, POOL_BYTES);
    double best = 0, end = lm_now_seconds() + seconds;
    while (lm_now_seconds() < end) {
        double t = now_seconds(lm_pool_threads(pool));
        lm_pool_run(pool, 64, read_part, p);
        t = (double)POOL_BYTES / (now_seconds(lm_pool_threads(pool)) - t);
        if (t > best) best = t;
    }
    free(p);
    return best * 1e-9;
}

typedef struct result {
    double seconds, prep, gbytes, gflops; /* a run, its preparation; GB/s of weights, GFLOP/s */
    int group;
} result;

static result measure_row(const lm_kernel_row *row, lm_pool *pool, int threads, double seconds, int group,
                          size_t rotate, const int64_t *s) {
    int64_t m = s[0], n = s[1], k = s[2];
    linear_case first = linear_make(row->format, group, LM_DTYPE_F16, m, n, k, 1);
    size_t n_cases = row->op == LM_OP_MATVEC || m <= FEW_ROWS ? rotate / first.w.bytes + 1 : 1;
    if (n_cases > 200) n_cases = 200;
    linear_case *cases = calloc(n_cases, sizeof *cases);
    if (!cases) abort();
    cases[0] = first;
    for (size_t i = 1; i < n_cases; i++) {
        cases[i] = first;
        size_t bytes = first.w.row_bytes * (size_t)n, scales = first.w.bytes - bytes;
        uint8_t *copy = malloc(first.w.bytes + 1);
        if (!copy) abort();
        memcpy(copy + 1, first.w.data, bytes);
        cases[i].w.data = copy + 1;
        if (scales) {
            const size_t each = first.w.biases ? scales / 2 : scales;
            memcpy(copy + 1 + bytes, first.w.scales, each);
            if (first.w.biases) memcpy(copy + 1 + bytes + each, first.w.biases, each);
            cases[i].w.scales = copy + 1 + bytes, cases[i].w.biases = first.w.biases ? copy + 1 + bytes + each : NULL;
        }
        cases[i].memory[0] = copy;
    }
    job j = {.impl = row->impl, .cases = cases, .n_cases = n_cases, .m = m, .parts = threads};
    j.xp = linear_aligned(j.impl->prep_bytes(&first.w, m) + 64);
    j.scratch_bytes = j.impl->scratch_bytes(&first.w, m);
    j.scratch = linear_aligned(j.scratch_bytes * (size_t)threads + 64);
    int64_t parts = threads == 1 ? 1 : row->op == LM_OP_MATVEC ? threads : 4 * threads;
    j.each = ((n + parts - 1) / parts + j.impl->n_step - 1) / j.impl->n_step * j.impl->n_step;
    double best = 1e9, prep = 1e9, end = lm_now_seconds() + seconds;
    /* a round goes through enough cases that a clock tick and one page fault don't show */
    while (lm_now_seconds() < end) {
        size_t round = n_cases < 20 ? n_cases : 20;
        double t0 = now_seconds(threads), in_prep = 0;
        for (size_t i = 0; i < round; i++) {
            double t = now_seconds(threads);
            j.at = (j.at + 1) % n_cases;
            lm_pool_run(pool, m < 2 * threads ? 1 : threads, prep_part, &j);
            in_prep += now_seconds(threads) - t;
            lm_pool_run(pool, parts, run_part, &j);
        }
        double t = (now_seconds(threads) - t0) / (double)round;
        if (t < best) best = t, prep = in_prep / (double)round;
    }
    const result r = {best, prep, (double)first.w.bytes / best * 1e-9, 2.0 * (double)(m * n * k) / best * 1e-9,
                      first.w.group};
    free(j.xp), free(j.scratch);
    for (size_t i = 1; i < n_cases; i++) free(cases[i].memory[0]);
    linear_free(&first);
    free(cases);
    return r;
}

static void bench_row(const lm_kernel_row *row, lm_pool *pool, int threads, double seconds, int group, size_t rotate,
                      const int64_t *s, const roof *top) {
    const result r = measure_row(row, pool, threads, seconds, group, rotate, s);
    printf("%-7s %-28s g%-3d %5d x %6d x %6d  t%d %9.1f us (prep %4.1f%%) %6.1f GB/s %4.0f%% %7.1f GFLOP/s",
           row->op == LM_OP_MATVEC ? "matvec" : "matmat", row->name, r.group, (int)s[0], (int)s[1], (int)s[2], threads,
           r.seconds * 1e6, 100 * r.prep / r.seconds, r.gbytes, 100 * r.gbytes / top->gbytes, r.gflops);
    const double peak = roof_of(row, top) * threads;
    if (peak > 0) printf(" %4.0f%%", 100 * r.gflops / peak);
    printf("\n");
    fflush(stdout);
}

/* The table's lines of a row: one row of activations, 8 and, MATMAT, 512. Scalar rows: one. */
static void table_row(const lm_kernel_row *row, lm_pool *pool, double seconds, int group, const roof *top) {
    static const int64_t shapes[][3] = {{1, 4096, 2560}, {FEW_ROWS, 4096, 2560}, {512, 4096, 2560}};
    static const char *const names[] = {"1 x 4096 x 2560, from memory", "8 x 4096 x 2560, from memory",
                                        "512 x 4096 x 2560"};
    const int n = !row->rank ? 1 : row->op == LM_OP_MATMAT ? 3 : 2;
    for (int i = 0; i < n; i++) {
        const result r = measure_row(row, pool, 1, seconds, group, POOL_BYTES, shapes[i]);
        roof_line(row, names[i], i < 2 ? r.gbytes : 0, top->gbytes, i ? r.gflops : 0, roof_of(row, top));
    }
}

int main(int argc, char **argv) {
    int threads = 1, group = 32, option;
    size_t rotate = POOL_BYTES;
    double seconds = 0.3, gflops = 0;
    bool all = false;
    static const struct option longs[] = {{"all", no_argument, NULL, 'a'}, {NULL, 0, NULL, 0}};
    const char *name = "", *op = "", *format = "";
    while ((option = getopt_long(argc, argv, "t:s:g:f:o:r:p:w:", longs, NULL)) != -1) switch (option) {
        case 'a': all = true; break;
        case 't': threads = (int)strtol(optarg, NULL, 10); break;
        case 's': seconds = atof(optarg); break;
        case 'g': group = (int)strtol(optarg, NULL, 10); break;
        case 'f': format = optarg; break;
        case 'o': op = optarg; break;
        case 'r': name = optarg; break;
        case 'p': gflops = atof(optarg); break;
        case 'w': rotate = (size_t)(atof(optarg) * 1048576); break;
        default: return 2;
        }
    lm_pool *pool;
    lm_error err;
    if (lm_pool_create(threads, &pool, &err)) return 1;
    roof top = roof_measure(2 * seconds);
    if (all && threads > 1) return fprintf(stderr, "bench_linear: --all measures one thread\n"), 2;
    if (threads > 1) top.gbytes = measure_read(pool, 2 * seconds);
    if (gflops > 0) top.peak[LM_PEAK_F32] = gflops;
    if (all)
        roof_heading(&top);
    else
        printf("%d threads; read %.1f GB/s; of one: float32 %.1f, bf16 %.1f GFLOP/s, int8 %.1f GOP/s\n", threads,
               top.gbytes, top.peak[LM_PEAK_F32], top.peak[LM_PEAK_BF16], top.peak[LM_PEAK_INT8]);
    static const int64_t shapes[][3] = {
        {1, 576, 576}, {1, 1536, 576}, {1, 9728, 2560}, {4, 1536, 576}, {512, 1536, 576}};
    for (size_t r = 0; r < N_LINEAR_ROWS; r++) {
        const lm_kernel_row *row = &linear_rows[r];
        if ((row->needs & ~lm_cpu_flags()) || !strstr(row->name, name) ||
            !strstr(lm_format_name(row->format), format) ||
            strncmp(op, row->op == LM_OP_MATVEC ? "matvec" : "matmat", strlen(op)) || (!*name && !row->rank && !all))
            continue;
        if (all)
            table_row(row, pool, seconds, group, &top);
        else if (optind + 2 < argc)
            for (int i = optind; i + 2 < argc; i += 3)
                bench_row(row, pool, threads, seconds, group, rotate,
                          (int64_t[]){atoll(argv[i]), atoll(argv[i + 1]), atoll(argv[i + 2])}, &top);
        else
            for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
                if (shapes[i][0] < 16 || row->op == LM_OP_MATMAT)
                    bench_row(row, pool, threads, seconds, group, rotate, shapes[i], &top);
    }
    lm_pool_destroy(pool);
    return 0;
}
