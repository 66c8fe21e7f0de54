#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: evaluate.sh MLX_LM
# mlx_lm.evaluate from the outside: requests, answers, a run of a tiny model (batch 1 and 5 alike), Ctrl-C, bad flags.
. "$(dirname "$0")/lib.sh"
model=$checkpoints/qwen3/4bit-g64
needs_model "$model"

# requests: --task is a prefix of --tasks, FILE may be stdout, no weights are needed
mkdir tokenizer && cp "$model"/tokenizer*.json tokenizer
"$program" evaluate --model tokenizer --task mmlu_pro_law mmlu_pro_math --limit 3 --no-apply-chat-template \
    --dump-requests r.jsonl || fail "dump"
[ "$(wc -l <r.jsonl)" = 6 ] || fail "six requests"
head -n 3 r.jsonl >r.law
"$program" evaluate --model tokenizer --task=mmlu_pro_law --limit 3 --no-apply-chat-template --dump-requests - |
    cmp - r.law || fail "dump to stdout"
sed -n 4p r.jsonl | grep -q '^{"task": "mmlu_pro_math", "doc_id": 0, "prompt": "The following' || fail "second task"

# answers: scores, table, report
sed 's/^{"task": "\([a-z_]*\)", "doc_id": \([0-9]*\),.*"target": "\([A-J]\)".*/{"task": "\1", "doc_id": \2, "completion": "The answer is (\3)."}/' \
    r.jsonl >a.jsonl
"$program" evaluate --model tokenizer --tasks mmlu_pro_law mmlu_pro_math --limit 3 --answers a.jsonl --table \
    >out 2>err || fail "answers"
grep -q '"exact_match,custom-extract": 1.0,' out || fail "all right"
grep -q '^|math |' out || fail "table"
grep -q 'not comparable with published' err || fail "note on stderr"
[ ! -e eval_tokenizer_0.4.13_mmlu_pro_law_mmlu_pro_math ] || fail "answers write files only with --output-dir"

# a run: the same samples whatever the batch, mlx_lm's lines and file
for batch in 1 5; do
    "$program" evaluate --model "$model" --tasks mmlu_pro_law mmlu_pro_math --limit 2 --max-tokens 5 --num-shots 1 \
        --batch-size $batch --output-dir run$batch/deep >out$batch 2>err || { fail "run"; cat err; }
done
name=$(cd run5/deep && ls | grep 'mmlu_pro_math$')
case $name in
eval_*_4bit-g64_0.4.13_01_mmlu_pro_law_mmlu_pro_math) ;;
*) fail "file name $name" ;;
esac
for task in law math; do
    cmp "run1/deep/${name}_samples_mmlu_pro_$task.jsonl" "run5/deep/${name}_samples_mmlu_pro_$task.jsonl" ||
        fail "batch 1 and 5 differ"
done
cmp "run1/deep/$name" "run5/deep/$name" || fail "results differ"
tr '\r' '\n' <out5 | grep -q '^\[batch_generate\] Finished processing 4/4$' || fail "counting line"
for line in 'Prompt: [0-9]* tokens, [0-9.]* tokens-per-sec' 'Generation: [0-9]* tokens, [0-9.]* tokens-per-sec' \
    'Peak memory: [0-9]*\.[0-9][0-9][0-9] GB'; do
    grep -q "^\[batch_generate\] $line\$" out5 || fail "line $line"
done
grep -q '^Results:$' out5 || fail "Results:"

# samples are answers, too
cat run5/deep/*_samples_* >s.jsonl
"$program" evaluate --model "$model" --tasks mmlu_pro_law mmlu_pro_math --num-shots 1 --limit 2 --answers s.jsonl \
    --output-dir again >/dev/null 2>&1 || fail "samples as answers"
cmp "again/$name" "run5/deep/$name" || fail "samples give the same results"

# Ctrl-C: 130, what was answered stays
"$program" evaluate --model "$model" --tasks mmlu_pro --max-tokens 3 --output-dir stopped >out 2>err &
pid=$!
tries=0
while [ $tries -lt 600 ] && ! tr '\r' '\n' <out | grep -q 'processing [1-9]'; do
    sleep 0.1
    tries=$((tries + 1))
done
kill -TERM $pid
wait $pid
code=$?
[ $code = 143 ] || [ $code = 130 ] || fail "exit $code after a signal"
ls stopped/*_samples_mmlu_pro_biology.jsonl >/dev/null 2>&1 || fail "answers so far"
[ -z "$(find stopped -name '*_mmlu_pro' -o -name '*_report.json')" ] || fail "no results of a part"

# errors
refused 2 'the following arguments are required: --tasks' "$program" evaluate --model "$model"
refused 2 '--batch-size: expected 1 to 65536' "$program" evaluate --model "$model" --task mmlu_pro --batch-size 0
refused 2 'ambiguous option: --t could match --tasks' "$program" evaluate --model "$model" --t mmlu_pro
refused 1 'mmlu_pro_nothing.* is no task' "$program" evaluate --model tokenizer --task mmlu_pro_nothing --dump-requests -
refused 1 '\(6\) exceeds the 5 that are available' "$program" evaluate --model tokenizer --task mmlu_pro --num-shots 6 --dump-requests -
refused 1 'limit 0, 712 rows' "$program" evaluate --model tokenizer --task mmlu_pro --limit 0 --dump-requests -
refused 1 '^mlx_lm.evaluate: error: nowhere/test.jsonl: ' "$program" evaluate --model tokenizer --task mmlu_pro --data nowhere --dump-requests -
refused 1 'expected a JSON object, found another type' "$program" evaluate --model tokenizer --task mmlu_pro --chat-template-args '[1]' --dump-requests -
refused 1 'nowhere: neither a path nor a model' "$program" evaluate --model nowhere --task mmlu_pro --dump-requests -
finish
