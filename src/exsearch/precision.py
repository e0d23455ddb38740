"""Where bfloat16 is worth its rounding."""


def bfloat16_is_fast(device: str) -> bool:
    """Return whether a torch device, such as `cuda:0` or `cpu`, computes faster in bfloat16 than in float32.

    Of processors only those with AMX are taken to. AVX-512 BF16 alone has the instructions, but on one of Intel's
    (benchmarks/encoding.py, and SmolLM2's passes) bfloat16 takes 1.4 to 1.7 times as long as float32. On AMD's Zen 4
    SmolLM2's passes take 0.57 of the time; whether the engine gives equal bits there, too, is not tested.
    """
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and bool(torch.cpu._is_amx_tile_supported())
