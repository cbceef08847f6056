"""Strays: sessions that this worker holds and does not run, as its connection broke when it claimed or ended them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from app.errors import DatabaseUnavailable
from app.observability import metrics
from app.sessions import claims
from app.sessions.claims import Claim, Held
from app.sessions.doorbell import Doorbell

logger = logging.getLogger(__name__)


class Strays:
    """Call `free` from time to time: so long a claim may take to become a run.

    Args:
        running: The claims that are being run; called on the thread of `free`.
    """

    def __init__(self, worker: str, doorbell: Doorbell, running: Callable[[], Iterable[Claim]]) -> None:
        self._worker = worker
        self._doorbell = doorbell
        self._running = running
        self._before: set[Held] = set()

    def free(self) -> None:
        """Hand back what was held and not run at this look and at the one before."""
        try:
            held = claims.held_by(self._worker)
            running = {(claim.row_id, claim.attempt) for claim in self._running()}
            strays = {each for each in held if (each.row_id, each.attempt) not in running}
            for each in strays & self._before:
                if claims.hand_back(each):
                    logger.warning("session was held and not run", extra={"session_id": each.session_id})
                    self._doorbell.ring(each.session_id, each.attempt)
            self._before = strays
        except DatabaseUnavailable:
            metrics.BACKGROUND_FAILURES.labels("strays").inc()
