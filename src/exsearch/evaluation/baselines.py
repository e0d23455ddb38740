"""What a score must beat: the model without any search, and the commonest training answer."""

from collections import Counter
from pathlib import Path

from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import AliasScore, StopReason, Trajectory
from exsearch.data.question import Question
from exsearch.engine.base import Completion, Engine, Sampling
from exsearch.engine.batch import generate, logprobs
from exsearch.evaluation.evaluate import TRAJECTORIES, score
from exsearch.evaluation.scores import Scores, has_scores, read_scores, write_scores
from exsearch.files import write_jsonl

_PROMPT = "Answer the question with the name, number or date alone, no sentence.\nQuestion: "


def closed_book(
    engine: Engine, chat: ChatFormat, questions: list[Question], protocol: str, folder: Path, turn_tokens: int
) -> Scores:
    """Score the model's greedy answers when it may not search."""
    if has_scores(folder):
        return read_scores(folder)
    prompts = [chat.head + chat.encode(_PROMPT + q.text) + chat.open_assistant for q in questions]
    sampling = Sampling(turn_tokens, [chat.stop_id], temperature=0.0)
    completions = generate(engine, prompts, sampling, [0] * len(prompts))
    pairs = [(prompt, alias) for prompt, q in zip(prompts, questions, strict=True) for alias in q.answers]
    targets = [[*chat.encode(alias), chat.stop_id] for _, alias in pairs]
    found = logprobs(engine, [prompt for prompt, _ in pairs], targets)
    scored = iter([AliasScore(alias, round(sum(v), 5), len(v)) for (_, alias), v in zip(pairs, found, strict=True)])
    trajectories = [
        _unsearched(question, prompt, completion, chat, engine.fingerprint, [next(scored) for _ in question.answers])
        for question, prompt, completion in zip(questions, prompts, completions, strict=True)
    ]
    write_jsonl(folder / TRAJECTORIES, trajectories)
    scores = score("closed-book", questions, trajectories, protocol)
    write_scores(folder, scores)
    return scores


def _unsearched(
    question: Question,
    prompt: list[int],
    completion: Completion,
    chat: ChatFormat,
    model: str,
    alias_scores: list[AliasScore],
) -> Trajectory:
    return Trajectory(
        question_id=question.id,
        sample=0,
        steps=[],
        answer=chat.decode(completion.token_ids).strip(),
        stop_reason=StopReason.ANSWERED,
        token_ids=prompt + completion.token_ids,
        loss_mask=[0] * len(prompt) + [1] * len(completion.token_ids),
        logprobs=[0.0] * len(prompt) + completion.logprobs,
        answer_start=len(prompt),
        seed=0,
        model_fingerprint=model,
        index_fingerprint="",
        alias_scores=alias_scores,
    )


def majority(train: list[Question], questions: list[Question], protocol: str, folder: Path) -> Scores:
    """Score the commonest training answer, given to every question."""
    answer = Counter(question.answers[0] for question in train).most_common(1)[0][0]
    trajectories = [
        Trajectory(q.id, 0, [], answer, StopReason.ANSWERED, [], [], [], None, 0, "majority", "") for q in questions
    ]
    write_jsonl(folder / TRAJECTORIES, trajectories)
    scores = score("majority", questions, trajectories, protocol)
    write_scores(folder, scores)
    return scores
