"""Archives and pickled weights become checkpoint folders, and nothing in them leads elsewhere or runs."""

import io
import pickle
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from exsearch.core.archives import checkpoint_folder
from exsearch.core.errors import UsageError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pack(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def pickled(weights: object) -> bytes:
    content = io.BytesIO()
    torch.save(weights, content)
    return content.getvalue()


def test_an_archive_is_unpacked_once_and_its_pickled_weights_converted(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    weights = pickled({"a.weight": shared, "b.weight": shared[:1]})
    files = ("./colbertv2.0/._config.json", b"\x00"), ("./colbertv2.0/config.json", b"{}")
    archive = pack(tmp_path / "colbertv2.0.tar.gz", *files, ("./colbertv2.0/pytorch_model.bin", weights))
    folder = checkpoint_folder(archive)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert torch.equal(load_file(folder / "model.safetensors")["a.weight"], shared)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert checkpoint_folder(archive) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_folder_is_converted_again_when_any_of_its_files_has_changed(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    for number in range(1, 7):
        (model / f"pytorch_model-0000{number}-of-00006.bin").write_bytes(pickled({f"w{number}": torch.zeros(2)}))
    before = checkpoint_folder(model)
    (model / "config.json").write_text('{"vocab_size": 2}')
    edited = checkpoint_folder(model)
    assert edited != before and (edited / "config.json").read_text() == '{"vocab_size": 2}'
    (model / "pytorch_model-00006-of-00006.bin").write_bytes(pickled({"w6": torch.ones(2)}))
    assert load_file(checkpoint_folder(model) / "model-00006-of-00006.safetensors")["w6"].tolist() == [1.0, 1.0]


def test_a_folder_with_safetensors_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert checkpoint_folder(tmp_path) == tmp_path


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("../outside.json", b"{}"), r"'../outside.json' leads out of the archive"),
        (("/tmp/outside.json", b"{}"), "leads out of the archive"),
        (link("inside", "config.json"), "'inside' is a link or a device"),
    ],
)
def test_a_member_that_leads_elsewhere_is_refused_and_nothing_is_left(
    tmp_path: Path, cache: Path, member: tarfile.TarInfo | tuple[str, bytes], reason: str
) -> None:
    archive = pack(tmp_path / "model.tar.gz", ("config.json", b"{}"), member)
    with pytest.raises(UsageError, match=reason):
        checkpoint_folder(archive)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_other_files_and_torn_archives_are_one_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no archive")
    with pytest.raises(UsageError, match="neither a folder nor a tar archive"):
        checkpoint_folder(tmp_path / "notes.txt")
    archive = pack(tmp_path / "model.tar.gz", ("config.json", b"{}"), ("weights", bytes(range(256)) * 400))
    archive.write_bytes(archive.read_bytes()[:-400])
    with pytest.raises(UsageError, match="damaged, it cannot be unpacked"):
        checkpoint_folder(archive)
    with pytest.raises(UsageError, match=r"has no config\.json"):
        checkpoint_folder(pack(tmp_path / "other.tar.gz", ("readme", b"text")))


class Elsewhere:
    """What a pickle may hold besides weights."""


def test_pickles_of_anything_but_weights_are_refused(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    for content in (pickle.dumps(Elsewhere()), pickled({"a": Elsewhere()}), pickled([1, 2]), b"damaged"):
        (model / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(UsageError, match=r"pytorch_model\.bin: holds something else than weights"):
            checkpoint_folder(model)
