#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: bench/peers.sh [-r ROUNDS] [-t THREADS] [-o RESULT.jsonl] [--no-mlx]
#        bench/peers.sh --shapes [SHAPE...] [-r ROUNDS] [-t "1 2"] [-p TOKENS] [-g TOKENS] [-o RESULT.jsonl] [--tokenizer DIR]
#                       [--llama-bench FILE] [--fa "0 1"] [--no-llama] [--keep] [--list]
# Ours beside llama.cpp and mlx-lm (float32) on SmolLM2-135M-Instruct, in one run on one machine: rounds go through all
# programs in turn, so that a busy minute hits each of them. --shapes: models of real shapes with random weights, with
# shares of the machine's ceilings (peers_shapes.sh lists them; "peers": those that llama.cpp runs too; "ours": those that
# are measured alone; default: all of them; also smollm2-135m-q4-g32, random weights instead of the real file). Samples
# are added to RESULT, and what it holds already of the same program and machine isn't measured again: a run that was
# interrupted goes on where it was. One model is on the disk at a time (18.5 GB for the largest), and none afterwards.
# Needs a C++ compiler, python3 with pip, network for the first run; without --shapes (and for smollm2-*) what
# ./quickstart leaves in out/. Prints a table (median, lowest..highest of the rounds) and keeps every sample.
# shellcheck disable=SC2015,SC2086
set -u
cd "$(dirname "$0")/.." || exit 1
. tools/setup.sh
. tools/smollm2.sh
. bench/llama.sh
# shellcheck disable=SC2034
SELF=bench/peers.sh

ROUNDS=3
THREADS=$JOBS
RESULT=
MLX=1
SHAPES_ON=0
SHAPES=
THREAD_LIST="1 2"
TOKENIZER=
LLAMA=1
FLASH="0 1"
KEEP=0
LIST=0
P=2048
G=128
BENCH=
USAGE="usage: bench/peers.sh [--shapes [SHAPE...]] [-r ROUNDS] [-t THREADS] [-o RESULT.jsonl] ... (see its first lines)"
. bench/peers_shapes.sh
while [ $# -gt 0 ]; do
    case $1 in
    -r) ROUNDS=$2 && shift 2 ;;
    -t) THREADS=$2 && THREAD_LIST=$2 && shift 2 ;;
    -p) P=$2 && shift 2 ;;
    -g) G=$2 && shift 2 ;;
    --list) LIST=1 && shift ;;
    --shapes) SHAPES_ON=1 && shift ;;
    --tokenizer) TOKENIZER=$2 && shift 2 ;;
    --llama-bench) BENCH=$2 && shift 2 ;;
    --fa) FLASH=$2 && shift 2 ;;
    --no-llama) LLAMA=0 && shift ;;
    --keep) KEEP=1 && shift ;;
    ours) SHAPES="$SHAPES $OURS_SHAPES" && shift ;;
    peers) SHAPES="$SHAPES $PEER_SHAPES" && shift ;;
    smollm2-* | qwen3-*) SHAPES="$SHAPES $1" && shift ;;
    -o) RESULT=$2 && shift 2 ;;
    --no-mlx) MLX=0 && shift ;;
    *) die "$USAGE" ;;
    esac
done

GGUF=out/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL=out/SmolLM2-135M-Instruct
OURS=build/release/mlx_lm
MLX_PACKAGES="mlx[cpu]==0.32.4 mlx-lm==0.32.2"
cpu=$(cpu_name)
date=$(date -u +%Y-%m-%dT%H:%MZ)

mkdir -p "$PEERS" || die "can't write to $PEERS"
if [ $SHAPES_ON = 1 ]; then
    MLX=0
    SHAPES=${SHAPES:-$PEER_SHAPES $OURS_SHAPES}
    RESULT=${RESULT:-$PEERS/shapes.jsonl}
    if [ $LIST = 1 ]; then
        printf '%s\n' $SHAPES
        exit 0
    fi
    step "building" peers-build sh -c "cmake --preset release -DLM_TESTS=OFF && cmake --build --preset release -j $JOBS &&
        cmake --build --preset release -j $JOBS --target bench_synth"
else
    RESULT=${RESULT:-$PEERS/result.jsonl}
    [ -x $OURS ] && [ -f $GGUF ] && [ -d $MODEL ] || die "run ./quickstart first: it makes $GGUF, $MODEL and $OURS"
fi
need_space 3000 .
revision=$(git describe --always --dirty 2>/dev/null || echo unknown)
# what isn't committed has no name: the program's own
case $revision in *-dirty | unknown) revision=$revision-$(sha256 $OURS | cut -c 1-8) ;; esac

