#!/bin/sh
# SPDX-License-Identifier: MIT
# cli_benchmark.sh MLX_LM: the lines of benchmark, alone and in a batch, and its JSON.
bin=$1
model=$LM_TEST_DATA/golden/checkpoints/qwen3/4bit-g64
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
if [ ! -f "$model/config.json" ]; then
    echo "skipped: $model is not here"
    exit 0
fi
failed=0
fail() {
    failed=1
    echo "FAILED: $*"
}

number='[0-9]+\.[0-9]{3}'
for batch in 1 3; do
    "$bin" benchmark --model "$model" -p 40 -g6 -b $batch -n 2 --prefill-step-size 16 >"$dir/out" 2>"$dir/err" || fail "exit code"
    sed -E "s/=$number/=X/g" "$dir/out" >"$dir/masked"
    {
        echo "Running warmup.."
        echo "Timing with prompt_tokens=40, generation_tokens=6, batch_size=$batch."
        echo "Trial 1:  prompt_tps=X, generation_tps=X, peak_memory=X, total_time=X"
        echo "Trial 2:  prompt_tps=X, generation_tps=X, peak_memory=X, total_time=X"
        echo "Averages: prompt_tps=X, generation_tps=X, peak_memory=X"
    } >"$dir/expected"
    cmp "$dir/expected" "$dir/masked" || fail "batch $batch: $(cat "$dir/out" "$dir/err")"
done

"$bin" benchmark --model "$model" -p 20 -g 4 -n 1 -b 1,2,5 >"$dir/out" 2>"$dir/err" || fail "a list of batches: $(cat "$dir/err")"
[ "$(grep -cE '^ *[125] +[0-9.]+ +[0-9.]+ +[0-9.]+x +[0-9.]+ +[0-9]+% +[0-9.]+$' "$dir/out")" -eq 3 ] || fail "table of batches: $(cat "$dir/out")"
[ "$(grep -c '^Batch-invariant: ' "$dir/out")" -eq 2 ] || fail "both kinds of a batch"
"$bin" benchmark --model "$model" -p 20 -g 4 -n 1 -b 2,1 --batch-invariant --no-warmup --json >"$dir/json" 2>"$dir/err" || fail "batches as JSON"
grep -q '"batch_invariant": \[' "$dir/json" && ! grep -q '"default": \[' "$dir/json" || fail "JSON of batches: $(cat "$dir/json")"
grep -q 'Running warmup' "$dir/err" && fail "--no-warmup"

"$bin" benchmark --model "$model" -p 5 -g 3 -n 3 --json >"$dir/json" 2>"$dir/err" || fail "json"
for key in name dtype precision cpu threads mlx-lm.c prompt_tokens use_mmap load_seconds trials rss mean stdev stderr interval_95; do
    grep -q "\"$key\": " "$dir/json" || fail "no \"$key\" in the JSON"
done
[ "$(grep -c '"total_time": [0-9]' "$dir/json")" -eq 3 ] || fail "trials in the JSON"
head -1 "$dir/json" | grep -q '^{$' || fail "stdout holds more than JSON"

"$bin" benchmark --model "$model" -p 20 -g 3 -n 1 -b 2 --ceilings --profile >"$dir/out" 2>"$dir/err" || fail "ceilings: $(cat "$dir/err")"
for line in '^Ceilings, 1 thread: read [0-9.]* GB/s' '^Share of ceiling: generation ' '^Profile of the prompt' '^Profile of generation' \
    '^  attention  *[0-9.]*% ' '^  output products ' '^  outside of stages '; do
    grep -q "$line" "$dir/out" || fail "no line $line: $(cat "$dir/out")"
done
"$bin" benchmark --model "$model" -p 2 -g 2 -n 1 --ceilings --profile --json >"$dir/json" 2>"$dir/err" || fail "ceilings as JSON"
for key in ceilings read_weights peak_f32 blocked_f32 peak_blocked shares token_bytes profile outside stage; do
    grep -q "\"$key\": " "$dir/json" || fail "no \"$key\" in the JSON"
done

"$bin" benchmark --model "$model" -p 1 -g 1 -n 1 >/dev/null 2>&1 || fail "one token in, one out"
"$bin" benchmark --model "$model" -p 1 -g 1 -n 1 -b 33 >/dev/null 2>&1 || fail "more sequences than decode together"
for flags in '-p 0' '-g 0' '-b 0' '-n 0' '-p -1' '--prefill-step-size 0' '--delay -1' '-b 1,0' '-b 99999999' '-b 1,2 --profile'; do
    # shellcheck disable=SC2086 # flags are words
    "$bin" benchmark --model "$model" $flags >"$dir/out" 2>"$dir/err"
    [ $? -eq 1 ] || fail "exit code of $flags"
    [ -s "$dir/out" ] && fail "output of $flags"
    [ "$(wc -l <"$dir/err")" -eq 1 ] || fail "error of $flags: $(cat "$dir/err")"
done
for sizes in '' x 1, ,1 -1 1.5 1,2x; do
    "$bin" benchmark --model "$model" "-b=$sizes" >"$dir/out" 2>"$dir/err"
    [ $? -eq 2 ] || fail "exit code of -b '$sizes'"
    grep -q 'argument --batch-size/-b: invalid int value' "$dir/err" || fail "error of -b '$sizes': $(cat "$dir/err")"
done
exit $failed
