"""Lists are read in the order of an index, whatever they are filtered by: nothing is sorted, nothing merged."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import uuid4

import pytest

from app import db
from app.db.models import AgentEvent, Session
from app.history import queries as history
from app.history.queries import Wanted
from app.sessions import queries as session_queries
from tests.factories import OWNER, Statement, statements

CONVERSATION = str(uuid4())
FILTERS: list[dict[str, Any]] = [
    dict(itertools.chain.from_iterable(chosen))
    for chosen in itertools.product(
        ([], [("status", "done")]),
        ([], [("agent_id", 2)]),
        ([], [("conversation_id", CONVERSATION)]),
    )
]


@pytest.fixture
def many_sessions(store: str) -> None:
    """More than a page of each status and agent, in an order that no index has."""
    rows = [
        {
            "session_id": str(uuid4()),
            "owner": OWNER,
            "agent_id": 1 + number % 3,
            "conversation_id": CONVERSATION if number % 7 < 3 else str(uuid4()),
            "status": ("done", "error", "done", "running")[number % 4],
            "user_message": "Hello",
        }
        for number in range(600)
    ]
    db.transaction(lambda: Session.insert_many(rows).execute())


def plan_of(statement: Statement) -> str:
    """What the database would do for *statement*, as one text."""
    explain = "EXPLAIN QUERY PLAN" if db.is_sqlite() else "EXPLAIN"
    rows = db.database.execute_sql(f"{explain} {statement}", statement.parameters).fetchall()
    return " ".join(map(str, rows))


@pytest.mark.usefixtures("many_sessions")
def test_sessions_are_listed_by_an_index_for_every_combination_of_filters() -> None:
    cursors = (None, session_queries.list_recent(OWNER, limit=100).next_cursor)

    for filters in [each | {"cursor": cursor} for each in FILTERS for cursor in cursors]:
        with statements() as asked:
            page = session_queries.list_recent(OWNER, limit=5, **filters)

        plan = plan_of(asked[0])
        assert len(page.rows) == 5, filters
        assert "sessions_o" in plan, (filters, plan)
        for costly in ("filesort", "temporary", "TEMP B-TREE", "index_merge", "intersect"):
            assert costly not in plan, (filters, plan)


def test_a_total_is_exact_up_to_a_limit(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "COUNTED", 3)
    wanted = Wanted(OWNER, 1, conversation_id=CONVERSATION)

    assert (history.page(wanted).total, history.page(wanted).total_is_exact) == (0, True)

    event = {
        "owner": OWNER,
        "agent_id": 1,
        "conversation_id": CONVERSATION,
        "session_number": 1,
        "event_type": "output",
    }
    rows = [event | {"id": str(uuid4()), "seq": number, "content": "Hello", "metadata": {}} for number in range(4)]
    db.transaction(lambda: AgentEvent.insert_many(rows).execute())
    assert (history.page(wanted).total, history.page(wanted).total_is_exact) == (3, False)
