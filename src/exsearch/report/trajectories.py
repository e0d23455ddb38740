"""Converts a trajectory to the form that a page shows."""

import msgspec

from exsearch.agent.trajectory import Trajectory, answer_logprob
from exsearch.report.page import PageStep, PageTrajectory
from exsearch.report.passages import PassageTable


def page_trajectory(trajectory: Trajectory, passages: PassageTable) -> PageTrajectory:
    """Return `trajectory` without its tokens and with passages as row numbers."""
    own = sum(trajectory.loss_mask)
    return PageTrajectory(
        sample=trajectory.sample,
        branch=trajectory.branch,
        share=round(trajectory.share, 5),
        stop_reason=trajectory.stop_reason,
        steps=[
            PageStep(
                query=step.query,
                hits=[(passages.add(hit.passage), float(f"{hit.score:.4g}")) for hit in step.hits],
                evidence=step.evidence,
                selected=step.selected,
            )
            for step in trajectory.steps
        ],
        answer=trajectory.answer,
        logprob=round(answer_logprob(trajectory.alias_scores, "sum"), 3) if trajectory.alias_scores else None,
        aliases=[msgspec.structs.replace(score, logprob=round(score.logprob, 3)) for score in trajectory.alias_scores],
        tokens=len(trajectory.loss_mask),
        own_tokens=own,
        own_logprob=round(sum(trajectory.logprobs), 2) if own and trajectory.logprobs else None,
        shortened=trajectory.shortened_passages,
    )
