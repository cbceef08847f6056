"""The way to a provider for all sessions of a worker: first come, first served, as fast as it takes requests."""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

from .failures import ModelFailure
from .provider_pace import ProviderPace, Request

#: A provider that took no request for so long is not merely busy.
NOT_LONG_S = 10.0


class Place:
    """The place of one request in the queue. A request that is tried again keeps it: it has waited longest."""

    def __init__(self, limit: ProviderLimit, number: int) -> None:
        self._limit = limit
        self._number = number
        self._request: Request | None = None
        #: It was refused, and others were taken not long ago: that is not its fault.
        self.others_passed = False

    @asynccontextmanager
    async def at(self, model: str) -> AsyncIterator[None]:
        """Wait until a request for *model* may be sent; it is over when the context ends."""
        self.others_passed = False
        self._request = await self._limit.enter(self._number, model)
        try:
            yield
        finally:
            self._limit.leave()

    def accepted(self) -> None:
        """The provider answers."""
        if self._request is not None:
            self._limit.pace.accept(self._request, self._limit.clock())

    def failed(self, failure: ModelFailure) -> None:
        """The request failed. Told before it leaves its place, or the next one would be let in."""
        request = self._request
        if request is None or failure.code not in ("model_rate_limited", "model_unavailable"):
            return
        pace, now = self._limit.pace, self._limit.clock()
        pace.fail(request, now, failure.retry_after_s, overloaded=failure.overloaded)
        self.others_passed = failure.overloaded and pace.took_others(request, now - NOT_LONG_S)


class ProviderLimit:
    """One provider."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.pace = ProviderPace(clock())
        self._numbers = count()
        self._waiting: list[tuple[int, str, asyncio.Future[Request]]] = []
        self._timer: asyncio.TimerHandle | None = None

    def place(self) -> Place:
        """A place at the end of the queue."""
        return Place(self, next(self._numbers))

    async def enter(self, number: int, model: str) -> Request:
        admitted: asyncio.Future[Request] = asyncio.get_running_loop().create_future()
        entry = (number, model, admitted)
        insort(self._waiting, entry, key=lambda each: each[0])
        self._admit()
        try:
            return await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                self.leave()
            elif entry in self._waiting:
                self._waiting.remove(entry)
            raise

    def leave(self) -> None:
        self.pace.end()
        self._admit()

    def _admit(self) -> None:
        """Let in whoever may be, and look again when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            now = self.clock()
            wait_s = self.pace.pace_s(now)
            if wait_s <= 0:
                # A pause is that of a model: requests for others pass by.
                pauses = (self.pace.pause_s(model, now) for _, model, _ in self._waiting)
                free = next((n for n, pause_s in enumerate(pauses) if pause_s <= 0), None)
                if free is not None:
                    _, model, admitted = self._waiting.pop(free)
                    if not admitted.done():
                        admitted.set_result(self.pace.start(model, now))
                    continue
                wait_s = min(self.pace.pause_s(model, now) for _, model, _ in self._waiting)
            if wait_s != float("inf"):
                self._timer = asyncio.get_running_loop().call_later(wait_s, self._admit)
            return


class ProviderLimits:
    """All providers that a worker asks, by their address: it has one key for each."""

    def __init__(self) -> None:
        self._limits: dict[str, ProviderLimit] = {}

    def of(self, address: str) -> ProviderLimit:
        if address not in self._limits:
            self._limits[address] = ProviderLimit()
        return self._limits[address]
