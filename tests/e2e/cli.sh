#!/bin/sh
# SPDX-License-Identifier: MIT
# cli.sh MLX_LM: dispatch, versions, exit codes, and options that are refused. Needs no model.
. "$(dirname "$0")/lib.sh"

# expect NAME CODE STDOUT-PATTERN STDERR-PATTERN COMMAND...: patterns are egrep's; "-" means empty.
expect() {
    name=$1 code=$2 out=$3 err=$4
    shift 4
    "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    good=1
    [ $got -eq "$code" ] || good=0
    if [ "$out" = - ]; then [ -s "$work/out" ] && good=0; else grep -Eq -e "$out" "$work/out" || good=0; fi
    if [ "$err" = - ]; then [ -s "$work/err" ] && good=0; else grep -Eq -e "$err" "$work/err" || good=0; fi
    [ $good -eq 1 ] && return
    fail "$name: exit $got (expected $code), stdout:"
    head -c 2000 "$work/out"
    echo "stderr:"
    head -c 2000 "$work/err"
}

bins=$(dirname "$program")
expect version 0 '^0\.32\.2$' - "$program" --version
expect version-mlx 0 '^0\.32\.4$' - "$bins/mlx" --version
expect version-json 0 '"mlx_lm": "0\.32\.2"' - "$program" --version --json
expect version-mlx-json 0 '"mlx": "0\.32\.4"' - "$bins/mlx" --version --json
expect mlx-nothing 0 - - "$bins/mlx"
expect mlx-bad 2 - 'unrecognized arguments: --x' "$bins/mlx" --x
expect help 0 'benchmark.*' - "$program" --help
expect nothing 1 - '^mlx_lm: error: a subcommand is required' "$program"
expect unknown 1 - "^mlx_lm: error: unknown subcommand 'nope'" "$program" nope
for sub in cache_prompt chat fuse lora manage awq dwq dynamic_quant gptq server upload share; do
    expect "$sub" 1 - "'$sub' is not built yet" "$program" $sub --model x
    expect "link-$sub" 1 - "'$sub' is not built yet" "$bins/mlx_lm.$sub"
done
# a mistyped level doesn't pass for a chosen one
LM_CPU=avx1024 "$program" kernels | head -n 1 | grep -q 'LM_CPU has a word that is no level here' || fail "LM_CPU=avx1024 is not told"
LM_CPU=scalar "$program" kernels | head -n 1 | grep -q 'using scalar' || fail "LM_CPU=scalar"
LM_CPU=scalar "$program" kernels | head -n 1 | grep -q 'no level' && fail "LM_CPU=scalar is a level"
for sub in benchmark convert evaluate generate kernels logits perplexity render tokenize; do
    expect "$sub-help" 0 '^usage: ' - "$program" $sub -h
    expect "link-$sub-help" 0 '^usage: ' - "$bins/mlx_lm.$sub" --help
    expect "$sub-bad" 2 - '^usage: ' "$program" $sub --no-such-option
done
expect sub-version 2 - 'error: unrecognized arguments: --version' "$program" generate --version
expect ambiguous 2 - 'error: ambiguous option: --pr could match --prompt-tokens, --prefill-step-size|ambiguous option: --p could' \
    "$program" benchmark --p 3
expect bad-int 2 - "error: argument --prompt-tokens/-p: invalid int value: 'x'" "$program" benchmark -p x
expect required 2 - 'the following arguments are required: --model, --ids, --out' "$program" logits

not_built() {
    expect "refused $*" 1 - '^mlx_lm\.[a-z]+: error: --[a-z-]+: .* not built yet$' "$program" "$@"
}
not_built generate --adapter-path x
not_built generate --image x y
not_built generate --draft-model x
not_built generate --max-kv-size 128
not_built generate --prompt-cache-file x
not_built generate -qa
not_built benchmark -qa
not_built benchmark --pipeline
expect default-kept 1 - 'error:.*no-such-folder' "$program" generate --model "$work/no-such-folder" --kv-group-size 64
expect max-tokens-0 1 - 'max-tokens' "$program" generate --model x -m 0
expect trials-0 1 - 'num-trials' "$program" benchmark --model x -n 0
expect no-model 1 - "error:.*$work/none" "$program" benchmark --model "$work/none"
expect clean-error 1 - 'a\?b' "$program" benchmark --model "$work/a$(printf '\033')b"
if [ -w /dev/full ]; then
    "$program" --version >/dev/full 2>"$work/err"
    [ $? -eq 1 ] || fail "a full disk is not reported"
fi
finish
