"""The turns of R1-Searcher (arXiv 2503.05592), for its checkpoint on a base model: plain text without chat template.

The instruction is this project's; set `agent.prompt` to the one that the checkpoint was trained on.
"""

from exsearch.agent.grammar import one_line
from exsearch.agent.grammars.tagged import TaggedGrammar

_QUOTES = str.maketrans("", "", "\"'")


class R1SearcherGrammar(TaggedGrammar):
    """Think, `<|begin_of_query|>`, read `<|begin_of_documents|>`, `<answer>`, in plain text without a chat template."""

    name = "r1-searcher"
    raw = True
    query_tags = ("<|begin_of_query|>", "<|end_of_query|>")
    result_tags = ("<|begin_of_documents|>", "<|end_of_documents|>")
    passage_end = "\n"

    def opening(self, question: str) -> str:
        """Return the whole prompt, up to the beginning of the model's reasoning."""
        return (
            "A user asks a question, and an assistant answers it. The assistant reasons between <think> and </think> "
            "and then gives the answer between <answer> and </answer>. Where it lacks knowledge while it reasons, it "
            "looks one thing up by writing <|begin_of_query|> keywords <|end_of_query|>, and is given what was found "
            "between <|begin_of_documents|> and <|end_of_documents|>.\n\n"
            f"User:{self.plain(question)}\nAssistant: <think>"
        )

    def search_header(self) -> str:
        """Return what precedes the passages of a search."""
        return "\n\n<|begin_of_documents|>\n"

    def passage(self, number: int, title: str, text: str) -> str:
        """Return one passage."""
        return f"({number}){self.plain(title)}   {self.plain(text)}{self.passage_end}"

    def search_footer(self) -> str:
        """Return what follows the passages of a search."""
        return "<|end_of_documents|>\n\n"

    def cleaned(self, query: str) -> str:
        """Return only the keywords, since R1-Searcher's evaluation searches for these."""
        return one_line(query.translate(_QUOTES).replace("...", ""))
