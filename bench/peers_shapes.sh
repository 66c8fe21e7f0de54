# SPDX-License-Identifier: MIT
# Sourced by bench/peers.sh for --shapes: models of real shapes with random weights (bench/synth.c), ours beside llama.cpp
# cell by cell. Uses its variables: OURS, BENCH, PEERS, RESULT, ROUNDS, THREAD_LIST, SHAPES, TOKENIZER, KEEP, P, G.
# shellcheck shell=sh disable=SC2015,SC2034,SC2086,SC2154

ALL_SHAPES="smollm2-q4-g32 qwen3-0.6b-q4 qwen3-0.6b-q8 qwen3-0.6b-bf16 qwen3-4b-q4 qwen3-4b-q8 qwen3-30b-a3b:12-q4"
# measured alone: peers have no such file, or it adds nothing
OURS_SHAPES="qwen3-4b-bf16 qwen3-4b-q6 qwen3-4b-q5-g32 qwen3-4b-q5 qwen3-4b-q4-g32 qwen3-4b-q3 qwen3-30b-a3b-q4"

# shape_megabytes SHAPE: of its folder
shape_megabytes() {
    case $1 in
    smollm2-*) echo 100 ;;
    qwen3-0.6b-bf16) echo 1200 ;;
    qwen3-0.6b-*) echo 700 ;;
    qwen3-4b-bf16) echo 8100 ;;
    qwen3-4b-q8) echo 4400 ;;
    qwen3-4b-*) echo 3500 ;;
    qwen3-30b-a3b-*) echo 17500 ;;
    *) echo 4800 ;;
    esac
}

# make_shape SHAPE PEER: its folder, and its GGUF file where a peer reads it
make_shape() {
    model=$PEERS/models/$1
    gguf=$model.gguf
    case $1 in
    smollm2-q4-g32)
        model=out/SmolLM2-135M-Instruct
        gguf=out/SmolLM2-135M-Instruct.Q4_1.gguf
        [ -f $gguf ] && [ -d $model ] || die "run ./quickstart first: it makes $gguf and $model"
        return
        ;;
    esac
    # SHAPE[:LAYERS]-PRECISION
    precision=$(printf %s "$1" | sed -E 's/.*-(bf16|q[0-9]+(-g[0-9]+)?)$/\1/')
    shape=${1%-"$precision"}
    if [ ! -f "$model/config.json" ]; then
        need_space $(($(shape_megabytes "$1") + 1000)) "$PEERS"
        rm -rf "$model"
        step "making $1" synth build/release/bench/bench_synth "$shape" "$precision" "$TOKENIZER" "$model"
    fi
    [ "$2" = 1 ] && [ ! -f "$gguf" ] || return 0
    need_space $(($(shape_megabytes "$1") + 1000)) "$PEERS"
    step "writing it as GGUF" gguf "$OURS" convert --model "$model" --gguf-out "$gguf"
}

# cell PROGRAM TEST TOKENS_PER_SECOND [BYTES_OR_OPERATIONS CEILING]: the latter two in 1e9 of a token, of a second
cell() {
    case $3 in
    '' | *[!0-9.e+-]*) die "$id, $1, $2: no figure: $(why "$log") (log: $log)" ;;
    esac
    printf '{"model": "%s", "program": "%s", "test": "%s", "tokens_per_second": %s, "needs": %s, "ceiling": %s, "round": %d, "threads": %d, "cpu": "%s", "revision": "%s", "date": "%s"}\n' \
        "$id" "$1" "$2" "$3" "${4:-0}" "${5:-0}" "$round" "$threads" "$cpu" "$revision" "$date" >>"$RESULT"
}

# ours_cells PROMPT: runs ours and reads its lines into prompt, generation, memory, and needs and ceilings of both
ours_cells() {
    quiet peers-ours "$OURS" benchmark --model "$model" --threads "$threads" -p "$1" -g $G -n 1 --ceilings $warm ||
        die "mlx_lm.benchmark failed: $(why "$log")"
    eval "$(awk '
        /^Averages:/ { sub(/.*prompt_tps=/, ""); split($0, f, /[^0-9.]+/); print "prompt=" f[1], "generation=" f[2], "memory=" f[3] }
        /^Share of ceiling:/ {
            gsub(/[()]/, "")
            for (i = 1; i <= NF; i++) {
                if ($i == "GB" && $(i + 1) == "a") print "token_bytes=" $(i - 1)
                if ($i ~ /^GB\/s/) print "read_ceiling=" $(i - 1)
                if ($i == "GFLOP") print "operations=" $(i - 1)
                if ($i ~ /^TFLOP\/s/) print "peak=" $(i - 1) * 1000
            }
        }' "$log")"
}

# llama_cell FLASH TEST ARGUMENTS...
llama_cell() {
    fa=$1
    what=$2
    shift 2
    llama_warm=
    [ -z "$warm" ] || llama_warm=--no-warmup
    quiet peers-llama "$BENCH" -m "$gguf" -t "$threads" -r 1 -fa "$fa" -o jsonl $llama_warm "$@" || die "llama-bench failed: $(why "$log")"
    cell "llama.cpp fa=$fa" "$what" "$(sed -n 's/.*"avg_ts": *\([0-9.]*\).*/\1/p' "$log" | head -n 1)"
}

# measure_shape PEER: one round of one model with one number of threads
measure_shape() {
    prompt='' generation='' memory='' token_bytes='' read_ceiling='' operations='' peak=''
    ours_cells $P
    cell mlx-lm.c "prompt $P" "$prompt" "$operations" "$peak"
    cell mlx-lm.c "generation after $P" "$generation" "$token_bytes" "$read_ceiling"
    cell mlx-lm.c "peak GB" "$memory"
    ours_cells 1
    cell mlx-lm.c generation "$generation" "$token_bytes" "$read_ceiling"
    [ "$1" = 1 ] || return 0
    for fa in $FLASH; do
        llama_cell "$fa" "prompt $P" -p $P -n 0
        llama_cell "$fa" "generation after $P" -p 0 -n $G -d $P
        llama_cell "$fa" generation -p 0 -n $G
    done
}

run_shapes() {
    for id in $SHAPES; do
        peer=$LLAMA
        case " $OURS_SHAPES " in *" $id "*) peer=0 ;; esac
        # a prompt of these takes half a minute and more: no run beforehand, for nobody
        warm=
        case $id in qwen3-4b-* | qwen3-30b-*) warm=--no-warmup ;; esac
        make_shape "$id" "$peer"
        # pages of a file that nobody read for a while are slow to come: not what is measured
        cat "$model"/*.safetensors >/dev/null
        [ $peer = 0 ] || cat "$gguf" >/dev/null
        round=1
        while [ $round -le "$ROUNDS" ]; do
            for threads in $THREAD_LIST; do
                say "$id, $threads threads, round $round of $ROUNDS"
                measure_shape $peer
            done
            round=$((round + 1))
        done
        case $model in
        "$PEERS"/*) [ $KEEP = 1 ] || rm -rf "$model" "$gguf" ;;
        esac
    done
}
