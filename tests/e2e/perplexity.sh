#!/bin/sh
# SPDX-License-Identifier: MIT
# perplexity.sh MLX_LM: mlx_lm.perplexity's stdout to the letter, data kinds, comparison by model and by file, the table,
# and what is refused. Values are checked in tests/unit/test_perplexity.c.
bin=$1
models=$LM_TEST_DATA/golden/checkpoints/qwen3
model=$models/4bit-g64
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
perplexity() {
    "$bin" perplexity --threads 1 "$@"
}

i=0
while [ $i -lt 40 ]; do
    echo "{\"text\": \"Line $i of a file that is long enough for a few rows of tokens.\"}"
    i=$((i + 1))
done >"$dir/rows.jsonl"
sed 's/.*: "//; s/"}//' "$dir/rows.jsonl" >"$dir/text.txt"

# mlx-lm's block, numbers replaced; the progress line ends in carriage returns
perplexity --model "$model" --data-path "$dir/rows.jsonl" --sequence-length 32 --num-samples 20 --batch-size 8 >"$dir/out" ||
    fail "exit code"
tr '\r' '\n' <"$dir/out" | sed -E 's/[0-9]+\.[0-9]+ ±/P ±/; s/± [0-9.]+/± S/; s/(time|memory): [0-9.]+/\1: N/; s/second: [0-9]+/second: N/' \
    >"$dir/plain"
cat >"$dir/expected" <<END
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
grep -v '^  Processed [12]/3' "$dir/plain" >"$dir/plain2"
grep -v '^  Processed [12]/3' "$dir/expected" >"$dir/expected2"
cmp "$dir/plain2" "$dir/expected2" || diff "$dir/expected2" "$dir/plain2"
cmp -s "$dir/plain2" "$dir/expected2" || fail "stdout"

# value KEY < JSON: the first "value" after KEY
value() {
    sed -n "/\"$1\"/,/\"value\"/s/.*\"value\": \([-0-9.e]*\).*/\1/p" | head -n 1
}

# The same digits for any batch size, thread count and load mode, with and without a comparison.
perplexity --model "$model" --data-path "$dir/text.txt" --sequence-length 48 --json >"$dir/a" || fail "json"
a=$(value perplexity <"$dir/a")
[ -n "$a" ] || fail "no value in $(cat "$dir/a")"
for flags in '--batch-size 1' '--batch-size 3' '--threads 2' --no-use-mmap "--against $models/8bit-g64" "--save-logits $dir/own"; do
    # shellcheck disable=SC2086 # flags are words
    perplexity --model "$model" --data-path "$dir/text.txt" --sequence-length 48 --json $flags >"$dir/b" || fail "$flags"
    b=$(value perplexity <"$dir/b")
    [ "$a" = "$b" ] || fail "$flags: $b, not $a"
done

# A base by model and by file agree where the file is exact; a model against itself is no distance away.
perplexity --model "$models/8bit-g64" --data-path "$dir/text.txt" --sequence-length 48 --save-logits "$dir/base" --json >"$dir/c" ||
    fail "--save-logits"
perplexity --model "$model" --data-path "$dir/text.txt" --sequence-length 48 --against "$models/8bit-g64" --json >"$dir/a" || fail "model"
perplexity --model "$model" --data-path "$dir/text.txt" --sequence-length 48 --against "$dir/base" --json >"$dir/b" || fail "file"
for key in base_perplexity ratio log_ratio same_top rms_change; do
    a=$(value $key <"$dir/a")
    b=$(value $key <"$dir/b")
    [ -n "$a" ] && [ "$a" = "$b" ] || fail "$key: $a by model, $b by file"
done
[ "$(value base_perplexity <"$dir/a")" = "$(value perplexity <"$dir/c")" ] || fail "the base's own perplexity"
perplexity --model "$model" --data-path "$dir/text.txt" --against "$model" >"$dir/out" || fail "against itself"
grep -q '^  KL divergence, mean:    0.000000 ± 0.000000 nats$' "$dir/out" || fail "KLD with itself: $(cat "$dir/out")"
grep -q '^  Same top token:         100.000 ± 0.000 %$' "$dir/out" || fail "top token with itself"

# The table: the base first, one row a model
perplexity --models "$models/8bit-g64" "$models/4bit-g64" --against "$models/bf16" --data-path "$dir/text.txt" >"$dir/out" ||
    fail "table"
[ "$(wc -l <"$dir/out")" -eq 5 ] || fail "rows of the table: $(cat "$dir/out")"
sed -n 3p "$dir/out" | grep -Eq '^\| bf16 \| bf16 \| 1\.1 \| 16\.000 \| [0-9.]+ ± [0-9.]+ \| base \|' || fail "base row"
sed -n 5p "$dir/out" | grep -Eq '^\| 4bit-g64 \| q4 g64 \| 0\.3 \| 4\.529 \| ([0-9.]+ ± [0-9.]+ \| ){3}[0-9.]+ \| ' || fail "row"
[ "$(awk -F'|' '{print NF}' "$dir/out" | sort -u | wc -l)" -eq 1 ] || fail "columns: $(cat "$dir/out")"

# Other data: stdin, a folder, messages
perplexity --model "$model" --data-path - --data-format text --sequence-length 0 --json <"$dir/text.txt" | grep -q '"samples": 1' ||
    fail "stdin"
mkdir "$dir/folder"
echo '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}' >"$dir/folder/train.jsonl"
perplexity --model "$model" --data-path "$dir/folder" --sequence-length 8 --json 2>"$dir/err" | grep -q '"samples": [1-9]' || fail "folder"
grep -q '1 documents give' "$dir/err" || fail "note: $(cat "$dir/err")"

# refused CODE PATTERN FLAGS...
refused() {
    code=$1 pattern=$2
    shift 2
    perplexity "$@" >"$dir/out" 2>"$dir/err" </dev/null
    got=$?
    [ $got -eq "$code" ] || fail "exit code $got of $*"
    grep -Eq -- "$pattern" "$dir/err" || fail "message of $*: $(cat "$dir/err")"
    [ "$code" -eq 2 ] || [ "$(wc -l <"$dir/err")" -eq 1 ] || fail "lines of $*"
}
refused 2 'arguments are required: --model' --data-path "$dir/text.txt"
refused 2 'not allowed with' --model "$model" --models "$model"
refused 2 'batch-size: expected' --model "$model" --batch-size 0
refused 2 'sequence-length: expected' --model "$model" --sequence-length 1
refused 2 'num-samples: expected' --model "$model" --num-samples 0
refused 2 'needs --data-format' --model "$model" --data-path -
refused 1 'tulu-3-sft-mixture: no such file; datasets are not downloaded' --model "$model"
refused 1 'nothing to score' --model "$model" --data-path - --data-format text
refused 1 'not JSON' --model "$model" --data-path "$dir/text.txt" --data-format jsonl
refused 1 'not a file of log-probabilities' --model "$model" --data-path "$dir/text.txt" --against "$dir/rows.jsonl"
refused 1 'rows of' --model "$model" --data-path "$dir/text.txt" --sequence-length 32 --against "$dir/base"
refused 1 'none/base: cannot create' --model "$model" --data-path "$dir/text.txt" --save-logits "$dir/none/base"
head -c 5000 "$dir/base" >"$dir/cut"
refused 1 'cut: expected [0-9]+ bytes, found 5000' --model "$model" --data-path "$dir/text.txt" --against "$dir/cut"
ls "$dir" | grep -q tmp && fail "temporary files are left"
exit $failed
