"""Converts question files of other formats: checks them, finds their passages in a corpus, and reports leaks."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from exsearch.core.atomic import require_distinct_paths
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import write_jsonl
from exsearch.corpus.store import Corpus
from exsearch.questions.gold_finder import GoldFinder
from exsearch.questions.normalise import normalise
from exsearch.questions.question import Question
from exsearch.questions.readers.annotated import Annotated, NamedPassage, SkippedRecord
from exsearch.questions.readers.companions import Companions, read_companions
from exsearch.questions.readers.formats import TWO_WIKI, QuestionFile, known_formats

MAX_EXAMPLES_SHOWN = 5
"""Maximum number of examples shown per kind of problem."""


class Leak(msgspec.Struct, frozen=True):
    """A question that another file also has, or this one twice, ignoring case, punctuation, typography and articles."""

    id: str
    file: str
    """The other file: one of `--against`, or of the input."""
    other: str
    """The id of the question there."""


class Unresolved(msgspec.Struct, frozen=True):
    """A gold passage that is not in the corpus: a line of `.unresolved.jsonl`."""

    question: str
    passage: NamedPassage


class Usage(msgspec.Struct, frozen=True):
    """How many lines of a companion file belong to imported questions, and how many do not."""

    used: int
    unused: int
    first_unused: list[str]
    """Ids of the first unused lines."""


class ImportedQuestions(msgspec.Struct):
    """The result of an import."""

    questions: int = 0
    formats: Counter[str] = msgspec.field(default_factory=Counter)
    hops: Counter[int] = msgspec.field(default_factory=Counter)
    """Questions by number of hops, if the source has it."""
    answers: int = 0
    """Number of aliases of all questions together."""
    empty_answers: int = 0
    """Aliases dropped because they are empty after normalisation."""
    with_sub_questions: int = 0
    decompositions: Usage | None = None
    """None if there is no such file."""
    aliases: Usage | None = None
    """None if there is no such file."""
    gold_found: int = 0
    """Gold passages named by the data set and found, counted per question and passage."""
    gold_unresolved: int = 0
    gold_without_corpus: int = 0
    """Passages named by title when no corpus was given."""
    gold_ambiguous: int = 0
    """Passages whose title several passages of the source have; also counted as unresolved."""
    with_gold: int = 0
    """Questions all of whose gold passages were found."""
    unresolved: Path | None = None
    """The file that lists the unresolved passages."""
    first_unresolved: list[Unresolved] = []
    skipped: Counter[str] = msgspec.field(default_factory=Counter, name="left_out")
    """Skipped records by reason."""
    first_skipped: list[str] = msgspec.field(default_factory=list, name="first_left_out")
    leaks: list[Leak] = []
    leaks_dropped: bool = False


def import_questions(
    files: Sequence[Path],
    out: Path,
    format: str | None = None,
    *,
    corpus: Corpus | None = None,
    against: Sequence[Path] = (),
    limit: int | None = None,
    drop_leaks: bool = False,
    decompositions: Path | None = None,
    names: Path | None = None,
) -> ImportedQuestions:
    """Write the questions of `files`, at most `limit`, to `out`, with what the sources know about each.

    Without `format`, the format of each file is recognised. Raises UsageError for a file that cannot be read to its
    end, for formats mixed in one file, for an id that occurs twice, if no question is left, for a companion file that
    matches no question, and if `out` is one of the files read; `out` does not change then.
    """
    require_distinct_paths(out, [*files, *against, decompositions, names])
    job = _Import(against, drop_leaks)
    companions = read_companions(decompositions, names)
    formats = known_formats(companions)
    for file in [QuestionFile(path, formats, format) for path in files]:
        if len(job.kept) == limit:
            break
        count = 0
        for place, record in file:
            if (decompositions or names) and file.format != TWO_WIKI:
                raise UsageError(
                    f"{file.path}: is in the format {file.format}; sub-questions and aliases go with {TWO_WIKI}"
                )
            count += job.add(file.path, place, record)
            if len(job.kept) == limit:
                break
        if count:
            job.report.formats[str(file.format)] += count
    if not job.kept:
        raise UsageError(f"{', '.join(map(str, files))}: no question is left: {reasons(job.report)}")
    job.count_used(companions, decompositions, names)
    return job.write(out, corpus)


def reasons(imported: ImportedQuestions) -> str:
    """Return how many records were skipped for which reason."""
    return ", ".join(f"{count} ({reason})" for reason, count in imported.skipped.items()) or "there are no records"


class _Import:
    """The questions kept so far, and what was noticed about them."""

    def __init__(self, against: Sequence[Path], drop_leaks: bool) -> None:
        self.kept: list[Annotated] = []
        self.report = ImportedQuestions(leaks_dropped=drop_leaks)
        self._places: dict[str, str] = {}
        self._asked: dict[str, tuple[str, str]] = {}
        for path in against:
            for _, record in QuestionFile(path, known_formats()):
                if isinstance(record, Annotated):
                    self._asked.setdefault(_words(record.question), (str(path), record.question.id))

    def add(self, path: Path, place: str, record: Annotated | SkippedRecord) -> bool:
        """Keep a record, unless something is wrong with it; return whether it is kept."""
        where = f"{path}, {place}"
        if isinstance(record, SkippedRecord):
            return self._skip(where, record.reason)
        question = record.question
        if question.id in self._places:
            raise UsageError(
                f"{where}: the id {question.id!r} occurs twice, first in {self._places[question.id]} "
                "(a question without an id is named after its file and number)"
            )
        self._places[question.id] = where
        answers = [answer for answer in question.answers if normalise(answer)]
        if not question.text.strip():
            return self._skip(where, "no text", question.id)
        if not question.answers:
            return self._skip(where, "no answer", question.id)
        if not answers:
            return self._skip(where, "no answer of which normalisation leaves anything", question.id)
        words = _words(question)
        if words in self._asked:
            self.report.leaks.append(Leak(question.id, *self._asked[words]))
            if self.report.leaks_dropped:
                return self._skip(where, "asked elsewhere or twice", question.id)
        self._asked.setdefault(words, (str(path), question.id))
        self.report.empty_answers += len(question.answers) - len(answers)
        self.kept.append(msgspec.structs.replace(record, question=msgspec.structs.replace(question, answers=answers)))
        return True

    def _skip(self, where: str, reason: str, id: str | None = None) -> bool:
        self.report.skipped[reason] += 1
        if len(self.report.first_skipped) < MAX_EXAMPLES_SHOWN:
            self.report.first_skipped.append(f"{where}: {reason}" + (f" (id {id!r})" if id is not None else ""))
        return False

    def count_used(self, companions: Companions, decompositions: Path | None, names: Path | None) -> None:
        """Count which lines of the companion files belong to imported questions. Raises UsageError if none do."""
        if decompositions is not None:
            decomposed = {record.question.id for record in self.kept if record.decomposed}
            needed = "a question with the `_id` of a line and as many triples as that has sub-questions"
            self.report.decompositions = _usage(decompositions, companions.decompositions, decomposed, needed)
        if names is not None:
            aliased = {id for record in self.kept for id in record.aliased}
            needed = "a question with the `Q_id` of a line as its `answer_id` or in its `evidences_id`"
            self.report.aliases = _usage(names, companions.names, aliased, needed)

    def write(self, out: Path, corpus: Corpus | None) -> ImportedQuestions:
        """Write the questions kept, and next to them the list of passages that are not in the corpus."""
        report = self.report
        finder = None
        if corpus is not None:
            finder = GoldFinder(corpus, (passage for record in self.kept for passage in _named(record)))
        unresolved: list[Unresolved] = []
        questions = []
        for record in self.kept:
            question = self._resolved(record, finder, unresolved)
            questions.append(question)
            report.questions += 1
            report.answers += len(question.answers)
            report.hops.update([question.hops] if question.hops else [])
            report.with_sub_questions += bool(question.sub_questions)
            report.with_gold += bool(question.gold_passages)
        beside = out.with_name(f"{out.name.removesuffix('.jsonl')}.unresolved.jsonl")
        if unresolved:
            write_jsonl(beside, unresolved)
            report.unresolved, report.first_unresolved = beside, unresolved[:MAX_EXAMPLES_SHOWN]
        else:
            beside.unlink(missing_ok=True)
        write_jsonl(out, questions)
        return report

    def _resolved(self, record: Annotated, finder: GoldFinder | None, unresolved: list[Unresolved]) -> Question:
        """Return a question with the ids of its passages.

        If one of its gold passages is missing, it gets none of them: recall over the others would be too high.
        """
        ids_by_passage = {passage: _find(passage, finder) for passage in _named(record)}
        missing = {_key(passage): passage for passage, ids in ids_by_passage.items() if not ids}
        there = {_key(passage) for passage, ids in ids_by_passage.items() if ids} - missing.keys()
        self.report.gold_found += len(there)
        self.report.gold_ambiguous += sum(passage.ambiguous for passage in missing.values())
        if finder is None:
            self.report.gold_without_corpus += len(missing)
        else:
            self.report.gold_unresolved += len(missing)
            unresolved += [Unresolved(record.question.id, passage) for passage in missing.values()]
        complete = all(ids_by_passage[passage] for passage in record.gold)
        subs = zip(record.question.sub_questions, record.of_sub_questions, strict=True)
        return msgspec.structs.replace(
            record.question,
            gold_passages=list(dict.fromkeys(id for passage in record.gold for id in ids_by_passage[passage]))
            if complete
            else [],
            sub_questions=[
                msgspec.structs.replace(sub, passage=next(iter(ids_by_passage[passage]), None) if passage else None)
                for sub, passage in subs
            ],
        )


def _usage(path: Path, ids: Collection[str], used: Collection[str], needed: str) -> Usage:
    """Count which of a file's ids are used. Raises UsageError, with what a match needs, if none is."""
    if not ids:
        raise UsageError(f"{path}: has no lines")
    unused = [id for id in ids if id not in used]
    if len(unused) == len(ids):
        raise UsageError(
            f"{path}: no question uses any of its {len(ids)} lines (the first is of {unused[0]!r}); it needs {needed}"
        )
    return Usage(len(ids) - len(unused), len(unused), unused[:MAX_EXAMPLES_SHOWN])


def _named(record: Annotated) -> list[NamedPassage]:
    return [*record.gold, *(passage for passage in record.of_sub_questions if passage)]


def _key(passage: NamedPassage) -> tuple[str | None, ...]:
    """Return a key that identifies a passage, whichever of its sentences is meant."""
    return passage.id, passage.title, passage.text


def _find(passage: NamedPassage, finder: GoldFinder | None) -> list[str]:
    """Return the ids of a passage. Without a corpus, only an id without a title is accepted."""
    if finder is not None:
        return finder.find(passage)
    return [passage.id] if passage.id is not None and passage.title is None else []


def _words(question: Question) -> str:
    """Return the words of a question, by which duplicates are recognised.

    Copies of a question differ in quotes, dashes and the composition of letters, which the metrics distinguish.
    """
    composed = unicodedata.normalize("NFKC", question.text)
    words = "".join(character for character in composed if not unicodedata.category(character).startswith("P"))
    return normalise(words) or question.text.strip()
