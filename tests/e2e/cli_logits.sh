#!/bin/sh
# SPDX-License-Identifier: MIT
# cli_logits.sh MLX_LM: the file that logits writes, and ids it refuses. Values are checked in tests/golden.
. "$(dirname "$0")/lib.sh"
model=$checkpoints/qwen3/4bit-g64
needs_model "$model"
logits() {
    "$program" logits --model "$model" "$@"
}

vocab=$(sed -nE 's/.*"vocab_size": ([0-9]+).*/\1/p' "$model/config.json")
echo '[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]' >"$work/ids"
logits --ids "$work/ids" --out "$work/a" || fail "exit code"
grep -aq "\"logits\":{[^}]*\"shape\":\[10, *$vocab\]" "$work/a" || fail "header: $(head -c 300 "$work/a")"
bytes=$(($(wc -c <"$work/a") - 10 * vocab * 4))
[ $bytes -gt 8 ] && [ $bytes -lt 1000 ] || fail "size"

# The same bits for any thread count, mapped or read, and from stdin; in one kernel family also for any step size.
for flags in '--threads 1' '--threads 2' --no-use-mmap; do
    # shellcheck disable=SC2086 # flags are words
    logits --ids - --out "$work/b" $flags <"$work/ids" || fail "$flags"
    cmp "$work/a" "$work/b" || fail "$flags changes the logits"
done
logits --ids "$work/ids" --out "$work/a" --batch-invariant || fail "batch-invariant"
for flags in '--prefill-step-size 3' '--decode-from 0' '--decode-from 4 --prefill-step-size 2' '--decode-from 10'; do
    # shellcheck disable=SC2086
    logits --ids "$work/ids" --out "$work/b" --batch-invariant $flags || fail "$flags"
    cmp "$work/a" "$work/b" || fail "--batch-invariant $flags changes the logits"
done

# bad_ids IDS-TEXT PATTERN
bad_ids() {
    printf '%s' "$1" >"$work/bad"
    rm -f "$work/c"
    refused 1 "$2" logits --ids "$work/bad" --out "$work/c"
    [ -e "$work/c" ] && fail "a file for $1"
}
bad_ids "[1, $vocab]" "\[1\]: expected an id in \[0, $vocab\), found $vocab"
bad_ids '[0, -1]' 'found -1'
bad_ids '[99999999999]' 'found 99999999999'
bad_ids '[1.5]' 'expected an integer'
bad_ids '["1"]' 'expected an integer'
bad_ids '[]' 'at least one id'
bad_ids '{"a": 1}' 'expected a JSON array'
bad_ids '[1, 2' 'not JSON'
bad_ids '' 'not JSON'
logits --ids "$work/none" --out "$work/c" 2>/dev/null && fail "a missing file"
logits --ids "$work/ids" --out "$work/none/c" 2>/dev/null && fail "a missing folder"
logits --ids "$work/ids" --out "$work/c" --decode-from 11 2>/dev/null && fail "--decode-from past the end"
finish
