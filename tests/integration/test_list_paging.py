"""Paging through conversations and messages gives every row exactly once, also where many have one time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import conversation_list, database, message_list
from app.models import Conversation, Message

pytestmark = pytest.mark.usefixtures("store")

START = datetime(2026, 3, 1, tzinfo=UTC)
_owners = count()
EACH_ON_BOTH = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
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
        database.transaction(lambda: Conversation.insert_many(rows).execute())

    found: list[str] = []
    cursor = None
    while True:
        page, cursor = conversation_list.list_recent(owner, limit=limit, cursor=cursor)
        found += [each["conversationId"] for each in page]
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
    database.transaction(lambda: Conversation.insert(**conversation).execute())
    if rows:
        database.transaction(lambda: Message.insert_many(rows).execute())

    found: list[str] = []
    cursor = None
    while True:
        page = message_list.of_conversation(owner, conversation_id, limit=limit, cursor=cursor, order=order)
        found += [message["content"] for message in page.messages]
        assert page.total == how_many
        cursor = page.next_cursor
        if cursor is None:
            break

    expected = [str(number) for number in range(how_many)]
    assert found == (expected if order == "asc" else expected[::-1])
