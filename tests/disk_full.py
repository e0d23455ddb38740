"""Writes everything that is written somewhere, and again with no room for the last byte of one of its largest files.

    python disk_full.py FOLDER

Prints a JSON object: of each thing and file, the error's kind, what a user reads, and what is left where the thing was
to be. Alone in a process, whose limits are set for it.
"""

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoTokenizer

from exsearch.config import LearnConfig, ModelConfig
from exsearch.core.atomic import remove
from exsearch.core.journal import Journal
from exsearch.core.jsonl import write_jsonl
from exsearch.core.trouble import as_user_error
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, add_passages, delete_passages, write_corpus
from exsearch.encoder_training import train as retriever
from exsearch.questions.question import Question
from exsearch.retrieval.encoders.load import load_checkpoint
from exsearch.retrieval.index.build import build_index
from exsearch.training.example import Example
from exsearch.training.job import Job
from exsearch.training.resume import write_tensors
from exsearch.training.start import train
from tiny_models import tiny_llama
from tiny_sentence_models import save_sentence_encoder

PASSAGES = [Passage(f"p{row}", f"Lamp {row}", f"green {row}") for row in range(200)]
QUESTIONS = [Question(f"q{row}", "What?", ["that"]) for row in range(999)]
EXAMPLES = [Example([5, 6, 7, 8 + row], [0, 0, 1, 1], 2, 1.0) for row in range(2)]


def writers(at: Path) -> dict[str, Callable[[Path], object]]:
    """By its name, what writes a thing to a path; a remark names the library that writes most of it."""
    corpus = write_corpus(at / "corpus", PASSAGES)
    save_sentence_encoder(at / "sentences")
    bert, sentences = str(at / "sentences-backbone"), str(at / "sentences")
    checkpoint = load_checkpoint(bert)
    tiny_llama().save_pretrained(at / "llama")
    AutoTokenizer.from_pretrained(bert).save_pretrained(at / "llama")
    learn, model = LearnConfig(epochs=1), ModelConfig(device="cpu", precision="fp32")

    def grow(out: Path) -> None:
        """Of the corpus, which is at the path already."""
        add_passages(out, [Passage("new", "Lamp", "red " * 999)])
        delete_passages(out, [passage.id for passage in PASSAGES[:150]])

    def append(out: Path) -> None:
        with Journal(out) as journal:
            journal.append(QUESTIONS)

    return {
        "corpus": lambda out: write_corpus(out, PASSAGES),  # Arrow, numpy
        "growth": grow,
        "bm25": lambda out: build_index(corpus, "bm25", out),  # numpy
        "late": lambda out: build_index(corpus, "late", out, encoder=bert, token_bytes=8),
        "graph": lambda out: build_index(corpus, "dense", out, encoder=sentences, index="hnsw"),  # FAISS
        "lists": lambda out: build_index(corpus, "dense", out, encoder=sentences, index="ivfpq", nlist=4, m=8, bits=4),
        "encoder": lambda out: retriever._save(checkpoint, out, "job"),  # safetensors, tokenizers
        "weights": lambda out: write_tensors(out, [("weight", torch.ones(9999))]),
        "model": lambda out: train(
            Job.of(at / "llama", EXAMPLES, out, learn, model, 1, "test"), lambda step, figures: None
        ),
        "journal": append,
        "questions": lambda out: write_jsonl(out, QUESTIONS),
    }


def outcome(write: Callable[[Path], object], out: Path) -> tuple[str, str]:
    try:
        write(out)
    except Exception as error:
        return type(error).__name__, str(as_user_error(error) or "")
    return "", ""


def sizes(out: Path) -> dict[str, int]:
    """Of each file of a thing."""
    files = [out] if out.is_file() else [file for file in out.rglob("*") if file.is_file()]
    return {str(file.relative_to(out)): file.stat().st_size for file in files}


def begin(name: str, out: Path) -> None:
    """Write what is to grow."""
    if name == "growth":
        write_corpus(out, PASSAGES)


def set_limit(size: int | None) -> None:
    """Limit the length of files, or lift the limit."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


def main(at: Path) -> None:
    found: dict[str, tuple[str, str, list[str]]] = {}
    for name, write in writers(at).items():
        out = at / "out" / name  # the same each time: files may say where they are
        begin(name, out)
        there = set(sizes(out))
        assert outcome(write, out) == ("", ""), name
        whole = {file: size for file, size in sizes(out).items() if size and file not in there}
        for size in sorted({*whole.values()})[-3:]:
            remove(out)
            begin(name, out)
            set_limit(size - 1)
            kind, message = outcome(write, out)
            set_limit(None)
            if name == "growth":
                assert Corpus.open(out)[0] == PASSAGES[0]
            left = [each.name for each in out.parent.iterdir()]
            found[f"{name}, {next(file for file in whole if whole[file] == size)}"] = (kind, message, left)
            for each in out.parent.iterdir():
                remove(each)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
