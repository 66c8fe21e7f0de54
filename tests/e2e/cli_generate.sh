#!/bin/sh
# SPDX-License-Identifier: MIT
# cli_generate.sh MLX_LM: what generate prints, byte for byte except for speeds, on a tiny random checkpoint.
. "$(dirname "$0")/lib.sh"
model=$checkpoints/qwen3/4bit-g64
needs_model "$model"
gen() {
    "$program" generate --model "$model" --numerics f32 "$@"
}

# The block of lines, speeds masked.
gen -p 'one two' -m 12 >"$work/verbose" || fail "exit code"
gen -p 'one two' -m 12 --verbose False >"$work/plain" || fail "exit code of --verbose False"
sed -E 's/, [0-9]+\.[0-9]{3} tokens-per-sec$/, X tokens-per-sec/; s/^(Peak memory: )[0-9]+\.[0-9]{3} GB$/\1X GB/' \
    "$work/verbose" >"$work/masked"
tokens=$(sed -nE 's/^Prompt: ([0-9]+) tokens, X tokens-per-sec$/\1/p' "$work/masked")
{
    echo "=========="
    cat "$work/plain"
    echo "=========="
    echo "Prompt: $tokens tokens, X tokens-per-sec"
    echo "Generation: 12 tokens, X tokens-per-sec"
    echo "Peak memory: X GB"
} >"$work/expected"
cmp "$work/expected" "$work/masked" || fail "the block: $(cat "$work/masked")"

# The prompt from stdin, and the two escapes.
printf 'one\ntwo\tx' | gen -p - -m 8 --verbose f >"$work/stdin" || fail "stdin"
gen -p 'one\ntwo\tx' -m 8 --verbose F >"$work/escaped" || fail "escapes"
cmp "$work/stdin" "$work/escaped" || fail "stdin and escapes differ"
printf 'one\r\ntwo\tx' | gen -p - -m 8 --verbose f >"$work/crlf" || fail "carriage returns"
cmp "$work/stdin" "$work/crlf" || fail "carriage returns are not read as newlines"

# JSON: one line, the tokens of the text; a seed repeats itself; template or not changes the prompt.
gen -p 'one two' -m 12 --json >"$work/json" || fail "json"
[ "$(wc -l <"$work/json")" -eq 1 ] || fail "json is not one line"
grep -Eq '^\{"text": ".*", "tokens": \[([0-9]+, ){11}[0-9]+\], "finish_reason": "length", "prompt_tokens": '"$tokens", "$work/json" ||
    fail "json: $(cat "$work/json")"
for i in 1 2; do gen -p x -m 16 --temp 1.5 --top-p 0.95 --seed 5 --verbose F >"$work/seed$i" || fail "seed"; done
cmp "$work/seed1" "$work/seed2" || fail "a seed does not repeat itself"
gen -p x -m 16 --temp 1.5 --top-p 0.95 --seed 6 --verbose F >"$work/seed3" || fail "seed"
cmp -s "$work/seed1" "$work/seed3" && fail "another seed gives the same text"
gen -p 'one two' -m 4 --ignore-chat-template --json >"$work/raw" || fail "ignore-chat-template"
grep -q '"prompt_tokens": '"$tokens", "$work/raw" && fail "the template is not left out"
gen -p 'one two' -m 4 --system-prompt 'Be brief.' --json >"$work/system" || fail "system prompt"
grep -q '"prompt_tokens": '"$tokens", "$work/system" && fail "the system prompt is not there"
gen -p 'one two' -m 4 --prefill-response 'three' --json >/dev/null || fail "prefill response"

# A stop id ends the text and is not part of it.
first=$(sed -E 's/.*"tokens": \[([0-9]+).*/\1/' "$work/json")
gen -p 'one two' -m 12 --extra-eos-token "$first" >"$work/stopped" || fail "extra eos token"
printf '==========\n\n==========\nNo text generated for this prompt\n' | cmp - "$work/stopped" || fail "stopped: $(cat "$work/stopped")"
gen -p 'one two' -m 12 --extra-eos-token "$first" --json | grep -q '"finish_reason": "stop".*"generation_tokens": 1,' ||
    fail "finish_reason"

# Chunked prompts and thread counts change nothing.
for flags in '--prefill-step-size 3' '--threads 1' '--threads 2' --no-use-mmap; do
    # shellcheck disable=SC2086 # flags are words
    gen -p 'one two' -m 12 --verbose F $flags >"$work/same" || fail "$flags"
    cmp "$work/plain" "$work/same" || fail "$flags changes the text"
done

# Quantized keys and values: from 5000 tokens on nothing changes here; from 0 on threads and widths agree with themselves.
gen -p 'one two' -m 12 --verbose F --kv-bits 8 --kv-group-size 32 >"$work/same" || fail "--kv-bits"
cmp "$work/plain" "$work/same" || fail "--kv-bits changes a short text"
for bits in 2 3 4 5 6 8; do
    for threads in 1 2; do
        gen -p 'one two' -m 12 --json --kv-bits $bits --kv-group-size 32 --quantized-kv-start 0 --threads $threads >"$work/kv$threads" ||
            fail "--kv-bits $bits"
        sed -E 's/"(prompt_tps|generation_tps|peak_memory)": [^,}]*//g' "$work/kv$threads" >"$work/kvtext$threads"
    done
    cmp "$work/kvtext1" "$work/kvtext2" || fail "--kv-bits $bits: threads change the text"
done

# Errors: one line, exit 1.
for flags in '-m 0' '--kv-bits 7 --kv-group-size 32' '--kv-bits 8' '--kv-bits 8 --kv-group-size 48' '-m -7' '--temp -1' '--min-p 2' '--xtc-threshold 0.9' '--prefill-step-size 0' '--top-k 99999999 --temp 1' \
    '--extra-eos-token no-such-token' '--chat-template-config [1]' '--chat-template-config {' \
    '--chat-template-config {"messages":[]}' '--device nowhere'; do
    # shellcheck disable=SC2086
    refused 1 '^mlx_lm.generate: error: ' gen -p x $flags
    case $flags in
    *--kv-bits*) [ ! -s "$work/out" ] || fail "$flags: refused behind $(cat "$work/out")" ;;
    esac
done
printf 'a\377b' | gen -p - -m 2 >"$work/out" 2>"$work/err"
[ $? -eq 1 ] || fail "a prompt that is not UTF-8"

# A signal ends it cleanly: what came so far, a newline, no error line. (Shells start background jobs with SIGINT ignored,
# so TERM stands for both.)
"$program" generate --model "$model" -p x -m -1 --ignore-chat-template >"$work/out" 2>"$work/err" &
pid=$!
sleep 1
kill -TERM $pid 2>/dev/null
wait $pid
code=$?
[ $code -eq 143 ] || [ $code -eq 0 ] || fail "exit code $code after a signal"
[ -s "$work/err" ] && fail "after a signal: $(cat "$work/err")"
[ "$(head -1 "$work/out")" = ========== ] || fail "output before the signal"
finish
