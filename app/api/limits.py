"""Limits of one owner that each web process counts by itself: messages in a minute."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from app.errors import TooManyPosts

_MINUTE_S = 60.0
#: Owners that are remembered; those who have not been seen for longest are forgotten, as is whoever has all tokens.
_OWNERS = 10_000


class Rate:
    """So many a minute for each owner, all of them at once if none came before; 0: any number.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._lock = threading.Lock()
        #: By owner, the one seen last at the end: how many may come now, and when that was so.
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, owner: str) -> None:
        """Count one of *owner*.

        Raises:
            TooManyPosts: too many came within the last minute; this one does not count.
        """
        if not self._per_minute:
            return
        now = self._clock()
        with self._lock:
            left, at = self._left.pop(owner, (float(self._per_minute), now))
            left = min(float(self._per_minute), left + (now - at) * self._per_minute / _MINUTE_S)
            enough = left >= 1
            self._left[owner] = (left - 1 if enough else left, now)
            if len(self._left) > _OWNERS:
                del self._left[next(iter(self._left))]
        if not enough:
            wait_s = math.ceil((1 - left) * _MINUTE_S / self._per_minute)
            raise TooManyPosts(f"you may send {self._per_minute} messages in a minute", retry_s=max(1, wait_s))
