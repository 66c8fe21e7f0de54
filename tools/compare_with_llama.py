# SPDX-License-Identifier: MIT
"""Compares greedy answers of mlx_lm.evaluate with those that lm-eval got from llama.cpp for the same weights.

usage: compare_with_llama.py MLX_LM_PROGRAM MODEL REQUESTS.jsonl PEER_SAMPLES.jsonl OUR_SAMPLES.jsonl...
REQUESTS: `mlx_lm.evaluate ... --dump-requests`; PEER_SAMPLES: bench/evaluate_lmeval.py --samples; OUR_SAMPLES: the sample files of
the output folder. Where two texts part, `mlx_lm logits --numerics f32` gives the two best logits after their common part: the gap
must be below 0.002, our token the best and llama.cpp's text must go on with the second. Every parting is listed, with both
filtered answers. Exit 1 if filtered answers differ without such a parting, or texts part at a wider gap.
Needs transformers, safetensors, numpy."""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file
from transformers import AutoTokenizer

GAP = 2e-3
UNTIL = "Question:"  # both cut there


def rows(name):
    with open(name, encoding="utf-8") as f:
        for line in f:
            r = json.loads(line)
            yield (r["task"], r["doc_id"]), r


class Comparison:
    def __init__(self, program, model):
        self.program, self.model = program, model
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        with open(os.path.join(model, "config.json")) as f:
            stop = json.load(f)["eos_token_id"]
        self.stop = set(stop if isinstance(stop, list) else [stop])

    def text(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def common(self, ids, peer):
        """How many of our ids both texts share."""
        n = len(ids)
        while n and not peer.startswith(self.text(ids[:n]).rstrip("\ufffd")):
            n -= 1
        return n

    def best_two(self, ids):
        with tempfile.TemporaryDirectory() as folder:
            name = os.path.join(folder, "logits.safetensors")
            subprocess.run([self.program, "logits", "--model", self.model, "--ids", "-", "--out", name, "--numerics", "f32"],
                           input=json.dumps(ids).encode(), check=True)
            last = load_file(name)["logits"][-1]
        order = np.argsort(-last, kind="stable")[:2]
        return [int(t) for t in order], float(last[order[0]] - last[order[1]])

    def goes_on_with(self, peer, before, token):
        """Whether the peer's text has this token after our common part (a stop id: whether it ends)."""
        if token in self.stop:
            return peer == self.text(before)
        return peer.startswith(self.text(before + [token]).rstrip("\ufffd"))

    def compare(self, prompt, ours, peer):
        """None if the texts are equal, else (step, gap, whether the parting is a tie)."""
        ids = ours["ids"]  # without the stop id that ended them
        ended = ours["finish"] == "stop"
        cut = self.text(ids).split(UNTIL)[0]
        if cut.rstrip("\ufffd") == peer["completion"].split(UNTIL)[0].rstrip("\ufffd"):
            return None
        step = self.common(ids, peer["completion"])
        before = ids[:step]
        two, gap = self.best_two(self.tokenizer.encode(prompt, add_special_tokens=False) + before)
        mine = two[0] in self.stop if step == len(ids) and ended else two[0] == (ids + [None])[step]
        return step, gap, gap < GAP and mine and self.goes_on_with(peer["completion"], before, two[1])


def main():
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    c = Comparison(sys.argv[1], sys.argv[2])
    prompts = {key: r["prompt"] for key, r in rows(sys.argv[3])}
    peers = dict(rows(sys.argv[4]))
    total = equal = same_answer = ties = wrong = 0
    for name in sys.argv[5:]:
        for key, ours in rows(name):
            if key not in peers:
                sys.exit(f"{sys.argv[4]}: {key} isn't there")
            peer = peers[key]
            total += 1
            same = ours["filtered"] == peer["filtered"]
            same_answer += same
            parting = c.compare(prompts[key], ours, peer)
            if parting is None:
                equal += 1
                if not same:
                    wrong += 1
                    print(f"{key[0]} {key[1]}: equal texts, ours {ours['filtered']}, llama.cpp {peer['filtered']}")
                continue
            step, gap, tie = parting
            ties += tie
            wrong += not tie
            print(f"{key[0]} {key[1]}: part at token {step} of {len(ours['ids'])}, top-two gap {gap:.2e}{'' if tie else ': NOT A TIE'};"
                  f" answers {ours['filtered']} and {peer['filtered']}", flush=True)
    print(f"{total} questions: {equal} texts equal, {ties} part at a gap below {GAP}, {wrong} otherwise; {same_answer} filtered answers equal")
    sys.exit(wrong != 0)


if __name__ == "__main__":
    main()
