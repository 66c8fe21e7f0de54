#!/bin/sh
# SPDX-License-Identifier: MIT
# cli.sh MLX_LM: dispatch, versions, exit codes, and options that are refused. Needs no model.
bin=$1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0

# expect NAME CODE STDOUT-PATTERN STDERR-PATTERN COMMAND...: patterns are egrep's; "-" means empty.
expect() {
    name=$1 code=$2 out=$3 err=$4
    shift 4
    "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    good=1
    [ $got -eq "$code" ] || good=0
    if [ "$out" = - ]; then [ -s "$dir/out" ] && good=0; else grep -Eq -e "$out" "$dir/out" || good=0; fi
    if [ "$err" = - ]; then [ -s "$dir/err" ] && good=0; else grep -Eq -e "$err" "$dir/err" || good=0; fi
    [ $good -eq 1 ] && return
    failed=1
    echo "FAILED: $name: exit $got (expected $code), stdout:"
    head -c 2000 "$dir/out"
    echo "stderr:"
    head -c 2000 "$dir/err"
}

bins=$(dirname "$bin")
expect version 0 '^0\.32\.2$' - "$bin" --version
expect version-mlx 0 '^0\.32\.4$' - "$bins/mlx" --version
expect version-json 0 '"mlx_lm": "0\.32\.2"' - "$bin" --version --json
expect version-mlx-json 0 '"mlx": "0\.32\.4"' - "$bins/mlx" --version --json
expect mlx-nothing 0 - - "$bins/mlx"
expect mlx-bad 2 - 'unrecognized arguments: --x' "$bins/mlx" --x
expect help 0 'benchmark.*' - "$bin" --help
expect nothing 1 - '^mlx_lm: error: a subcommand is required' "$bin"
expect unknown 1 - "^mlx_lm: error: unknown subcommand 'nope'" "$bin" nope
for sub in cache_prompt chat fuse lora manage awq dwq dynamic_quant gptq server upload share; do
    expect "$sub" 1 - "'$sub' is not built yet" "$bin" $sub --model x
    expect "link-$sub" 1 - "'$sub' is not built yet" "$bins/mlx_lm.$sub"
done
for sub in benchmark convert evaluate generate kernels logits perplexity render tokenize; do
    expect "$sub-help" 0 '^usage: ' - "$bin" $sub -h
    expect "link-$sub-help" 0 '^usage: ' - "$bins/mlx_lm.$sub" --help
    expect "$sub-bad" 2 - '^usage: ' "$bin" $sub --no-such-option
done
expect sub-version 2 - 'error: unrecognized arguments: --version' "$bin" generate --version
expect ambiguous 2 - 'error: ambiguous option: --pr could match --prompt-tokens, --prefill-step-size|ambiguous option: --p could' \
    "$bin" benchmark --p 3
expect bad-int 2 - "error: argument --prompt-tokens/-p: invalid int value: 'x'" "$bin" benchmark -p x
expect required 2 - 'the following arguments are required: --model, --ids, --out' "$bin" logits

refused() {
    expect "refused $*" 1 - '^mlx_lm\.[a-z]+: error: --[a-z-]+: .* not built yet$' "$bin" "$@"
}
refused generate --adapter-path x
refused generate --image x y
refused generate --draft-model x
refused generate --max-kv-size 128
refused generate --prompt-cache-file x
refused generate -qa
refused benchmark -qa
refused benchmark --pipeline
expect default-kept 1 - 'error:.*no-such-folder' "$bin" generate --model "$dir/no-such-folder" --kv-group-size 64
expect max-tokens-0 1 - 'max-tokens' "$bin" generate --model x -m 0
expect trials-0 1 - 'num-trials' "$bin" benchmark --model x -n 0
expect no-model 1 - "error:.*$dir/none" "$bin" benchmark --model "$dir/none"
expect clean-error 1 - 'a\?b' "$bin" benchmark --model "$dir/a$(printf '\033')b"
if [ -w /dev/full ]; then
    "$bin" --version >/dev/full 2>"$dir/err"
    [ $? -eq 1 ] || { failed=1; echo "FAILED: a full disk is not reported"; }
fi
exit $failed
