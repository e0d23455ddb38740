"""Baselines in which the model only answers: without a search (closed book), or after a single one (one-shot)."""

from typing import NoReturn

from exsearch.agent.grammar import Action, Grammar, MalformedError, one_line


class _OnlyAnswers(Grammar):
    """The model's only turn is the answer, so there are no other turns to write or parse."""

    forgiving = True

    def turn(self, action: Action) -> NoReturn:
        """Raise MalformedError."""
        raise MalformedError(f"{self.name} has no turn but the answer")

    def parse(self, text: str, first: bool) -> NoReturn:
        """Raise MalformedError."""
        raise MalformedError(text)


class ClosedBookGrammar(_OnlyAnswers):
    """The question, without any search."""

    name = "closed-book"

    def opening(self, question: str) -> str:
        """Return the only user turn."""
        return f"Answer the question with the name, number or date alone, no sentence.\nQuestion: {one_line(question)}"

    def answers_after(self, max_steps: int) -> int:
        """Return 0."""
        return 0


class OneShotGrammar(_OnlyAnswers):
    """Retrieval-augmented generation: one search for the question itself, then the answer."""

    name = "one-shot"

    def opening(self, question: str) -> str:
        """Return what precedes the passages."""
        return "Answer the question from the passages."

    def first_query(self, question: str) -> str:
        """Return the question."""
        return question

    def answers_after(self, max_steps: int) -> int:
        """Return 1."""
        return 1
