#!/bin/sh
# SPDX-License-Identifier: MIT
# hostile.sh PROGRAM: broken and malicious model folders. Each must end in exit 1 and one line on stderr, quickly.
. "$(dirname "$0")/lib.sh"
good=$checkpoints/qwen3/4bit-g64
needs_model "$good"
echo '[1, 2, 3]' > "$work/ids.json"

# check NAME PATTERN COMMAND...: exit 1, one line, which matches PATTERN
check() {
    name=$1 pattern=$2
    shift 2
    echo "$name"
    refused 1 "$pattern" "$@"
    cut -c1-160 "$work/err" | sed "s|$work|.|g"
}
logits() { check "$1" "$2" "$program" logits --model "$work/m" --ids "$work/ids.json" --out "$work/l.safetensors"; }
fresh() {
    rm -rf "$work/m"
    mkdir "$work/m"
    cp "$good"/* "$work/m/"
    chmod -R u+w "$work/m"
}
# header TEXT DATA: a safetensors file of that header and data in place of the model's
header() {
    fresh
    length=${#1}
    {
        printf "$(printf '\\%03o\\%03o\\000\\000\\000\\000\\000\\000' $((length % 256)) $((length / 256)))"
        printf '%s%s' "$1" "$2"
    } > "$work/m/model.safetensors"
    rm -f "$work/m/model.safetensors.index.json"
}

# ---- weights files
fresh
size=$(wc -c < "$good/model.safetensors")
head -c $((size - 100)) "$good/model.safetensors" > "$work/m/model.safetensors"
logits truncated 'model.safetensors'
head -c 5 "$good/model.safetensors" > "$work/m/model.safetensors"
logits cut-in-length 'model.safetensors'
head -c 500 "$good/model.safetensors" > "$work/m/model.safetensors"
logits cut-in-header 'model.safetensors'
: > "$work/m/model.safetensors"
logits empty-file 'model.safetensors'
{ cat "$good/model.safetensors"; printf 'x'; } > "$work/m/model.safetensors"
logits trailing-byte 'model.safetensors'
printf '\377\377\377\377\377\377\377\177{}' > "$work/m/model.safetensors"
logits oversized-header 'model.safetensors'
header '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}' 123456
logits overlapping 'model.safetensors.*(overlap|gap|begin)'
header '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}}' 123456
logits gapped 'model.safetensors'
header '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}' 1234
logits duplicate-key 'model.safetensors.*(uplicate)'
header '{"a":{"dtype":"F32","shape":[4611686018427387904,16],"data_offsets":[0,4]}}' 1234
logits shape-overflow 'model.safetensors'
header '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,99999999]}}' 1234
logits past-the-end 'model.safetensors'
header '{"a":{"dtype":"U9","shape":[4],"data_offsets":[0,4]}}' 1234
logits unknown-dtype 'U9'
header '[1,2,3]' ''
logits header-not-an-object 'model.safetensors'
rm -f "$work"/m/*.safetensors
logits no-weights 'safetensors'

# ---- index
fresh
echo '{"metadata":{},"weight_map":{"model.norm.weight":"../../etc/passwd"}}' > "$work/m/model.safetensors.index.json"
logits index-outside 'index.json'
echo '{"weight_map":' > "$work/m/model.safetensors.index.json"
logits index-malformed 'index.json'

# ---- config
config() {
    fresh
    sed -i "$2" "$work/m/config.json"
    logits "$1" "$3"
}
config huge-hidden 's/"hidden_size": [0-9]*/"hidden_size": 1000000000000000/' 'hidden_size'
config huge-integer 's/"hidden_size": [0-9]*/"hidden_size": 99999999999999999999999999/' 'config.json'
config negative-layers 's/"num_hidden_layers": [0-9]*/"num_hidden_layers": -4/' 'num_hidden_layers'
config many-layers 's/"num_hidden_layers": [0-9]*/"num_hidden_layers": 2000000000/' 'num_hidden_layers'
config more-layers 's/"num_hidden_layers": [0-9]*/"num_hidden_layers": 4000/' 'missing'
config zero-heads 's/"num_attention_heads": [0-9]*/"num_attention_heads": 0/' 'num_attention_heads'
config odd-heads 's/"num_attention_heads": [0-9]*/"num_attention_heads": 3/' 'num_attention_heads|q_proj'
config vocab-mismatch 's/"vocab_size": [0-9]*/"vocab_size": 100000000/' 'embed_tokens'
config string-size 's/"hidden_size": [0-9]*/"hidden_size": "big"/' 'hidden_size'
config unknown-family 's/"model_type": "[a-z0-9_]*"/"model_type": "gigantor"/' 'gigantor'
config wrong-bits 's/"bits": 4/"bits": 7/' 'config.json|bits'
fresh
: > "$work/m/config.json"
logits empty-config 'config.json'
fresh
head -c 100000 /dev/zero | tr '\0' '[' > "$work/m/config.json"
logits deep-config 'config.json'
fresh
rm "$work/m/config.json"
logits no-config 'config.json'
check no-folder "$work/none" "$program" logits --model "$work/none" --ids "$work/ids.json" --out "$work/l.safetensors"

# ---- tokenizer and template
fresh
head -c 3000 "$good/tokenizer.json" > "$work/m/tokenizer.json"
check truncated-tokenizer 'tokenizer.json' sh -c "echo '\"x\"' | '$program' tokenize --model '$work/m'"
fresh
rm "$work/m/tokenizer.json"
check no-tokenizer "$work/m: no tokenizer.json" "$program" generate --model "$work/m" --prompt hello --max-tokens 1
check no-tokenizer "$work/m: no tokenizer.json" "$program" evaluate --model "$work/m" --tasks mmlu_pro --limit 1 --output-dir "$work"
fresh
echo '{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}x{% endfor %}{% endfor %}{% endfor %}' > "$work/m/chat_template.jinja"
check endless-template '.' "$program" generate --model "$work/m" --prompt hello --max-tokens 1
echo '{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}' > "$work/m/chat_template.jinja"
check recursive-template '.' "$program" generate --model "$work/m" --prompt hello --max-tokens 1
echo '{% set ns = namespace(s="x") %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}' > "$work/m/chat_template.jinja"
check doubling-template '.' "$program" generate --model "$work/m" --prompt hello --max-tokens 1

# a message of 4095 bytes that ends within a character still is a line of JSON
printf '%s' "{{ raise_exception('é' * 5000) }}" > "$work/raise.jinja"
echo '{"messages": []}' | "$program" render --template "$work/raise.jinja" > "$work/out" || fail "long message: exit $?"
grep -q '^{"error": "\(é\)*?"}$' "$work/out" || fail "long message: $(head -c 200 "$work/out")"

# ---- ids
fresh
echo '[1, 2, 999999999]' > "$work/ids.json"
logits id-out-of-range '999999999'
echo '[1, "a"]' > "$work/ids.json"
logits id-not-a-number 'ids.json'
echo '{"a": 1}' > "$work/ids.json"
logits ids-not-a-list 'ids.json'

finish
