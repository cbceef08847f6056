"""The one reader of polls: a page of a session's events, from the database only when there may be news."""

from __future__ import annotations

import time
from collections.abc import Callable

from app import db
from app.broker.heads import Head, Heads
from app.events import log
from app.events.log import EventPage

from .local_heads import LocalHeads
from .notifications import Notifications
from .single_flight import SingleFlight


class Reader:
    """Reads for all polls of this process; those that ask for the same page at the same time share one read.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(
        self, heads: Heads, notifications: Notifications, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._notifications = notifications
        self._clock = clock
        self._local_heads = LocalHeads(heads.get, clock=clock)
        notifications.subscribe(self._local_heads.forget)
        self._flights: SingleFlight[EventPage] = SingleFlight()

    def read(self, owner: str, session_id: str, after: int, limit: int) -> EventPage:
        """Events of a session above *after*, oldest first, with the status they were read under.

        Raises:
            NotFound: no such session for this owner.
            Gone: retention has deleted its events.
            DatabaseUnavailable: no connection.
        """
        head = self.idle(owner, session_id, after)
        if head is not None:
            return EventPage(session_id, "running", [], after, has_more=False, moved_at=head.moved_at)

        def work(begin: Callable[[], None]) -> EventPage:
            def read() -> tuple[float, EventPage]:
                begin()
                return self._clock(), log.read(owner, session_id, after, limit)

            read_at, page = db.reading(read)
            if not page.has_more:
                self._notifications.start()
                head = Head(session_id, owner, page.next_after, page.status, page.moved_at)
                self._local_heads.remember(head, read_at)
            return page

        return self._flights.call((owner, session_id, after, limit), work)

    def idle(self, owner: str, session_id: str, after: int) -> Head | None:
        """The head of a running session of *owner* that has no news above *after*; None: this process can't tell."""
        head = self._local_heads.get(session_id)
        if head is None or head.seq > after or head.owner != owner:
            return None
        return head

    def forget(self, session_id: str) -> None:
        """This process has just changed the session: what is remembered of it is out of date."""
        self._local_heads.forget([session_id])
