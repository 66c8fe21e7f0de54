/* SPDX-License-Identifier: MIT
 * test_kl_table.c: how far the default numerics of every golden checkpoint are from mlx-lm's float32 reference, for
 * every instruction set that this processor has, against the committed figures of kl_table.txt: none may get worse.
 *
 *     golden_kl_table            the test
 *     golden_kl_table --write    measures anew; rows of instruction sets that aren't here stay as they are */
#include "base/cpu.h"
#include "golden_case.h"

#ifndef LM_KL_TABLE
#define LM_KL_TABLE ""
#endif
#define MAX_ROWS 1024
/* A mean over some dozens of positions moves when sums are formed in another order: measured between rows of equal
 * precision, up to 8 %. */
#define MARGIN 1.10
#define LEAST 1e-8 /* below this, differences are the reference's own rounding */

typedef struct table_row {
    char level[16], checkpoint[96];
    double prompt, decode, own; /* mean KL in nats: all ids in one step, one by one; mlx-lm's own */
} table_row;

typedef struct table {
    table_row rows[MAX_ROWS];
    int n;
} table;

static const struct {
    const char *name;
    uint32_t needs;
} levels[] = {{"scalar", 0},
              {"avx2", LM_CPU_AVX2},
              {"avx512", LM_CPU_AVX2 | LM_CPU_AVX512},
              {"vnni", LM_CPU_AVX2 | LM_CPU_AVX512 | LM_CPU_VNNI},
              {"bf16", LM_CPU_AVX2 | LM_CPU_AVX512 | LM_CPU_VNNI | LM_CPU_BF16},
              {"amx", LM_CPU_AVX2 | LM_CPU_AVX512 | LM_CPU_VNNI | LM_CPU_BF16 | LM_CPU_AMX},
              {"neon", LM_CPU_NEON},
              {"dotprod", LM_CPU_NEON | LM_CPU_DOTPROD},
              {"i8mm", LM_CPU_NEON | LM_CPU_DOTPROD | LM_CPU_I8MM}};
#define N_LEVELS (sizeof levels / sizeof *levels)

static table committed, measured;
static const char *level;

static bool runs_here(size_t l) {
    return (lm_cpu_detect() & levels[l].needs) == levels[l].needs;
}

static double mean_kl(const golden_case *c, const float *logits) {
    double mean = 0;
    for (int64_t i = 0; i < c->t; i++)
        mean += golden_kl(c->reference + i * c->vocab, logits + i * c->vocab, c->vocab) / (double)c->t;
    return mean;
}

static void measure_case(golden_case *c) {
    float *logits = new_logits(c);
    table_row *r = &measured.rows[measured.n++];
    assert_true(measured.n < MAX_ROWS);
    snprintf(r->level, sizeof r->level, "%s", level);
    snprintf(r->checkpoint, sizeof r->checkpoint, "%.30s/%.60s", c->family, c->variant);
    lm_engine_options o = lm_engine_options_default();
    lm_engine *e = engine_open(c, &o);
    logits_of(e, c, 0, logits);
    r->prompt = mean_kl(c, logits);
    logits_of(e, c, 1, logits);
    r->decode = mean_kl(c, logits);
    r->own = mean_kl(c, c->own);
    lm_engine_close(e);
    free(logits);
}

static void measure_level(size_t l) {
    level = levels[l].name;
    lm_cpu_set_mask(levels[l].needs);
    for_each_case(measure_case);
    lm_cpu_set_mask(~0u);
}

static void read_table(void) {
    char line[256];
    FILE *f = fopen(LM_KL_TABLE, "r");
    committed.n = 0;
    if (!f) return;
    while (fgets(line, sizeof line, f)) {
        table_row *r = &committed.rows[committed.n];
        if (line[0] == '#') continue;
        if (sscanf(line, "%15s %95s %lf %lf %lf", r->level, r->checkpoint, &r->prompt, &r->decode, &r->own) != 5)
            fail_msg("%s: expected LEVEL CHECKPOINT and three numbers, found %s", LM_KL_TABLE, line);
        if (++committed.n == MAX_ROWS) fail_msg("%s: %d rows and more", LM_KL_TABLE, MAX_ROWS);
    }
    fclose(f);
}

static const table_row *find(const table *t, const char *of_level, const char *checkpoint) {
    for (int i = 0; i < t->n; i++)
        if (!strcmp(t->rows[i].level, of_level) && !strcmp(t->rows[i].checkpoint, checkpoint)) return &t->rows[i];
    return NULL;
}

/* ---------------------------------------------------------------- the test */

static int worse(const table_row *found, const char *what, double value, double allowed) {
    if (value <= allowed * MARGIN + LEAST) return 0;
    printf("%s, %s, %s: KL %.3g, expected at most %.3g (the table's %.3g and a tenth)\n", found->level,
           found->checkpoint, what, value, allowed * MARGIN, allowed);
    return 1;
}

static void test_table(void **state) {
    (void)state;
    int bad = 0, compared = 0;
    read_table();
    assert_true(committed.n > 0);
    for (size_t l = 0; l < N_LEVELS; l++)
        if (runs_here(l)) measure_level(l);
    for (int i = 0; i < measured.n; i++) {
        const table_row *m = &measured.rows[i], *t = find(&committed, m->level, m->checkpoint);
        if (!t && find(&committed, m->level, measured.rows[0].checkpoint)) {
            printf("%s, %s: not in the table\n", m->level, m->checkpoint);
            bad++;
        }
        if (!t) continue; /* an instruction set nobody has measured yet */
        bad += worse(m, "prompt", m->prompt, t->prompt) + worse(m, "token by token", m->decode, t->decode);
        compared++;
    }
    printf("%d of %d figures compared\n", compared, measured.n);
    assert_true(compared > 0);
    assert_int_equal(bad, 0);
}

/* ---------------------------------------------------------------- writing */

static int by_place(const void *a, const void *b) {
    const table_row *x = a, *y = b;
    size_t i = 0, j = 0;
    while (i < N_LEVELS && strcmp(levels[i].name, x->level) != 0) i++;
    while (j < N_LEVELS && strcmp(levels[j].name, y->level) != 0) j++;
    return i != j ? (i > j) - (i < j) : strcmp(x->checkpoint, y->checkpoint);
}

static int write_table(void) {
    read_table();
    for (size_t l = 0; l < N_LEVELS; l++)
        if (runs_here(l)) measure_level(l);
    for (int i = 0; i < committed.n; i++) {
        bool here = false;
        for (size_t l = 0; l < N_LEVELS; l++) here |= runs_here(l) && !strcmp(levels[l].name, committed.rows[i].level);
        if (!here) measured.rows[measured.n++] = committed.rows[i];
    }
    qsort(measured.rows, (size_t)measured.n, sizeof *measured.rows, by_place);
    FILE *f = fopen(LM_KL_TABLE, "w");
    if (!f) return perror(LM_KL_TABLE), 1;
    fprintf(f, "# KL divergence in nats of each golden checkpoint's logits from mlx-lm's in float32, mean over the "
               "positions of "
               "its prompt,\n# default numerics: the prompt in one step, token by token; beside it mlx-lm's own class. "
               "Made by `golden_kl_table --write`.\n# instruction set, checkpoint, prompt, token by token, mlx-lm\n");
    for (int i = 0; i < measured.n; i++) {
        const table_row *r = &measured.rows[i];
        fprintf(f, "%-7s %-36s %.3e %.3e %.3e\n", r->level, r->checkpoint, r->prompt, r->decode, r->own);
    }
    return fclose(f) ? perror(LM_KL_TABLE), 1 : 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "--write")) return write_table();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
