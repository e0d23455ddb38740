"""How likely the accepted answers are: behind a finished trajectory, and earlier in it."""

from dataclasses import dataclass, replace

import msgspec
import numpy as np

from exsearch.agent.episode import Episode
from exsearch.agent.trajectory import AliasScore, answer_logprob
from exsearch.core.tokens import TokenIds, common_start
from exsearch.engine.base import Seat


@dataclass(frozen=True)
class Scorer:
    """Scores the answers of one episode after the other, by the model in whose seat they are spoken."""

    seat: Seat
    context: int
    """Maximum number of tokens of a prompt and what is scored behind it."""

    async def spellings(self, episode: Episode, context: TokenIds, said: TokenIds | None = None) -> list[AliasScore]:
        """Score every gold alias behind the context, and what the model said there, if it is given and no alias.

        Each sequence of tokens is scored once. As far as the model said it behind the context, its log-probs are known.
        """
        transcript, scores = episode.transcript, []
        known_ids = transcript.token_ids[len(context) :] if episode.exact and episode.scored else []
        spellings: dict[tuple[int, ...], tuple[str, bool]] = {}
        for alias in episode.question.answers:
            spellings.setdefault(tuple(transcript.answer_ids(alias)), (alias, False))
        if said:
            spellings.setdefault(tuple(said), (episode.answer or "", True))
        for ids, (text, own) in spellings.items():
            target = list(ids)
            if len(context) + len(target) > self.context:
                continue
            known = common_start(target, known_ids)
            logprobs = transcript.logprobs[len(context) : len(context) + known]
            if known < len(target):
                logprobs = logprobs + await self.seat.logprobs(context + target[:known], target[known:])
            scores.append(AliasScore(text, round(sum(logprobs), 5), len(logprobs), own))
        return scores

    async def step(self, episode: Episode) -> float:
        """Score the gold answer as if it were asked for now; return how much likelier it has become, in nats."""
        facts, context = len(episode.steps), episode.transcript.asked_now()
        scores = await self.spellings(episode, context)
        return episode.scored_step(facts, context, answer_logprob(scores, "sum")) if scores else 0.0

    async def answer(self, episode: Episode) -> None:
        """Score the accepted answers behind the finished trajectory; of the model's own spelling the same before it.

        So that the rises of p(y | ...) within a trajectory, and its gain over p(y | x), are those of one event.
        """
        said = episode.said_answer()
        episode.alias_scores = await self.spellings(episode, episode.transcript.before_answer, said)
        if not any(score.said for score in episode.alias_scores):
            return
        for facts, earlier in episode.scored_behind.items():
            value = episode.likelihood(facts)
            if value is not None and len(earlier) + len(said) <= self.context:
                own = sum(await self.seat.logprobs(earlier, said))
                episode.set_likelihood(facts, float(np.logaddexp(value, own)))

    async def again(self, episode: Episode) -> None:
        """Give an ended episode of any model the log-probs that this one gives it; those after single steps go.

        Scored are what was said in it, and the answers where they were. Raises EngineError.
        """
        transcript = episode.transcript
        episode.steps = [msgspec.structs.replace(step, answer_logprob=None) for step in episode.steps]
        for start, stop in transcript.turns():
            said = transcript.token_ids[start:stop]
            transcript.logprobs[start:stop] = await self.seat.logprobs(transcript.token_ids[:start], said)
        said = episode.said_answer()
        if episode.alias_scores:
            episode.alias_scores = await self.spellings(episode, transcript.before_answer, said)
        if episode.opening_logprob is not None:
            opened = replace(episode, transcript=transcript.at_first_search())
            counted = said if any(score.said for score in episode.alias_scores) else None
            opening = await self.spellings(opened, opened.transcript.asked_now(), counted)
            episode.opening_logprob = answer_logprob(opening, "sum") if opening else None
