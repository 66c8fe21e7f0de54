/* SPDX-License-Identifier: MIT
 * status.h: errors inside the library. One line, written where the fact is known; callers only forward it. */
#ifndef LM_BASE_STATUS_H
#define LM_BASE_STATUS_H
#include "lm/lm.h"
#include <stdarg.h>

#if defined(__GNUC__)
#define LM_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define LM_PRINTF(f, a)
#endif

/** Fills `err` (may be NULL) with the formatted line and returns `status`. Control characters in the line, and bytes
 * that are no UTF-8 (a character that was cut, too), are replaced by '?': hostile names cannot forge terminal output,
 * and a message may go into JSON. */
lm_status lm_fail(lm_error *err, lm_status status, const char *fmt, ...) LM_PRINTF(3, 4);
/** Puts a formatted prefix before the message already in `err`; returns err's status. */
lm_status lm_fail_prefix(lm_error *err, lm_status status, const char *fmt, ...) LM_PRINTF(3, 4);
/** LM_NOMEM with the number of bytes and what they were for. */
lm_status lm_fail_nomem(lm_error *err, size_t bytes, const char *what);

#define LM_TRY(expr)                                        \
    do {                                                    \
        lm_status lm_try_status_ = (expr);                  \
        if (lm_try_status_ != LM_OK) return lm_try_status_; \
    } while (0)
#endif
