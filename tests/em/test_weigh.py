"""Weights of a question's samples: they sum to 1 or the question is skipped (invariant 3 of CONTRIBUTING.md)."""

import itertools
import math
from dataclasses import replace
from typing import get_args

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import AliasScore, Step, StopReason, Trajectory, answer_logprob
from exsearch.config import LearnConfig, WeighConfig, WeightingName
from exsearch.core.errors import UsageError
from exsearch.em.learn import weighted_examples
from exsearch.em.weigh import WEIGHTINGS, effective_sample_size, entropy, summarise, weigh
from exsearch.evaluation.metrics import exact_match, f1
from exsearch.questions.question import Question
from exsearch.runs.weighted import Weighted
from exsearch.training.example import example_from, turn_credits

NORMALISED: list[WeightingName] = ["paper", "nll-mean", "em", "f1", "uniform"]
QUESTION = Question("q", "Who?", ["Marie Curie", "Curie"])
ANSWERS = ["Marie Curie", "Curie", "Pierre Curie", "nobody", ""]
failed = [reason for reason in StopReason if reason != StopReason.ANSWERED]


def trajectory(
    sample: int, answer: str | None, scores: list[tuple[float, int]], reason: StopReason = StopReason.ANSWERED
) -> Trajectory:
    alias_scores = [AliasScore(a, lp, n) for a, (lp, n) in zip(QUESTION.answers, scores, strict=False)]
    start = 2 if answer is not None else None
    return Trajectory(
        "q", sample, [], answer, reason, [1, 2, sample], [0, 0, 1], [0, 0, -1], start, 0, "m", "i", alias_scores
    )


# Ties are common among samples of a small model, so some numbers come from a short list.
logprobs = st.one_of(st.sampled_from([-0.0, -1.5, -700.0, -745.2, -1e4]), st.floats(-1e4, -1e-6))
scores = st.tuples(logprobs, st.integers(1, 12))


@st.composite
def groups(draw: st.DrawFn, answered: bool = False) -> list[Trajectory]:
    """The samples of one question; some, all or none of them answered."""
    made: list[Trajectory] = []
    for sample in range(draw(st.integers(1, 6))):
        if answered or draw(st.booleans()):
            made.append(trajectory(sample, draw(st.sampled_from(ANSWERS)), [draw(scores), draw(scores)]))
        else:
            made.append(trajectory(sample, None, [], draw(st.sampled_from(failed))))
    return made


def weights(group: list[Trajectory], **config: object) -> list[float]:
    return [w.weight for w in weigh(group, [QUESTION], WeighConfig(**config))]  # type: ignore[arg-type]


@pytest.mark.parametrize("weighting", NORMALISED)
@given(groups(), st.floats(0.01, 100), st.sampled_from(["sum", "best"]))
def test_the_weights_of_a_question_sum_to_one_or_it_is_skipped_and_counted(
    weighting: WeightingName, group: list[Trajectory], temperature: float, alias: str
) -> None:
    config = WeighConfig(weighting=weighting, temperature=temperature, alias="sum" if alias == "sum" else "best")
    weighted = weigh(group, [QUESTION], config)
    total = math.fsum(w.weight for w in weighted)
    answered = [t for t in group if t.stop_reason == StopReason.ANSWERED]
    rewarded = {"em": exact_match, "f1": f1}.get(weighting, lambda answer, aliases: 1.0)
    taught = any(rewarded(t.answer or "", QUESTION.answers) > 0 for t in answered)
    assert total == pytest.approx(1.0 if taught else 0.0, abs=1e-9)
    assert summarise(weighted).skipped == (not taught)
    assert all(math.isfinite(w.weight) and w.weight >= 0 for w in weighted)
    assert all(w.weight == 0 for t, w in zip(group, weighted, strict=True) if t not in answered)
    assert [(w.question_id, w.sample) for w in weighted] == [(t.question_id, t.sample) for t in group]


@given(groups(answered=True), st.floats(0.2, 5))
def test_paper_weights_are_the_tempered_answer_probabilities_over_their_sum(
    group: list[Trajectory], temperature: float
) -> None:
    found = weights(group, weighting="paper", temperature=temperature)
    scaled = [answer_logprob(t.alias_scores, "sum") / temperature for t in group]
    for weight, own in zip(found, scaled, strict=True):
        ratios = [math.exp(other - own) if other - own < 700 else math.inf for other in scaled]
        assert weight == pytest.approx(1 / math.fsum(ratios), rel=1e-6, abs=1e-12)


