"""Interleaved retrieval and reasoning, after IRCoT (arXiv 2212.10509): each sentence of reasoning is the next query.

The question is searched for first. Once the model says that "the answer is" something, or after the last search, the
answer is requested. The wording is this project's, without examples.
"""

from exsearch.agent.grammar import Action, Grammar, one_line


class IRCoTGrammar(Grammar):
    """Whatever the model writes is reasoning, so no turn is malformed."""

    name = "ircot"
    forgiving = True

    def opening(self, question: str) -> str:
        """Return what precedes the first passages."""
        return (
            "Reason towards the answer to the question, one sentence at a time; after each you get passages that may "
            f'help. Once you know enough, write "So the answer is" and the answer.\nQuestion: {one_line(question)}'
        )

    def first_query(self, question: str) -> str:
        """Return the question."""
        return question

    def answers_after(self, max_steps: int) -> int:
        """Return the budget of searches; at its end the model answers from what it has read."""
        return max_steps

    def turn(self, action: Action) -> str:
        """Return the sentence."""
        return "So the answer is clear." if action.query is None else one_line(action.query)

    def parse(self, text: str, first: bool) -> Action:
        """Read a sentence, which is the next query, or the end of the reasoning; an empty turn also ends it."""
        sentence = one_line(text)
        return Action(None, None if not sentence or "answer is" in sentence.lower() else sentence)
