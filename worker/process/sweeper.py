"""The sweeper: runs in every worker, one at a time across them, and leaves no running session unattended.

finds                                              does
waits without a job (Redis was down or flushed)    rings
held by a worker that is gone                      frees it, and rings
interrupted by a later message                     ends it as `cancelled`
orphaned (its worker died)                         rings; the next claim raises the attempt
orphaned and the attempts are used up              ends it as `worker_lost`
deadline passed                                    ends it as `timeout`
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from app import sessions
from app.broker.jobs import job_id
from app.broker.queue import TurnQueue
from app.db import leases
from app.errors import DatabaseBusy, DatabaseUnavailable, NotFound, QueueUnavailable
from app.events import Error
from app.sessions import Ended, census, interrupts, takeover, turn_order
from app.sessions import queries as session_queries
from app.sessions.doorbell import Doorbell
from app.sessions.queries import Unattended
from app.settings import Settings

logger = logging.getLogger(__name__)

#: A session that has waited for so long finds no worker with a free place.
QUEUED_S = 30.0


class Sweeper:
    """Call `sweep` every few seconds, from one thread.

    Args:
        name: This process, as the holder of the lease.
    """

    def __init__(self, name: str, settings: Settings, queue: TurnQueue, doorbell: Doorbell) -> None:
        self._name = name
        self._settings = settings
        self._queue = queue
        self._doorbell = doorbell
        self._they_wait = False

    def sweep(self) -> int:
        """Look once; returns how many sessions were attended to. Never raises for the database's or Redis' sake."""
        try:
            return self._sweep()
        except DatabaseUnavailable:
            return 0

    def _sweep(self) -> int:
        if not leases.take("sweeper", self._name, self._settings.sweep_s * 3):
            return 0
        try:
            queued = self._queue.waiting()
        except QueueUnavailable:
            queued = None
        takeover.free_abandoned()
        self._end_interrupted()
        found = session_queries.unattended()
        self._say_whether_sessions_wait(bool(found))
        # Of an owner whose others run, only as many as may begin: the rest would be rung for in vain at each sweep.
        places = {each.owner: each.places for each in turn_order.by_owner(self._settings.max_running_per_owner)}
        due = []
        for each in found:
            if each.waits_for_first_worker:
                if places.get(each.owner, 1) <= 0:
                    continue
                places[each.owner] = places.get(each.owner, 1) - 1
            due.append(each)
        return sum(self._attend_alone(each, queued) for each in due)

    def _say_whether_sessions_wait(self, may_be: bool) -> None:
        """Say once that workers are missing, or full."""
        now = census.take(self._settings.sweep_s) if may_be else None
        waits = now is not None and now.oldest_queued_s > QUEUED_S
        if waits and not self._they_wait and now is not None:
            fields = {"queued": now.queued, "running": now.running, "oldest_s": round(now.oldest_queued_s)}
            logger.warning("sessions wait for workers", extra=fields)
        self._they_wait = waits

    def _end_interrupted(self) -> None:
        for owner, conversation_id in interrupts.pending():
            for ended in interrupts.end_for_a_while(owner, conversation_id, self._settings.sweep_s):
                self._doorbell.interrupted(ended)
            self._doorbell.ring_next(owner, conversation_id)

    def _attend_alone(self, found: Unattended, queued: set[str] | None) -> bool:
        try:
            return self._attend(found, queued)
        except DatabaseBusy:
            # Somebody else has locked it: the next sweep looks again.
            return False
        except DatabaseUnavailable:
            raise
        except Exception:
            # It comes first in every sweep: those behind it would never be attended to.
            logger.exception("session can't be attended to", extra={"session_id": found.session_id})
            return False

    def _attend(self, found: Unattended, queued: set[str] | None) -> bool:
        if found.overdue:
            error = Error("timeout", f"the turn took longer than {self._settings.turn_timeout_s} s")
            return self._end(found, error, sessions.end_overdue)
        if found.orphaned and found.failures >= self._settings.max_attempts:
            error = Error("worker_lost", f"{found.failures} workers died running it")
            return self._end(found, error, sessions.end_orphaned)
        # A job of an earlier attempt does not do: it may be last in a long queue.
        if queued is None or job_id(found.session_id, found.attempt) in queued:
            return False
        self._doorbell.ring(found.session_id, found.attempt)
        return True

    def _end(self, found: Unattended, error: Error, end_if_still_so: Callable[[str, int, Error], Ended]) -> bool:
        try:
            ended = end_if_still_so(found.session_id, found.attempt, error)
        except NotFound:
            return False
        self._doorbell.ended(ended)
        return ended.changed
