"""Chat templates of many families: what stands around turns, where they end, and which day it is."""

import datetime
import json
from copy import deepcopy
from pathlib import Path

import msgspec
import pytest
import transformers.utils.chat_template_utils
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from exsearch.agent.chat import ChatFormat
from exsearch.agent.experiment import Experiment
from exsearch.agent.loading import as_begun
from exsearch.agent.rollout import Agent, Draw
from exsearch.agent.trajectory import StopReason, Trajectory
from exsearch.config import AgentConfig, Config, ModelConfig, load_config, parse_config
from exsearch.core.errors import UsageError
from exsearch.core.jsonl import read_jsonl, write_jsonl
from exsearch.core.tokens import TokenIds
from exsearch.corpus.passage import Passage
from exsearch.corpus.store import write_corpus
from exsearch.em.explore import explore
from exsearch.em.loop import EMRun
from exsearch.evaluation.protocol import make_protocol
from exsearch.questions.question import Question, SubQuestion
from exsearch.retrieval.index.build import build_index
from exsearch.warmup.write import gold_trajectories, read_warmup
from exsearch.world import World
from scripted import ScriptedEngine, StaticRetriever, lines
from tiny_models import save_tiny
from tiny_tokenizers import TEMPLATES, tokenizer_of

PHI = (
    "{% for m in messages %}{{ '<|'+m['role']+'|>\n'+m['content']+'<|fin|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
DATED = (
    "{{ '<|im_start|>system\nToday: ' + strftime_now('%d %b %Y') + '<|im_end|>\n' }}{% for m in messages %}"
    "{{ '<|im_start|>'+m['role']+'\n'+m['content']+'<|im_end|>\n' }}{% endfor %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role=='user' %}{{ '[INST] '+m.content+' [/INST]' }}"
    "{% else %}{{ ' '+m.content+eos_token }}{% endif %}{% endfor %}"
)
THINK = (
    "{% for m in messages %}{% set said = m.content.split('</think>')[-1] %}"
    "{% if loop.last and m.role == 'assistant' %}{% set said = '<think>\n\n</think>\n\n' + said %}{% endif %}"
    "{{ '<|im_start|>'+m.role+'\n'+said+'<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FRANCE = [Passage("p", "France", "Its capital is Paris.")]
QUESTION = Question(
    "q", "Which city?", ["Paris"], sub_questions=[SubQuestion("capital", ["Paris"], "p", "Its capital is Paris.")]
)


def with_template(chat: ChatFormat, source: str | None, agent: AgentConfig | None = None) -> ChatFormat:
    tokenizer = deepcopy(chat.tokenizer)
    tokenizer.chat_template = source
    return ChatFormat(tokenizer, agent)


def own_tokens(chat: ChatFormat, *contents: str) -> TokenIds:
    """What the tokenizer makes of what the template writes."""
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(contents)]
    text = chat.tokenizer.apply_chat_template(
        messages, chat_template=chat.template.source, tokenize=False, add_generation_prompt=len(messages) % 2 == 1
    )
    return chat.tokenizer(text, add_special_tokens=False).input_ids  # type: ignore[no-any-return]


@pytest.fixture
def phi(chat: ChatFormat, tmp_path: Path) -> Path:
    """A folder whose template ends turns with a token that is special in tokenizer.json and not named anywhere else."""
    written = chat.tokenizer.backend_tokenizer.to_str().replace("<|im_end|>", "<|fin|>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(written), eos_token="<|endoftext|>")
    tokenizer.chat_template = PHI
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_turn_may_end_in_any_special_token_of_the_tokenizer(phi: Path) -> None:
    chat = ChatFormat.load(phi)
    assert chat.tokenizer.convert_ids_to_tokens(chat.stop_ids) == ["<|fin|>", "<|endoftext|>"]
    assert chat.first_prompt("Who?") == own_tokens(chat, "Who?")
    assert chat.first_prompt("Who?") + chat.turn_ids("Ann") == own_tokens(chat, "Who?", "Ann")[:-1]  # and a line feed


@pytest.mark.parametrize(
    ("settings", "stops"),
    [
        ({"generation_config.json": {"eos_token_id": [0, 5]}, "config.json": {"eos_token_id": 7}}, [2, 0, 5]),
        ({"generation_config.json": {"eos_token_id": 5}}, [2, 0, 5]),
        ({"generation_config.json": {}, "config.json": {"eos_token_id": 7}}, [2, 0, 7]),
        ({}, [2, 0]),
    ],
)
def test_all_tokens_that_the_model_stops_at_end_its_turn(
    phi: Path, settings: dict[str, object], stops: list[int]
) -> None:
    for name, content in settings.items():
        (phi / name).write_text(json.dumps(content))
    assert ChatFormat.load(phi).stop_ids == stops


class Ending(ScriptedEngine):
    """Ends its turns with the tokenizer's end of text, and then goes on."""

    def tokens(self, text: str) -> TokenIds:
        ramble = self.chat.encode("\nUser: And who is Rome?")
        return [*self.chat.encode(text), self.chat.tokenizer.eos_token_id, *ramble, self.chat.stop_id]


def test_a_base_model_s_end_of_text_ends_its_answer() -> None:
    tokenizer = deepcopy(tokenizer_of("bytes"))
    tokenizer.chat_template = TEMPLATES["chatml"]  # turns end in <|im_end|>, texts in </s>
    chat = ChatFormat(tokenizer)
    engine = Ending(chat, lines("Paris"))
    agent = Agent(engine, StaticRetriever([]), chat, AgentConfig(grammar="closed-book"))
    [trajectory] = agent.rollout([(QUESTION, 0)], Draw(1, 0.0, score_answers=True))
    assert (trajectory.stop_reason, trajectory.answer) == (StopReason.ANSWERED, "Paris")
    assert chat.decode(trajectory.token_ids[trajectory.answer_start :]) == "Paris"


def test_what_ended_otherwise_goes_on_as_a_turn_of_the_template() -> None:
    tokenizer = deepcopy(tokenizer_of("bytes"))
    tokenizer.chat_template = TEMPLATES["chatml"]
    chat = ChatFormat(tokenizer)
    engine = Ending(chat, lines("<QUERY> a", "<FACT> b <FINAL>", "Paris"))
    agent = Agent(engine, StaticRetriever(FRANCE), chat, AgentConfig())
    [trajectory] = agent.rollout([(QUESTION, 0)], Draw(1, 0.0))
    assert trajectory.answer == "Paris" and [step.query for step in trajectory.steps] == ["a"]
    assert "<QUERY> a</s><|im_end|>\n<|im_start|>user\n<SEARCH>" in tokenizer.decode(trajectory.token_ids)
    said = [message["content"] for message in chat.messages(trajectory.token_ids)][1::2]
    assert said == ["<QUERY> a", "<FACT> b <FINAL>", "Paris"]


def test_a_blank_before_the_answer_is_the_model_s_to_say(chat: ChatFormat) -> None:
    inst = with_template(chat, INST)
    assert inst.first_prompt("Who?") == own_tokens(inst, "Who?")
    assert inst.tokenizer.decode(inst.first_prompt("Who?")).endswith(" [/INST]")
    assert inst.tokenizer.convert_ids_to_tokens(inst.turn_ids("Paris")) == ["ĠParis", "<|im_end|>"]
    assert inst.first_prompt("Who?") + inst.turn_ids("Paris") == own_tokens(inst, "Who?", "Paris")


def test_a_model_that_thinks_of_itself_is_prompted_as_its_template_has_it(chat: ChatFormat) -> None:
    think = with_template(chat, THINK)
    ids = think.first_prompt("Who?") + think.turn_ids("Ann") + think.next_prompt("Why?")
    assert ids == own_tokens(think, "Who?", "Ann", "Why?")


def test_a_template_that_puts_something_into_the_last_user_turn_alone_is_refused(chat: ChatFormat) -> None:
    rules = "{{ 'Rules. ' if loop.last and m.role == 'user' }}"
    source = "{% for m in messages %}" + rules + "{{ m.content + eos_token }}{% endfor %}"
    with pytest.raises(UsageError, match="changes the beginning of a conversation when it continues"):
        with_template(chat, source)


def test_a_template_that_takes_no_such_turns_is_one_line(chat: ChatFormat) -> None:
    with pytest.raises(UsageError, match="refuses turns of user and assistant: a system turn comes first"):
        with_template(chat, "{{ raise_exception('a system turn comes first') }}")


def test_of_several_templates_the_default_is_taken(chat: ChatFormat) -> None:
    named = {"tool_use": "{{ raise_exception('tools') }}", "default": INST}
    assert with_template(chat, named).template.source == INST  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"several chat templates \(tool_use, rag\), none of them the default"):
        with_template(chat, {"tool_use": INST, "rag": INST})  # type: ignore[arg-type]


# -- which day it is


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[datetime.datetime]:
    """A clock for templates, that the test sets."""

    class Clock(datetime.datetime):
        today_is = datetime.datetime(2031, 7, 4)

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return cls.today_is

    monkeypatch.setattr(transformers.utils.chat_template_utils, "datetime", Clock)
    return Clock


def test_the_day_in_a_prompt_is_that_of_the_settings_whatever_the_clock_says(
    chat: ChatFormat, clock: type[datetime.datetime]
) -> None:
    before = with_template(chat, DATED)
    clock.today_is = datetime.datetime(2031, 7, 5)  # type: ignore[attr-defined]
    after = with_template(chat, DATED)
    assert before.head == after.head and "Today: 01 Jan 2026<" in chat.tokenizer.decode(before.head)
    other = with_template(chat, DATED, AgentConfig(date=datetime.date(2031, 7, 4)))
    assert "Today: 04 Jul 2031<" in chat.tokenizer.decode(other.head)
    assert other.template.tells_the_date and not chat.template.tells_the_date


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("%d %b %Y", "04 Jul 2031"),
        ("%B %d, %Y", "July 04, 2031"),
        ("%Y-%m-%d", "2031-07-04"),
        ("%A, %-d %B", "Friday, 4 July"),
        ("%Y at %H:%M", "2031 at 00:00"),
    ],
)
def test_every_form_of_a_date_is_written(chat: ChatFormat, form: str, written: str) -> None:
    dated = with_template(chat, DATED.replace("%d %b %Y", form), AgentConfig(date=datetime.date(2031, 7, 4)))
    assert f"Today: {written}<" in chat.tokenizer.decode(dated.head)


