#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: tools/precision_table.sh [-m MODEL] [-d TEXT] [-o FOLDER] [-l]
# One model in every precision, as a Markdown table: size, bits per weight, perplexity, distance from the bfloat16 copy.
# Converts MODEL (out/SmolLM2-135M-Instruct, from ./quickstart) into FOLDER (build/precisions; folders that exist are kept) and
# runs mlx_lm.perplexity --models ... --against bf16 twice: windows of 512 tokens, then llama.cpp's rule (windows of 512, the
# second half of each scored). -l: llama.cpp's quantizations of the same bfloat16 model too, by llama-perplexity
# --kl-divergence, for the second table (fetches and builds it in build/peers). TEXT: the tests' text of 1,793 tokens.
# shellcheck disable=SC2015,SC2086
set -u
cd "$(dirname "$0")/.." || exit 1
. tools/setup.sh
. bench/llama.sh
# shellcheck disable=SC2034
SELF=tools/precision_table.sh

MODEL=out/SmolLM2-135M-Instruct
TEXT=
OUT=build/precisions
LLAMA=0
OURS=build/release/mlx_lm
while [ $# -gt 0 ]; do
    case $1 in
    -m) MODEL=$2 && shift 2 ;;
    -d) TEXT=$2 && shift 2 ;;
    -o) OUT=$2 && shift 2 ;;
    -l) LLAMA=1 && shift ;;
    *) die "usage: tools/precision_table.sh [-m MODEL] [-d TEXT] [-o FOLDER] [-l]" ;;
    esac
done
[ -f "$MODEL/config.json" ] && [ -x $OURS ] || die "no $MODEL or no $OURS: run ./quickstart first"
mkdir -p "$OUT" && [ -w "$OUT" ] || die "can't write to $OUT"
need_space 3000 "$OUT"
if [ -z "$TEXT" ]; then
    TEXT=$OUT/golden/smollm2/text.txt
    [ -f "$TEXT" ] || quiet precision-text tar xJf tests/data/smollm2.tar.xz -C "$OUT" golden/smollm2/text.txt ||
        die "can't unpack the text: $(why "$log")"
fi
[ -f "$TEXT" ] || die "$TEXT isn't there"

# convert NAME FLAGS...: $OUT/NAME from the bfloat16 copy
convert() {
    name=$1
    shift
    [ -f "$OUT/$name/config.json" ] || step "converting to $name" "precision-$name" $OURS convert --model "$OUT/bf16" \
        --mlx-path "$OUT/$name" "$@"
}

[ -f "$OUT/bf16/config.json" ] || step "copying to bfloat16" precision-bf16 $OURS convert --model "$MODEL" --mlx-path "$OUT/bf16" \
    -d --dtype bfloat16
MODELS=
NAMES=
for row in q8:8:64 q6:6:64 q5-g32:5:32 q5:5:64 q4-g32:4:32 q4:4:64 q3:3:64 q2:2:64; do
    name=${row%%:*}
    rest=${row#*:}
    convert "$name" -q --q-bits "${rest%:*}" --q-group-size "${rest#*:}"
    MODELS="$MODELS $OUT/$name"
    NAMES="$NAMES $name"
done

# table FLAGS...: the base's log-probabilities once, then every model beside them
table() {
    base=$OUT/base.lp
    rm -f "$base"
    step "the base" precision-base $OURS perplexity --model "$OUT/bf16" --data-path "$TEXT" --save-logits "$base" "$@"
    say "perplexity --models ... --against bf16 $*"
    printf '\nmlx_lm.perplexity --models%s --against bf16 --data-path %s %s\n\n' "$NAMES" "$TEXT" "$*"
    $OURS perplexity --models $MODELS --against "$base" --data-path "$TEXT" "$@" || die "perplexity failed"
    rm -f "$base"
    printf '\n'
}

table --sequence-length 512
table --sequence-length 512 --skip 256 --no-keep-rest
[ $LLAMA = 1 ] || exit 0

llama_tools llama-perplexity llama-quantize
BASE=$OUT/bf16.gguf
PARAMETERS=$(sed -n 's/.*"total_parameters": *\([0-9]*\).*/\1/p' "$OUT/bf16/model.safetensors.index.json")
[ -f "$BASE" ] || step "making $BASE" precision-gguf $OURS convert --model "$OUT/bf16" --gguf-out "$BASE"
# the base's logits in llama.cpp's own file, then every type against them
step "llama.cpp: the base" precision-llama-base "$LLAMA_BIN/llama-perplexity" -m "$BASE" -f "$TEXT" -c 512 -t "$JOBS" \
    --kl-divergence-base "$OUT/base.kld"
printf '\nllama-perplexity -m TYPE.gguf -f %s -c 512 --kl-divergence --kl-divergence-base base.kld\n\n' "$TEXT"
printf '| type | size, MB | bits/weight | PPL | ln(PPL ratio) | KLD, mean | KLD, 99 %% | KLD, max | same top, %% |\n'
printf '|---|---:|---:|---:|---:|---:|---:|---:|---:|\n'
for type in BF16 F16 Q8_0 Q6_K Q5_1 Q5_0 Q4_1 Q4_0 Q3_K_M Q2_K; do
    file=$OUT/$type.gguf
    [ $type = BF16 ] && file=$BASE
    [ -f "$file" ] || step "quantizing to $type" "precision-$type" "$LLAMA_BIN/llama-quantize" "$BASE" "$file" $type
    quiet "precision-llama-$type" "$LLAMA_BIN/llama-perplexity" -m "$file" -f "$TEXT" -c 512 -t "$JOBS" --kl-divergence \
        --kl-divergence-base "$OUT/base.kld" || die "llama-perplexity failed on $type: $(why "$log") (log: $log)"
    # bits/weight without the file's header, which is that of the 16-bit file
    awk -v type=$type -v bytes="$(wc -c <"$file")" -v base="$(wc -c <"$BASE")" -v n="$PARAMETERS" '
        function value(    s) { s = $0; sub(/^[^:]*: */, "", s); gsub(/ +/, " ", s); sub(/-?nan/, "n/a", s); return s }
        /^Mean PPL\(Q\) +:/ { ppl = value() }
        /^Mean ln\(PPL\(Q\)\/PPL\(base\)\)/ { ratio = value() }
        /^Mean +KLD:/ { mean = value() }
        /^99\.0% +KLD:/ { high = value() }
        /^Maximum KLD:/ { max = value() }
        /^Same top p:/ { top = value(); sub(/ *%/, "", top) }
        END { printf "| %s | %.1f | %.3f | %s | %s | %s | %s | %s | %s |\n", type, bytes / 1e6, 16 + 8 * (bytes - base) / n, ppl, ratio, mean, high, max, top }' "$log"
done
rm -f "$OUT/base.kld"
