"""tRPC on the wire: envelopes, batches, superjson and errors, as the official client reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from app import access
from tests.stage import Echo, Stage, working

SECRET = "one:0123456789abcdef0123456789abcdef"


def query(stage: Stage, names: str, given: Any = None, status: int = 200, **more: Any) -> Any:
    more |= {} if given is None else {"input": json.dumps(given)}
    return stage.get(f"/api/trpc/{names}", status, **more)


def mutate(stage: Stage, name: str, given: Any, status: int = 200) -> Any:
    return stage.call("POST", f"/api/trpc/{name}", status, json=given)


def start(stage: Stage, message: str = "Привет 🙂") -> Any:
    return mutate(stage, "orchestrator.startSession", {"message": message})["result"]["data"]


def test_a_session_is_started_polled_and_listed(stage: Stage) -> None:
    with working(stage.settings, Echo()) as worker:
        started = start(stage)
        worker.run(started["sessionId"])
    session_id = started["sessionId"]

    row = query(stage, "orchestrator.getSession", {"sessionId": session_id})["result"]["data"]
    page = query(stage, "orchestrator.getEvents", {"sessionId": session_id, "after": 1})["result"]["data"]
    listed = query(stage, "orchestrator.listSessions")["result"]["data"]

    assert row == stage.session(session_id)
    assert [event["seq"] for event in page["events"]] == [2, 3]
    assert page["events"][-1]["content"] == "re: Привет 🙂"
    assert listed["sessions"] == [row]
    assert stage.get("/api/orchestrator/getEvents", sessionId=session_id, after=1)["events"] == page["events"]


def test_a_batch_is_answered_in_order_and_one_failure_is_its_own(stage: Stage) -> None:
    session_id = start(stage)["sessionId"]
    names = "orchestrator.getSession,orchestrator.getSession,orchestrator.listSessions"
    given = {"0": {"sessionId": session_id}, "1": {"sessionId": "absent"}}

    found, missing, listed = query(stage, names, given, 207, batch=1)

    assert found["result"]["data"]["sessionId"] == session_id
    assert missing["error"] == {
        "message": "no such session",
        "code": -32004,
        "data": {"code": "NOT_FOUND", "httpStatus": 404, "path": "orchestrator.getSession"},
    }
    assert len(listed["result"]["data"]["sessions"]) == 1


def test_superjson_is_answered_in_kind(stage: Stage) -> None:
    given = {"json": {"message": "Hello", "model": None}, "meta": {"values": {"model": ["undefined"]}}}
    started = mutate(stage, "orchestrator.startSession", given)["result"]["data"]["json"]
    nothing = {"0": {"json": None, "meta": {"values": ["undefined"]}}}

    [listed] = query(stage, "orchestrator.listSessions", nothing, batch=1)
    wrong = query(stage, "orchestrator.getSession", {"json": {"sessionId": "x"}}, 404)

    assert listed["result"]["data"]["json"]["sessions"][0]["sessionId"] == started["sessionId"]
    assert wrong["error"]["json"]["data"]["code"] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "orchestrator.getSession?input=%7B%7D", None, 400, "BAD_REQUEST"),
        ("GET", "orchestrator.getSession?input={", None, 400, "BAD_REQUEST"),
        ("GET", "orchestrator.getSession?input=[1]", None, 400, "BAD_REQUEST"),
        ("GET", "orchestrator.getSession?batch=1&input=[1]", None, 400, "BAD_REQUEST"),
        ("GET", "orchestrator.getSession?batch=1", None, 400, "BAD_REQUEST"),
        ("GET", ",".join(["orchestrator.listSessions"] * 21) + "?batch=1", None, 400, "BAD_REQUEST"),
        ("GET", "orchestrator.nothing", None, 404, "NOT_FOUND"),
        ("GET", "orchestrator.startSession", None, 405, "METHOD_NOT_SUPPORTED"),
        ("POST", "orchestrator.listSessions", {}, 405, "METHOD_NOT_SUPPORTED"),
        ("POST", "orchestrator.startSession", {"message": " "}, 400, "BAD_REQUEST"),
        ("POST", "orchestrator.startSession", {"message": "x", "agentId": 99}, 400, "BAD_REQUEST"),
        ("DELETE", "orchestrator.startSession", None, 405, "METHOD_NOT_SUPPORTED"),
        ("GET", "a/b", None, 404, "NOT_FOUND"),
    ],
)
def test_errors_have_the_shape_of_the_family(
    stage: Stage, method: str, path: str, body: Any, status: int, code: str
) -> None:
    answer = stage.call(method, f"/api/trpc/{path}", status, **({} if body is None else {"json": body}))

    [error] = [each["error"] for each in (answer if isinstance(answer, list) else [answer])]
    assert (error["data"]["code"], error["data"]["httpStatus"]) == (code, status)
    assert error["message"]


def test_who_calls_and_what_they_may_is_as_everywhere(make_stage: Callable[..., Stage]) -> None:

    stage = make_stage(chat_secret=SECRET)
    refused = query(stage, "orchestrator.listSessions", status=401)
    stage.become("anna")
    mine = start(stage)["sessionId"]
    other = start(stage)["sessionId"]
    stage.become("berta")
    foreign = query(stage, "orchestrator.getSession", {"sessionId": mine}, 404)
    absent = query(stage, "orchestrator.getSession", {"sessionId": "absent"}, 404)
    one = access.issue(SECRET, "anna", session=mine, can=["read"])
    stage.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {one}"

    assert refused["error"]["data"] == {"code": "UNAUTHORIZED", "httpStatus": 401}
    assert foreign == absent
    assert query(stage, "orchestrator.getSession", {"sessionId": mine})["result"]["data"]["sessionId"] == mine
    query(stage, "orchestrator.getEvents", {"sessionId": other}, 404)
    stage.get("/api/orchestrator/getEvents", 404, sessionId=other)
    assert mutate(stage, "orchestrator.startSession", {"message": "x"}, 403)["error"]["data"]["code"] == "FORBIDDEN"


def test_it_can_be_switched_off(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(clients="none")

    stage.get("/api/trpc/orchestrator.listSessions", 404)
    stage.get("/api/orchestrator/getEvents", 404, sessionId="x")
