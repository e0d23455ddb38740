"""What a setting changes: each has its place in one table, which decides how a run may be continued."""

import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exsearch.cli import quickstart
from exsearch.config import Config, TrainingConfig, dump_config, parse_config
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.store import write_corpus
from exsearch.effects import EARLIER, EFFECTS, changes, effect_of
from exsearch.em.loop import EMRun
from exsearch.retrieval.index.build import build_index
from exsearch.runs.folder import RunFolder
from exsearch.training.inputs import SAME_RESULT
from exsearch.world import World
from other_settings import DEFAULTS, another, leaves
from tiny_models import tiny_llama

DOCS = Path(__file__).parents[2] / "docs"


def test_every_setting_has_a_place_in_the_table_and_the_table_nothing_else() -> None:
    assert sorted(EFFECTS) == sorted(DEFAULTS)


@pytest.mark.parametrize("key", sorted(DEFAULTS))
def test_a_run_is_continued_with_another_setting_exactly_if_it_changes_no_result(tmp_path: Path, key: str) -> None:
    folder, other = RunFolder(tmp_path), another(key)
    folder.claim(Config(), {"model.path": "m"})
    if EFFECTS[key] == "result":
        with pytest.raises(UsageError, match=rf"holds a run with other settings.*: {re.escape(key)} = .* -> "):
            folder.claim(other, {"model.path": "m"})
        assert folder.config.read_text() == dump_config(Config())
    else:
        [change] = folder.claim(other, {"model.path": "m"})
        assert change.key == key and change.before == DEFAULTS[key]
        assert folder.config.read_text() == dump_config(other)
        assert not folder.claim(other, {"model.path": "m"})


@given(st.sets(st.sampled_from(sorted(DEFAULTS)), max_size=6))
def test_exactly_the_settings_that_differ_are_named_with_both_values(keys: set[str]) -> None:
    tree: dict[str, Any] = {}
    for key in keys:
        section, _, name = key.rpartition(".")
        value = leaves(msgspec.to_builtins(another(key)))[key]
        (tree.setdefault(section, {}) if section else tree)[name] = value
    found = changes(Config(), msgspec.convert(tree, Config))
    assert {change.key for change in found} == keys
    assert all(msgspec.to_builtins(change.before) == DEFAULTS[change.key] for change in found)
    assert all(change.before != change.after for change in found)


def test_what_the_trainer_leaves_out_of_a_fingerprint_is_what_changes_no_result() -> None:
    for section in ("warmup", "learn"):
        effects = {name: EFFECTS[f"{section}.{name}"] for name in TrainingConfig.__struct_fields__}
        free = {name for name, effect in effects.items() if effect not in ("result", "content")}
        assert free == set(SAME_RESULT)


@pytest.mark.parametrize("section", ["warmup", "learn"])
def test_the_distance_of_resume_points_changes_the_result_where_the_validation_loss_is_taken_there(
    section: str,
) -> None:
    validated = parse_config({section: {"validation_share": 0.1}}, [], "test")
    assert effect_of(f"{section}.save_steps", Config()) == "speed"
    assert effect_of(f"{section}.save_steps", validated, validated) == "result"


def test_what_earlier_versions_did_is_said_of_settings_that_are_there_and_do_otherwise_now() -> None:
    assert EARLIER.keys() <= DEFAULTS.keys()
    assert all(EFFECTS[key] == "result" for key in EARLIER)
    parse_config({}, [f"{key}={msgspec.json.encode(value).decode()}" for key, value in EARLIER.items()], "test")


def of_earlier_version(folder: RunFolder, config: Config) -> str:
    """Begin a run as a version did that had none of the later settings; return its config.toml."""
    text = dump_config(config, leave_out=EARLIER)
    folder.root.mkdir(exist_ok=True)
    folder.config.write_text(text)
    return text


