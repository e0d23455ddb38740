"""What a score must beat: the model without any search, and the commonest training answer."""

from collections import Counter
from pathlib import Path

from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import AliasScore, StopReason, Trajectory
from exsearch.data.question import Question
from exsearch.engine.base import Completion, Engine, Sampling
from exsearch.engine.batch import generate, logprobs
from exsearch.evaluation.evaluate import SCORES, TRAJECTORIES, score
from exsearch.evaluation.scores import Scores
from exsearch.files import read_json, write_json, write_jsonl

_PROMPT = "Answer the question with the name, number or date alone, no sentence.\nQuestion: "


def closed_book(
    engine: Engine, chat: ChatFormat, questions: list[Question], protocol: str, folder: Path, turn_tokens: int
) -> Scores:
    """Score the model's greedy answers when it may not search."""
    if (folder / SCORES).exists():
        return read_json(folder / SCORES, Scores)
    prompts = [chat.head + chat.encode(_PROMPT + q.text) + chat.open_assistant for q in questions]
    sampling = Sampling(turn_tokens, [chat.stop_id], temperature=0.0)
    completions = generate(engine, prompts, sampling, [0] * len(prompts))
    targets = [[*chat.encode(q.answers[0]), chat.stop_id] for q in questions]
    scores_of = logprobs(engine, prompts, targets)
    trajectories = [
        _unsearched(question, prompt, completion, chat, engine.fingerprint, logprob)
        for question, prompt, completion, logprob in zip(questions, prompts, completions, scores_of, strict=True)
    ]
    write_jsonl(folder / TRAJECTORIES, trajectories)
    scores = score("closed-book", questions, trajectories, protocol)
    write_json(folder / SCORES, scores)
    return scores


def _unsearched(
    question: Question,
    prompt: list[int],
    completion: Completion,
    chat: ChatFormat,
    model: str,
    answer_logprobs: list[float],
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
        alias_scores=[AliasScore(question.answers[0], round(sum(answer_logprobs), 5), len(answer_logprobs))],
    )


def majority(train: list[Question], questions: list[Question], protocol: str, folder: Path) -> Scores:
    """Score the commonest training answer, given to every question."""
    answer = Counter(question.answers[0] for question in train).most_common(1)[0][0]
    trajectories = [
        Trajectory(q.id, 0, [], answer, StopReason.ANSWERED, [], [], [], None, 0, "majority", "") for q in questions
    ]
    write_jsonl(folder / TRAJECTORIES, trajectories)
    scores = score("majority", questions, trajectories, protocol)
    write_json(folder / SCORES, scores)
    return scores