def test_the_day_belongs_to_the_conditions_of_a_score() -> None:
    usual, named, other = (
        make_protocol(agent, "index", [QUESTION])
        for agent in (AgentConfig(), AgentConfig(date=AgentConfig().date), AgentConfig(date=datetime.date(2031, 7, 4)))
    )
    assert "date" not in usual.agent and usual.fingerprint == named.fingerprint, "what was before is as it was"
    assert other.agent["date"] == "2031-07-04" and other.fingerprint != usual.fingerprint


def test_a_day_is_set_as_toml_or_text_and_kept(tmp_path: Path) -> None:
    for written in ("2031-07-04", '"2031-07-04"'):
        config = parse_config({}, [f"agent.date={written}"], "test")
        assert config.agent.date == datetime.date(2031, 7, 4)
    (tmp_path / "c.toml").write_text("[agent]\ndate = 2031-07-04\n")
    assert load_config(tmp_path / "c.toml").agent == config.agent
    with pytest.raises(UsageError, match=r"'agent\.date' must be a date, such as 2026-01-31, not \"4 July\""):
        parse_config({}, ["agent.date=4 July"], "test")


def gold(chat: ChatFormat, file: Path) -> list[Trajectory]:
    """Write a warm-up file."""
    made = gold_trajectories([QUESTION], StaticRetriever(FRANCE), chat, chat.agent)
    write_jsonl(file, made)
    return made


