"""Warm-up trajectories from gold decompositions, with the passages that the real index returns."""

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import Action, ExSearchGrammar
from exsearch.agent.trajectory import Step, StopReason, Trajectory
from exsearch.agent.transcript import Transcript
from exsearch.config import AgentConfig
from exsearch.data.question import Question
from exsearch.retrieval.base import Hit, Retriever


def gold_trajectories(
    questions: list[Question], retriever: Retriever, chat: ChatFormat, config: AgentConfig
) -> list[Trajectory]:
    """Write out the decomposition of each question as a trajectory.

    Left out are questions without a full decomposition, and those for which the index does not return the passage
    that holds the evidence: such a trajectory would teach the model to record what it has not read.
    """
    usable = [q for q in questions if 0 < len(q.sub_questions) <= config.max_steps and all(_complete(q))]
    hits = iter(retriever.search([s.text for q in usable for s in q.sub_questions], config.passages))
    trajectories = []
    for question in usable:
        found = [next(hits) for _ in question.sub_questions]
        if all(_holds(h, s.passage) for h, s in zip(found, question.sub_questions, strict=True)):
            trajectories.append(_write(question, found, retriever.fingerprint, chat, config))
    return trajectories


def _complete(question: Question) -> list[bool]:
    return [bool(sub.evidence and sub.passage) for sub in question.sub_questions]


def _holds(hits: list[Hit], passage: str | None) -> bool:
    return any(hit.passage.id == passage for hit in hits)


def _write(question: Question, found: list[list[Hit]], index: str, chat: ChatFormat, config: AgentConfig) -> Trajectory:
    grammar = ExSearchGrammar()
    transcript = Transcript(chat, grammar, question.text)

    def say(text: str) -> None:
        ids = [*chat.encode(text), chat.stop_id]
        transcript.said(ids, [0.0] * len(ids))

    steps: list[Step] = []
    evidence: str | None = None
    for sub, hits in zip(question.sub_questions, found, strict=True):
        say(grammar.turn(Action(evidence, sub.text)))
        left = config.max_steps - len(steps)
        most = config.passages * config.passage_tokens
        transcript.show(hits, transcript.passage_budget(config.context, config.turn_tokens, left, most))
        evidence = sub.evidence
        steps.append(Step(sub.text, hits, evidence))
    say(grammar.turn(Action(evidence, None)))
    transcript.ask_answer()
    start = transcript.answer_start
    say(question.answers[0])
    return Trajectory(
        question_id=question.id,
        sample=0,
        steps=steps,
        answer=question.answers[0],
        stop_reason=StopReason.ANSWERED,
        token_ids=transcript.token_ids,
        loss_mask=transcript.loss_mask,
        logprobs=transcript.logprobs,
        answer_start=start,
        seed=0,
        model_fingerprint="gold",
        index_fingerprint=index,
        shortened_passages=transcript.shortened_passages,
    )
