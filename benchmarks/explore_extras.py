"""What exploring holds in memory, and what rounding to bfloat16 does to scores and weights; for explore.py."""

import resource
from pathlib import Path

import msgspec
import numpy as np
from agents import in_a_process, make_agent

from exsearch.agent.chat import ChatFormat
from exsearch.agent.trajectory import AliasScore, Trajectory
from exsearch.config import Config, RolloutConfig, WeighConfig
from exsearch.em.weigh import weigh
from exsearch.engine.base import Sampling
from exsearch.engine.batch import generate, logprobs
from exsearch.engine.load import load_engine
from exsearch.engine.spec import EngineSpec
from exsearch.questions.question import Question


def memory(config: Config, run: Path) -> dict[str, int]:
    """Hold 64 conversations of 2,000 tokens in a process of its own; return its peak memory in bytes."""
    return {"conversations": 64, "tokens": 2000, "peak_bytes": in_a_process(_hold, config, run, 64, 2000)}


def _hold(config: Config, run: Path, conversations: int, tokens: int) -> int:
    chat = ChatFormat.load(run / "warmup")
    engine = load_engine(EngineSpec(run / "warmup", config.model, tokens, conversations), chat)
    prompts = [[100 + number] * (tokens - 8) for number in range(conversations)]
    generate(engine, prompts, Sampling(8, []), list(range(conversations)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def rounding(config: Config, run: Path, trajectories: list[Trajectory], questions: list[Question]) -> dict[str, float]:
    """Score the same trajectories in float32 and bfloat16; return how log-probs and `paper` weights differ."""
    answered = [trajectory for trajectory in trajectories if trajectory.alias_scores]
    scored = {}
    for precision in ("fp32", "bf16"):
        model = msgspec.structs.replace(config.model, precision=precision)
        agent = make_agent(msgspec.structs.replace(config, model=model), run, RolloutConfig())
        prefixes = [t.token_ids[: t.answer_start] for t in answered for _ in t.alias_scores]
        aliases = [score.alias for t in answered for score in t.alias_scores]
        targets = [[*agent.chat.encode(alias), agent.chat.stop_id] for alias in aliases]
        values = iter(logprobs(agent.engine, prefixes, targets))
        scores = [
            [AliasScore(s.alias, sum(found := next(values)), len(found)) for s in t.alias_scores] for t in answered
        ]
        scored[precision] = [msgspec.structs.replace(t, alias_scores=s) for t, s in zip(answered, scores, strict=True)]
    pairs = [
        (a.logprob / a.tokens, b.logprob / b.tokens)
        for exact, rounded in zip(scored["fp32"], scored["bf16"], strict=True)
        for a, b in zip(exact.alias_scores, rounded.alias_scores, strict=True)
    ]
    moved = np.abs([a - b for a, b in pairs])
    weights = [[w.weight for w in weigh(scored[precision], questions, WeighConfig())] for precision in ("fp32", "bf16")]
    change = np.abs(np.subtract(*weights))
    return {
        "scores": len(pairs),
        "mean_change_a_token": float(moved.mean()),
        "most_change_a_token": float(moved.max()),
        "mean_change_of_weight": float(change.mean()),
        "most_change_of_weight": float(change.max()),
    }
