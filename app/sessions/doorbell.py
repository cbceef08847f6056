"""What follows a commit: wake readers and workers. The row is the truth, so nothing here may fail the caller."""

from __future__ import annotations

import logging

from app.broker.heads import Head, Heads
from app.broker.queue import TurnQueue
from app.db.times import utc_now
from app.errors import DatabaseUnavailable, QueueUnavailable

from . import Ended
from . import queries as session_queries

logger = logging.getLogger(__name__)


class Doorbell:
    """Rings after the commit. What a failed ring leaves undone, the sweeper does within seconds."""

    def __init__(self, heads: Heads, queue: TurnQueue) -> None:
        self._heads = heads
        self._queue = queue

    def ring(self, session_id: str, attempt: int = 0, *, first: bool = False) -> None:
        """A session waits for a worker; *first*: it is next."""
        try:
            self._queue.ring(session_id, attempt, first=first)
        except QueueUnavailable:
            logger.warning("not rung, the sweeper rings later", extra={"session_id": session_id})

    def ended(self, ended: Ended) -> None:
        """A session was ended from outside its run: wake its readers, stop its worker, start the next one."""
        if ended.changed:
            self.interrupted(ended)
            self.ring_next(ended.owner, ended.conversation_id)

    def interrupted(self, ended: Ended) -> None:
        """A session was ended by a message that is rung for by itself: wake its readers, stop its worker."""
        self._heads.publish([Head(ended.session_id, ended.owner, ended.last_seq, ended.status, utc_now().timestamp())])
        self.stop(ended)

    def deleted(self, ended: Ended) -> None:
        """A session was deleted."""
        self._heads.forget(ended.session_id)
        self.stop(ended)
        self.ring_next(ended.owner, ended.conversation_id)

    def stop(self, ended: Ended) -> None:
        """Stop the run at once; without Redis its worker learns of it from the database within a second."""
        if ended.worker is None:
            return
        try:
            # The job of this attempt was rung with the number of attempts before it.
            self._queue.stop(ended.worker, ended.session_id, ended.attempt - 1)
        except QueueUnavailable:
            logger.warning(
                "stop not sent, the worker will see it in the database", extra={"session_id": ended.session_id}
            )

    def ring_next(self, owner: str, conversation_id: str | None) -> None:
        """Start what waited in this conversation."""
        try:
            waiting = session_queries.next_waiting(owner, conversation_id)
        except DatabaseUnavailable:
            return
        if waiting is not None:
            self.ring(*waiting)
