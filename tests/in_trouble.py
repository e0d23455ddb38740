"""Opens everything that is opened somewhere, then again after the machine has taken something away.

    python in_trouble.py files|permission|memory FOLDER

Prints a JSON object: of each thing, the error's kind and what a user reads. Alone in a process, whose limits stay low.
"""

import ctypes
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from exsearch.agent.journal import read_journal
from exsearch.core.jsonl import write_json, write_jsonl
from exsearch.core.trouble import machine_trouble
from exsearch.corpus.importing import open_source
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import Corpus, add_passages, write_corpus
from exsearch.engine.models.builtin import resolve_model
from exsearch.evaluation.scores import Scores, write_scores
from exsearch.processes import compute
from exsearch.questions.question import Question, read_questions
from exsearch.questions.readers.records import read_records
from exsearch.retrieval.encoders.load import load_checkpoint
from exsearch.retrieval.index.build import build_index
from exsearch.retrieval.index.open import open_index
from exsearch.retrieval.open import open_retriever
from exsearch.runs.evaluations import read_evaluation
from exsearch.runs.reader import RunReader
from exsearch.training.resume import load_resume_point, save_resume_point, write_tensors
from exsearch.training.validation import read_best
from tiny_sentence_models import save_bert

THINGS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "corpus": (lambda at: Corpus.open(at / "corpus"), ["corpus"]),
    "index": (lambda at: open_index(at / "index"), ["index"]),
    "extension": (lambda at: build_index(Corpus.open(at / "corpus"), "bm25", at / "index"), ["index/segments"]),
    "vectors": (lambda at: open_index(at / "late"), ["late"]),
    "encoder": (lambda at: load_checkpoint(str(at / "encoder")), ["encoder"]),
    "model": (lambda at: resolve_model(str(at / "encoder")), ["encoder"]),
    "questions": (lambda at: read_questions(at / "questions.jsonl"), ["questions.jsonl"]),
    "records": (lambda at: list(read_records(at / "questions.jsonl")), ["questions.jsonl"]),
    "passages": (lambda at: open_source(str(at / "passages.jsonl")), ["passages.jsonl"]),
    "journal": (lambda at: read_journal(at / "journal.jsonl"), ["journal.jsonl"]),
    "run": (lambda at: RunReader(at / "run").scores("iter-1"), ["run"]),
    "evaluation": (lambda at: read_evaluation(at / "run/eval/iter-1"), ["run/eval/iter-1"]),
    "recorded searches": (lambda at: open_retriever(f"replay:{at / 'searches.sqlite'}"), ["searches.sqlite"]),
    "resume point": (lambda at: load_resume_point(at / "resume", ["a"], lambda step, read: None), ["resume"]),
    "best weights": (lambda at: read_best(at / "best.safetensors"), ["best.safetensors"]),
}


def prepare(at: Path) -> None:
    write_corpus(at / "corpus", [Passage(f"p{row}", f"Lamp {row}", "green " * 99) for row in range(9)])
    build_index(Corpus.open(at / "corpus"), "bm25", at / "index")
    save_bert(at / "encoder")
    build_index(Corpus.open(at / "corpus"), "late", at / "late", encoder=str(at / "encoder"), token_bytes=8)
    write_jsonl(at / "questions.jsonl", [Question("q", "What?", ["that"])])
    write_jsonl(at / "passages.jsonl", [Passage("p", "Lamp", "green")])
    read_journal(at / "journal.jsonl")
    write_scores(at / "run/eval/iter-1", Scores("iter-1", "0" * 16, {}, {}, {}, []))
    write_json(at / "run/summary.json", {})
    open_retriever(str(at / "index"), record_to=at / "searches.sqlite").search(["lamp"], 1)
    save_resume_point(at / "resume", 3, [("weight/a", torch.ones(3))])
    write_tensors(at / "best.safetensors", [("weight", torch.ones(3))], {"best": json.dumps({"step": 1, "loss": 2.0})})


def outcome(opened: Callable[[], object]) -> tuple[str, str]:
    try:
        opened()
    except Exception as error:
        return type(error).__name__, str(machine_trouble(error) or error)
    return "", ""


def take_files(at: Path) -> dict[str, tuple[str, str]]:
    """With no descriptor left, then with ever more, until everything opens."""
    for name, (opened, _) in THINGS.items():
        assert outcome(lambda opened=opened: opened(at)) == ("", ""), name
    found: dict[str, tuple[str, str]] = {}
    for left in range(100):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3 + left, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        now = {f"{name}, {left}": outcome(lambda opened=opened: opened(at)) for name, (opened, _) in THINGS.items()}
        found |= {name: failed for name, failed in now.items() if failed[0]}
        if not any(failed for failed, _ in now.values()):
            break
    return found


def take_permission(at: Path) -> dict[str, tuple[str, str]]:
    """With the files closed, then with the folders closed; the superuser gives up to read what is closed."""
    if os.geteuid() == 0:
        drop_capabilities()
        compute.run(drop_capabilities)  # a thread has its own
    found = {}
    for name, (opened, paths) in THINGS.items():
        for path in (at / path for path in paths):
            files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
            for what, closed in (("file", files), ("folder", [path] if path.is_dir() else [])):
                modes = {each: each.stat().st_mode for each in closed}
                for each in closed:
                    each.chmod(0)
                if closed:
                    found[f"{name}, {what}"] = outcome(lambda opened=opened: opened(at))
                for each, mode in modes.items():
                    each.chmod(mode)
    return found


def drop_capabilities() -> None:
    """Give up what lets the superuser open every file (CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH)."""
    library = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert library.capget(header, data) == 0
    for part in (0, 1):  # effective, permitted
        data[part] &= ~0b110
    assert library.capset(header, data) == 0


def take_memory(at: Path) -> dict[str, tuple[str, str]]:
    """With less left than the mapped files need."""
    big = add_passages(at / "corpus", [Passage("big", "", "word " * (8 << 20))])
    Corpus.open(big.folder)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + (16 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    return {"corpus": outcome(lambda: Corpus.open(big.folder))}


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    prepare(folder)
    take = {"files": take_files, "permission": take_permission, "memory": take_memory}[sys.argv[1]]
    print(json.dumps(take(folder)))
