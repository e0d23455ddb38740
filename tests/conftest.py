"""What several tests share: one thread, unhurried property tests, and models made once a session."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from exsearch import stopping

if TYPE_CHECKING:
    from exsearch.agent.chat import ChatFormat

# Tiny models are faster on one thread, and arithmetic on one thread is the same everywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("exsearch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("exsearch")


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """The command line, where it is run in this process, would leave its handlers and its exit code behind."""
    with stopping.handlers_kept():
        yield
    stopping._stop.code = None


@pytest.fixture(scope="session")
def builtin() -> Path:
    """The checkpoint folder of the embedded model; converted on first use."""
    from exsearch.engine.builtin import resolve_model

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
