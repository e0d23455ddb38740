"""Loads an agent from settings, in this process or on a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from exsearch.agent.asking import SearchAgent
from exsearch.agent.chat import ChatFormat
from exsearch.agent.grammars.registry import make_grammar
from exsearch.agent.trajectory import Trajectory
from exsearch.agent.transcript import is_chat
from exsearch.config import AgentConfig, Config, ModelConfig
from exsearch.core.atomic import behind_link, require_no_folder
from exsearch.core.errors import UsageError
from exsearch.core.locks import sole_writer
from exsearch.core.shape import BROKEN
from exsearch.core.tokens import TokenIds
from exsearch.effects import Settings, on_each
from exsearch.engine.load import load_engine
from exsearch.hardware.devices import pick_dtype
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.open import is_replay, open_retriever
from exsearch.retrieval.replay import Recorder


def load_retriever(config: Config, index: str) -> Retriever:
    """Open an index, and record its searches if the settings say so."""
    record_to = Path(config.data.record) if config.data.record else None
    return open_retriever(index, record_to=record_to, seconds=config.rollout.search_seconds)


@contextmanager
def resumable_retriever(config: Config, index: str, out: Path) -> Iterator[Retriever]:
    """Open an index for a stage that writes `out`, so that searches made before an interruption are not repeated.

    Until `out` exists, searches are recorded next to it, unless the settings record them anyway. Raises UsageError,
    before any search, if `out` is a folder.
    """
    require_no_folder(out)
    with sole_writer(out):
        yield from _resumable(config, index, out)


def _resumable(config: Config, index: str, out: Path) -> Iterator[Retriever]:
    if config.data.record or is_replay(index):
        yield load_retriever(config, index)
        return
    beside = behind_link(out)
    file = beside.with_name(f".{beside.name}.searches")
    recorder = Recorder(load_retriever(config, index), file)
    try:
        yield recorder
    except BaseException as error:
        recorder.close()
        if isinstance(error, UsageError):  # a retry would fail again
            file.unlink()
        raise
    recorder.close()
    file.unlink()


def load_chat(config: Config, model: Path) -> ChatFormat:
    """Load the chat format of a checkpoint folder; with a chat endpoint, thoughts are handled by the server."""
    chat = ChatFormat.load(model, config.agent)
    return chat.unthinking() if config.model.engine == "openai" and config.model.api == "chat" else chat


def as_begun(config: Config, model: Path, *journals: Path) -> Config:
    """Return the settings with the date that the prompts in these files state as today's, as far as the files exist.

    An earlier version started runs with the date of the day. Raises UsageError if the prompts do not follow from the
    settings, since a resumed run would then continue other conversations.
    """
    for journal in journals:
        begun = _first_prompt(journal)
        chat = load_chat(config, model) if begun else None
        if chat is None or not is_chat(chat, make_grammar(config.agent)):
            continue
        day = chat.day_of(begun)
        if day is None:
            raise UsageError(
                f"{journal}: its prompts are not those of this model's tokenizer and chat template with these "
                "settings; choose another file"
            )
        if day != config.agent.date and config.agent.date != AgentConfig().date:
            raise UsageError(f"{journal}: its prompts state {day} as today's date; set agent.date = {day}")
        return msgspec.structs.replace(config, agent=msgspec.structs.replace(config.agent, date=day))
    return config


def _first_prompt(journal: Path) -> TokenIds:
    """Return the prompt of a file's first trajectory that has one; empty if there is none.

    Damaged lines are ignored here; the journal reports and quarantines them when it is opened.
    """
    if not journal.is_file():
        return []
    decoder = msgspec.json.Decoder(Trajectory)
    with journal.open("rb") as lines:
        for line in lines:
            with suppress(*BROKEN):
                if prompt := decoder.decode(line).prompt:
                    return prompt
    return []


def load_agent(config: Config, model: Path, retriever: Retriever) -> SearchAgent:
    """Load a checkpoint folder in this process. Raises UsageError for a grammar that the endpoint cannot serve."""
    grammar = make_grammar(config.agent)  # before the model loads, since the user's own grammar may be missing
    if config.model.engine == "openai" and config.model.api == "chat" and grammar.stops:
        name = config.agent.grammar
        raise UsageError(f"agent.grammar = {name} continues within one turn, which model.api = chat cannot do")
    chat = load_chat(config, model)
    wish = None if config.agent.thinking == "template" else config.agent.thinking == "on"
    engine = load_engine(model, config.model, chat, config.agent.context, config.rollout.in_flight, wish)
    return SearchAgent(engine, retriever, chat, config.agent, config.rollout, model_settings(config.model))


def model_settings(config: ModelConfig) -> Settings:
    """Return the model's settings that its output depends on, by key."""
    settings = on_each("model", config)
    if config.engine == "openai":
        return settings
    precision = str(pick_dtype(config)).removeprefix("torch.")
    return {"model.engine": config.engine, "model.precision": precision}  # an endpoint decides the others
