"""Paging through conversations and messages gives every row exactly once, also where many have one time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import db
from app.conversations import messages
from app.conversations import queries as conversation_queries
from app.db import paging
from app.db.models import Conversation, Message
from app.events import Done, Thinking
from app.history import queries as history
from app.history.queries import Wanted
from app.sessions import queries as session_queries
from tests.factories import change, make_claim, make_session, write

pytestmark = pytest.mark.usefixtures("store")

START = datetime(2026, 3, 1, tzinfo=UTC)
_owners = count()
EACH_ON_BOTH = settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(times=st.lists(st.integers(0, 3), max_size=15), limit=st.integers(1, 6))
@EACH_ON_BOTH
def test_conversations_of_equal_times_are_listed_once(times: list[int], limit: int) -> None:
    owner = f"owner-{next(_owners)}"
    rows = [
        {"conversation_id": str(uuid4()), "owner": owner, "updated_at": START + timedelta(milliseconds=at)}
        for at in times
    ]
    if rows:
        db.transaction(lambda: Conversation.insert_many(rows).execute())

    found: list[str] = []
    cursor = None
    while True:
        page = conversation_queries.list_recent(owner, limit=limit, cursor=cursor)
        found += [each["conversationId"] for each in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            break

    newest_first = sorted(enumerate(rows), key=lambda each: (each[1]["updated_at"], each[0]), reverse=True)
    assert found == [row["conversation_id"] for _, row in newest_first]


@given(how_many=st.integers(0, 15), limit=st.integers(1, 6), order=st.sampled_from(["asc", "desc"]))
@EACH_ON_BOTH
def test_messages_of_equal_times_are_listed_once_either_way(how_many: int, limit: int, order: Any) -> None:
    owner = f"owner-{next(_owners)}"
    conversation_id = str(uuid4())
    rows = [
        {
            "owner": owner,
            "conversation_id": conversation_id,
            "session_id": str(uuid4()),
            "role": "user",
            "content": str(number),
            "metadata": {},
            "created_at": START,
        }
        for number in range(how_many)
    ]
    conversation = {"conversation_id": conversation_id, "owner": owner, "message_count": how_many}
    db.transaction(lambda: Conversation.insert(**conversation).execute())
    if rows:
        db.transaction(lambda: Message.insert_many(rows).execute())

    found: list[str] = []
    cursor = None
    while True:
        page = messages.of_conversation(owner, conversation_id, limit=limit, cursor=cursor, order=order)
        found += [message["content"] for message in page.rows]
        assert page.total == how_many
        cursor = page.next_cursor
        if cursor is None:
            break

    expected = [str(number) for number in range(how_many)]
    assert found == (expected if order == "asc" else expected[::-1])


LARGE = paging.PAGE_BYTES // 2 + 1


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_page_of_large_messages_has_fewer_and_goes_on_with_the_next(order: Any) -> None:
    conversation_id = str(uuid4())
    contents = ["small", "x" * LARGE, "y" * (3 * LARGE), "z" * LARGE, "", "last"]
    rows = [
        {
            "owner": "large",
            "conversation_id": conversation_id,
            "session_id": str(uuid4()),
            "role": "user",
            "content": each,
            "metadata": {},
        }
        for each in contents
    ]
    conversation = {"conversation_id": conversation_id, "owner": "large", "message_count": len(rows)}
    db.transaction(lambda: Conversation.insert(**conversation).execute())
    db.transaction(lambda: Message.insert_many(rows).execute())

    pages = []
    cursor = None
    while True:
        page = messages.of_conversation("large", conversation_id, limit=4, cursor=cursor, order=order)
        pages.append([message["content"][:5] for message in page.rows])
        cursor = page.next_cursor
        if cursor is None:
            break

    if order == "asc":
        assert pages == [["small", "xxxxx"], ["yyyyy"], ["zzzzz", "", "last"]]
    else:
        assert pages == [["last", "", "zzzzz"], ["yyyyy"], ["xxxxx", "small"]]


@pytest.mark.parametrize(
    "large",
    [{"metadata": {"toolCalls": "x" * LARGE}}, {"content": "\0" + "x" * LARGE}],
    ids=["metadata", "text after a NUL"],
)
def test_all_that_makes_a_message_large_counts(large: dict[str, Any]) -> None:
    conversation_id = str(uuid4())
    message = {"owner": "large", "conversation_id": conversation_id, "role": "user", "content": "x", "metadata": {}}
    rows = [message | {"session_id": str(uuid4())} | large for _ in range(3)]
    conversation = {"conversation_id": conversation_id, "owner": "large", "message_count": len(rows)}
    db.transaction(lambda: Conversation.insert(**conversation).execute())
    db.transaction(lambda: Message.insert_many(rows).execute())

    page = messages.of_conversation("large", conversation_id)

    assert len(page.rows) == 1
    assert page.next_cursor is not None


def test_a_page_of_large_sessions_has_fewer_and_goes_on_with_the_next() -> None:
    made = [make_session(owner="large") for _ in range(3)]
    for session_id in made:
        change(session_id, final_response="x" * LARGE)

    first = session_queries.list_recent("large", limit=20)
    second = session_queries.list_recent("large", limit=20, cursor=first.next_cursor)
    third = session_queries.list_recent("large", limit=20, cursor=second.next_cursor)

    pages = (first, second, third)
    assert [[row["sessionId"] for row in page.rows] for page in pages] == [[each] for each in made[::-1]]
    assert [page.has_more for page in pages] == [True, True, False]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_page_of_large_history_has_fewer_and_goes_on_with_the_next(order: Any) -> None:
    claim = make_claim()
    write(claim, Thinking(""), Done("x" * LARGE))
    write(second := make_claim(make_session(conversation_id=claim.conversation_id)), Thinking(""), Done("y" * LARGE))
    wanted = Wanted(claim.owner, 1, conversation_id=claim.conversation_id)

    whole = [row["eventType"] for row in history.page(wanted, limit=500, order=order).rows]
    found: list[dict[str, Any]] = []
    after = before = None
    pages = 0
    while True:
        page = history.page(wanted, limit=500, order=order, after=after, before=before)
        found += page.rows
        pages += 1
        if page.next_cursor is None:
            break
        place = history.place_of(page.next_cursor, "after")
        after, before = (place, None) if order == "asc" else (None, place)

    assert pages == 2
    assert len(whole) < len(found)
    assert len({row["id"] for row in found}) == len(found) == found[0 if order == "desc" else -1]["seq"]
    assert {row["sessionId"] for row in found} == {claim.session_id, second.session_id}
