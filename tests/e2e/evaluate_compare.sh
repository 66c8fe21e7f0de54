#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: evaluate_compare.sh MLX_LM
# mlx_lm.evaluate --compare: counts of known answers, a matrix, JSON, and what is refused.
. "$(dirname "$0")/lib.sh"
model=$checkpoints/qwen3/4bit-g64
needs_model "$model"
mkdir tokenizer && cp "$model"/tokenizer*.json tokenizer
"$program" evaluate --model tokenizer --tasks mmlu_pro_law mmlu_pro_math --limit 10 --dump-requests r.jsonl || fail "dump"
# right: the first N of each task
answers() { # name, N
    awk -v n="$2" '{
        match($0, /"doc_id": [0-9]+/); id = substr($0, RSTART + 10, RLENGTH - 10)
        match($0, /"target": "[A-J]"/); t = substr($0, RSTART + 11, 1)
        match($0, /"task": "[a-z_]+"/); k = substr($0, RSTART, RLENGTH)
        printf "{%s, \"doc_id\": %d, \"completion\": \"%s\"}\n", k, id, id < n ? "answer is " t : "?"
    }' r.jsonl >"$1.jsonl"
    "$program" evaluate --model tokenizer --tasks mmlu_pro_law mmlu_pro_math --limit 10 --answers "$1.jsonl" \
        --output-dir "$1" >/dev/null 2>&1 || fail "answers $1"
}
answers low 1
answers mid 3
answers high 9
"$program" evaluate --compare low high >out 2>err || fail "compare"
grep -q '^|all questions|20|0.1000|0.9000|+0.8000|.*|0|16|3.052e-05|3.052e-05|0.2000|0.2000|$' out || { fail "pair"; cat out; }
grep -q '^The two are separable' out || fail "separable"
grep -q '^|mmlu_pro_law||1 2 3 4 5 6 7 8|$' out || fail "flips"
# a report is outside text: a setting's name cannot add lines
cp -r high forged && sed -i 's/"settings": {/"settings": {"x\\n# All right\\u001b[2J": 1,/' forged/*_report.json
"$program" evaluate --compare low forged >out 2>err || fail "a forged setting"
grep -q '^note: setting x # All right \[2J is given in B only$' out || { fail "a forged setting"; cat out; }

"$program" evaluate --compare low mid high >out 2>err || fail "compare three"
grep -q '^|\*\*A\*\*||+0.2000 ± 0.1799 =|+0.8000 ± 0.1799|$' out || { fail "matrix"; cat out; }
"$program" evaluate --compare low high --json >a.json && "$program" evaluate --compare low/*_report.json high --json |
    sed "s#$(echo low/*_report.json)#low#" | cmp - a.json || fail "a report names its folder; equal every time"
grep -q '"mcnemar_p": 3.05175781[0-9]*e-05' a.json || fail "json"

"$program" evaluate --model tokenizer --tasks mmlu_pro_law --limit 10 --answers low.jsonl --output-dir law >/dev/null 2>&1
refused 1 '2 and 1 tasks' "$program" evaluate --compare low law
refused 1 'found 0' "$program" evaluate --compare low tokenizer
refused 1 'no such' "$program" evaluate --compare low nowhere
cp -r low other && sed -i 's/"test_sha256": "./"test_sha256": "x/' other/*_report.json
refused 1 'test questions differ' "$program" evaluate --compare low other
cp -r low short && sed -i 1d short/*_samples_mmlu_pro_law.jsonl
refused 1 '10 and 9 questions of mmlu_pro_law' "$program" evaluate --compare low short
cp -r low broken && echo '{"task": 1}' >>"$(echo broken/*_samples_mmlu_pro_law.jsonl)"
refused 1 'law.jsonl:11: task' "$program" evaluate --compare low broken
finish
