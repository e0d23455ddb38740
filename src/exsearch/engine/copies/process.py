"""One copy of a model: `python -m exsearch.engine.copies.process FD SETTINGS`, started by engine/copies/engine.py."""

import asyncio
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

import msgspec
import torch

from exsearch.core.errors import UsageError
from exsearch.core.messages import show_messages
from exsearch.engine.base import EngineError, Seat
from exsearch.engine.copies.messages import CopySettings, Reply, Request
from exsearch.engine.hf.engine import HFEngine


def main() -> None:
    """Load the model, then answer requests until the connection closes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(
            number, signal.SIG_IGN
        )  # a batch system signals all processes; this one ends when its parent does
    show_messages()
    connection = Connection(int(sys.argv[1]))
    settings = msgspec.json.decode(sys.argv[2], type=CopySettings, dec_hook=lambda kind, text: kind(text))
    torch.set_num_threads(settings.threads)
    try:
        engine = HFEngine.load(settings.spec)
    except UsageError as error:
        connection.send_bytes(msgspec.msgpack.encode(Reply(-1, error=str(error), mistake=True)))
        return
    except Exception as error:
        connection.send_bytes(msgspec.msgpack.encode(Reply(-1, error=f"the model could not be loaded: {error}")))
        return
    try:
        connection.send_bytes(msgspec.msgpack.encode(Reply(-1, context_size=engine.context_size)))
    except BrokenPipeError:  # the parent is gone
        return
    asyncio.run(_Server(engine, connection).serve())


class _Server:
    """Answers requests, many at the same time."""

    def __init__(self, engine: HFEngine, connection: Connection) -> None:
        self._engine, self._connection = engine, connection
        self._seats: dict[int, Seat] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._requests: asyncio.Queue[Request] = asyncio.Queue()

    async def serve(self) -> None:
        """Take requests in order of arrival."""
        threading.Thread(target=self._receive, args=(asyncio.get_running_loop(),), daemon=True).start()
        while True:
            request = await self._requests.get()
            if request.act == "forget":
                self._engine.forget()
            elif request.act == "close":
                if seat := self._seats.pop(request.seat, None):
                    seat.close()
            elif request.act == "cancel":
                if task := self._running.get(request.number):
                    task.cancel()
                    await asyncio.wait([task])  # before its seat may be closed
            else:
                self._running[request.number] = asyncio.create_task(self._answer(request))

    def _receive(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            try:
                request = msgspec.msgpack.decode(self._connection.recv_bytes(), type=Request)
            except (EOFError, OSError):
                os._exit(0)  # at once, even during a pass, since the parent is gone
            loop.call_soon_threadsafe(self._requests.put_nowait, request)

    async def _answer(self, request: Request) -> None:
        seat = self._seats.get(request.seat)
        if seat is None:
            seat = self._seats[request.seat] = self._engine.open()
        try:
            if request.sampling is not None:
                completion = await seat.generate(request.prompt, request.sampling, request.seed)
                reply = Reply(request.number, completion, stats=self._engine.stats)
            else:
                logprobs = await seat.logprobs(request.prompt, request.target)
                reply = Reply(request.number, logprobs=logprobs, stats=self._engine.stats)
        except EngineError as error:
            reply = Reply(request.number, error=str(error))
        finally:
            del self._running[request.number]
        self._connection.send_bytes(msgspec.msgpack.encode(reply))


if __name__ == "__main__":
    main()
