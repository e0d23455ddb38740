"""The transformers engine: what it says equals what the plain model says, to the bit whatever else is in flight."""

import asyncio
import itertools
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from engine_specs import spec
from exsearch.agent.chat import ChatFormat
from exsearch.core.tokens import TokenIds
from exsearch.engine.base import Completion, EngineError, Sampling
from exsearch.engine.batch import generate, logprobs
from exsearch.engine.hf.engine import HFEngine
from exsearch.engine.hf.sampling import draw, uniforms
from exsearch.engine.hf.slot_memory import CHUNKS
from tiny_models import VOCABULARY, tiny_engine, tiny_llama

ENGINES = {seats: tiny_engine(seats=seats) for seats in range(1, 8)}
"""By the conversations they hold at once."""
PLAIN = tiny_llama(spread=0.4)
"""The model of the engines, with transformers' own attention."""
GREEDY = Sampling(12, [], temperature=0.0)
tokens = st.integers(0, VOCABULARY - 1)
prompts = st.lists(st.lists(tokens, min_size=1, max_size=25), min_size=1, max_size=6)


@torch.inference_mode()
def one_by_one(prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
    """Continue one prompt with the plain model, the whole sequence again for each token."""
    noise = uniforms([seed], sampling.max_new_tokens)
    said: TokenIds = []
    logprobs: list[float] = []
    for position in range(sampling.max_new_tokens):
        logits = PLAIN(torch.tensor([prompt + said]), use_cache=False).logits[:, -1]
        said += draw(logits, noise[:, position], sampling.temperature, sampling.top_p).tolist()
        logprobs.append(logits.log_softmax(dim=-1)[0, said[-1]].item())
        if said[-1] in sampling.stop_ids:
            return Completion(said, logprobs, "stop")
    return Completion(said, logprobs, "length")


def assert_same(found: list[Completion], expected: list[Completion]) -> None:
    assert [(c.token_ids, c.finish) for c in found] == [(c.token_ids, c.finish) for c in expected]
    for a, b in zip(found, expected, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-3)


@settings(max_examples=30)
@given(
    prompts,
    st.lists(st.lists(tokens, max_size=6), min_size=6, max_size=6),
    st.sets(tokens, max_size=30),
    st.integers(1, 8),
    st.integers(1, 7),
    st.sampled_from([(0.0, 1.0), (1.0, 1.0), (0.7, 0.8)]),
    st.integers(0, 2**64 - 1),
)
def test_two_turns_in_a_batch_equal_each_prompt_alone_without_a_cache(
    firsts: list[TokenIds],
    additions: list[TokenIds],
    stops: set[int],
    most: int,
    seats: int,
    drawing: tuple[float, float],
    seed: int,
) -> None:
    engine = ENGINES[seats]
    sampling = Sampling(most, sorted(stops), *drawing)
    seeds = [(seed + number) % 2**64 for number in range(len(firsts))]
    expected = [one_by_one(p, sampling, s) for p, s in zip(firsts, seeds, strict=True)]
    found = generate(engine, firsts, sampling, seeds)
    assert_same(found, expected)
    # Some conversations are over after the first turn; the others go on, in another order.
    going = [i for i in range(len(firsts)) if additions[i]][::-1]
    seconds = [firsts[i] + found[i].token_ids + additions[i] for i in going]
    if going:
        turn_seeds = [seeds[i] for i in going]
        expected = [one_by_one(p, sampling, s) for p, s in zip(seconds, turn_seeds, strict=True)]
        assert_same(generate(engine, seconds, sampling, turn_seeds), expected)


@settings(max_examples=30)
@given(prompts, st.lists(st.lists(tokens, min_size=1, max_size=6), min_size=6, max_size=6), st.integers(1, 7))
def test_scores_equal_those_of_a_separate_full_forward_pass(
    prefixes: list[TokenIds], candidates: list[TokenIds], seats: int
) -> None:
    engine = ENGINES[seats]
    targets = candidates[: len(prefixes)]
    for scores, prefix, target in zip(logprobs(engine, prefixes, targets), prefixes, targets, strict=True):
        with torch.inference_mode():
            full = PLAIN(torch.tensor([prefix + target])).logits[0].log_softmax(dim=-1)
        expected = [full[len(prefix) + i - 1, token].item() for i, token in enumerate(target)]
        assert scores == pytest.approx(expected, abs=1e-3)


@settings(max_examples=20)
@given(prompts, st.integers(0, 1000))
def test_the_logprobs_of_a_completion_are_those_of_scoring_it(starts: list[TokenIds], seed: int) -> None:
    engine = ENGINES[4]
    said = generate(engine, starts, Sampling(5, [], 2.0, 0.9), [seed + i for i in range(len(starts))])
    for completion, scores in zip(said, logprobs(tiny_engine(), starts, [c.token_ids for c in said]), strict=True):
        assert completion.logprobs == pytest.approx(scores, abs=1e-3)


def test_greedy_tokens_are_those_of_transformers_generate() -> None:
    engine, plain = tiny_engine(seed=3), tiny_llama(seed=3, spread=0.4)
    starts = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10], [11]]
    stops = [20, 40, 60, 80]
    for start, completion in zip(starts, generate(engine, starts, Sampling(30, stops, 0.0), [0, 0, 0]), strict=True):
        ids = torch.tensor([start])
        whole = plain.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=30,
            do_sample=False,
            eos_token_id=stops,
            pad_token_id=0,
        )
        assert completion.token_ids == whole[0, len(start) :].tolist()


