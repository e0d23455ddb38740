"""From settings to an agent: in this process, or on a cluster."""

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
    """Open the index for the making of `out`: what was searched for before a kill is not searched for again.

    Until `out` is there, searches are recorded beside it, unless the settings record them anyway. Raises UsageError,
    before anything is searched for, where `out` is a folder.
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
        if isinstance(error, UsageError):  # it would fail again
            file.unlink()
        raise
    recorder.close()
    file.unlink()


def as_begun(experiment: Experiment, *journals: Path) -> Experiment:
    """Return the experiment with the date that the prompts of these files, as far as they exist, tell for today.

    What an earlier version has begun tells the day on which that was. Raises UsageError if prompts are not those of
    the settings, so that what follows would continue another conversation.
    """
    agent = experiment.config.agent
    for journal in journals:
        begun = _first_prompt(journal)
        if not begun or not is_chat(experiment.prompts, experiment.grammar):
            continue
        day = experiment.prompts.day_of(begun)
        if day is None:
            raise UsageError(
                f"{journal}: its prompts are not those that this model's tokenizer and chat template make with these "
                "settings; choose another file"
            )
        if day != agent.date and agent.date != AgentConfig().date:
            raise UsageError(f"{journal}: its prompts tell {day} for today; set agent.date = {day}")
        return experiment.with_agent(msgspec.structs.replace(agent, date=day)) if day != agent.date else experiment
    return experiment


def _first_prompt(journal: Path) -> TokenIds:
    """Return the prompt of a file's first trajectory that has one; empty without.

    Damaged lines are passed over: the journal sets them aside when it is opened, and says so.
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
    """Load the model in this process; raises UsageError for a grammar that the endpoint cannot speak."""
    config, model, retriever = experiment.config, experiment.model, experiment.retriever
    grammar = experiment.grammar  # before the model: one of the user's own may not be there
    if config.model.engine == "openai" and config.model.api == "chat" and grammar.stops:
        name = config.agent.grammar
        raise UsageError(f"agent.grammar = {name} goes on within one turn, which model.api = chat cannot do")
    chat = experiment.prompts
    wish = None if config.agent.thinking == "template" else config.agent.thinking == "on"
    engine = load_engine(EngineSpec(model, config.model, config.agent.context, config.rollout.in_flight, wish), chat)
    settings = model_settings(config.model)
    return SearchAgent(engine, retriever, chat, config.agent, config.rollout, settings)


def model_settings(config: ModelConfig) -> Settings:
    """Return the settings of a model that what it says depends on, by their keys."""
    found = on_each("model", config)
    if config.engine == "openai":
        return found
    precision = str(pick_dtype(config)).removeprefix("torch.")
    return {"model.engine": config.engine, "model.precision": precision}  # the others are an endpoint's
