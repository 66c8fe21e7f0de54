/* SPDX-License-Identifier: MIT
 * test_linear.c: every linear row that this processor can run against the scalar row: shapes with tails, odd addresses,
 * canaries around the output, and the same bits for a row whatever M, its place and the split of N. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../kernel/linear_case.h"

static const struct {
    int64_t m, n, k;
} shapes[] = {{1, 1, 128},   {1, 16, 128},    {2, 17, 256},  {3, 33, 384}, {5, 70, 640},
              {13, 40, 896}, {29, 131, 1152}, {4, 48, 2560}, {1, 9, 9728}};

/* Few ulps of what was summed. An honest chain of additions over the smallest K here uses up to 1.4 of it, over a
 * model's K below 0.7; a wrong weight or a lost input shows as thousands. */
static double tolerance(const lm_kernel_row *row) {
    return row->numerics == LM_NUMERICS_F32 ? 2.0 : 0x1p15;
}

static void check_row(const lm_kernel_row *row, int group, lm_dtype type, size_t s, double *worst) {
    const lm_linear_impl *impl = row->impl;
    int64_t k = shapes[s].k;
    if (!lm_format_is_affine(row->format) && s % 2) k -= 32 - 7; /* float formats: any K */
    if (group == 32 && s) k -= 32;
    linear_case c = linear_make(row->format, group, type, shapes[s].m, shapes[s].n, k, (int)(s % 4));
    float *ref = linear_aligned((size_t)(c.m * c.ldy) * 4);
    for (int64_t i = 0; i < c.m * c.ldy; i++) c.y[i] = 1234.5f;
    linear_run(&lm_linear__scalar, &c, c.x, c.m, ref, 1);
    linear_run(impl, &c, c.x, c.m, c.y, 1);
    double e = linear_error(&c, c.y, ref);
    if (!(e <= *worst)) *worst = e;
    for (int64_t i = 0; i < c.m * c.ldy; i++)
        if (i % c.ldy >= c.w.n && c.y[i] != 1234.5f) fail_msg("%s wrote past the end", row->name);
    /* each row alone, and N in pieces: equal bits */
    for (int64_t i = 0; i < c.m; i++) {
        memset(ref, 0, (size_t)c.ldy * 4);
        linear_run(impl, &c, c.x + i * c.ldx, 1, ref, 3);
        if (memcmp(ref, c.y + i * c.ldy, (size_t)c.w.n * 4)) fail_msg("%s: row %d differs alone", row->name, (int)i);
    }
    free(ref);
    linear_free(&c);
}

static void every_row(void **state) {
    (void)state;
    static const int groups[] = {32, 64, 128};
    static const lm_dtype types[] = {LM_DTYPE_F16, LM_DTYPE_BF16, LM_DTYPE_F32};
    for (size_t r = 0; r < N_LINEAR_ROWS; r++) {
        const lm_kernel_row *row = &linear_rows[r];
        if (row->needs & ~lm_cpu_flags()) continue;
        double worst = 0;
        bool affine = lm_format_is_affine(row->format);
        for (int g = 0; g < (affine ? 3 : 1); g++)
            for (int t = 0; t < (affine ? 3 : 1); t++)
                for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
                    check_row(row, groups[g], types[t], s, &worst);
        printf("%-8s %-28s worst error %6.1f %% of 2^-23 sum|wx|\n", lm_format_name(row->format), row->name,
               100 * worst);
        fflush(stdout);
        if (!(worst <= tolerance(row))) fail_msg("%s is too far off", row->name);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_row)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
