"""`PROCEDURE=entropy`: the weight of every trajectory, as `{"messages", "prob"}`, for `PROCEDURE=align`.

The gold answer is scored after the trajectory's other turns, and then replaces the answer turn: the model learns to
answer rightly from what was found. Trajectories without an answer turn, and those with more than two empty facts, get
no entry, and the summary counts them.
"""

import argparse
import re
from collections import Counter
from pathlib import Path

from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import AliasScore, StopReason, Trajectory
from exsearch.compat.searchlm.formats import InferenceFile, Message, Output, WeightedConversation
from exsearch.compat.searchlm.inference import settings
from exsearch.config import WeighConfig
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, write_json
from exsearch.core.tokens import TokenIds
from exsearch.em.weigh import weigh
from exsearch.engine.batch import logprobs
from exsearch.engine.load import load_engine
from exsearch.engine.models.builtin import resolve_model
from exsearch.engine.spec import EngineSpec
from exsearch.questions.question import Question

MAX_EMPTY_FACTS = 2
_EMPTY_FACT = re.compile(r"<FACT>\s*(<(QUERY|THINK|FINAL)>|$)")


def run(options: argparse.Namespace) -> Path:
    """Score, weigh, and write the weights; return the path."""
    outputs = read_json(options.inference_file, InferenceFile).output
    usable = [output for output in outputs if _usable(output)]
    if not usable:
        raise UsageError(
            f"{options.inference_file}: none of {len(outputs)} trajectories can be weighed: {_reasons(outputs)}"
        )
    entries = weighted(usable, options.model_name_or_path, options.weighting, options.set)
    target: Path = options.output_dir / f"{options.inference_file.stem}.epo{options.epo}.json"
    write_json(target, entries)
    mean = sum(entry.prob for entry in entries) / len(entries)
    print(f"{target}: {len(entries)} weights of {len(outputs)} trajectories, mean {mean:.3f} ({options.weighting})")
    if unusable := [output for output in outputs if not _usable(output)]:
        print(f"{len(unusable)} have no weight: {_reasons(unusable)}")
    return target


def weighted(usable: list[Output], model: str, weighting: str, overrides: list[str]) -> list[WeightedConversation]:
    """Score every alias after every trajectory, in one batch, and weigh."""
    config = settings(model, overrides)
    folder = resolve_model(model)
    chat = ChatFormat.load(folder, config.agent)
    prefixes = [_tokens(output.messages[:-1], chat) for output in usable]
    pairs = [(number, alias) for number, output in enumerate(usable) for alias in output.answer]
    targets = [chat.answer_ids(alias) for _, alias in pairs]
    longest = max(len(prefixes[number]) + len(target) for (number, _), target in zip(pairs, targets, strict=True))
    context = max(longest, config.agent.context)
    engine = load_engine(EngineSpec(folder, config.model, context, config.rollout.in_flight), chat)
    if longest > engine.context_size:
        raise UsageError(f"a trajectory has {longest} tokens, the model's context {engine.context_size}")
    scores: list[list[AliasScore]] = [[] for _ in usable]
    try:
        logprobs_of_pairs = logprobs(engine, [prefixes[number] for number, _ in pairs], targets)
    finally:
        engine.shut_down()
    for (number, alias), values in zip(pairs, logprobs_of_pairs, strict=True):
        scores[number].append(AliasScore(alias, sum(values), len(values)))
    records = weigh(
        [_trajectory(o, s, n) for n, (o, s) in enumerate(zip(usable, scores, strict=True))],
        list({o.query_id: Question(o.query_id, o.question, o.answer) for o in usable}.values()),
        WeighConfig(weighting=weighting, alias="best"),
    )
    entries = []
    for output, own, record in zip(usable, scores, records, strict=True):
        best = max(own, key=lambda score: score.logprob / score.tokens)
        messages = [*output.messages[:-1], Message("assistant", best.alias)]
        entries.append(WeightedConversation(messages, record.weight, output.query_id, -best.logprob / best.tokens))
    return entries


def _usable(output: Output) -> bool:
    roles = [message.role for message in output.messages]
    answered = bool(output.prediction) and roles == ["user", "assistant"] * (len(roles) // 2)
    facts = [message.content for message in output.messages[:-1] if message.role == "assistant"]
    return answered and sum(bool(_EMPTY_FACT.search(fact)) for fact in facts) <= MAX_EMPTY_FACTS


def _reasons(outputs: list[Output]) -> str:
    """Return how many trajectories ended for which reason without a usable answer."""
    reasons = Counter("too many empty facts" if output.prediction else output.stop_reason for output in outputs)
    return ", ".join(f"{count} {reason or 'without an answer'}" for reason, count in reasons.most_common())


def _tokens(messages: list[Message], chat: ChatFormat) -> TokenIds:
    """Return the conversation's token ids up to the model's next answer."""
    ids: TokenIds = []
    for message in messages:
        if message.role == "user":
            ids += chat.next_prompt(message.content) if ids else chat.first_prompt(message.content)
        else:
            thought, rest = chat.retold_ids(message.content)
            ids += thought + rest
    return chat.without_thought(ids)


def _trajectory(output: Output, scores: list[AliasScore], number: int) -> Trajectory:
    """Return the parts of a trajectory that weighing needs."""
    return Trajectory(
        output.query_id, number, [], output.prediction, StopReason.ANSWERED, [], [], [], None, 0, "", "", scores
    )
