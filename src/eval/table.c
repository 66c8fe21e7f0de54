/* SPDX-License-Identifier: MIT
 * table.c: lm-eval's markdown table (its make_table), cell for cell. A column whose cells all read as numbers is right
 * aligned and shows as many decimals as its longest cell needs; any other column is left aligned. Headers are centred.
 */
#include "report.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 9
#define CELL 96
enum { COL_NAME, COL_VERSION, COL_FILTER, COL_SHOTS, COL_METRIC, COL_ARROW, COL_VALUE, COL_SIGN, COL_STDERR };

typedef struct cell_row {
    char cell[COLUMNS][CELL];
} cell_row;

static size_t width_of(const char *text) { /* characters: every one of ours is one column wide */
    size_t n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

/* True for [-]digits[.digits]; *decimals are those that remain without trailing zeros. */
static bool is_number(const char *text, size_t *decimals) {
    const char *s = text + (*text == '-');
    size_t whole = strspn(s, "0123456789");
    s += whole;
    *decimals = 0;
    if (*s == '.') {
        size_t n = strspn(s + 1, "0123456789");
        for (size_t i = 1; i <= n; i++)
            if (s[i] != '0') *decimals = i;
        s += n + 1;
    }
    return whole > 0 && !*s;
}

/* Zeros at the end come and go until there are `decimals` of them. */
static void set_decimals(char *cell, size_t decimals) {
    size_t n = strlen(cell), whole = strcspn(cell, ".");
    if (decimals && n == whole) cell[n++] = '.';
    for (; decimals && n < whole + 1 + decimals && n < CELL - 1; n++) cell[n] = '0';
    cell[decimals ? whole + 1 + decimals : whole] = 0;
}

/* Rewrites a numeric column with the same decimals everywhere; false for a column of text. */
static bool align_numbers(cell_row *rows, size_t n, int column) {
    size_t most = 0, decimals = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_number(rows[i].cell[column], &decimals)) return false;
        if (decimals > most) most = decimals;
    }
    for (size_t i = 0; i < n; i++) set_decimals(rows[i].cell[column], most);
    return n > 0;
}

static void add_padding(lm_ev_buf *out, size_t n, char c) {
    for (size_t i = 0; i < n; i++) lm_ev_buf_add(out, &c, 1);
}

static void add_table(lm_ev_buf *out, const char *first, cell_row *rows, size_t n) {
    const char *headers[COLUMNS] = {first, "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"};
    bool number[COLUMNS];
    size_t width[COLUMNS];
    for (int c = 0; c < COLUMNS; c++) {
        number[c] = align_numbers(rows, n, c);
        width[c] = width_of(headers[c]);
        for (size_t i = 0; i < n; i++)
            if (width_of(rows[i].cell[c]) > width[c]) width[c] = width_of(rows[i].cell[c]);
        if (width[c] < 3) width[c] = 3;
        size_t pad = width[c] - width_of(headers[c]);
        lm_ev_buf_text(out, "|");
        add_padding(out, pad / 2, ' ');
        lm_ev_buf_text(out, headers[c]);
        add_padding(out, pad - pad / 2, ' ');
    }
    lm_ev_buf_text(out, "|\n");
    for (int c = 0; c < COLUMNS; c++) {
        lm_ev_buf_text(out, "|");
        add_padding(out, width[c] - number[c], '-');
        if (number[c]) lm_ev_buf_text(out, ":");
    }
    lm_ev_buf_text(out, "|\n");
    for (size_t i = 0; i < n; i++) {
        for (int c = 0; c < COLUMNS; c++) {
            size_t pad = width[c] - width_of(rows[i].cell[c]);
            lm_ev_buf_text(out, "|");
            add_padding(out, number[c] ? pad : 0, ' ');
            lm_ev_buf_text(out, rows[i].cell[c]);
            add_padding(out, number[c] ? 0 : pad, ' ');
        }
        lm_ev_buf_text(out, "|\n");
    }
}

