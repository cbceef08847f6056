"""Heads of the sessions that this web process is polled for: an idle poll looks nowhere else.

All of them are looked up together: in Redis, and those that it has not (they wait for a worker, or Redis is down) in
the database. A session whose news was heard is forgotten at once, so a lost message costs a second and no more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from app.broker.heads import Head
from app.errors import DatabaseUnavailable
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
        published: As `app.broker.heads.Heads.get`.
        look: As `app.sessions.queries.heads`.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        published: Callable[[Sequence[str]], dict[str, Head]],
        look: Callable[[Sequence[str]], dict[str, Head]] = session_queries.heads,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._published = published
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._started = False

    def get(self, session_id: str) -> Head | None:
        """Its head of less than `FRESH_S` ago; None: ask elsewhere."""
        # Without the lock, which every poll would take: one look at a dict, whose entries are never half made.
        known = self._known.get(session_id)
        if known is None:
            return None
        known.polled_at = now = self._clock()
        return known.head if now - known.read_at < FRESH_S else None

    def remember(self, head: Head, read_at: float) -> None:
        """*head* was read, not before *read_at*. What has ended is not remembered."""
        if head.status != "running":
            return
        with self._lock:
            self._known[head.session_id] = _Known(head, read_at, self._clock())
            if self._started:
                return
            self._started = True
        threading.Thread(target=self._refresh_for_ever, name="local heads", daemon=True).start()

    def forget(self, session_ids: Iterable[str]) -> None:
        """These were changed just now."""
        with self._lock:
            for session_id in session_ids:
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
        published = self._published(list(asked))
        self._take({each: known for each, known in asked.items() if each in published}, published, now)
        unpublished = {each: known for each, known in asked.items() if each not in published}
        now = self._clock()
        self._take(unpublished, self._look(list(unpublished)), now)

    def _take(self, asked: dict[str, _Known], found: dict[str, Head], read_at: float) -> None:
        with self._lock:
            for session_id, known in asked.items():
                if self._known.get(session_id) is not known:
                    continue  # it was read again or forgotten since
                head = found.get(session_id)
                if head is not None and (head.seq, head.status) == (known.head.seq, "running"):
                    known.read_at = read_at
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
                # Without it every poll would ask Redis or the database.
                logger.exception("heads could not be read")
