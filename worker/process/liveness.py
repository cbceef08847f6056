"""Liveness: this worker's heartbeat, and the watch over its loop and all others; a blocked loop stops neither."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial

from app import notes
from app.db import heartbeats
from app.db.heartbeats import Heartbeat
from app.errors import DatabaseUnavailable
from app.notes import BLOCKED, STOPPED, Notes
from app.observability import metrics
from app.sessions import takeover
from app.settings import Settings

from .watchdog import Watchdog

logger = logging.getLogger(__name__)

#: How long a worker that gives up waits for the database to take that.
SAY_S = 2.0


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
    """The life of a worker, from `start` to `stop`: its row, notes, heartbeat and watchdog. Made on the loop.

    Args:
        on_dead: Called once on the thread, when others have marked this worker as dead.
        on_broken: Called on the thread: no group can be started.
        watches: Whether it looks at other workers, and takes over from dead ones.
        of_group: Others have made its row.
        fork: Starts the worker of a group, by name; None: what a dead worker held is anybody's.
        session_of: The id of the session in this row, if it runs here.
        give_up: Ends the process, as the loop is blocked; called on a thread. None: that is only told.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        on_dead: Callable[[], object],
        on_broken: Callable[[Exception], object],
        watches: bool,
        of_group: bool = False,
        fork: Callable[[str], object] | None = None,
        session_of: Callable[[int], str | None] = lambda _: None,
        give_up: Callable[[], object] | None = None,
    ) -> None:
        self._name = name
        self._beat_s = settings.beat_s
        self._max_attempts = settings.max_attempts
        self._on_dead = on_dead
        self._on_broken = on_broken
        self._watches = watches
        self._of_group = of_group
        self._fork = fork
        self._watch = Watch(settings.lease_s)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="heartbeat", daemon=True)
        self._away = False
        self.notes = Notes(name)
        self._watchdog = Watchdog(
            self.notes,
            session_of=session_of,
            limit_s=settings.lease_s,
            give_up=None if give_up is None else partial(self._say_and, give_up),
        )

    def start(self) -> None:
        """Begin before the first claim: what a worker without a row holds is taken from it.

        Raises:
            DatabaseUnavailable: no connection.
        """
        if not self._of_group:
            heartbeats.register(self._name)
        self._thread.start()
        self._watchdog.start()

    def stop(self) -> None:
        """Return when nothing is written any more; what is still held is others' from now on."""
        self._watchdog.stop()
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.notes.ends_because(STOPPED)
        try:
            heartbeats.leave(self._name)
        except DatabaseUnavailable:
            # Whoever finds the file says so in the database.
            self.notes.close(keep=True)
        else:
            self.notes.close()

    def _say_and(self, give_up: Callable[[], object]) -> None:
        """The loop is blocked for too long: say so, if that is possible now."""
        self.notes.ends_because(BLOCKED)
        suspects = [row_id for row_id in (self.notes.on_loop,) if row_id]
        saying = threading.Thread(
            target=heartbeats.mark_dead, args=(self._name, BLOCKED), kwargs={"suspects": suspects}, daemon=True
        )
        saying.start()
        saying.join(SAY_S)
        give_up()

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
            try:
                self._fork(name)
            except OSError as error:
                # The group is dead to all when it never begins.
                self._on_broken(error)

    def _group_name(self) -> str:
        return f"{self._name}-group-{uuid.uuid4().hex[:8]}"
