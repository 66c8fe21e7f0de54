#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: evaluate_repeats.sh MLX_LM
# Sampled evaluations with several answers a question: the same bytes for any batch, sharing and after a kill; scores of
# the repeats and their variance in report and table.
. "$(dirname "$0")/lib.sh"
model=$checkpoints/qwen3/4bit-g64
needs_model "$model"
run() { # folder, options...
    folder=$1
    shift
    exec "$program" evaluate --model "$model" --tasks mmlu_pro_law mmlu_pro_math --limit 3 --max-tokens 20 --num-shots 1 \
        --temp 1 --seed 5 --output-dir "$folder" "$@"
}
(run whole --repeats 4 --table) >out 2>err || { fail "run"; cat err; exit 1; }
report=$(echo whole/*_repeats-4_report.json)
[ -f "$report" ] || fail "the report's name says the repeats"
grep -q '"count": 4' "$report" || fail "repeats in the report"
grep -q '"mmlu_pro_law": {"mean": [0-9.e-]*, "variance": [0-9.e-]*, "scores": \[[0-9.e-]*, [0-9.e-]*, [0-9.e-]*, [0-9.e-]*\]}' \
    "$report" || fail "scores of the repeats"
grep -q '^|law|3|4|0\.[0-9]*|' out || { fail "table of repeats"; cat out; }
[ "$(cat whole/*_samples_mmlu_pro_law.jsonl | wc -l)" = 12 ] || fail "four answers to each of three questions"
[ "$(sed 's/.*"ids": //' whole/*_samples_mmlu_pro_law.jsonl | sort -u | wc -l)" -gt 9 ] || fail "the answers differ"

(run b1 --repeats 4 --batch-size 1 --no-prefix-sharing) >/dev/null 2>err || { fail "batch 1"; cat err; }
same_results b1 "batch 1, nothing shared"
(run b7 --repeats 4 --batch-size 7 --threads 1) >/dev/null 2>err || { fail "batch 7"; cat err; }
same_results b7 "batch 7"

# the first answer of each question is the one that a run without repeats gives
(run once) >/dev/null 2>err || { fail "without repeats"; cat err; }
grep '"repeat": 0' whole/*_samples_mmlu_pro_math.jsonl | sed 's/"repeat": 0, //' |
    cmp - once/*_samples_mmlu_pro_math.jsonl || fail "the first repeat"

# killed at some moment, the same command goes on
for moment in 0.2 0.4 0.6; do
    (run killed --repeats 4) >/dev/null 2>&1 &
    pid=$!
    sleep $moment
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
done
(run killed --repeats 4) >/dev/null 2>err || { fail "resumed"; cat err; }
same_results killed "resumed"
(run killed --repeats 4 --temp 0) >out 2>err
[ $? = 2 ] || fail "greedy repeats are refused"
finish