@given(groups(answered=True))
def test_mean_weights_do_not_depend_on_the_length_of_an_answer(group: list[Trajectory]) -> None:
    found = weights(group, weighting="nll-mean")
    means = [max(s.logprob / s.tokens for s in t.alias_scores) for t in group]
    total = math.fsum(math.exp(m - max(means)) for m in means)
    assert found == pytest.approx([math.exp(m - max(means)) / total for m in means], rel=1e-6, abs=1e-12)


@given(groups(answered=True))
def test_a_high_temperature_levels_the_weights_and_a_low_one_leaves_the_best(group: list[Trajectory]) -> None:
    flat = weights(group, temperature=1e9)
    assert flat == pytest.approx([1 / len(group)] * len(group), abs=1e-4)
    values = [answer_logprob(t.alias_scores, "sum") for t in group]
    assume(all(max(values) - v > 1e-3 or v == max(values) for v in values))
    best = values.count(max(values))
    assert weights(group, temperature=1e-5) == pytest.approx([(v == max(values)) / best for v in values], abs=1e-9)


@pytest.mark.parametrize("weighting", ["paper", "nll-mean"])
@given(groups(answered=True), st.floats(1, 8))
def test_a_target_size_raises_the_temperature_no_more_than_it_must(
    weighting: WeightingName, group: list[Trajectory], target: float
) -> None:
    plain = weights(group, weighting=weighting)
    found = weights(group, weighting=weighting, target_ess=target)
    assert math.fsum(found) == pytest.approx(1)
    if effective_sample_size(plain) >= min(target, len(group)):
        assert found == plain
    else:
        assert effective_sample_size(found) == pytest.approx(min(target, len(group)), rel=1e-3)
        pairs = itertools.permutations(zip(plain, found, strict=True), 2)
        assert all(low[1] <= high[1] for low, high in pairs if low[0] < high[0]), "the order of the samples stays"


def test_a_target_size_needs_a_weighting_with_a_temperature() -> None:
    with pytest.raises(UsageError, match="target_ess: 'rft' has no temperature"):
        weigh([], [], WeighConfig(weighting="rft", target_ess=2))


@given(groups())
def test_rejection_sampling_counts_every_right_sample_fully(group: list[Trajectory]) -> None:
    right = [exact_match(t.answer, QUESTION.answers) if t.answer is not None else 0.0 for t in group]
    assert weights(group, weighting="rft") == right


@given(groups(), st.floats(0.1, 10))
def test_the_weights_of_the_references_first_version_are_not_normalised(
    group: list[Trajectory], temperature: float
) -> None:
    found = weights(group, weighting="reference-v1", temperature=temperature)
    for t, weight in zip(group, found, strict=True):
        mean = max((s.logprob / s.tokens for s in t.alias_scores), default=-math.inf)
        assert weight == pytest.approx(4 * math.exp(mean))


@pytest.mark.parametrize("weighting", NORMALISED)
@given(groups(), st.floats(1e-6, 1))
def test_a_gate_drops_or_damps_a_question_without_a_good_sample(
    weighting: WeightingName, group: list[Trajectory], threshold: float
) -> None:
    values = [answer_logprob(t.alias_scores, "sum") for t in group if t.alias_scores]
    best = math.exp(max(values)) if values else 0.0
    assume(abs(best - threshold) > 1e-9 * threshold)
    free = weights(group, weighting=weighting)
    dropped = weights(group, weighting=weighting, gate="drop", gate_probability=threshold)
    damped = weights(group, weighting=weighting, gate="damp", gate_probability=threshold)
    assert dropped == (free if best >= threshold else [0.0] * len(group))
    assert damped == pytest.approx([w * min(1, best / threshold) for w in free])


@given(groups(), st.floats(-1e3, 0), st.floats(0.1, 20))
def test_a_gate_may_ask_how_much_likelier_the_evidence_made_the_answer(
    group: list[Trajectory], opening: float, least: float
) -> None:
    group = [msgspec.structs.replace(t, opening_logprob=opening) for t in group]
    values = [answer_logprob(t.alias_scores, "sum") for t in group if t.alias_scores]
    rise = max(values) - opening - least if values else -math.inf
    assume(not values or abs(rise) > 1e-6)
    free = weights(group)
    dropped = weights(group, gate="drop", gate_probability=1e-300, gate_gain=least)
    damped = weights(group, gate="damp", gate_probability=1e-300, gate_gain=least)
    assume(not values or max(values) > -600)
    assert dropped == (free if rise >= 0 else [0.0] * len(group))
    assert damped == pytest.approx([w * math.exp(min(0.0, rise)) for w in free])


def test_what_the_evidence_brought_must_have_been_scored() -> None:
    with pytest.raises(UsageError, match=r"weigh\.gate_gain needs .* explore\.score_opening"):
        weights([trajectory(0, "Curie", [(-1.0, 2)])], gate="drop", gate_gain=1.0)


