"""Readers page through a session's events and miss nothing, whatever is written meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import sessions
from app.errors import NotFound
from app.events import Delta, Done, Error, Event, Thinking, ToolCall, log
from app.sessions import claims, commit
from app.sessions.claims import Claim
from app.sessions.commit import Batch
from tests.factories import (
    OWNER,
    assert_sound,
    at_once,
    events_of,
    failures,
    make_claim,
    make_session,
    orphan,
    write,
)

pytestmark = pytest.mark.usefixtures("store")


def test_a_page_has_the_events_above_after_and_names_the_next_page() -> None:
    claim = make_claim()
    write(claim, Thinking(""), *(Delta(str(number)) for number in range(9)))

    page = log.read(OWNER, claim.session_id, 3, 4)

    assert [event["seq"] for event in page.events] == [4, 5, 6, 7]
    assert (page.next_after, page.has_more, page.status) == (7, True, "running")


def test_the_last_page_says_that_there_is_no_more() -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("x"), Delta("y"))

    exact = log.read(OWNER, claim.session_id, 1, 2)
    empty = log.read(OWNER, claim.session_id, 3, 2)

    assert ([event["seq"] for event in exact.events], exact.has_more, exact.next_after) == ([2, 3], False, 3)
    assert (empty.events, empty.has_more, empty.next_after, empty.status) == ([], False, 3, "running")


def test_a_session_that_waits_has_no_events() -> None:
    page = log.read(OWNER, make_session(), 0, 10)

    assert (page.events, page.next_after, page.has_more, page.status) == ([], 0, False, "running")


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
def test_a_terminal_status_comes_with_the_terminal_event_and_never_before(limit: int) -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("x"), Delta("y"), Done("xy"))
    after, seen = 0, 0

    while True:
        page = log.read(OWNER, claim.session_id, after, limit)
        seen += len(page.events)
        ended = any(event["eventType"] == "done" for event in page.events)
        assert page.status == ("done" if ended else "running")
        after = page.next_after
        if page.status != "running":
            break

    assert (seen, page.has_more) == (4, False)
    assert log.read(OWNER, claim.session_id, 4, limit).status == "done"


def test_events_of_another_owner_look_like_none() -> None:
    session_id = make_session(owner="alice")

    with pytest.raises(NotFound):
        log.read("mallory", session_id, 0, 10)
    with pytest.raises(NotFound):
        log.read(OWNER, str(uuid4()), 0, 10)


@pytest.mark.parametrize(
    "large",
    [
        ToolCall("c", "read", None, "x" * 1024 * 1024, True, 1),
        ToolCall("c", "write", {"text": "x" * 1024 * 1024}),
        Delta("x" * 1024 * 1024),
    ],
    ids=["result", "arguments", "text"],
)
def test_a_page_of_large_events_is_short_and_the_next_one_goes_on(large: Event) -> None:
    claim = make_claim()
    write(claim, *[large] * 6, Done("ok"))

    first = log.read(OWNER, claim.session_id, 0, 1000)
    second = log.read(OWNER, claim.session_id, first.next_after, 1000)

    assert (len(first.events), first.has_more, first.status) == (4, True, "running")
    assert ([event["seq"] for event in second.events], second.status) == ([5, 6, 7], "done")


def test_an_event_larger_than_a_page_is_a_page_of_its_own() -> None:
    claim = make_claim()
    write(claim, ToolCall("c", "read", None, "x" * (log.PAGE_CHARACTERS + 1), True, 1), Done("ok"))

    page = log.read(OWNER, claim.session_id, 0, 1000)

    assert (len(page.events), page.has_more) == (1, True)


def test_a_page_longer_than_a_chunk_is_whole() -> None:
    claim = make_claim()
    write(claim, *(Delta("x") for _ in range(437)))

    page = log.read(OWNER, claim.session_id, 13, 401)

    assert [event["seq"] for event in page.events] == list(range(14, 415))
    assert page.has_more


def test_each_type_has_its_fields_and_no_others() -> None:
    claim = make_claim()
    write(
        claim,
        Thinking("hm", 1),
        Delta("x"),
        ToolCall("c", "add", {"a": 1}),
        ToolCall("c", "add", {"a": 1}, "2", False, 0),
        Error("timeout", "late", "x", 7),
    )

    common = {"id", "sessionId", "seq", "eventType", "attempt", "createdAt"}
    thinking, delta, called, result, error = ({*event} - common for event in events_of(claim.session_id))

    assert thinking == {"content", "supersedesFrom"}
    assert delta == {"content"}
    assert called == result == {"toolCallId", "toolName", "toolArgs", "toolResult", "toolSuccess", "durationMs"}
    assert error == {"content", "errorMsg", "errorCode", "durationMs", "usageJson"}
    successes = [event["toolSuccess"] for event in events_of(claim.session_id)[2:4]]
    assert successes[0] is None
    assert successes[1] is False


# the law of paging


@dataclass
class _Reader:
    """A client: it keeps `after`, and asks until it is told a terminal status."""

    session_id: str
    after: int = 0
    seqs: list[int] = field(default_factory=list)
    ended: bool = False

    def read(self, limit: int) -> None:
        if self.ended:
            return
        page = log.read(OWNER, self.session_id, self.after, limit)
        self.seqs += [event["seq"] for event in page.events]
        assert len(page.events) <= limit
        assert page.next_after == (self.seqs[-1] if self.seqs else 0)
        terminal = [event for event in page.events if event["eventType"] in ("done", "error")]
        assert page.status == (terminal[0]["eventType"] if terminal else "running")
        assert page.has_more <= (not terminal)
        self.after, self.ended = page.next_after, page.status != "running"


_TEXT = st.text(max_size=5)
_EVENTS = st.lists(
    st.one_of(
        st.builds(Delta, _TEXT),
        st.builds(Thinking, _TEXT),
        st.builds(ToolCall, st.just("c"), st.just("tool"), st.none(), st.none() | _TEXT),
    ),
    max_size=7,
)
#: What may happen: (session, its next events), (session, its end), (session, a take-over), (reader, its limit).
_STEP = st.one_of(
    st.tuples(st.just("flush"), st.lists(st.tuples(st.integers(0, 2), _EVENTS), max_size=3, unique_by=lambda x: x[0])),
    st.tuples(st.just("end"), st.tuples(st.integers(0, 2), st.sampled_from(["done", "error", "cancel"]))),
    st.tuples(st.just("take over"), st.integers(0, 2)),
    st.tuples(st.just("read"), st.tuples(st.integers(0, 5), st.integers(1, 6))),
)


@pytest.fixture
def examples(store: str) -> int:
    return 25 if store.startswith("sqlite") else 8


def test_every_reader_gets_each_event_once_and_the_end_last(examples: int) -> None:
    @settings(
        max_examples=examples,
        database=None,
        derandomize=True,
    )
    @given(st.lists(_STEP, max_size=25))
    def law(steps: list[tuple[str, object]]) -> None:
        held = [make_claim() for _ in range(3)]
        lengths = [0, 0, 0]
        readers = [_Reader(held[number % 3].session_id) for number in range(6)]

        for kind, what in steps:
            if kind == "read":
                reader, limit = what  # type: ignore[misc]
                readers[reader].read(limit)
            elif kind == "flush":
                batches = [Batch(held[number], lengths[number], events) for number, events in what]  # type: ignore[attr-defined]
                for (number, _), outcome in zip(what, commit.commit(batches), strict=True):  # type: ignore[call-overload]
                    lengths[number] = outcome.last_seq if outcome.current else lengths[number]
            elif kind == "end":
                number, how = what  # type: ignore[misc]
                _end(held[number], lengths[number], how)
            else:
                orphan(held[what].session_id)  # type: ignore[call-overload]
                held[what] = _next_attempt(held[what])  # type: ignore[call-overload]
        for number, claim in enumerate(held):
            _end(claim, lengths[number], "cancel")
        for reader in readers:
            while not reader.ended:
                reader.read(3)

        for reader in readers:
            assert_sound(reader.session_id)
            assert reader.seqs == [event["seq"] for event in events_of(reader.session_id)]

    law()


def _end(claim: Claim, length: int, how: str) -> None:
    if how == "cancel":
        sessions.end(claim.session_id, Error("cancelled", "cancelled by the user"))
    else:
        last: Event = Done("x") if how == "done" else Error("timeout", "late")
        commit.commit([Batch(claim, length, [last])])


def _next_attempt(claim: Claim) -> Claim:
    taken, _ = claims.take([claim.session_id], "worker-2", max_attempts=100, turn_timeout_s=900)
    return taken[0] if taken else claim


def test_readers_beside_writers_get_each_event_once_and_the_end_last() -> None:
    held = [make_claim() for _ in range(3)]
    readers = [_Reader(held[number % 3].session_id) for number in range(6)]

    def flush() -> None:
        for start in range(0, 60, 4):
            commit.commit([Batch(claim, start, [Delta("x")] * 4) for claim in held])
        commit.commit([Batch(claim, 60, [Delta("x"), Done("x" * 61)]) for claim in held])

    def follow(reader: _Reader, limit: int) -> None:
        while not reader.ended:
            reader.read(limit)

    outcomes = at_once([flush, *(lambda n=n, reader=reader: follow(reader, n + 1) for n, reader in enumerate(readers))])

    assert failures(outcomes) == []
    assert [reader.seqs for reader in readers] == [list(range(1, 63))] * 6
