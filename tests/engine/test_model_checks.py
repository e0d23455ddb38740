"""A model is looked at before it is used: what ExSearch would compute wrongly never starts."""

import asyncio
import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from exsearch.agent.chat import ChatFormat
from exsearch.cli.doctor import doctor
from exsearch.config import LearnConfig, ModelConfig
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.engine.base import Sampling
from exsearch.engine.batch import logprobs
from exsearch.engine.hf import attention, paths
from exsearch.engine.hf.engine import HFEngine
from exsearch.engine.hf.paths import judge_engine
from exsearch.engine.load import load_engine
from exsearch.engine.models.attending import UnknownArgumentError, attend_in_blocks
from exsearch.engine.models.limits import context_limit, narrowed, steady_limit, windows_of
from exsearch.engine.models.merging import merge_checked
from exsearch.engine.models.noise import without_noise
from exsearch.engine.models.probe import ModelVerdict, judge, require_path
from exsearch.engine.spec import EngineSpec
from exsearch.training.example import Example
from exsearch.training.job import Job
from exsearch.training.learners.adapters import adapted_by, add_lora
from exsearch.training.loss import WeightedLoss
from exsearch.training.packing.rows import line_up
from exsearch.training.packing.tree import grow
from exsearch.training.packing.ways import judge_trainer
from exsearch.training.start import train
from family_checks import text
from model_families import FAMILIES, save_family

CPU = ModelConfig(device="cpu", precision="fp32")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder in which nothing is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_window_is_no_context(chat: ChatFormat, tmp_path: Path) -> None:
    model = FAMILIES["mistral-v0.1"].model()
    assert windows_of(model) == [16]
    assert context_limit(model.config) == 2048
    assert context_limit(FAMILIES["gemma3"].model().config) == 2048, "the text part's"
    assert context_limit(FAMILIES["bloom"].model().config) > 10**6, "it has no positions to run out of"


@pytest.mark.parametrize("name", ["mistral-v0.1", "gemma2-window-512"])
def test_a_forgotten_window_is_seen_however_long_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_mask", lambda mask, window, groups: mask.repeat(1, 1, groups, 1))
    verdict = judge_engine(FAMILIES[name].model())
    assert verdict.path == "pieces"
    assert "differ" in verdict.rejected["slots"]


def test_narrowed_windows_are_what_they_were_afterwards() -> None:
    model = FAMILIES["gemma2-window-512"].model()
    with narrowed(model, 24):
        assert windows_of(model) == [24]
    assert windows_of(model) == [512]


def test_a_dropped_cap_or_sink_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(query, key, value, mask, scaling, softcap, sinks):  # type: ignore[no-untyped-def]
        return attend_in_blocks(query, key, value, mask, scaling, None, None)

    monkeypatch.setattr(attention, "attend_in_blocks", careless)
    monkeypatch.setattr("exsearch.training.packing.attention.attend_in_blocks", careless)
    for name in ("gemma2", "gpt_oss"):
        assert judge_engine(FAMILIES[name].model()).path == "pieces"
        assert judge_trainer(FAMILIES[name].model()).path == "rows"


def test_attention_refuses_what_it_does_not_know() -> None:
    model = FAMILIES["llama3"].model()
    model.set_attn_implementation(attention.GROUPED)
    with pytest.raises(UnknownArgumentError, match="LlamaAttention has unknown attention arguments: tree_bias"):
        model(torch.tensor([[1, 2]]), tree_bias=torch.ones(1))


def test_a_context_in_which_a_model_contradicts_itself_is_refused(chat: ChatFormat, tmp_path: Path) -> None:
    folder = save_family("phi4-mini-longrope", tmp_path / "model", chat)
    with pytest.raises(UsageError, match=r"agent.context = 65: beyond 64 tokens its rotary positions \(longrope\)"):
        load_engine(EngineSpec(folder, CPU, 65, 2), chat)
    engine = load_engine(EngineSpec(folder, CPU, 64, 2), chat)
    assert engine.context_size == 64
    with pytest.raises(ExSearchError, match="65 tokens: beyond 64"):
        logprobs(engine, [text(60, 1)], [text(5, 2)])
    with pytest.raises(UsageError, match="an example has 65 tokens: beyond 64"):
        train(Job.of(folder, [Example(text(65, 1), [1] * 65, 60)], tmp_path / "out", LearnConfig(), CPU, 1, "t"), print)


def test_a_model_without_positions_takes_any_context(chat: ChatFormat, tmp_path: Path) -> None:
    folder = save_family("mamba2", tmp_path / "model", chat)
    assert load_engine(EngineSpec(folder, CPU, 100_000, 2), chat).context_size >= 100_000


