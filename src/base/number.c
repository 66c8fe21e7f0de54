/* SPDX-License-Identifier: MIT
 * number.c: see number.h. The thread's locale is changed for the moment of a call: nobody else sees it. */
#include "base/number.h"
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__APPLE__)
#include <xlocale.h>
#endif

typedef struct c_locale {
    locale_t own, before;
} c_locale;

static c_locale c_begin(void) {
    c_locale p = {newlocale(LC_ALL_MASK, "C", (locale_t)0), (locale_t)0};
    if (p.own) p.before = uselocale(p.own);
    return p;
}

static void c_end(c_locale p) {
    if (!p.own) return;
    uselocale(p.before);
    freelocale(p.own);
}

double lm_number_parse(const char *text, char **end) {
    c_locale p = c_begin();
    double value = strtod(text, end);
    c_end(p);
    return value;
}

int lm_number_format(char *text, size_t size, const char *format, ...) {
    va_list args;
    c_locale p = c_begin();
    va_start(args, format);
    int n = vsnprintf(text, size, format, args);
    va_end(args);
    c_end(p);
    return n;
}

size_t lm_time_format(char *text, size_t size, const char *format, const struct tm *tm) {
    c_locale p = c_begin();
    size_t n = strftime(text, size, format, tm);
    c_end(p);
    return n;
}

/* The fewest digits that read back, and the exponent of the first; whichever point the locale has between them. */
static int shortest(double value, char digits[24], int *exponent) {
    char text[40];
    int n = 0;
    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, value);
        if (strtod(text, NULL) == value) break;
    }
    const char *e = strchr(text, 'e');
    for (const char *c = text; *c && c != e && n < 20; c++)
        if (*c >= '0' && *c <= '9') digits[n++] = *c;
    digits[n] = 0;
    *exponent = e ? (int)strtol(e + 1, NULL, 10) : 0;
    return n;
}

void lm_number_text(double value, char text[32]) {
    char digits[24];
    int exponent;
    if (!isfinite(value)) {
        snprintf(text, 32, "%s", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
        return;
    }
    const char *sign = signbit(value) ? "-" : "";
    int n = shortest(value, digits, &exponent);
    if (exponent < -4 || exponent >= 16)
        snprintf(text, 32, "%s%c%s%se%c%02d", sign, digits[0], n > 1 ? "." : "", digits + 1, exponent < 0 ? '-' : '+',
                 abs(exponent) % 1000); /* three digits at most: what the compiler cannot know */
    else if (exponent < 0)
        snprintf(text, 32, "%s0.%.*s%s", sign, -exponent - 1, "000", digits);
    else if (n <= exponent + 1)
        snprintf(text, 32, "%s%s%.*s.0", sign, digits, exponent + 1 - n, "0000000000000000");
    else
        snprintf(text, 32, "%s%.*s.%s", sign, exponent + 1, digits, digits + exponent + 1);
}