@given(st.lists(scores, min_size=1, max_size=5))
def test_aliases_combine_to_the_probability_of_any_or_of_the_best(pairs: list[tuple[float, int]]) -> None:
    made = [AliasScore(f"alias {number}", lp, n) for number, (lp, n) in enumerate(pairs)]
    values = [lp for lp, _ in pairs]
    assert answer_logprob(made, "best") == max(values)
    assert max(values) <= answer_logprob(made, "sum") <= max(values) + math.log(len(values)) + 1e-9
    assert answer_logprob(made + made, "sum") == answer_logprob(made, "sum"), "the same alias twice is one event"


def test_probabilities_of_aliases_add_up() -> None:
    made = [AliasScore("a", math.log(0.2), 2), AliasScore("b", math.log(0.3), 2)]
    assert answer_logprob(made, "sum") == pytest.approx(math.log(0.5))


def test_a_wrong_answer_is_replaced_by_the_likeliest_alias_and_a_right_one_kept() -> None:
    right = trajectory(0, "the Curie!", [(-1, 2), (-2, 1)])
    wrong = trajectory(1, "Bohr", [(-3, 2), (-2, 1)])
    cut = trajectory(2, None, [], StopReason.MALFORMED)
    found = weigh([right, wrong, cut], [QUESTION], WeighConfig())
    assert [w.target for w in found] == [None, "Curie", None]
    assert [w.exact_match for w in found] == [1.0, 0.0, 0.0]
    assert found[2].logprob is None


def test_questions_are_weighed_apart_from_each_other() -> None:
    other = Question("r", "When?", ["1903"])
    mine = [trajectory(0, "Curie", [(-1, 1)]), trajectory(1, "x", [(-1, 1)])]
    theirs = Trajectory(
        "r", 0, [], "1903", StopReason.ANSWERED, [1], [1], [0], 0, 0, "m", "i", [AliasScore("1903", -9, 4)]
    )
    found = weigh([mine[0], theirs, mine[1]], [QUESTION, other], WeighConfig())
    assert [(w.question_id, w.weight) for w in found] == [("q", 0.5), ("r", 1.0), ("q", 0.5)]


@pytest.mark.parametrize(
    ("trajectories", "message"),
    [
        ([Trajectory("elsewhere", 0, [], None, StopReason.MALFORMED, [], [], [], None, 0, "m", "i")], "elsewhere"),
        ([trajectory(3, "Curie", [])], "q/3 has no alias_scores"),
        ([trajectory(2, "Curie", [(-1, 1)]), trajectory(2, "x", [(-9, 1)])], "q/2 occurs twice"),
    ],
)
def test_trajectories_that_cannot_be_weighed_are_refused_by_name(trajectories: list[Trajectory], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        weigh(trajectories, [QUESTION], WeighConfig())


def test_an_answer_behind_which_no_gold_answer_fitted_weighs_nothing() -> None:
    group = [trajectory(0, "Curie", [(-1, 1), (-2, 1)]), trajectory(1, "Curie", [])]
    assert weights(group) == [1.0, 0.0]


def test_the_summary_counts_what_was_skipped_and_what_was_right() -> None:
    records = [Weighted("q", k, -1.0, em, em, w, None, False) for k, (em, w) in enumerate([(1, 0.75), (0, 0.25)])]
    records += [Weighted("r", k, None, 0, 0, 0.0, None, k == 0) for k in range(2)]
    found = summarise(records)
    assert (found.questions, found.skipped, found.exact_match, found.any_exact_match) == (2, 1, 0.25, 0.5)
    assert found.mean_answer_probability == pytest.approx(math.exp(-1) / 2, abs=1e-5), "no answer counts as 0"
    assert found.malformed == 0.25
    older = [msgspec.structs.replace(record, malformed=None) for record in records]
    assert summarise(older) == replace(found, malformed=None)
    assert found.effective_sample_size == pytest.approx(1 / (0.75**2 + 0.25**2), abs=1e-5)
    assert found.weight_entropy == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25), abs=1e-5)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=8).filter(lambda w: sum(w) > 1e-3))
def test_effective_sample_size_and_entropy_lie_between_one_sample_and_all(found: list[float]) -> None:
    assert 1 - 1e-9 <= effective_sample_size(found) <= len(found) + 1e-9
    assert -1e-9 <= entropy(found) <= math.log(len(found)) + 1e-9


def records(*pairs: tuple[float, str | None]) -> list[Weighted]:
    return [Weighted("q", k, -1.0, 0.0, 0.0, weight, target) for k, (weight, target) in enumerate(pairs)]


