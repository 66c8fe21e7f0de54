#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: bench/busy.sh MODEL [ROUNDS] [CORES]      (default: 3 rounds, cores 0,1)
# Generation with one thread a core, undisturbed and while another process keeps the last of these cores busy, in turn.
# Prints medians and what is left; fails below 40 %. MLX_LM names the program (default: build/release/mlx_lm).
set -u
bin=${MLX_LM:-$(dirname "$0")/../build/release/mlx_lm}
model=${1:?usage: bench/busy.sh MODEL [ROUNDS] [CORES]}
rounds=${2:-3}
cores=${3:-0,1}
threads=$(printf %s "$cores" | tr , '\n' | grep -c .)
last=${cores##*,}
busy=
trap '[ -z "$busy" ] || kill $busy 2>/dev/null' EXIT
trap 'exit 1' INT TERM

tps() {
    taskset -c "$cores" "$bin" benchmark --model "$model" --threads "$threads" -p 16 -g 128 -n 1 |
        sed -n 's/^Averages:.*generation_tps=\([0-9.]*\),.*/\1/p'
}
median() {
    printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

free=
disturbed=
for _ in $(seq "$rounds"); do
    free="$free $(tps)"
    taskset -c "$last" sh -c 'while :; do :; done' &
    busy=$!
    disturbed="$disturbed $(tps)"
    kill $busy 2>/dev/null
    wait $busy 2>/dev/null
    busy=
done
# shellcheck disable=SC2086 # lists of numbers
a=$(median $free) b=$(median $disturbed)
echo "$threads threads on cores $cores: undisturbed$free tok/s; with a busy loop on core $last$disturbed"
awk -v a="$a" -v b="$b" 'BEGIN { printf("medians %.1f and %.1f tok/s: %.0f %% are left\n", a, b, (a > 0) ? 100 * b / a : 0); exit !(a > 0 && b >= 0.4 * a) }'
