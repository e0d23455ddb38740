"""All wire formats that search agents and trainers speak to their retriever.

A dialect's file has its requests, as a server reads and answers them, the client that sends them, and the checks of a
server. Several dialects share a path: the keys of the body decide which one it is (`request_at`). Unknown keys are
ignored, as by the clients' own servers.
"""

from collections.abc import Collection

from exsearch.wire import colbert, flashrag, r1_searcher, search_r1, skyrl, zerosearch
from exsearch.wire.checking import Check
from exsearch.wire.colbert import ColBERT
from exsearch.wire.errors import RequestError
from exsearch.wire.flashrag import FlashRAG, FlashRAGBatch
from exsearch.wire.r1_searcher import R1Searcher
from exsearch.wire.request import SearchRequest
from exsearch.wire.search_r1 import Access, SearchR1, SearchR1Rerank
from exsearch.wire.skyrl import SkyRL
from exsearch.wire.zerosearch import ZeroSearch

REQUESTS: list[type[SearchRequest] | type[Access]] = [
    SearchR1, SearchR1Rerank, Access, SkyRL, ColBERT, R1Searcher, FlashRAG, FlashRAGBatch, ZeroSearch,
]  # fmt: skip
ANY_PATH = (frozenset({"query", "k"}), ColBERT)
"""DSPy's client posts this to any URL that it is given."""
REQUESTS_BY_KEYS: dict[str, list[tuple[frozenset[str], type[SearchRequest] | type[Access]]]] = {
    "/retrieve": [
        ANY_PATH,
        (frozenset({"queries", "topk_retrieval"}), SearchR1Rerank),
        (frozenset({"queries", "topk_rerank"}), SearchR1Rerank),
        (frozenset({"queries"}), SearchR1),
        (frozenset({"query", "top_k"}), ZeroSearch),
        (frozenset({"query"}), SkyRL),
    ],
    **{
        request.path: [ANY_PATH, (frozenset(), request)]
        for request in (Access, ColBERT, R1Searcher, FlashRAG, FlashRAGBatch)
    },
}
"""Requests by path: a POST is the first of them all of whose keys are in the body."""
CLIENTS = {
    "search-r1": search_r1.CLIENT,
    "skyrl": skyrl.CLIENT,
    "colbert": colbert.CLIENT,
    "r1-searcher": r1_searcher.CLIENT,
    "flashrag": flashrag.CLIENT,
    "zerosearch": zerosearch.CLIENT,
}
"""Clients by name; each is used by the project of that name and its relatives.

search-r1: verl, ASearcher, agent-lightning, slime; colbert: SearchLM, DSPy; flashrag: ReSearch, ReCall.
"""
_DIALECTS = (search_r1, skyrl, colbert, r1_searcher, flashrag, zerosearch)
CHECKS: list[Check] = [
    *(check for dialect in _DIALECTS for check in dialect.CHECKS),
    *(check for dialect in _DIALECTS for check in dialect.REFUSALS),
]
"""The checks of a server, in order."""


def request_at(path: str, keys: Collection[str]) -> type[SearchRequest] | type[Access]:
    """Return the kind of request that a POST to `path` with these keys is. Raises RequestError if it is none."""
    for needed, request in REQUESTS_BY_KEYS.get(path, [ANY_PATH]):
        if needed.issubset(keys):
            return request
    if path not in REQUESTS_BY_KEYS:
        raise RequestError(404, f"nothing is at {path}; searches go to {', '.join(sorted(REQUESTS_BY_KEYS))}")
    raise RequestError(400, "the body has neither `queries`, a list of strings, nor `query`, a string")
