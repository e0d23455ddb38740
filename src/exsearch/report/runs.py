"""Turns an attempt into what the page shows of it."""

import msgspec

from exsearch.agent.trajectory import answer_logprob
from exsearch.report.page import PageStep, Run
from exsearch.report.passages import PassageTable
from exsearch.runs.reader import Attempt


def page_run(attempt: Attempt, passages: PassageTable) -> Run:
    """Return `attempt` without its tokens, its passages as row numbers."""
    own = sum(attempt.loss_mask)
    return Run(
        sample=attempt.sample,
        branch=attempt.branch,
        stop_reason=attempt.stop_reason,
        steps=[
            PageStep(
                query=step.query,
                hits=[(passages.add(hit.passage), float(f"{hit.score:.4g}")) for hit in step.hits],
                evidence=step.evidence,
            )
            for step in attempt.steps
        ],
        answer=attempt.answer,
        logprob=round(answer_logprob(attempt.alias_scores, "sum"), 3) if attempt.alias_scores else None,
        aliases=[msgspec.structs.replace(score, logprob=round(score.logprob, 3)) for score in attempt.alias_scores],
        tokens=len(attempt.loss_mask),
        own_tokens=own,
        own_logprob=round(sum(attempt.logprobs), 2) if own and attempt.logprobs else None,
        shortened=attempt.shortened_passages,
    )
