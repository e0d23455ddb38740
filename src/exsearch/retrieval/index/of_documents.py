"""An index of a folder of documents, kept in the user's cache folder."""

from pathlib import Path

from exsearch.core.cache import cache_folder
from exsearch.core.fingerprint import fingerprint
from exsearch.corpus.documents import import_documents
from exsearch.corpus.importing import Say
from exsearch.corpus.store import Corpus
from exsearch.retrieval.index.build import build_index


def index_of_documents(folder: Path, say: Say = lambda line: None) -> Path:
    """Return a `bm25` index of a folder of documents; what has changed since the last call is read again.

    Raises UsageError if the folder has no documents that can be read.
    """
    root = folder.resolve()
    cached = cache_folder() / "documents" / f"{root.name}-{fingerprint([str(root)])}"
    cached.mkdir(parents=True, exist_ok=True)
    import_documents(root, cached / "corpus", say=say)
    return build_index(Corpus.open(cached / "corpus"), "bm25", cached / "index")
