"""The data of the first deployment: kept value by value, and reached by every route that the page and clients ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import db
from app.api import create_app
from app.conversations import queries as conversation_queries
from app.conversations import search
from app.db import schema
from app.db.models import Conversation, Message, SearchEntry, Session
from app.errors import Invalid
from app.sessions import adoption
from app.settings import Settings
from tests import original_database
from tests.conftest import close_all
from tests.factories import at_once, failures
from tests.original_database import LARGE, SESSIONS
from tests.servers import Process, free_port

OWNER = "anna"
#: Sessions with their events, and events whose session is gone.
ALL = [*SESSIONS, "stray"]


@pytest.fixture
def client(original: str) -> Iterator[FlaskClient]:
    """The API on an adopted database, for `OWNER` alone."""
    schema.migrate()
    assert adoption.adopt("local") == len(ALL)
    bound = db.database.obj
    app = create_app(Settings(database_url=original, redis_url=f"redis://127.0.0.1:{free_port()}"))
    yield app.test_client()
    close_all(db.database.obj)
    db.database.initialize(bound)


def pages(client: FlaskClient, path: str, name: str, **query: str) -> list[dict[str, Any]]:
    """All rows of a list, three a page."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while cursor is not None:
        page = client.get(path, query_string={"limit": 3} | query | ({"cursor": cursor} if cursor else {}))
        assert page.status_code == 200, page.text
        found += page.json[name]
        cursor = page.json["nextCursor"]
    return found


def rows(table: str) -> dict[int, dict[str, Any]]:
    with db.connected():
        return {row["id"]: row for row in original_database.rows(db.database.obj, table)}


def test_every_value_is_what_it_was_but_for_what_a_crash_had_left_open(original: str) -> None:
    sessions, events = rows("chatSessions"), rows("chatEvents")

    schema.migrate()
    adoption.adopt(OWNER)

    adopted = rows("chatSessions")
    for row_id, before in sessions.items():
        now = {name: adopted[row_id][name] for name in before}
        if before["status"] != "running":
            assert now == before
            continue
        assert now["status"] != "running"
        open_ended = {"status", *(name for name, value in before.items() if value is None)}
        assert {name for name in before if now[name] != before[name]} <= open_ended
    adopted_events = rows("chatEvents")
    for row_id, before in events.items():
        changed = {name for name in before if adopted_events[row_id][name] != before[name]}
        # Seqs are numbered again. What ended a session that had ended already is a thought; an end has its text.
        assert changed <= {"seq", *({"eventType", "content"} if before["eventType"] in ("done", "error") else ())}
        assert before["content"] is None or adopted_events[row_id]["content"] == before["content"]


def test_every_session_is_on_the_list_and_answers_on_every_route(client: FlaskClient) -> None:
    listed = pages(client, "/api/chat/sessions", "sessions")

    assert {each["sessionId"] for each in listed} == set(ALL)
    assert all(isinstance(each["id"], int) for each in listed)
    for each in listed:
        path = f"/api/chat/session/{each['sessionId']}"
        assert client.get(path).json == each
        events = client.get(f"{path}/events?limit=1000").json
        assert (events["status"], events["nextAfter"]) == (each["status"], each["lastSeq"])
        said = client.get(f"/api/sessions/{each['sessionId']}/messages").json
        assert (said["sessionId"], said["sessionRequestId"]) == (each["sessionId"], None)
        assert said["conversationId"] == each["conversationId"]
        question, answer = said["messages"]
        assert (question["role"], question["content"]) == ("user", each["userMessage"])
        reason = each["errorMessage"] or each["errorCode"]
        assert (answer["role"], answer["content"]) == ("assistant", each["finalResponse"] or reason)
        assert answer["metadata"]["status"] == each["status"]
        assert (question["createdAt"], answer["createdAt"]) == (each["createdAt"], each["endedAt"])


def test_every_session_is_in_a_conversation_of_its_own(client: FlaskClient) -> None:
    listed = pages(client, "/api/conversations", "conversations")

    assert len(listed) == len(ALL)
    found = set()
    for each in listed:
        messages = client.get(f"/api/conversations/{each['conversationId']}/messages").json["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant"]
        assert each["messageCount"] == 2
        assert each["title"] == (messages[0]["content"] or messages[1]["content"])[:79].rstrip() + (
            "…" if messages[0]["content"] == LARGE else ""
        )
        found.add(messages[0]["sessionId"])
    assert found == set(ALL)


def test_what_was_said_is_found(client: FlaskClient) -> None:
    def found(query: str) -> set[str]:
        results = pages(client, "/api/conversations/search", "results", q=query)
        return {result["sessionId"] for result in results if result["sessionId"] is not None}

    asked = [row for row, _ in SESSIONS.values() if "userMessage" not in row]
    assert len(pages(client, "/api/conversations/search", "results", q="what")) == len(asked)
    assert found("Ответ") == {"nothing was counted"}
    assert found("упал") == {"failed, and nobody had counted"}
    assert found("silent") == {"done without events"}
    assert found("world") == {"whole"}


def test_what_nobody_counted_is_shown_as_nothing(client: FlaskClient) -> None:
    shown = client.get("/api/chat/session/nothing was counted").json

    assert (shown["totalTokens"], shown["processingTimeMs"]) == (0, 0)


def test_a_conversation_goes_on_where_it_stood(client: FlaskClient) -> None:
    conversation = client.get("/api/chat/session/whole").json["conversationId"]

    started = client.post("/api/chat/session", json={"message": "And now?", "conversationId": conversation})

    assert started.status_code == 202
    assert client.get(f"/api/conversations/{conversation}").json["messageCount"] == 3


def test_one_index_serves_the_events_of_a_session(original: str) -> None:
    schema.migrate()

    with db.connected():
        indexes = [index for index in db.database.get_indexes("chatEvents") if list(index.columns)[:1] == ["sessionId"]]
    assert [(list(index.columns), index.unique) for index in indexes] == [(["sessionId", "seq"], True)]


def test_the_command_gives_them_to_the_owner_that_is_named(original: str, make_process: Callable[..., Process]) -> None:
    migrate = make_process("-m", "app.cli", "migrate", DATABASE_URL=original, ADOPT_OWNER=OWNER)

    assert migrate.wait() == 0, migrate.output
    assert f"adopted {len(ALL)} sessions for {OWNER}" in migrate.output
    assert len(conversation_queries.list_recent(OWNER, limit=100).rows) == len(ALL)
    assert search.search(OWNER, "what").rows
    assert conversation_queries.list_recent("local").rows == []
    for model in (Session, Conversation, Message, SearchEntry):
        assert db.reading(lambda model=model: {owner for (owner,) in db.tuples(model.select(model.owner))}) == {OWNER}  # type: ignore[misc]


def test_several_at_once_adopt_each_session_once(original: str) -> None:
    schema.migrate()

    counts = at_once([lambda: adoption.adopt(OWNER)] * 4)

    assert failures(counts) == []
    assert sum(counts) == len(ALL)  # type: ignore[arg-type]
    assert adoption.adopt(OWNER) == 0
    assert db.reading(Message.select().count) == 2 * len(ALL)


def test_nobody_without_a_name_gets_them(original: str) -> None:
    with pytest.raises(Invalid, match="ADOPT_OWNER"):
        adoption.adopt(" ")
