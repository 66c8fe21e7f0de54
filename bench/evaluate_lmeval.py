# SPDX-License-Identifier: MIT
"""lm-eval 0.4.13 drives llama.cpp's server through MMLU-Pro, with the data that mlx_lm.evaluate has built in.

usage: evaluate_lmeval.py --server LLAMA_SERVER --gguf FILE --tokenizer FOLDER --data FOLDER --out RESULT.json
       [--samples FILE.jsonl] [--slots N] [--threads N] [--limit N] [--max-tokens N] [--server-args "..."]
Starts the server (prompt cache on, N slots), asks it through lm-eval's local-completions class with N requests at a time, stops
it. Prompts go as token ids: lm-eval applies the chat template of the tokenizer's folder and tokenizes, so that both programs
read the same ids. Greedy, one user message (no multiturn), as mlx_lm.evaluate does by default.
RESULT: settings, scores, seconds (the requests alone: without imports, prompt building and loading), and the tokens that the
server counted. FILE.jsonl: a line a question: task, doc_id, completion, filtered, exact_match, prompt_tokens, generated_tokens.
Needs lm-eval[api]==0.4.13 and transformers. Uses no network but the loopback."""
import argparse
import atexit
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def arguments():
    p = argparse.ArgumentParser()
    for name in ("server", "gguf", "tokenizer", "data", "out"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--samples")
    p.add_argument("--slots", type=int, default=1)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--limit", type=int, default=4)
    p.add_argument("--max-tokens", type=int, default=2048)
    p.add_argument("--context", type=int, default=8192, help="tokens of one slot")
    p.add_argument("--server-args", default="")
    return p.parse_args()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_server(a, log):
    port = free_port()
    command = [a.server, "-m", a.gguf, "-t", str(a.threads), "-np", str(a.slots), "-c", str(a.slots * a.context),
               "--host", "127.0.0.1", "--port", str(port), "--metrics", "--no-webui", *a.server_args.split()]
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    atexit.register(server.kill)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit(f"llama-server ended with {server.returncode}: see {log.name}")
        try:
            urllib.request.urlopen(url + "/health", timeout=5).read()
            return server, url
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit("llama-server doesn't answer")


def counters(url):
    """The server's own sums: prompt tokens that it computed (cached ones aren't), generated tokens."""
    found = {}
    for line in urllib.request.urlopen(url + "/metrics").read().decode().splitlines():
        name, _, value = line.partition(" ")
        if name.startswith("llamacpp:"):
            found[name[9:]] = float(value)
    return found


def task_folder(data):
    """lm-eval's own task files, with local data in place of the hub's."""
    import lm_eval

    folder = pathlib.Path(tempfile.mkdtemp()) / "mmlu_pro"
    atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    shutil.copytree(pathlib.Path(lm_eval.__file__).parent / "tasks/mmlu_pro", folder)
    template = folder / "_default_template_yaml"
    text = template.read_text()
    local = f"dataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {data}/test.jsonl\n    validation: {data}/validation.jsonl"
    if "dataset_path: TIGER-Lab/MMLU-Pro" not in text:
        raise SystemExit("lm-eval's mmlu_pro isn't the one of 0.4.13")
    template.write_text(text.replace("dataset_path: TIGER-Lab/MMLU-Pro", local))
    return folder.parent


def make_model(a, url):
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    class Timed(LocalCompletionsAPI):
        seconds = 0.0

        def generate_until(self, requests, **kwargs):
            start = time.time()
            answers = super().generate_until(requests, **kwargs)
            self.seconds += time.time() - start
            self.prompts = [len(self.tok_encode(r.args[0])) for r in requests]
            return answers

    return Timed(model="llama.cpp", base_url=url + "/v1/completions", tokenizer=os.path.abspath(a.tokenizer),
                 tokenizer_backend="huggingface", tokenized_requests=True, num_concurrent=a.slots, batch_size=1,
                 max_length=a.context, timeout=3600)


def main():
    a = arguments()
    begin = time.time()
    import lm_eval
    from lm_eval.tasks import TaskManager

    log = open(a.out + ".server.log", "w")
    server, url = start_server(a, log)
    model = make_model(a, url)
    tasks = task_folder(os.path.abspath(a.data))
    before = counters(url)
    result = lm_eval.simple_evaluate(
        model=model, tasks=["mmlu_pro"], limit=a.limit, gen_kwargs=f"max_gen_toks={a.max_tokens}",
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False), apply_chat_template=True,
        fewshot_as_multiturn=False, random_seed=123, numpy_random_seed=123, torch_random_seed=123,
        fewshot_random_seed=123, bootstrap_iters=0, log_samples=True)
    after = counters(url)
    server.terminate()
    server.wait()
    samples = [(task, s) for task, rows in result["samples"].items() for s in sorted(rows, key=lambda s: s["doc_id"])]
    key = "exact_match,custom-extract"
    moved = {k: after[k] - before.get(k, 0) for k in ("prompt_tokens_total", "tokens_predicted_total")}
    report = {
        "program": f"lm-eval {lm_eval.__version__} + llama.cpp", "gguf": os.path.basename(a.gguf), "slots": a.slots,
        "threads": a.threads, "server_args": a.server_args, "limit": a.limit, "max_tokens": a.max_tokens,
        "questions": len(samples), "seconds": model.seconds, "wall_seconds": time.time() - begin,
        "prompt_tokens": sum(model.prompts), "computed_prompt_tokens": moved["prompt_tokens_total"],
        "generated_tokens": moved["tokens_predicted_total"], "score": result["results"]["mmlu_pro"][key],
        "scores": {t: r[key] for t, r in result["results"].items()},
    }
    with open(a.out, "w") as f:
        json.dump(report, f, indent=1)
        f.write("\n")
    if a.samples:
        with open(a.samples, "w") as f:
            for task, s in samples:
                text = s["resps"][0][0]
                f.write(json.dumps({
                    "task": task, "doc_id": s["doc_id"], "completion": text, "filtered": s["filtered_resps"][0],
                    "exact_match": s["exact_match"], "generated_tokens": len(model.tok_encode(text))}) + "\n")
    print(f"{report['questions']} questions, {report['seconds']:.1f} s, {60 * report['questions'] / report['seconds']:.1f} questions/min,"
          f" score {report['score']:.4f}, {report['generated_tokens']:.0f} tokens generated,"
          f" {report['computed_prompt_tokens']:.0f} of {report['prompt_tokens']} prompt tokens computed")


if __name__ == "__main__":
    main()
