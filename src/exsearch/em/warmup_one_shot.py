"""Trajectories to fine-tune the one-shot baseline on: each question, the passages of one search for it, its answer."""

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammars.known import make_grammar
from exsearch.agent.trajectory import Step, StopReason, Trajectory
from exsearch.agent.transcript import Transcript
from exsearch.config import AgentConfig
from exsearch.data.question import Question
from exsearch.retrieval.base import Hit


def one_shot_trajectory(
    question: Question, hits: list[Hit], index: str, chat: ChatFormat, config: AgentConfig
) -> Trajectory:
    """Return the question, its passages and its answer as a trajectory, whether the passages tell it or not."""
    transcript = Transcript(chat, make_grammar(config), question.text)
    most = config.passages * config.passage_tokens
    transcript.show(hits, transcript.passage_budget(config.context, config.turn_tokens, 1, most), ask=True)
    answer = transcript.answer_ids(question.answers[0])
    transcript.said(answer, [0.0] * len(answer))
    return Trajectory(
        question_id=question.id,
        sample=0,
        steps=[Step(question.text, hits, None)],
        answer=question.answers[0],
        stop_reason=StopReason.ANSWERED,
        token_ids=transcript.token_ids,
        loss_mask=transcript.loss_mask,
        logprobs=transcript.logprobs,
        answer_start=transcript.answer_start,
        seed=0,
        model_fingerprint="gold",
        index_fingerprint=index,
        shortened_passages=transcript.shortened_passages,
        grammar=transcript.grammar.name,
    )