def converse(engine: HFEngine, turns: list[tuple[TokenIds, Sampling, int]]) -> list[Completion]:
    """One conversation: each turn is what is added to what was said before."""

    async def run() -> list[Completion]:
        seat, ids, said = engine.open(), [], []
        for added, sampling, seed in turns:
            ids = ids + added
            said.append(await seat.generate(ids, sampling, seed))
            ids = ids + said[-1].token_ids
        seat.close()
        return said

    return asyncio.run(run())


def test_an_earlier_turn_is_not_computed_again() -> None:
    engine = tiny_engine()
    first, second = converse(engine, [(list(range(10, 30)), Sampling(6, []), 1), ([7, 7], GREEDY, 0)])
    assert (first.prefilled, first.cached) == (20, 0)
    # What is new: the last token said, which was never fed, and the two added ones.
    assert (second.prefilled, second.cached) == (3, 20 + 5)
    assert engine.stats.generated_tokens == 6 + 12
    whole = list(range(10, 30)) + first.token_ids + [7, 7]
    assert_same([second], generate(tiny_engine(), [whole], GREEDY, [0]))


@pytest.mark.parametrize("length", [3, 128, 200, 300])
def test_what_samples_of_a_question_have_in_common_is_computed_once(length: int) -> None:
    engine = tiny_engine(seats=3)
    prompt = [token % VOCABULARY for token in range(length)]
    said = generate(engine, [prompt] * 7, Sampling(6, []), list(range(7)))
    assert [c.prefilled for c in said] == [length] + [1] * 6
    assert len({tuple(c.token_ids) for c in said}) == 7, "equal prompts, different draws"
    [other] = generate(engine, [[*prompt[:-1], 5, 6, 7]], GREEDY, [0])
    assert other.cached == (length - 1) // CHUNKS[-1] * CHUNKS[-1], "another question's chunks are kept whole"


