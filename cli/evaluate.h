/* SPDX-License-Identifier: MIT
 * evaluate.h: what the files of mlx_lm.evaluate share. */
#ifndef LM_CLI_EVALUATE_H
#define LM_CLI_EVALUATE_H
#include "common.h"

/** mlx_lm.evaluate --compare A B …: result folders side by side. Returns the exit code. */
int cli_evaluate_compare(int argc, char **argv);
#endif
