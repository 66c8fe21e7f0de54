/* SPDX-License-Identifier: MIT
 *
 * select.c: the kernel table as data, the choice among its rows, and how both are told to the outside. Compiled plain:
 * it only compares flags. */
#include "kernels/rows.h"
#include <stdio.h>
#include <string.h>

static const lm_kernel_row rows[] = {
#define KERNEL(op, format, symbol, needs, layout, numerics, rank) \
    {LM_OP_##op, LM_FORMAT_##format, #symbol, &(symbol), (needs), LM_LAYOUT_##layout, LM_NUMERICS_##numerics, (rank)},
#include "kernels/kernels.def"
};
#define N_ROWS (sizeof rows / sizeof rows[0])

const lm_kernel_row *lm_kernel_rows(size_t *count) {
    *count = N_ROWS;
    return rows;
}

const lm_kernel_row *lm_kernel_select(lm_op op, lm_format format, lm_layout layout, lm_numerics loosest, uint32_t cpu) {
    const lm_kernel_row *best = NULL;
    if (loosest == LM_NUMERICS_AUTO) loosest = LM_NUMERICS_F32; /* nobody decided: the tightest class */
    for (const lm_kernel_row *row = rows; row < rows + N_ROWS; row++) {
        if (row->op != op || row->format != format || row->layout != layout) continue;
        if ((row->needs & ~cpu) || row->numerics > loosest) continue;
        if (!best || row->rank > best->rank) best = row;
    }
    return best;
}

static const char *const op_names[LM_OP_COUNT] = {"matvec", "matmat", "attn", "attnq", "row", "kv", "quant"};
static const char *const layout_names[LM_LAYOUT_COUNT] = {"mlx"};
static const char *const numerics_names[] = {"auto", "f32", "f16", "bf16", "int8"};

/* A row's profiles as text that lives as long as the program. Every combination in use is named by its highest member:
 * lower levels are implied. */
static const char *needs_text(uint32_t needs) {
    static const struct {
        const char *text;
        uint32_t flag;
    } levels[] = {
#define LM_X(name, text, bit) {text, 1u << (bit)},
        LM_CPU_MAP(LM_X)
#undef LM_X
    };
    for (size_t i = sizeof levels / sizeof levels[0]; i-- > 0;)
        if (needs & levels[i].flag) return levels[i].text;
    return "-";
}

bool lm_kernel_get_info(size_t index, lm_kernel_info *info) {
    if (index >= N_ROWS || !info) return false;
    const lm_kernel_row *row = &rows[index];
    info->op = op_names[row->op];
    info->format = lm_format_name(row->format);
    info->name = row->name;
    info->needs = needs_text(row->needs);
    info->layout = layout_names[row->layout];
    info->numerics = numerics_names[row->numerics];
    info->rank = row->rank;
    info->runnable = !(row->needs & ~lm_cpu_flags());
    info->chosen = NULL;
    for (int class = LM_NUMERICS_F32; class <= LM_NUMERICS_INT8 && !info->chosen; class ++)
        if (lm_kernel_select(row->op, row->format, row->layout, (lm_numerics) class, lm_cpu_flags()) == row)
            info->chosen = numerics_names[class];
    return true;
}

const char *lm_cpu_description(void) {
    /* Written once per thread: no lock, and the text stays valid while the thread lives. */
    static _Thread_local char text[400];
    char name[64], use[96], all[96];
    uint32_t flags = lm_cpu_flags(), detected = lm_cpu_detect();
    const char *unknown = lm_cpu_mask_known() ? "" : " (LM_CPU has a word that is no level here)";
    lm_cpu_name(name, sizeof name);
    lm_cpu_flags_text(flags, use, sizeof use);
    lm_cpu_flags_text(detected, all, sizeof all);
    if (flags == detected)
        snprintf(text, sizeof text, "%s; using %s%s", name, use, unknown);
    else
        snprintf(text, sizeof text, "%s; using %s (LM_CPU; it has %s)%s", name, use, all, unknown);
    return text;
}
