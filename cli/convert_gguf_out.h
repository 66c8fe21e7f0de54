/* SPDX-License-Identifier: MIT
 * convert_gguf_out.h: mlx_lm.convert --gguf-out. */
#ifndef LM_CLI_CONVERT_GGUF_OUT_H
#define LM_CLI_CONVERT_GGUF_OUT_H
#include <stdbool.h>

/** True if --gguf-out is among the arguments: then cmd_convert_gguf_out runs in place of the rest of convert. */
bool convert_wants_gguf_out(int argc, char **argv);
/** Reads the options of --gguf-out and writes the file; returns the exit code. */
int cmd_convert_gguf_out(int argc, char **argv);
#endif
