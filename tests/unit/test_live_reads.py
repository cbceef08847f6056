"""What keeps thousands of readers from reading the same thing thousands of times."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from app.api.live import News, Waiter
from app.api.pages import POLL_MS, POLL_STILL_MS, POLL_STREAMING_MS, SharedPage, poll_after_ms
from app.api.single_flight import SingleFlight
from app.api.standings import Standings
from app.errors import DatabaseUnavailable, NotFound
from app.events.log import Page

QUIET = Page("s1", "running", [], 3, has_more=False, moved_at=100.0)


class Log:
    """The events of one session, and how often they were read."""

    def __init__(self) -> None:
        self.last_seq = 0
        self.deleted = False
        self.reads: list[int] = []

    def read(self, owner: str, session_id: str, after: int, limit: int) -> Page:
        self.reads.append(after)
        if self.deleted:
            raise NotFound("no such session")
        last = min(self.last_seq, after + limit)
        found = [{"seq": seq, "eventType": "delta"} for seq in range(after + 1, last + 1)]
        return Page(session_id, "running", found, last, last < self.last_seq, 0.0)


class Readers(News):
    """Reads when it is told to instead of on threads of its own."""

    def __init__(self, log: Log) -> None:
        super().__init__(redis.Redis(), log.read)
        self._started = True

    def hear(self, session_id: str = "s1") -> None:
        """News of a session."""
        self._to_read([session_id])
        self.read_on()

    def read_on(self) -> None:
        while not self._moved.empty():
            self._serve(self._moved.get())


def seqs(shared: SharedPage | None) -> list[int]:
    return [] if shared is None else [event["seq"] for event in shared.page.events]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def news(log: Log) -> Readers:
    return Readers(log)


@pytest.fixture
def make_waiter(news: Readers) -> Callable[..., Waiter]:
    def make(after: int = 0, limit: int = 500, session_id: str = "s1") -> Waiter:
        waiter = Waiter("me", session_id, after, limit)
        news.register(waiter)
        return waiter

    return make


def test_all_who_wait_at_the_same_seq_share_one_page(
    log: Log, news: Readers, make_waiter: Callable[..., Waiter]
) -> None:
    waiters = [make_waiter() for _ in range(100)]
    log.last_seq = 2

    news.hear()

    pages = [news.wait(waiter, 0) for waiter in waiters]
    assert seqs(pages[0]) == [1, 2]
    assert len({id(page) for page in pages}) == 1
    assert log.reads == [0]


def test_news_that_comes_before_a_page_was_taken_is_handed_out_next(
    log: Log, news: Readers, make_waiter: Callable[..., Waiter]
) -> None:
    waiter = make_waiter()
    log.last_seq = 1
    news.hear()
    log.last_seq = 3
    news.hear()

    first = news.wait(waiter, 0)
    news.read_on()
    second = news.wait(waiter, 0)

    assert (seqs(first), seqs(second)) == ([1], [2, 3])
    assert seqs(news.wait(waiter, 0)) == []


def test_a_slow_reader_costs_no_reads_while_it_is_slow(
    log: Log, news: Readers, make_waiter: Callable[..., Waiter]
) -> None:
    make_waiter()

    for log.last_seq in range(1, 50):
        news.hear()

    assert log.reads == [0]


def test_a_reader_far_behind_gets_page_after_page(log: Log, news: Readers, make_waiter: Callable[..., Waiter]) -> None:
    waiter = make_waiter(limit=2)
    log.last_seq = 5
    news.hear()

    pages = []
    while page := news.wait(waiter, 0):
        pages.append(seqs(page))
        news.read_on()

    assert pages == [[1, 2], [3, 4], [5]]


def test_a_reader_that_read_by_itself_is_not_handed_the_same_again(
    log: Log, news: Readers, make_waiter: Callable[..., Waiter]
) -> None:
    waiter = make_waiter()
    log.last_seq = 1
    news.hear()
    own = log.read("me", "s1", 0, 500)
    log.last_seq = 2

    news.skip(waiter, own)
    news.read_on()

    assert seqs(news.wait(waiter, 0)) == [2]


def test_all_who_wait_for_a_deleted_session_are_told(
    log: Log, news: Readers, make_waiter: Callable[..., Waiter]
) -> None:
    waiters = [make_waiter() for _ in range(3)]
    log.deleted = True

    news.hear()

    for waiter in waiters:
        with pytest.raises(NotFound):
            news.wait(waiter, 0)


def test_news_of_sessions_that_nobody_waits_for_is_not_read(
    log: Log, news: Readers, make_waiter: Callable[..., Waiter]
) -> None:
    waiter = make_waiter()
    news.unregister(waiter)

    news.hear()
    news.hear("other")

    assert log.reads == []


def test_callers_who_come_before_a_read_has_begun_share_it_and_later_ones_do_not() -> None:
    flights: SingleFlight[int] = SingleFlight()
    may_begin, has_begun, may_end = threading.Event(), threading.Event(), threading.Event()
    results: list[int] = []

    def work(begin: Callable[[], None]) -> int:
        may_begin.wait(10)
        begin()
        has_begun.set()
        may_end.wait(10)
        return 1

    threads = [threading.Thread(target=lambda: results.append(flights.call("key", work))) for _ in range(5)]
    for thread in threads:
        thread.start()
    may_begin.set()
    has_begun.wait(10)

    late = flights.call("key", lambda begin: 2)
    may_end.set()
    for thread in threads:
        thread.join(10)

    assert late == 2
    assert results == [1] * 5


def test_a_read_that_fails_fails_for_all_who_share_it_and_for_nobody_after() -> None:
    flights: SingleFlight[int] = SingleFlight()

    def fail(begin: Callable[[], None]) -> int:
        raise DatabaseUnavailable("gone")

    with pytest.raises(DatabaseUnavailable):
        flights.call("key", fail)

    assert flights.call("key", lambda begin: 7) == 7


class Table:
    """What `session_list.newest` would find, and how often it was asked for what."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[int, str]] = {}
        self.asked: list[list[str]] = []

    def newest(self, session_ids: object) -> dict[str, tuple[int, str]]:
        self.asked.append(sorted(session_ids))  # type: ignore[call-overload]
        return {each: self.rows[each] for each in self.asked[-1] if each in self.rows}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def standings(table: Table, clock: Clock) -> Standings:
    standings = Standings(table.newest, clock)
    standings._started = True  # the test refreshes
    return standings


