"""What a stage has freed is the machine's again."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from exsearch.hardware.memory import give_back_memory


def resident() -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_freed_tensors_is_given_back() -> None:
    kept = [torch.zeros(16_000) for _ in range(4_000)]  # 256 MB in blocks that malloc takes from its heap
    full = resident()
    kept = kept[-1:]  # the highest block: the heap cannot shrink by itself
    held = resident()
    give_back_memory()
    assert held > full - 64_000_000, "the C library gave it back alone: this test shows nothing"
    assert resident() < full - 200_000_000
    assert kept[0].sum() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("call", "kept"), [("", True), ("free_at_once()", False)])
def test_holes_between_what_stays_are_given_back_at_once(call: str, kept: bool) -> None:
    """In a process of its own: it holds for the rest of one."""
    code = f"""
import torch
from test_memory import resident
from exsearch.hardware.memory import free_at_once
large = torch.zeros(4_000_000)
del large  # since it was freed, glibc keeps blocks of up to this size in its heap
{call}
blocks = [torch.zeros(400_000) for _ in range(200)]  # 320 MB
full = resident()
blocks = blocks[1::2]  # every second one stays
print(full - resident())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    given_back = int(done.stdout)
    assert given_back < 40_000_000 if kept else given_back > 140_000_000
