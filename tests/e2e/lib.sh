# SPDX-License-Identifier: MIT
# lib.sh: sourced first by every script of this folder, with the script's own arguments (the first is the program). Sets
#   program      the program's path, absolute
#   checkpoints  the folder of golden checkpoints
#   work         an empty folder, the current one from here on, removed at exit
set -u
case $1 in
/*) program=$1 ;;
*) program=$PWD/$1 ;;
esac
checkpoints=${LM_TEST_DATA:?names the unpacked test data}/golden/checkpoints
mounted=
failures=0
work=$(mktemp -d) || exit 1
trap 'unmount; rm -rf "$work"' EXIT
cd "$work" || exit 1

# fail TEXT...: the test goes on, and `finish` tells
fail() {
    failures=$((failures + 1))
    echo "FAILED: $*"
}

# finish: the last line of every script
finish() {
    exit $((failures > 0))
}

# needs_model FOLDER: ends the test where the folder isn't
needs_model() {
    [ ! -f "$1/config.json" ] || return 0
    echo "skipped: $1 is not here"
    exit 0
}

# refused CODE PATTERN COMMAND...: COMMAND must exit with CODE and tell on stderr's last line what egrep's PATTERN matches;
# with code 1 that is the only line (argparse's usage stands before it with code 2). Leaves `out` and `err`.
refused() {
    refused_code=$1 refused_pattern=$2
    shift 2
    "$@" >"$work/out" 2>"$work/err" </dev/null
    refused_got=$?
    [ $refused_got -eq "$refused_code" ] || fail "exit $refused_got, expected $refused_code: $* ($(head -c 2000 "$work/err"))"
    tail -n 1 "$work/err" | grep -Eq -e "$refused_pattern" ||
        fail "expected /$refused_pattern/ of $*, found: $(head -c 2000 "$work/err")"
    [ "$refused_code" -ne 1 ] || [ "$(wc -l <"$work/err")" -eq 1 ] || fail "expected one line of $*: $(cat "$work/err")"
}

# same_results FOLDER WHAT [UNDISTURBED]: every final file of the evaluation in UNDISTURBED (`whole`) is in FOLDER, byte
# for byte
same_results() {
    for file in "${3:-whole}"/*; do
        case $file in
        *_run.json | *_journal.sqlite*) ;;
        *) cmp "$file" "$1/${file##*/}" || { fail "$2: ${file##*/} differs"; return; } ;;
        esac
    done
}

# mount_small FOLDER SIZE: a file system of that size there; false where mounting isn't allowed. One at a time.
mount_small() {
    mount -t tmpfs -o "size=$2" tmpfs "$work/$1" 2>/dev/null && mounted=$work/$1
}
unmount() {
    [ -z "$mounted" ] || umount "$mounted"
    mounted=
}
