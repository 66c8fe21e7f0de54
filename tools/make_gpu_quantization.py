# SPDX-License-Identifier: MIT
"""Makes golden data of mlx's GPU quantizer (`mlx_lm.convert --q-rule gpu`): needs a CUDA GPU, mlx and mlx-cuda-13 0.32.4.

usage: make_gpu_quantization.py GOLDEN_QUANTIZATION_FOLDER OUT.safetensors
For each case of the folder's index.json: mx.quantize of the inputs `w` and `mm_w` on the GPU, as arrays
MODE_bB_gG_DTYPE.{packed,scales,biases,mm_packed,mm_scales,mm_biases}."""
import json
import sys

import mlx.core as mx

folder, out = sys.argv[1:]
assert mx.default_device() == mx.Device(mx.gpu, 0), mx.default_device()
arrays = {}
for case in json.load(open(f"{folder}/index.json"))["cases"]:
    name = case["file"].removesuffix(".safetensors")
    inputs = mx.load(f"{folder}/input_{case['dtype']}.safetensors")
    for prefix, key in (("", "w"), ("mm_", "mm_w")):
        parts = mx.quantize(inputs[key], group_size=case["group_size"], bits=case["bits"], mode=case["mode"])
        for part, array in zip(("packed", "scales", "biases"), parts):
            arrays[f"{name}.{prefix}{part}"] = array
mx.save_safetensors(out, arrays, {"mlx": mx.__version__, "device": str(mx.device_info().get("device_name", "gpu"))})
print(len(arrays), "arrays")
