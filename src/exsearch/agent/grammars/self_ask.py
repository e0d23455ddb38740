"""Follow-up questions, after self-ask with a search engine (arXiv 2210.03350).

`Follow up:` searches, `Intermediate answer:` records what the passages say, `So the final answer is:` ends. Then, or
after the last search, the answer is requested. The wording is this project's, without examples.
"""

import re

from exsearch.agent.grammar import Action, Grammar, one_line

_EVIDENCE = re.compile(
    r"intermediate answer:(.*?)(?=follow[ -]?up:|so the final answer is|$)", re.IGNORECASE | re.DOTALL
)
_NEXT = re.compile(r"follow[ -]?up:[^\S\n]*(?P<query>[^\n]+)|so the final answer is", re.IGNORECASE)


class SelfAskGrammar(Grammar):
    """A turn without a follow-up question ends the search, so no turn is malformed."""

    name = "self-ask"
    decomposes = True
    forgiving = True

    def opening(self, question: str) -> str:
        """Return the first user turn."""
        return (
            'Answer the question by asking simpler ones. Write "Follow up:" and a simpler question, whose passages you '
            'then get. Next write "Intermediate answer:" and its answer, then another "Follow up:", or "So the final '
            f'answer is:" once you know enough.\nQuestion: {one_line(question)}'
        )

    def answers_after(self, max_steps: int) -> int:
        """Return the budget of searches; at its end the model answers from what it has read."""
        return max_steps

    def turn(self, action: Action) -> str:
        """Return the intermediate answer, if there is one, and the follow-up question or the end."""
        evidence = "" if action.evidence is None else f"Intermediate answer: {one_line(action.evidence)}\n"
        return evidence + (
            "So the final answer is:" if action.query is None else f"Follow up: {one_line(action.query)}"
        )

    def parse(self, text: str, first: bool) -> Action:
        """Read the first intermediate answer and the first follow-up question, if there are any."""
        evidence, then = _EVIDENCE.search(text), _NEXT.search(text)
        query = one_line(then["query"] or "") if then else ""
        return Action(one_line(evidence[1]) if evidence else None, query or None)
