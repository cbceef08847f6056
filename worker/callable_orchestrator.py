"""Any generator as an orchestrator: what `ORCHESTRATOR=package.module:function` names.

An async generator is used as it is. A plain generator runs on a thread of its own, one event ahead of its reader at
most; when the turn is stopped it sees `turn.cancel.requested` and gets `GeneratorExit` at its next yield.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

from app.errors import Invalid
from app.events import Delta

from . import noting
from .names import resolve
from .orchestrator import Turn, Yielded, is_stopped

logger = logging.getLogger(__name__)

#: How long a stopped turn waits for its thread. One that does not look at `turn.cancel` is left to itself after that.
STOP_S = 0.5


class CallableOrchestrator:
    """Calls a function that returns an async or a plain iterator of events; a string is a delta."""

    def __init__(self, function: Callable[[Turn], Any]) -> None:
        self._function = function

    @classmethod
    def named(cls, name: str) -> CallableOrchestrator:
        """The one called `package.module:function`.

        Raises:
            Invalid: the name does not lead to a function.
        """
        try:
            return cls(resolve(name))
        except Invalid as error:
            raise Invalid(f"ORCHESTRATOR: {error.detail}") from error

    async def __call__(self, turn: Turn) -> AsyncIterator[Yielded]:
        """Answer *turn*.

        Raises:
            TypeError: the function returned no iterator.
        """
        answer = self._function(turn)
        if inspect.isawaitable(answer):
            # `async def` with `return` of a generator is an easy slip and means the same.
            answer = await answer
        if hasattr(answer, "__aiter__"):
            events = answer.__aiter__()
        elif hasattr(answer, "__iter__") and not isinstance(answer, (str, bytes)):
            events = _on_a_thread(iter(answer), turn)
        else:
            raise TypeError(f"the orchestrator returned {type(answer).__name__}, not an iterator of events")
        try:
            async for event in events:
                yield Delta(event) if isinstance(event, str) else event
        except (SystemExit, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_stopped():
                raise
            # Raised by the orchestrator itself: SystemExit would end the worker, CancelledError would look like a stop.
            raise RuntimeError(f"the orchestrator raised {type(error).__name__}") from error
        finally:
            if hasattr(events, "aclose"):
                await events.aclose()

    async def aclose(self) -> None:
        """Nothing is shared between turns."""


async def _on_a_thread(events: Iterator[Any], turn: Turn) -> AsyncGenerator[Any]:
    """Run a plain iterator on its own thread, each step only when the one before was taken."""
    loop = asyncio.get_running_loop()
    step = noting.on_thread(next)
    wanted = threading.Semaphore(0)
    stop = threading.Event()
    ended = asyncio.Event()
    # One thread, one reader: at most one item waits here.
    given: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    def give(kind: str, value: Any = None) -> None:
        try:
            loop.call_soon_threadsafe(given.put_nowait, (kind, value))
        except RuntimeError:
            # The loop is gone: a thread that outlived it has nowhere to deliver.
            logger.debug("orchestrator thread outlived its loop")

    def run() -> None:
        try:
            while True:
                wanted.acquire()
                if stop.is_set():
                    break
                try:
                    item = step(events)
                except StopIteration:
                    give("end")
                    break
                give("item", item)
        except BaseException as error:  # noqa: BLE001 - raised again where the turn runs
            give("error", error)
        finally:
            close = getattr(events, "close", None)
            try:
                if close is not None:
                    close()
            except BaseException:
                logger.warning("orchestrator failed while closing", exc_info=True)
            try:
                loop.call_soon_threadsafe(ended.set)
            except RuntimeError:
                logger.debug("orchestrator thread outlived its loop")

    threading.Thread(target=run, name=f"turn-{turn.session_id}", daemon=True).start()
    try:
        while True:
            wanted.release()
            kind, value = await given.get()
            if kind == "end":
                return
            if kind == "error":
                if isinstance(value, Exception):
                    raise value
                raise RuntimeError(f"the orchestrator raised {type(value).__name__}") from value
            yield value
    finally:
        stop.set()
        turn.cancel.request()
        wanted.release()
        try:
            await asyncio.wait_for(ended.wait(), STOP_S)
        except TimeoutError:
            logger.warning("orchestrator thread does not stop", extra={"session_id": turn.session_id})
