"""A retrieval server that runs as long as a program needs it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from exsearch.core.errors import UsageError
from exsearch.corpus.store import Corpus
from exsearch.retrieval.index.folder import read_index_info
from exsearch.retrieval.index.open import open_index

SECONDS = 60.0
"""Time limit for a search, and for requests in flight when the server stops."""


@contextmanager
def serve(index: str | Path, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Answer searches of an index folder at the URL that is yielded, in the wire format of any agent or trainer.

    The server runs in a thread until the block ends; port 0 chooses a free one. `exsearch serve retrieval` is the
    stand-alone server, with limits, keys and replicas. Raises UsageError for an invalid index, for a port that is in
    use, and if the extra `serve` is not installed.

    >>> with xs.serve("work/index") as url:
    ...     [[hit]] = xs.open_index(url).search(["a lighthouse"], k=1)
    >>> hit.rank
    1
    """
    missing = [name for name in ("prometheus_client", "starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise UsageError(f"serving needs {', '.join(missing)}: python -m pip install 'exsearch[serve]'")
    from exsearch.serving.app import retrieval_app
    from exsearch.serving.limits import Limits
    from exsearch.serving.uvicorn_server import make_server, open_socket

    if not isinstance(index, (str, Path)):
        raise UsageError(f"{type(index).__name__} given; serve takes the folder of an index")
    folder = Path(index)
    corpus = Corpus.open(folder / read_index_info(folder).corpus)
    app = retrieval_app(open_index(folder), corpus, Limits(seconds=SECONDS))
    with open_socket(host, port) as socket:
        server = make_server(app, SECONDS)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, name="server", daemon=True)
        thread.start()
        try:
            name = f"[{host}]" if ":" in host else host
            yield f"http://{name}:{socket.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
