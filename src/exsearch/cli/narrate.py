"""What `quickstart` and `train` print: a table of scores, one trajectory in full, one question's weights."""

import random
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from exsearch.agent.trajectory import Trajectory
from exsearch.core.jsonl import read_jsonl
from exsearch.core.messages import printable
from exsearch.evaluation.folder import TRAJECTORIES
from exsearch.evaluation.scores import Figure, read_scores
from exsearch.questions.question import Question, read_questions
from exsearch.runs.layout import RunLayout
from exsearch.runs.records import RunSummary
from exsearch.runs.weighted import Weighted

console = Console(width=110, highlight=False)


def print_table(root: Path, summary: RunSummary) -> None:
    """Print the scores of all models of a run on its test questions."""
    folder = RunLayout(root)
    table = Table(title="Held-out test questions, with 95% bootstrap intervals")
    for column in ("model", "exact match", "F1", "gold passages read", "searches", "malformed", "train p(y|x,z)"):
        table.add_column(column, justify="left" if column == "model" else "right")
    scores = {name: read_scores(folder.test_eval(name)) for name in summary.models}
    for name, score in scores.items():
        figures = score.figures
        probability = summary.train_answer_probability.get(name)
        malformed = sum(row.malformed or 0 for row in score.questions) / len(score.questions)
        table.add_row(
            Text(f"{name} *" if name == summary.best else name, style="bold" if name == summary.best else ""),
            _percent(figures["em"]),
            _percent(figures["f1"]),
            f"{figures['recall'].mean:.0%}",
            f"{figures['searches'].mean:.1f}",
            f"{malformed:.0%}",
            "" if probability is None else f"{probability.mean:.2f} [{probability.low:.2f}, {probability.high:.2f}]",
        )
    console.print(table)
    first = next(iter(scores.values()))
    selection = "the guard's" if any(iteration.guard for iteration in summary.iterations) else "the validation"
    console.print(f"* best on {selection} questions.  n = {first.figures['em'].n}, protocol {first.protocol}")
    for iteration in summary.iterations:
        if iteration.guard:
            console.print(f"{iteration.guard}.")
    if summary.comparison is not None:
        difference = summary.comparison.difference
        console.print(
            f"{summary.comparison.b} against {summary.comparison.a}: {difference.mean * 100:+.1f} points of exact "
            f"match [{difference.low * 100:+.1f}, {difference.high * 100:+.1f}] (paired bootstrap, n = {difference.n})"
        )


def _percent(figure: Figure) -> str:
    return f"{figure.mean:.1%} [{figure.low:.1%}, {figure.high:.1%}]"


def print_trajectory(root: Path, summary: RunSummary) -> None:
    """Print one whole trajectory of the best model: the first right one with at least two searches, if any."""
    folder = RunLayout(root)
    scores = read_scores(folder.test_eval(summary.best))
    right = {row.question_id for row in scores.questions if row.em and row.searches >= 2}
    questions = {question.id: question for question in read_questions(folder.questions("test"))}
    trajectories = list(read_jsonl(folder.test_eval(summary.best) / TRAJECTORIES, Trajectory))
    trajectory = next((t for t in trajectories if t.question_id in right), trajectories[0])
    console.print(
        Panel(render_trajectory(questions[trajectory.question_id], trajectory), title=f"a trajectory of {summary.best}")
    )


def render_trajectory(question: Question, trajectory: Trajectory) -> Text:
    """Return a trajectory as coloured text: think, search, record, answer."""
    text = Text()
    text.append(f"question  {printable(question.text)}\n", style="bold")
    for step in trajectory.steps:
        text.append(f"think     {printable(step.query)}\n", style="cyan")
        for hit in step.hits:
            gold = "  (gold)" if hit.passage.id in question.gold_passages else ""
            text.append(
                f"search    [{hit.rank}] {printable(f'{hit.passage.title}: {hit.passage.text[:110]}')}...{gold}\n",
                style="dim",
            )
        if step.selected is not None:
            text.append(f"select    {', '.join(map(str, step.selected)) or 'none'}\n", style="yellow")
        text.append(f"record    {printable(step.evidence or '-')}\n", style="yellow")
    text.append(f"answer    {printable(str(trajectory.answer))}", style="bold green")
    text.append(f"   (gold: {printable(', '.join(question.answers))}; {trajectory.stop_reason})")
    return text


def print_weights(root: Path, iteration: str) -> None:
    """Print the weights of one question's samples; prefer a question whose samples differ."""
    folder = RunLayout(root)
    groups: dict[str, list[Weighted]] = {}
    for record in read_jsonl(folder.weights(iteration), Weighted):
        groups.setdefault(record.question_id, []).append(record)
    mixed = [g for g in groups.values() if 0 < sum(w.exact_match for w in g) < len(g) and sum(w.weight for w in g) > 0]
    group = random.Random(0).choice(mixed or list(groups.values()))
    questions = {question.id: question for question in read_questions(folder.questions("train"))}
    answers = {
        t.number: t.answer
        for t in read_jsonl(folder.trajectories(iteration), Trajectory)
        if t.question_id == group[0].question_id
    }
    question = questions[group[0].question_id]
    # as Text, because text in square brackets would be read as markup
    table = Table(title=Text(printable(f"{question.text}  (gold: {question.answers[0]})")), title_justify="left")
    for column in ("sample", "its answer", "log p(gold | x, z)", "weight", ""):
        table.add_column(column)
    for record in group:
        logprob = "-" if record.logprob is None else f"{record.logprob:.2f}"
        bar = "#" * round(30 * record.weight)
        answer = Text(printable(answers[record.number] or "-"))
        table.add_row(record.name, answer, logprob, f"{record.weight:.3f}", bar)
    console.print(table)
