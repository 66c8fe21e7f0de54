# SPDX-License-Identifier: MIT
"""Checks the ids that `mlx_lm.evaluate` generated greedily against mlx-lm in float32 (weights dequantized exactly).

usage: check_answers.py MODEL REQUESTS.jsonl SAMPLES.jsonl...
REQUESTS: what `mlx_lm.evaluate ... --dump-requests` wrote; SAMPLES: the sample files of the same evaluation.
Each answer is teacher-forced: at every step the reference's best token must be ours, up to the first step at which the
reference's two best logits are less than 0.002 apart. An answer that ended at a stop id must find a stop id best after
its last token. Needs mlx[cpu], mlx-lm. Prints one line a question and ends with a sum; exit 1 on any other difference."""
import json
import sys
import time

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm import load
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache
from mlx_lm.utils import dequantize_model

GAP = 2e-3
mx.set_default_device(mx.cpu)


def float32(tree):
    return tree_map(lambda a: a.astype(mx.float32) if mx.issubdtype(a.dtype, mx.floating) else a, tree)


def open_model(path):
    model, tokenizer = load(path, lazy=True)
    model.update(float32(model.parameters()))  # scales and biases first: then dequantizing is exact
    model = dequantize_model(model)
    model.update(float32(model.parameters()))
    mx.eval(model.parameters())
    return model, tokenizer


def common(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def check(logits, ids, stopped, stop_ids):
    """(status, step, gap): status equal, tie or different."""
    wanted = ids + ([None] if stopped else [])
    for step, token in enumerate(wanted):
        row = logits[step]
        two = mx.topk(row, 2)
        gap = abs((two[1] - two[0]).item())
        best = mx.argmax(row).item()
        if (best in stop_ids) if token is None else best == token:
            continue
        return ("tie" if gap < GAP else "different"), step, gap
    return "equal", len(wanted), None


def main():
    path, requests, samples = sys.argv[1], sys.argv[2], sys.argv[3:]
    model, tokenizer = open_model(path)
    prompts = {}
    for line in open(requests, encoding="utf-8"):
        r = json.loads(line)
        prompts[r["task"], r["doc_id"]] = r["prompt"]
    cache, held, count = make_prompt_cache(model), [], {"equal": 0, "tie": 0, "different": 0}
    special = tokenizer.chat_template is None  # as mlx_lm.evaluate: special tokens only without a template
    start = time.time()
    for name in samples:
        for line in open(name, encoding="utf-8"):
            s = json.loads(line)
            prompt = tokenizer.encode(prompts[s["task"], s["doc_id"]], add_special_tokens=special)
            if len(prompt) != s["prompt_tokens"]:
                sys.exit(f"{name}: {s['task']} {s['doc_id']}: {s['prompt_tokens']} prompt tokens, mlx-lm has {len(prompt)}")
            keep = min(common(held, prompt), len(prompt) - 1)
            trim_prompt_cache(cache, len(held) - keep)
            stop_ids = set(tokenizer.eos_token_ids)
            ids = s["ids"]
            stopped = s["finish"] == "stop"
            if ids and ids[-1] in stop_ids:
                ids = ids[:-1]
            tokens = prompt + ids
            logits = model(mx.array(tokens[keep:])[None], cache=cache)[0, len(prompt) - 1 - keep :]
            mx.eval(logits)
            held = tokens
            status, step, gap = check(logits, ids, stopped, stop_ids)
            count[status] += 1
            more = "" if status == "equal" else f" at step {step}, top-two gap {gap:.2e}"
            print(f"{s['task']} {s['doc_id']}: {len(ids)} tokens, {status}{more}", flush=True)
    print(f"{count['equal']} equal, {count['tie']} part at a gap below {GAP}, {count['different']} different ({time.time() - start:.0f} s)")
    sys.exit(count["different"] != 0)


if __name__ == "__main__":
    main()
