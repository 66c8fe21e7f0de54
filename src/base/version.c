/* SPDX-License-Identifier: MIT
 * version.c: the version of this library, and of the two programs whose behaviour and formats it reproduces. */
#include "lm/lm.h"

const char *lm_version(void) {
    return "0.1.0";
}
const char *lm_version_mlx_lm(void) {
    return "0.32.2";
}
const char *lm_version_mlx(void) {
    return "0.32.4";
}
