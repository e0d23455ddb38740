"""What several tests share: one thread, unhurried property tests, and models made once a session."""

import gc
import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from exsearch.core.messages import logger
from exsearch.processes import stopping

if TYPE_CHECKING:
    from exsearch.agent.chat import ChatFormat

# A shell has what it runs in the background ignore Ctrl-C, and the commands that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Tiny models are faster on one thread, and arithmetic on one thread is the same everywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("exsearch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("exsearch")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `make test-extras` runs by."""
    parser.addoption(
        "--needing", metavar="MODULES", help="run what needs one of these modules, slow or not; a skip is a failure"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that need a module which is not installed; with `--needing`, keep those that need one of its own."""
    chosen = {*(config.getoption("--needing") or "").split(",")} - {""}
    kept = []
    for item in items:
        needed = [module for marker in item.iter_markers("needs") for module in marker.args]
        if chosen and not chosen & {*needed}:
            continue
        kept.append(item)
        if missing := [module for module in needed if importlib.util.find_spec(module) is None]:
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}"))
    if chosen:
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def pytest_collection_finish() -> None:
    """Spare the garbage collections that engines ask for the modules of all tests: half of the time of whole runs."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With `--needing`, count a skipped test as a failed one."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--needing") and (skipped := reporter.stats.get("skipped")):
        reporter.write_line(f"{len(skipped)} tests were skipped that this environment is for", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def process_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command line, where it is run in this process, would leave its settings of the process behind."""
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    messages = logger.handlers[:], logger.level, logger.propagate
    with stopping.handlers_kept():
        yield
    stopping._stop.first_signal = stopping._stop.code = None
    logger.handlers[:], logger.level, logger.propagate = messages


@pytest.fixture(scope="session")
def builtin() -> Path:
    """The checkpoint folder of the embedded model; converted on first use."""
    from exsearch.engine.models.builtin import resolve_model

    return resolve_model("builtin:smollm2-135m")


@pytest.fixture(scope="session")
def chat(builtin: Path) -> "ChatFormat":
    """The chat format of the embedded model."""
    from exsearch.agent.chat import ChatFormat

    return ChatFormat.load(builtin)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, chat: "ChatFormat") -> Path:
    """A checkpoint folder with a tiny random model and the embedded model's tokenizer."""
    from tiny_models import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny"), chat)


@pytest.fixture(scope="session")
def wiki_mini() -> Path:
    """The folder of real questions and passages that development uses; what needs it is skipped without."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "wiki-mini"
    if not folder.is_dir():
        pytest.skip(f"needs the real questions of {folder}")
    return folder
