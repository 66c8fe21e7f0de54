#!/bin/sh
# SPDX-License-Identifier: MIT
# gguf_out.sh MLX_LM: mlx_lm.convert --gguf-out: what it prints, its refusals, the same bytes for any thread count.
. "$(dirname "$0")/lib.sh"
needs_model "$checkpoints/qwen3/bf16"
# not_converted EXIT PATTERN ARGUMENTS...: refused, and nothing left
not_converted() {
    code=$1 pattern=$2
    shift 2
    refused "$code" "$pattern" "$program" convert "$@"
    [ ! -s "$work/out" ] || fail "stdout: $(cat "$work/out")"
    [ -z "$(find "$work" -name '*.gguf*')" ] || fail "left behind: $(find "$work" -name '*.gguf*')"
}

not_converted 2 'the following arguments are required' --gguf-out "$work/m.gguf"
not_converted 2 'invalid choice' --model "$checkpoints/qwen3/bf16" --gguf-out "$work/m.gguf" --gguf-type q5_0
not_converted 1 'none/m.gguf' --model "$checkpoints/qwen3/bf16" --gguf-out "$work/none/m.gguf"
not_converted 1 "$work/nothing" --model "$work/nothing" --gguf-out="$work/m.gguf"

for type in auto f16 bf16 q8_0 q4_0 q4_1; do
    "$program" convert --model "$checkpoints/qwen3/bf16" --gguf-out "$work/a" --gguf-type $type --threads 1 >"$work/stdout" || fail $type
    grep -q '^\[INFO\] Converted .*: 46 tensors' "$work/stdout" || fail "$type: $(cat "$work/stdout")"
    "$program" convert --hf-path "$checkpoints/qwen3/hf" --gguf-out="$work/b" --gguf-type $type --threads 3 >/dev/null || fail "$type hf"
    [ "$(head -c 4 "$work/a")" = GGUF ] || fail "$type: magic"
    # the model's name is in the metadata: from the first tensor description on, the files are equal
    [ "$(wc -c <"$work/a")" -eq "$(wc -c <"$work/b")" ] || fail "$type: sizes"
    tail -c 250000 "$work/a" >"$work/ta" && tail -c 250000 "$work/b" >"$work/tb"
    cmp "$work/ta" "$work/tb" || fail "$type: threads or the source's form change the data"
    rm -f "$work/a" "$work/b"
done

# The option's name may be cut, as any other's.
"$program" convert --model "$checkpoints/qwen3/bf16" --gguf-o "$work/a" >"$work/out" || fail "--gguf-o"
[ -f "$work/a" ] && [ ! -e mlx_model ] || fail "--gguf-o made $(ls "$work")"
rm -rf "$work/a" mlx_model

# An existing file stays as it is.
echo mine >"$work/m"
"$program" convert --model "$checkpoints/qwen3/bf16" --gguf-out "$work/m" 2>"$work/stderr" && fail "overwrote a file"
grep -q 'exists already' "$work/stderr" || fail "$(cat "$work/stderr")"
[ "$(cat "$work/m")" = mine ] || fail "changed a file"

# A full disk: said before the work, nothing left. Needs the right to mount.
if mkdir "$work/small" && mount_small small 256k; then
    "$program" convert --model "$checkpoints/qwen3/bf16" --gguf-out "$work/small/m" 2>"$work/stderr" && fail "a full disk is no error"
    grep -q 'needs [0-9]* bytes, but only [0-9]* are free' "$work/stderr" || fail "full disk: $(cat "$work/stderr")"
    [ -z "$(ls "$work/small")" ] || fail "full disk: left $(ls "$work/small")"
    unmount
fi

finish
