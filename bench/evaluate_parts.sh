#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: evaluate_parts.sh MLX_LM MODEL [EVALUATE OPTIONS...]
# What prefix sharing, batching, guesses, early stop and invariance contribute to an evaluation's speed: one run with
# everything and one without each part, as a Markdown table. Options default to --limit 2 --max-tokens 512.
# PARTS="'' '--no-guess'" runs some of them only.
set -u
program=$1 model=$2
shift 2
[ $# -gt 0 ] || set -- --limit 2 --max-tokens 512
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
echo "| switches | questions | seconds | questions/min | prompt tokens computed | generated | steps |"
echo "|---|---:|---:|---:|---:|---:|---:|"
line() {
    rm -rf "$work/out"
    # shellcheck disable=SC2086
    "$program" evaluate --model "$model" --tasks mmlu_pro --output-dir "$work/out" "$@" $switches >/dev/null \
        2>"$work/err" || { tail -n 1 "$work/err"; return; }
    awk -F'[:,]' -v name="${switches:-(all on)}" '{ gsub(/[ "]/, "", $1); v[$1] = $2 + 0 }
        END { printf "| `%s` | %d | %.1f | %.1f | %d | %d | %d |\n", name, v["questions"], v["seconds"],
              60 * v["questions"] / v["seconds"], v["computed_prompt_tokens"], v["generated_tokens"], v["steps"] }' \
        "$work"/out/*_run.json
}
eval "set -- \"\$@\" -- ${PARTS:-'' '--no-batch-invariant' '--no-prefix-sharing' '--no-guess' '--no-early-stop' '--batch-size 1' '--batch-size 32' '--kv-type f32'}"
options=
while [ "$1" != -- ]; do
    options="$options $1"
    shift
done
shift
for switches; do
    # shellcheck disable=SC2086
    line $options
done
