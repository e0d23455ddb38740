"""`PROCEDURE=sft` and `PROCEDURE=align`, as the reference's README writes them, from the repository root."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exsearch.agent.chat import ChatFormat
from exsearch.compat.searchlm.finetune import TrainingConversation, cut_off, example_of
from exsearch.compat.searchlm.formats import Message
from exsearch.compat.searchlm.main import main
from exsearch.core.errors import UsageError
from exsearch.training.learners.zero_settings import read_zero_settings
from tiny_models import save_tiny

ROOT = Path(__file__).parents[2]


def conversation(number: int, **more: float) -> dict[str, object]:
    turns = [f"Question {number}?", f"<QUERY> thing {number}", "<SEARCH> [1] ...", "<FACT> it <FINAL>", "Answer?", "it"]
    return {"messages": [{"role": ["user", "assistant"][n % 2], "content": t} for n, t in enumerate(turns)], **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, chat: ChatFormat) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    save_tiny(folder / "model", chat, spread=0.3)
    (folder / "warm-up.json").write_text(json.dumps([conversation(n) for n in range(8)]))
    (folder / "weighted.json").write_text(json.dumps([conversation(n, prob=n / 8) for n in range(8)]))
    return folder


def run(procedure: str, folder: Path, data: str, *words: object, ranks: int = 0) -> "subprocess.CompletedProcess[str]":
    start = [sys.executable]
    if ranks:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    flags = ["--model_name_or_path", folder / "model", "--dataset_name_or_path", folder / data]
    command = [*start, "./src/run.py", *map(str, flags), *map(str, words)]
    environment = {**os.environ, "PROCEDURE": procedure}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


README = "--overwrite_cache True --warmup_ratio 0.1 --report_to none --run_name test_run --logging_steps 1"
README += " --cutoff_len 8192 --max_samples 6 --save_steps 1000 --per_device_train_batch_size 1"
README += " --gradient_accumulation_steps 2 --learning_rate 2.0e-3 --num_train_epochs 2 --lr_scheduler_type cosine"
README += " --bf16 False"


@pytest.mark.parametrize(
    ("procedure", "data", "learned"),
    [pytest.param("sft", "warm-up.json", 6, marks=pytest.mark.slow), ("align", "weighted.json", 5)],
)
def test_the_commands_of_the_readme_train_on_two_ranks(
    folder: Path, tmp_path: Path, procedure: str, data: str, learned: int
) -> None:
    done = run(procedure, folder, data, "--output_dir", tmp_path / "out", *README.split(), ranks=2)
    assert done.returncode == 0, done.stderr
    assert "DDP, 2 copies" in done.stderr
    assert "FutureWarning" not in done.stderr
    assert f"checkpoint after {learned} conversations" in done.stdout
    steps = [json.loads(line) for line in (tmp_path / "out.metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3, 4], "two epochs of batches of 1 x 2 x 2 conversations"
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert ChatFormat.load(tmp_path / "out").stop_id == ChatFormat.load(folder / "model").stop_id


@pytest.mark.parametrize(
    ("procedure", "data", "words", "said"),
    [
        ("sft", "weighted.json", [], "weighted.json, entry 0: has a prob: use PROCEDURE=align"),
        ("align", "warm-up.json", [], "warm-up.json, entry 0: has no prob"),
        ("sft", "warm-up.json", ["--cutoff_len", "20"], "within cutoff_len = 20, a token to learn"),
        (
            "sft",
            "warm-up.json",
            ["--learning_rat", "1"],
            "unknown flag --learning_rat; did you mean '--learning_rate'?",
        ),
        ("sft", "warm-up.json", ["--bf16", "maybe"], "'maybe' is neither True nor False"),
        ("sft", "warm-up.json", ["--num_train_epochs", "1.5"], "must be a whole number"),
        ("sft", "warm-up.json", ["--learning_rate", "-1"], "out of range"),
        ("sft", "warm-up.json", ["--resume_from_checkpoint", "True"], "there is nothing to resume"),
        ("sft", "warm-up.json", ["--resume_from_checkpoint", "/elsewhere"], "name the output folder"),
        ("sft", "warm-up.json", ["--deepspeed", "./src/script/ds_z3_config.json"], "zero3 needs several ranks"),
        ("sft", "nothing.json", [], "nothing.json: no such file"),
    ],
)
def test_a_mistake_is_said(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    procedure: str,
    data: str,
    words: list[str],
    said: str,
) -> None:
    flags = ["--model_name_or_path", folder / "model", "--dataset_name_or_path", folder / data]
    monkeypatch.setenv("PROCEDURE", procedure)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["run.py", *map(str, flags), "--output_dir", str(tmp_path / "out"), *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_only_the_turns_of_the_model_are_learned(chat: ChatFormat) -> None:
    messages = [
        Message("user", "Who?"),
        Message("assistant", "<QUERY> a"),
        Message("user", "b"),
        Message("assistant", "c"),
    ]
    example = example_of(TrainingConversation(messages, 0.5), True, chat, "here")
    learned = [token for token, mask in zip(example.token_ids, example.loss_mask, strict=True) if mask]
    assert learned == [*chat.encode("<QUERY> a"), chat.stop_id, *chat.encode("c"), chat.stop_id]
    assert example.token_ids[example.answer_start :] == [*chat.encode("c"), chat.stop_id]
    assert chat.messages(example.token_ids) == [{"role": m.role, "content": m.content} for m in messages]
    assert example.weight == 0.5
    assert cut_off(example, 3).loss_tokens() == 0


@pytest.mark.parametrize("roles", [[], ["user"], ["assistant", "user"], ["system", "user", "assistant"]])
def test_turns_out_of_order_are_refused(chat: ChatFormat, roles: list[str]) -> None:
    with pytest.raises(UsageError, match="line 3: messages must be user, assistant"):
        example_of(TrainingConversation([Message(role, "x") for role in roles]), False, chat, "line 3")


@pytest.mark.parametrize("weight", [-0.1, float("inf"), float("nan")])
def test_what_is_no_weight_is_refused(chat: ChatFormat, weight: float) -> None:
    messages = [Message("user", "x"), Message("assistant", "y")]
    with pytest.raises(UsageError, match="which is not a valid weight"):
        example_of(TrainingConversation(messages, weight), True, chat, "here")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"zero_optimization": {"stage": 1}}, "stage must be 2 or 3, not 1"),
        ({"zero_optimization": {"stage": 3}, "train_batch_size": 64}, "train_batch_size is decided by the trainer"),
        ({"zero_optimization": {"stage": 3}, "fp16": {"enabled": True}}, "fp16 is not supported"),
    ],
)
def test_settings_of_deepspeed_that_contradict_the_trainer_are_refused(
    tmp_path: Path, settings: dict[str, object], complaint: str
) -> None:
    (tmp_path / "zero.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match=complaint):
        read_zero_settings(str(tmp_path / "zero.json"))


def test_the_settings_of_the_repository_leave_the_trainer_its_own() -> None:
    for stage in (2, 3):
        settings = read_zero_settings(str(ROOT / "src" / "script" / f"ds_z{stage}_config.json"))
        assert settings["zero_optimization"]["stage"] == stage
        assert "train_batch_size" not in settings
