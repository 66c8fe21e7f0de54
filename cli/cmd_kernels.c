/* SPDX-License-Identifier: MIT
 *
 * cmd_kernels.c: `mlx_lm kernels`: the kernel table as this processor sees it: what there is, what runs here under
 * LM_CPU, and which row is used for what. */
#include "args.h"
#include <stdio.h>
#include <string.h>

static void print_table(const char *op, bool used) {
    lm_kernel_info row;
    size_t shown = 0, elsewhere = 0;
    printf("%s\n%s by default\n\n", lm_cpu_description(), lm_topology_description());
    printf("%-7s %-8s %-28s %-7s %-8s %-7s %4s  %-4s %s\n", "op", "format", "kernel", "needs", "numerics", "layout",
           "rank", "runs", "used for");
    for (size_t i = 0; lm_kernel_get_info(i, &row); i++) {
        if (op && strcmp(op, row.op)) continue;
        elsewhere += !row.runnable;
        if (used && !row.chosen) continue;
        shown++;
        printf("%-7s %-8s %-28s %-7s %-8s %-7s %4d  %-4s %s\n", row.op, row.format, row.name, row.needs, row.numerics,
               row.layout, row.rank, row.runnable ? "yes" : "no", row.chosen ? row.chosen : "-");
    }
    printf("\n%zu rows shown%s; %zu need more than this processor or LM_CPU gives\n", shown,
           used ? " (those in use)" : "", elsewhere);
}

/* Every string is one of the library's own names: nothing to escape but the processor's description. */
static void print_string(const char *s) {
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') putchar('\\');
        if ((unsigned char)*s >= 0x20) putchar(*s);
    }
    putchar('"');
}

static void print_field(const char *key, const char *value) {
    printf("\"%s\": ", key);
    if (value)
        print_string(value);
    else
        printf("null");
    printf(", ");
}

static void print_json(const char *op, bool used) {
    lm_kernel_info row;
    size_t shown = 0;
    printf("{\"cpu\": ");
    print_string(lm_cpu_description());
    printf(", \"kernels\": [");
    for (size_t i = 0; lm_kernel_get_info(i, &row); i++) {
        if ((op && strcmp(op, row.op)) || (used && !row.chosen)) continue;
        printf("%s\n  {", shown++ ? "," : "");
        print_field("op", row.op);
        print_field("format", row.format);
        print_field("name", row.name);
        print_field("needs", row.needs);
        print_field("numerics", row.numerics);
        print_field("layout", row.layout);
        print_field("used_for", row.chosen);
        printf("\"rank\": %d, \"runnable\": %s}", row.rank, row.runnable ? "true" : "false");
    }
    printf("\n]}\n");
}

int cmd_kernels(int argc, char **argv) {
    bool used = false, json = false;
    const char *op = NULL;
    const arg_spec specs[] = {
        ARG("--used", ARG_FLAG, &used, "show only the rows in use here"),
        ARG_WITH("--op", ARG_CHOICE, &op, "only this operation", .choices = "matvec|matmat|attn|attnq|row|kv|quant"),
        ARG("--json", ARG_FLAG, &json, "print JSON"),
        {0},
    };
    int code =
        args_parse(argv[0], "List the CPU kernels: what runs on this processor and what is used.", specs, argc, argv);
    if (code >= 0) return code;
    if (json)
        print_json(op, used);
    else
        print_table(op, used);
    return 0;
}
