"""Hybrid index: indexes of several kinds over one corpus, fused by rank (fusion.py).

members/<kind>/    a complete index each, which can also be searched on its own
reranker.json      content hash of the re-ranker, if there is one
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, write_json
from exsearch.corpus.store import Corpus
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.fusion import Fused
from exsearch.retrieval.index.folder import OpenedIndex
from exsearch.retrieval.index.kinds import segmented_kind, typed
from exsearch.retrieval.rerank import Reranker

Positive = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
_KINDS = ("bm25", "late", "dense")


class HybridParameters(msgspec.Struct, frozen=True):
    """Settings of a hybrid index."""

    members: list[Literal["bm25", "late", "dense"]] = msgspec.field(default_factory=lambda: ["bm25", "late"])
    """Kinds of index; with equal scores, hits of earlier ones come first."""
    bm25: dict[str, Any] = {}
    """Parameters of the member of this kind; others have the kind's defaults."""
    late: dict[str, Any] = {}
    dense: dict[str, Any] = {}
    k0: Positive = 60
    """Constant of reciprocal rank fusion: the larger, the less the first ranks stand out."""
    depth: Positive = 100
    """Number of hits per member to fuse; at least k."""
    reranker: str | None = None
    """Folder or hub id of a cross-encoder that reorders the first hits."""
    rerank: Positive = 20
    """Number of hits that it reorders; at least k."""

    def __post_init__(self) -> None:
        """Check the members' parameters, and fill in their defaults."""
        if not self.members or len(set(self.members)) < len(self.members):
            raise ValueError("members must name at least one kind, and each once")
        for kind in _KINDS:
            parameters = getattr(self, kind)
            if kind in self.members:
                whole = typed(kind, parameters, segmented_kind(kind).Parameters)
                msgspec.structs.force_setattr(self, kind, msgspec.to_builtins(whole))
            elif parameters:
                raise ValueError(f"{kind} has parameters but is not among the members")


class RerankerInfo(msgspec.Struct, frozen=True):
    """The content of reranker.json."""

    hash: str


class Hybrid(Fused):
    """Scores are those of the fusion, or of the re-ranker if there is one."""

    Parameters = HybridParameters
    version: ClassVar[int] = 1

    def __init__(self, opened: OpenedIndex, open_member: Callable[[Path, Path, str], Retriever]) -> None:
        """Open the members and load the re-ranker."""
        parameters: HybridParameters = opened.parameters
        folder, corpus = opened.folder / "members", opened.corpus.folder
        members = [open_member(folder / kind, corpus, opened.again) for kind in parameters.members]
        reranker = None
        if parameters.reranker is not None:
            reranker = Reranker(parameters.reranker)
            built_with = read_json(opened.folder / "reranker.json", RerankerInfo).hash
            if reranker.hash != built_with:
                raise UsageError(
                    f"{opened.folder}: built for a re-ranker with content hash {built_with}, but "
                    f"{parameters.reranker!r} is now {reranker.hash}; build the index again"
                )
        super().__init__(members, parameters.k0, parameters.depth, reranker, parameters.rerank)

    @staticmethod
    def build_members(corpus: Corpus, folder: Path, parameters: HybridParameters, build: Callable[..., Path]) -> None:
        """Build the members, or extend them; complete ones are not changed."""
        if parameters.reranker is not None:
            write_json(folder / "reranker.json", RerankerInfo(Reranker(parameters.reranker).hash))
        for kind in parameters.members:
            build(corpus, kind, folder / "members" / kind, **getattr(parameters, kind))