def test_scoring_behind_a_finished_turn_computes_the_target_alone() -> None:
    async def run() -> tuple[int, list[float]]:
        seat, start = engine.open(), list(range(30))
        await seat.generate(start, Sampling(5, []), 1)
        before = engine.stats.prefilled_tokens
        return engine.stats.prefilled_tokens - before, await seat.logprobs(start, [3, 4])

    engine = tiny_engine()
    prefilled, scores = asyncio.run(run())
    assert prefilled == 0
    assert engine.stats.scored_tokens == 2
    assert scores == logprobs(tiny_engine(), [list(range(30))], [[3, 4]])[0]


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_what_a_conversation_is_told_depends_on_nothing_else_in_any_bit(data: st.DataObject) -> None:
    """Not on companions, their order, what was computed before, or which slot it got; in three turns and scores."""
    beginnings = [[token % 89 for token in range(number, number + length)] for number, length in [(1, 150), (2, 40)]]
    conversations = data.draw(
        st.lists(
            st.tuples(st.sampled_from(beginnings), st.lists(tokens, min_size=1, max_size=200), st.integers(0, 2**32)),
            min_size=2,
            max_size=9,
        )
    )

    async def hold(engine: HFEngine, free: asyncio.Semaphore, index: int) -> list[object]:
        beginning, rest, seed = conversations[index]
        async with free:
            seat, ids, told = engine.open(), beginning + rest, []
            for turn in range(3):
                completion = await seat.generate(ids, Sampling(1 + seed % 9, [5, 6], 0.9, 0.95), seed + turn)
                told.append((completion.token_ids, completion.logprobs, completion.finish))
                ids = ids + completion.token_ids + rest[: turn + 1]
                if seed % 3 == 0:
                    await asyncio.sleep(seed % 7 / 500)  # a search
            told.append(await seat.logprobs(ids[: len(beginning + rest)], rest[:4]))
            seat.close()
            return told

    async def together(engine: HFEngine, order: list[int]) -> dict[int, list[object]]:
        free = asyncio.Semaphore(engine.seats)
        told = await asyncio.gather(*(hold(engine, free, index) for index in order))
        return dict(zip(order, told, strict=True))

    fresh = {index: asyncio.run(together(tiny_engine(seats=4), [index]))[index] for index in range(len(conversations))}
    order = data.draw(st.permutations(range(len(conversations))))
    assert asyncio.run(together(tiny_engine(seats=4), list(order))) == fresh


def test_a_draw_does_not_depend_on_the_other_prompts_of_the_batch() -> None:
    sampling = Sampling(10, [0, 1, 2], temperature=1.0)
    starts = [[7, *range(length)] for length in (3, 17, 1, 40, 8)]
    seeds = [101, 102, 103, 104, 105]
    alone = [generate(tiny_engine(), [start], sampling, [seed])[0] for start, seed in zip(starts, seeds, strict=True)]
    for order in itertools.islice(itertools.permutations(range(5)), 0, None, 37):
        found = generate(tiny_engine(), [starts[i] for i in order], sampling, [seeds[i] for i in order])
        assert_same(found, [alone[i] for i in order])


def test_more_prompts_than_seats_go_one_after_another() -> None:
    starts = [[number, number + 1] for number in range(7)]
    assert_same(generate(ENGINES[2], starts, GREEDY, [0] * 7), generate(ENGINES[7], starts, GREEDY, [0] * 7))
    targets = [[n] for n in range(7)]
    assert [s[0] for s in logprobs(ENGINES[2], starts, targets)] == pytest.approx(
        [s[0] for s in logprobs(ENGINES[7], starts, targets)], abs=1e-4
    )


def test_a_model_that_fails_fails_those_who_wait_and_serves_the_next() -> None:
    engine = tiny_engine()
    layer = engine.model.base_model.layers[0]
    handle = layer.register_forward_pre_hook(lambda *ignored: 1 / 0)
    with pytest.raises(EngineError, match="division by zero"):
        generate(engine, [[1, 2], [3, 4]], GREEDY, [0, 0])
    handle.remove()
    assert_same(generate(engine, [[1, 2]], GREEDY, [0]), generate(tiny_engine(), [[1, 2]], GREEDY, [0]))


