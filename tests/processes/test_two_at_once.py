"""Two of the same command at once: one does the work, the other says who is writing, and nothing is torn."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exsearch.core.atomic import remove
from exsearch.verify import checks_of, faults_in
from verbs import VERBS, begin, commands, contents, make_inputs, run

HELD = re.compile(r"^error: .* process \d+ on \S+, since .*, is writing it; wait until that is done$", re.MULTILINE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder, tiny_checkpoint)
    return folder


def started(*words: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "exsearch.cli.main", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_two_of_a_verb_leave_what_one_leaves(verb: str, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = commands(data, out)[verb]
    begin(verb, out)
    run(*words)
    expected = contents(out)
    remove(out)
    begin(verb, out)
    both = [started(*words) for _ in range(2)]
    ended = [(process.communicate()[1], process.returncode) for process in both]
    codes = sorted(code for _, code in ended)
    assert codes[0] == 0 and codes[1] in (0, 2), ended
    for said, code in ended:
        assert "Traceback" not in said
        assert code == 0 or HELD.search(said) or "not in the corpus" in said or "already" in said, said
    assert contents(out) == expected
    assert not [path.name for path in tmp_path.iterdir() if ".lock" in path.name or "partial" in path.name]
    if out.is_dir():
        assert not list(faults_in(checks_of(out), lambda count: None))
