"""Heads of sessions without one in Redis: those that wait for a worker, and all of them while Redis is down.

Each poll of such a session would read it from the database. Instead, all polled sessions are looked up together.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.broker.heads import Head
from app.errors import DatabaseUnavailable
from app.events.log import EventPage
from app.sessions import queries as session_queries

logger = logging.getLogger(__name__)

#: Seconds that a head may be late, as in Redis.
FRESH_S = 1.0
_REFRESH_S = 0.7
#: A session that nobody has polled for so long is forgotten; the longest advice for the next poll is 3 s.
_KEPT_S = 10.0


@dataclass(slots=True)
class _Known:
    head: Head
    read_at: float
    polled_at: float


class LocalHeads:
    """Remembers running sessions that are polled. Starts looking with the first one.

    Args:
        look: As `app.sessions.queries.heads`.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        look: Callable[[Sequence[str]], dict[str, Head]] = session_queries.heads,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._started = False

    def get(self, session_id: str) -> Head | None:
        """Its head of less than `FRESH_S` ago; None: ask the database."""
        now = self._clock()
        with self._lock:
            known = self._known.get(session_id)
            if known is None:
                return None
            known.polled_at = now
            return known.head if now - known.read_at < FRESH_S else None

    def remember(self, owner: str, page: EventPage, read_at: float) -> None:
        """*page* was read from the database, not before *read_at*."""
        if page.status != "running" or page.has_more:
            return
        head = Head(page.session_id, owner, page.next_after, page.status, page.moved_at)
        with self._lock:
            self._known[page.session_id] = _Known(head, read_at, self._clock())
            if self._started:
                return
            self._started = True
        threading.Thread(target=self._refresh_for_ever, name="local heads", daemon=True).start()

    def forget(self, session_id: str) -> None:
        """It was changed by this process just now."""
        with self._lock:
            self._known.pop(session_id, None)

    def refresh(self) -> None:
        """Look all of them up.

        Raises:
            DatabaseUnavailable: no connection; what is remembered gets old.
        """
        now = self._clock()
        with self._lock:
            for session_id in [each for each, known in self._known.items() if now - known.polled_at > _KEPT_S]:
                del self._known[session_id]
            asked = dict(self._known)
        current = self._look(list(asked))
        with self._lock:
            for session_id, known in asked.items():
                if self._known.get(session_id) is not known:
                    continue  # it was read again or forgotten since
                found = current.get(session_id)
                if found is not None and (found.seq, found.status) == (known.head.seq, "running"):
                    known.read_at = now
                else:
                    del self._known[session_id]

    def _refresh_for_ever(self) -> None:
        while True:
            time.sleep(_REFRESH_S)
            try:
                self.refresh()
            except DatabaseUnavailable:
                continue
            except Exception:
                # Without it every poll of a waiting session would go to the database.
                logger.exception("heads could not be read")