def test_a_standing_is_known_for_a_second_and_again_after_each_refresh(
    standings: Standings, table: Table, clock: Clock
) -> None:
    standings.remember("me", QUIET, clock.now)
    table.rows["s1"] = (3, "running")

    for _ in range(3):
        clock.now += 0.9
        known = standings.get("s1")
        assert known is not None
        assert (known.owner, known.seq, known.status) == ("me", 3, "running")
        standings.refresh()
    clock.now += 1.1

    assert standings.get("s1") is None


@pytest.mark.parametrize("moved", [(4, "running"), (3, "done"), None])
def test_a_session_that_moved_is_read_again(
    standings: Standings, table: Table, clock: Clock, moved: tuple[int, str] | None
) -> None:
    standings.remember("me", QUIET, clock.now)
    if moved:
        table.rows["s1"] = moved

    standings.refresh()

    assert standings.get("s1") is None


def test_all_polled_sessions_are_looked_up_together_and_no_others(
    standings: Standings, table: Table, clock: Clock
) -> None:
    for number in range(1000):
        standings.remember("me", replace(QUIET, session_id=f"s{number}"), clock.now)
        table.rows[f"s{number}"] = (3, "running")
    clock.now += 9
    standings.get("s7")
    clock.now += 2

    standings.refresh()

    assert table.asked == [["s7"]]


def test_ended_sessions_and_unread_pages_are_not_remembered(standings: Standings, clock: Clock) -> None:
    standings.remember("me", replace(QUIET, status="done"), clock.now)
    assert standings.get("s1") is None

    standings.remember("me", replace(QUIET, has_more=True), clock.now)
    assert standings.get("s1") is None


def test_the_advice_for_the_next_poll_follows_what_happens() -> None:
    delta = {"seq": 4, "eventType": "delta"}
    tool = {"seq": 4, "eventType": "tool_call"}

    assert poll_after_ms(replace(QUIET, events=[delta]), now=100) == POLL_STREAMING_MS
    assert poll_after_ms(replace(QUIET, events=[tool]), now=100) == POLL_MS
    assert poll_after_ms(QUIET, now=119) == POLL_MS
    assert poll_after_ms(QUIET, now=121) == POLL_STILL_MS
    assert poll_after_ms(replace(QUIET, events=[delta], has_more=True), now=100) == 0
