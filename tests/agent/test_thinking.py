"""What a model thinks is neither a query nor an answer, whoever runs it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_specs import endpoint_spec
from exsearch.agent.chat import ChatFormat
from exsearch.agent.rollout import Agent, Draw
from exsearch.agent.trajectory import StopReason, Trajectory
from exsearch.compat.searchlm.finetune import TrainingConversation, example_of
from exsearch.compat.searchlm.formats import Message
from exsearch.config import AgentConfig, Config, GrammarName, ModelConfig, WeighConfig
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import write_jsonl
from exsearch.core.thoughts import TAGS, end_of_begun, without_thoughts
from exsearch.core.tokens import TokenIds
from exsearch.corpus.passage import Passage
from exsearch.em.weigh import weigh
from exsearch.engine.base import EngineError
from exsearch.engine.load import load_engine
from exsearch.engine.openai.endpoint import Endpoint
from exsearch.engine.spec import EngineSpec
from exsearch.evaluation.judge import judge
from exsearch.questions.question import Question, SubQuestion
from exsearch.training.example import example_from
from exsearch.warmup.teacher import Teacher, teacher_agent
from exsearch.warmup.write import gold_trajectories, read_warmup
from scripted import ScriptedEngine, StaticRetriever, lines
from scripted_server import Asked, Reply, as_json, serving
from tiny_tokenizers import TEMPLATES, THINKING, tokenizer_of

FRANCE = [Passage("p", "France", "Its capital is Paris.")]
QUESTION = Question(
    "q", "Which city?", ["Paris"], sub_questions=[SubQuestion("capital", ["Paris"], "p", "Its capital is Paris.")]
)
plain = st.text(st.characters(exclude_characters="<>[]\u25c1\u25b7"), max_size=20)


@given(st.sampled_from(TAGS), plain, plain, plain)
def test_thoughts_are_cut_out_wherever_they_stand(tags: tuple[str, str], before: str, thought: str, after: str) -> None:
    begin, end = tags
    assert without_thoughts(before + after) == before + after
    assert without_thoughts(f"{before}{begin}{thought}{end}{after}") == before + after
    assert without_thoughts(f"{thought}{end}{after}") == after, "a server has dropped the beginning"
    assert without_thoughts(f"{thought}{end}{after}", begun=True) == after
    assert without_thoughts(thought, begun=True) is None
    assert without_thoughts(f"{begin}{thought}") is None
    assert without_thoughts(f"{begin}{before}{end}{begin}{thought}") is None
    assert without_thoughts(f"a{before}{begin}{thought}") == f"a{before}"


@given(st.sampled_from(TAGS), plain, plain)
def test_a_prompt_has_begun_a_thought_that_it_does_not_end(tags: tuple[str, str], before: str, inside: str) -> None:
    begin, end = tags
    assert end_of_begun(f"{before}{begin}{inside}") == end
    assert end_of_begun(f"{before}{begin}{inside}{end}") is None
    assert end_of_begun(before) is None


def chat_of(
    template: str, thinking: str = "template", grammar: GrammarName = "exsearch", kind: str = "bytes"
) -> ChatFormat:
    tokenizer = deepcopy(tokenizer_of(kind))
    tokenizer.chat_template = (TEMPLATES | THINKING)[template]
    return ChatFormat(tokenizer, AgentConfig(thinking=thinking, grammar=grammar, turn_tokens=200))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("template", "thinking", "ends"),
    [
        ("begun", "template", "assistant\n<think>\n"),
        ("begun", "on", "assistant\n<think>\n"),
        ("begun", "off", "assistant\n<think>\n\n</think>\n\n"),
        ("begun-switch", "template", "assistant\n<think>\n"),
        ("begun-switch", "off", "assistant\n<think>\n\n</think>\n\n"),
        ("switch", "template", "assistant\n"),
        ("switch", "on", "assistant\n"),
        ("switch", "off", "assistant\n<think>\n\n</think>\n\n"),
        ("emptied", "template", "assistant\n<think>\n"),
        ("emptied", "off", "assistant\n<think>\n\n</think>\n\n"),
        ("ended", "template", "</think>"),
        ("ended", "on", "<think>"),
        ("ended", "off", "</think>"),
        ("shown", "template", "<|assistant|>"),
        ("shown", "on", "<|assistant|>"),
        ("shown", "off", "<|assistant|>\n<think></think>"),
        ("channel", "template", "<|im_start|>assistant<|channel|>final<|message|>"),
        ("chatml", "off", "<|im_start|>assistant\n"),
    ],
)
def test_the_prompt_is_what_the_template_makes_of_it(template: str, thinking: str, ends: str) -> None:
    chat = chat_of(template, thinking)
    assert chat.tokenizer.decode(chat.first_prompt("Who?")).endswith(ends)
    if thinking == "template" and template != "channel":
        own = chat.tokenizer.apply_chat_template([{"role": "user", "content": "Who?"}], add_generation_prompt=True)
        assert chat.first_prompt("Who?") == own["input_ids"]


def test_a_model_that_knows_thoughts_and_whose_template_cannot_switch_them_off_gets_an_empty_one() -> None:
    source = THINKING["begun"].replace("<think>\n'", "'")  # as older templates of R1's: the model begins it itself
    tokenizer = deepcopy(tokenizer_of("bytes"))
    tokenizer.chat_template = source
    assert tokenizer.decode(ChatFormat(tokenizer).first_prompt("")).endswith("assistant\n")
    off = ChatFormat(tokenizer, AgentConfig(thinking="off"))
    assert tokenizer.decode(off.first_prompt("")).endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_channel_for_answers_and_thinking_exclude_each_other() -> None:
    with pytest.raises(UsageError, match=r"agent\.thinking = on: the model's chat template begins its turns with"):
        chat_of("channel", "on")


# -- rollouts


class Thinker(ScriptedEngine):
    """Says its control tokens as such."""

    def tokens(self, text: str) -> TokenIds:
        ids: TokenIds = self.chat.tokenizer(text, add_special_tokens=False).input_ids
        return [*ids, self.chat.stop_id]


def roll(chat: ChatFormat, *turns: str, grammar: GrammarName = "exsearch", turn_tokens: int = 200) -> Trajectory:
    config = AgentConfig(grammar=grammar, max_steps=3, turn_tokens=turn_tokens)
    agent = Agent(Thinker(chat, lines(*turns)), StaticRetriever(FRANCE), chat, config)
    [trajectory] = agent.rollout([(QUESTION, 0)], Draw(7, 1.0, score_answers=True, score_steps=True))
    return trajectory


@pytest.mark.parametrize(
    ("template", "thought"),
    [("chatml", "<think>\nRome? <QUERY> x\n</think>\n\n"), ("begun", "Rome? <FINAL>\n</think>\n\n")],
)
def test_the_agent_reads_what_is_said_behind_a_thought(template: str, thought: str) -> None:
    chat = chat_of(template)
    made = roll(chat, f"{thought}<QUERY> capital", f"{thought}<FACT> It is Paris. <FINAL>", f"{thought}Paris")
    assert (made.stop_reason, made.answer) == (StopReason.ANSWERED, "Paris")
    assert [(step.query, step.evidence) for step in made.steps] == [("capital", "It is Paris.")]
    start = made.answer_start
    assert start is not None and made.loss_mask[start - 1] == 1, "the thought is said, and is no part of the answer"
    assert chat.decode(made.token_ids[start:]) == "Paris"
    assert made.alias_scores[0].logprob == pytest.approx(sum(made.logprobs[start:]), abs=1e-4)
    [weighted] = weigh([made], [QUESTION], WeighConfig())
    assert weighted.weight == 1.0
    steps = [msgspec.structs.replace(step, answer_logprob=-1.0) for step in made.steps]
    scored = msgspec.structs.replace(made, opening_logprob=-3.0, steps=steps)
    example = example_from(scored, 1.0, "City of Paris", chat, step_credit=1.0)
    assert example.token_ids == made.token_ids[:start] + chat.answer_ids("City of Paris")
    assert example.answer_start == start and example.credits == [1.0] * len(example.token_ids)


@pytest.mark.parametrize("template", ["chatml", "begun"])
def test_what_is_known_so_far_is_scored_without_a_thought(template: str) -> None:
    chat = chat_of(template)
    engine = Thinker(chat, lines("</think><QUERY> capital", "</think><FACT> b <FINAL>", "</think>Paris"))
    agent = Agent(engine, StaticRetriever(FRANCE), chat, AgentConfig())
    agent.rollout([(QUESTION, 0)], Draw(7, 1.0, score_answers=True, score_opening=True))
    prefix, target = engine.scored[0]
    ended = "<think>\n\n</think>\n\n" if template == "begun" else ""
    assert chat.tokenizer.decode(prefix).endswith(f"assistant\n{ended}")
    assert chat.decode(target) == "Paris"


@pytest.mark.parametrize("grammar", ["exsearch", "closed-book", "one-shot", "ircot", "self-ask"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_turn_that_does_not_get_beyond_its_thoughts_is_malformed(grammar: GrammarName, cut: bool) -> None:
    chat = chat_of("begun", grammar=grammar)
    made = roll(chat, "I wonder " * (60 if cut else 1), grammar=grammar, turn_tokens=40)
    assert (made.stop_reason, made.answer) == (StopReason.MALFORMED, None)


def test_baselines_take_no_thought_for_a_query_or_an_answer() -> None:
    assert roll(chat_of("chatml"), "<think>Rome?</think>\n\nParis", grammar="closed-book").answer == "Paris"
    made = roll(
        chat_of("chatml"),
        "<think>The answer is Rome.</think>Its capital lies on the Seine.",
        "<think>Follow up</think>So the answer is clear.",
        "<think>Rome?</think>Paris",
        grammar="ircot",
    )
    assert [step.query for step in made.steps] == [QUESTION.text, "Its capital lies on the Seine."]
    assert made.answer == "Paris"
    made = roll(
        chat_of("chatml"),
        "<think>Follow up: Rome?</think>Follow up: Paris?",
        "<think>So the final answer is: Rome</think>Intermediate answer: yes\nSo the final answer is: Paris",
        "<think>Rome</think>Paris",
        grammar="self-ask",
    )
    assert ([(s.query, s.evidence) for s in made.steps], made.answer) == ([("Paris?", "yes")], "Paris")


def test_gold_turns_end_the_thought_that_the_prompt_begins(tmp_path: Path) -> None:
    chat = chat_of("begun")
    [made] = gold_trajectories([QUESTION], StaticRetriever(FRANCE), chat, chat.agent)
    said = [id_ for id_, mask in zip(made.token_ids, made.loss_mask, strict=True) if mask]
    ended = "\n</think>\n\n"
    assert chat.tokenizer.decode(said) == (
        f"{ended}<QUERY> capital<|im_end|>{ended}<FACT> Its capital is Paris. <FINAL><|im_end|>{ended}Paris<|im_end|>"
    )
    assert chat.decode(made.token_ids[made.answer_start :]) == "Paris"
    write_jsonl(tmp_path / "w.jsonl", [made])
    assert read_warmup(tmp_path / "w.jsonl", chat) == [made]
    with pytest.raises(UsageError, match="not those of this model's tokenizer and chat template"):
        read_warmup(tmp_path / "w.jsonl", chat_of("begun", "off"))


@pytest.mark.parametrize("template", ["chatml", "begun"])
def test_a_conversation_that_was_kept_as_text_has_its_tokens_again(template: str) -> None:
    chat = chat_of(template)
    thought = "Rome?\n</think>" if template == "begun" else "<think>\nRome?\n</think>"
    made = roll(
        chat,
        f"{thought}\n\n<QUERY> a",
        "<FACT> b <FINAL>" if template == "chatml" else f"{thought}<FACT> b <FINAL>",
        f"{thought}Paris",
    )
    messages = [Message(**message) for message in chat.messages(made.token_ids)]
    example = example_of(TrainingConversation(messages), False, chat, "here")
    assert (example.token_ids, example.loss_mask) == (made.token_ids, made.loss_mask)
    assert example.answer_start == made.answer_start
    plain = [Message(m.role, m.content.split("</think>")[-1]) for m in messages]
    again = example_of(TrainingConversation(plain), False, chat, "here")
    assert chat.decode(again.token_ids[again.answer_start :]) == "Paris"


# -- endpoints


@contextmanager
def saying(*choices: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """A server that answers with these choices, one after the other; yields its URL and what it was asked."""
    asked: list[Any] = []

    def reply(request: Asked) -> Reply:
        asked.append(request[2])
        return as_json({"choices": [choices[min(len(asked), len(choices)) - 1]], "usage": {}})

    with serving(reply) as server:
        yield f"http://{server.address}/v1", asked


def choice(content: str | None, finish: str = "stop", **more: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content, **more}, "finish_reason": finish}


def asking(
    url: str, chat: ChatFormat, grammar: GrammarName = "closed-book", thinking: bool | None = None
) -> Trajectory:
    chat = chat.unthinking()
    engine = load_engine(
        EngineSpec(Path(), ModelConfig(engine="openai", api="chat", url=url, name="m"), 4096, 2, thinking), chat
    )
    agent = Agent(engine, StaticRetriever(FRANCE), chat, AgentConfig(grammar=grammar))
    [trajectory] = agent.rollout([(QUESTION, 0)], Draw(7, 0.0))
    return trajectory


@pytest.fixture(autouse=True)
def without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exsearch.engine.load.model_fingerprint", lambda folder: "m")


@pytest.mark.parametrize("template", ["chatml", "inst", "begun"])
@pytest.mark.parametrize("content", ["Paris", "<think>Rome?</think>\n\nParis", "Rome?\n</think>\n\nParis"])
def test_an_endpoint_s_thoughts_are_not_its_answer(template: str, content: str) -> None:
    with saying(choice(content)) as (url, _):
        made = asking(url, chat_of(template))
    assert (made.stop_reason, made.answer) == (StopReason.ANSWERED, "Paris")


@pytest.mark.parametrize(
    "cut",
    [
        choice(None, "length"),
        choice(None, "length", reasoning_content="Let me see"),
        choice(None, "stop", reasoning="Let me see"),
        choice("<think>Let me see", "length"),
        choice("", "length"),
    ],
)
def test_a_model_that_thinks_until_its_tokens_are_spent_has_failed_and_not_its_server(cut: dict[str, Any]) -> None:
    for grammar in ("exsearch", "closed-book"):
        with saying(cut) as (url, _):
            made = asking(url, chat_of("chatml"), grammar)  # type: ignore[arg-type]
        blank = grammar == "closed-book" and cut["finish_reason"] == "stop"
        assert made.stop_reason == (StopReason.ANSWERED if blank else StopReason.MALFORMED)
        assert not made.answer


def test_a_server_that_gives_no_text_at_all_has_failed() -> None:
    with saying(choice(None, "tool_calls")) as (url, _):
        made = asking(url, chat_of("chatml"))
    assert made.stop_reason == StopReason.ENGINE_FAILED and "the answer has no text" in (made.stop_detail or "")


@pytest.mark.parametrize("thinking", [None, True, False])
def test_a_server_of_chats_is_told_whether_to_think_if_the_settings_say(thinking: bool | None) -> None:
    with saying(choice("Paris")) as (url, asked):
        asking(url, chat_of("chatml"), thinking=thinking)
    told = {"enable_thinking": thinking, "thinking": thinking}
    assert asked[-1].get("chat_template_kwargs") == (None if thinking is None else told)


def test_a_judge_s_verdict_stands_behind_its_thoughts(tmp_path: Path) -> None:
    replies = (
        (choice("<think>No, Rome is\nmeant. No.</think>\n\nYes"), [1.0]),
        (choice("yes? yes!\n</think>\nNo."), [0.0]),
        (choice("Yes.", reasoning_content="No"), [1.0]),
    )
    for number, (reply, verdict) in enumerate(replies):
        with saying(reply) as (url, _):
            assert (
                judge(Endpoint(url, None, 10.0), "m", [QUESTION], ["Lutetia"], tmp_path / f"{number}.jsonl") == verdict
            )
    for reply in (choice(None, "length"), choice("<think>yes", "length")):
        with (
            saying(reply) as (url, _),
            pytest.raises(EngineError, match=r"'q' the judge said nothing within 1024 tokens"),
        ):
            judge(Endpoint(url, None, 10.0), "m", [QUESTION], ["Lutetia"], tmp_path / "cut.jsonl")


@pytest.mark.parametrize("template", ["chatml", "begun"])
def test_a_teacher_that_thinks_teaches_what_it_says(template: str, tmp_path: Path) -> None:
    turns = ("<QUERY> capital", "<FACT> Its capital is Paris. <FINAL>", "Paris")
    chat = chat_of(template)
    with saying(*(choice(f"<think>hm <FINAL></think>\n\n{turn}") for turn in turns)) as (url, asked):
        agent = teacher_agent(endpoint_spec(url, "big", api="chat").model, Config(), chat, StaticRetriever(FRANCE))
        teacher = Teacher(agent, "big", chat, Config(), 1, tmp_path / "t.jsonl")
        [outcome] = teacher.outcomes([QUESTION])
    [expected] = gold_trajectories([QUESTION], StaticRetriever(FRANCE), chat, chat.agent)
    assert outcome.trajectory is not None and outcome.trajectory.token_ids == expected.token_ids
    assert not re.search("think|hm", str(asked[-1]["messages"])), "what was thought is not told again"