def on(day: datetime.date) -> AgentConfig:
    return AgentConfig(date=day)


YESTERDAY = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=1)


@pytest.mark.parametrize("far", [0, 1, -1, -400, 40])
def test_a_warmup_that_was_made_on_another_day_is_accepted(chat: ChatFormat, tmp_path: Path, far: int) -> None:
    dated, day = with_template(chat, DATED), YESTERDAY + datetime.timedelta(days=far)
    made = gold(with_template(chat, DATED, on(day)), tmp_path / "w.jsonl")
    assert read_warmup(tmp_path / "w.jsonl", dated) == made
    assert dated.day_of(made[0].prompt) == day
    mixed = made + gold(dated, tmp_path / "x.jsonl")
    write_jsonl(tmp_path / "mixed.jsonl", mixed)
    with pytest.raises(UsageError, match="not those of this model's tokenizer and chat template"):
        read_warmup(tmp_path / "mixed.jsonl", dated)
    with pytest.raises(UsageError, match="not those of this model's tokenizer and chat template"):
        read_warmup(tmp_path / "w.jsonl", chat)


@pytest.fixture
def model(chat: ChatFormat, tmp_path: Path) -> Path:
    """A checkpoint whose template tells the date."""
    return save_tiny(tmp_path / "model", with_template(chat, DATED))


