#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: headers.sh SOURCE_DIR CC
# Each public header compiles alone as C and, where there is a C++ compiler beside CC, as C++.
set -u
root=$1
cc=${2:-cc}
failed=0

check() { # LANGUAGE COMPILER STANDARD
    for header in "$root"/include/lm/*.h; do
        if ! printf '#include "lm/%s"\n' "${header##*/}" |
            "$2" -x "$1" "$3" -Wall -Wextra -Werror -fsyntax-only -I"$root/include" -; then
            echo "include/lm/${header##*/}: doesn't compile alone as $1"
            failed=1
        fi
    done
}

check c "$cc" -std=c11
cxx=$(printf '%s' "$cc" | sed -e 's/gcc\(-[0-9]*\)\{0,1\}$/g++\1/' -e 's/clang\(-[0-9]*\)\{0,1\}$/clang++\1/' -e 's/\(^\|\/\)cc$/\1c++/')
if [ "$cxx" != "$cc" ] && command -v "$cxx" >/dev/null 2>&1; then
    check c++ "$cxx" -std=c++11
else
    echo "skipped: no C++ compiler beside $cc"
fi
[ $failed -ne 0 ] || echo "public headers compile alone"
exit $failed