def test_a_caller_who_stops_waiting_frees_its_seat_and_disturbs_nobody() -> None:
    async def run() -> Completion:
        impatient, patient = engine.open(), engine.open()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await impatient.generate([1, 2, 3], Sampling(100_000 // 64, []), 1)
        impatient.close()
        return await patient.generate([4, 5, 6], GREEDY, 0)

    engine = tiny_engine(seats=2)
    engine.model.base_model.layers[0].register_forward_pre_hook(lambda *ignored: time.sleep(0.002))
    assert_same([asyncio.run(run())], generate(tiny_engine(), [[4, 5, 6]], GREEDY, [0]))


def test_nothing_to_do_is_done() -> None:
    assert generate(ENGINES[1], [], GREEDY, []) == []
    assert logprobs(ENGINES[1], [], []) == []


@pytest.fixture(scope="module")
def smollm2(builtin: Path) -> HFEngine:
    return HFEngine.load(spec(builtin))


def question(chat: ChatFormat, text: str) -> TokenIds:
    return chat.first_prompt(text)


def test_the_embedded_model_says_the_same_as_under_transformers(
    smollm2: HFEngine, builtin: Path, chat: ChatFormat
) -> None:
    starts = [question(chat, "What is the capital of France?"), question(chat, "Name three colours.")]
    found = generate(smollm2, starts, Sampling(8, [chat.stop_id], 0.0), [0, 0])
    plain = AutoModelForCausalLM.from_pretrained(builtin, dtype=torch.float32)
    for start, completion in zip(starts, found, strict=True):
        whole = plain.generate(torch.tensor([start]), max_new_tokens=8, do_sample=False)
        assert completion.token_ids == whole[0, len(start) :].tolist()
        with torch.inference_mode():
            full = plain(whole).logits[0].log_softmax(dim=-1)
        expected = [full[len(start) + i - 1, token].item() for i, token in enumerate(completion.token_ids)]
        assert completion.logprobs == pytest.approx(expected, abs=1e-3)


def test_the_embedded_model_continues_a_conversation_from_its_cache(smollm2: HFEngine, chat: ChatFormat) -> None:
    start = question(chat, "Remember the number 42.")
    more = [chat.stop_id, *chat.next_prompt("Which number?")]
    sampling = Sampling(4, [chat.stop_id], 0.0)
    first, cached = converse(smollm2, [(start, sampling, 0), (more, sampling, 0)])
    assert cached.prefilled == len(more) + 1
    alone = HFEngine(smollm2.model, "fresh", seats=smollm2.seats)
    assert_same([cached], generate(alone, [start + first.token_ids + more], sampling, [0]))


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_the_embedded_model_says_the_same_to_the_bit_alone_and_among_others(
    builtin: Path, chat: ChatFormat, precision: str
) -> None:
    """The arithmetic of real sizes: kernels that choose their way by the number of rows would show here."""
    engine = HFEngine.load(spec(builtin, 8, precision=precision))
    texts = [f"Tell me {'all ' * (number // 2)}about the number {number}." for number in range(12)]
    prompts = [question(chat, text) for text in texts]
    sampling, seeds = Sampling(6, [chat.stop_id], 0.8), list(range(len(prompts)))
    together = generate(engine, prompts, sampling, seeds)
    for index in (0, 5, 11):
        alone = HFEngine(engine.model, "fresh", seats=8)
        [said] = generate(alone, [prompts[index]], sampling, [seeds[index]])
        assert (said.token_ids, said.logprobs) == (together[index].token_ids, together[index].logprobs)


def test_an_engine_without_memory_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny_engine(seats=6)

    def full(**inputs: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room on the GPU")

    monkeypatch.setattr(engine.model, "forward", full)
    with pytest.raises(EngineError, match=r"out of memory with room for 6 conversations; lower rollout\.in_flight"):
        generate(engine, [[1, 2]], GREEDY, [0])
