"""An output that is a link is written where the link leads, with all that is made beside it on the way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exsearch.cli.main import exsearch
from exsearch.config import Config, LearnConfig, ModelConfig
from exsearch.core.atomic import behind_link, is_taken
from exsearch.core.journal import Journal
from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.importing import import_corpus
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, add_passages, write_corpus
from exsearch.retrieval.bm25.bm25 import Bm25
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from exsearch.retrieval.replay import Recorder
from exsearch.runs.folder import RunFolder
from exsearch.training.example import Example
from exsearch.training.job import Job
from exsearch.training.start import train
from exsearch.training.trainer import resume_folder

PASSAGES = [Passage(f"p{row}", f"Lamp {row}", "a green lamp") for row in range(4)]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "corpus", PASSAGES)


@pytest.fixture(params=["empty folder", "nothing yet"])
def link(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A link on a small disk that leads to a large one."""
    for disk in ("small", "large"):
        (tmp_path / disk).mkdir()
    if request.param == "empty folder":
        (tmp_path / "large" / "real").mkdir()
    (tmp_path / "small" / "name").symlink_to(tmp_path / "large" / "real")
    return tmp_path / "small" / "name"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_behind(link: Path, content: str) -> None:
    assert link.is_symlink()
    assert names(link.parent) == ["name"]
    assert names(link.parents[1] / "large") == ["real"]
    assert (link.parents[1] / "large" / "real" / content).exists()


def import_(corpus: Corpus, out: Path) -> None:
    write_jsonl(out.parents[1] / "passages.jsonl", PASSAGES)
    import_corpus(out.parents[1] / "passages.jsonl", out)


WRITERS: dict[str, tuple[Callable[[Corpus, Path], Any], str]] = {
    "corpus": (lambda corpus, out: write_corpus(out, PASSAGES), "corpus.json"),
    "import": (import_, "corpus.json"),
    "index": (lambda corpus, out: build_index(corpus, "bm25", out), "index.json"),
    "hybrid": (lambda corpus, out: build_index(corpus, "hybrid", out, members=["bm25"]), "members"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_is_made_and_made_again_behind_a_link(corpus: Corpus, link: Path, name: str) -> None:
    write, content = WRITERS[name]
    for _ in range(2):
        write(corpus, link)
        assert_behind(link, content)


def test_an_index_is_extended_and_replaced_behind_a_link_and_nothing_large_is_made_before_it(
    corpus: Corpus, link: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    build_segment = Bm25.build_segment

    def watched(*arguments: Any) -> None:
        seen.append(names(link.parent))
        build_segment(*arguments)

    monkeypatch.setattr(Bm25, "build_segment", watched)
    build_index(corpus, "bm25", link)
    build_index(add_passages(corpus.folder, [Passage("new", "", "red")]), "bm25", link)
    assert open_index(link).search(["red"], 3)[0][0].passage.id == "new"
    build_index(Corpus.open(corpus.folder), "bm25", link, k1=0.9)
    assert_behind(link, "index.json")
    assert seen == [["name"]] * 3


def test_a_member_of_a_hybrid_index_may_lie_elsewhere(corpus: Corpus, tmp_path: Path) -> None:
    out = build_index(corpus, "hybrid", tmp_path / "index", members=["bm25"])
    (out / "members/bm25").rename(tmp_path / "elsewhere")
    (out / "members/bm25").symlink_to(tmp_path / "elsewhere")
    build_index(add_passages(corpus.folder, [Passage("new", "", "red")]), "hybrid", out, members=["bm25"])
    assert (out / "members/bm25").is_symlink()
    assert open_index(out).search(["red"], 3)[0][0].passage.id == "new"


def test_a_checkpoint_and_its_resume_points_are_written_behind_a_link(link: Path, tiny_checkpoint: Path) -> None:
    examples = [Example([5 + n, *range(40, 52 + n), 2], [0, 0, 0] + [1] * (11 + n), 9, 1.0) for n in range(4)]
    config = LearnConfig(epochs=2, batch_size=2, save_steps=1)
    model = ModelConfig(device="cpu", precision="fp32")
    assert resume_folder(link) == resume_folder(link.parents[1] / "large" / "real")
    train(Job.of(tiny_checkpoint, examples, link, config, model, 1, "test"), lambda step, figures: None)
    assert_behind(link, "model.safetensors")


FOLDERS: dict[str, Callable[[Corpus, Path], Any]] = {
    "run": lambda corpus, out: RunFolder(out).claim(Config()),
    "journal": lambda corpus, out: Journal(out / "trajectories.jsonl").append([1]),
    "record": lambda corpus, out: Recorder(open_index(corpus.folder.parent / "index"), out / "searches.sqlite"),
    "world": lambda corpus, out: exsearch(
        ["corpus", "world", "--passages", "200", "--seed", "1", "--train", "2", "--dev", "0", "--out", str(out)],
        standalone_mode=False,
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_several_things_is_made_behind_a_link(corpus: Corpus, link: Path, name: str) -> None:
    build_index(corpus, "bm25", corpus.folder.parent / "index")
    for _ in range(2):
        FOLDERS[name](corpus, link)
        assert link.is_symlink()
        assert names(link.parent) == ["name"]
        assert names(link.parents[1] / "large") == ["real"]
        assert names(link.parents[1] / "large" / "real")


def test_links_are_followed_to_their_end_and_what_is_no_link_stays_as_it_was_named(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to(tmp_path / "three")
    assert behind_link(tmp_path / "one") == tmp_path / "three"
    assert behind_link(Path("relative/name")) == Path("relative/name")
    assert not is_taken(tmp_path / "three")
    (tmp_path / "three").mkdir()
    assert not is_taken(tmp_path / "three")
    (tmp_path / "three" / "file").touch()
    assert is_taken(tmp_path / "three") and is_taken(tmp_path / "one")
