#!/usr/bin/env python3
"""Logits of mlx-lm in float32 with a quantized cache: makes golden/kvq/kvq.safetensors (tests/data/kvq.tar.xz).

usage: make_kvq_golden.py CHECKPOINTS SMOLLM2 SMOLLM2_GOLDEN OUT.safetensors

CHECKPOINTS: golden/checkpoints; SMOLLM2: the converted SmolLM2-135M-Instruct; SMOLLM2_GOLDEN: golden/smollm2/logits.safetensors.
Each prompt goes in two calls with maybe_quantize_kv_cache between them, as generate_step does with quantized_kv_start 0; kept are
the logits of the second call: all of a tiny model's, the 64 largest of SmolLM2's.

mlx 0.32.4 (CPU), mlx-lm 0.32.2.
"""
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.generate import maybe_quantize_kv_cache
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import dequantize_model, load_model
from safetensors.numpy import load_file, save_file

mx.set_default_device(mx.cpu)


def float32(folder):
    model, config = load_model(Path(folder))
    model.set_dtype(mx.float32)
    return dequantize_model(model) if "quantization" in config else model


def second_call(model, ids, first, bits, group):
    cache = make_prompt_cache(model)
    model(mx.array(ids[:first])[None], cache=cache)
    maybe_quantize_kv_cache(cache, 0, group, bits)
    logits = model(mx.array(ids[first:])[None], cache=cache)[0]
    assert logits.dtype == mx.float32 and cache[0].bits == bits
    return np.array(logits)


def main():
    checkpoints, smollm2, golden, out = sys.argv[1:]
    arrays = {}
    for family, bits in [("llama", 8), ("qwen3", 8), ("qwen3", 4)]:
        ids = mx.load(f"{checkpoints}/{family}/golden/bf16.safetensors")["prompt_ids"].tolist()
        logits = second_call(float32(f"{checkpoints}/{family}/hf"), ids, 20, bits, 32)
        arrays[f"{family}.{bits}"] = logits
    ids = load_file(golden)["prompt1.ids"].tolist()
    model = float32(smollm2)
    for bits, group in [(8, 64), (8, 32), (6, 64), (4, 64)]:
        logits = second_call(model, ids, len(ids) - 8, bits, group)
        top = np.argsort(-logits, axis=-1, kind="stable")[:, :64]
        arrays[f"smollm2.{bits}.{group}.ids"] = top.astype(np.int32)
        arrays[f"smollm2.{bits}.{group}.logits"] = np.take_along_axis(logits, top, -1)
    save_file(arrays, out)


main()