# need_llama: leaves $BENCH
need_llama() {
    [ -z "$BENCH" ] || return 0
    llama_tools llama-bench
    BENCH=$LLAMA_BIN/llama-bench
}

PY=$PEERS/venv/bin/python
if [ $MLX = 1 ] && [ ! -x "$PY" ]; then
    # shellcheck disable=SC2086
    step "installing $MLX_PACKAGES" mlx-install sh -c "python3 -m venv '$PEERS/venv' &&
        '$PY' -m pip install --disable-pip-version-check -q $MLX_PACKAGES"
fi

if [ $SHAPES_ON = 1 ]; then
    if [ -z "$TOKENIZER" ]; then
        TOKENIZER=$PEERS/tokenizers/qwen3
        [ -d "$TOKENIZER" ] || step "unpacking Qwen3's tokenizer" tokenizer tar xJf tests/data/tokenizers.tar.xz -C "$PEERS"
    fi
    [ -f "$TOKENIZER/tokenizer.json" ] || die "$TOKENIZER: no tokenizer.json"
    mkdir -p "$PEERS/models"
    run_shapes
    printf '\n%s, %s, revision %s: tokens per second, median (lowest..highest), share of the ceiling; best of llama.cpp %s\n\n' \
        "$cpu" "$date" "$revision" "$LLAMA_VERSION"
    sh bench/table_shapes.sh "$RESULT" "$revision"
    say "samples: $RESULT"
    exit 0
fi

need_llama
: >"$RESULT" || die "can't write $RESULT"

# sample PROGRAM TEST TOKENS_PER_SECOND
sample() {
    case $3 in
    '' | *[!0-9.e+-]*) die "$1, $2: no figure: $(why "$log") (log: $log)" ;;
    esac
    printf '{"program": "%s", "test": "%s", "tokens_per_second": %s, "round": %d, "threads": %d, "cpu": "%s", "revision": "%s", "date": "%s"}\n' \
        "$1" "$2" "$3" "$round" "$THREADS" "$cpu" "$revision" "$date" >>"$RESULT"
}

# ours PROMPT: generation follows the prompt, so it runs at that depth
ours() {
    quiet peers-ours $OURS benchmark --model $MODEL --threads "$THREADS" -p "$1" -g $G -n 1 || die "mlx_lm.benchmark failed: $(why "$log")"
    prompt=$(awk '/^Averages:/ { sub(/.*prompt_tps=/, ""); sub(/,.*/, ""); print }' "$log")
    generation=$(awk '/^Averages:/ { sub(/.*generation_tps=/, ""); sub(/,.*/, ""); print }' "$log")
}

# llama FLASH ARGUMENTS...: one figure
llama() {
    fa=$1
    shift
    quiet peers-llama "$BENCH" -m $GGUF -t "$THREADS" -r 1 -fa "$fa" -o jsonl "$@" || die "llama-bench failed: $(why "$log")"
    figure=$(sed -n 's/.*"avg_ts": *\([0-9.]*\).*/\1/p' "$log" | head -n 1)
}

round=1
while [ $round -le "$ROUNDS" ]; do
    say "round $round of $ROUNDS"
    ours $P
    sample "mlx-lm.c" "pp$P" "$prompt"
    sample "mlx-lm.c" "tg$G after $P" "$generation"
    ours 1
    sample "mlx-lm.c" "tg$G" "$generation"
    for fa in 0 1; do
        llama "$fa" -p $P -n 0 && sample "llama.cpp fa=$fa" "pp$P" "$figure"
        llama "$fa" -p 0 -n $G -d $P && sample "llama.cpp fa=$fa" "tg$G after $P" "$figure"
        llama "$fa" -p 0 -n $G && sample "llama.cpp fa=$fa" "tg$G" "$figure"
    done
    if [ $MLX = 1 ]; then
        # a float32 copy, the fastest that mlx-lm is on a CPU; it can't do 2048 tokens in reasonable time
        quiet peers-mlx "$PY" bench/mlx_float32.py $MODEL 128 16 || die "mlx-lm failed: $(why "$log")"
        sample "mlx-lm float32 (pp128, tg16)" "pp$P" "$(sed -n 's/^prompt_tps=//p' "$log")"
        sample "mlx-lm float32 (pp128, tg16)" "tg$G" "$(sed -n 's/^generation_tps=//p' "$log")"
    fi
    round=$((round + 1))
done

printf '\n%s, %s threads, %s, revision %s: SmolLM2-135M-Instruct Q4_1, tokens per second, median (lowest..highest) of %s rounds\n\n' \
    "$cpu" "$THREADS" "$date" "$revision" "$ROUNDS"
sh bench/table.sh "$RESULT"
say "samples: $RESULT"
