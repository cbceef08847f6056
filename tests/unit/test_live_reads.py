"""What keeps thousands of readers from reading the same thing thousands of times."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from app.api.polling.hub import Hub, Subscriber
from app.api.polling.local_heads import LocalHeads
from app.api.polling.notifications import Notifications
from app.api.polling.pages import POLL_MS, POLL_STILL_MS, POLL_STREAMING_MS, SharedPage, poll_after_ms
from app.api.polling.single_flight import SingleFlight
from app.broker.heads import Head
from app.errors import DatabaseUnavailable, NotFound
from app.events.log import EventPage

HEAD = Head("s1", "me", 3, "running")
QUIET = EventPage("s1", "running", [], 3, has_more=False, moved_at=100.0)


class Log:
    """The events of one session, and how often they were read."""

    def __init__(self) -> None:
        self.last_seq = 0
        self.deleted = False
        self.reads: list[int] = []

    def read(self, owner: str, session_id: str, after: int, limit: int) -> EventPage:
        self.reads.append(after)
        if self.deleted:
            raise NotFound("no such session")
        last = min(self.last_seq, after + limit)
        found = [{"seq": seq, "eventType": "delta"} for seq in range(after + 1, last + 1)]
        return EventPage(session_id, "running", found, last, last < self.last_seq, 0.0)


class Readers(Hub):
    """Reads when it is told to instead of on threads of its own."""

    def __init__(self, log: Log) -> None:
        super().__init__(Notifications(redis.Redis()), log.read)
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
def hub(log: Log) -> Readers:
    return Readers(log)


@pytest.fixture
def make_subscriber(hub: Readers) -> Callable[..., Subscriber]:
    def make(after: int = 0, limit: int = 500, session_id: str = "s1") -> Subscriber:
        subscriber = Subscriber("me", session_id, after, limit)
        hub.register(subscriber)
        return subscriber

    return make


def test_all_who_wait_at_the_same_seq_share_one_page(
    log: Log, hub: Readers, make_subscriber: Callable[..., Subscriber]
) -> None:
    subscribers = [make_subscriber() for _ in range(100)]
    log.last_seq = 2

    hub.hear()

    pages = [hub.wait(subscriber, 0) for subscriber in subscribers]
    assert seqs(pages[0]) == [1, 2]
    assert len({id(page) for page in pages}) == 1
    assert log.reads == [0]


def test_news_that_comes_before_a_page_was_taken_is_handed_out_next(
    log: Log, hub: Readers, make_subscriber: Callable[..., Subscriber]
) -> None:
    subscriber = make_subscriber()
    log.last_seq = 1
    hub.hear()
    log.last_seq = 3
    hub.hear()

    first = hub.wait(subscriber, 0)
    hub.read_on()
    second = hub.wait(subscriber, 0)

    assert (seqs(first), seqs(second)) == ([1], [2, 3])
    assert seqs(hub.wait(subscriber, 0)) == []


def test_a_slow_reader_costs_no_reads_while_it_is_slow(
    log: Log, hub: Readers, make_subscriber: Callable[..., Subscriber]
) -> None:
    make_subscriber()

    for log.last_seq in range(1, 50):
        hub.hear()

    assert log.reads == [0]


def test_a_reader_far_behind_gets_page_after_page(
    log: Log, hub: Readers, make_subscriber: Callable[..., Subscriber]
) -> None:
    subscriber = make_subscriber(limit=2)
    log.last_seq = 5
    hub.hear()

    pages = []
    while page := hub.wait(subscriber, 0):
        pages.append(seqs(page))
        hub.read_on()

    assert pages == [[1, 2], [3, 4], [5]]


def test_a_reader_that_read_by_itself_is_not_handed_the_same_again(
    log: Log, hub: Readers, make_subscriber: Callable[..., Subscriber]
) -> None:
    subscriber = make_subscriber()
    log.last_seq = 1
    hub.hear()
    own = log.read("me", "s1", 0, 500)
    log.last_seq = 2

    hub.skip(subscriber, own)
    hub.read_on()

    assert seqs(hub.wait(subscriber, 0)) == [2]


def test_all_who_wait_for_a_deleted_session_are_told(
    log: Log, hub: Readers, make_subscriber: Callable[..., Subscriber]
) -> None:
    subscribers = [make_subscriber() for _ in range(3)]
    log.deleted = True

    hub.hear()

    for subscriber in subscribers:
        with pytest.raises(NotFound):
            hub.wait(subscriber, 0)


def test_news_of_sessions_that_nobody_waits_for_is_not_read(
    log: Log, hub: Readers, make_subscriber: Callable[..., Subscriber]
) -> None:
    subscriber = make_subscriber()
    hub.unregister(subscriber)

    hub.hear()
    hub.hear("other")

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
    """What `app.sessions.queries.heads` would find, and how often it was asked for what."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[int, str]] = {}
        self.asked: list[list[str]] = []

    def heads(self, session_ids: object) -> dict[str, Head]:
        self.asked.append(sorted(session_ids))  # type: ignore[call-overload]
        return {each: Head(each, "me", *self.rows[each]) for each in self.asked[-1] if each in self.rows}


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
def published() -> Table:
    """What Redis has."""
    return Table()


