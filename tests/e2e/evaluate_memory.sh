#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: evaluate_memory.sh MLX_LM [QUESTIONS_A_TASK]
# --max-memory bounds the whole process, mapped weights included, and costs speed only: peak of RssAnon + RssFile, as
# the kernel counts it, within 2 % of the budget, and the same answers as without one. With a tiny checkpoint, and with
# SmolLM2 (300 MB) where LM_TEST_SMOLLM2 names it.
. "$(dirname "$0")/lib.sh"
limit=${2:-1}
number() { # key, folder
    sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" "$2"/*_run.json
}
# The process's high-water mark while it runs, from outside, in bytes: VmHWM is RssAnon + RssFile (+ shared memory: none).
watch() {
    peak=0
    while kill -0 "$1" 2>/dev/null; do
        now=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$1/status" 2>/dev/null)
        [ "${now:-0}" -le $peak ] || peak=$now
        sleep 0.05
    done
    peak=$((peak * 1024))
}
check() { # model, budget in bytes, options...
    model=$1 budget=$2
    shift 2
    rm -rf "$work/free" "$work/tight"
    "$program" evaluate --model "$model" --tasks mmlu_pro --max-memory 0 --output-dir "$work/free" "$@" >/dev/null \
        2>"$work/err" || { fail "without a budget"; cat "$work/err"; return; }
    "$program" evaluate --model "$model" --tasks mmlu_pro --max-memory "$budget" --output-dir "$work/tight" "$@" \
        >/dev/null 2>"$work/err" &
    pid=$!
    watch $pid
    wait $pid || { fail "with $budget bytes"; cat "$work/err"; return; }
    for file in "$work"/free/*_samples_*; do
        cmp "$file" "$work/tight/${file##*/}" || fail "a budget changes answers"
    done
    seen=$(number rss_peak_bytes "$work/tight")
    echo "$model: budget $budget, peak $peak from outside, $seen from inside" \
        "(RssAnon $(number rss_anon_bytes "$work/tight") + RssFile $(number rss_file_bytes "$work/tight")," \
        "$(number suspended "$work/tight") suspended); without: $(number rss_peak_bytes "$work/free")"
    [ "$seen" -le $((budget + budget / 50)) ] || fail "more than 102 % of the budget"
    [ "$peak" -le $((budget + budget / 50)) ] || fail "more than 102 % of the budget, seen from outside"
}
if "$program" --version --json | grep -q 'fsanitize'; then
    echo "skipped: a sanitizer's memory is not the program's"
    exit 0
fi
[ -r /proc/self/status ] || { echo "skipped: no /proc/self/status here"; exit 0; }
tiny=$checkpoints/qwen3/4bit-g64
if [ -f "$tiny/config.json" ]; then
    check "$tiny" 36000000 --limit 2 --max-tokens 20 --batch-size 32
else
    echo "skipped: $tiny is not here"
fi
if [ -f "${LM_TEST_SMOLLM2:-}/config.json" ]; then
    check "$LM_TEST_SMOLLM2" 300000000 --limit "$limit" --max-tokens 192
else
    echo "skipped: LM_TEST_SMOLLM2 is not set"
fi
finish
