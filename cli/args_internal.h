/* SPDX-License-Identifier: MIT
 * args_internal.h: what args.c (parsing) and args_help.c (usage and help texts) share. Nobody else includes it. */
#ifndef LM_CLI_ARGS_INTERNAL_H
#define LM_CLI_ARGS_INTERNAL_H
#include "args.h"
#include <stdio.h>

/** "--prompt-tokens/-p", as argparse names an option in its errors. */
void args_display_name(const arg_spec *spec, char *text, size_t size);
void args_print_usage(FILE *f, const char *prog, const arg_spec *specs);
void args_print_help(FILE *f, const char *prog, const char *description, const arg_spec *specs);
#endif
