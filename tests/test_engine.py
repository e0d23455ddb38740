"""The transformers engine: what it says equals what the plain model says, whatever is cached or batched."""

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.engine.base import Completion, Sampling, TokenIds
from exsearch.engine.hf import HFEngine
from exsearch.engine.sampling import draw, uniforms
from tiny_models import VOCABULARY, tiny_engine

ENGINES = {size: tiny_engine(max_batch=size) for size in range(1, 8)}
"""By the most sequences they hold at once."""
GREEDY = Sampling(12, [], temperature=0.0)
tokens = st.integers(0, VOCABULARY - 1)
prompts = st.lists(st.lists(tokens, min_size=1, max_size=25), min_size=1, max_size=6)


@torch.inference_mode()
def one_by_one(engine: HFEngine, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
    """Continue one prompt with the plain model, the whole sequence anew for each token."""
    noise = uniforms([seed], sampling.max_new_tokens)
    said: TokenIds = []
    logprobs: list[float] = []
    for position in range(sampling.max_new_tokens):
        logits = engine.model(torch.tensor([prompt + said]), use_cache=False).logits[:, -1]
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
    max_batch: int,
    drawing: tuple[float, float],
    seed: int,
) -> None:
    engine = ENGINES[max_batch]
    engine.forget()
    sampling = Sampling(most, sorted(stops), *drawing)
    seeds = [(seed + number) % 2**64 for number in range(len(firsts))]
    expected = [one_by_one(engine, p, sampling, s) for p, s in zip(firsts, seeds, strict=True)]
    found = engine.generate(firsts, sampling, seeds)
    assert_same(found, expected)
    # Some conversations are over after the first turn; the others go on, in another order.
    going = [i for i in range(len(firsts)) if additions[i]][::-1]
    seconds = [firsts[i] + found[i].token_ids + additions[i] for i in going]
    if going:
        turn_seeds = [seeds[i] for i in going]
        expected = [one_by_one(engine, p, sampling, s) for p, s in zip(seconds, turn_seeds, strict=True)]
        assert_same(engine.generate(seconds, sampling, turn_seeds), expected)


@settings(max_examples=30)
@given(prompts, st.lists(st.lists(tokens, min_size=1, max_size=6), min_size=6, max_size=6), st.integers(1, 7))
def test_scores_equal_those_of_a_separate_full_forward_pass(
    prefixes: list[TokenIds], candidates: list[TokenIds], max_batch: int
) -> None:
    engine = ENGINES[max_batch]
    targets = candidates[: len(prefixes)]
    for scores, prefix, target in zip(engine.logprobs(prefixes, targets), prefixes, targets, strict=True):
        with torch.inference_mode():
            full = engine.model(torch.tensor([prefix + target])).logits[0].log_softmax(dim=-1)
        expected = [full[len(prefix) + i - 1, token].item() for i, token in enumerate(target)]
        assert scores == pytest.approx(expected, abs=1e-3)


@settings(max_examples=20)
@given(prompts, st.integers(0, 1000))
def test_the_logprobs_of_a_completion_are_those_of_scoring_it(starts: list[TokenIds], seed: int) -> None:
    engine = ENGINES[4]
    said = engine.generate(starts, Sampling(5, [], 2.0, 0.9), [seed + i for i in range(len(starts))])
    engine.forget()
    for completion, scores in zip(said, engine.logprobs(starts, [c.token_ids for c in said]), strict=True):
        assert completion.logprobs == pytest.approx(scores, abs=1e-3)


def test_greedy_tokens_are_those_of_transformers_generate() -> None:
    engine = tiny_engine(seed=3)
    starts = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10], [11]]
    stops = [20, 40, 60, 80]
    for start, completion in zip(starts, engine.generate(starts, Sampling(30, stops, 0.0), [0, 0, 0]), strict=True):
        ids = torch.tensor([start])
        whole = engine.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=30,
            do_sample=False,
            eos_token_id=stops,
            pad_token_id=0,
        )
        assert completion.token_ids == whole[0, len(start) :].tolist()


def test_an_earlier_turn_is_not_computed_again_and_equal_prompts_are_computed_once() -> None:
    engine = tiny_engine()
    first, second = list(range(10, 30)), list(range(40, 55))
    said = engine.generate([first, second, first, first], Sampling(6, []), [1, 2, 3, 4])
    assert (engine.stats.prefilled_tokens, engine.stats.cached_tokens) == (20 + 15, 2 * 20)
    assert engine.stats.generated_tokens == 24
    assert len({tuple(c.token_ids) for c in said}) == 4, "equal prompts, different draws"
    asked = [p + c.token_ids + [7, 7] for p, c in zip([first, second, first, first], said, strict=True)]
    before = engine.stats.prefilled_tokens
    again = engine.generate(asked, GREEDY, [0] * 4)
    # What is new of each: the last token said, which was never fed, and the two added ones.
    assert engine.stats.prefilled_tokens - before == 4 * 3
    assert_same(again, tiny_engine().generate(asked, GREEDY, [0] * 4))