def test_a_conversation_does_not_change_the_positions_of_another() -> None:
    """Rotary positions that depend on the longest row, beside an idle seat and a long neighbour."""
    engine = HFEngine(FAMILIES["phi4-mini-longrope"].model(), "x", seats=4)
    alone = logprobs(engine, [text(20, 1)], [text(5, 2)])
    others = [text(50, number) for number in (3, 4)]
    together = logprobs(engine, [text(20, 1), *others], [text(5, 2), text(5, 5), text(5, 6)])
    assert together[0] == alone[0]


@pytest.mark.parametrize("name", ["lfm2", "mamba", "zamba2", "granite_swa", "gemma2"])
def test_what_a_conversation_is_told_does_not_depend_on_its_company(name: str) -> None:
    path = judge_engine(FAMILIES[name].model()).path

    async def told(numbers: list[int]) -> dict[int, list[object]]:
        engine = HFEngine(FAMILIES[name].model(), "x", seats=3, path=path)  # type: ignore[arg-type]

        async def hold(number: int) -> list[object]:
            seat, ids, said = engine.open(), text(20 + 9 * number, number), []
            for turn in range(2):
                completion = await seat.generate(ids, Sampling(3 + number, [5, 6], 0.9, 0.9), 7 * number + turn)
                said.append((completion.token_ids, completion.logprobs))
                ids = ids + completion.token_ids + text(4, 10 + turn)
                said.append(await seat.logprobs(ids[: 20 + 9 * number], text(3, 2)))
            seat.close()
            return said

        return dict(zip(numbers, await asyncio.gather(*map(hold, numbers)), strict=True))

    together = asyncio.run(told([2, 0, 1]))
    assert {number: asyncio.run(told([number]))[number] for number in range(3)} == together


def test_a_model_that_is_right_on_no_path_is_refused_with_the_figure() -> None:
    def difference(path: str) -> float:
        if path == "first":
            raise RuntimeError("list index out of range")
        return 2.5

    verdict = judge(["first", "second"], 1e-4, difference)
    assert verdict == ModelVerdict(
        "",
        2.5,
        1e-4,
        {
            "first": "RuntimeError: list index out of range",
            "second": "log-probs differ by 2.5 from the plain forward pass",
        },
    )
    with pytest.raises(UsageError, match=r"the engine cannot compute this model: log-probs differ by 2\.5 nats"):
        require_path(verdict, "the engine")


