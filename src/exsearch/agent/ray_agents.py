"""Rollouts on a Ray cluster: one agent, with its own engine, on each GPU or processor.

Model and index are on a file system that all machines share, or the index is the URL of a server. The driver hands out
one trajectory at a time, to the worker with the most room, and only the driver writes the journal. Trajectories of a
lost worker are rolled out again by others, and Ray starts another worker in its place.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from exsearch.agent.experiment import Experiment
from exsearch.agent.loading import load_agent
from exsearch.agent.rollout import Draw
from exsearch.agent.trajectory import Trajectory
from exsearch.agent.transcript import Transcript
from exsearch.config import Config
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.tokens import TokenIds
from exsearch.effects import Settings, difference
from exsearch.processes import cluster
from exsearch.questions.question import Question

TRIES = 5
"""Number of lost workers after which a trajectory is not tried again, since it may be what kills them."""

START_SECONDS = 900.0
"""Seconds within which a lost worker must be back, with its model loaded."""


class _Worker:
    """One agent in its own process."""

    def __init__(self, config: bytes) -> None:
        """Load the model and open the index."""
        self._agent = load_agent(Experiment(msgspec.json.decode(config, type=Config)))
        self._free = asyncio.Semaphore(self._agent.in_flight)  # it gets more trajectories when another worker is lost

    async def settings(self) -> Settings:
        """Return the settings that its trajectories depend on."""
        return self._agent.settings

    async def process(self) -> int:
        """Return the process id."""
        return os.getpid()

    async def trajectories(self, question: bytes, sample: int, draw: bytes) -> bytes:
        """Roll out one trajectory; records travel as JSON."""
        arguments = msgspec.json.decode(question, type=Question), sample, msgspec.json.decode(draw, type=Draw)
        async with self._free:
            trajectories = await self._agent.trajectories(*arguments)
        return msgspec.json.encode(trajectories)

    async def rescored(self, question: bytes, trajectory: bytes) -> bytes:
        """Score one trajectory again."""
        arguments = msgspec.json.decode(question, type=Question), msgspec.json.decode(trajectory, type=Trajectory)
        async with self._free:
            rescored = await self._agent.rescored(*arguments)
        return msgspec.json.encode(rescored)


class RayAgents:
    """Rolls out like an Agent, on all workers."""

    def __init__(self, experiment: Experiment) -> None:
        """Start the workers on the cluster at `rollout.ray`. Raises UsageError if it is not there."""
        config = experiment.config
        try:
            import ray
        except ImportError:
            raise UsageError("rollout.ray needs Ray: pip install 'exsearch[ray]'") from None
        address = config.rollout.ray
        try:
            cluster.join(address)
        except ConnectionError as error:
            raise UsageError(f"rollout.ray = {address}: {error}") from None
        resources = ray.cluster_resources()
        graphics = int(resources.get("GPU", 0))
        parallel = config.model.tensor_parallel
        if 0 < graphics < parallel:
            raise UsageError(f"model.tensor_parallel = {parallel}, but the cluster has {graphics} GPUs")
        count = config.rollout.workers or graphics // parallel or int(resources.get("CPU", 1))
        kind = ray.remote(_Worker).options(
            num_cpus=0 if graphics else 1,
            num_gpus=min(graphics / count, parallel) if graphics else 0,
            max_concurrency=config.rollout.in_flight + 1,
            max_restarts=-1,
        )
        settings = msgspec.json.encode(_of_worker(experiment))
        self._workers: list[Any] = [kind.remote(settings) for _ in range(count)]
        self._load = [0] * count
        self._revivals: dict[int, asyncio.Task[None]] = {}
        self.grammar = experiment.grammar
        self.in_flight = count * config.rollout.in_flight
        try:
            reports: list[Settings] = ray.get([worker.settings.remote() for worker in self._workers])
        except ray.exceptions.RayError as error:
            self.close()
            raise ExSearchError(f"a Ray worker did not start: {error}") from error
        try:
            self.settings = agreed(reports)
        except UsageError:
            self.close()
            raise
        self.model_fingerprint, self.index_fingerprint = (str(reports[0][key]) for key in ("model.path", "data.index"))
        self._experiment = experiment

    def opening(self, question: Question) -> TokenIds:
        """Return the tokens that every trajectory of a question starts with."""
        return Transcript(self._experiment.prompts, self.grammar, question.text).token_ids

    async def trajectories(self, question: Question, sample: int, draw: Draw) -> list[Trajectory]:
        """Roll out one trajectory, with its branches, on the worker with the most room."""
        name = f"question {question.id!r}, sample {sample}"
        arguments = msgspec.json.encode(question), sample, msgspec.json.encode(draw)
        return msgspec.json.decode(await self._asked("trajectories", name, *arguments), type=list[Trajectory])

    async def rescored(self, question: Question, trajectory: Trajectory) -> Trajectory:
        """Score a trajectory again, on the worker with the most room."""
        name = f"question {question.id!r}, sample {trajectory.name}"
        arguments = msgspec.json.encode(question), msgspec.json.encode(trajectory)
        return msgspec.json.decode(await self._asked("rescored", name, *arguments), type=Trajectory)

    async def _asked(self, method: str, name: str, *arguments: bytes | int) -> bytes:
        """Call a method of a worker for the trajectory `name`, and of another worker if that one is lost."""
        from ray.exceptions import RayActorError

        for _ in range(TRIES):
            number = await self._pick()
            self._load[number] += 1
            try:
                result: bytes = await getattr(self._workers[number], method).remote(*arguments)
                return result
            except RayActorError:
                if number not in self._revivals or self._revivals[number].done():
                    self._revivals[number] = asyncio.create_task(self._revive(number))
            finally:
                self._load[number] -= 1
        raise ExSearchError(f"{name}: {TRIES} workers were lost while rolling it out")

    async def _pick(self) -> int:
        """Return the worker with the most room; waits for one to come back if all are lost."""
        while not (up := [n for n in range(len(self._workers)) if self._is_up(n)]):
            await asyncio.wait(self._revivals.values(), return_when=asyncio.FIRST_COMPLETED)
        return min(up, key=self._load.__getitem__)

    def _is_up(self, number: int) -> bool:
        revival = self._revivals.get(number)
        if revival is not None and revival.cancelled():  # cancelled with the event loop that awaited it
            revival = self._revivals[number] = asyncio.create_task(self._revive(number))
        if revival is None or not revival.done():
            return revival is None
        revival.result()  # raises the error that kept it from coming back
        return True

    async def _revive(self, number: int) -> None:
        """Wait until Ray has restarted a lost worker. Raises ExSearchError if it does not."""
        from ray.exceptions import RayActorError

        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            try:
                await self._workers[number].settings.remote()
                return
            except RayActorError:
                await asyncio.sleep(1)
        raise ExSearchError(f"a Ray worker was lost and did not come back within {START_SECONDS:g} s")

    def close(self) -> None:
        """Stop the workers and free their memory."""
        import ray

        for worker in self._workers:
            ray.kill(worker)


def agreed(reports: list[Settings]) -> Settings:
    """Return the settings that the trajectories of all workers depend on. Raises UsageError if they differ.

    Workers read their own copy of a model or index, and each picks the precision that is fast on its machine.
    """
    first = reports[0]
    for number, other in enumerate(reports[1:], start=2):
        if differing := [difference(key, first[key], other.get(key)) for key in first if first[key] != other.get(key)]:
            raise UsageError(
                f"Ray workers 1 and {number} would make different trajectories: {'; '.join(differing)}. Give all "
                "machines the same files, and set model.precision"
            )
    return first


def _of_worker(experiment: Experiment) -> Config:
    """Return a worker's settings: it runs in another folder, and the workers themselves are the copies of the model."""
    config = experiment.config
    model = msgspec.structs.replace(
        config.model,
        path=str(experiment.model.resolve()),
        data_parallel=1,
        adapter=_whole(config.model.adapter),
        api_key_file=_whole(config.model.api_key_file),
    )
    data = msgspec.structs.replace(config.data, index=_everywhere(config.data.index), record=_whole(config.data.record))
    return msgspec.structs.replace(config, model=model, data=data)


def _whole(path: str) -> str:
    return path and str(Path(path).resolve())


def _everywhere(index: str) -> str:
    """Return an index's location in a form that workers in other folders can open."""
    return index if ":" in index else str(Path(index).resolve())
