"""The passages, questions and token vectors that the retrieval benchmarks run on.

A set is `wiki-mini`, 20,478 real passages with HotpotQA, 2WikiMultihopQA and MuSiQue questions in their native
formats, or `world-N`, the built-in world with N passages. Everything of a set lies in one folder and is made once:

    corpus/           the passages
    questions.jsonl   the questions; an id begins with its source, as in `hotpotqa/5a8b57f25542995d1e6f1371`
    data/             what the systems that are compared get, see peers/runner.py

The token vectors are those of the embedded encoder, reduced from 384 to 128 dimensions, the usual size for late
interaction, by the principal axes of a sample of the passages' vectors, and normalised again.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from exsearch.core.atomic import atomic_path, write_text
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import write_jsonl
from exsearch.core.progress import progress
from exsearch.corpus.importing import import_corpus
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, write_corpus
from exsearch.questions.importer import import_questions
from exsearch.questions.question import Question, read_questions
from exsearch.world import World

SEED = 1
"""Of the world."""
WORLD_QUESTIONS = 200
DIMENSIONS = 128
_PART = 4096
_SAMPLE = 2048

Vectors = npt.NDArray[np.float32]


def load_set(name: str, folder: Path, wiki_mini: Path | None) -> tuple[Corpus, list[Question]]:
    """Return the passages and questions of a set; write them into `folder` if they are not there yet."""
    questions = folder / "questions.jsonl"
    if not questions.exists():
        if name == "wiki-mini":
            if wiki_mini is None:
                raise UsageError("wiki-mini: say where its files are (--wiki-mini DIR)")
            import_corpus(wiki_mini / "psgs_w100.tsv.gz", folder / "corpus")
            write_jsonl(questions, wiki_questions(wiki_mini, "dev", folder, Corpus.open(folder / "corpus")))
        else:
            world = World(SEED, _world_size(name))
            write_corpus(folder / "corpus", world.passages(), total=world.size)
            write_jsonl(questions, _prefixed("world", world.questions("test", limit=WORLD_QUESTIONS)))
    return Corpus.open(folder / "corpus"), read_questions(questions)


def source(question: Question) -> str:
    """Return where a question comes from."""
    return question.id.split("/", 1)[0]


def text_of(passage: Passage) -> str:
    """Return what every system reads of a passage."""
    return f"{passage.title}\n{passage.text}"


def write_data(folder: Path, corpus: Corpus, questions: list[Question]) -> Path:
    """Write the texts of the set's `data` folder, unless they are there, and return the folder."""
    target = folder / "data"
    if not target.exists():
        with atomic_path(target) as temporary:
            temporary.mkdir()
            write_jsonl(temporary / "texts.jsonl", (text_of(passage) for passage in corpus))
            texts = [question.text for question in questions]
            write_text(temporary / "query_texts.json", json.dumps(texts, ensure_ascii=False))
    return target


def write_vectors(folder: Path, corpus: Corpus, questions: list[Question]) -> None:
    """Write the token vectors of the set's `data` folder, unless they are there. A killed run continues."""
    target = folder / "data" / "vectors"
    if target.exists():
        return
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    encode = _Reduced(parts / "axes.npy", corpus)
    with progress("vectors", len(corpus)) as bar:
        for number, first in enumerate(range(0, len(corpus), _PART)):
            stop = min(first + _PART, len(corpus))
            part = parts / f"{number:05}.npz"
            if not part.exists():
                texts = [text_of(passage) for batch in corpus.batches(first, stop) for passage in batch]
                encoded, ids = encode.passages(texts)
                with atomic_path(part) as temporary, temporary.open("wb") as file:
                    lengths = np.array([len(row) for row in encoded], dtype=np.int32)
                    np.savez(file, vectors=np.concatenate(encoded).astype(np.float16), ids=ids, lengths=lengths)
            bar.advance(stop - first)
    with atomic_path(target) as temporary:
        temporary.mkdir()
        _join(sorted(parts.glob("*.npz")), temporary)
        queries = encode.queries([question.text for question in questions])
        np.save(temporary / "queries.npy", np.concatenate(queries))
        np.save(temporary / "query_lengths.npy", np.array([len(query) for query in queries], dtype=np.int32))
    for part in parts.glob("*.npz"):
        part.unlink()


