# SPDX-License-Identifier: MIT
"""Compares every MMLU-Pro prompt that `mlx_lm.evaluate --dump-requests` writes with the one that lm-eval 0.4.13 builds.

usage: check_requests.py MLX_LM_PROGRAM DATA TOKENIZER_FOLDER... [--shots 0 1 3 5] [--forms plain chat multiturn]
       [--rules mlx-lm lm-eval seed]
DATA: a folder with test.jsonl and validation.jsonl (`zstd -d` of data/mmlu_pro). Reference: lm-eval's own task files over that
data and transformers' chat template, with a model that only takes requests. Rules: `mlx-lm` sets enable_thinking, `lm-eval`
leaves it to the template, `seed` sets it and has the options as the data has them (task version 2.1). Task, order, prompt
and number must be equal. One line a setting; exit 1 if one differs. Needs lm-eval==0.4.13, transformers; 1 to 3 minutes a setting."""
import argparse
import atexit
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import lm_eval  # noqa: E402
from lm_eval.api.model import LM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402


def task_folder(data, rules):
    folder = pathlib.Path(tempfile.mkdtemp()) / "mmlu_pro"
    atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    shutil.copytree(pathlib.Path(lm_eval.__file__).parent / "tasks/mmlu_pro", folder)
    template, code = folder / "_default_template_yaml", folder / "utils.py"
    local = f"dataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {data}/test.jsonl\n    validation: {data}/validation.jsonl"
    template.write_text(template.read_text().replace("dataset_path: TIGER-Lab/MMLU-Pro", local))
    if rules == "seed":
        code.write_text(code.read_text().replace("opt.strip()", "opt"))
    return str(folder.parent)


class Taker(LM):
    """Takes the requests and answers nothing."""

    tokenizer_name = "taker"

    def __init__(self, tokenizer, template_args):
        super().__init__()
        self.tokenizer, self.template_args, self.requests = tokenizer, template_args, []

    def chat_template(self, chat_template=False):
        return self.tokenizer.chat_template

    def apply_chat_template(self, history, add_generation_prompt=True):
        return self.tokenizer.apply_chat_template(history, tokenize=False, add_generation_prompt=add_generation_prompt,
                                                  continue_final_message=not add_generation_prompt, **self.template_args)

    def loglikelihood(self, requests):
        raise NotImplementedError

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        self.requests = requests
        return [""] * len(requests)


def expected(data, tokenizer, shots, form, rules):
    """[task, sha256 of the prompt] in lm-eval's order."""
    thinks = any(t in tokenizer.get_vocab() for t in ("<think>", "<longcat_think>"))
    taker = Taker(tokenizer, {} if rules == "lm-eval" else {"enable_thinking": thinks})
    lm_eval.simple_evaluate(
        model=taker, tasks=["mmlu_pro"], num_fewshot=shots,
        task_manager=TaskManager(include_path=task_folder(data, rules), include_defaults=False),
        apply_chat_template=form != "plain", fewshot_as_multiturn=form == "multiturn", random_seed=123,
        numpy_random_seed=123, torch_random_seed=123, fewshot_random_seed=123, bootstrap_iters=0)
    return [(r.task_name, hashlib.sha256(r.args[0].encode()).hexdigest()) for r in taker.requests]


def found(program, folder, shots, form, rules):
    command = [program, "evaluate", "--model", folder, "--tasks", "mmlu_pro", "--num-shots", str(shots), "--rules", rules,
               "--dump-requests", "-", "--no-apply-chat-template" if form == "plain" else "--apply-chat-template"]
    if form == "multiturn":
        command.append("--fewshot-as-multiturn")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            r = json.loads(line)
            yield r["task"], hashlib.sha256(r["prompt"].encode()).hexdigest()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program")
    p.add_argument("data")
    p.add_argument("tokenizers", nargs="+")
    p.add_argument("--shots", nargs="+", type=int, default=[0, 1, 3, 5])
    p.add_argument("--forms", nargs="+", default=["plain", "chat", "multiturn"])
    p.add_argument("--rules", nargs="+", default=["mlx-lm"])
    a = p.parse_args()
    failed = False
    for folder in a.tokenizers:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for rules in a.rules:
            for shots in a.shots:
                for form in a.forms:
                    reference = expected(os.path.abspath(a.data), tokenizer, shots, form, rules)
                    ours = list(found(a.program, folder, shots, form, rules))
                    same = sum(x == y for x, y in zip(reference, ours))
                    failed |= same != len(reference) or len(ours) != len(reference)
                    print(f"{folder}, {rules}, {shots} shots, {form}: {same} of {len(reference)} equal ({len(ours)} ours)", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
