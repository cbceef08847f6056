"""One read for all callers that want the same page at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Shares one read among callers: after a restart thousands of clients ask for the same pages at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[Hashable, _Flight[T]] = {}

    def call(self, key: Hashable, work: Callable[[Callable[[], None]], T]) -> T:
        """What *work* returns or raises, or another caller's *work* for this *key* that has not begun yet.

        Args:
            work: Calls its argument when it begins. Later callers start another read: this one may miss news.
        """
        with self._lock:
            flight = self._pending.get(key)
            if flight is None:
                mine = self._pending[key] = _Flight()
        if flight is not None:
            flight.done.wait()
            # The caller that ran it was killed: read again.
            return flight.outcome() if flight.ended else self.call(key, work)
        try:
            return mine.run(work, lambda: self._close(key, mine))
        finally:
            self._close(key, mine)
            mine.done.set()

    def _close(self, key: Hashable, flight: _Flight[T]) -> None:
        with self._lock:
            if self._pending.get(key) is flight:
                del self._pending[key]


class _Flight(Generic[T]):
    def __init__(self) -> None:
        self.done = threading.Event()
        self._results: list[T] = []
        self._error: Exception | None = None

    @property
    def ended(self) -> bool:
        return bool(self._results) or self._error is not None

    def run(self, work: Callable[[Callable[[], None]], T], begin: Callable[[], None]) -> T:
        try:
            self._results.append(work(begin))
        except Exception as error:
            self._error = error
            raise
        return self._results[0]

    def outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return self._results[0]
