"""One read for all who want the same at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Thousands who come back after a restart ask for the same pages within the same instant."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[Hashable, _Flight[T]] = {}

    def call(self, key: Hashable, work: Callable[[Callable[[], None]], T]) -> T:
        """What *work* returns or raises; or what it does for another caller with this *key*, who still waits to begin.

        Args:
            work: Calls its argument when it begins. Who comes later is not served by it: it may have seen more.
        """
        with self._lock:
            flight = self._pending.get(key)
            if flight is None:
                mine = self._pending[key] = _Flight()
        if flight is not None:
            flight.done.wait()
            # Its caller was killed: who waited for it looks by itself.
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
