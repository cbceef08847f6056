"""Paging through the history of an agent, also where many rows have one time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import db
from app.db.models import Conversation
from app.history import entries
from app.history import queries as history
from app.history.entries import HISTORY_TYPES, Entry
from app.history.queries import Place, Wanted

pytestmark = pytest.mark.usefixtures("store")

START = datetime(2026, 3, 1, tzinfo=UTC)
_agents = count(1000)

#: (milliseconds, type) of each row, in the order in which they are stored: few times, so that many are equal.
ROWS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(HISTORY_TYPES[:3])), max_size=25)
EACH_ON_BOTH = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def stored(rows: list[tuple[int, str]]) -> Wanted:
    """Store *rows* as the history of an agent of its own."""
    agent_id = next(_agents)
    conversation_id = str(uuid4())

    def insert() -> None:
        conversation = Conversation(conversation_id=conversation_id, owner="local", history_seq=0, session_number=1)
        for at, kind in rows:
            when = START + timedelta(milliseconds=at)
            entries.insert(entries.number(conversation, [Entry(kind)], when, agent_id=agent_id, session_id=None))  # type: ignore[arg-type]

    db.transaction(insert)
    return Wanted("local", agent_id)


def expected(rows: list[tuple[int, str]], kinds: frozenset[Any] | None) -> list[int]:
    """Seqs of the rows in the order of their times."""
    wanted = [(at, seq) for seq, (at, kind) in enumerate(rows, start=1) if kinds is None or kind in kinds]
    return [seq for _, seq in sorted(wanted)]


def walk(wanted: Wanted, limit: int, order: Any, back: bool, start: Place | None = None) -> list[int]:
    """Seqs of all pages in one direction, in the order of time."""
    seen: list[int] = []
    place = start
    while True:
        page = history.page(
            wanted, limit=limit, before=place if back else None, after=None if back else place, order=order
        )
        seqs = [event["seq"] for event in page.rows]
        ascending = seqs if order == "asc" else seqs[::-1]
        seen = ascending + seen if back else seen + ascending
        if page.next_cursor is None:
            return seen
        assert len(seqs) == limit
        # What a client hands back.
        place = history.place_of(json.loads(json.dumps(page.next_cursor)), "cursor")


@given(
    rows=ROWS,
    limit=st.integers(1, 7),
    order=st.sampled_from(["asc", "desc"]),
    back=st.booleans(),
    kinds=st.none() | st.frozensets(st.sampled_from(HISTORY_TYPES[:3]), min_size=1),
)
@EACH_ON_BOTH
def test_paging_either_way_gives_every_row_exactly_once(
    rows: list[tuple[int, str]], limit: int, order: Any, back: bool, kinds: frozenset[Any] | None
) -> None:
    everything = stored(rows)
    wanted = Wanted(everything.owner, everything.agent_id, types=kinds)
    # From beyond the last row backwards, or from before the first one forwards.
    start = history.before_time(START + timedelta(days=1)) if back else history.after_time(START - timedelta(days=1))

    assert walk(wanted, limit, order, back, start) == expected(rows, kinds)
    assert history.page(wanted, limit=limit).total == len(expected(rows, kinds))


@given(rows=ROWS.filter(bool), data=st.data(), limit=st.integers(1, 7), order=st.sampled_from(["asc", "desc"]))
@EACH_ON_BOTH
def test_pages_before_and_after_any_row_meet_at_it(
    rows: list[tuple[int, str]], data: st.DataObject, limit: int, order: Any
) -> None:
    wanted = stored(rows)
    everything = expected(rows, None)
    position = data.draw(st.integers(1, len(everything)))
    page = history.page(wanted, limit=position)
    if page.next_cursor is None:
        return
    here = history.place_of(page.next_cursor, "cursor")

    later = walk(wanted, limit, order, False, here)
    earlier = walk(wanted, limit, order, True, here)

    assert earlier == everything[: position - 1]
    assert later == everything[position:]


@given(rows=ROWS, at=st.integers(-1, 4), limit=st.integers(1, 7))
@EACH_ON_BOTH
def test_a_time_divides_the_rows_and_its_own_are_on_neither_side(
    rows: list[tuple[int, str]], at: int, limit: int
) -> None:
    wanted = stored(rows)
    moment = START + timedelta(milliseconds=at)
    times = {seq: when for seq, (when, _) in enumerate(rows, start=1)}

    later = walk(wanted, limit, "asc", False, history.after_time(moment))
    earlier = walk(wanted, limit, "asc", True, history.before_time(moment))

    everything = expected(rows, None)
    assert later == [seq for seq in everything if times[seq] > at]
    assert earlier == [seq for seq in everything if times[seq] < at]


@given(rows=ROWS, since=st.integers(-1, 4), until=st.integers(-1, 4))
@EACH_ON_BOTH
def test_totals_of_a_span_of_time_count_what_it_shows(rows: list[tuple[int, str]], since: int, until: int) -> None:
    everything = stored(rows)
    wanted = Wanted(
        everything.owner,
        everything.agent_id,
        since=START + timedelta(milliseconds=since),
        until=START + timedelta(milliseconds=until),
    )

    page = history.page(wanted, limit=500)

    assert [event["seq"] for event in page.rows] == [
        seq for at, seq in sorted((at, seq) for seq, (at, _) in enumerate(rows, start=1)) if since <= at < until
    ]
    assert page.total == len(page.rows)