def test_a_model_is_tried_once_and_again_when_its_weights_are_others(
    chat: ChatFormat, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    real = paths.judge_engine
    monkeypatch.setattr(paths, "judge_engine", lambda model: (tried.append("x"), real(model))[1])
    folder = save_family("llama3", tmp_path / "model", chat)
    for _ in range(2):
        load_engine(EngineSpec(folder, CPU, 512, 2), chat)
    assert len(tried) == 1
    other = save_family("llama-tied", tmp_path / "other", chat)
    load_engine(EngineSpec(other, CPU, 512, 2), chat)
    assert len(tried) == 2


def test_a_model_is_not_judged_by_a_want_of_memory(
    chat: ChatFormat, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_family("llama3", tmp_path / "model", chat)

    def full(*arguments: object, **named: object) -> None:
        raise torch.OutOfMemoryError("no room for 2 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(paths, "memory_of", full)
        with pytest.raises(ExSearchError, match="out of memory while loading the model on cpu; free memory"):
            load_engine(EngineSpec(folder, CPU, 512, 2), chat)
    assert not list((own_cache / "exsearch" / "probes").glob("*.json"))
    assert load_engine(EngineSpec(folder, CPU, 512, 2), chat).context_size > 0


@pytest.mark.parametrize("copies", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_refused_model_is_one_line(
    chat: ChatFormat, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    """The verdict comes from the cache, as that of a model on which every path is wrong would."""
    folder = save_family("llama3", tmp_path / "model", chat)
    load_engine(EngineSpec(folder, CPU, 512, 2), chat)
    [remembered] = (own_cache / "exsearch" / "probes").glob("*.json")
    remembered.write_text(json.dumps({"path": "", "difference": 3.25, "tolerance": 1e-4, "rejected": {}}))
    with pytest.raises(UsageError, match=r"the engine cannot compute this model: log-probs differ by 3\.2"):
        load_engine(EngineSpec(folder, ModelConfig(device="cpu", precision="fp32", data_parallel=copies), 512, 2), chat)


def test_adapters_on_shared_weights_are_refused_before_training(chat: ChatFormat, tmp_path: Path) -> None:
    folder = save_family("zamba2", tmp_path / "model", chat)
    config = LearnConfig(lora_rank=2)
    with pytest.raises(UsageError, match="share one weight"):
        train(Job.of(folder, [Example(text(9, 1), [1] * 9, 5)], tmp_path / "out", config, CPU, 1, "t"), print)
    assert not (tmp_path / "out").exists()


def test_a_merge_that_changes_the_model_is_refused() -> None:
    model = FAMILIES["llama3"].model()
    add_lora(model, 2)
    merge_checked(model, lambda: None)
    with pytest.raises(ExSearchError, match="merging the adapters changes the model's output"):
        merge_checked(model, lambda: model.base_model.layers[0].mlp.up_proj.base_layer.weight.data.mul_(2))


def test_it_is_known_what_adapters_cover() -> None:
    assert adapted_by(FAMILIES["llama3"].model()).share > 0.99
    experts = adapted_by(FAMILIES["qwen2_moe"].model())
    assert experts.share < 0.5, "its experts are in one tensor that peft does not know"
    assert "gate" not in adapted_by(FAMILIES["phimoe"].model()).layers, "its router returns more than a product"


def test_training_has_no_noise() -> None:
    model = FAMILIES["seed_oss"].model().train()
    ids = torch.tensor([text(30, 1)])
    before = model(ids).logits
    assert not torch.equal(before, model(ids).logits)
    without_noise(model)
    assert torch.equal(model(ids).logits, model(ids).logits)
    assert model.config.attention_dropout == 0.1, "what is saved is the model's own"


def test_doctor_says_how_a_model_is_computed(chat: ChatFormat, tmp_path: Path) -> None:
    folder = save_family("lfm2", tmp_path / "model", chat)
    words = ["--model", str(folder), "--json", "--set", "model.precision=fp32", "--set", "model.device=cpu"]
    result = CliRunner().invoke(doctor, words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["engine"].startswith("pieces, within")
    assert told["trainer"].startswith("rows, within")
    assert told["stop tokens"] == "<|im_end|>"
    assert told["windows"] == "none: all layers see all tokens"
    assert told["refused"] == []
    assert told["template"].startswith("the model's own: '<|im_start|>system")
    assert told["template"].endswith("...<|im_end|>\\n<|im_start|>assistant\\n'")
    assert told["date"] == "none in the template"
    assert told["thinking"] == "template: a prompt begins no thought; the template has no switch for it"


def test_doctor_says_what_a_template_does_with_thoughts_and_dates(chat: ChatFormat, tmp_path: Path) -> None:
    folder = save_family("llama3", tmp_path / "model", chat)
    tokenizer = deepcopy(chat.tokenizer)
    tokenizer.chat_template = (
        "{{ strftime_now('%Y') + '<|im_end|>' }}{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<think>\\n' }}"
        "{{ '' if not enable_thinking is defined or enable_thinking else '</think>\\n' }}{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 0]}')
    words = ["--model", str(folder), "--json", "--set", "model.precision=fp32", "--set", "model.device=cpu"]
    told = json.loads(CliRunner().invoke(doctor, [*words, "--set", "agent.date=2031-07-04"]).stdout.splitlines()[-1])
    assert told["template"] == "the model's own: '2031<|im_end|>...<|im_end|><think>\\n'"
    assert told["stop tokens"] == "<|im_end|>, <|endoftext|>"
    assert told["date"] == "the template gets 2031-07-04 as today's date (agent.date)"
    assert told["thinking"] == "template: a prompt begins a thought; agent.thinking switches it"
    told = json.loads(CliRunner().invoke(doctor, [*words, "--set", "agent.thinking=off"]).stdout.splitlines()[-1])
    assert told["thinking"] == "off: a prompt begins no thought; agent.thinking switches it"


def test_steady_limits() -> None:
    assert steady_limit(FAMILIES["llama3"].config()) is None
    dynamic = steady_limit(FAMILIES["llama-dynamic"].config())
    assert dynamic is not None and dynamic.tokens == 64
    sparse = steady_limit(FAMILIES["glm_moe_dsa"].config())
    assert sparse is not None and "index_topk" in sparse.reason


def test_adapters_leave_the_part_alone_that_sees_images() -> None:
    model = FAMILIES["gemma3"].model()
    add_lora(model, 2)
    adapted = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert adapted and all("language_model" in name for name in adapted)


@pytest.mark.parametrize("name", ["granite", "gemma2", "modernbert-decoder", "opt", "llama4_text", "qwen3_moe"])
def test_logits_made_chunk_by_chunk_have_the_gradient_of_those_made_at_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = []
    packing = judge_trainer(FAMILIES[name].model()).path
    examples = [Example(text(60, 1), [1] * 60, 40), Example(text(30, 2), [1] * 30, 20)]
    for chunk in (1024, 7):
        monkeypatch.setattr("exsearch.training.loss.CHUNK", chunk)
        model = FAMILIES[name].model()
        loss = WeightedLoss(model, LearnConfig(), packing=packing)  # type: ignore[arg-type]
        loss(grow(examples) if packing == "tree" else line_up(examples))[0].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 1e-5