@pytest.fixture
def local_heads(published: Table, table: Table, clock: Clock) -> LocalHeads:
    local_heads = LocalHeads(published.heads, table.heads, clock)
    local_heads._started = True  # the test refreshes
    return local_heads


def test_a_head_is_known_for_a_second_and_again_after_each_refresh(
    local_heads: LocalHeads, table: Table, clock: Clock
) -> None:
    local_heads.remember(HEAD, clock.now)
    table.rows["s1"] = (3, "running")

    for _ in range(3):
        clock.now += 0.9
        known = local_heads.get("s1")
        assert known is not None
        assert (known.owner, known.seq, known.status) == ("me", 3, "running")
        local_heads.refresh()
    clock.now += 1.1

    assert local_heads.get("s1") is None


@pytest.mark.parametrize("moved", [(4, "running"), (3, "done"), None])
def test_a_session_that_moved_is_read_again(
    local_heads: LocalHeads, table: Table, clock: Clock, moved: tuple[int, str] | None
) -> None:
    local_heads.remember(HEAD, clock.now)
    if moved:
        table.rows["s1"] = moved

    local_heads.refresh()

    assert local_heads.get("s1") is None


def test_all_polled_sessions_are_looked_up_together_and_no_others(
    local_heads: LocalHeads, table: Table, clock: Clock
) -> None:
    for number in range(1000):
        local_heads.remember(replace(HEAD, session_id=f"s{number}"), clock.now)
        table.rows[f"s{number}"] = (3, "running")
    clock.now += 9
    local_heads.get("s7")
    clock.now += 2

    local_heads.refresh()

    assert table.asked == [["s7"]]


def test_ended_sessions_are_not_remembered(local_heads: LocalHeads, clock: Clock) -> None:
    local_heads.remember(replace(HEAD, status="done"), clock.now)

    assert local_heads.get("s1") is None


def test_the_database_is_asked_only_for_what_redis_has_not(
    local_heads: LocalHeads, published: Table, table: Table, clock: Clock
) -> None:
    for session_id in ("s1", "s2"):
        local_heads.remember(replace(HEAD, session_id=session_id), clock.now)
    published.rows["s1"] = table.rows["s2"] = (3, "running")
    clock.now += 0.9

    local_heads.refresh()
    clock.now += 0.9

    assert (published.asked, table.asked) == ([["s1", "s2"]], [["s2"]])
    assert (local_heads.get("s1"), local_heads.get("s2")) == (HEAD, replace(HEAD, session_id="s2"))


def test_what_changed_is_forgotten_at_once(local_heads: LocalHeads, clock: Clock) -> None:
    local_heads.remember(HEAD, clock.now)

    local_heads.forget(["other", "s1"])

    assert local_heads.get("s1") is None


def test_the_advice_for_the_next_poll_follows_what_happens() -> None:
    delta = {"seq": 4, "eventType": "delta"}
    tool = {"seq": 4, "eventType": "tool_call"}

    assert poll_after_ms(replace(QUIET, events=[delta]), now=100) == POLL_STREAMING_MS
    assert poll_after_ms(replace(QUIET, events=[tool]), now=100) == POLL_MS
    assert poll_after_ms(QUIET, now=119) == POLL_MS
    assert poll_after_ms(QUIET, now=121) == POLL_STILL_MS
    assert poll_after_ms(replace(QUIET, events=[delta], has_more=True), now=100) == 0
