"""Waiting for a Redis that is away."""

from __future__ import annotations

import logging
import threading

from redis.exceptions import RedisError

from app.observability import metrics

logger = logging.getLogger(__name__)

#: Longest pause before Redis is tried again.
RETRY_S = 2.0


class Outage:
    """Pauses while Redis is away, longer each time, and says so once.

    Args:
        work: Its name in the metrics.
        what: What is not done meanwhile.
        given_up: Set: nobody waits any more.
    """

    def __init__(self, work: str, what: str, given_up: threading.Event) -> None:
        self._work = work
        self._what = what
        self._given_up = given_up
        self._delay_s = 0.0

    def wait(self, error: RedisError) -> None:
        """Pause before the next try."""
        metrics.REDIS_ERRORS.labels(self._work).inc()
        if not self._delay_s:
            logger.warning("redis is away: %s", self._what, extra={"error": str(error)})
        self._delay_s = min(max(0.1, self._delay_s * 2), RETRY_S)
        self._given_up.wait(self._delay_s)

    def over(self) -> bool:
        """Redis answers; true when it had been away."""
        was_away = self._delay_s > 0
        if was_away:
            logger.info("redis is back")
        self._delay_s = 0.0
        return was_away
