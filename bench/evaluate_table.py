# SPDX-License-Identifier: MIT
"""Results of bench/evaluate.sh.

usage: evaluate_table.py ours OUTPUT_FOLDER RESULT.json    (what mlx_lm.evaluate left there, as one result like evaluate_lmeval.py's)
       evaluate_table.py table FOLDER                      (Markdown: all results of FOLDER)"""
import glob
import json
import sys


def one(pattern):
    found = glob.glob(pattern)
    if len(found) != 1:
        sys.exit(f"{pattern}: {len(found)} files, expected 1")
    with open(found[0], encoding="utf-8") as f:
        return json.load(f)


def ours(folder, out):
    report, run = one(folder + "/*_report.json"), one(folder + "/*_run.json")["run"]
    key = "exact_match,custom-extract"
    result = {
        "program": "mlx-lm.c", "slots": run["batch_size"], "threads": run["threads"], "limit": report["settings"]["limit"],
        "max_tokens": report["settings"]["max_tokens"], "questions": run["questions"], "seconds": run["seconds"],
        "prompt_tokens": run["prompt_tokens"], "computed_prompt_tokens": run["computed_prompt_tokens"],
        "generated_tokens": run["generated_tokens"], "score": report["results"]["mmlu_pro"][key],
        "scores": {task: r[key] for task, r in report["results"].items()},
    }  # fmt: skip
    with open(out, "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")


def table(folder):
    results = {}
    for name in sorted(glob.glob(folder + "/q*.json")):
        with open(name) as f:
            results[name.rsplit("/", 1)[1][:-5]] = json.load(f)
    print("| weights | program | slots | questions | seconds | questions/min | ratio | prompt tokens computed | generated | tokens a question | score |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for weights in ("q4", "q8"):
        rows = {n: r for n, r in results.items() if n.startswith(weights + "-")}
        rate = {n: 60 * r["questions"] / r["seconds"] for n, r in rows.items()}
        peers = [rate[n] for n in rows if "-peer-" in n]
        for n, r in sorted(rows.items(), key=lambda row: (row[1]["program"] == "mlx-lm.c", row[1]["questions"], row[1]["slots"])):
            mine = r["program"] == "mlx-lm.c" and peers
            ratio = f"{rate[n] / max(peers):.2f}" if mine and not n.endswith("-long") else ""
            print(f"| {weights} | {r['program']} | {r['slots']} | {r['questions']} | {r['seconds']:.1f} | {rate[n]:.1f} | {ratio} |"
                  f" {r['computed_prompt_tokens']:.0f} of {r['prompt_tokens']} | {r['generated_tokens']:.0f} |"
                  f" {r['generated_tokens'] / r['questions']:.1f} | {r['score']:.4f} |")


if len(sys.argv) == 4 and sys.argv[1] == "ours":
    ours(sys.argv[2], sys.argv[3])
elif len(sys.argv) == 3 and sys.argv[1] == "table":
    table(sys.argv[2])
else:
    sys.exit(__doc__)
