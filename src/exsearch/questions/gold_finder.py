"""Finds in a corpus the passages that a source names: by id, by title and text, or by title and sentence."""

from collections import defaultdict
from collections.abc import Iterable

from exsearch.core.progress import progress
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus
from exsearch.questions.readers.annotated import NamedPassage


class GoldFinder:
    """Knows where in a corpus the passages are that have one of the titles wanted. White space never counts."""

    def __init__(self, corpus: Corpus, named: Iterable[NamedPassage]) -> None:
        """Read the corpus once, for the titles of `named`."""
        self._corpus = corpus
        self._rows: defaultdict[str, list[int]] = defaultdict(list)
        wanted = {squeezed(passage.title) for passage in named if passage.title}
        if not wanted:
            return
        deleted = set(corpus.deleted.tolist())
        row = 0
        with progress("looking for gold passages", len(corpus)) as bar:
            for batch in corpus.batches():
                for passage in batch:
                    title = squeezed(passage.title)
                    if title in wanted and row not in deleted:
                        self._rows[title].append(row)
                    row += 1
                bar.advance(len(batch))

    def find(self, named: NamedPassage) -> list[str]:
        """Return the ids of a named passage, several where its sentences are in several; none if it is not there.

        One with a title but neither text nor sentences is found where no other passage has its title, but not where the
        source has several of that title.
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
    """Return the first passage that holds each of the sentences; none at all if one is missing."""
    texts = {passage.id: squeezed(passage.text) for passage in passages}
    found: dict[str, None] = {}
    for sentence in map(squeezed, sentences):
        holder = next((id for id, text in texts.items() if sentence in text), None)
        if holder is None:
            return []
        found[holder] = None
    return list(found)


def squeezed(text: str) -> str:
    """Return the text with single spaces."""
    return " ".join(text.split())
