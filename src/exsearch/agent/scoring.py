"""Scores accepted answers: how likely they are at the end of a trajectory, and at earlier points."""

from dataclasses import dataclass, replace

import msgspec
import numpy as np

from exsearch.agent.episode import Episode
from exsearch.agent.trajectory import AliasScore, answer_logprob
from exsearch.core.tokens import TokenIds, common_start
from exsearch.engine.base import Seat


@dataclass(frozen=True)
class Scorer:
    """Scores the answers of one episode, using the engine seat in which the model writes it."""

    seat: Seat
    context: int
    """Maximum number of tokens of a prompt and what is scored after it."""

    async def spellings(
        self, episode: Episode, context: TokenIds, own_answer: TokenIds | None = None
    ) -> list[AliasScore]:
        """Score every gold alias after the context, and the model's own answer there, if it is given and not an alias.

        Each token sequence is scored once. Log-probs that are known, since the model wrote these tokens, are reused.
        """
        transcript, scores = episode.transcript, []
        known_ids = transcript.token_ids[len(context) :] if episode.exact and episode.scored else []
        spellings: dict[tuple[int, ...], tuple[str, bool]] = {}
        for alias in episode.question.answers:
            spellings.setdefault(tuple(transcript.answer_ids(alias)), (alias, False))
        if own_answer:
            spellings.setdefault(tuple(own_answer), (episode.answer or "", True))
        for ids, (text, own) in spellings.items():
            target = list(ids)
            if len(context) + len(target) > self.context:
                continue
            reused = common_start(target, known_ids)
            logprobs = transcript.logprobs[len(context) : len(context) + reused]
            if reused < len(target):
                logprobs = logprobs + await self.seat.logprobs(context + target[:reused], target[reused:])
            scores.append(AliasScore(text, round(sum(logprobs), 5), len(logprobs), own))
        return scores

    async def step(self, episode: Episode) -> float:
        """Score the gold answer as if it were requested now; return the rise of its log-probability, in nats."""
        facts, context = len(episode.steps), episode.transcript.answer_prompt()
        scores = await self.spellings(episode, context)
        return episode.scored_step(facts, context, answer_logprob(scores, "sum")) if scores else 0.0

    async def answer(self, episode: Episode) -> None:
        """Score the accepted answers at the end of the trajectory, and the model's own spelling also at earlier points.

        So p(y | ...) within a trajectory, and log p(y | x), are about the same set of spellings, and can be compared.
        """
        own_answer = episode.own_answer_ids()
        episode.alias_scores = await self.spellings(episode, episode.transcript.before_answer, own_answer)
        if not any(score.said for score in episode.alias_scores):
            return
        for facts, earlier in episode.contexts_scored.items():
            value = episode.likelihood(facts)
            if value is not None and len(earlier) + len(own_answer) <= self.context:
                own_logprob = sum(await self.seat.logprobs(earlier, own_answer))
                episode.set_likelihood(facts, float(np.logaddexp(value, own_logprob)))

    async def again(self, episode: Episode) -> None:
        """Replace the log-probs of an ended episode, of any model, by this model's; scores after single steps are
        dropped.

        Scored are the model's own tokens, and the answers where they stand. Raises EngineError.
        """
        transcript = episode.transcript
        episode.steps = [msgspec.structs.replace(step, answer_logprob=None) for step in episode.steps]
        for start, stop in transcript.turns():
            turn = transcript.token_ids[start:stop]
            transcript.logprobs[start:stop] = await self.seat.logprobs(transcript.token_ids[:start], turn)
        turn = episode.own_answer_ids()
        if episode.alias_scores:
            episode.alias_scores = await self.spellings(episode, transcript.before_answer, turn)
        if episode.opening_logprob is not None:
            opened = replace(episode, transcript=transcript.at_first_search())
            counted = turn if any(score.said for score in episode.alias_scores) else None
            opening = await self.spellings(opened, opened.transcript.answer_prompt(), counted)
            episode.opening_logprob = answer_logprob(opening, "sum") if opening else None
