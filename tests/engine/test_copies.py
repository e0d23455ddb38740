"""Copies of a model in processes of their own: they say what one says, and one may be lost."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine_specs import spec
from exsearch.agent.chat import ChatFormat
from exsearch.core.errors import UsageError
from exsearch.engine.base import EngineError, Sampling
from exsearch.engine.batch import generate, logprobs
from exsearch.engine.copies.engine import CopiedEngine
from exsearch.engine.hf.engine import HFEngine
from exsearch.engine.load import faster_copies
from tiny_models import save_tiny, tiny_llama

SAMPLING = Sampling(12, [], temperature=1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, chat: ChatFormat) -> Path:
    return save_tiny(tmp_path_factory.mktemp("copies") / "model", chat)


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[CopiedEngine]:
    engine = CopiedEngine(spec(model, 8), 2)
    yield engine
    engine.shut_down()


def prompts(chat: ChatFormat) -> list[list[int]]:
    return [chat.head + chat.encode(f"Question {n}: what? " * (1 + n % 5)) for n in range(12)]


def processes(engine: CopiedEngine) -> list[int]:
    return [copy._process.pid for copy in engine._copies]


def test_what_a_seat_is_told_is_what_one_engine_of_its_share_says_in_every_bit(
    engine: CopiedEngine, model: Path, chat: ChatFormat
) -> None:
    alone = HFEngine.load(spec(model, 4))
    asked, seeds = prompts(chat), list(range(12))
    found, expected = (generate(each, asked, SAMPLING, seeds) for each in (engine, alone))
    assert [(c.token_ids, c.logprobs) for c in found] == [(c.token_ids, c.logprobs) for c in expected]
    targets = [c.token_ids for c in expected]
    assert logprobs(engine, asked, targets) == logprobs(alone, asked, targets)
    assert engine.seats == 8
    assert engine.context_size == alone.context_size
    assert engine.stats.generated_tokens == engine.stats.scored_tokens == 12 * 12


def test_samples_of_one_prompt_are_computed_by_one_copy_once(engine: CopiedEngine, chat: ChatFormat) -> None:
    prompt = chat.head + chat.encode("Which question is this? " * 5)
    engine.forget()
    before = engine.stats.cached_tokens
    generate(engine, [prompt] * 4, SAMPLING, [1, 2, 3, 4])
    assert engine.stats.cached_tokens - before == 3 * (len(prompt) - 1)


def test_a_turn_given_up_makes_room_for_others(engine: CopiedEngine, chat: ChatFormat) -> None:
    long = Sampling(400, [], temperature=1.0)

    async def hurry() -> None:
        for _ in range(3):
            seats = [engine.open() for _ in range(8)]
            turns = [seat.generate(prompt, long, 1) for seat, prompt in zip(seats, prompts(chat), strict=False)]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*turns), 0.05)
            for seat in seats:
                seat.close()

    asyncio.run(hurry())
    assert len(generate(engine, prompts(chat), SAMPLING, list(range(12)))) == 12


def test_a_lost_copy_fails_its_own_turns_and_the_other_goes_on_until_the_end(model: Path, chat: ChatFormat) -> None:
    engine = CopiedEngine(spec(model, 8), 2)

    async def lose() -> list[object]:
        seats = [engine.open() for _ in range(8)]
        turns = [
            asyncio.create_task(seat.generate(prompt, Sampling(400, [], temperature=1.0), 1))
            for seat, prompt in zip(seats, prompts(chat), strict=False)
        ]
        await asyncio.sleep(0.05)
        os.kill(processes(engine)[0], signal.SIGKILL)
        results = await asyncio.gather(*turns, return_exceptions=True)
        for seat in seats:
            seat.close()
        return list(results)

    failed = [isinstance(result, EngineError) for result in asyncio.run(lose())]
    assert sum(failed) == 4
    assert len(generate(engine, prompts(chat)[:4], SAMPLING, [1, 2, 3, 4])) == 4
    with pytest.raises(EngineError, match="no room"):
        generate(engine, prompts(chat)[:5], SAMPLING, [1, 2, 3, 4, 5])
    before = time.monotonic()
    engine.shut_down()
    assert time.monotonic() - before < 5
    assert all(copy._process.poll() is not None for copy in engine._copies)


@pytest.mark.parametrize(
    ("threads", "amx", "weights", "device", "copies"),
    [
        (1, False, 1 << 28, "cpu", 1),
        (2, False, 1 << 28, "cpu", 2),
        (192, False, 1 << 28, "cpu", 8),
        (2, True, 1 << 28, "cpu", 1),
        (7, True, 1 << 28, "cpu", 1),
        (8, True, 1 << 28, "cpu", 2),
        (16, True, 1 << 28, "cpu", 4),
        (192, True, 1 << 28, "cpu", 8),
        (16, False, 1 << 20, "cpu", 1),
        (16, False, 2 << 30, "cpu", 1),
        (16, False, 1 << 28, "cuda", 1),
    ],
)
def test_there_are_as_many_copies_as_are_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, amx: bool, weights: int, device: str, copies: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1 << 24, "SC_PAGE_SIZE": 1 << 12}.__getitem__)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(weights)
    assert faster_copies(tmp_path, device) == copies
    if copies > 2:
        monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1 << 20, "SC_PAGE_SIZE": 1 << 12}.__getitem__)
        assert faster_copies(tmp_path, device) == 2, "4 GiB of memory have room for no more"


def test_a_model_that_cannot_be_loaded_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not know this kind of model"):
        CopiedEngine(spec(tmp_path, 2), 2)
    tiny_llama().save_pretrained(tmp_path)
    with pytest.raises(EngineError, match="could not be loaded"):
        CopiedEngine(spec(tmp_path, 2, device="no-such-device"), 2)
