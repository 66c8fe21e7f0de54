#!/bin/sh
# SPDX-License-Identifier: MIT
# cli_benchmark.sh MLX_LM: the lines of benchmark, alone and in a batch, and its JSON.
. "$(dirname "$0")/lib.sh"
model=$checkpoints/qwen3/4bit-g64
needs_model "$model"

number='[0-9]+\.[0-9]{3}'
for batch in 1 3; do
    "$program" benchmark --model "$model" -p 40 -g6 -b $batch -n 2 --prefill-step-size 16 >"$work/out" 2>"$work/err" || fail "exit code"
    sed -E "s/=$number/=X/g" "$work/out" >"$work/masked"
    {
        echo "Running warmup.."
        echo "Timing with prompt_tokens=40, generation_tokens=6, batch_size=$batch."
        echo "Trial 1:  prompt_tps=X, generation_tps=X, peak_memory=X, total_time=X"
        echo "Trial 2:  prompt_tps=X, generation_tps=X, peak_memory=X, total_time=X"
        echo "Averages: prompt_tps=X, generation_tps=X, peak_memory=X"
    } >"$work/expected"
    cmp "$work/expected" "$work/masked" || fail "batch $batch: $(cat "$work/out" "$work/err")"
done

"$program" benchmark --model "$model" -p 20 -g 4 -n 1 -b 1,2,5 >"$work/out" 2>"$work/err" || fail "a list of batches: $(cat "$work/err")"
[ "$(grep -cE '^ *[125] +[0-9.]+ +[0-9.]+ +[0-9.]+x +[0-9.]+ +[0-9]+% +[0-9.]+$' "$work/out")" -eq 3 ] || fail "table of batches: $(cat "$work/out")"
[ "$(grep -c '^Batch-invariant: ' "$work/out")" -eq 2 ] || fail "both kinds of a batch"
"$program" benchmark --model "$model" -p 20 -g 4 -n 1 -b 2,1 --batch-invariant --no-warmup --json >"$work/json" 2>"$work/err" || fail "batches as JSON"
grep -q '"batch_invariant": \[' "$work/json" && ! grep -q '"default": \[' "$work/json" || fail "JSON of batches: $(cat "$work/json")"
grep -q 'Running warmup' "$work/err" && fail "--no-warmup"

"$program" benchmark --model "$model" -p 5 -g 3 -n 3 --json >"$work/json" 2>"$work/err" || fail "json"
for key in name dtype precision cpu threads mlx-lm.c prompt_tokens use_mmap load_seconds trials rss mean stdev stderr interval_95; do
    grep -q "\"$key\": " "$work/json" || fail "no \"$key\" in the JSON"
done
[ "$(grep -c '"total_time": [0-9]' "$work/json")" -eq 3 ] || fail "trials in the JSON"
head -1 "$work/json" | grep -q '^{$' || fail "stdout holds more than JSON"

"$program" benchmark --model "$model" -p 20 -g 3 -n 1 -b 2 --ceilings --profile >"$work/out" 2>"$work/err" || fail "ceilings: $(cat "$work/err")"
for line in '^Ceilings, 1 thread: read [0-9.]* GB/s' '^Share of ceiling: generation ' '^Profile of the prompt' '^Profile of generation' \
    '^  attention  *[0-9.]*% ' '^  output products ' '^  outside of stages '; do
    grep -q "$line" "$work/out" || fail "no line $line: $(cat "$work/out")"
done
"$program" benchmark --model "$model" -p 2 -g 2 -n 1 --ceilings --profile --json >"$work/json" 2>"$work/err" || fail "ceilings as JSON"
for key in ceilings read_weights peak_f32 blocked_f32 peak_blocked shares token_bytes profile outside stage; do
    grep -q "\"$key\": " "$work/json" || fail "no \"$key\" in the JSON"
done

"$program" benchmark --model "$model" -p 1 -g 1 -n 1 >/dev/null 2>&1 || fail "one token in, one out"
"$program" benchmark --model "$model" -p 1 -g 1 -n 1 -b 33 >/dev/null 2>&1 || fail "more sequences than decode together"
for flags in '-p 0' '-g 0' '-b 0' '-n 0' '-p -1' '--prefill-step-size 0' '--delay -1' '-b 1,0' '-b 99999999' '-b 1,2 --profile'; do
    # shellcheck disable=SC2086 # flags are words
    refused 1 '^mlx_lm.benchmark: error: ' "$program" benchmark --model "$model" $flags
    [ -s "$work/out" ] && fail "output of $flags"
done
for sizes in '' x 1, ,1 -1 1.5 1,2x; do
    refused 2 'argument --batch-size/-b: invalid int value' "$program" benchmark --model "$model" "-b=$sizes"
done
finish
