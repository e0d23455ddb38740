"""Make the environments of the peers that benchmarks/retrieval.py measures.

    python benchmarks/peers/setup.py DIR

DIR/colbert      a virtual environment with colbert-ai and its compiled extensions (needs g++; about 1.5 GB)
DIR/tachiom      the unpacked wheel, to be put on PYTHONPATH
DIR/fast-plaid   a virtual environment with fast-plaid and the build of torch it was made for (about 5 GB, with CUDA)

What exists is kept. torch is installed first, on its own, so that an index which offers a build
without CUDA is taken at its word: check what `pip download --no-deps torch==2.13.0` fetches before you start.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

TORCH = "torch==2.13.0"
COLBERT = ["colbert-ai==0.2.22", "transformers==4.49.0", "faiss-cpu==1.15.1"]
TACHIOM = "tachiom==0.4.0"
FAST_PLAID = ["fast-plaid==1.7.0.2110", "torch==2.11.0"]
TACHIOM_PLATFORM = "manylinux_2_39_x86_64"
"""The tag of its only Linux wheel, which runs with older versions of glibc too, though pip refuses it there."""
COMPILE = """
from colbert.modeling.colbert import ColBERT
from colbert.search.index_storage import IndexScorer
from colbert.search.strided_tensor import StridedTensor
for user in (ColBERT, IndexScorer, StridedTensor):
    user.try_load_torch_extensions(False)
"""


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    install_colbert(folder / "colbert")
    install_tachiom(folder / "tachiom")
    install_fast_plaid(folder / "fast-plaid")


def install_colbert(folder: Path) -> None:
    """Make the environment and compile the extensions, which colbert-ai would otherwise do in its first search."""
    done = folder / "extensions" / "done"
    if done.exists():
        return
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "venv", "--clear", str(folder))
    run(str(python), "-m", "pip", "install", TORCH, "numpy")
    run(str(python), "-m", "pip", "install", TORCH, *COLBERT)
    run(
        str(python), "-c", COMPILE, PATH=f"{folder / 'bin'}:{os.environ['PATH']}", TORCH_EXTENSIONS_DIR=str(done.parent)
    )
    done.touch()


def install_tachiom(folder: Path) -> None:
    """Unpack the wheel."""
    if folder.exists():
        return
    unpack = ["--target", str(folder), "--no-deps", "--only-binary", ":all:", "--platform", TACHIOM_PLATFORM]
    run(sys.executable, "-m", "pip", "install", *unpack, TACHIOM)


def install_fast_plaid(folder: Path) -> None:
    """Make the environment."""
    if (folder / "done").exists():
        return
    run(sys.executable, "-m", "venv", "--clear", str(folder))
    run(str(folder / "bin" / "python"), "-m", "pip", "install", *FAST_PLAID)
    (folder / "done").touch()


def run(*command: str, **environment: str) -> None:
    """Run a command; end with its exit code if it fails."""
    print("$", " ".join(command), flush=True)
    code = subprocess.run(command, env={**os.environ, **environment}).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
