"""What a stage has freed is the machine's again."""

import sys
from pathlib import Path

import pytest
import torch

from exsearch.memory import give_back_memory


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
