"""A command killed at any change of the disk, or without room for it, loses nothing: run again, it ends alike."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from verbs import VERBS, make_inputs

HERE = Path(__file__).parent
EVERY = {"train": 9, "eval": 3, "warmup": 3}
"""Of verbs that make many changes slowly, one in so many is tried."""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What counts changes and stops a process at one, compiled."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, HERE / "shim.c", "-ldl"], check=True)
    return library


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder, tiny_checkpoint)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["kill", "tear", "fill"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_command_stopped_anywhere_ends_alike_when_run_again(
    verb: str, mode: str, shim: Path, data: Path, tmp_path: Path
) -> None:
    environment = os.environ | {"LD_PRELOAD": str(shim), "PYTHONPATH": str(HERE.parent)}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "driver.py"), str(data), str(tmp_path), verb, mode, str(EVERY.get(verb, 1))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["tried"] > 3
    assert not found["wrong"], found
