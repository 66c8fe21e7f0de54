#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs mlx-lm's own converter and ours over synthetic models and compares what they write.

usage: compare_convert.py MLX_LM_PROGRAM [--work DIR] [--quick] [--only NAME]

Needs mlx-lm 0.32.2 (mlx 0.32.4, CPU), numpy. For every model and every setting: tensors byte for byte, file names and
shard boundaries, config.json and the index as text, README.md, the lines on stdout. Prints one line per setting that
differs, then totals; exit 1 if anything differs."""
import argparse
import contextlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

import mlx.core as mx
import numpy as np
from mlx_lm import convert as upstream
from mlx_lm import utils

TOKENIZER = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "post_processor": None,
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
              "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
              "vocab": {chr(33 + i): i for i in range(90)}, "merges": []},
}


def bf16(a):
    u = np.ascontiguousarray(a, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def encode(a, dtype):
    if dtype == "BF16":
        return bf16(a).tobytes()
    return a.astype({"F16": np.float16, "F32": np.float32}[dtype]).tobytes()


def save(path, tensors):
    """tensors: name -> (dtype, shape, bytes)"""
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            f.write(data)


def make(folder, c, dtype="BF16", files=1, seed=1, extra=False):
    """An HF folder of random weights for config c."""
    os.makedirs(folder)
    rng = np.random.default_rng(seed)
    h, ffn, d = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    q, kv = c["num_attention_heads"] * d, c["num_key_value_heads"] * d
    t = {}

    def add(name, *shape):
        a = rng.standard_normal(shape, np.float32) * 0.05
        if len(shape) == 2 and shape[0] > 4:
            a[1] = 0  # a row of zeros, one of equal values, all negative, an outlier, tiny
            a[2] = 0.25
            a[3] = -np.abs(a[3]) - 0.01
            a[4, 0] = 7.5
            a[0, :16] *= 1e-9
        t[name] = (dtype, shape, encode(a, dtype))

    add("model.embed_tokens.weight", c["vocab_size"], h)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        for n, s in (("q", (q, h)), ("k", (kv, h)), ("v", (kv, h)), ("o", (h, q))):
            add(f"{p}self_attn.{n}_proj.weight", *s)
            if c.get("attention_bias"):
                add(f"{p}self_attn.{n}_proj.bias", s[0])
        if c["model_type"] != "llama":
            add(p + "self_attn.q_norm.weight", d)
            add(p + "self_attn.k_norm.weight", d)
        elif extra:
            add(p + "self_attn.rotary_emb.inv_freq", d // 2)
        if c.get("num_experts") and i not in c["mlp_only_layers"] and (i + 1) % c["decoder_sparse_step"] == 0:
            m = c["moe_intermediate_size"]
            add(p + "mlp.gate.weight", c["num_experts"], h)
            for e in range(c["num_experts"]):
                for n, s in (("gate", (m, h)), ("up", (m, h)), ("down", (h, m))):
                    add(f"{p}mlp.experts.{e}.{n}_proj.weight", *s)
        else:
            for n, s in (("gate", (ffn, h)), ("up", (ffn, h)), ("down", (h, ffn))):
                add(f"{p}mlp.{n}_proj.weight", *s)
                if c.get("mlp_bias"):
                    add(f"{p}mlp.{n}_proj.bias", s[0])
        add(p + "input_layernorm.weight", h)
        add(p + "post_attention_layernorm.weight", h)
    add("model.norm.weight", h)
    if not c["tie_word_embeddings"] or extra:
        add("lm_head.weight", c["vocab_size"], h)
    names = list(t)
    step = (len(names) + files - 1) // files
    weight_map = {}
    for i in range(files):
        name = "model.safetensors" if files == 1 else f"model-{i + 1:05d}-of-{files:05d}.safetensors"
        part = names[i * step:(i + 1) * step]
        save(os.path.join(folder, name), {k: t[k] for k in part})
        weight_map.update({k: name for k in part})
    if files > 1:
        write_json(folder, "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    write_json(folder, "config.json", c)
    write_json(folder, "tokenizer.json", TOKENIZER)
    write_json(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64})
    write_json(folder, "generation_config.json", {"eos_token_id": [5, 6], "temperature": 0.6})
    return folder


def write_json(folder, name, value):
    with open(os.path.join(folder, name), "w") as f:
        json.dump(value, f)


BASE = {"hidden_size": 256, "num_hidden_layers": 3, "intermediate_size": 416, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 48, "rms_norm_eps": 1e-6, "vocab_size": 300, "eos_token_id": 2,
        "max_position_embeddings": 512, "rope_theta": 1e4, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "_name_or_path": "x", "weird": ["\u00e9\U0001f600\x7f\n", 1e-7, 1e16, 123456.0, -0.0, 2.5e-5, {"b": 1, "a": []}, {}]}
MOE = {"num_experts": 6, "num_experts_per_tok": 2, "decoder_sparse_step": 1, "mlp_only_layers": [1],
       "moe_intermediate_size": 96, "norm_topk_prob": True}
MODELS = {
    # several source files, biases, untied, widths that groups of 128 and 64 don't divide, rotary tables to drop
    "llama-untied": (dict(BASE, model_type="llama", attention_bias=True, mlp_bias=True, rope_scaling={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128}), {"files": 3, "extra": True}),
    # tied with a superfluous lm_head, float16
    "qwen3-tied": (dict(BASE, model_type="qwen3", tie_word_embeddings=True, torch_dtype="float16", num_hidden_layers=9),
                   {"dtype": "F16", "extra": True}),
    # experts in two files, a dense layer between, no torch_dtype: float32 stays
    "qwen3_moe": ({k: v for k, v in dict(BASE, model_type="qwen3_moe", **MOE).items() if k != "torch_dtype"},
                  {"dtype": "F32", "files": 2}),
    # 224 columns: 32 divides them, 64 doesn't
    "qwen3-narrow": (dict(BASE, model_type="qwen3", hidden_size=224, head_dim=32, num_hidden_layers=1), {"files": 2}),
}


def settings(quick):
    yield {}
    for dtype in ("float16", "float32"):
        yield {"dtype": dtype}
    for bits in (2, 3, 4, 5, 6, 8):
        for group in (32, 64, 128):
            if not quick or (bits, group) in ((4, 64), (3, 32)):
                yield {"quantize": True, "q_bits": bits, "q_group_size": group}
    for mode in ("mxfp4", "nvfp4", "mxfp8"):
        yield {"quantize": True, "q_mode": mode}
        if not quick:
            yield {"quantize": True, "q_mode": mode, "dtype": "float16"}
    for recipe in ("mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"):
        yield {"quantize": True, "quant_predicate": recipe}
        if not quick:
            yield {"quantize": True, "quant_predicate": recipe, "q_group_size": 32, "dtype": "float16"}


def flags(setting):
    out = []
    for key, value in setting.items():
        out.append("--" + key.replace("_", "-"))
        if value is not True:
            out.append(str(value))
    return out


def read(folder):
    tensors, places = {}, {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".safetensors"):
            continue
        with open(os.path.join(folder, name), "rb") as f:
            data = f.read()
        n = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + n])
        if header.pop("__metadata__") != {"format": "mlx"}:
            raise SystemExit(f"{folder}/{name}: metadata")
        for key, v in header.items():
            a, b = v["data_offsets"]
            tensors[key] = (v["dtype"], v["shape"], data[8 + n + a:8 + n + b])
            places[key] = name
    return tensors, places


def differences(theirs, ours):
    (a, place_a), (b, place_b) = read(theirs), read(ours)
    out = []
    if place_a != place_b:
        out.append("shards or names: " + str(sorted(set(place_a.items()) ^ set(place_b.items()))[:3]))
    out += [f"{k}: {a[k][:2]} {b[k][:2]} bytes {'equal' if a[k][2] == b[k][2] else 'differ'}"
            for k in a if k in b and a[k] != b[k]]
    for name in ("config.json", "model.safetensors.index.json", "README.md", "generation_config.json"):
        x, y = (open(os.path.join(d, name)).read() if os.path.exists(os.path.join(d, name)) else None
                for d in (theirs, ours))
        if x != y:
            out.append(name)
    return out


def run_upstream(source, target, setting, limit):
    original = utils.make_shards

    def make_shards(weights, max_file_size_gb=5):  # the same rule with a limit in bytes
        shards, size = [], 0
        for k, v in weights.items():
            if not shards or size + v.nbytes > limit:
                shards.append({})
                size = 0
            shards[-1][k] = v
            size += v.nbytes
        return shards

    utils.make_shards = make_shards if limit else original
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            upstream(source, target, **setting)
    except Exception as e:  # noqa: BLE001  whatever upstream refuses, we refuse
        return None, f"{type(e).__name__}: {e}"
    finally:
        utils.make_shards = original
    return out.getvalue(), None


def compare(program, work, label, source, setting, limit=0):
    theirs, ours = os.path.join(work, "theirs"), os.path.join(work, "ours")
    for d in (theirs, ours):
        shutil.rmtree(d, ignore_errors=True)
    lines, error = run_upstream(source, theirs, setting, limit)
    extra = ["--max-shard-size", str(limit)] if limit else []
    r = subprocess.run([program, "convert", "--hf-path", source, "--mlx-path", ours, *flags(setting), *extra],
                       capture_output=True, text=True)
    if error or r.returncode:
        bad = [] if error and r.returncode else [f"upstream: {error}; ours: {r.returncode} {r.stderr.strip()}"]
    else:
        bad = differences(theirs, ours)
        if lines != r.stdout:
            bad.append(f"stdout: {lines!r} {r.stdout!r}")
    if bad:
        print(f"DIFFERS {label} {' '.join(flags(setting))} limit {limit}: {bad[:4]}")
    return not bad, bool(error)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("program")
    p.add_argument("--work")
    p.add_argument("--quick", action="store_true")
    p.add_argument("--only")
    a = p.parse_args()
    mx.set_default_device(mx.cpu)
    work = tempfile.mkdtemp(dir=a.work)
    right = wrong = refused = 0

    def count(result):
        nonlocal right, wrong, refused
        right, wrong, refused = right + result[0], wrong + (not result[0]), refused + result[1]

    for name, (config, how) in MODELS.items():
        if a.only and a.only != name:
            continue
        source = make(os.path.join(work, name), config, **how)
        for setting in settings(a.quick):
            for limit in (0, 300000):
                count(compare(a.program, work, name, source, setting, limit))
        # packed sources: dequantized, cast, kept, and the rest of a partly quantized one
        for first in ({"q_bits": 3, "q_group_size": 32}, {"q_bits": 8, "q_group_size": 128}, {"q_mode": "mxfp4"},
                      {"q_mode": "nvfp4"}, {"q_mode": "mxfp8"}, {"quant_predicate": "mixed_3_6"}):
            packed = os.path.join(work, "packed")
            shutil.rmtree(packed, ignore_errors=True)
            if run_upstream(source, packed, dict(first, quantize=True), 0)[1]:
                continue
            for setting in ({"dequantize": True}, {"dequantize": True, "dtype": "float16"}, {}, {"dtype": "float32"},
                            {"quantize": True, "q_group_size": 32}):
                count(compare(a.program, work, f"{name} packed {first}", packed, setting))
        shutil.rmtree(source)
        print(f"{name}: so far {right} equal (of them {refused} refused by both), {wrong} different", flush=True)
    shutil.rmtree(work)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
