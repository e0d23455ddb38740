"""Everything a score depends on besides the model. Scores compare only where its fingerprint is equal."""

from pathlib import Path

import msgspec

from exsearch.agent.grammar import ExSearchGrammar
from exsearch.config import AgentConfig
from exsearch.data import normalise
from exsearch.data.question import Question
from exsearch.files import fingerprint, write_json


class Protocol(msgspec.Struct, frozen=True):
    """The conditions of an evaluation."""

    grammar: str
    """Fingerprint of the prompt wording."""
    agent: AgentConfig
    """Searches, passages and token budgets."""
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
        """Return the 16 hex digits printed beside every score."""
        return fingerprint(self)


def make_protocol(agent: AgentConfig, index: str, questions: list[Question]) -> Protocol:
    """Return the protocol of a greedy evaluation."""
    return Protocol(
        grammar=ExSearchGrammar().fingerprint,
        agent=agent,
        temperature=0.0,
        index=index,
        questions=fingerprint(questions),
        question_count=len(questions),
    )


def write_protocol(path: Path, protocol: Protocol) -> None:
    """Write the protocol with its fingerprint as JSON."""
    write_json(path, {"fingerprint": protocol.fingerprint, **msgspec.to_builtins(protocol)})
