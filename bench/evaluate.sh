#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: bench/evaluate.sh [-l LIMIT] [-L LIMIT] [-m MAX_TOKENS] [-s "SLOTS..."] [-w "WEIGHTS..."] [-t THREADS] [-o FOLDER] [-f]
# Questions a minute: mlx_lm.evaluate beside lm-eval 0.4.13 driving llama.cpp's server, on MMLU-Pro with the same data, the
# same prompt ids and the same token cap; SmolLM2-135M-Instruct as Q4_1 and Q8_0, the same weights on both sides.
#   -l 4     questions of each of the 14 subjects for the comparison     -L 40  for ours alone (0: not)
#   -m 128   tokens to generate at most, on both sides                   -s     server slots tried ("1 2 4 8")
#   -w       weights: "q4 q8"
#   -f       instead: 210 questions of the float32 copy in float32 arithmetic on both sides, at most 48 tokens; lists where texts part
# Needs what ./quickstart leaves in out/, a C++ compiler, python3 with pip, network for the first run. Pieces whose result
# lies in FOLDER (build/peers/evaluate) are kept: remove it to measure again. $RUN: a command before each measured piece.
# shellcheck disable=SC2015,SC2086
set -u
cd "$(dirname "$0")/.." || exit 1
. tools/setup.sh
. bench/llama.sh
# shellcheck disable=SC2034
SELF=bench/evaluate.sh

LIMIT=4
LONG=40
MAX=128
SLOTS="1 2 4 8"
WEIGHTS="q4 q8"
THREADS=$JOBS
RESULTS=$PEERS/evaluate
FLOAT=0
while [ $# -gt 0 ]; do
    case $1 in
    -l) LIMIT=$2 && shift 2 ;;
    -L) LONG=$2 && shift 2 ;;
    -m) MAX=$2 && shift 2 ;;
    -s) SLOTS=$2 && shift 2 ;;
    -w) WEIGHTS=$2 && shift 2 ;;
    -t) THREADS=$2 && shift 2 ;;
    -o) RESULTS=$2 && shift 2 ;;
    -f) FLOAT=1 && shift ;;
    *) die "usage: bench/evaluate.sh [-l LIMIT] [-L LIMIT] [-m MAX_TOKENS] [-s \"SLOTS...\"] [-w \"WEIGHTS...\"] [-t THREADS] [-o FOLDER] [-f]" ;;
    esac
done
RUN=${RUN:-}
OURS=build/release/mlx_lm
Q4=out/SmolLM2-135M-Instruct
[ -f $Q4.Q4_1.gguf ] && [ -d $Q4 ] && [ -x $OURS ] || die "run ./quickstart first: it makes $Q4, $Q4.Q4_1.gguf and $OURS"
need_space 4000 .
mkdir -p "$RESULTS" "$PEERS/data" || die "can't write to $RESULTS"

llama_tools llama-server llama-quantize
lm_eval_python
for file in test validation; do
    [ -f "$PEERS/data/$file.jsonl" ] || quiet unpack-data zstd -dq "data/mmlu_pro/$file.jsonl.zst" -o "$PEERS/data/$file.jsonl" ||
        die "can't unpack data/mmlu_pro/$file.jsonl.zst: $(why "$log")"
done

# An exact float32 copy, and the q8 pair: llama.cpp's Q8_0 of it, that converted without loss
F32=$PEERS/SmolLM2-f32
Q8=$PEERS/SmolLM2-Q8_0
[ -f "$F32/config.json" ] || step "making a float32 copy" evaluate-f32 $OURS convert --model $Q4 --mlx-path "$F32" -d --dtype float32
[ -f "$F32.gguf" ] || step "making its GGUF file" evaluate-gguf $OURS convert --model "$F32" --gguf-out "$F32.gguf"
if [ ! -f "$Q8/config.json" ]; then
    step "quantizing to Q8_0" evaluate-q8 "$LLAMA_BIN/llama-quantize" "$F32.gguf" "$Q8.gguf" Q8_0
    step "converting Q8_0" evaluate-q8-mlx $OURS convert --gguf "$Q8.gguf" --mlx-path "$Q8"
fi

# ours NAME MODEL LIMIT FLAGS...
ours() {
    out=$RESULTS/$1
    [ -f "$out.json" ] && return 0
    say "ours: $2, --limit $3"
    name=$1 model=$2 limit=$3
    shift 3
    rm -rf "$out" && mkdir -p "$out"
    quiet "evaluate-$name" $RUN $OURS evaluate --model "$model" --tasks mmlu_pro --limit "$limit" --max-tokens "$MAX" \
        --threads "$THREADS" --data "$PEERS/data" --output-dir "$out" "$@" || die "mlx_lm.evaluate failed: $(why "$log") (log: $log)"
    python3 bench/evaluate_table.py ours "$out" "$out.json" || die "no result in $out"
}

# peer NAME GGUF TOKENIZER SLOTS SERVER_ARGUMENTS
peer() {
    out=$RESULTS/$1
    [ -f "$out.json" ] && return 0
    say "lm-eval and llama.cpp: $2, $4 slots, --limit $LIMIT"
    quiet "evaluate-$1" $RUN "$LMEVAL" bench/evaluate_lmeval.py --server "$LLAMA_BIN/llama-server" --gguf "$2" --tokenizer "$3" \
        --data "$PEERS/data" --slots "$4" --threads "$THREADS" --limit "$LIMIT" --max-tokens "$MAX" --samples "$out.jsonl" \
        --out "$out.json" "--server-args=${5:-}" || die "lm-eval failed: $(why "$log") (log: $log)"
}

if [ $FLOAT = 1 ]; then
    LIMIT=15
    MAX=48
    ours f32-ours "$F32" $LIMIT --numerics f32
    peer f32-peer "$F32.gguf" "$F32" 2 "-fa off -ctk f32 -ctv f32"
    quiet f32-requests $OURS evaluate --model "$F32" --tasks mmlu_pro --limit $LIMIT --data "$PEERS/data" \
        --dump-requests "$RESULTS/f32-requests.jsonl" || die "--dump-requests failed: $(why "$log")"
    "$LMEVAL" tools/compare_with_llama.py $OURS "$F32" "$RESULTS/f32-requests.jsonl" "$RESULTS/f32-peer.jsonl" \
        "$RESULTS"/f32-ours/*_samples_*.jsonl
    exit $?
fi

for weights in $WEIGHTS; do
    case $weights in
    q4) model=$Q4 gguf=$Q4.Q4_1.gguf ;;
    q8) model=$Q8 gguf=$Q8.gguf ;;
    *) die "-w: q4 or q8, not $weights" ;;
    esac
    for slots in $SLOTS; do
        peer "$weights-peer-$slots" "$gguf" "$model" "$slots"
    done
    ours "$weights-ours" "$model" "$LIMIT"
    [ "$LONG" = 0 ] || ours "$weights-ours-long" "$model" "$LONG"
done
printf '\n%s, %s threads, %s, revision %s: MMLU-Pro, --max-tokens %s\n\n' "$(cpu_name)" "$THREADS" "$(date -u +%Y-%m-%dT%H:%MZ)" \
    "$(git describe --always --dirty 2>/dev/null || echo unknown)" "$MAX"
python3 bench/evaluate_table.py table "$RESULTS"
