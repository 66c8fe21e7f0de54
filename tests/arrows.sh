#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: arrows.sh SOURCE_DIR
# Fails on an #include against the arrows of docs/architecture.md, on a banned function, and on a file past 1200 lines.
set -u
root=$1
cd "$root" || exit 1

# room: rooms it may include. Public headers (lm/...) are open to all of them.
allowed() {
    case $1 in
    base) echo "base" ;;
    format) echo "format base" ;;
    text) echo "text base" ;;
    kernels) echo "kernels base" ;;
    backend) echo "backend kernels base" ;;
    model) echo "model backend kernels format base" ;;
    convert) echo "convert model format text kernels base" ;;
    engine) echo "engine model backend kernels format text convert base" ;;
    eval) echo "" ;;
    cli) echo "" ;;
    *) echo "?" ;;
    esac
}

status=0
bad() {
    echo "$1"
    status=1
}

for dir in src/* cli; do
    [ -d "$dir" ] || continue
    room=${dir##*/}
    may=$(allowed "$room")
    if [ "$may" = "?" ]; then
        bad "$dir: a room without arrows: add it to tests/arrows.sh and docs/architecture.md"
        continue
    fi
    find "$dir" -type f \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.def' \) | sort >"${TMPDIR:-/tmp}/arrows.$$"
    while IFS= read -r file; do
        # "room/file.h" names another room; "file.h" is in the file's own folder
        found=$(awk -v file="$file" -v may=" $may " '
            /^[ \t]*#[ \t]*include[ \t]*"/ {
                split($0, part, "\"")
                path = part[2]
                if (path ~ /\.\./) { printf "%s:%d: #include with ..: %s\n", file, NR, path; next }
                n = index(path, "/")
                if (n == 0) {
                    # outer rooms live on include/ and their own folder alone; so do their builds
                    dir = file; sub(/\/[^\/]*$/, "", dir)
                    own = dir "/" path
                    if (may == "  " && (getline line < own) < 0)
                        printf "%s:%d: #include \"%s\" is not in its own folder\n", file, NR, path
                    close(own)
                    next
                }
                first = substr(path, 1, n - 1)
                if (first == "lm") next
                dir = file; sub(/\/[^\/]*$/, "", dir)
                own = dir "/" path
                if ((getline line < own) >= 0) { close(own); next }
                if (index(may, " " first " ") == 0)
                    printf "%s:%d: #include \"%s\" goes against the arrows\n", file, NR, path
            }' "$file")
        [ -z "$found" ] || bad "$found"
    done <"${TMPDIR:-/tmp}/arrows.$$"
    rm -f "${TMPDIR:-/tmp}/arrows.$$"
done

# Functions that can't be called safely, and those that end the process inside the library.
found=$(grep -rnE '(^|[^A-Za-z0-9_])(sprintf|vsprintf|strcpy|strcat|atoi|gets|alloca)[ ]*\(' \
    --include='*.c' --include='*.h' src cli include tests 2>/dev/null | grep -v '^[^:]*:[0-9]*:[ ]*\(\*\|//\|/\*\)')
[ -z "$found" ] || bad "banned function:
$found"
found=$(grep -rnE '(^|[^A-Za-z0-9_.>])(exit|_exit|abort|printf|puts|perror)[ ]*\(' --include='*.c' --include='*.h' src 2>/dev/null |
    grep -v '^[^:]*:[0-9]*:[ ]*\(\*\|//\|/\*\)')
[ -z "$found" ] || bad "the library neither prints nor exits:
$found"

find include src cli tests -type f \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.def' \) | sort |
    while IFS= read -r file; do
        lines=$(wc -l <"$file")
        [ "$lines" -le 1200 ] || echo "$file: $lines lines: more than 1200"
        case $file in
        tests/*) ;;
        *) head -n 3 "$file" | grep -q 'SPDX-License-Identifier: MIT' || echo "$file: no SPDX line in the first 3" ;;
        esac
    done >"${TMPDIR:-/tmp}/arrows.$$"
[ ! -s "${TMPDIR:-/tmp}/arrows.$$" ] || bad "$(cat "${TMPDIR:-/tmp}/arrows.$$")"
rm -f "${TMPDIR:-/tmp}/arrows.$$"

[ $status -ne 0 ] || echo "arrows, banned functions, sizes: clean"
exit $status