def test_a_run_of_an_earlier_version_goes_on_as_that_did_and_keeps_its_settings(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.as_its_version_did(Config()) == (Config(), "")
    text = of_earlier_version(folder, Config())
    for _ in range(2):  # it stays a run of that version
        begun, said = folder.as_its_version_did(Config())
        assert {key: leaves(msgspec.to_builtins(begun))[key] for key in EARLIER} == EARLIER
        assert said.startswith("Started by an earlier version, so this run keeps its behaviour: ")
        assert 'learn.denominator = "batch"' in said and "learn.keep_float32 = false" in said
        assert not folder.claim(begun, {"model.path": "m"})
        assert folder.config.read_text() == text
    older = dump_config(parse_config({"learn": {"max_grad_norm": 1.0}}, [], "test"), leave_out=EARLIER)
    folder.config.write_text(older)
    assert folder.as_its_version_did(Config())[0].learn.max_grad_norm == 1.0, (
        "its unit is another, and so is its default"
    )
    folder.claim(folder.as_its_version_did(Config())[0])
    with pytest.raises(UsageError, match=r"learn\.max_grad_norm = 1\.0 -> 3\.0"):
        folder.claim(folder.as_its_version_did(parse_config({"learn": {"max_grad_norm": 3.0}}, [], "test"))[0])
    with pytest.raises(UsageError, match=r"learn\.learning_rate"):
        folder.claim(folder.as_its_version_did(parse_config({"learn": {"learning_rate": 1.0}}, [], "test"))[0])


def test_the_docs_have_the_same_table() -> None:
    page = (DOCS / "how-to" / "train.md").read_text(encoding="utf-8")
    told: dict[str, str] = {}
    for effect, keys in re.findall(r"^\| (\w+) \|[^|]*\| (`.*`) \|$", page, re.MULTILINE):
        for key in re.findall(r"`([\w.*]+)`", keys):
            for section in ("warmup", "learn") if key.startswith("*.") else ("*",):
                told[key.replace("*", section)] = effect
    assert told == {key: effect for key, effect in EFFECTS.items() if effect != "result"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> dict[str, Any]:
    """A recipe, as a tree, with a model and an index of its own."""
    folder = tmp_path_factory.mktemp("data")
    world = World(seed=4, passages=400)
    index = build_index(write_corpus(folder / "corpus", world.passages()), "bm25", folder / "index")
    write_jsonl(folder / "questions.jsonl", world.questions("train", 8, [2]))
    shutil.copytree(tiny_checkpoint, folder / "model")
    data = dict.fromkeys(("train", "dev", "test"), str(folder / "questions.jsonl"))
    model = {"path": str(folder / "model"), "precision": "fp32"}
    return {"data": {"index": str(index), **data}, "model": model, "warmup": {"questions": 4}}


def begin(settings: dict[str, Any], root: Path, *overrides: str) -> list[str]:
    """Claim a run folder; return what is said of it."""
    said: list[str] = []
    tree = {name: dict(section) for name, section in settings.items()}
    EMRun(parse_config(tree, list(overrides), "test"), root, said.append)
    return said


def test_a_quickstart_that_is_continued_goes_on_with_the_recipe_that_it_was_begun_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quickstart, "PASSAGES", 300)
    out, said = tmp_path / "run", list[str]()
    assert quickstart._prepare(out, 1, (), said.append).learn.replay == "decay"
    text = re.sub("^batch_size = .*$", "batch_size = 9", RunFolder(out).config.read_text(), flags=re.MULTILINE)
    RunFolder(out).config.write_text(text)  # as of a version whose recipe had another
    again = quickstart._prepare(out, 1, (), said.append)
    assert again.learn.batch_size == 9 and again.learn.replay == "decay"
    with pytest.raises(UsageError, match=r"learn\.batch_size = 9 -> 3"):
        quickstart._prepare(out, 1, ("learn.batch_size=3",), said.append)


def test_a_run_of_an_earlier_version_says_how_it_goes_on(settings: dict[str, Any], tmp_path: Path) -> None:
    config = parse_config({name: dict(section) for name, section in settings.items()}, [], "test")
    text = of_earlier_version(RunFolder(tmp_path), config)
    said = begin(settings, tmp_path)
    assert said[0].startswith("Started by an earlier version")
    assert (tmp_path / "config.toml").read_text() == text


def test_what_a_setting_stands_for_counts_and_not_its_name(settings: dict[str, Any], tmp_path: Path) -> None:
    root, path = tmp_path / "run", Path(settings["model"]["path"])
    begin(settings, root)
    moved = shutil.copytree(path, tmp_path / "moved")
    index = Path(settings["data"]["index"])
    index = shutil.copytree(index, index.with_name("copied"))
    [said] = begin(settings, root, f"model.path={moved}", f"data.index={index}")[1:]
    assert said.startswith("Resumed with changed settings that do not affect results: model.path = ")
    assert "data.index" in said and "model.path" not in "".join(begin(settings, root, f"model.path={moved}")[1:])


def test_another_model_under_the_same_name_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    root, model = tmp_path / "run", shutil.copytree(settings["model"]["path"], tmp_path / "model")
    begin(settings, root, f"model.path={model}")
    before = (root / "contents.json").read_bytes()
    vocabulary = msgspec.json.decode((model / "config.json").read_bytes())["vocab_size"]
    tiny_llama(vocabulary, seed=9).save_pretrained(model)
    with pytest.raises(UsageError, match=r"model\.path, which meant \w+ and now means \w+"):
        begin(settings, root, f"model.path={model}")
    assert (root / "contents.json").read_bytes() == before


def test_the_precision_counts_as_it_is_computed_here(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "run"
    begin(settings, root)
    monkeypatch.setattr("exsearch.hardware.devices.bfloat16_is_fast", lambda device: False)
    assert "model.precision" in begin(settings, root, "model.precision=auto")[-1]
    monkeypatch.setattr("exsearch.hardware.devices.bfloat16_is_fast", lambda device: True)
    with pytest.raises(UsageError, match=r"model\.precision, which meant float32 and now means bfloat16"):
        begin(settings, root, "model.precision=auto")


def test_a_run_of_an_earlier_version_is_continued(settings: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "run"
    begin(settings, root)
    (root / "contents.json").unlink()
    moved = shutil.copytree(settings["model"]["path"], tmp_path / "moved")
    with pytest.raises(UsageError, match=r"model\.path = .* -> "):
        begin(settings, root, f"model.path={moved}")
    assert begin(settings, root, "rollout.in_flight=3")[-1].endswith("rollout.in_flight = 64 -> 3.")
    assert (root / "contents.json").exists()
