# SPDX-License-Identifier: MIT
"""Converts one model to every precision and compares logits with mlx-lm: does what convert writes mean the same in both?

usage: check_variants.py MLX_LM_PROGRAM MODEL IDS.json FOLDER
MODEL is dequantized to bfloat16 in FOLDER, then quantized to each row of the table (folders that exist are kept). IDS: a
JSON array of token ids. Reference: mlx-lm in float32 on the exactly dequantized weights of the same folder. Prints mean and
median KL(reference || x) of ours (default numerics) and of mlx-lm in the checkpoint's own type, and the largest difference
of a logit with --numerics f32. Rule: ours <= 0.4 x mlx-lm's for quantized weights, <= 1 x for bf16; f32 within 1e-3.
Needs mlx[cpu], mlx-lm, numpy. Exit 1 where the rule fails."""
import json
import pathlib
import subprocess
import sys

import mlx.core as mx
import numpy as np
from check_answers import open_model
from mlx_lm import load

VARIANTS = {
    "q8": ["--q-bits", "8"], "q6": ["--q-bits", "6"], "q5-g32": ["--q-bits", "5", "--q-group-size", "32"],
    "q5": ["--q-bits", "5"], "q4-g32": ["--q-bits", "4", "--q-group-size", "32"], "q4": ["--q-bits", "4"],
    "q3": ["--q-bits", "3"], "q2": ["--q-bits", "2"], "mixed_4_6": ["--quant-predicate", "mixed_4_6"],
    "mxfp4": ["--q-mode", "mxfp4"], "nvfp4": ["--q-mode", "nvfp4"], "mxfp8": ["--q-mode", "mxfp8"],
}  # fmt: skip


def convert(program, source, target, *flags):
    if not target.exists():
        subprocess.run([program, "convert", "--model", source, "--mlx-path", target, *flags], check=True,
                       stdout=subprocess.DEVNULL)


def ours(program, folder, ids, *flags):
    out = folder.parent / f"{folder.name}.logits.safetensors"
    subprocess.run([program, "logits", "--model", folder, "--ids", ids, "--out", out, *flags], check=True)
    logits = np.array(mx.load(str(out))["logits"]).astype(np.float64)
    out.unlink()
    return logits


def run(model, ids):
    return np.array(model(mx.array(ids)[None])[0].astype(mx.float32)).astype(np.float64)


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def divergence(reference, other):
    p, q = log_softmax(reference), log_softmax(other)
    kl = (np.exp(p) * (p - q)).sum(axis=-1)
    return kl.mean(), np.median(kl)


def main():
    program, model, ids_file, folder = sys.argv[1:]
    ids, folder, bad = json.load(open(ids_file)), pathlib.Path(folder), 0
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / "bf16"
    convert(program, model, base, "-d", "--dtype", "bfloat16")
    print("| variant | GB | KL ours, mean | median | KL mlx-lm, mean | median | f32, largest difference | |")
    print("|---|---:|---:|---:|---:|---:|---:|---|")
    for name, flags in {"bf16": None, **VARIANTS}.items():
        path = folder / name
        if flags is not None:
            convert(program, base, path, "-q", "--dtype", "bfloat16", *flags)
        reference = run(open_model(str(path))[0], ids)
        own = run(load(str(path))[0], ids)
        (mean, median), (their_mean, their_median) = (divergence(reference, x) for x in (ours(program, path, ids_file), own))
        largest = np.abs(ours(program, path, ids_file, "--numerics", "f32") - reference).max()
        limit = 1.0 if flags is None else 0.4
        ok = mean <= limit * their_mean and median <= limit * their_median and largest < 1e-3
        bad += not ok
        size = sum(f.stat().st_size for f in path.glob("*.safetensors")) / 1e9
        print(f"| {name} | {size:.3f} | {mean:.2e} | {median:.2e} | {their_mean:.2e} | {their_median:.2e} | {largest:.1e} |"
              f" {'ok' if ok else 'FAILED'} |", flush=True)
    sys.exit(bad != 0)


if __name__ == "__main__":
    main()
