"""The formats of question files: recognises a record's format, and reads it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exsearch.core.errors import UsageError
from exsearch.core.registry import unknown
from exsearch.questions.question import Question, read_questions, sound
from exsearch.questions.readers.annotated import Annotated, SkippedRecord
from exsearch.questions.readers.companions import Companions
from exsearch.questions.readers.frameworks import (
    is_flashrag,
    is_kilt,
    is_search_r1,
    is_searchlm,
    read_flashrag,
    read_kilt,
    read_search_r1,
    read_searchlm,
)
from exsearch.questions.readers.musique import is_musique, read_musique
from exsearch.questions.readers.open_domain import (
    is_bamboogle,
    is_nq_open,
    is_plain,
    is_popqa,
    is_triviaqa,
    read_bamboogle,
    read_plain,
    read_popqa,
    read_triviaqa,
)
from exsearch.questions.readers.own import is_own, read_own
from exsearch.questions.readers.records import Record, read_records
from exsearch.questions.readers.supporting import is_hotpotqa, read_hotpotqa
from exsearch.questions.readers.two_wiki import TwoWikiReader, is_two_wiki

TWO_WIKI = "2wikimultihopqa"
_NQ_OPEN = "nq-open"
_PLAIN = "plain"
_ALONE = Companions()


@dataclass(frozen=True)
class Format:
    """A format of question files."""

    recognises: Callable[[dict[str, Any]], bool]
    """Whether a record, by its keys, is in this format; tried in the order of the formats."""
    read: Callable[[dict[str, Any], str], Annotated | SkippedRecord]
    """Converts a record to a question, with this id if it has none.

    Raises ValueError, such as ShapeError, if it is malformed.
    """


def known_formats(companions: Companions = _ALONE) -> dict[str, Format]:
    """Return the formats by name; the companion files are those of 2WikiMultihopQA."""
    two_wiki = TwoWikiReader(companions)
    return {
        "exsearch": Format(is_own, read_own),
        TWO_WIKI: Format(is_two_wiki, two_wiki.read),
        "hotpotqa": Format(is_hotpotqa, read_hotpotqa),
        "musique": Format(is_musique, read_musique),
        "triviaqa": Format(is_triviaqa, read_triviaqa),
        "popqa": Format(is_popqa, read_popqa),
        "kilt": Format(is_kilt, read_kilt),
        "search-r1": Format(is_search_r1, read_search_r1),
        "flashrag": Format(is_flashrag, read_flashrag),
        "searchlm": Format(is_searchlm, read_searchlm),
        "bamboogle": Format(is_bamboogle, read_bamboogle),
        _NQ_OPEN: Format(is_nq_open, read_plain),
        _PLAIN: Format(is_plain, read_plain),
    }


def read_any_questions(path: Path, unanswered: bool = False, emptied: bool = False) -> list[Question]:
    """Read questions in any known format; records that the format skips are skipped. Raises UsageError as `sound`."""
    first = next(iter(read_records(path)), None)
    if first is None or is_own(first.fields):
        return read_questions(path, unanswered=unanswered, emptied=emptied)
    records = (record for _, record in QuestionFile(path, known_formats()))
    questions = (record.question for record in records if isinstance(record, Annotated))
    return list(sound(questions, str(path), unanswered, emptied))


class QuestionFile:
    """A file of questions in one format. A `plain` file may have some records in that of Natural Questions."""

    def __init__(self, path: Path, formats: Mapping[str, Format], name: str | None = None) -> None:
        """Read `path` in the format `name`, or in the one recognised from its first record."""
        if name is not None and name not in formats:
            raise UsageError(unknown("format", name, formats))
        self.path = path
        self.format = name
        """The format's name; None before the first record, if it is to be recognised."""
        self._formats = formats
        self._named = name is not None

    def __iter__(self) -> Iterator[tuple[str, Annotated | SkippedRecord]]:
        """Yield the position of each record, and its content. Raises UsageError for a malformed or foreign record.

        A question without an id is named after the file, without its ending, and its number.
        """
        name = self.path.name.removesuffix(".gz")
        stem = name.rpartition(".")[0] or name
        for record in read_records(self.path):
            if not self._named:
                self._recognise(record)
            assert self.format is not None
            try:
                content = self._formats[self.format].read(record.fields, f"{stem}-{record.number}")
            except ValueError as error:
                raise UsageError(f"{self.path}, {record.place}: {error} (read as {self.format})") from None
            yield record.place, content

    def _recognise(self, record: Record) -> None:
        name = next((name for name, format in self._formats.items() if format.recognises(record.fields)), None)
        if name is None:
            keys = ", ".join(record.fields) or "none"
            raise UsageError(
                f"{self.path}, {record.place}: is in none of the known formats ({', '.join(self._formats)}); "
                f"its keys are {keys}"
            )
        if {self.format, name} == {_NQ_OPEN, _PLAIN}:
            name = _PLAIN  # some answers are lists, others are not
        elif self.format not in (None, name):
            raise UsageError(
                f"{self.path}, {record.place}: is in the format {name}, but the records before it in {self.format}; "
                "split the file, or name one format for all (--format)"
            )
        self.format = name
