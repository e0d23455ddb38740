"""Questions, a model that does what its seed says, and trajectories without what they cost."""

import msgspec

from exsearch.agent.grammar import ExSearchGrammar
from exsearch.agent.trajectory import Cost, Trajectory
from exsearch.questions.question import Question

QUESTIONS = [Question(f"q{n}", f"What is number {n}?", [f"the {n}th"]) for n in range(5)]
ANSWER_REQUEST = ExSearchGrammar().final_request("")


def by_seed(prompt: str, turn: int, seed: int) -> str:
    """A model that asks, ends, answers or talks nonsense as its seed has it."""
    if ANSWER_REQUEST in prompt:
        return f"the {seed % 7}th"
    if seed % 5 == 0:
        return "nonsense"
    if turn == 0:
        return f"<QUERY> about {seed % 100}"
    return f"<FACT> {seed % 50} <FINAL>" if seed % 2 else f"<FACT> f <QUERY> q{seed % 9}"


def timeless(trajectories: list[Trajectory]) -> list[Trajectory]:
    """The trajectories without what they cost, in the order of questions and samples."""
    steps = {t.label: [msgspec.structs.replace(s, cost=Cost()) for s in t.steps] for t in trajectories}
    ordered = sorted(trajectories, key=lambda t: (t.question_id, t.number))
    return [msgspec.structs.replace(t, steps=steps[t.label], cost=Cost()) for t in ordered]
