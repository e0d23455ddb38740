"""Everything besides the model that a score depends on: the conditions, and the method tried under them.

Scores can be compared only under equal conditions, whose fingerprint is printed with every score. The method is how
model and retriever talk (a grammar and its wording, or a baseline without a model); two methods may be compared.
"""

from pathlib import Path
from typing import Any

import msgspec

from exsearch.agent.grammar import Grammar
from exsearch.agent.grammars.registry import make_grammar
from exsearch.config import AgentConfig
from exsearch.core.errors import UsageError
from exsearch.core.fingerprint import fingerprint
from exsearch.core.jsonl import read_json, write_json
from exsearch.effects import difference
from exsearch.questions import normalise
from exsearch.questions.question import Question

PROTOCOL = "protocol.json"
_ADDED = ("repeated", "date")
"""Conditions omitted from the fingerprint at the value that all had before there was a choice; keeps old fingerprints.
"""


class Protocol(msgspec.Struct, frozen=True):
    """The conditions of an evaluation, and its method."""

    method: str
    """Name of the grammar, or `majority`."""
    grammar: str
    """Fingerprint of the grammar's wording; empty for a baseline without a grammar."""
    agent: dict[str, int | str]
    """Searches, passages and token budgets: the settings of `[agent]` except the grammar and its prompt."""
    temperature: float
    index: str
    """Fingerprint of the index, which covers the corpus."""
    questions: str
    """Fingerprint of the questions with their gold answers, in order."""
    question_count: int
    normaliser: str = normalise.NAME
    version: int = 1
    """Raised when the evaluation code changes what a score means."""

    @property
    def fingerprint(self) -> str:
        """Return the 16 hex digits printed with every score: those of the conditions, whatever the method."""
        return fingerprint({name: value for name, value in _fields(self).items() if name not in ("method", "grammar")})


def make_protocol(
    agent: AgentConfig, index: str, questions: list[Question], grammar: Grammar | None = None
) -> Protocol:
    """Return the protocol of a greedy evaluation with the agent's grammar.

    `index` is the fingerprint of the index. The grammar is made from the settings if none is given.
    """
    budgets = _fields(agent)
    del budgets["prompt"], budgets["thinking"]  # they belong to the method, and are in the grammar's fingerprint
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
    """Return the fingerprint of the grammar's wording and of how the model is prompted."""
    wording = grammar.fingerprint
    return wording if agent.thinking == "template" else fingerprint([wording, agent.thinking])


def write_protocol(path: Path, protocol: Protocol) -> None:
    """Write the protocol with its fingerprint as JSON."""
    write_json(path, _written(protocol))


def check_protocol(folder: Path, protocol: Protocol) -> None:
    """Raise UsageError, naming the differences, if the folder has an (even unfinished) evaluation with another."""
    path = folder / PROTOCOL
    if not path.exists():
        return
    before, now = _flat(read_json(path, dict[str, Any])), _flat(_written(protocol))
    if before == now:
        return
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key) and key != "fingerprint"]
    differences = "; ".join(difference(key, before.get(key), now.get(key)) for key in keys)
    raise UsageError(
        f"{folder}: has an evaluation with another protocol: {differences or 'its fingerprint'} (see {PROTOCOL}); "
        "choose another folder"
    )


def _flat(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields under the keys of their settings, if they have any."""
    rest = {key: value for key, value in fields.items() if key != "agent"}
    return rest | {f"agent.{key}": value for key, value in (fields.get("agent") or {}).items()}


def _written(protocol: Protocol) -> dict[str, Any]:
    return {"fingerprint": protocol.fingerprint, **_fields(protocol)}


def _fields(record: msgspec.Struct) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(record)
    return fields
