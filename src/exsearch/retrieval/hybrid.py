"""Hybrid index: indexes of several kinds over one corpus, fused by rank (fusion.py).

members/<kind>/    a whole index each, which can also be searched alone
reranker.json      content hash of the re-ranker, where there is one
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

Positive = Annotated[int, msgspec.Meta(ge=1)]
_KINDS = ("bm25", "late", "dense")


class HybridParameters(msgspec.Struct, frozen=True):
    """Settings of a hybrid index."""

    members: list[Literal["bm25", "late", "dense"]] = msgspec.field(default_factory=lambda: ["bm25", "late"])
    """Kinds of index; the earlier ones' hits come first where scores are equal."""
    bm25: dict[str, Any] = {}
    """Settings of the member of this kind; what is not named has the kind's default."""
    late: dict[str, Any] = {}
    dense: dict[str, Any] = {}
    k0: Positive = 60
    """The larger, the less do the first ranks count for more than the others."""
    depth: Positive = 100
    """Hits of each member that are fused; at least k."""
    reranker: str | None = None
    """Folder or hub id of a cross-encoder, which orders the first hits anew."""
    rerank: Positive = 20
    """How many it orders; at least k."""

    def __post_init__(self) -> None:
        """Check the members' settings and fill in their defaults."""
        if not self.members or len(set(self.members)) < len(self.members):
            raise ValueError("members must name at least one kind, and each once")
        for kind in _KINDS:
            given = getattr(self, kind)
            if kind in self.members:
                whole = typed(kind, given, segmented_kind(kind).Parameters)
                msgspec.structs.force_setattr(self, kind, msgspec.to_builtins(whole))
            elif given:
                raise ValueError(f"{kind} has settings but is not among the members")


class RerankerInfo(msgspec.Struct, frozen=True):
    """What reranker.json says."""

    hash: str


class Hybrid(Fused):
    """Scores are those of the fusion, or of the re-ranker where there is one."""

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
        """Build the members, or extend them; what is complete stays as it is."""
        if parameters.reranker is not None:
            write_json(folder / "reranker.json", RerankerInfo(Reranker(parameters.reranker).hash))
        for kind in parameters.members:
            build(corpus, kind, folder / "members" / kind, **getattr(parameters, kind))
