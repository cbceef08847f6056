"""Liveness: this worker's heartbeat, and the watch over those of all others. Both go on while the loop is blocked."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence

from app import notes
from app.db import heartbeats
from app.db.heartbeats import Heartbeat
from app.errors import DatabaseUnavailable
from app.observability import metrics
from app.sessions import takeover

logger = logging.getLogger(__name__)


class Watch:
    """Judges by a clock of its own whose heartbeat stands still.

    Args:
        lease_s: So long a heartbeat may stand still.
        clock: Seconds that never go back.
    """

    def __init__(self, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self._looked_at = float("-inf")
        # Where each stood, and since when it does.
        self._since: dict[str, tuple[int, float]] = {}

    def look(self, beats: Sequence[Heartbeat]) -> list[Heartbeat]:
        """Those that have stood still for a lease. Call it only when this worker's own heartbeat has moved."""
        now = self._clock()
        if now - self._looked_at > self._lease_s / 2:
            # Nobody could move: the database was away or locked, or this machine stood still. All leases begin anew.
            self._since = {}
        self._looked_at = now
        before, self._since = self._since, {}
        for each in beats:
            at, since = before.get(each.name, (None, now))
            self._since[each.name] = (each.beat, since if at == each.beat else now)
        return [each for each in beats if now - self._since[each.name][1] >= self._lease_s]


class Liveness:
    """The heartbeat of the worker called *name*, from `start` to `stop`, on a thread of its own.

    Args:
        on_dead: Called once on the thread, when others have marked this worker as dead.
        watches: Whether it looks at other workers, and takes over from dead ones.
        fork: Starts the worker of a group, by name; None: what a dead worker held is anybody's.
    """

    def __init__(
        self,
        name: str,
        *,
        lease_s: float,
        beat_s: float,
        max_attempts: int,
        on_dead: Callable[[], object],
        watches: bool,
        fork: Callable[[str], object] | None = None,
    ) -> None:
        self._name = name
        self._beat_s = beat_s
        self._max_attempts = max_attempts
        self._on_dead = on_dead
        self._watches = watches
        self._fork = fork
        self._watch = Watch(lease_s)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="heartbeat", daemon=True)
        self._away = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when nothing is written any more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _go_on(self) -> None:
        while True:
            try:
                if not self.look():
                    self._on_dead()
                    return
                self._away = False
            except DatabaseUnavailable:
                metrics.BACKGROUND_FAILURES.labels("heartbeat").inc()
                if not self._away:
                    logger.warning("no heartbeat can be stored now")
                self._away = True
            except Exception:
                # A worker without a heartbeat would be taken for dead.
                metrics.BACKGROUND_FAILURES.labels("heartbeat").inc()
                logger.exception("heartbeat failed")
            if self._stop.wait(self._beat_s):
                return

    def look(self) -> bool:
        """Move this worker's heartbeat and look at all others; False: this worker is marked as dead.

        Raises:
            DatabaseUnavailable: no connection.
        """
        alive, beats = heartbeats.beat(self._name)
        if not alive:
            return False
        if self._watches:
            self._look_at(beats)
        return True

    def _look_at(self, beats: list[Heartbeat]) -> None:
        still = self._watch.look(beats)
        for each in beats:
            if each.name != self._name and (each.cause is not None or self._is_found_dead(each, each in still)):
                self._take_over(each.name)

    def _is_found_dead(self, each: Heartbeat, stands_still: bool) -> bool:
        if heartbeats.mark_if_ended(each.name):
            return True
        if not stands_still:
            return False
        return heartbeats.mark_dead(each.name, heartbeats.FROZEN, beat=each.beat, suspects=notes.suspects_of(each.name))

    def _take_over(self, worker: str) -> None:
        new_name = self._group_name if self._fork is not None else None
        for name in takeover.take_over(worker, max_attempts=self._max_attempts, new_name=new_name):
            assert self._fork is not None
            self._fork(name)

    def _group_name(self) -> str:
        return f"{self._name}-group-{uuid.uuid4().hex[:8]}"
