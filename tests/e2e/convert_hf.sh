#!/bin/sh
# SPDX-License-Identifier: MIT
# convert_hf.sh MLX_LM: convert as a user meets it: lines, exit codes, what runs on the result, a kill, a disk too small.
. "$(dirname "$0")/lib.sh"
source=$checkpoints/qwen3_moe/hf
needs_model "$source"
before=$(cat "$source"/* | cksum)

# Upstream's lines, and a result that the engine runs.
"$program" convert --hf-path "$source" --mlx-path q5 -q --q-bits 5 --q-group-size 32 >out 2>err || fail "convert: $(cat err)"
{
    echo "[INFO] Loading"
    echo "[INFO] Using dtype: bfloat16"
    echo "[INFO] Quantizing"
    echo "[INFO] Quantized model with 6.098 bits per weight."
} >want
sed -E 's/with [0-9.]+ bits/with 6.098 bits/' out | cmp - want || fail "stdout: $(cat out)"
[ ! -s err ] || fail "stderr: $(cat err)"
"$program" generate --model q5 -p 'one two' -m 8 --verbose F >text 2>err || fail "generate: $(cat err)"
for sub in "-d" "" "--dtype float32"; do
    # shellcheck disable=SC2086
    "$program" convert --model q5 --mlx-path again $sub >out 2>err || fail "convert $sub: $(cat err)"
    "$program" generate --model again -p 'one two' -m 4 --verbose F >text 2>err || fail "generate after $sub: $(cat err)"
    rm -rf again
done

# The default target, one that exists, mistakes.
"$program" convert --hf-path "$source" >out 2>err || fail "default target: $(cat err)"
[ -f mlx_model/model.safetensors ] || fail "mlx_model is not there"
"$program" convert --hf-path "$source" >out 2>err && fail "an existing target is overwritten"
grep -q 'Cannot save to the path mlx_model as it already exists. Please delete the file/directory' err || fail "exists: $(cat err)"
"$program" convert --hf-path "$source" --mlx-path x -q -d >out 2>err && fail "-q -d"
grep -q 'Choose either quantize or dequantize, not both.' err || fail "-q -d: $(cat err)"
"$program" convert --mlx-path x -q >out 2>err
[ $? -eq 2 ] || fail "no source: exit code"
"$program" convert --hf-path "$source" --mlx-path x --upload-repo a/b >out 2>err && fail "--upload-repo"
[ ! -e x ] && [ ! -e .x.partial ] || fail "a refused conversion left something"

# A partial folder that another process holds, and one that was left behind.
mkdir .held.partial
: >.held.partial/convert.journal
if command -v flock >/dev/null; then
    flock .held.partial/convert.journal "$program" convert --hf-path "$source" --mlx-path held >out 2>err && fail "the lock"
    grep -q 'another conversion to this name is at work' err || fail "lock: $(cat err)"
fi
: >.held.partial/rubbish
"$program" convert --hf-path "$source" --mlx-path held >out 2>err || fail "a stale partial folder: $(cat err)"
[ ! -e held/rubbish ] && [ ! -e held/convert.journal ] && [ ! -e .held.partial ] || fail "rubbish went along"

# A disk that is too small is told before the work, and nothing is left (where mounting is allowed).
mkdir small
if mount_small small 600k; then
    "$program" convert --hf-path "$source" --mlx-path small/model >out 2>err && fail "a full disk"
    grep -Eq 'small/model: not enough space: 0\.00[0-9] GB needed, 0\.00[0-9] GB free' err || fail "full disk: $(cat err)"
    [ -z "$(ls -A small)" ] || fail "left on the full disk: $(ls -A small)"
fi
[ "$before" = "$(cat "$source"/* | cksum)" ] || fail "the source changed"
finish
