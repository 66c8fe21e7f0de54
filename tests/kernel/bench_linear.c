/* SPDX-License-Identifier: MIT
 * bench_linear.c: speed of the linear rows: best of many runs, against the machine's own roofs, which it measures first
 * (FMA rate of one thread, read bandwidth of all). Weights rotate through more memory than the caches hold.
 *   bench_linear [-t THREADS] [-s SECONDS] [-g GROUP] [-f FORMAT] [-o matvec|matmat] [-r NAME] [-w MIB] [-p GFLOPS]
 *                [M N K]...
 * -r: only rows whose name contains NAME; -w: bytes of weights that rotate; -p: FMA peak of one thread. Results are
 * logged in docs/speed/cpu.md. */
#include "base/clock.h"
#include "base/pool.h"
#include "linear_case.h"
#include <time.h>
#include <unistd.h>

#define POOL_BYTES ((size_t)256 << 20) /* read for the roof */

/* Seconds: of this thread alone where it is the only one, so that a busy machine shows less. */
static double now_seconds(int threads) {
    struct timespec t;
    if (threads > 1 || clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t)) return lm_now_seconds();
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
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

typedef struct roof {
    double gflops, gbytes;
} roof;

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

static void bench_row(const lm_kernel_row *row, lm_pool *pool, int threads, double seconds, int group, size_t rotate,
                      const int64_t *s, roof top) {
    int64_t m = s[0], n = s[1], k = s[2];
    linear_case first = linear_make(row->format, group, LM_DTYPE_F16, m, n, k, 1);
    size_t n_cases = row->op == LM_OP_MATVEC ? rotate / first.w.bytes + 1 : 1;
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
    double gb = (double)first.w.bytes / best * 1e-9, gf = 2.0 * (double)(m * n * k) / best * 1e-9;
    printf("%-7s %-28s g%-3d %5d x %6d x %6d  t%d %9.1f us (prep %4.1f%%) %6.1f GB/s %4.0f%% %7.1f GFLOP/s %4.0f%%\n",
           row->op == LM_OP_MATVEC ? "matvec" : "matmat", row->name, first.w.group, (int)m, (int)n, (int)k, threads,
           best * 1e6, 100 * prep / best, gb, 100 * gb / top.gbytes, gf, 100 * gf / top.gflops);
    fflush(stdout);
    free(j.xp), free(j.scratch);
    for (size_t i = 1; i < n_cases; i++) free(cases[i].memory[0]);
    linear_free(&first);
    free(cases);
}

int main(int argc, char **argv) {
    int threads = 1, group = 32, option;
    size_t rotate = POOL_BYTES;
    double seconds = 0.3, gflops = 118.2;
    const char *name = "", *op = "", *format = "";
    while ((option = getopt(argc, argv, "t:s:g:f:o:r:p:w:")) != -1) switch (option) {
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
    roof top = {gflops * threads, measure_read(pool, 2 * seconds)};
    printf("%d threads; read %.1f GB/s; float32 FMA peak taken as %.1f GFLOP/s\n", threads, top.gbytes, top.gflops);
    static const int64_t shapes[][3] = {
        {1, 576, 576}, {1, 1536, 576}, {1, 9728, 2560}, {4, 1536, 576}, {512, 1536, 576}};
    for (size_t r = 0; r < N_LINEAR_ROWS; r++) {
        const lm_kernel_row *row = &linear_rows[r];
        if ((row->needs & ~lm_cpu_flags()) || !strstr(row->name, name) ||
            !strstr(lm_format_name(row->format), format) ||
            strncmp(op, row->op == LM_OP_MATVEC ? "matvec" : "matmat", strlen(op)) || (!*name && !row->rank))
            continue;
        if (optind + 2 < argc)
            for (int i = optind; i + 2 < argc; i += 3)
                bench_row(row, pool, threads, seconds, group, rotate,
                          (int64_t[]){atoll(argv[i]), atoll(argv[i + 1]), atoll(argv[i + 2])}, top);
        else
            for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
                if (shapes[i][0] < 16 || row->op == LM_OP_MATMAT)
                    bench_row(row, pool, threads, seconds, group, rotate, shapes[i], top);
    }
    lm_pool_destroy(pool);
    return 0;
}