class _Reduced:
    """The embedded encoder with fewer dimensions."""

    def __init__(self, axes: Path, corpus: Corpus) -> None:
        from exsearch.retrieval.encoders.base import EMBEDDED
        from exsearch.retrieval.encoders.load import load_checkpoint
        from exsearch.retrieval.encoders.token_encoder import TokenEncoder

        self._encoder = TokenEncoder()
        self._reader = load_checkpoint(EMBEDDED)
        if not axes.exists():
            rows = np.unique(np.linspace(0, len(corpus) - 1, _SAMPLE).astype(np.int64)).tolist()
            sample = np.concatenate(self._encoder.encode_passages([text_of(row) for row in corpus.rows(rows)]))
            with atomic_path(axes) as temporary, temporary.open("wb") as file:
                # not centred: inner products are to be kept, not distances from the mean
                np.save(file, np.linalg.eigh(sample.T @ sample)[1][:, -DIMENSIONS:])
        self._axes: Vectors = np.load(axes)

    def passages(self, texts: list[str]) -> tuple[list[Vectors], npt.NDArray[np.int64]]:
        """Return the vectors of each text, and the vocabulary ids of all of them together.

        A text without a word gets one vector of zeros, since not every system takes an empty passage.
        """
        encoded, ids = [], []
        rows = self._reader.read(texts, "document", None)
        for vectors, row in zip(self._encoder.encode_passages(texts), rows, strict=True):
            encoded.append(self._reduce(vectors) if len(vectors) else np.zeros((1, DIMENSIONS), dtype=np.float32))
            ids.append(row.ids[row.counted] if len(vectors) else np.zeros(1, dtype=np.int64))
            assert len(ids[-1]) == len(encoded[-1])
        return encoded, np.concatenate(ids)

    def queries(self, texts: list[str]) -> list[Vectors]:
        """Return the vectors of each text."""
        return [self._reduce(vectors) for vectors in self._encoder.encode_queries(texts)]

    def _reduce(self, vectors: Vectors) -> Vectors:
        reduced = vectors @ self._axes
        normalised: Vectors = reduced / np.linalg.norm(reduced, axis=1, keepdims=True)
        return normalised


def _join(parts: list[Path], folder: Path) -> None:
    """Write the parts one after another, without holding more than one of them."""
    lengths = np.concatenate([np.load(part)["lengths"] for part in parts])
    shape = (int(lengths.sum()), DIMENSIONS)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", mode="w+", dtype=np.float16, shape=shape)
    start = 0
    for part in parts:
        block = np.load(part)["vectors"]
        vectors[start : start + len(block)] = block
        start += len(block)
    vectors.flush()
    np.save(folder / "lengths.npy", lengths)
    np.save(folder / "token_ids.npy", np.concatenate([np.load(part)["ids"] for part in parts]))


def _world_size(name: str) -> int:
    kind, _, size = name.partition("-")
    if kind != "world" or not size.isdecimal():
        raise UsageError(f"unknown set {name!r} (known: wiki-mini, world-N)")
    return int(size)


def _prefixed(prefix: str, questions: Iterator[Question]) -> Iterator[Question]:
    for question in questions:
        yield msgspec.structs.replace(question, id=f"{prefix}/{question.id}")


def wiki_questions(folder: Path, split: str, out: Path, corpus: Corpus) -> Iterator[Question]:
    """Yield the questions of a split of wiki-mini, `train` or `dev`; they are imported into the folder `out`."""
    decompositions = folder / f"2wikimultihopqa_{split}_decomposition.jsonl"
    for name in (f"hotpotqa_{split}.json", f"2wikimultihopqa_{split}.json", f"musique_{split}.jsonl"):
        target = out / f"{Path(name).stem}.jsonl"
        asked = decompositions if name.startswith("2wiki") and decompositions.exists() else None
        import_questions([folder / name], target, corpus=corpus, decompositions=asked)
        yield from _prefixed(name.split("_")[0], iter(read_questions(target)))
