"""The watchdog: sees from a thread of its own that the loop does not go on, and says whose code is at it."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable

from app.notes import Notes

logger = logging.getLogger(__name__)

LOOK_S = 0.5
#: A loop that is blocked for so long is told.
NAMED_S = 2.0
#: Of the stack: the innermost calls.
_CALLS = 20


class Watchdog:
    """Looks at the loop that it is made on, from `start` to `stop`.

    Args:
        session_of: The id of the session in this row, if it runs here.
        limit_s: A loop that is blocked for so long does not come back in time for the other sessions.
        give_up: Called on the watchdog's thread at that limit: ends the process. None: it is only told.
    """

    def __init__(
        self,
        notes: Notes,
        *,
        session_of: Callable[[int], str | None],
        limit_s: float,
        give_up: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._notes = notes
        self._session_of = session_of
        self._limit_s = limit_s
        self._give_up = give_up
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="watchdog", daemon=True)
        self._looked_at = self._asked_at = clock()
        self._answered = True
        self._told = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._give_up is not None:
            faulthandler.cancel_dump_traceback_later()

    def _go_on(self) -> None:
        while not self._stop.wait(LOOK_S):
            if self._give_up is not None:
                # For code that keeps the interpreter to itself, so that this thread does not run either.
                faulthandler.dump_traceback_later(max(30.0, 3 * self._limit_s), exit=True)
            try:
                self.look()
            except RuntimeError:
                return  # the loop is closed

    def look(self) -> None:
        """Ask the loop for a sign of life, or see how long it has owed one."""
        now = self._clock()
        if now - self._looked_at > NAMED_S:
            # This thread stood still as well: the machine did, or somebody kept the interpreter to himself.
            self._asked_at = now
        self._looked_at = now
        if self._answered:
            self._answered, self._asked_at = False, now
            self._loop.call_soon_threadsafe(self._answer)
            return
        blocked_s = now - self._asked_at
        if blocked_s >= NAMED_S and not self._told:
            self._told = True
            logger.warning("the loop is blocked", extra=self._fields(blocked_s))
        if blocked_s >= self._limit_s and self._give_up is not None:
            logger.critical("the loop is blocked for too long: the worker ends", extra=self._fields(blocked_s))
            self._give_up()

    def _answer(self) -> None:
        self._answered, self._told = True, False

    def _fields(self, blocked_s: float) -> dict[str, object]:
        row_id = self._notes.on_loop
        session_id = self._session_of(row_id) if row_id else None
        return {"session_id": session_id, "seconds": round(blocked_s, 1), "at": " < ".join(self._calls())}

    def _calls(self) -> list[str]:
        """What the loop is at, the innermost call first."""
        frame = sys._current_frames().get(self._loop_thread)
        calls: list[str] = []
        while frame is not None and len(calls) < _CALLS:
            code = frame.f_code
            calls.append(f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})")
            frame = frame.f_back
        return calls
