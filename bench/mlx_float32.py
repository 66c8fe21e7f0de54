# SPDX-License-Identifier: MIT
"""Speed of mlx-lm on a model cast to float32 (what its CPU back end does best).
usage: mlx_float32.py MODEL PROMPT_TOKENS GENERATION_TOKENS; prints prompt_tps= and generation_tps="""
import sys

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm import load, stream_generate

path, n_prompt, n_generate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
mx.set_default_device(mx.cpu)
model, tokenizer = load(path)
model.update(tree_map(lambda a: a.astype(mx.float32) if mx.issubdtype(a.dtype, mx.floating) else a, model.parameters()))
mx.eval(model.parameters())
tokenizer._eos_token_ids = {}
mx.random.seed(0)
prompt = mx.random.randint(0, model.args.vocab_size, (1, n_prompt)).tolist()[0]
for response in stream_generate(model, tokenizer, prompt, max_tokens=n_generate):
    pass
print(f"prompt_tps={response.prompt_tps:.4f}")
print(f"generation_tps={response.generation_tps:.4f}")