def test_scoring_behind_a_finished_turn_computes_the_target_alone() -> None:
    engine = tiny_engine()
    starts = [list(range(30)), list(range(50, 90))]
    engine.generate(starts, Sampling(5, []), [1, 2])
    before = engine.stats.prefilled_tokens
    scores = engine.logprobs(starts, [[3, 4], [5]])
    assert engine.stats.prefilled_tokens - before == 2, "the last token of each prefix"
    for found, expected in zip(scores, tiny_engine().logprobs(starts, [[3, 4], [5]]), strict=True):
        assert found == pytest.approx(expected, abs=1e-4)


def test_after_forgetting_results_do_not_depend_on_the_past_in_any_bit() -> None:
    starts = [[9, 8, 7], [9, 8, 7], list(range(33)), [5]]
    sampling, seeds = Sampling(9, [1, 2, 3]), [1, 2, 3, 4]
    fresh = tiny_engine()
    used = tiny_engine()
    used.generate([list(range(60)), [9, 8, 7, 6], [3] * 150, [4], [5, 5], [6]], Sampling(40, []), list(range(6)))
    used.logprobs([[9, 8], [5]], [[7], [1, 1]])
    for engine in (fresh, used):
        engine.forget()
    assert used.generate(starts, sampling, seeds) == fresh.generate(starts, sampling, seeds)
    assert used.logprobs(starts, [[1, 2]] * 4) == fresh.logprobs(starts, [[1, 2]] * 4)


def test_a_draw_does_not_depend_on_the_other_prompts_of_the_batch() -> None:
    engine = tiny_engine()
    sampling = Sampling(10, [0, 1, 2], temperature=1.0)
    starts = [[7, *range(length)] for length in (3, 17, 1, 40, 8)]
    seeds = [101, 102, 103, 104, 105]
    alone = []
    for start, seed in zip(starts, seeds, strict=True):
        engine.forget()
        alone += engine.generate([start], sampling, [seed])
    for order in itertools.islice(itertools.permutations(range(5)), 0, None, 37):
        engine.forget()
        assert_same(
            engine.generate([starts[i] for i in order], sampling, [seeds[i] for i in order]), [alone[i] for i in order]
        )


def test_a_batch_larger_than_the_engine_goes_in_several() -> None:
    starts = [[number, number + 1] for number in range(7)]
    small = ENGINES[2]
    small.forget()
    assert_same(small.generate(starts, GREEDY, [0] * 7), ENGINES[7].generate(starts, GREEDY, [0] * 7))
    targets = [[n] for n in range(7)]
    assert [s[0] for s in small.logprobs(starts, targets)] == pytest.approx(
        [s[0] for s in ENGINES[7].logprobs(starts, targets)], abs=1e-4
    )


def test_nothing_to_do_is_done() -> None:
    assert ENGINES[1].generate([], GREEDY, []) == []
    assert ENGINES[1].logprobs([], []) == []


@pytest.fixture(scope="module")
def smollm2(builtin: Path) -> HFEngine:
    return HFEngine.load(builtin, "smollm2", torch.float32, "cpu")


def question(chat: ChatFormat, text: str) -> TokenIds:
    return chat.head + chat.encode(text) + chat.open_assistant


def test_the_embedded_model_says_the_same_as_under_transformers(smollm2: HFEngine, chat: ChatFormat) -> None:
    starts = [question(chat, "What is the capital of France?"), question(chat, "Name three colours.")]
    found = smollm2.generate(starts, Sampling(8, [chat.stop_id], 0.0), [0, 0])
    for start, completion in zip(starts, found, strict=True):
        whole = smollm2.model.generate(torch.tensor([start]), max_new_tokens=8, do_sample=False)
        assert completion.token_ids == whole[0, len(start) :].tolist()
        with torch.inference_mode():
            full = smollm2.model(whole).logits[0].log_softmax(dim=-1)
        expected = [full[len(start) + i - 1, token].item() for i, token in enumerate(completion.token_ids)]
        assert completion.logprobs == pytest.approx(expected, abs=1e-3)


def test_the_embedded_model_continues_a_conversation_from_its_cache(smollm2: HFEngine, chat: ChatFormat) -> None:
    smollm2.forget()
    start = question(chat, "Remember the number 42.")
    sampling = Sampling(4, [chat.stop_id], 0.0)
    [said] = smollm2.generate([start], sampling, [0])
    follow = (
        start + said.token_ids + [chat.stop_id] + chat.open_user + chat.encode("Which number?") + chat.open_assistant
    )
    before = smollm2.stats.prefilled_tokens
    [cached] = smollm2.generate([follow], sampling, [0])
    assert smollm2.stats.prefilled_tokens - before == len(follow) - len(start) - len(said.token_ids) + 1
    smollm2.forget()
    assert_same([cached], smollm2.generate([follow], sampling, [0]))
