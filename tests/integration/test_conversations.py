"""Conversations and their messages, as the API shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from app import db
from app.db.models import AgentEvent, Event, Message, SearchEntry, Session
from app.events import Delta, Done, Thinking, ToolCall, Usage
from tests.stage import Echo, Held, Stage, saying, working
from worker.orchestrator import TurnFailed


def counts() -> dict[str, int]:
    """Rows of every table that knows conversations."""
    tables = {"sessions": Session, "messages": Message, "search": SearchEntry, "history": AgentEvent}
    return db.reading(lambda: {name: model.select().count() for name, model in tables.items()})


# begin and list


def test_an_unknown_conversation_id_creates_it_and_none_makes_a_new_one(stage: Stage) -> None:
    mine = str(uuid4())

    named = stage.post("Hello?", conversationId=mine.upper())
    unnamed = stage.post("Hello?")

    assert named["conversationId"] == mine
    assert unnamed["conversationId"] not in ("", mine)
    assert stage.get(f"/api/conversations/{mine.upper()}")["conversationId"] == mine


def test_the_title_is_the_first_line_of_the_first_message_and_can_be_changed(stage: Stage) -> None:
    conversation_id = stage.post("\n Привет, мир 🙂 \nsecond line")["conversationId"]
    stage.post("Another", conversationId=conversation_id)
    assert stage.get(f"/api/conversations/{conversation_id}")["title"] == "Привет, мир 🙂"

    renamed = stage.patch(f"/api/conversations/{conversation_id}", {"title": "  Taxes\n of 2026 "})

    assert renamed["title"] == "Taxes of 2026"
    assert stage.get(f"/api/conversations/{conversation_id}") == renamed


@pytest.mark.parametrize(
    "body", [{}, {"title": ""}, {"title": " \n"}, {"title": "x" * 256}, {"title": 1}, {"name": "x"}]
)
def test_a_title_that_is_none_is_refused_by_name(stage: Stage, body: Any) -> None:
    conversation_id = stage.post("Hello?")["conversationId"]

    problem = stage.patch(f"/api/conversations/{conversation_id}", body, 400)

    assert problem["code"] == "invalid_request"
    assert "title" in problem["errors"] or "name" in problem["errors"]


def test_recent_conversations_come_first_page_by_page(stage: Stage) -> None:
    made = [stage.post(f"Number {number}")["conversationId"] for number in range(5)]
    stage.post("Again", conversationId=made[1])

    first = stage.get("/api/conversations", limit=2)
    second = stage.get("/api/conversations", limit=2, cursor=first["nextCursor"])
    third = stage.get("/api/conversations", limit=2, cursor=second["nextCursor"])

    pages = [[each["conversationId"] for each in page["conversations"]] for page in (first, second, third)]
    assert pages == [[made[1], made[4]], [made[3], made[2]], [made[0]]]
    assert [page["hasMore"] for page in (first, second, third)] == [True, True, False]
    assert third["nextCursor"] is None
    assert first["conversations"][0]["messageCount"] == 2


def test_a_conversation_names_the_session_that_runs_in_it(stage: Stage) -> None:
    first = stage.post("One")
    second = stage.post("Two", conversationId=first["conversationId"])
    path = f"/api/conversations/{first['conversationId']}"
    assert stage.get(path)["runningSessionId"] == first["sessionId"]

    stage.cancel(first["sessionId"])
    assert stage.get(path)["runningSessionId"] == second["sessionId"]

    stage.cancel(second["sessionId"])
    assert stage.get(path)["runningSessionId"] is None


@pytest.mark.parametrize("cursor", ["x", "!!!", "YzEuMg", "bTE", "YzEuMi4z", "eyJ9"])
def test_a_foreign_cursor_is_refused_by_name(stage: Stage, cursor: str) -> None:
    expected = 200 if cursor == "YzEuMg" else 400

    problem = stage.get("/api/conversations", expected, cursor=cursor)

    if expected == 400:
        assert problem["parameter"] == "cursor"


# messages


def test_the_user_message_is_there_on_receipt_and_the_answer_when_the_session_has_ended(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(models="openai:gpt-x")
    started = stage.post("What is 2 + 3?", model="openai:gpt-x")
    path = f"/api/sessions/{started['sessionId']}/messages"

    [question] = stage.get(path)["messages"]
    assert (question["role"], question["content"]) == ("user", "What is 2 + 3?")
    assert question["metadata"] == {"timestamp": question["createdAt"]}

    call = {"tool_call_id": "a", "tool_name": "calculate", "tool_args": {"expression": "2 + 3"}}
    steps = [
        Thinking("hm"),
        ToolCall(**call),
        ToolCall(**call, tool_result="5", tool_success=True, duration_ms=2),
        ToolCall("b", "search", "no json"),
        ToolCall("b", "search", "no json", "broken", False, 3),
        "It is ",
        Delta("5."),
        Done(model="gpt-x-2026", usage=Usage(20, 7, 12, 4)),
    ]
    with working(stage.settings, saying(*steps)) as worker:
        worker.run(started["sessionId"])

    page = stage.get(path)
    assert page["conversationId"] == started["conversationId"]
    assert (page["total"], page["hasMore"], page["nextCursor"]) == (2, False, None)
    answer = page["messages"][1]
    assert (answer["role"], answer["content"], answer["sessionId"]) == ("assistant", "It is 5.", started["sessionId"])
    assert answer["metadata"] == {
        "status": "done",
        "model": "gpt-x-2026",
        "provider": "openai",
        "attempt": 1,
        "tokenUsage": {"input": 20, "output": 7, "cacheRead": 12, "cacheWrite": 4, "total": 27},
        "toolCalls": [
            {"toolCallId": "a", "toolName": "calculate", "args": {"expression": "2 + 3"}, "isError": False},
            {"toolCallId": "b", "toolName": "search", "args": "no json", "isError": True},
        ],
        "timestamp": answer["createdAt"],
    }


def test_a_failed_turn_leaves_its_partial_answer_with_the_reason(stage: Stage) -> None:
    with working(stage.settings, saying("Half an ans", TurnFailed("model_error", "the model broke"))) as worker:
        session = stage.ask(worker, "Hello?")

    [_, answer] = stage.messages(session["conversationId"])
    assert answer["content"] == "Half an ans"
    assert answer["metadata"]["status"] == "error"
    assert (answer["metadata"]["errorCode"], answer["metadata"]["errorMessage"]) == ("model_error", "the model broke")
    assert answer["metadata"]["tokenUsage"] is None


def test_a_turn_that_failed_before_its_first_word_leaves_the_reason_as_text(stage: Stage) -> None:
    with working(stage.settings, saying(TurnFailed("model_auth", "the key was refused"))) as worker:
        session = stage.ask(worker, "Hello?")

    [_, answer] = stage.messages(session["conversationId"])
    assert answer["content"] == "the key was refused"


def test_a_cancelled_turn_leaves_its_partial_answer_whoever_is_connected(stage: Stage) -> None:
    held = Held("Half an ")
    with working(stage.settings, held) as worker:
        started = stage.post("Hello?")
        run = worker.start(started["sessionId"])
        assert held.said.wait(20)
        # The delta is flushed by now or within the next flush: cancel when a client could see it.
        while not any(event["eventType"] == "delta" for event in _events(stage, started["sessionId"])):
            pass
        stage.cancel(started["sessionId"])
        run.result(20)

    [_, answer] = stage.messages(started["conversationId"])
    assert answer["content"] == "Half an "
    assert (answer["metadata"]["status"], answer["metadata"]["errorCode"]) == ("error", "cancelled")


def _events(stage: Stage, session_id: str) -> list[Any]:
    return list(stage.get(f"/api/chat/session/{session_id}/events")["events"])


def test_messages_page_by_cursor_and_by_offset_in_both_orders(stage: Stage) -> None:
    conversation_id = str(uuid4())
    with working(stage.settings, Echo()) as worker:
        for number in range(4):
            stage.ask(worker, f"m{number}", conversationId=conversation_id)
    said = [text for number in range(4) for text in (f"m{number}", f"re: m{number}")]

    for order, expected in (("asc", said), ("desc", said[::-1])):
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            path = f"/api/conversations/{conversation_id}/messages"
            page = stage.get(path, limit=3, order=order, **cursor)
            found += [message["content"] for message in page["messages"]]
            assert page["total"] == 8
            assert page["hasMore"] == (page["nextCursor"] is not None)
            if not page["hasMore"]:
                break
            cursor = {"cursor": page["nextCursor"]}
        assert found == expected
        by_offset = [
            message["content"]
            for offset in (0, 3, 6, 9)
            for message in stage.messages(conversation_id, limit=3, offset=offset, order=order)
        ]
        assert by_offset == expected


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"order": "up"}, "order"),
        ({"offset": -1}, "offset"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "bTE", "offset": 1}, "offset"),
        ({"page": 1}, "page"),
    ],
)
def test_a_bad_parameter_of_messages_is_refused_by_name(stage: Stage, query: dict[str, Any], named: str) -> None:
    conversation_id = stage.post("Hello?")["conversationId"]

    problem = stage.get(f"/api/conversations/{conversation_id}/messages", 400, **query)

    assert problem.get("parameter") == named or named in problem["errors"]


# clear and delete


def test_a_cleared_context_is_gone_for_the_model_and_the_list_but_not_for_operators(stage: Stage) -> None:
    echo = Echo()
    with working(stage.settings, echo) as worker:
        conversation_id = stage.ask(worker, "before")["conversationId"]
        stage.delete(f"/api/conversations/{conversation_id}/messages")
        stage.delete(f"/api/conversations/{conversation_id}/messages")
        page = stage.get(f"/api/conversations/{conversation_id}/messages")
        assert (page["messages"], page["total"]) == ([], 0)
        stage.ask(worker, "after", conversationId=conversation_id)
        stage.ask(worker, "later", conversationId=conversation_id)

    assert [[message.content for message in turn.history] for turn in echo.turns] == [[], [], ["after", "re: after"]]
    assert [message["content"] for message in stage.messages(conversation_id, limit=1)] == ["after"]
    assert stage.get("/api/conversations/search", q="before")["results"][0]["role"] is None  # the title
    events = stage.history(conversation=conversation_id)
    cleared = [event for event in events if event["eventType"] == "context_cleared"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [(event["sessionNumber"], event["metadata"]) for event in cleared] == [(2, {"messages": 2})]
    numbers = {event["content"]: event["sessionNumber"] for event in events if event["eventType"] == "prompt_sent"}
    assert numbers == {"before": 1, "after": 2, "later": 2}
    assert len(stage.get("/api/chat/sessions", conversationId=conversation_id)["sessions"]) == 3


def test_what_runs_while_the_context_is_cleared_begins_the_next_one(stage: Stage) -> None:
    held, echo = Held("slow"), Echo()
    with working(stage.settings, echo) as worker:
        conversation_id = stage.ask(worker, "before")["conversationId"]
    with working(stage.settings, held) as worker:
        running = stage.post("running", conversationId=conversation_id)
        run = worker.start(running["sessionId"])
        assert held.said.wait(20)
        cancelled = stage.post("cancelled", conversationId=conversation_id)
        stage.cancel(cancelled["sessionId"])

        stage.delete(f"/api/conversations/{conversation_id}/messages")

        assert [message["content"] for message in stage.messages(conversation_id)] == ["running"]
        held.may_end.set()
        run.result(20)
    with working(stage.settings, echo) as worker:
        stage.ask(worker, "after", conversationId=conversation_id)

    assert [message.content for message in echo.turns[-1].history] == ["running", "slow"]
    assert [message["content"] for message in stage.messages(conversation_id)][:2] == ["running", "slow"]
    events = stage.history(conversation=conversation_id, session=running["sessionId"])
    assert {event["sessionNumber"] for event in events} == {1}


def test_a_deleted_conversation_leaves_nothing_and_its_id_may_be_used_again(stage: Stage) -> None:
    with working(stage.settings, Echo()) as worker:
        conversation_id = stage.ask(worker, "first")["conversationId"]
        for number in range(3):
            stage.ask(worker, f"more {number}", conversationId=conversation_id)
        other = stage.ask(worker, "other")

        stage.delete(f"/api/conversations/{conversation_id}")

        assert counts() == {"sessions": 1, "messages": 2, "search": 3, "history": 6}
        assert db.reading(lambda: Event.select().where(Event.session_id != other["sessionId"]).count()) == 0
        stage.get(f"/api/conversations/{conversation_id}", 404)
        stage.get(f"/api/conversations/{conversation_id}/messages", 404)
        stage.delete(f"/api/conversations/{conversation_id}", 404)
        assert stage.get("/api/agents/1/conversation")["total"] == 6
        stage.ask(worker, "anew", conversationId=conversation_id)
    assert [event["seq"] for event in stage.history(conversation=conversation_id)] == list(range(1, 7))


def test_a_conversation_is_deleted_in_pieces(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.sessions.removal._ROWS_AT_ONCE", 25)
    with working(stage.settings, Echo()) as worker:
        conversation_id = stage.ask(worker, "first")["conversationId"]
        for number in range(5):
            stage.ask(worker, f"more {number}", conversationId=conversation_id)

    stage.delete(f"/api/conversations/{conversation_id}")

    assert counts() == {"sessions": 0, "messages": 0, "search": 0, "history": 0}


def test_deleting_a_conversation_stops_what_runs_in_it_and_what_waits(stage: Stage) -> None:
    held = Held("part")
    with working(stage.settings, held) as worker:
        running = stage.post("running")
        waiting = stage.post("waiting", conversationId=running["conversationId"])
        run = worker.start(running["sessionId"])
        assert held.said.wait(20)

        stage.delete(f"/api/conversations/{running['conversationId']}")

        run.result(20)  # fenced: nobody let it end
        worker.run(waiting["sessionId"])
    assert counts() == {"sessions": 0, "messages": 0, "search": 0, "history": 0}
    stage.get(f"/api/chat/session/{running['sessionId']}", 404)


def test_deleting_a_session_takes_its_messages_and_its_history_with_it(stage: Stage) -> None:
    with working(stage.settings, Echo()) as worker:
        first = stage.ask(worker, "first")
        second = stage.ask(worker, "second", conversationId=first["conversationId"])

    stage.delete(f"/api/chat/session/{first['sessionId']}")

    page = stage.get(f"/api/conversations/{first['conversationId']}/messages")
    assert ([message["content"] for message in page["messages"]], page["total"]) == (["second", "re: second"], 2)
    assert {event["sessionId"] for event in stage.history()} == {second["sessionId"]}
    assert stage.get("/api/agents/1/conversation")["total"] == len(stage.history())


# owners


def test_another_owner_sees_none_of_it(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(chat_secret="root key")
    stage.become("alice")
    with working(stage.settings, Echo()) as worker:
        session = stage.ask(worker, "secret plans")
    conversation_id = session["conversationId"]
    event_id = stage.history()[0]["id"]

    stage.become("mallory")

    stage.get(f"/api/conversations/{conversation_id}", 404)
    stage.get(f"/api/conversations/{conversation_id}/messages", 404)
    stage.get(f"/api/sessions/{session['sessionId']}/messages", 404)
    stage.patch(f"/api/conversations/{conversation_id}", {"title": "mine"}, 404)
    stage.delete(f"/api/conversations/{conversation_id}/messages", 404)
    stage.delete(f"/api/conversations/{conversation_id}", 404)
    assert stage.get("/api/conversations")["conversations"] == []
    assert stage.get("/api/conversations/search", q="secret")["results"] == []
    assert stage.get("/api/agents/1/conversation") == {"events": [], "total": 0, "hasMore": False, "nextCursor": None}
    assert stage.get("/api/agents/1/conversation/summary")["totalEvents"] == 0
    stage.get(f"/api/agents/1/conversation/{event_id}", 404)
    stage.delete("/api/agents/1/conversation")
    stage.become("alice")
    assert len(stage.history()) == 6
    assert stage.get("/api/conversations/search", q="secret")["results"][0]["conversationId"] == conversation_id


@pytest.mark.parametrize(
    "path",
    [
        "/api/conversations",
        "/api/conversations/search?q=x",
        "/api/conversations/x",
        "/api/conversations/x/messages",
        "/api/sessions/x/messages",
        "/api/agents",
        "/api/agents/1",
        "/api/agents/1/conversation",
        "/api/agents/1/conversation/summary",
        "/api/agents/1/conversation/x",
    ],
)
def test_nothing_is_shown_without_a_token(make_stage: Callable[..., Stage], path: str) -> None:
    stage = make_stage(chat_secret="root key")

    assert stage.get(path, 401)["code"] == "unauthorized"
