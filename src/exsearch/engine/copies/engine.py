"""Several copies of a model, each in its own process with a share of the seats and of the machine.

A small model spends part of each pass in Python, and in operations too small to divide among processors. Two copies
with one core each are 1.1 (with AMX) to 1.3 times as fast as one on two cores, for twice the memory for weights and
some seconds more to start (`load.faster_copies`). On GPUs, each copy has its own.

A conversation stays with one copy; samples of a question go to the same copy, which computes their common beginning
once. All copies are equal, so the results of a conversation do not depend on which one it is assigned to.
"""

import asyncio
import itertools
import os
import socket
import subprocess
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Literal

import msgspec
import torch

from exsearch.core.checkpoint import require_whole
from exsearch.core.errors import ExSearchError, UsageError
from exsearch.core.tokens import TokenIds
from exsearch.engine.base import Completion, EngineError, EngineStats, Sampling
from exsearch.engine.copies.messages import CopySettings, Reply, Request
from exsearch.engine.models.adapter import check_adapter
from exsearch.engine.models.checkpoint import causal_class
from exsearch.engine.spec import EngineSpec
from exsearch.processes.children import start_module
from exsearch.processes.futures import settle_from_thread

_REMEMBERED = 1024
"""Number of recent prompts to remember, to route a continuation to the copy that has its cache."""
_SECONDS_TO_END = 10.0


class CopiedEngine:
    """See `exsearch.engine.base.Engine`; engine/hf/engine.py does the work, in each copy."""

    scores = True

    def __init__(self, spec: EngineSpec, copies: int) -> None:
        """Start the copies and wait until all are ready. Raises EngineError if one fails.

        Raises UsageError if the model is refused, or, before that, if the checkpoint or the adapter has missing or
        surplus weights.
        """
        require_whole(causal_class(spec.folder), spec.folder)
        if spec.adapter is not None:
            check_adapter(spec.adapter, spec.folder)
        self.fingerprint = spec.fingerprint
        share = -(-spec.seats // copies)
        self.seats = share * copies
        self.stats = EngineStats()
        threads = max(torch.get_num_threads() // copies, 1)
        self._copies = []
        for number in range(copies):
            own = f"cuda:{number % torch.cuda.device_count()}" if spec.device == "cuda" else spec.device
            precision: Literal["bf16", "fp32"] = "bf16" if spec.dtype == torch.bfloat16 else "fp32"
            model = msgspec.structs.replace(spec.model, device=own, precision=precision)
            part = msgspec.structs.replace(spec, model=model, seats=share)
            self._copies.append(_Copy(CopySettings(part, threads), self))
        self._met: dict[int, _Copy] = {}
        try:
            self.context_size = min(copy.wait_until_ready() for copy in self._copies)
        except ExSearchError:
            self.shut_down()
            raise

    def open(self) -> "_Seat":
        """Take a seat; see Engine."""
        return _Seat(self)

    def forget(self) -> None:
        """Drop the content of free slots, so that no earlier work is reused; for measurements."""
        for copy in self._copies:
            copy.send(Request(-1, -1, "forget"))

    def shut_down(self) -> None:
        """End the copies."""
        for copy in self._copies:
            copy.end()

    def choose(self, prompt: TokenIds) -> "_Copy":
        """Return the copy that has seen the prompt, if it has room, or the one with the most room; never a lost one.

        Raises EngineError if all have as many conversations as they can take, as may happen after a loss.
        """
        key = hash(tuple(prompt))
        copy = self._met.get(key)
        if copy is None or copy.taken == copy.seats or copy.lost:
            copy = min(self._copies, key=lambda copy: (copy.lost, copy.taken))
            if copy.taken == copy.seats:
                raise EngineError("a copy of the model was lost, and the others have no room")
        self._met[key] = copy
        if len(self._met) > _REMEMBERED:
            del self._met[next(iter(self._met))]
        return copy

    def count(self) -> None:
        """Sum the copies' statistics."""
        totals = [msgspec.structs.astuple(copy.stats) for copy in self._copies]
        self.stats = EngineStats(*map(sum, zip(*totals, strict=True)))


class _Seat:
    """See `exsearch.engine.base.Seat`. Its copy is chosen with its first prompt."""

    _numbers = itertools.count()

    def __init__(self, engine: CopiedEngine) -> None:
        self._engine = engine
        self._number = next(self._numbers)
        self._copy: _Copy | None = None

    async def generate(self, prompt: TokenIds, sampling: Sampling, seed: int) -> Completion:
        request = Request(next(self._numbers), self._number, "generate", prompt, sampling, seed)
        completion = (await self._of(prompt).ask(request)).completion
        assert completion is not None
        return completion

    async def logprobs(self, prefix: TokenIds, target: TokenIds) -> list[float]:
        request = Request(next(self._numbers), self._number, "logprobs", prefix, target=target)
        return (await self._of(prefix).ask(request)).logprobs

    def close(self) -> None:
        if self._copy is not None:
            self._copy.taken -= 1
            self._copy.send(Request(-1, self._number, "close"))

    def _of(self, prompt: TokenIds) -> "_Copy":
        if self._copy is None:
            self._copy = self._engine.choose(prompt)
            self._copy.taken += 1
        return self._copy


class _Copy:
    """This process's side of one copy."""

    def __init__(self, settings: CopySettings, engine: CopiedEngine) -> None:
        ours, theirs = socket.socketpair()
        self._process = start_module(
            "exsearch.engine.copies.process",
            str(theirs.fileno()),
            msgspec.json.encode(settings, enc_hook=str).decode(),  # paths as text
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        self._sending = threading.Lock()
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._engine = engine
        self.lost = False
        self.seats, self.taken = settings.spec.seats, 0
        self.stats = EngineStats()

    def wait_until_ready(self) -> int:
        """Return the model's context size once it is loaded. Raises EngineError, or UsageError if it is refused."""
        try:
            ready = msgspec.msgpack.decode(self._connection.recv_bytes(), type=Reply)
        except (EOFError, OSError):
            raise EngineError("a copy of the model ended while it was being loaded") from None
        if ready.error is not None:
            raise UsageError(ready.error) if ready.mistake else EngineError(ready.error)
        threading.Thread(target=self._listen, name="copy", daemon=True).start()
        return ready.context_size

    async def ask(self, request: Request) -> Reply:
        """Return the answer; raises EngineError."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[request.number] = future
        try:
            if self.lost:
                raise EngineError("a copy of the model was lost")
            self.send(request)
            reply = await future
        except asyncio.CancelledError:
            self.send(Request(request.number, request.seat, "cancel"))
            raise
        finally:
            self._waiting.pop(request.number, None)
        if reply.error is not None:
            raise EngineError(reply.error)
        self.stats = reply.stats
        self._engine.count()
        return reply

    def send(self, request: Request) -> None:
        """Send a request; a lost copy is noticed when its answer is awaited."""
        with self._sending, suppress(OSError):
            self._connection.send_bytes(msgspec.msgpack.encode(request))

    def end(self) -> None:
        """End the process, which stops when the connection closes."""
        with suppress(OSError):
            socket.socket(fileno=os.dup(self._connection.fileno())).shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                reply = msgspec.msgpack.decode(self._connection.recv_bytes(), type=Reply)
                self._deliver(reply.number, reply)
        self.lost = True
        for number in list(self._waiting):
            self._deliver(number, Reply(number, error="a copy of the model was lost"))

    def _deliver(self, number: int, reply: Reply) -> None:
        if future := self._waiting.get(number):
            settle_from_thread([(future, reply)])
