#!/bin/sh
# SPDX-License-Identifier: MIT
# perplexity.sh MLX_LM: mlx_lm.perplexity's stdout to the letter, data kinds, comparison by model and by file, the table,
# and what is refused. Values are checked in tests/unit/test_perplexity.c.
. "$(dirname "$0")/lib.sh"
models=$checkpoints/qwen3
model=$models/4bit-g64
needs_model "$model"
perplexity() {
    "$program" perplexity --threads 1 "$@"
}

i=0
while [ $i -lt 40 ]; do
    echo "{\"text\": \"Line $i of a file that is long enough for a few rows of tokens.\"}"
    i=$((i + 1))
done >"$work/rows.jsonl"
sed 's/.*: "//; s/"}//' "$work/rows.jsonl" >"$work/text.txt"

# mlx-lm's block, numbers replaced; the progress line ends in carriage returns
perplexity --model "$model" --data-path "$work/rows.jsonl" --sequence-length 32 --num-samples 20 --batch-size 8 >"$work/out" ||
    fail "exit code"
tr '\r' '\n' <"$work/out" | sed -E 's/[0-9]+\.[0-9]+ ±/P ±/; s/± [0-9.]+/± S/; s/(time|memory): [0-9.]+/\1: N/; s/second: [0-9]+/second: N/' \
    >"$work/plain"
cat >"$work/expected" <<END
Loading model from $model...
Model loaded: 0.6M parameters

Loading dataset...
  Sequence length: 32
  Loaded 20 samples

Evaluating perplexity with batch size 8...
  Processed 1/3 batches...
  Processed 2/3 batches...
  Processed 3/3 batches...


============================================================
EVALUATION RESULTS
============================================================
Model: $model
Perplexity: P ± S
Evaluation time: N seconds
Peak memory: N GB
Tokens per second: N

Dataset statistics:
  Total samples: 20
  Total tokens: 640
END
# a run may finish batches two at a time
grep -v '^  Processed [12]/3' "$work/plain" >"$work/plain2"
grep -v '^  Processed [12]/3' "$work/expected" >"$work/expected2"
cmp "$work/plain2" "$work/expected2" || diff "$work/expected2" "$work/plain2"
cmp -s "$work/plain2" "$work/expected2" || fail "stdout"

# value KEY < JSON: the first "value" after KEY
value() {
    sed -n "/\"$1\"/,/\"value\"/s/.*\"value\": \([-0-9.e]*\).*/\1/p" | head -n 1
}

# The same digits for any batch size, thread count and load mode, with and without a comparison.
perplexity --model "$model" --data-path "$work/text.txt" --sequence-length 48 --json >"$work/a" || fail "json"
a=$(value perplexity <"$work/a")
[ -n "$a" ] || fail "no value in $(cat "$work/a")"
for flags in '--batch-size 1' '--batch-size 3' '--threads 2' --no-use-mmap "--against $models/8bit-g64" "--save-logits $work/own"; do
    # shellcheck disable=SC2086 # flags are words
    perplexity --model "$model" --data-path "$work/text.txt" --sequence-length 48 --json $flags >"$work/b" || fail "$flags"
    b=$(value perplexity <"$work/b")
    [ "$a" = "$b" ] || fail "$flags: $b, not $a"
done

# A base by model and by file agree where the file is exact; a model against itself is no distance away.
perplexity --model "$models/8bit-g64" --data-path "$work/text.txt" --sequence-length 48 --save-logits "$work/base" --json >"$work/c" ||
    fail "--save-logits"
perplexity --model "$model" --data-path "$work/text.txt" --sequence-length 48 --against "$models/8bit-g64" --json >"$work/a" || fail "model"
perplexity --model "$model" --data-path "$work/text.txt" --sequence-length 48 --against "$work/base" --json >"$work/b" || fail "file"
for key in base_perplexity ratio log_ratio same_top rms_change; do
    a=$(value $key <"$work/a")
    b=$(value $key <"$work/b")
    [ -n "$a" ] && [ "$a" = "$b" ] || fail "$key: $a by model, $b by file"
done
[ "$(value base_perplexity <"$work/a")" = "$(value perplexity <"$work/c")" ] || fail "the base's own perplexity"
perplexity --model "$model" --data-path "$work/text.txt" --against "$model" >"$work/out" || fail "against itself"
grep -q '^  KL divergence, mean:    0.000000 ± 0.000000 nats$' "$work/out" || fail "KLD with itself: $(cat "$work/out")"
grep -q '^  Same top token:         100.000 ± 0.000 %$' "$work/out" || fail "top token with itself"

# The table: the base first, one row a model
perplexity --models "$models/8bit-g64" "$models/4bit-g64" --against "$models/bf16" --data-path "$work/text.txt" >"$work/out" ||
    fail "table"
[ "$(wc -l <"$work/out")" -eq 5 ] || fail "rows of the table: $(cat "$work/out")"
sed -n 3p "$work/out" | grep -Eq '^\| bf16 \| bf16 \| 1\.1 \| 16\.000 \| [0-9.]+ ± [0-9.]+ \| base \|' || fail "base row"
sed -n 5p "$work/out" | grep -Eq '^\| 4bit-g64 \| q4 g64 \| 0\.3 \| 4\.529 \| ([0-9.]+ ± [0-9.]+ \| ){3}[0-9.]+ \| ' || fail "row"
[ "$(awk -F'|' '{print NF}' "$work/out" | sort -u | wc -l)" -eq 1 ] || fail "columns: $(cat "$work/out")"

# Other data: stdin, a folder, messages
perplexity --model "$model" --data-path - --data-format text --sequence-length 0 --json <"$work/text.txt" | grep -q '"samples": 1' ||
    fail "stdin"
mkdir "$work/folder"
echo '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}' >"$work/folder/train.jsonl"
perplexity --model "$model" --data-path "$work/folder" --sequence-length 8 --json 2>"$work/err" | grep -q '"samples": [1-9]' || fail "folder"
grep -q '1 documents give' "$work/err" || fail "note: $(cat "$work/err")"

refused 2 'arguments are required: --model' perplexity --data-path "$work/text.txt"
refused 2 'not allowed with' perplexity --model "$model" --models "$model"
refused 2 'batch-size: expected' perplexity --model "$model" --batch-size 0
refused 2 'sequence-length: expected' perplexity --model "$model" --sequence-length 1
refused 2 'num-samples: expected' perplexity --model "$model" --num-samples 0
refused 2 'needs --data-format' perplexity --model "$model" --data-path -
refused 1 'tulu-3-sft-mixture: no such file; datasets are not downloaded' perplexity --model "$model"
refused 1 'nothing to score' perplexity --model "$model" --data-path - --data-format text
refused 1 'not JSON' perplexity --model "$model" --data-path "$work/text.txt" --data-format jsonl
refused 1 'not a file of log-probabilities' perplexity --model "$model" --data-path "$work/text.txt" --against "$work/rows.jsonl"
refused 1 'rows of' perplexity --model "$model" --data-path "$work/text.txt" --sequence-length 32 --against "$work/base"
refused 1 'none/base: cannot create' perplexity --model "$model" --data-path "$work/text.txt" --save-logits "$work/none/base"
head -c 5000 "$work/base" >"$work/cut"
refused 1 'cut: expected [0-9]+ bytes, found 5000' perplexity --model "$model" --data-path "$work/text.txt" --against "$work/cut"
ls "$work" | grep -q tmp && fail "temporary files are left"
finish
