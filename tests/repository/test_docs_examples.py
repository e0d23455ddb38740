"""What the documentation tells people to type exists: commands, options, settings, names of the Python interface."""

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

import exsearch as xs
from exsearch.cli.main import exsearch as command_line
from exsearch.config import Config

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
KEYS = {
    f"{section.name}.{key}"
    for section in msgspec.structs.fields(Config)
    for key in getattr(section.type, "__struct_fields__", ())
}


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def typed(text: str) -> Iterator[list[str]]:
    """The words of each `exsearch` command in lines of a shell, without comments and variables before it."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(re.split(r"\s#\s|\s+\|\s", line)[0].replace("[", " ").replace("]", " "))
        while words and "=" in words[0]:
            words.pop(0)
        if words[:1] == ["exsearch"]:
            yield words[1:]


COMMANDS = [
    pytest.param(words, id=f"{page.stem}: {' '.join(words[:3])}")
    for page in PAGES
    for block in blocks(page, "shell")
    for words in typed(block)
]


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words of a line name, and the words after its name."""
    command: click.Command = command_line
    rest = [word for word in words if word not in ("...", "…")]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"there is no command {rest[0]!r}"
        command, rest = found, rest[1:]
    return command, rest


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_of_the_documentation_has_these_options_and_settings(words: list[str]) -> None:
    command, rest = command_of(words)
    known = {name for part in command.params for name in (*part.opts, *part.secondary_opts)} | {"--help", "-h"}
    used = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
    assert sorted(used - known) == []
    if command.name != "index":  # which sets parameters of the kind of index
        settings = [after.partition("=")[0] for word, after in pairwise(rest) if word == "--set"]
        assert sorted(set(settings) - KEYS) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_settings_and_names_that_a_page_mentions_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    sections = "|".join({key.partition(".")[0] for key in KEYS})
    mentioned = set(re.findall(rf"`((?:{sections})\.[a-z_0-9]+)(?: = [^`]*|=[^`]*)?`", text))
    assert sorted(mentioned - KEYS - {"tracking.json"}) == []  # a file of a run
    assert sorted(set(re.findall(r"\bxs\.([A-Za-z_]+)", text)) - set(xs.__all__)) == []


def code_of(page: str) -> dict[str, Any]:
    """What the first Python block of a guide defines."""
    names: dict[str, Any] = {}
    exec(compile(blocks(ROOT / "docs" / "how-to" / page, "python")[0], page, "exec"), names)
    return names


def test_the_weighting_of_the_guide_weighs_above_average_samples() -> None:
    samples = [
        xs.Sample(logprob=-1.0, mean_logprob=-1.0, alias_mean_logprob=-1.0, exact_match=f1, f1=f1, gain=None)
        for f1 in (1.0, 0.0, 0.5, 0.5)
    ]
    above_average = code_of("add-a-weighting.md")["above_average"]
    assert above_average(samples, 1.0) == [1.0, 0.0, 0.0, 0.0]
    assert above_average(samples[2:], 1.0) == [0.0, 0.0]


def test_the_grammar_of_the_guide_reads_back_what_it_writes() -> None:
    grammar = code_of("add-a-grammar.md")["PlainWords"]()
    for action, first in [
        (xs.Action(None, "Who built the bridge?"), True),
        (xs.Action("Ada built it.", "Where was Ada born?"), False),
        (xs.Action("Ada was born in Bergen.", None), False),
    ]:
        assert grammar.parse(grammar.turn(action), first) == action
    for text, first in [("Note: x Done.", True), ("Search: x", False), ("I think so.", False)]:
        with pytest.raises(xs.MalformedError):
            grammar.parse(text, first)


def test_the_retriever_of_the_guide_finds_a_passage_by_its_title() -> None:
    passages = list(xs.World(seed=1, passages=300).passages())
    retriever = code_of("add-a-retriever.md")["FullText"](passages)
    found = retriever.search([passages[7].title, "zzzz"], 5)
    assert passages[7].id in [hit.passage.id for hit in found[0]]
    assert [hit.rank for hit in found[0]] == list(range(1, len(found[0]) + 1))
    assert found[1] == []