def test_equal_samples_are_learned_once_with_the_sum_of_their_weights(chat: ChatFormat) -> None:
    twins = [
        Trajectory("q", k, [], "x", StopReason.ANSWERED, [7, 8, 9], [0, 0, 1], [0, 0, 0], 2, 0, "m", "i")
        for k in range(3)
    ]
    [own, aliased] = weighted_examples(
        twins, records((0.3, None), (0.2, None), (0.5, "Curie")), chat, LearnConfig(min_weight=0.0)
    )
    assert (own.token_ids, own.weight) == ([7, 8, 9], 0.5)
    assert (aliased.token_ids, aliased.weight) == ([7, 8, *chat.encode("Curie"), chat.stop_id], 0.5)


def test_samples_below_the_least_weight_are_left_out(chat: ChatFormat) -> None:
    group = [trajectory(k, "x", [(-1, 1)]) for k in range(3)]
    found = weighted_examples(group, records((0.04, None), (0.96, None), (0.0, None)), chat, LearnConfig())
    assert [example.weight for example in found] == [0.96]


def test_a_trajectory_without_a_weight_is_refused(chat: ChatFormat) -> None:
    with pytest.raises(UsageError, match="q/1 has no weight"):
        weighted_examples([trajectory(1, "x", [(-1, 1)])], records((1.0, None)), chat, LearnConfig(min_weight=0.0))


def test_what_cannot_be_paired_since_it_is_there_twice_is_refused(chat: ChatFormat) -> None:
    once = trajectory(0, "x", [(-1, 1)])
    with pytest.raises(UsageError, match="q/0 occurs twice"):
        weighted_examples([once, once], records((1.0, None)), chat, LearnConfig(min_weight=0.0))
    with pytest.raises(UsageError, match="the weights name a trajectory twice"):
        weighted_examples([once], records((0.5, None)) * 2, chat, LearnConfig(min_weight=0.0))


def test_the_config_names_every_weighting_and_no_other() -> None:
    assert set(WEIGHTINGS) == set(get_args(WeightingName))


def test_branches_together_weigh_what_one_sample_would() -> None:
    alone, other = trajectory(0, "Curie", [(-1.0, 2)]), trajectory(1, "Curie", [(-2.0, 2)])
    halves = [msgspec.structs.replace(alone, branch=n, share=0.5) for n in (0, 1)]
    for weighting in WEIGHTINGS:
        whole = weights([alone, other], weighting=weighting)
        parts = weights([halves[0], halves[1], other], weighting=weighting)
        assert parts == pytest.approx([whole[0] / 2, whole[0] / 2, whole[1]])


def test_tokens_that_are_not_the_engines_own_are_not_trained_on(chat: ChatFormat) -> None:
    told = msgspec.structs.replace(trajectory(0, "Curie", [(-1.0, 2)]), exact=False)
    with pytest.raises(UsageError, match=r"q/0: its token ids are not the engine's own"):
        weighted_examples([told], records((1.0, None)), chat, LearnConfig(min_weight=0.0))


def told(scored: bool = True) -> Trajectory:
    """Two searches: turns of 2, 3 and 1 tokens, then an answer of two; the first search brought the evidence."""
    steps = [Step("a", [], "x", answer_logprob=-2.0), Step("b", [], "y", answer_logprob=-2.0 if scored else None)]
    ids, mask = list(range(13)), [0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 0, 1, 1]
    whole = Trajectory("q", 0, steps, "x", StopReason.ANSWERED, ids, mask, [0.0] * 13, 11, 0, "m", "i")
    return msgspec.structs.replace(whole, opening_logprob=-4.0)


def test_turns_count_by_what_their_search_brought(chat: ChatFormat) -> None:
    shares = [math.exp(2 * 0.5), 1.0, 1.0]
    expected = [3 * share / sum(shares) for share in shares]
    assert turn_credits(told(), 0.5) == pytest.approx(expected)
    example = example_from(told(), 0.5, None, chat, step_credit=0.5)
    weights = [example.token_weight(position) for position in range(13) if example.loss_mask[position]]
    first, second, third = (0.5 * credit for credit in expected)
    assert weights == pytest.approx([first, first, second, second, second, third, 0.5, 0.5])


def test_without_a_difference_between_searches_all_turns_count_alike() -> None:
    assert turn_credits(told(), 0.0) == [1.0, 1.0, 1.0]


def test_steps_that_were_not_scored_cannot_be_credited(chat: ChatFormat) -> None:
    with pytest.raises(
        UsageError, match=r"q/0: learn\.step_credit needs trajectories explored with explore\.score_steps"
    ):
        example_from(told(scored=False), 1.0, None, chat, step_credit=1.0)
