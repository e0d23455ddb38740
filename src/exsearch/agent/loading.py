"""Loads an agent from settings, in this process or on a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from exsearch.agent.asking import SearchAgent
from exsearch.agent.experiment import Experiment
from exsearch.agent.trajectory import Trajectory
from exsearch.agent.transcript import is_chat
from exsearch.config import AgentConfig, ModelConfig
from exsearch.core.atomic import behind_link, require_no_folder
from exsearch.core.errors import UsageError
from exsearch.core.locks import sole_writer
from exsearch.core.shape import BROKEN
from exsearch.core.tokens import TokenIds
from exsearch.effects import Settings, on_each
from exsearch.engine.load import load_engine
from exsearch.engine.spec import EngineSpec
from exsearch.hardware.devices import pick_dtype
from exsearch.retrieval.base import Retriever
from exsearch.retrieval.open import is_replay
from exsearch.retrieval.replay import Recorder


@contextmanager
def resumable_retriever(experiment: Experiment, out: Path) -> Iterator[Retriever]:
    """Open the index for a stage that writes `out`, so that searches made before an interruption are not repeated.

    Until `out` exists, searches are recorded next to it, unless the settings record them anyway. Raises UsageError,
    before any search, if `out` is a folder.
    """
    require_no_folder(out)
    with sole_writer(out):
        yield from _resumable(experiment, out)


def _resumable(experiment: Experiment, out: Path) -> Iterator[Retriever]:
    data = experiment.config.data
    if data.record or is_replay(data.index):
        yield experiment.retriever
        return
    beside = behind_link(out)
    file = beside.with_name(f".{beside.name}.searches")
    recorder = Recorder(experiment.retriever, file)
    try:
        yield recorder
    except BaseException as error:
        recorder.close()
        if isinstance(error, UsageError):  # a retry would fail again
            file.unlink()
        raise
    recorder.close()
    file.unlink()


def as_begun(experiment: Experiment, *journals: Path) -> Experiment:
    """Return the experiment with the date that the prompts in these files state as today's, if the files exist.

    An earlier version started runs with the date of the day. Raises UsageError if the prompts do not follow from the
    settings, since a resumed run would then continue other conversations.
    """
    agent = experiment.config.agent
    for journal in journals:
        begun = _first_prompt(journal)
        if not begun or not is_chat(experiment.prompts, experiment.grammar):
            continue
        day = experiment.prompts.day_of(begun)
        if day is None:
            raise UsageError(
                f"{journal}: its prompts are not those of this model's tokenizer and chat template with these "
                "settings; choose another file"
            )
        if day != agent.date and agent.date != AgentConfig().date:
            raise UsageError(f"{journal}: its prompts state {day} as today's date; set agent.date = {day}")
        return experiment.with_agent(msgspec.structs.replace(agent, date=day)) if day != agent.date else experiment
    return experiment


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


def load_agent(experiment: Experiment) -> SearchAgent:
    """Load the model in this process. Raises UsageError for a grammar that the endpoint cannot serve."""
    config, model, retriever = experiment.config, experiment.model, experiment.retriever
    grammar = experiment.grammar  # before the model loads, since the user's own grammar may be missing
    if config.model.engine == "openai" and config.model.api == "chat" and grammar.stops:
        name = config.agent.grammar
        raise UsageError(f"agent.grammar = {name} continues within one turn, which model.api = chat cannot do")
    chat = experiment.prompts
    wish = None if config.agent.thinking == "template" else config.agent.thinking == "on"
    engine = load_engine(EngineSpec(model, config.model, config.agent.context, config.rollout.in_flight, wish), chat)
    settings = model_settings(config.model)
    return SearchAgent(engine, retriever, chat, config.agent, config.rollout, settings)


def model_settings(config: ModelConfig) -> Settings:
    """Return the model's settings that its output depends on, by key."""
    settings = on_each("model", config)
    if config.engine == "openai":
        return settings
    precision = str(pick_dtype(config)).removeprefix("torch.")
    return {"model.engine": config.engine, "model.precision": precision}  # an endpoint decides the others
