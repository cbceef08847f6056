"""Note whose code runs: a worker that dies leaves by that who may have killed it (`app.notes`).

Whatever runs in the context of a session is noted while it runs and not while it waits: its tasks and those that they
make, functions on the threads of the loop, and what is wrapped by `on_thread`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from app.notes import LOOP, Notes

T = TypeVar("T")

_session: contextvars.ContextVar[tuple[Notes, int] | None] = contextvars.ContextVar("session", default=None)


def context_of(notes: Notes, row_id: int) -> contextvars.Context:
    """A context in which the session of this row runs."""
    context = contextvars.copy_context()
    context.run(_session.set, (notes, row_id))
    return context


def install(loop: asyncio.AbstractEventLoop) -> None:
    """Note the tasks and threads of *loop* from now on."""
    loop.set_task_factory(_make_task)
    loop.set_default_executor(_Threads())


def on_thread(work: Callable[..., T]) -> Callable[..., T]:
    """*work*, to be called on a thread for the session that this is called for."""
    session = _session.get()
    if session is None:
        return work
    notes, row_id = session

    def noted(*arguments: Any, **named: Any) -> T:
        place = notes.take_place()
        if place is None:
            return work(*arguments, **named)
        notes.numbers[place] = row_id
        try:
            return work(*arguments, **named)
        finally:
            notes.give_back(place)

    return noted


class _Threads(ThreadPoolExecutor):
    """The loop's own: `asyncio.to_thread`."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return super().submit(on_thread(fn), *args, **kwargs)


def _make_task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    context = options.get("context")
    session = _session.get() if context is None else context.get(_session)
    if session is not None:
        work = _Noted(work, *session)
    return asyncio.Task(work, loop=loop, **options)


class _Noted(Coroutine[Any, Any, Any]):
    """A coroutine whose steps are noted. Each token of an answer is some of them: nothing here may take long."""

    __slots__ = ("_numbers", "_row_id", "_send", "_work")

    def __init__(self, work: Coroutine[Any, Any, Any], notes: Notes, row_id: int) -> None:
        self._work = work
        self._send = work.send
        self._numbers = notes.numbers
        self._row_id = row_id

    def send(self, value: Any) -> Any:
        self._numbers[LOOP] = self._row_id
        try:
            return self._send(value)
        finally:
            self._numbers[LOOP] = 0

    def throw(self, *error: Any) -> Any:
        self._numbers[LOOP] = self._row_id
        try:
            return self._work.throw(*error)
        finally:
            self._numbers[LOOP] = 0

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()
