#!/usr/bin/env bash
# transformers 5.23.0: a Bamba model that continues a prefix from its cache says something else than without one.
#
# Source: BambaForCausalLM (transformers/models/bamba), on a processor, with the reference implementations of its
# kernels. Expected: log-probs of tokens 33 to 48 behind a cached prefix of 32 tokens equal those of one pass over all
# 48, as they do for Llama (within 1e-4), in one piece and token by token. Seen: they differ by more than a nat both
# ways, in float32, with a small model of random weights. So `generate` and a forward pass disagree about one model.
#
# Fails if that changes. Needs Python 3.11 or newer and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
pip torch==2.13.0
pip transformers==5.23.0
cat > "$folder/compare.py" <<'PYTHON'
import torch
import transformers
from transformers import BambaConfig, BambaForCausalLM, LlamaConfig, LlamaForCausalLM

sizes = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "initializer_range": 0.2}
sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2}
sizes |= {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
mamba = {"attn_layer_indices": [1, 3], "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1}
mamba |= {"mamba_d_state": 16, "mamba_chunk_size": 16, "mamba_expand": 2}
torch.manual_seed(0)
models = {"llama": LlamaForCausalLM(LlamaConfig(**sizes)), "bamba": BambaForCausalLM(BambaConfig(**sizes, **mamba))}
ids = torch.randint(0, 512, (1, 48), generator=torch.Generator().manual_seed(1))
print(f"transformers {transformers.__version__}, torch {torch.__version__}")


@torch.no_grad()
def logprobs(model, ids, **options):
    return model(ids, **options).logits.log_softmax(dim=-1)[0]


@torch.no_grad()
def cache(model):
    return model(ids[:, :32], use_cache=True).past_key_values


apart = {}
for name, model in models.items():
    model.eval()
    whole = logprobs(model, ids, use_cache=False)[32:]
    piece = logprobs(model, ids[:, 32:], past_key_values=cache(model), use_cache=True)
    held = cache(model)
    single = [logprobs(model, ids[:, at : at + 1], past_key_values=held, use_cache=True) for at in range(32, 48)]
    apart[name] = [float((whole - other).abs().max()) for other in (piece, torch.cat(single))]
    print(f"{name}: in one piece {apart[name][0]:.2g} nats apart, token by token {apart[name][1]:.2g}")
assert max(apart["llama"]) < 1e-4, "the comparison itself is wrong"
assert min(apart["bamba"]) > 1, "transformers has changed: the finding no longer holds"
PYTHON
"$folder/venv/bin/python" "$folder/compare.py"
