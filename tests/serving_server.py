"""A retrieval server in a thread of the test process, and retrievers that wait or fail when they are told to."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.types import ASGIApp

from exsearch.corpus.passage import Hit, Passage
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from exsearch.serving.uvicorn_server import make_server, open_socket

PASSAGES = [
    Passage("11", "France", "The capital of France is Paris."),
    Passage("12", "Italy", "The capital of Italy is Rome.\nIt lies on the Tiber."),
    Passage("13", "1984 | a novel", "A capital book | by George Orwell."),
    Passage("d-4", "", "No title, but capital letters."),
    Passage("15", "Zürich", "A city that is no capital, Ω."),
]


def tiny_index(folder: Path) -> tuple[Retriever, Corpus]:
    """A bm25 index of PASSAGES in `folder`."""
    corpus = write_corpus(folder / "corpus", PASSAGES)
    return open_index(build_index(corpus, "bm25", folder / "index")), corpus


class ScriptedRetriever:
    """Finds the first passages for everything; `before` runs before each search, in the retriever's thread."""

    fingerprint = "scripted"

    def __init__(self, before: Callable[[list[str]], None] = lambda queries: None) -> None:
        self.calls: list[list[str]] = []
        self._before = before

    def search(self, queries: list[str], k: int) -> list[list[Hit]]:
        self.calls.append(queries)
        self._before(queries)
        return [[Hit(passage, 1.0 / rank, rank) for rank, passage in enumerate(PASSAGES[:k], 1)] for _ in queries]


@contextmanager
def running(app: ASGIApp, seconds: float = 30) -> Iterator[str]:
    """Serve `app` in a thread; yield its URL."""
    with open_socket("127.0.0.1", 0) as socket:
        server = make_server(app, seconds)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{socket.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
