#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: symbols.sh SOURCE_DIR LIBRARY [NM]
# Fails on an external symbol of the static library that would meet a program's own: all begin with lm_, or, within the
# parts of docs/architecture.md's table of prefixes, with that part's.
set -u
root=$1
library=$2
nm=${3:-nm}

command -v "$nm" >/dev/null 2>&1 || {
    echo "skipped: no $nm"
    exit 77
}
listed=$("$nm" -A -g "$library") || exit 1

# part's prefix: where its files lie
found=$(printf '%s\n' "$listed" | awk -v root="$root" '
    BEGIN { home["cpu_"] = "src/backend/cpu/"; home["cv_"] = "src/convert/"; home["jj_"] = "src/text/" }
    NF < 3 || $(NF - 1) == "U" || $(NF - 1) == "w" { next } # used here, defined elsewhere
    {
        symbol = $NF
        n++
        if (symbol ~ /^__/) next # the compiler'"'"'s
        sub(/^_/, "", symbol)    # macOS
        if (symbol ~ /^lm_/) next
        member = $1 # "libmlxlm.a:moe.c.o:0000" or "libmlxlm.a(moe.c.o):"
        sub(/^.*\.a[:(]/, "", member)
        sub(/\.o.*$/, "", member)
        prefix = symbol
        sub(/_.*$/, "_", prefix)
        file = root "/" home[prefix] member
        if (prefix in home && (getline line < file) >= 0) { close(file); next }
        printf "%s: %s: expected lm_, or the prefix of its part\n", member, symbol
    }
    END { if (n < 100) printf "only %d symbols were read\n", n }')
if [ -n "$found" ]; then
    echo "$found"
    exit 1
fi
echo "external symbols: all of the library's own"
