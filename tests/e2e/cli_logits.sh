#!/bin/sh
# SPDX-License-Identifier: MIT
# cli_logits.sh MLX_LM: the file that logits writes, and ids it refuses. Values are checked in tests/golden.
bin=$1
model=$LM_TEST_DATA/golden/checkpoints/qwen3/4bit-g64
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
if [ ! -f "$model/config.json" ]; then
    echo "skipped: $model is not here"
    exit 0
fi
failed=0
fail() {
    failed=1
    echo "FAILED: $*"
}
logits() {
    "$bin" logits --model "$model" "$@"
}

vocab=$(sed -nE 's/.*"vocab_size": ([0-9]+).*/\1/p' "$model/config.json")
echo '[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]' >"$dir/ids"
logits --ids "$dir/ids" --out "$dir/a" || fail "exit code"
grep -aq "\"logits\":{[^}]*\"shape\":\[10, *$vocab\]" "$dir/a" || fail "header: $(head -c 300 "$dir/a")"
bytes=$(($(wc -c <"$dir/a") - 10 * vocab * 4))
[ $bytes -gt 8 ] && [ $bytes -lt 1000 ] || fail "size"

# The same bits for any thread count, mapped or read, and from stdin; in one kernel family also for any step size.
for flags in '--threads 1' '--threads 2' --no-use-mmap; do
    # shellcheck disable=SC2086 # flags are words
    logits --ids - --out "$dir/b" $flags <"$dir/ids" || fail "$flags"
    cmp "$dir/a" "$dir/b" || fail "$flags changes the logits"
done
logits --ids "$dir/ids" --out "$dir/a" --batch-invariant || fail "batch-invariant"
for flags in '--prefill-step-size 3' '--decode-from 0' '--decode-from 4 --prefill-step-size 2' '--decode-from 10'; do
    # shellcheck disable=SC2086
    logits --ids "$dir/ids" --out "$dir/b" --batch-invariant $flags || fail "$flags"
    cmp "$dir/a" "$dir/b" || fail "--batch-invariant $flags changes the logits"
done

# refused IDS-TEXT PATTERN
refused() {
    printf '%s' "$1" >"$dir/bad"
    rm -f "$dir/c"
    logits --ids "$dir/bad" --out "$dir/c" >"$dir/out" 2>"$dir/err"
    [ $? -eq 1 ] || fail "exit code for $1"
    grep -Eq "$2" "$dir/err" || fail "message for $1: $(cat "$dir/err")"
    [ "$(wc -l <"$dir/err")" -eq 1 ] || fail "lines for $1"
    [ -e "$dir/c" ] && fail "a file for $1"
}
refused "[1, $vocab]" "\[1\]: expected an id in \[0, $vocab\), found $vocab"
refused '[0, -1]' 'found -1'
refused '[99999999999]' 'found 99999999999'
refused '[1.5]' 'expected an integer'
refused '["1"]' 'expected an integer'
refused '[]' 'at least one id'
refused '{"a": 1}' 'expected a JSON array'
refused '[1, 2' 'not JSON'
refused '' 'not JSON'
logits --ids "$dir/none" --out "$dir/c" 2>/dev/null && fail "a missing file"
logits --ids "$dir/ids" --out "$dir/none/c" 2>/dev/null && fail "a missing folder"
logits --ids "$dir/ids" --out "$dir/c" --decode-from 11 2>/dev/null && fail "--decode-from past the end"
exit $failed
