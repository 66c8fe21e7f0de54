# SPDX-License-Identifier: MIT
# Sourced by bench/peers.sh for --shapes: models of real shapes with random weights (bench/synth.c), ours beside llama.cpp
# cell by cell. Uses its variables: OURS, BENCH, PEERS, RESULT, ROUNDS, THREAD_LIST, SHAPES, TOKENIZER, KEEP, P, G, cpu, revision, date.
# shellcheck shell=sh disable=SC2015,SC2034,SC2086,SC2154

PEER_SHAPES="smollm2-q4-g32 qwen3-0.6b-q4 qwen3-0.6b-q8 qwen3-0.6b-bf16 qwen3-4b-q4 qwen3-4b-q8 qwen3-30b-a3b:12-q4"
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
        model=$MODEL
        gguf=$GGUF
        mkdir -p out
        { [ "$2" = 0 ] && [ -f "$model/config.json" ]; } || smollm2_fetch out || die "$problem"
        smollm2_convert "$OURS" out || die "$problem"
        return
        ;;
    esac
    # SHAPE[:LAYERS]-PRECISION
    precision=$(printf %s "$1" | sed -E 's/.*-(bf16|q[0-9]+(-g[0-9]+)?)$/\1/')
    shape=${1%-"$precision"}
    words=$TOKENIZER
    # random weights, but its own tokens
    case $shape in smollm2-*) words=$MODEL ;; esac
    if [ ! -f "$model/config.json" ]; then
        need_space $(($(shape_megabytes "$1") + 1000)) "$PEERS"
        rm -rf "$model"
        step "making $1" synth build/release/bench/bench_synth "$shape" "$precision" "$words" "$model"
    fi
    [ "$2" = 1 ] && [ ! -f "$gguf" ] || return 0
    need_space $(($(shape_megabytes "$1") + 1000)) "$PEERS"
    step "writing it as GGUF" gguf "$OURS" convert --model "$model" --gguf-out "$gguf"
}

# key PROGRAM TEST: what a cell's line begins with
key() {
    printf '{"revision": "%s", "cpu": "%s", "model": "%s", "threads": %d, "round": %d, "prompt": %d, "generated": %d, "program": "%s", "test": "%s"' \
        "$revision" "$cpu" "$id" "$threads" "$round" "$P" "$G" "$1" "$2"
}

have() {
    [ -f "$RESULT" ] && grep -qF "$(key "$1" "$2")," "$RESULT"
}

# cell PROGRAM TEST TOKENS_PER_SECOND [NEEDS CEILING PEAK]: of a token in 1e9 bytes or operations; of a second in the same
# units: what memory or products out of caches reach, and products of registers alone
cell() {
    case $3 in
    '' | *[!0-9.e+-]*) die "$id, $1, $2: no figure: $(why "$log") (log: $log)" ;;
    esac
    have "$1" "$2" && return 0
    printf '%s, "tokens_per_second": %s, "needs": %s, "ceiling": %s, "registers": %s, "date": "%s"}\n' \
        "$(key "$1" "$2")" "$3" "${4:-0}" "${5:-0}" "${6:-0}" "$date" >>"$RESULT" || die "can't write $RESULT"
}

# ours_cells PROMPT: runs ours and reads its figures into prompt, generation, memory, and needs and ceilings of both
ours_cells() {
    quiet peers-ours "$OURS" benchmark --model "$model" --threads "$threads" -p "$1" -g $G -n 1 --ceilings --json $warm ||
        die "mlx_lm.benchmark failed: $(why "$log")"
    eval "$(awk '
        /^Averages:/ { sub(/.*prompt_tps=/, ""); split($0, f, /[^0-9.]+/); print "prompt=" f[1], "generation=" f[2], "memory=" f[3] }
        function number() { gsub(/[^0-9.e+-]/, "", $2); return $2 / 1e9 }
        $1 == "\"token_bytes\":" { print "token_bytes=" number() }
        $1 == "\"token_operations\":" { print "operations=" number() }
        $1 == "\"read\":" { print "read_ceiling=" number() }
        $1 == "\"peak\":" { print "peak=" number() }
        $1 == "\"peak_blocked\":" { print "blocked=" number() }' "$log")"
}