static void fill_row(cell_row *cells, const lm_ev_row *row, int depth) {
    *cells = (cell_row){0};
    if (depth)
        snprintf(cells->cell[COL_NAME], CELL, "%*s- %s", depth, "", row->alias);
    else
        snprintf(cells->cell[COL_NAME], CELL, "%s", row->alias);
    snprintf(cells->cell[COL_VERSION], CELL, "%s", row->version);
    snprintf(cells->cell[COL_FILTER], CELL, "%s", row->family->filter.name);
    snprintf(cells->cell[COL_SHOTS], CELL, "%lld", (long long)row->shots);
    snprintf(cells->cell[COL_METRIC], CELL, "%s", row->family->metric.name);
    snprintf(cells->cell[COL_ARROW], CELL, "%s",
             row->family->metric.higher_is_better ? "\xe2\x86\x91" : "\xe2\x86\x93");
    lm_ev_format(cells->cell[COL_VALUE], CELL, "%.4f", row->value);
    snprintf(cells->cell[COL_SIGN], CELL, "\xc2\xb1");
    if (row->has_stderr)
        lm_ev_format(cells->cell[COL_STDERR], CELL, "%.4f", row->stderr_value);
    else
        snprintf(cells->cell[COL_STDERR], CELL, "   N/A");
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const lm_ev_row *const *)a)->name, (*(const lm_ev_row *const *)b)->name);
}

/* Groups by name, each followed by its tasks by name, then the tasks that no group has. */
static size_t order_rows(const lm_ev_rows *rows, const lm_ev_row **order, int *depth) {
    const lm_ev_row **groups = order + rows->n_tasks + rows->n_groups, **tasks = groups + rows->n_groups;
    for (size_t i = 0; i < rows->n_groups; i++) groups[i] = &rows->groups[i];
    for (size_t i = 0; i < rows->n_tasks; i++) tasks[i] = &rows->tasks[i];
    qsort(groups, rows->n_groups, sizeof *groups, by_name);
    qsort(tasks, rows->n_tasks, sizeof *tasks, by_name);
    size_t n = 0;
    for (size_t g = 0; g < rows->n_groups; g++) {
        depth[n] = 0;
        order[n++] = groups[g];
        for (size_t i = 0; i < rows->n_tasks; i++)
            if (tasks[i] && lm_ev_in_group(groups[g]->group, tasks[i]->name)) {
                depth[n] = 1;
                order[n++] = tasks[i];
                tasks[i] = NULL;
            }
    }
    for (size_t i = 0; i < rows->n_tasks; i++)
        if (tasks[i]) {
            depth[n] = 0;
            order[n++] = tasks[i];
        }
    return n;
}

lm_status lm_ev_table(const lm_eval *eval, const lm_ev_rows *rows, lm_ev_buf *out, lm_error *err) {
    size_t n = rows->n_tasks + rows->n_groups;
    cell_row *cells = calloc(n + 1, sizeof *cells);
    const lm_ev_row **order = calloc(2 * n + 1, sizeof *order);
    int *depth = calloc(n + 1, sizeof *depth);
    lm_status status = LM_OK;
    if (cells && order && depth) {
        size_t count = order_rows(rows, order, depth);
        for (size_t i = 0; i < count; i++) fill_row(&cells[i], order[i], depth[i]);
        add_table(out, "Tasks", cells, count);
        if (rows->n_groups) {
            for (size_t i = 0; i < rows->n_groups; i++)
                fill_row(&cells[i], order[n + i], 0); /* order_rows left the sorted groups there */
            lm_ev_buf_text(out, "\n");
            add_table(out, "Groups", cells, rows->n_groups);
        }
        lm_ev_buf_format(out, "\nNote: %s.\n", eval->note);
    } else {
        status = lm_ev_fail(err, LM_NOMEM, "out of memory for the table");
    }
    free(cells);
    free(order);
    free(depth);
    return status;
}
