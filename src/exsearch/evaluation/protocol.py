"""Everything a score depends on besides the model: the conditions, and the method that was tried under them.

Scores compare only under equal conditions; their fingerprint is printed beside every score. The method is how model and
retriever talk (a grammar and its wording, or a baseline without a model): methods are what comparisons are about.
"""

from pathlib import Path
from typing import Any

import msgspec

from exsearch.agent.grammar import Grammar
from exsearch.agent.grammars.known import make_grammar
from exsearch.config import AgentConfig
from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import read_json, write_json
from exsearch.effects import difference
from exsearch.questions import normalise
from exsearch.questions.question import Question

PROTOCOL = "protocol.json"
_ADDED = ("repeated", "date")
"""Conditions left out where they are what all had before there was a choice, so that older fingerprints stay."""


class Protocol(msgspec.Struct, frozen=True):
    """The conditions of an evaluation, and its method."""

    method: str
    """Name of the grammar, or `majority`."""
    grammar: str
    """Fingerprint of the grammar's wording; empty where there is none."""
    agent: dict[str, int | str]
    """Searches, passages and token budgets: the settings of that section but for the grammar and its prompt."""
    temperature: float
    index: str
    """Fingerprint of the index, and by it of the corpus."""
    questions: str
    """Fingerprint of the questions with their gold answers, in order."""
    question_count: int
    normaliser: str = normalise.NAME
    version: int = 1
    """Raised when the evaluation code changes what a score means."""

    @property
    def fingerprint(self) -> str:
        """Return the 16 hex digits printed beside every score: those of the conditions, whatever the method."""
        return fingerprint({name: value for name, value in _fields(self).items() if name not in ("method", "grammar")})


def make_protocol(
    agent: AgentConfig, index: str, questions: list[Question], grammar: Grammar | None = None
) -> Protocol:
    """Return the protocol of a greedy evaluation with the agent's grammar, which is made here if it is not at hand.

    `index` is the fingerprint of the index.
    """
    budgets = _fields(agent)
    del budgets["prompt"], budgets["thinking"]  # which belong to the method, and so to the grammar's fingerprint
    for name, default in _fields(AgentConfig()).items():
        if name in _ADDED and budgets[name] == default:
            del budgets[name]
    return Protocol(
        method=budgets.pop("grammar"),
        grammar=_wording(agent, grammar or make_grammar(agent)),
        agent=budgets,
        temperature=0.0,
        index=index,
        questions=fingerprint(questions),
        question_count=len(questions),
    )


def _wording(agent: AgentConfig, grammar: Grammar) -> str:
    """Return the fingerprint of what the model is told and how it is to speak."""
    wording = grammar.fingerprint
    return wording if agent.thinking == "template" else fingerprint([wording, agent.thinking])


def write_protocol(path: Path, protocol: Protocol) -> None:
    """Write the protocol with its fingerprint as JSON."""
    write_json(path, _written(protocol))


def check_protocol(folder: Path, protocol: Protocol) -> None:
    """Raise UsageError if the folder holds an evaluation, be it unfinished, of another protocol; names what differs."""
    path = folder / PROTOCOL
    if not path.exists():
        return
    before, now = _flat(read_json(path, dict[str, Any])), _flat(_written(protocol))
    if before == now:
        return
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key) and key != "fingerprint"]
    told = "; ".join(difference(key, before.get(key), now.get(key)) for key in keys)
    raise UsageError(
        f"{folder}: holds an evaluation with another protocol: {told or 'its fingerprint'} (see {PROTOCOL}); choose "
        "another folder"
    )


def _flat(written: dict[str, Any]) -> dict[str, Any]:
    """Return the fields by the keys of the settings that they have, if any."""
    rest = {key: value for key, value in written.items() if key != "agent"}
    return rest | {f"agent.{key}": value for key, value in (written.get("agent") or {}).items()}


def _written(protocol: Protocol) -> dict[str, Any]:
    return {"fingerprint": protocol.fingerprint, **_fields(protocol)}


def _fields(record: msgspec.Struct) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(record)
    return fields
