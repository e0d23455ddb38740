"""Finds gold passages in a corpus: by id, by title and text, or by title and sentence."""

from collections import defaultdict
from collections.abc import Iterable

from exsearch.core.progress import progress
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus
from exsearch.questions.readers.annotated import NamedPassage


class GoldFinder:
    """Finds the passages of a corpus with certain titles. White space is ignored."""

    def __init__(self, corpus: Corpus, named_passages: Iterable[NamedPassage]) -> None:
        """Read the corpus once, for the titles of `named_passages`."""
        self._corpus = corpus
        self._rows: defaultdict[str, list[int]] = defaultdict(list)
        titles = {squeezed(passage.title) for passage in named_passages if passage.title}
        if not titles:
            return
        deleted = set(corpus.deleted.tolist())
        row = 0
        with progress("looking for gold passages", len(corpus)) as bar:
            for batch in corpus.batches():
                for passage in batch:
                    title = squeezed(passage.title)
                    if title in titles and row not in deleted:
                        self._rows[title].append(row)
                    row += 1
                bar.advance(len(batch))

    def find(self, named: NamedPassage) -> list[str]:
        """Return the ids of a passage, several if its sentences are in several; none if it is not in the corpus.

        A passage with a title but neither text nor sentences is found if no other passage has its title, unless the
        source has several with that title.
        """
        if named.ambiguous:
            return []
        if named.id is not None:
            passage = self._corpus.by_id(named.id)
            if passage and named.title in (None, passage.title):
                return [passage.id]
        if named.title is None:
            return []
        passages = self._corpus.rows(self._rows.get(squeezed(named.title), []))
        if named.text is not None:
            same = [passage.id for passage in passages if squeezed(passage.text) == squeezed(named.text)]
            if same:
                return same[:1]
        if named.sentences:
            return _holding(passages, named.sentences)
        return [passage.id for passage in passages] if len(passages) == 1 and named.text is None else []


def _holding(passages: list[Passage], sentences: tuple[str, ...]) -> list[str]:
    """Return, for each of the sentences, the first passage that contains it; nothing at all if one is missing."""
    texts = {passage.id: squeezed(passage.text) for passage in passages}
    holders: dict[str, None] = {}
    for sentence in map(squeezed, sentences):
        holder = next((id for id, text in texts.items() if sentence in text), None)
        if holder is None:
            return []
        holders[holder] = None
    return list(holders)


def squeezed(text: str) -> str:
    """Return the text with single spaces."""
    return " ".join(text.split())
