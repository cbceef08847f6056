"""The tasks that all sessions of a worker depend on: one that ends or stalls is told, and the worker ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from app.observability import metrics

logger = logging.getLogger(__name__)

#: How often progress is looked at.
LOOK_S = 1.0
#: Longer than any statement waits for its answer.
STALL_S = 120.0


class WorkerBroken(Exception):
    """The worker can't run sessions any more; another one can."""


class Supervision:
    """Watches tasks. The first failure calls *on_broken*, once.

    Args:
        stall_s: A task that is at work on one thing for so long has stalled.
    """

    def __init__(
        self,
        *,
        stall_s: float = STALL_S,
        on_broken: Callable[[WorkerBroken], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stall_s = stall_s
        self._clock = clock
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._busy_since: dict[str, float] = {}
        self._closing = False
        self._lag = metrics.LOOP_LAG_SECONDS.labels("worker")
        self._on_broken = on_broken
        #: What has failed.
        self.broken: WorkerBroken | None = None

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run *work*, which never ends by itself, under this name."""
        task = asyncio.create_task(work, name=name)
        self._tasks[task] = name
        task.add_done_callback(self._ended)

    def errand(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run *work*, which others wait for; it may end, and must not fail."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._errand_ended)
        return task

    @contextmanager
    def at_work(self, name: str) -> Iterator[None]:
        """What *name* does in this block is one thing."""
        self._busy_since[name] = self._clock()
        try:
            yield
        finally:
            self._busy_since.pop(name, None)

    async def watch(self) -> None:
        """Look for what stalls, for ever."""
        while True:
            due = self._clock() + LOOK_S
            await asyncio.sleep(LOOK_S)
            self._lag.observe(max(0.0, self._clock() - due))
            self.look()

    def look(self) -> None:
        for name, since in list(self._busy_since.items()):
            if self._clock() - since > self._stall_s:
                self.fail(f"{name} has stalled", None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        how = "was cancelled" if task.cancelled() else "has ended"
        self.fail(f"{task.get_name()} {how}", None if task.cancelled() else task.exception())

    def _errand_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is not None:
            self.fail(f"{task.get_name()} failed", None if task.cancelled() else task.exception())

    def fail(self, what: str, error: BaseException | None = None) -> None:
        """The worker can't go on, for this reason."""
        if self._closing or self.broken is not None:
            return
        self.broken = WorkerBroken(what)
        self.broken.__cause__ = error
        logger.critical("the worker can't go on", exc_info=error, extra={"why": what})
        self._on_broken(self.broken)

    async def close(self) -> None:
        """Stop all tasks."""
        self._closing = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
