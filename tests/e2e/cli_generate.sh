#!/bin/sh
# SPDX-License-Identifier: MIT
# cli_generate.sh MLX_LM: what generate prints, byte for byte except for speeds, on a tiny random checkpoint.
bin=$1
model=$LM_TEST_DATA/golden/checkpoints/qwen3/4bit-g64
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
gen() {
    "$bin" generate --model "$model" --numerics f32 "$@"
}

# The block of lines, speeds masked.
gen -p 'one two' -m 12 >"$dir/verbose" || fail "exit code"
gen -p 'one two' -m 12 --verbose False >"$dir/plain" || fail "exit code of --verbose False"
sed -E 's/, [0-9]+\.[0-9]{3} tokens-per-sec$/, X tokens-per-sec/; s/^(Peak memory: )[0-9]+\.[0-9]{3} GB$/\1X GB/' \
    "$dir/verbose" >"$dir/masked"
tokens=$(sed -nE 's/^Prompt: ([0-9]+) tokens, X tokens-per-sec$/\1/p' "$dir/masked")
{
    echo "=========="
    cat "$dir/plain"
    echo "=========="
    echo "Prompt: $tokens tokens, X tokens-per-sec"
    echo "Generation: 12 tokens, X tokens-per-sec"
    echo "Peak memory: X GB"
} >"$dir/expected"
cmp "$dir/expected" "$dir/masked" || fail "the block: $(cat "$dir/masked")"

# The prompt from stdin, and the two escapes.
printf 'one\ntwo\tx' | gen -p - -m 8 --verbose f >"$dir/stdin" || fail "stdin"
gen -p 'one\ntwo\tx' -m 8 --verbose F >"$dir/escaped" || fail "escapes"
cmp "$dir/stdin" "$dir/escaped" || fail "stdin and escapes differ"
printf 'one\r\ntwo\tx' | gen -p - -m 8 --verbose f >"$dir/crlf" || fail "carriage returns"
cmp "$dir/stdin" "$dir/crlf" || fail "carriage returns are not read as newlines"

# JSON: one line, the tokens of the text; a seed repeats itself; template or not changes the prompt.
gen -p 'one two' -m 12 --json >"$dir/json" || fail "json"
[ "$(wc -l <"$dir/json")" -eq 1 ] || fail "json is not one line"
grep -Eq '^\{"text": ".*", "tokens": \[([0-9]+, ){11}[0-9]+\], "finish_reason": "length", "prompt_tokens": '"$tokens", "$dir/json" ||
    fail "json: $(cat "$dir/json")"
for i in 1 2; do gen -p x -m 16 --temp 1.5 --top-p 0.95 --seed 5 --verbose F >"$dir/seed$i" || fail "seed"; done
cmp "$dir/seed1" "$dir/seed2" || fail "a seed does not repeat itself"
gen -p x -m 16 --temp 1.5 --top-p 0.95 --seed 6 --verbose F >"$dir/seed3" || fail "seed"
cmp -s "$dir/seed1" "$dir/seed3" && fail "another seed gives the same text"
gen -p 'one two' -m 4 --ignore-chat-template --json >"$dir/raw" || fail "ignore-chat-template"
grep -q '"prompt_tokens": '"$tokens", "$dir/raw" && fail "the template is not left out"
gen -p 'one two' -m 4 --system-prompt 'Be brief.' --json >"$dir/system" || fail "system prompt"
grep -q '"prompt_tokens": '"$tokens", "$dir/system" && fail "the system prompt is not there"
gen -p 'one two' -m 4 --prefill-response 'three' --json >/dev/null || fail "prefill response"

# A stop id ends the text and is not part of it.
first=$(sed -E 's/.*"tokens": \[([0-9]+).*/\1/' "$dir/json")
gen -p 'one two' -m 12 --extra-eos-token "$first" >"$dir/stopped" || fail "extra eos token"
printf '==========\n\n==========\nNo text generated for this prompt\n' | cmp - "$dir/stopped" || fail "stopped: $(cat "$dir/stopped")"
gen -p 'one two' -m 12 --extra-eos-token "$first" --json | grep -q '"finish_reason": "stop".*"generation_tokens": 1,' ||
    fail "finish_reason"

# Chunked prompts and thread counts change nothing.
for flags in '--prefill-step-size 3' '--threads 1' '--threads 2' --no-use-mmap; do
    # shellcheck disable=SC2086 # flags are words
    gen -p 'one two' -m 12 --verbose F $flags >"$dir/same" || fail "$flags"
    cmp "$dir/plain" "$dir/same" || fail "$flags changes the text"
done

# Quantized keys and values: from 5000 tokens on nothing changes here; from 0 on threads and widths agree with themselves.
gen -p 'one two' -m 12 --verbose F --kv-bits 8 --kv-group-size 32 >"$dir/same" || fail "--kv-bits"
cmp "$dir/plain" "$dir/same" || fail "--kv-bits changes a short text"
for bits in 2 3 4 5 6 8; do
    for threads in 1 2; do
        gen -p 'one two' -m 12 --json --kv-bits $bits --kv-group-size 32 --quantized-kv-start 0 --threads $threads >"$dir/kv$threads" ||
            fail "--kv-bits $bits"
        sed -E 's/"(prompt_tps|generation_tps|peak_memory)": [^,}]*//g' "$dir/kv$threads" >"$dir/kvtext$threads"
    done
    cmp "$dir/kvtext1" "$dir/kvtext2" || fail "--kv-bits $bits: threads change the text"
done

# Errors: one line, exit 1.
for flags in '-m 0' '--kv-bits 7 --kv-group-size 32' '--kv-bits 8' '--kv-bits 8 --kv-group-size 48' '-m -7' '--temp -1' '--min-p 2' '--xtc-threshold 0.9' '--prefill-step-size 0' '--top-k 99999999 --temp 1' \
    '--extra-eos-token no-such-token' '--chat-template-config [1]' '--chat-template-config {' \
    '--chat-template-config {"messages":[]}' '--device nowhere'; do
    # shellcheck disable=SC2086
    gen -p x $flags >"$dir/out" 2>"$dir/err"
    [ $? -eq 1 ] || fail "exit code of $flags"
    [ "$(wc -l <"$dir/err")" -eq 1 ] || fail "error of $flags: $(cat "$dir/err")"
done
printf 'a\377b' | gen -p - -m 2 >"$dir/out" 2>"$dir/err"
[ $? -eq 1 ] || fail "a prompt that is not UTF-8"

# A signal ends it cleanly: what came so far, a newline, no error line. (Shells start background jobs with SIGINT ignored,
# so TERM stands for both.)
"$bin" generate --model "$model" -p x -m -1 --ignore-chat-template >"$dir/out" 2>"$dir/err" &
pid=$!
sleep 1
kill -TERM $pid 2>/dev/null
wait $pid
code=$?
[ $code -eq 143 ] || [ $code -eq 0 ] || fail "exit code $code after a signal"
[ -s "$dir/err" ] && fail "after a signal: $(cat "$dir/err")"
[ "$(head -1 "$dir/out")" = ========== ] || fail "output before the signal"
exit $failed
