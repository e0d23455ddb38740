"""`PROCEDURE=inference`: one or more trajectories per question, as `{"score", "output", "config"}`.

Sampling is that of the reference's paper branch (recipes/reference-v1.toml): the best 3 passages of a search are read,
at most 20 searches with 64 tokens per turn, temperature 0.8, top_p 0.95. Trajectories that ended early are also
in the output, with the reason, and count as wrong; the reference lost such questions.
"""

import argparse
import os
from contextlib import closing
from pathlib import Path

import msgspec

from exsearch.agent.agents import load_agents
from exsearch.agent.experiment import Experiment
from exsearch.agent.journal import check_failures
from exsearch.agent.loading import as_begun
from exsearch.compat.searchlm.formats import InferenceFile, output_of, read_source_questions
from exsearch.config import Config, load_config
from exsearch.core.jsonl import write_json
from exsearch.core.messages import logger
from exsearch.em.explore import explore
from exsearch.evaluation.metrics import accuracy, exact_match, f1

PRESET = Path(__file__).parents[2] / "recipes" / "reference-v1.toml"


def run(options: argparse.Namespace) -> Path:
    """Roll out what the journal next to the output file lacks; write the output file, and return its path."""
    config = settings(options.model_name_or_path, options.set)
    index = options.index or os.environ["API_SEARCH"]
    questions = read_source_questions(options.input_file, options.left, options.right)
    name = f"{options.input_file.stem}.{options.left}-{options.left + len(questions)}"
    sampling = msgspec.structs.replace(config.explore, samples=options.samples)
    journal = options.output_dir / f"{name}.trajectories.jsonl"
    data = msgspec.structs.replace(config.data, index=index)
    experiment = as_begun(Experiment(msgspec.structs.replace(config, data=data)), journal)
    with closing(load_agents(experiment)) as agents:
        trajectories = explore(agents, questions, sampling, config.seed, journal, "inference")
    if warning := check_failures(trajectories):
        logger.warning(f"{warning}. They count as wrong")
    by_id = {question.id: question for question in questions}
    outputs = [output_of(trajectory, by_id[trajectory.question_id], experiment.chat) for trajectory in trajectories]
    pairs = [(output.prediction, output.answer) for output in outputs]
    score = {
        "em": sum(exact_match(*pair) for pair in pairs) / len(pairs),
        "f1": sum(f1(*pair) for pair in pairs) / len(pairs),
        "acc": sum(accuracy(*pair) for pair in pairs) / len(pairs),
    }
    target: Path = options.output_dir / f"{name}.json"
    used = msgspec.structs.replace(experiment.config, data=config.data)
    write_json(target, InferenceFile(outputs, score, msgspec.to_builtins(used)))
    print(f"{target}: {len(outputs)} trajectories; " + ", ".join(f"{k} {v:.3f}" for k, v in score.items()))
    return target


def settings(model: str, overrides: list[str]) -> Config:
    """Return the preset for a model, on as many engines as CUDA_VISIBLE_DEVICES lists."""
    import torch

    changes = [f"model.path={model}", *overrides]
    if torch.cuda.device_count() > 1 and not any(change.startswith("rollout.ray") for change in changes):
        changes.append("rollout.ray=local")
    return load_config(PRESET, changes)
