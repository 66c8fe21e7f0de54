#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes src/text/unicode_newer.h: characters that the regular expressions of `tokenizers` (Oniguruma) classify and
Unicode 14 does not know, by general category. PCRE2 as distributions ship it is often of Unicode 14.

    python3.11 tools/gen_unicode_newer.py > src/text/unicode_newer.h      (tokenizers 0.23.3; unicodedata 14.0)
"""
import unicodedata
from tokenizers import Regex, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So".split()
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, POINTS))


def members(pattern):
    """What the pattern matches: everything but the pieces left when its matches are removed."""
    found = set(POINTS)
    for _, (start, end) in pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(TEXT):
        found -= set(POINTS[start:end])
    return found


def as_class(points):
    runs = []
    for c in sorted(points):
        if runs and runs[-1][1] == c - 1:
            runs[-1][1] = c
        else:
            runs.append([c, c])
    return ["\\\\x{%x}" % a + ("" if a == b else "-\\\\x{%x}" % b) for a, b in runs]


assert unicodedata.unidata_version.startswith("14."), unicodedata.unidata_version
unassigned = {c for c in POINTS if unicodedata.category(chr(c)) == "Cn"}
print("/* SPDX-License-Identifier: MIT")
print(" * unicode_newer.h: made by tools/gen_unicode_newer.py; don't edit. Characters assigned after Unicode 14, by general")
print(" * category (and the script Han), as the inside of a character class. */")
print("/* clang-format off */")
print("static const struct { const char *name, *ranges; } newer[] = {")
for name in CATEGORIES + ["Han"]:
    parts = as_class(members("\\p{%s}" % name) & unassigned)
    if not parts:
        continue
    print('    {"%s",' % name)
    for i in range(0, len(parts), 4):
        print('     "%s"%s' % ("".join(parts[i : i + 4]), "}," if i + 4 >= len(parts) else ""))
print("};")
print("/* clang-format on */")
