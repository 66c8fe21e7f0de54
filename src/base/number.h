/* SPDX-License-Identifier: MIT
 * number.h: numbers and dates in texts that programs and models read, the same whatever locale a program around this
 * library has set: with a point, in English. lm.h has lm_number_text. */
#ifndef LM_BASE_NUMBER_H
#define LM_BASE_NUMBER_H
#include "base/status.h"
#include <time.h>

/** strtod as the C locale has it. `end` may be NULL. */
double lm_number_parse(const char *text, char **end);
/** snprintf as the C locale has it. */
int lm_number_format(char *text, size_t size, const char *format, ...) LM_PRINTF(3, 4);
/** strftime as the C locale has it. */
size_t lm_time_format(char *text, size_t size, const char *format, const struct tm *tm);
#endif
