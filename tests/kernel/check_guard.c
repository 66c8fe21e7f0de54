/* SPDX-License-Identifier: MIT
 *
 * check_guard.c: calls that may crash or that must not depend on how they are split: check_run and the linear helpers.
 * The guarded call lives in a function of its own: nothing that sigsetjmp could clobber is in scope there. */
#include "check.h"
#include <setjmp.h>
#include <signal.h>
#include <string.h>

static sigjmp_buf landing;
static volatile sig_atomic_t guarding;
static const int caught[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
#define N_CAUGHT (sizeof caught / sizeof caught[0])

static void on_crash(int number) {
    if (!guarding) { /* not ours: let it be fatal */
        signal(number, SIG_DFL);
        return;
    }
    siglongjmp(landing, number);
}

static int guarded_call(void (*fn)(void *), void *arg) {
    int number = sigsetjmp(landing, 1);
    if (number) return number;
    guarding = 1;
    fn(arg);
    return 0;
}

bool check_run(check *c, void (*fn)(void *), void *arg) {
    struct sigaction action = {0}, before[N_CAUGHT];
    action.sa_handler = on_crash;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < N_CAUGHT; i++) sigaction(caught[i], &action, &before[i]);
    int number = guarded_call(fn, arg);
    guarding = 0;
    for (size_t i = 0; i < N_CAUGHT; i++) sigaction(caught[i], &before[i], NULL);
    if (number) check_fail(c, "crashed: %s", strsignal(number));
    return number == 0;
}

/* ---------------------------------------------------------------- linear rows */

typedef struct linear_job {
    const lm_linear_impl *impl;
    const lm_weight *w;
    const float *x;
    float *y;
    void *xp, *scratch;
    int64_t ldx, ldy, m, step;
} linear_job;

static void run_linear(void *arg) {
    const linear_job *j = arg;
    const int64_t unit = j->impl->m_step > 0 ? j->impl->m_step : 1, n = j->w->n;
    if (j->step) /* as several threads would: the last rows first */
        for (int64_t m0 = (j->m - 1) / unit * unit; m0 >= 0; m0 -= unit)
            j->impl->prep(j->w, j->x, j->ldx, m0, m0 + unit < j->m ? m0 + unit : j->m, j->m, j->xp);
    else
        j->impl->prep(j->w, j->x, j->ldx, 0, j->m, j->m, j->xp);
    const int64_t step = j->step ? j->step : n;
    for (int64_t n0 = 0; n0 < n; n0 += step)
        j->impl->run(j->w, j->xp, j->m, n0, n0 + step < n ? n0 + step : n, j->y, j->ldy, j->scratch);
}

bool check_linear_call(check *c, const lm_linear_impl *impl, const lm_weight *w, const float *x, int64_t ldx, int64_t m,
                       int64_t step, float *y, int64_t ldy) {
    linear_job j = {impl, w, x, y, NULL, NULL, ldx, ldy, m, step};
    j.xp = check_aligned(c, impl->prep_bytes(w, m));
    j.scratch = check_aligned(c, impl->scratch_bytes(w, m));
    return check_run(c, run_linear, &j);
}

void check_linear_invariant(check *c, const lm_linear_impl *impl, const lm_weight *w, const float *x, int64_t ldx,
                            int64_t m) {
    const size_t row = (size_t)w->n * sizeof(float);
    float *whole = check_aligned(c, row * (size_t)m), *other = check_aligned(c, row * (size_t)m);
    float *mixed = check_aligned(c, (size_t)(m * ldx) * sizeof(float));
    if (!check_linear_call(c, impl, w, x, ldx, m, 0, whole, w->n)) return;
    for (int64_t step = impl->n_step; step < w->n; step *= 3) {
        memset(other, 0xff, row * (size_t)m);
        if (!check_linear_call(c, impl, w, x, ldx, m, step, other, w->n)) return;
        check_bits(c, "outputs split by columns and rows", other, whole, row * (size_t)m);
    }
    for (int64_t i = 0; i < m; i++) { /* each row alone */
        memset(other, 0xff, row);
        if (!check_linear_call(c, impl, w, x + i * ldx, ldx, 1, 0, other, w->n)) return;
        check_bits(c, "a row alone", other, whole + i * w->n, row);
    }
    for (int64_t size = 2; size <= m; size += size < 9 ? 1 : 7) { /* fewer rows, turned round */
        for (int64_t i = 0; i < size; i++) memcpy(mixed + i * ldx, x + (m - 1 - i) * ldx, (size_t)w->k * sizeof(float));
        memset(other, 0xff, row * (size_t)size);
        if (!check_linear_call(c, impl, w, mixed, ldx, size, 0, other, w->n)) return;
        for (int64_t i = 0; i < size; i++)
            check_bits(c, "a row at another place among others", other + i * w->n, whole + (m - 1 - i) * w->n, row);
    }
    check_frames(c);
}