def test_a_journal_goes_on_with_the_day_that_it_began_with(chat: ChatFormat, model: Path, tmp_path: Path) -> None:
    journal, old = tmp_path / "j.jsonl", with_template(chat, DATED, on(YESTERDAY))
    settings = Config(agent=AgentConfig(max_steps=1, turn_tokens=16))
    agent = Agent(
        ScriptedEngine(old, lines("<QUERY> a", "<FACT> b <FINAL>", "Paris")), StaticRetriever([]), old, settings.agent
    )
    explore(agent, [QUESTION], msgspec.structs.replace(settings.explore, samples=1), 0, journal)
    experiment = Experiment(settings).with_model(model)
    begun = as_begun(experiment, journal)
    assert begun.config.agent.date == begun.chat.agent.date == YESTERDAY
    assert as_begun(experiment, tmp_path / "none.jsonl") is experiment
    other = msgspec.structs.replace(settings, agent=on(datetime.date(2031, 7, 4)))
    with pytest.raises(UsageError, match=rf"j\.jsonl: its prompts state {YESTERDAY} as today's date; set agent\.date"):
        as_begun(Experiment(other).with_model(model), journal)
    plain = save_tiny(tmp_path / "plain", chat)
    with pytest.raises(UsageError, match=r"j\.jsonl: its prompts are not those of this model's tokenizer"):
        as_begun(experiment.with_model(plain), journal)


def test_a_run_that_an_earlier_version_began_goes_on_with_its_day(
    chat: ChatFormat, model: Path, tmp_path: Path
) -> None:
    world = World(seed=4, passages=400)
    index = build_index(write_corpus(tmp_path / "corpus", world.passages()), "bm25", tmp_path / "index")
    write_jsonl(tmp_path / "questions.jsonl", world.questions("train", 8, [2]))
    data = {"index": str(index), **dict.fromkeys(("train", "dev", "test"), str(tmp_path / "questions.jsonl"))}
    tree = {"data": data, "model": msgspec.to_builtins(ModelConfig(path=str(model))), "warmup": {"questions": 4}}
    root = tmp_path / "run"
    said: list[str] = []
    run = EMRun(parse_config(tree, [], "test"), root, said.append)
    fingerprint = run.protocol.fingerprint
    assert "date = " in run.folder.config.read_text()
    gold(with_template(chat, DATED, on(YESTERDAY)), run.folder.warmup_trajectories)
    run.folder.config.write_text(run.folder.config.read_text().replace("date = ", "# "))  # as it was written then
    again = EMRun(parse_config(tree, [], "test"), root, said.append)
    assert again.chat.agent.date == YESTERDAY and again.protocol.fingerprint == fingerprint
    assert f"gets {YESTERDAY} as today's date" in said[-1]
    assert EMRun(parse_config(tree, [], "test"), root, said.append).chat.agent.date == YESTERDAY


def test_a_new_run_takes_the_day_of_its_warmup_and_keeps_it(chat: ChatFormat, model: Path, tmp_path: Path) -> None:
    world = World(seed=4, passages=400)
    index = build_index(write_corpus(tmp_path / "corpus", world.passages()), "bm25", tmp_path / "index")
    write_jsonl(tmp_path / "questions.jsonl", world.questions("train", 8, [2]))
    data = {"index": str(index), **dict.fromkeys(("train", "dev", "test"), str(tmp_path / "questions.jsonl"))}
    [made] = gold(with_template(chat, DATED, on(YESTERDAY)), tmp_path / "w.jsonl")
    tree = {"data": data | {"warmup": str(tmp_path / "w.jsonl")}, "model": {"path": str(model)}}
    for _ in range(2):
        run = EMRun(parse_config(tree, [], "test"), tmp_path / "run", lambda line: None)
        assert run.chat.agent.date == YESTERDAY == load_config(run.folder.config).agent.date
        assert run.protocol.agent["date"] == str(YESTERDAY)
    assert list(read_jsonl(tmp_path / "w.jsonl", Trajectory)) == [made]
