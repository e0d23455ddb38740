"""Records what the trajectories of a journal depend on, next to it, so that old results are not taken for new ones.

A trajectory depends on its question, on the settings that it was drawn with (see `effects.py`), and on the content of
what some settings only name: model, chat template, index. It does not depend on how many are drawn, nor on where, how
fast and with which timeouts they are rolled out.
"""

from pathlib import Path

import msgspec

from exsearch.agent.rollout import CHAT_FORMAT, Draw
from exsearch.config import AgentConfig, Config
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_json, write_json
from exsearch.effects import EFFECTS, Settings, difference, leaves, on_each, other_content
from exsearch.questions.question import Question

_NAMED = 3
"""Maximum number of differences between questions that an error shows."""


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts of a question that its trajectories depend on."""

    text: str
    answers: list[str] | None = None
    """Gold answers; None if no answer was scored."""


class Origin(msgspec.Struct, frozen=True):
    """The content of NAME.origin.json."""

    settings: Settings
    """Settings by key; for a file or a model, its fingerprint instead of its name."""
    questions: dict[str, Asked]
    """By id."""
    by_aliases: int = 0
    """Number of trajectories, the first ones, written by a version without this file, which scored only aliases."""


def origin_of(settings: Settings, draw: Draw, questions: list[Question]) -> Origin:
    """Return what trajectories of these questions depend on, given the `settings` of the agents."""
    draw_settings = {"seed": draw.seed, "score_answers": draw.score_answers, **on_each("explore", draw)}
    scored = draw.score_answers or draw.score_opening or draw.score_steps or draw.branches > 1
    records = {each.id: Asked(each.text, each.answers if scored else None) for each in questions}
    return Origin(settings | draw_settings, records)


def known_before_loading(config: AgentConfig) -> Settings:
    """Return an agent's settings, by key, except the date, which an existing journal decides (`as_begun`)."""
    return {key: value for key, value in on_each("agent", config).items() if key != "agent.date"}


def origin_path(journal: Path) -> Path:
    """Return the path of the file that records what the trajectories of a journal depend on."""
    return journal.with_name(f"{journal.name}.origin.json")


def is_recorded(journal: Path) -> bool:
    """Return whether the settings of a journal's trajectories are recorded, or it has no trajectories."""
    return origin_path(journal).is_file() or not _holds_any(journal)


def check_origin(journal: Path, wanted: Origin) -> None:
    """Raise UsageError, naming the differences, if a journal's trajectories depend on other things than `wanted`.

    A journal passes if it has no trajectories, or if its version did not record what they depend on. Settings that
    `wanted` does not have are ignored; settings that the journal does not have are newer and had their defaults.
    """
    path = origin_path(journal)
    if not _holds_any(journal) or not path.is_file():
        return
    recorded = read_json(path, Origin)
    before = msgspec.to_builtins(dict(leaves(Config()))) | recorded.settings
    differing = [key for key, value in wanted.settings.items() if key in before and before[key] != value]
    differences = [
        _named(key, before[key], wanted.settings[key])
        for key in differing
        if key != CHAT_FORMAT or differing == [CHAT_FORMAT]  # it also follows from others, such as the grammar
    ]
    differences += _other_questions(recorded, wanted)
    if differences:
        raise UsageError(
            f"{journal}: has trajectories made with other settings: {'; '.join(differences)}. Restore them, choose "
            "another file or remove this one"
        )


def scored_by_aliases(journal: Path) -> int:
    """Return how many of a journal's trajectories, its first ones, an earlier version scored with aliases only."""
    path = origin_path(journal)
    return read_json(path, Origin).by_aliases if path.is_file() else 0


def check_questions(journal: Path, questions: list[Question]) -> None:
    """Raise UsageError if a journal's trajectories belong to questions with the same ids but other text or answers."""
    check_origin(journal, Origin({}, {each.id: Asked(each.text, each.answers) for each in questions}))


def keep_origin(journal: Path, origin: Origin) -> None:
    """Record what a journal's trajectories depend on from now on; keep the record for other questions."""
    path = origin_path(journal)
    recorded = read_json(path, Origin) if _holds_any(journal) and path.is_file() else None
    questions = {**(recorded.questions if recorded else {}), **origin.questions}
    merged = Origin(origin.settings, questions, recorded.by_aliases if recorded else origin.by_aliases)
    if recorded != merged:
        write_json(path, merged)


def _holds_any(journal: Path) -> bool:
    return journal.is_file() and journal.stat().st_size > 0


def _named(key: str, before: object, after: object) -> str:
    if key == CHAT_FORMAT or EFFECTS.get(key) == "content":
        return other_content(key, str(before), str(after))
    return difference(key, before, after)


def _other_questions(recorded: Origin, wanted: Origin) -> list[str]:
    differing = [
        difference(f"question {id!r}, {name}", getattr(recorded.questions[id], name), getattr(record, name))
        for id, record in wanted.questions.items()
        for name in Asked.__struct_fields__
        if id in recorded.questions and getattr(recorded.questions[id], name) != getattr(record, name)
    ]
    more = [f"and {len(differing) - _NAMED} more of other questions"] if len(differing) > _NAMED else []
    return differing[:_NAMED] + more
