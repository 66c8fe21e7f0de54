#!/bin/sh
# SPDX-License-Identifier: MIT
# gguf_out.sh MLX_LM: mlx_lm.convert --gguf-out: what it prints, its refusals, the same bytes for any thread count.
bin=$1
root=$LM_TEST_DATA/golden/checkpoints
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0
fail() {
    failed=1
    echo "FAILED: $*"
}
# refused EXIT PATTERN ARGUMENTS...: one line on stderr (after the usage, where the exit is 2), nothing left
refused() {
    want=$1
    pattern=$2
    shift 2
    "$bin" convert "$@" >"$dir/stdout" 2>"$dir/stderr"
    code=$?
    [ $code -eq "$want" ] || fail "exit $code: $*"
    tail -n 1 "$dir/stderr" | grep -q "$pattern" || fail "$*: $(cat "$dir/stderr")"
    [ ! -s "$dir/stdout" ] || fail "stdout: $(cat "$dir/stdout")"
    [ -z "$(find "$dir" -name '*.gguf*')" ] || fail "left behind: $(find "$dir" -name '*.gguf*')"
}
if [ ! -f "$root/qwen3/bf16/config.json" ]; then
    echo "skipped: $root is not here"
    exit 0
fi

refused 2 'the following arguments are required' --gguf-out "$dir/m.gguf"
refused 2 'invalid choice' --model "$root/qwen3/bf16" --gguf-out "$dir/m.gguf" --gguf-type q5_0
refused 1 'none/m.gguf' --model "$root/qwen3/bf16" --gguf-out "$dir/none/m.gguf"
refused 1 "$dir/nothing" --model "$dir/nothing" --gguf-out="$dir/m.gguf"

for type in auto f16 bf16 q8_0 q4_0 q4_1; do
    "$bin" convert --model "$root/qwen3/bf16" --gguf-out "$dir/a" --gguf-type $type --threads 1 >"$dir/stdout" || fail $type
    grep -q '^\[INFO\] Converted .*: 46 tensors' "$dir/stdout" || fail "$type: $(cat "$dir/stdout")"
    "$bin" convert --hf-path "$root/qwen3/hf" --gguf-out="$dir/b" --gguf-type $type --threads 3 >/dev/null || fail "$type hf"
    [ "$(head -c 4 "$dir/a")" = GGUF ] || fail "$type: magic"
    # the model's name is in the metadata: from the first tensor description on, the files are equal
    [ "$(wc -c <"$dir/a")" -eq "$(wc -c <"$dir/b")" ] || fail "$type: sizes"
    tail -c 250000 "$dir/a" >"$dir/ta" && tail -c 250000 "$dir/b" >"$dir/tb"
    cmp "$dir/ta" "$dir/tb" || fail "$type: threads or the source's form change the data"
    rm -f "$dir/a" "$dir/b"
done

# An existing file stays as it is.
echo mine >"$dir/m"
"$bin" convert --model "$root/qwen3/bf16" --gguf-out "$dir/m" 2>"$dir/stderr" && fail "overwrote a file"
grep -q 'exists already' "$dir/stderr" || fail "$(cat "$dir/stderr")"
[ "$(cat "$dir/m")" = mine ] || fail "changed a file"

# A full disk: said before the work, nothing left. Needs the right to mount.
if mkdir "$dir/small" && mount -t tmpfs -o size=256k tmpfs "$dir/small" 2>/dev/null; then
    "$bin" convert --model "$root/qwen3/bf16" --gguf-out "$dir/small/m" 2>"$dir/stderr" && fail "a full disk is no error"
    grep -q 'needs [0-9]* bytes, but only [0-9]* are free' "$dir/stderr" || fail "full disk: $(cat "$dir/stderr")"
    [ -z "$(ls "$dir/small")" ] || fail "full disk: left $(ls "$dir/small")"
    umount "$dir/small"
fi

[ $failed -eq 0 ] && echo "gguf-out: fine"
exit $failed
