"""The action between search and record: which passages the model selects is read, kept, taught and shown."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammar import Action, MalformedError
from exsearch.agent.grammars.selecting import SelectingGrammar
from exsearch.agent.rollout import Agent, Draw
from exsearch.agent.trajectory import StopReason, Trajectory
from exsearch.config import AgentConfig
from exsearch.corpus.passage import Passage
from exsearch.questions.question import Question, SubQuestion
from exsearch.report.passages import PassageTable
from exsearch.report.trajectories import page_trajectory
from exsearch.warmup.write import gold_trajectories
from scripted import ScriptedEngine, StaticRetriever

GRAMMAR = SelectingGrammar()
CONFIG = AgentConfig(grammar="exsearch-select", max_steps=3, passages=2, turn_tokens=80)
PASSAGES = [Passage("a", "Italy", "Its capital is Rome."), Passage("b", "France", "Its capital is Paris.")]
QUESTION = Question(
    "q",
    "Which city is the capital of France?",
    ["Paris"],
    gold_passages=["b"],
    sub_questions=[SubQuestion("capital of France", ["Paris"], "b", "Its capital is Paris.")],
)


def rolled_out(chat: ChatFormat, later: str) -> Trajectory:
    turns = ("<QUERY> capital of France", later, "Paris")
    engine = ScriptedEngine(chat, lambda prompt, turn, seed: turns[turn])
    agent = Agent(engine, StaticRetriever(PASSAGES), chat, CONFIG)
    [trajectory] = agent.rollout([(QUESTION, 0)], Draw(7, 0.0))
    return trajectory


@given(st.lists(st.integers(1, 9999), unique=True, max_size=5).map(tuple), st.none() | st.just("capital of France"))
def test_what_is_selected_is_read_back_in_its_order(selected: tuple[int, ...], query: str | None) -> None:
    action = Action("It is Paris.", query, selected=selected)
    assert GRAMMAR.parse(GRAMMAR.turn(action), first=False) == action


@pytest.mark.parametrize(
    "turn",
    [
        "<FACT> x <FINAL>",
        "<SELECT> <FACT> x <FINAL>",
        "<SELECT> 0 <FACT> x <FINAL>",
        "<SELECT> 1 2 <FACT> x <FINAL>",
        "<SELECT> 1, 1 <FACT> x <FINAL>",
        "<SELECT> 1, none <FACT> x <FINAL>",
        "<SELECT> [1] <FACT> x <FINAL>",
        "<SELECT> first <FACT> x <FINAL>",
        "<SELECT> 1 <SELECT> 2 <FACT> x <FINAL>",
        "<SELECT> 1 <FACT> x <SELECT> 2 <FINAL>",
        "<SELECT> 1 <FINAL>",
        "<SELECT> 1",
        "<FACT> x <SELECT> 1 <FINAL>",
    ],
)
def test_anything_but_one_list_of_numbers_before_the_record_is_malformed(turn: str) -> None:
    with pytest.raises(MalformedError):
        GRAMMAR.parse(turn, first=False)


def test_nothing_is_selected_before_a_search() -> None:
    assert GRAMMAR.turn(Action(None, "capital")) == "<QUERY> capital"
    with pytest.raises(MalformedError):
        GRAMMAR.parse("<SELECT> 1 <QUERY> capital", first=True)


def test_a_step_keeps_what_was_selected_from_its_passages(chat: ChatFormat) -> None:
    trajectory = rolled_out(chat, "<SELECT> 2, 1 <FACT> Its capital is Paris. <FINAL>")
    assert trajectory.answer == "Paris"
    assert [(step.selected, step.evidence) for step in trajectory.steps] == [([2, 1], "Its capital is Paris.")]
    assert msgspec.json.decode(msgspec.json.encode(trajectory), type=Trajectory) == trajectory
    [step] = page_trajectory(trajectory, PassageTable()).steps
    assert step.selected == [2, 1]


def test_a_passage_that_was_not_shown_cannot_be_selected(chat: ChatFormat) -> None:
    trajectory = rolled_out(chat, "<SELECT> 3 <FACT> Its capital is Paris. <FINAL>")
    assert trajectory.stop_reason == StopReason.MALFORMED
    assert trajectory.steps[0].selected is None


def test_gold_trajectories_select_the_passages_that_the_evidence_is_from(chat: ChatFormat) -> None:
    [trajectory] = gold_trajectories([QUESTION], StaticRetriever(PASSAGES), chat, CONFIG)
    [step] = trajectory.steps
    assert step.selected == [2]
    said = chat.decode([id for id, mask in zip(trajectory.token_ids, trajectory.loss_mask, strict=True) if mask])
    assert "<SELECT> 2 <FACT> Its capital is Paris. <FINAL>" in said


def test_without_it_nothing_changes(chat: ChatFormat) -> None:
    plain = msgspec.structs.replace(CONFIG, grammar="exsearch")
    [trajectory] = gold_trajectories([QUESTION], StaticRetriever(PASSAGES), chat, plain)
    assert trajectory.steps[0].selected is None
    assert "<SELECT>" not in chat.decode(trajectory.token_ids)
