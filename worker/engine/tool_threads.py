"""Threads for plain functions, which can't be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from pydantic_ai.exceptions import ToolFailed

from worker import noting

from .redaction import redacted


class ToolThreads(Executor):
    """Runs plain functions, each on a thread of its own that a process need not wait for when it ends.

    What they raise always reaches the loop, and never ends it.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        noted = noting.on_thread(fn)

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = noted(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - raised again where the call is awaited
                # No asyncio future takes a StopIteration: it would be awaited for ever. SystemExit would end the loop.
                plain = isinstance(error, Exception) and not isinstance(error, StopIteration)
                future.set_exception(error if plain else ToolFailed(said_by(error)))
            else:
                future.set_result(result)

        # A pool would run out of threads by tools that never return, and be waited for at the exit of the process.
        threading.Thread(target=run, name="tool", daemon=True).start()
        return future


def said_by(error: BaseException) -> str:
    """*error* in words, without keys, whatever its own code does."""
    kind = type(error).__name__
    try:
        return f"{kind}: {redacted(str(error))}"
    except BaseException:  # noqa: BLE001 - its __str__ is the tool's code as well
        return kind
