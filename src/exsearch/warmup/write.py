"""Writes warm-up trajectories from annotations, with the passages that the index returns."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from exsearch.agent.budget import MIN_PASSAGE_TOKENS, Budget
from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import Action
from exsearch.agent.grammars.registry import GRAMMARS, grammar_class
from exsearch.agent.trajectory import Step, StopReason, Trajectory
from exsearch.agent.transcript import Transcript
from exsearch.config import AgentConfig, WarmupConfig
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl
from exsearch.core.progress import progress
from exsearch.corpus.passage import Hit
from exsearch.engine.models.checkpoint import load_config
from exsearch.engine.models.limits import context_limit
from exsearch.questions.question import Question
from exsearch.retrieval.base import Retriever
from exsearch.warmup.plan import GoldPassages, Hop, SkippedError, SkipReason, plan, search_all
from exsearch.warmup.quality import Outcome, evidence_was_cut

BATCH = 64
"""Number of questions to search for together."""
GOLD = "gold"
"""Model fingerprint of trajectories from annotations."""

ONE_SHOT = "one-shot"


def within_context(config: AgentConfig, base: Path) -> AgentConfig:
    """Return the settings for trajectories that the model in the folder `base` learns: with its context, if smaller."""
    return msgspec.structs.replace(config, context=min(config.context, context_limit(load_config(base))))


def gold_trajectories(
    questions: list[Question],
    retriever: Retriever,
    chat: ChatFormat,
    config: AgentConfig,
    gold: GoldPassages | None = None,
) -> list[Trajectory]:
    """Return the trajectories of `gold_outcomes`."""
    outcomes = gold_outcomes(questions, retriever, chat, config, gold)
    return [outcome.trajectory for outcome in outcomes if outcome.trajectory is not None]


def gold_outcomes(
    questions: list[Question],
    retriever: Retriever,
    chat: ChatFormat,
    config: AgentConfig,
    gold: GoldPassages | None = None,
) -> Iterator[Outcome]:
    """Write the annotations of each question as a trajectory, or say why not; in order.

    By default, questions are skipped for which the index does not return the passage with the evidence: such a
    trajectory would teach the model to record what it has not read. Questions that do not fit into the budgets are
    also skipped. The grammar `one-shot` needs no annotations. Raises UsageError for grammars that gold trajectories
    cannot be written in.
    """
    if config.grammar != ONE_SHOT and not grammar_class(config.grammar).decomposes:
        grammars = ", ".join(name for name, kind in GRAMMARS.items() if kind.decomposes or name == ONE_SHOT)
        raise UsageError(f"agent.grammar = {config.grammar}: gold trajectories can only be written in {grammars}")
    gold = gold or GoldPassages(None, WarmupConfig(), 0)
    with progress("gold trajectories", len(questions)) as bar:
        for start in range(0, len(questions), BATCH):
            batch = questions[start : start + BATCH]
            if config.grammar == ONE_SHOT:
                results = retriever.search([question.text for question in batch], config.passages)
                for question, hits in zip(batch, results, strict=True):
                    yield Outcome(question, _one_shot_trajectory(question, hits, retriever.fingerprint, chat, config))
            else:
                plans = [plan(question, gold, config) for question in batch]
                for question, hops in zip(batch, search_all(plans, retriever, config.passages), strict=True):
                    yield _outcome(question, hops, retriever.fingerprint, chat, config)
            bar.advance(len(batch))


def _outcome(
    question: Question, hops: list[Hop] | SkipReason, index: str, chat: ChatFormat, config: AgentConfig
) -> Outcome:
    if isinstance(hops, SkipReason):
        return Outcome(question, skip_reason=hops.value)
    try:
        trajectory = write_trajectory(question, hops, question.answers[0], GOLD, index, chat, config)
    except SkippedError as error:
        return Outcome(question, skip_reason=error.reason.value)
    return Outcome(question, trajectory, inserted=sum(hop.inserted for hop in hops))


def write_trajectory(
    question: Question, hops: list[Hop], answer: str, author: str, index: str, chat: ChatFormat, config: AgentConfig
) -> Trajectory:
    """Return the trajectory of these searches. Raises SkippedError if it does not fit into the budgets.

    `author` and `index` are the fingerprints of its author and of the index.
    """
    grammar = chat.grammar_of(config)
    last = grammar.answers_after(config.max_steps)
    budget = Budget(chat, grammar, config, config.context)
    transcript = Transcript(chat, grammar, question.text)

    def say(text: str) -> None:
        if len(chat.turn_ids(text)) > config.turn_tokens:
            raise SkippedError(SkipReason.TURN_TOO_LONG)
        transcript.write(text)

    steps: list[Step] = []
    evidence: str | None = None
    selected: tuple[int, ...] = ()
    for hop in hops:
        say(grammar.turn(Action(evidence, hop.query, selected=selected)))
        searches_left = config.max_steps - len(steps)
        room = budget.for_search(transcript, searches_left)
        if room < config.passages * MIN_PASSAGE_TOKENS:
            raise SkippedError(SkipReason.CONTEXT_FULL)
        evidence = hop.evidence
        selected = hop.selected if grammar.selects else ()
        steps.append(Step(hop.query, hop.hits, evidence, selected=list(selected) if grammar.selects else None))
        transcript.show(hop.hits, room, ask=len(steps) == last)
    if len(steps) != last:
        say(grammar.turn(Action(evidence, None, selected=selected)))
        transcript.ask_answer()
    say(answer)
    trajectory = _finished(transcript, question, steps, answer, author, index)
    if evidence_was_cut(trajectory, [hop.source or hop.evidence for hop in hops], chat):
        raise SkippedError(SkipReason.EVIDENCE_CUT)
    return trajectory


def _one_shot_trajectory(
    question: Question, hits: list[Hit], index: str, chat: ChatFormat, config: AgentConfig
) -> Trajectory:
    """Return the question, its passages and its answer as a trajectory, even if the passages lack the answer."""
    grammar = chat.grammar_of(config)
    transcript, budget = Transcript(chat, grammar, question.text), Budget(chat, grammar, config, config.context)
    transcript.show(hits, budget.for_search(transcript, 1), ask=True)
    transcript.write(question.answers[0])
    steps = [Step(question.text, hits, None)]
    return _finished(transcript, question, steps, question.answers[0], GOLD, index)


def _finished(
    transcript: Transcript, question: Question, steps: list[Step], answer: str, author: str, index: str
) -> Trajectory:
    return Trajectory(
        question_id=question.id,
        sample=0,
        steps=steps,
        answer=answer,
        stop_reason=StopReason.ANSWERED,
        token_ids=transcript.token_ids,
        loss_mask=transcript.loss_mask,
        logprobs=transcript.logprobs,
        answer_start=transcript.answer_start,
        seed=0,
        model_fingerprint=author,
        index_fingerprint=index,
        shortened_passages=transcript.shortened_passages,
        grammar=transcript.grammar.name,
    )


def are_trajectories(path: Path) -> bool:
    """Return whether the first line of a file is a trajectory, rather than a question."""
    return any("token_ids" in line for line in _first(path))


def _first(path: Path) -> Iterator[dict[str, Any]]:
    return islice(read_jsonl(path, dict[str, Any]), 1)


def read_warmup(path: Path, chat: ChatFormat) -> list[Trajectory]:
    """Read ready trajectories. Raises UsageError for a file of questions, and for a trajectory without an answer or
    with the tokens of another model.

    All must have the date of the first one in their prompts, which may differ from that of `chat`.
    """
    if any("answers" in line and "token_ids" not in line for line in _first(path)):
        raise UsageError(f"{path}: has questions; `exsearch data warmup` writes the trajectories that are wanted here")
    trajectories = list(read_jsonl(path, Trajectory))
    if trajectories and (day := chat.day_of(trajectories[0].prompt)) is not None:
        chat = chat.on(day)
    for trajectory in trajectories:
        name = f"{path}, trajectory of question {trajectory.question_id!r}"
        if trajectory.answer is None or trajectory.answer_start is None:
            raise UsageError(f"{name}: has no answer")
        start = trajectory.answer_start
        answer = chat.answer_ids(trajectory.answer, after_thought=bool(start and trajectory.loss_mask[start - 1]))
        if chat.day_of(trajectory.prompt) != chat.agent.date or trajectory.token_ids[start:] != answer:
            raise UsageError(
                f"{name}: its tokens are not those of this model's tokenizer and chat template; write the file "
                "again with `exsearch data warmup --model` and this model"
            )
    if not trajectories:
        raise UsageError(f"{path}: has no trajectories")
    return trajectories
