"""The turns of Search-R1 (arXiv 2503.09516) and ZeroSearch (arXiv 2505.04588), as their checkpoints know them.

The form of the results is the one that Search-R1's code writes (`search_r1/llm_agent/generation.py`); ZeroSearch, built
on it, formats passages differently. The instruction is this project's; set `agent.prompt` to the one that a checkpoint
was trained on.
"""

from exsearch.agent.grammars.tagged import TaggedGrammar


class SearchR1Grammar(TaggedGrammar):
    """Think, `<search>`, read `<information>`, `<answer>`, in one turn of the chat."""

    name = "search-r1"
    query_tags = ("<search>", "</search>")
    result_tags = ("<information>", "</information>")

    def opening(self, question: str) -> str:
        """Return the user's only turn."""
        return (
            "Answer the question below. Reason between <think> and </think>, at first and whenever you have read "
            "something new. If you need to know more, write <search> what to look up </search>; what is found then "
            "stands between <information> and </information>. Search as often as you need. At the end write the answer "
            f"alone between <answer> and </answer>, as in <answer> Lisbon </answer>. Question: {self.plain(question)}\n"
        )

    def search_header(self) -> str:
        """Return what precedes the passages of a search."""
        return "\n\n<information>"

    def passage(self, number: int, title: str, text: str) -> str:
        """Return one passage; titles in Search-R1's corpus are in quotation marks."""
        return f'{_separator(number)}Doc {number}(Title: "{self.plain(title)}") {self.plain(text)}'

    def search_footer(self) -> str:
        """Return what follows the passages of a search."""
        return "</information>\n\n"


class ZeroSearchGrammar(SearchR1Grammar):
    """Search-R1's grammar, with another format of passages."""

    name = "zerosearch"

    def passage(self, number: int, title: str, text: str) -> str:
        """Return one passage."""
        return f"{_separator(number)}Doc {number}: {self.plain(title)} {self.plain(text)}"


def _separator(number: int) -> str:
    return "\n" if number > 1 else ""
