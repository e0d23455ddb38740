"""What the trajectories of a journal depend on, kept beside it, so that no old result passes for a new one.

A trajectory depends on its question, on the settings by which it was drawn (`effects.py` has which these are), and on
what some of them only name: the model, its chat template, the index. How many are drawn changes none of them, nor does
where, how fast and with how much patience.
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
"""So many differences between questions are named in an error."""


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of a question its trajectories depend on."""

    text: str
    answers: list[str] | None = None
    """None where no answer was scored."""


class Origin(msgspec.Struct, frozen=True):
    """The content of NAME.origin.json."""

    settings: Settings
    """By their keys; of what names a file or a model, what it stood for."""
    questions: dict[str, Asked]
    """By id."""
    by_aliases: int = 0
    """How many of them, the first ones, a version wrote that did not keep this, and scored aliases alone."""


def origin_of(settings: Settings, draw: Draw, questions: list[Question]) -> Origin:
    """Return what trajectories of these questions depend on, by the `settings` of what rolls out."""
    drawn = {"seed": draw.seed, "score_answers": draw.score_answers, **on_each("explore", draw)}
    scored = draw.score_answers or draw.score_opening or draw.score_steps or draw.branches > 1
    asked = {each.id: Asked(each.text, each.answers if scored else None) for each in questions}
    return Origin(settings | drawn, asked)


def known_before_loading(config: AgentConfig) -> Settings:
    """Return the settings of an agent, by their keys, but for the day: an existing journal tells it (`as_begun`)."""
    return {key: value for key, value in on_each("agent", config).items() if key != "agent.date"}


def origin_path(journal: Path) -> Path:
    """Return the file that says what the trajectories of a journal depend on."""
    return journal.with_name(f"{journal.name}.origin.json")


def is_told(journal: Path) -> bool:
    """Return whether it is known what the trajectories of a journal depend on, or there are none."""
    return origin_path(journal).is_file() or not _holds_any(journal)


def check_origin(journal: Path, wanted: Origin) -> None:
    """Raise UsageError where the trajectories of a journal do not depend on what is `wanted`; names what differs.

    A journal without trajectories, or of a version that did not keep what they depend on, passes, and so do settings
    that `wanted` does not name. Those that the journal does not name came later and had their defaults.
    """
    path = origin_path(journal)
    if not _holds_any(journal) or not path.is_file():
        return
    kept = read_json(path, Origin)
    before = msgspec.to_builtins(dict(leaves(Config()))) | kept.settings
    differing = [key for key, value in wanted.settings.items() if key in before and before[key] != value]
    told = [
        _named(key, before[key], wanted.settings[key])
        for key in differing
        if key != CHAT_FORMAT or differing == [CHAT_FORMAT]  # which follows from others, too: from the grammar's prompt
    ]
    told += _other_questions(kept, wanted)
    if told:
        raise UsageError(
            f"{journal}: holds trajectories that were made otherwise: {'; '.join(told)}. Set it as it was, choose "
            "another file or remove this one"
        )


def scored_by_aliases(journal: Path) -> int:
    """Return how many trajectories of a journal, its first ones, are of an earlier version, scored by aliases alone."""
    path = origin_path(journal)
    return read_json(path, Origin).by_aliases if path.is_file() else 0


def check_questions(journal: Path, questions: list[Question]) -> None:
    """Raise UsageError where the trajectories of a journal are of other questions or answers under the same ids."""
    check_origin(journal, Origin({}, {each.id: Asked(each.text, each.answers) for each in questions}))


def keep_origin(journal: Path, origin: Origin) -> None:
    """Write what the trajectories of a journal depend on from now on, and what those of other questions did."""
    path = origin_path(journal)
    kept = read_json(path, Origin) if _holds_any(journal) and path.is_file() else None
    questions = {**(kept.questions if kept else {}), **origin.questions}
    merged = Origin(origin.settings, questions, kept.by_aliases if kept else origin.by_aliases)
    if kept != merged:
        write_json(path, merged)


def _holds_any(journal: Path) -> bool:
    return journal.is_file() and journal.stat().st_size > 0


def _named(key: str, before: object, after: object) -> str:
    if key == CHAT_FORMAT or EFFECTS.get(key) == "content":
        return other_content(key, str(before), str(after))
    return difference(key, before, after)


def _other_questions(kept: Origin, wanted: Origin) -> list[str]:
    differing = [
        difference(f"question {id!r}, {name}", getattr(kept.questions[id], name), getattr(asked, name))
        for id, asked in wanted.questions.items()
        for name in Asked.__struct_fields__
        if id in kept.questions and getattr(kept.questions[id], name) != getattr(asked, name)
    ]
    more = [f"and {len(differing) - _NAMED} more of other questions"] if len(differing) > _NAMED else []
    return differing[:_NAMED] + more
