"""How fast a provider takes requests, learned from those that it refuses. Knows no loop and no clock of its own.

A refusal pauses the model that was asked for, and the whole provider as soon as it refuses another one too. Several
refusals together also slow down: to the rate that was taken before them, and, where the provider names no time to
wait, to the number of requests that it kept. Both grow back, slowly near what was refused and then faster.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from . import failures

#: Requests a second, and at once, while nothing was refused: not all of a burst of sessions may meet a limit.
FASTEST = 400.0
BURST = 40.0
#: Refusals are seen together within this time, and the rate before one is measured over it.
WINDOW_S = 1.0
#: No longer pause than this without being asked for it.
LONGEST_PAUSE_S = 8.0
#: Share of what was taken that is asked for after a refusal.
_CARE = 0.9
#: What is measured over too short a time, or with too few sessions, does not slow down below this at once.
_FEW = 5.0
_SLOWEST = 0.05
_LONGEST_GROWTH = 5.0
#: Starts that are remembered.
_REMEMBERED = 2048


@dataclass(slots=True, eq=False)
class Request:
    """One request that was sent."""

    model: str
    started_at: float
    refused: bool = False
    #: Something of its answer, or that there will be one, has arrived.
    accepted: bool = False


class ProviderPace:
    """See the module's docstring. All times are those of one clock, in seconds, and are passed in.

    Args:
        jitter: A number from 0 to 1 each time: workers that were refused together don't come back together.
    """

    def __init__(self, now: float, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        # Of each model: the request that was taken last, and when.
        self._accepted: dict[str, tuple[Request, float]] = {}
        self.in_flight = 0
        self._tokens, self._tokens_at = BURST, now
        # Rate and requests in flight of the last refusal, and since when they grow.
        self._rate, self._most, self._grows_from, self._pace_of_growth = FASTEST, float("inf"), now, 1.0
        # Refusals of requests that started before this are about what was slowed down already.
        self._slowed_at, self._floor = float("-inf"), _FEW
        self._starts: deque[Request] = deque(maxlen=_REMEMBERED)
        self._refusals: deque[float] = deque(maxlen=2)
        # Of each model: until when it pauses, and how often in a row; since when.
        self._paused: dict[str, float] = {}
        self._in_a_row: dict[str, tuple[int, float]] = {}

    def rate(self, now: float) -> float:
        """Requests that may start in a second."""
        return min(self._rate * self._growth(now), FASTEST)

    def most_in_flight(self, now: float) -> float:
        return max(1.0, self._most * self._growth(now))

    def pace_s(self, now: float) -> float:
        """How long no request may start, whatever its model; infinity: until one ends."""
        if self.in_flight + 1 > self.most_in_flight(now):
            return float("inf")
        rate = self.rate(now)
        self._tokens = min(max(1.0, min(BURST, rate / 10)), self._tokens + (now - self._tokens_at) * rate)
        self._tokens_at = now
        return 0.0 if self._tokens >= 1.0 - 1e-6 else (1.0 - self._tokens) / rate

    def pause_s(self, model: str, now: float) -> float:
        """How long no request for *model* may start."""
        # Two models at once: it is the provider that refuses, and the first to end says until when.
        ends = sorted(self._paused.values(), reverse=True)[1:2]
        return max(0.0, self._paused.get(model, now) - now, *(end - now for end in ends))

    def start(self, model: str, now: float) -> Request:
        """Note that a request is sent."""
        self._tokens -= 1.0
        self.in_flight += 1
        request = Request(model, now)
        self._starts.append(request)
        return request

    def accept(self, request: Request, now: float) -> None:
        """Note that the provider answers *request*."""
        if not request.accepted:
            request.accepted = True
            self._accepted[request.model] = request, now
            self._in_a_row.pop(request.model, None)

    def took_others(self, request: Request, since: float) -> bool:
        """Whether another one for the same model was taken after *since*."""
        accepted, at = self._accepted.get(request.model, (request, since))
        return accepted is not request and at > since

    def end(self) -> None:
        """Note that a request is over, however it ended."""
        self.in_flight -= 1

    def fail(self, request: Request, now: float, retry_after_s: float | None, *, overloaded: bool) -> None:
        """Note that *request* failed: the provider has too much to do, or else merely failed. Call `end` as well."""
        request.refused = True
        pause_s = self._pause_s(request, now, retry_after_s)
        self._paused = {model: until for model, until in self._paused.items() if until > now}
        self._paused[request.model] = max(self._paused.get(request.model, 0.0), now + pause_s)
        if not overloaded:
            return
        self._refusals.append(now)
        if len(self._refusals) == 2 and now - self._refusals[0] <= 2 * WINDOW_S:
            self._slow_down(request, now, pause_s, keeps_waiting=retry_after_s is not None)

    def _growth(self, now: float) -> float:
        grown_s = max(0.0, now - self._grows_from) * self._pace_of_growth
        return float(1.0 + 0.01 * grown_s + (grown_s / 15.0) ** 3)

    def _pause_s(self, request: Request, now: float, retry_after_s: float | None) -> float:
        if retry_after_s is not None:
            asked = retry_after_s if retry_after_s <= failures.LONGEST_RETRY_AFTER_S else 0.0
            return asked * (1.0 + 0.1 * self._jitter())
        times, since = self._in_a_row.get(request.model, (0, float("-inf")))
        if request.started_at >= since:
            # What was under way together failed together.
            times, since = times + 1, now
            self._in_a_row[request.model] = (times, since)
        pause_s = min(failures.FIRST_PAUSE_S * 2.0 ** (times - 1), LONGEST_PAUSE_S)
        return float(pause_s * (0.75 + 0.5 * self._jitter()))

    def _slow_down(self, request: Request, now: float, pause_s: float, *, keeps_waiting: bool) -> None:
        rate, most = self.rate(now), self.most_in_flight(now)
        if request.started_at > self._slowed_at:
            self._floor = _FEW if rate > 2 * _FEW else max(rate / 2, _SLOWEST)
            self._slowed_at = now
        began = request.started_at
        taken = sum(began - WINDOW_S < each.started_at <= began and not each.refused for each in self._starts)
        self._rate = min(rate, max(_CARE * taken / WINDOW_S, self._floor))
        if not keeps_waiting:
            kept = self.in_flight - 1
            self._most = min(most, max(_CARE * kept, min(_FEW, most / 2), 1.0))
        self._grows_from = now + pause_s
        # Asking for too much costs all sessions the pause: the longer it is, the more rarely it is tried.
        self._pace_of_growth = 1.0 / min(max(pause_s, 1.0), _LONGEST_GROWTH)
        self._tokens = min(self._tokens, 1.0)
