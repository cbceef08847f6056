"""Sessions of a worker share a provider's patience: simulated, on a clock that only the test moves."""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from worker.engine.provider_pace import BURST, LONGEST_PAUSE_S, ProviderPace

Takes = Callable[[float, int], bool]


def window(limit: int) -> Takes:
    """Takes *limit* requests in any second."""
    taken: list[float] = []

    def takes(now: float, _: int) -> bool:
        while taken and taken[0] <= now - 1:
            taken.pop(0)
        if len(taken) < limit:
            taken.append(now)
            return True
        return False

    return takes


def bucket(limit: int) -> Takes:
    """Takes *limit* requests a second, and as many at once after a pause."""
    state = [float(limit), 0.0]

    def takes(now: float, _: int) -> bool:
        state[0] = min(limit, state[0] + (now - state[1]) * limit)
        state[1] = now
        if state[0] >= 1:
            state[0] -= 1
            return True
        return False

    return takes


def slots(limit: int) -> Takes:
    """Answers *limit* requests at a time."""
    return lambda _, busy: busy < limit


@dataclass
class Simulation:
    """Sessions that all begin at once, the queue of a worker, and a provider."""

    takes: Takes
    retry_after_s: float | None = 1.0
    sessions: int = 200
    requests: int = 1
    #: From one end to the other, and how long an answer takes.
    way_s: float = 0.025
    answer_s: float = 0.5
    now: float = 0.0
    #: When each answer began, and whether it was one.
    answers: list[tuple[float, bool]] = field(default_factory=list)
    #: How long each session took.
    took_s: list[float] = field(default_factory=list)
    _events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = field(default_factory=list)
    _order: count = field(default_factory=count)
    _waiting: list[tuple[int, int]] = field(default_factory=list)
    _busy: int = 0
    _timer: int = 0

    def run(self) -> Simulation:
        self.pace = ProviderPace(self.now, jitter=lambda: 0.5)
        for _ in range(self.sessions):
            self._ask(next(self._order), self.requests)
        while self._events and len(self.took_s) < self.sessions:
            self.now, _, then, arguments = heapq.heappop(self._events)
            assert self.now < 600, "it takes for ever"
            then(*arguments)
        return self

    def refused(self, after_s: float = 0.0) -> float:
        """The share of answers from then on that were refusals."""
        answers = [taken for at, taken in self.answers if at >= after_s]
        return answers.count(False) / len(answers) if answers else 0.0

    def _later(self, delay_s: float, then: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._order), then, arguments))

    def _ask(self, place: int, left: int) -> None:
        heapq.heappush(self._waiting, (place, left))
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            wait_s = max(self.pace.pace_s(self.now), self.pace.pause_s("m", self.now))
            if wait_s > 0:
                self._timer += 1
                if wait_s < float("inf"):
                    self._later(wait_s, self._wake, self._timer)
                return
            place, left = heapq.heappop(self._waiting)
            self._later(self.way_s, self._arrive, self.pace.start("m", self.now), place, left)

    def _wake(self, timer: int) -> None:
        if timer == self._timer:
            self._admit()

    def _arrive(self, request: Any, place: int, left: int) -> None:
        taken = self.takes(self.now, self._busy)
        self._busy += taken
        self.answers.append((self.now, taken))
        self._later(self.way_s, self._hear, request, taken, place, left)

    def _hear(self, request: Any, taken: bool, place: int, left: int) -> None:
        if taken:
            self.pace.accept(request, self.now)
            self._later(self.answer_s, self._end, left)
            return
        self.pace.fail(request, self.now, self.retry_after_s, overloaded=True)
        self.pace.end()
        self._ask(place, left)

    def _end(self, left: int) -> None:
        self._busy -= 1
        self.pace.end()
        if left > 1:
            self._ask(next(self._order), left - 1)
        else:
            self.took_s.append(self.now)
        self._admit()


@pytest.mark.parametrize("requests", [1, 3])
@pytest.mark.parametrize("retry_after_s", [1.0, 5.0, 0.0, None])
@pytest.mark.parametrize("provider", [window, bucket])
def test_200_sessions_at_20_requests_a_second_all_end_and_few_are_refused(
    provider: Callable[[int], Takes], retry_after_s: float | None, requests: int
) -> None:
    simulation = Simulation(provider(20), retry_after_s, requests=requests).run()

    assert len(simulation.took_s) == 200
    assert max(simulation.took_s) <= 3 * statistics.median(simulation.took_s)
    assert simulation.refused() <= 0.25
    assert simulation.refused(after_s=10.0) <= 0.25


@pytest.mark.parametrize(("limit", "answer_s"), [(4, 3.0), (50, 3.0), (4, 0.2)])
def test_a_provider_with_few_slots_is_sent_about_as_many(limit: int, answer_s: float) -> None:
    simulation = Simulation(slots(limit), None, sessions=100, answer_s=answer_s).run()

    assert simulation.refused(after_s=10.0) <= 0.25
    # Twice of what it would take with every slot always in use.
    assert max(simulation.took_s) <= 2 * 100 / limit * answer_s + 8


def test_a_provider_that_refuses_nothing_is_slowed_down_by_nothing() -> None:
    simulation = Simulation(lambda *_: True, sessions=300, answer_s=0.5).run()

    assert max(simulation.took_s) < 1.5


def test_a_pause_is_that_of_the_model_that_was_refused_until_another_one_is_too() -> None:
    pace = ProviderPace(0.0, jitter=lambda: 0.0)

    pace.fail(pace.start("a", 0.0), 0.1, 4.0, overloaded=True)
    alone = [pace.pause_s(model, 0.1) for model in "abc"]
    pace.fail(pace.start("b", 0.1), 0.2, 2.0, overloaded=True)
    both = [pace.pause_s(model, 0.2) for model in "abc"]

    assert alone == pytest.approx([4.0, 0.0, 0.0])
    assert both == pytest.approx([3.9, 2.0, 2.0])


def test_failures_that_were_under_way_together_count_once() -> None:
    pace = ProviderPace(0.0, jitter=lambda: 0.5)
    together = [pace.start("a", 0.0) for _ in range(10)]

    for request in together:
        pace.fail(request, 1.0, None, overloaded=False)

    assert pace.pause_s("a", 1.0) == pytest.approx(0.5)


def test_pauses_grow_until_a_request_is_taken() -> None:
    pace = ProviderPace(0.0, jitter=lambda: 0.5)
    now, pauses = 0.0, []
    for _ in range(7):
        request = pace.start("a", now)
        pace.fail(request, now, None, overloaded=False)
        pauses.append(pace.pause_s("a", now))
        now += pauses[-1]

    pace.accept(pace.start("a", now), now)
    pace.fail(pace.start("a", now), now, None, overloaded=False)

    assert pauses == pytest.approx([0.5, 1.0, 2.0, 4.0, *[LONGEST_PAUSE_S] * 3])
    assert pace.pause_s("a", now) == pytest.approx(0.5)


def test_one_refusal_alone_slows_no_other_model_down() -> None:
    pace = ProviderPace(0.0)

    pace.fail(pace.start("a", 0.0), 0.1, None, overloaded=True)
    pace.end()

    for _ in range(int(BURST) - 1):
        assert pace.pace_s(0.1) == 0.0
        pace.start("b", 0.1)