# llama_cell FLASH TEST ARGUMENTS...
llama_cell() {
    fa=$1
    what=$2
    shift 2
    have "llama.cpp fa=$fa" "$what" && return 0
    llama_warm=
    [ -z "$warm" ] || llama_warm=--no-warmup
    quiet peers-llama "$BENCH" -m "$gguf" -t "$threads" -r 1 -fa "$fa" -o jsonl $llama_warm "$@" || die "llama-bench failed: $(why "$log")"
    cell "llama.cpp fa=$fa" "$what" "$(sed -n 's/.*"avg_ts": *\([0-9.]*\).*/\1/p' "$log" | head -n 1)"
}

# measure_shape PEER: what is missing of one round of one model with one number of threads
measure_shape() {
    prompt='' generation='' memory='' token_bytes='' read_ceiling='' operations='' peak='' blocked=''
    if ! { have mlx-lm.c "prompt $P" && have mlx-lm.c "generation after $P" && have mlx-lm.c "peak GB"; }; then
        ours_cells "$P"
        cell mlx-lm.c "prompt $P" "$prompt" "$operations" "${blocked:-$peak}" "$peak"
        cell mlx-lm.c "generation after $P" "$generation" "$token_bytes" "$read_ceiling"
        cell mlx-lm.c "peak GB" "$memory"
    fi
    if ! have mlx-lm.c generation; then
        ours_cells 1
        cell mlx-lm.c generation "$generation" "$token_bytes" "$read_ceiling"
    fi
    [ "$1" = 1 ] || return 0
    for fa in $FLASH; do
        llama_cell "$fa" "prompt $P" -p "$P" -n 0
        llama_cell "$fa" "generation after $P" -p 0 -n "$G" -d "$P"
        llama_cell "$fa" generation -p 0 -n "$G"
    done
}

# all_there PEER: nothing of this round and number of threads is missing
all_there() {
    programs=mlx-lm.c
    [ "$1" = 0 ] || for fa in $FLASH; do programs="$programs
llama.cpp fa=$fa"; done
    have mlx-lm.c "peak GB" || return 1
    printf '%s\n' "$programs" | while read -r program; do
        have "$program" "prompt $P" && have "$program" "generation after $P" && have "$program" generation || exit 1
    done
}

# in_rounds COMMAND...: for every round and number of threads; ends with the first that fails
in_rounds() {
    round=1
    while [ $round -le "$ROUNDS" ]; do
        for threads in $THREAD_LIST; do
            "$@" || return 1
        done
        round=$((round + 1))
    done
}

round_of_shape() {
    all_there "$1" && return 0
    say "$id, $threads threads, round $round of $ROUNDS"
    measure_shape "$1"
}

run_shapes() {
    for id in $SHAPES; do
        peer=$LLAMA
        case " $OURS_SHAPES " in *" $id "*) peer=0 ;; esac
        # a prompt of these takes half a minute and more: no run beforehand, for nobody
        warm=
        case $id in qwen3-4b-* | qwen3-30b-*) warm=--no-warmup ;; esac
        if in_rounds all_there $peer; then
            say "$id: in $RESULT already"
            continue
        fi
        [ $peer = 0 ] || need_llama
        make_shape "$id" "$peer"
        # pages of a file that nobody read for a while are slow to come: not what is measured
        cat "$model"/*.safetensors >/dev/null
        [ $peer = 0 ] || cat "$gguf" >/dev/null
        in_rounds round_of_shape $peer || exit 1
        case $model in
        "$PEERS"/*) [ $KEEP = 1 ] || rm -rf "$model" "$gguf" ;;
        esac
    done
}
