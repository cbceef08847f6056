"""The HTTP contract of sessions: what each call answers, and every way in which it refuses."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis
from flask.testing import FlaskClient
from gunicorn.http.errors import InvalidChunkSize
from werkzeug.test import TestResponse

from app import access
from app.api import compat
from app.broker.heads import Head, Heads
from app.events import Delta, Done, Thinking, ToolCall, Usage
from tests.factories import (
    assert_sound,
    at_once,
    failures,
    make_claim,
    make_session,
    row,
    seqs_of,
    statements,
    write,
)
from tests.servers import RedisServer

SECRET = "a root key for tests"


def post(client: FlaskClient, **body: Any) -> TestResponse:
    return client.post("/api/chat/session", json={"message": "Hello?"} | body)


def assert_problem(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    body = json.loads(response.data.decode("utf-8"))
    assert (body["status"], body["code"], body["type"]) == (status, code, "about:blank")
    assert body["title"]
    assert body["detail"]
    return dict(body)


def queued(server: RedisServer) -> list[bytes]:
    with redis.Redis.from_url(server.url) as client:
        return client.lrange("rq:queue:sessions", 0, -1)


# start


def test_a_start_is_committed_told_and_rung(client: FlaskClient, redis_server: RedisServer) -> None:
    response = post(client, message="Привет 🙂")

    assert response.status_code == 202
    session_id = response.json["sessionId"]
    assert response.json == {
        "sessionId": session_id,
        "conversationId": row(session_id).conversation_id,
        "status": "running",
    }
    assert response.headers["Location"] == f"/api/chat/session/{session_id}"
    assert row(session_id).user_message == "Привет 🙂"
    assert queued(redis_server) == [f"{session_id}-0".encode()]


def test_a_start_takes_model_agent_and_conversation(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(models="openai:gpt-w, openai:gpt-x")
    conversation = str(uuid4())

    started = post(client, conversationId=conversation.upper(), agentId=1, model="openai:gpt-x", onBusy="enqueue")

    session = client.get(started.headers["Location"]).json
    assert session["conversationId"] == conversation
    assert (session["agentId"], session["model"], session["status"]) == (1, "openai:gpt-x", "running")
    assert (session["startedAt"], session["endedAt"], session["attempt"], session["lastSeq"]) == (None, None, 0, 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", session["createdAt"])


def test_a_busy_conversation_can_be_refused_or_interrupted(client: FlaskClient) -> None:
    first = post(client).json

    refused = post(client, conversationId=first["conversationId"], onBusy="reject")
    interrupting = post(client, conversationId=first["conversationId"], onBusy="interrupt")

    assert assert_problem(refused, 409, "conversation_busy")["sessionId"] == first["sessionId"]
    assert interrupting.status_code == 202
    assert client.get(f"/api/chat/session/{first['sessionId']}").json["errorCode"] == "cancelled"


REFUSED: dict[str, Any] = {
    "no message": {},
    "null": {"message": None},
    "empty": {"message": ""},
    "blank": {"message": " \n\t\u3000"},
    "number": {"message": 5},
    "list": {"message": ["x"]},
    "too long": {"message": "x" * 1_000_001},
    "half a surrogate pair": {"message": "a\ud800b"},
    "unknown field": {"message": "x", "surprise": 1},
    "snake case": {"message": "x", "agent_id": 1},
    "no uuid": {"message": "x", "conversationId": "abc"},
    "uuid and more": {"message": "x", "conversationId": f"{uuid4()}\n"},
    "agent as text": {"message": "x", "agentId": "1"},
    "agent as float": {"message": "x", "agentId": 1.0},
    "agent as bool": {"message": "x", "agentId": True},
    "agent zero": {"message": "x", "agentId": 0},
    "agent huge": {"message": "x", "agentId": 2**63},
    "model blank": {"message": "x", "model": ""},
    "model with a space": {"message": "x", "model": "a b"},
    "model with nul": {"message": "x", "model": "a\x00"},
    "model too long": {"message": "x", "model": "m" * 129},
    "unknown onBusy": {"message": "x", "onBusy": "wait"},
    "an array": [{"message": "x"}],
    "a string": "message",
    "nothing": None,
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
def test_a_body_that_says_what_is_not_allowed_is_refused(client: FlaskClient, body: Any) -> None:
    response = client.post("/api/chat/session", data=json.dumps(body), content_type="application/json")

    assert_problem(response, 400, "invalid_request")
    assert client.get("/api/chat/sessions").json == {"sessions": [], "nextCursor": None, "hasMore": False}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"message": " "}, "message: must not be blank"),
        ({}, "message: Field required"),
        ({"message": "x", "conversationId": "y", "surprise": 1},
         "conversationId: must be a UUID; surprise: Extra inputs are not permitted"),
        ([], "body: must be a JSON object with the fields of the document"),
        ({"message": "x", "y" * 5000: 1}, f"{'y' * 100}: Extra inputs are not permitted"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_named_with_the_reason(client: FlaskClient, body: Any, detail: str) -> None:
    response = client.post("/api/chat/session", json=body)

    assert_problem(response, 400, "invalid_request")
    assert response.get_json(force=True)["detail"] == detail


def test_a_start_without_a_body_is_told_what_is_missing(client: FlaskClient) -> None:
    response = client.post("/api/chat/session")

    assert_problem(response, 400, "invalid_request")
    assert "JSON" in response.get_json(force=True)["detail"]


UNREADABLE = {
    "no json": b"{message}",
    "empty": b"",
    "cut": b'{"message": "x"',
    "invalid utf-8": b'{"message": "\xff\xfe"}',
    "cut utf-8": '{"message": "ж'.encode()[:-1] + b'"}',
    "nested deeply": b'{"message": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a very long number": b'{"message": "x", "agentId": ' + b"9" * 5000 + b"}",
    "not a number": b'{"message": "x", "agentId": NaN}',
    "two documents": b'{"message": "x"}{"message": "y"}',
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_body_that_can_not_be_read_is_refused(client: FlaskClient, body: bytes) -> None:
    response = client.post("/api/chat/session", data=body, content_type="application/json")

    assert_problem(response, 400, "invalid_request")


@pytest.mark.parametrize("text", ["a\x00b", "🙂", "\u202e\ufeff", "'; DROP TABLE chatSessions; --", "%s %% {}"])
def test_strange_messages_come_back_as_they_were(client: FlaskClient, text: str) -> None:
    started = post(client, message=text)

    assert started.status_code == 202
    assert client.get(started.headers["Location"]).json["userMessage"] == text


def test_a_body_over_the_limit_is_refused_and_one_below_it_taken(client: FlaskClient) -> None:
    at_limit = json.dumps({"message": "x" * (1024 * 1024 - 15)}).encode()
    assert len(at_limit) == 1024 * 1024

    too_large = client.post("/api/chat/session", data=at_limit + b" ", content_type="application/json")
    large = post(client, message="x" * 999_000)

    assert_problem(too_large, 413, "body_too_large")
    assert "1048576 bytes" in too_large.get_json(force=True)["detail"]
    assert large.status_code == 202


def test_a_body_over_the_limit_is_refused_without_a_length_too(client: FlaskClient) -> None:
    body = json.dumps({"message": "x" * (1024 * 1024)}).encode()

    response = client.post(
        "/api/chat/session",
        input_stream=io.BytesIO(body),
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )

    assert_problem(response, 413, "body_too_large")


class BrokenChunks(io.BytesIO):
    """What gunicorn gives for a chunked body that is none."""

    def read(self, size: int | None = -1) -> bytes:
        raise InvalidChunkSize(b"zz")

    readinto = read  # type: ignore[assignment]


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/chat/session"), ("GET", "/api/chat/sessions")])
def test_a_body_whose_chunks_are_broken_is_refused(client: FlaskClient, method: str, path: str) -> None:
    response = client.open(
        path,
        method=method,
        input_stream=BrokenChunks(),
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )

    assert_problem(response, 400, "invalid_request")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_only_json_is_taken(client: FlaskClient, content_type: str) -> None:
    response = client.post("/api/chat/session", data='{"message": "x"}', content_type=content_type)

    assert_problem(response, 415, "unsupported_media_type")


def test_an_unknown_agent_is_told_apart(client: FlaskClient) -> None:
    assert_problem(post(client, agentId=77), 400, "unknown_agent")


# idempotency


def with_key(client: FlaskClient, key: str, **body: Any) -> TestResponse:
    return client.post("/api/chat/session", json={"message": "Hello?"} | body, headers={"Idempotency-Key": key})


def test_the_same_key_and_body_is_the_same_session_and_one_job(client: FlaskClient, redis_server: RedisServer) -> None:
    first = with_key(client, "key")
    again = with_key(client, "key", onBusy="enqueue", agentId=1)  # said or left to its default: the same body

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json == again.json
    assert first.headers["Location"] == again.headers["Location"]
    assert len(queued(redis_server)) == 1


def test_the_same_key_and_another_body_is_a_conflict(client: FlaskClient) -> None:
    with_key(client, "key")

    assert_problem(with_key(client, "key", message="Other?"), 422, "idempotency_key_reused")


@pytest.mark.parametrize("key", ["", "x" * 256, "ключ", "a\tb"])
def test_a_key_that_is_no_key_is_refused(client: FlaskClient, key: str) -> None:
    response = client.post(
        "/api/chat/session",
        json={"message": "x"},
        environ_overrides={"HTTP_IDEMPOTENCY_KEY": key.encode().decode("latin1")},
    )

    assert_problem(response, 400, "invalid_request")


def test_fifty_posts_with_one_key_at_once_are_one_session_and_one_job(
    client: FlaskClient, redis_server: RedisServer
) -> None:
    outcomes = at_once([lambda: with_key(client.application.test_client(), "key") for _ in range(50)])

    assert failures(outcomes) == []
    answers = {(each.status_code, each.json["sessionId"]) for each in outcomes if isinstance(each, TestResponse)}
    assert len(answers) == 1
    assert len(queued(redis_server)) == 1
    assert len(client.get("/api/chat/sessions").json["sessions"]) == 1


# look, poll


def finished() -> str:
    claim = make_claim(make_session(message="How much?"))
    write(
        claim,
        Thinking(""),
        ToolCall("c", "add", {"a": 1}),
        ToolCall("c", "add", {"a": 1}, "2", True, 3),
        Delta("It is "),
        Delta("2"),
        Done("It is 2", "model-x", Usage(3, 4), 50),
    )
    return claim.session_id


def test_a_done_session_shows_its_whole_row(client: FlaskClient) -> None:
    session = client.get(f"/api/chat/session/{finished()}").json

    assert {name: session[name] for name in ("status", "finalResponse", "userMessage", "model", "totalTokens")} == {
        "status": "done",
        "finalResponse": "It is 2",
        "userMessage": "How much?",
        "model": "model-x",
        "totalTokens": 7,
    }
    assert (session["errorCode"], session["errorMessage"], session["lastSeq"], session["attempt"]) == (None, None, 6, 1)
    assert session["startedAt"] <= session["endedAt"]


def test_a_poll_pages_by_after(client: FlaskClient) -> None:
    url = f"/api/chat/session/{finished()}/events"

    first = client.get(f"{url}?limit=4").json
    second = client.get(f"{url}?after={first['nextAfter']}&limit=4").json
    whole = client.get(url).json

    assert ([event["seq"] for event in first["events"]], first["hasMore"], first["status"]) == (
        [1, 2, 3, 4],
        True,
        "running",
    )
    assert ([event["seq"] for event in second["events"]], second["hasMore"], second["status"]) == (
        [5, 6],
        False,
        "done",
    )
    assert whole["events"] == first["events"] + second["events"]
    assert (whole["nextAfter"], first["pollAfterMs"]) == (6, 0)
    assert whole["events"][-1]["content"] == "It is 2"


def test_events_are_utf8_and_not_escaped(client: FlaskClient) -> None:
    claim = make_claim()
    write(claim, Delta("Привет 🙂 \u2028"))

    response = client.get(f"/api/chat/session/{claim.session_id}/events")

    assert "Привет 🙂".encode() in response.data
    assert response.json["events"][0]["content"] == "Привет 🙂 \u2028"


@pytest.mark.parametrize(
    "query",
    ["after=-1", "after=x", "after=", "after=99999999999", "limit=0", "limit=1001", "limit=1.5", "wait=-1", "wait=26",
     "wait=nan", "wait=inf", "surprise=1"],
)  # fmt: skip
def test_a_poll_with_parameters_that_make_no_sense_is_refused(client: FlaskClient, query: str) -> None:
    response = client.get(f"/api/chat/session/{make_session()}/events?{query}")

    assert_problem(response, 400, "invalid_request")


def test_an_unchanged_poll_is_answered_with_304(client: FlaskClient, redis_server: RedisServer) -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("x"))
    url = f"/api/chat/session/{claim.session_id}/events?after=2"
    first = client.get(url)
    etag = first.headers["ETag"]

    unchanged = client.get(url, headers={"If-None-Match": etag})
    write(claim, Delta("y"))
    publish(redis_server, claim.session_id, 3)
    changed = changed_page(client, url, etag)

    assert (first.status_code, first.json["events"]) == (200, [])
    assert (unchanged.status_code, unchanged.data, unchanged.headers["ETag"]) == (304, b"", etag)
    assert (changed.status_code, [event["seq"] for event in changed.json["events"]]) == (200, [3])
    assert first.headers["Cache-Control"] == "no-store"


def test_the_end_of_a_session_is_news(client: FlaskClient) -> None:
    claim = make_claim()
    write(claim, Thinking(""))
    url = f"/api/chat/session/{claim.session_id}/events?after=1"
    etag = client.get(url).headers["ETag"]
    client.post(f"/api/chat/session/{claim.session_id}/cancel")

    response = client.get(url, headers={"If-None-Match": etag})

    assert (response.status_code, response.json["status"]) == (200, "error")


def test_a_page_that_has_more_now_is_not_the_page_that_had_no_more(client: FlaskClient) -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("x"))
    url = f"/api/chat/session/{claim.session_id}/events?after=0&limit=2"
    first = client.get(url)
    write(claim, Delta("y"))

    response = client.get(url, headers={"If-None-Match": first.headers["ETag"]})

    assert (first.json["hasMore"], response.status_code) == (False, 200)
    assert response.json["hasMore"]


def changed_page(client: FlaskClient, url: str, etag: str) -> TestResponse:
    """The first answer that is not the one with this ETag: the process hears of a change within moments."""
    deadline = time.monotonic() + 10
    while (response := client.get(url, headers={"If-None-Match": etag})).status_code == 304:
        assert time.monotonic() < deadline
    return response


def publish(server: RedisServer, session_id: str, seq: int, status: str = "running", owner: str = "local") -> None:
    with redis.Redis.from_url(server.url) as client:
        Heads(client).publish([Head(session_id, owner, seq, status)])


def test_an_idle_poll_does_not_ask_the_database(client: FlaskClient) -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("x"))
    url = f"/api/chat/session/{claim.session_id}/events?after=2"
    from_database = client.get(url)

    with statements() as asked:
        from_memory = client.get(url)

    assert asked == []
    assert from_memory.status_code == 200
    assert from_memory.json | {"pollAfterMs": 0} == from_database.json | {"pollAfterMs": 0}
    assert from_memory.headers["ETag"] == from_database.headers["ETag"]


@pytest.mark.parametrize(("seq", "status"), [(3, "running"), (2, "done"), (2, "error")])
def test_a_head_that_tells_of_news_sends_the_poll_to_the_database(
    client: FlaskClient, redis_server: RedisServer, seq: int, status: str
) -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("x"))
    url = f"/api/chat/session/{claim.session_id}/events?after=2"
    client.get(url)
    publish(redis_server, claim.session_id, seq, status)
    deadline = time.monotonic() + 10

    with statements() as asked:
        while not any("WHERE s.sessionId" in statement for statement in asked):
            assert time.monotonic() < deadline
            client.get(url)


def test_the_head_of_another_owners_session_tells_nothing(client: FlaskClient, redis_server: RedisServer) -> None:
    session_id = make_session(owner="alice")
    publish(redis_server, session_id, 0, owner="alice")

    assert_problem(client.get(f"/api/chat/session/{session_id}/events"), 404, "not_found")


# cancel, delete


def test_a_cancel_ends_the_session_and_shows_it(client: FlaskClient) -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("half"))

    first = client.post(f"/api/chat/session/{claim.session_id}/cancel")
    again = client.post(f"/api/chat/session/{claim.session_id}/cancel", json={})

    assert (first.status_code, again.status_code) == (200, 200)
    assert (first.json["status"], first.json["errorCode"], first.json["finalResponse"]) == (
        "error",
        "cancelled",
        "half",
    )
    assert again.json == first.json
    assert_sound(claim.session_id)


def test_a_cancel_of_a_done_session_leaves_it_done(client: FlaskClient) -> None:
    response = client.post(f"/api/chat/session/{finished()}/cancel")

    assert (response.status_code, response.json["status"], response.json["finalResponse"]) == (200, "done", "It is 2")


def test_a_cancel_starts_what_waited_behind_it(client: FlaskClient, redis_server: RedisServer) -> None:
    first = post(client).json
    second = post(client, conversationId=first["conversationId"]).json
    with redis.Redis.from_url(redis_server.url) as broker:
        broker.flushall()

    client.post(f"/api/chat/session/{first['sessionId']}/cancel")

    assert queued(redis_server) == [f"{second['sessionId']}-0".encode()]


@pytest.mark.parametrize("make", [make_session, finished, lambda: make_claim().session_id])
def test_a_deleted_session_is_gone(client: FlaskClient, make: Callable[[], str]) -> None:
    session_id = make()

    deleted = client.delete(f"/api/chat/session/{session_id}")

    assert (deleted.status_code, deleted.data) == (204, b"")
    for method, path in (("get", ""), ("get", "/events"), ("get", "/stream"), ("post", "/cancel"), ("delete", "")):
        assert_problem(client.open(f"/api/chat/session/{session_id}{path}", method=method.upper()), 404, "not_found")
    assert seqs_of(session_id) == []
    assert client.get("/api/chat/sessions").json["sessions"] == []


def test_a_deleted_session_is_gone_although_its_head_is_still_known(
    client: FlaskClient, redis_server: RedisServer
) -> None:
    claim = make_claim()
    publish(redis_server, claim.session_id, 0)

    client.delete(f"/api/chat/session/{claim.session_id}")

    assert_problem(client.get(f"/api/chat/session/{claim.session_id}/events"), 404, "not_found")


# the stream


def test_the_stream_of_an_ended_session_has_all_of_it_and_ends(client: FlaskClient) -> None:
    response = client.get(f"/api/chat/session/{finished()}/stream")

    messages = response.text.strip().split("\n\n")
    assert response.content_type.startswith("text/event-stream")
    assert [message.split("\n")[0] for message in messages] == [f"id: {seq}" for seq in range(1, 7)]
    assert json.loads(messages[-1].split("data: ", 1)[1])["content"] == "It is 2"


def test_the_stream_resumes_after_the_last_event_that_was_seen(client: FlaskClient) -> None:
    session_id = finished()

    resumed = client.get(f"/api/chat/session/{session_id}/stream", headers={"Last-Event-ID": "5"})
    whole = client.get(f"/api/chat/session/{session_id}/stream", headers={"Last-Event-ID": "6"})
    odd = client.get(f"/api/chat/session/{session_id}/stream", headers={"Last-Event-ID": "five"})

    assert resumed.text.startswith("id: 6\n")
    assert whole.status_code == 204
    assert_problem(odd, 400, "invalid_request")


# the list


def test_recent_sessions_are_listed_newest_first_in_pages(client: FlaskClient) -> None:
    made = [make_session() for _ in range(7)]

    pages: list[list[str]] = []
    cursor: str | None = None
    while True:
        query: dict[str, Any] = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/chat/sessions", query_string=query).json
        pages.append([session["sessionId"] for session in page["sessions"]])
        cursor = page["nextCursor"]
        if cursor is None:
            break
        make_session()  # what comes meanwhile does not move the pages

    newest_first = made[::-1]
    assert pages == [newest_first[:3], newest_first[3:6], newest_first[6:]]


def test_the_list_knows_a_conversation_by_the_id_that_began_it(client: FlaskClient) -> None:
    conversation_id = str(uuid4()).upper()
    started = post(client, conversationId=conversation_id).json

    listed = client.get("/api/chat/sessions", query_string={"conversationId": conversation_id}).json

    assert [session["sessionId"] for session in listed["sessions"]] == [started["sessionId"]]


def test_the_list_filters_by_status_agent_and_conversation(client: FlaskClient) -> None:
    done, running = finished(), make_session()
    other = make_session(agent_id=2)

    def listed(**query: Any) -> list[str]:
        page = client.get("/api/chat/sessions", query_string=query).json
        return [session["sessionId"] for session in page["sessions"]]

    assert listed(status="done") == [done]
    assert listed(status="running") == [other, running]
    assert listed(agentId=2) == [other]
    assert listed(conversationId=row(running).conversation_id) == [running]
    assert listed(status="error") == []
    assert listed(status="running", agentId=1, conversationId=row(running).conversation_id) == [running]


@pytest.mark.parametrize(
    "query",
    ["cursor=x", "cursor=czEx!", "cursor=" + "a" * 65, "cursor=c2FiYw", "cursor=%ff", "limit=0", "limit=101",
     "status=queued", "agentId=0", "agentId=x", "surprise=1"],
)  # fmt: skip
def test_a_list_with_parameters_that_make_no_sense_is_refused(client: FlaskClient, query: str) -> None:
    assert_problem(client.get(f"/api/chat/sessions?{query}"), 400, "invalid_request")


# everything else


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/api", "/api/chat/nothing", "/api/chat/session/", "/docs/assets/nothing.js", "/api//chat/sessions"],
)
def test_an_unknown_path_is_a_problem(client: FlaskClient, path: str) -> None:
    assert_problem(client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/api/chat/session"), ("GET", "/api/chat/session"), ("POST", "/api/chat/sessions"),
     ("PATCH", "/api/chat/session/x"), ("DELETE", "/healthz"), ("GET", "/api/chat/session/x/cancel")],
)  # fmt: skip
def test_a_wrong_method_is_a_problem_that_names_the_right_ones(client: FlaskClient, method: str, path: str) -> None:
    response = client.open(path, method=method)

    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["Allow"]


@pytest.mark.parametrize("session_id", ["x", "%00", "%F0%9F%99%82", "%ff", "a" * 3000, "..%2f..", "%27%22%3B"])
def test_an_unknown_session_is_a_problem_in_every_route(client: FlaskClient, session_id: str) -> None:
    for method, path in (("GET", ""), ("GET", "/events"), ("GET", "/stream"), ("POST", "/cancel"), ("DELETE", "")):
        assert_problem(client.open(f"/api/chat/session/{session_id}{path}", method=method), 404, "not_found")


def test_the_head_of_a_get_is_answered(client: FlaskClient) -> None:
    response = client.head(f"/api/chat/session/{finished()}")

    assert (response.status_code, response.data) == (200, b"")


# owners


def bearer(owner: str, **fields: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {access.issue(SECRET, owner, **fields)}"}


def test_an_owner_sees_and_touches_only_what_is_theirs(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(chat_secret=SECRET)
    alice, mallory = bearer("alice"), bearer("mallory")
    started = client.post("/api/chat/session", json={"message": "secret"}, headers=alice).json
    path = f"/api/chat/session/{started['sessionId']}"

    for method, rest in (("GET", ""), ("GET", "/events"), ("GET", "/stream"), ("POST", "/cancel"), ("DELETE", "")):
        theirs = client.open(path + rest, method=method, headers=mallory)
        nobodys = client.open(f"/api/chat/session/{uuid4()}{rest}", method=method, headers=mallory)
        assert_problem(theirs, 404, "not_found")
        assert theirs.data == nobodys.data
    same_id = {"message": "x", "conversationId": started["conversationId"]}
    assert client.post("/api/chat/session", json=same_id, headers=mallory).status_code == 202
    by_conversation = client.get(f"/api/chat/sessions?conversationId={started['conversationId']}", headers=mallory)
    assert [each["userMessage"] for each in by_conversation.json["sessions"]] == ["x"]
    assert [each["userMessage"] for each in client.get("/api/chat/sessions", headers=mallory).json["sessions"]] == ["x"]
    assert client.get(path, headers=alice).json["status"] == "running"


def test_a_key_of_one_owner_is_not_that_of_another(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(chat_secret=SECRET)

    answers = [
        client.post("/api/chat/session", json={"message": "x"}, headers=bearer(owner) | {"Idempotency-Key": "key"})
        for owner in ("alice", "mallory")
    ]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert len({answer.json["sessionId"] for answer in answers}) == 2


NO_CREDENTIALS = {
    "none": {},
    "empty": {"Authorization": ""},
    "no scheme": {"Authorization": access.issue(SECRET, "alice")},
    "other scheme": {"Authorization": f"Basic {access.issue(SECRET, 'alice')}"},
    "no token": {"Authorization": "Bearer"},
    "garbage": {"Authorization": "Bearer abc"},
    "other key": {"Authorization": f"Bearer {access.issue('another root key', 'alice')}"},
    "expired": bearer("alice", expires=datetime.now(UTC) - timedelta(seconds=1)),
}


@pytest.mark.parametrize("headers", NO_CREDENTIALS.values(), ids=NO_CREDENTIALS.keys())
def test_without_a_valid_token_nothing_is_served(
    make_client: Callable[..., FlaskClient], headers: dict[str, str]
) -> None:
    client = make_client(chat_secret=SECRET)

    for method, path in (
        ("POST", "/api/chat/session"), ("GET", "/api/chat/session/x"), ("GET", "/api/chat/session/x/events"),
        ("GET", "/api/chat/session/x/stream"), ("POST", "/api/chat/session/x/cancel"),
        ("DELETE", "/api/chat/session/x"), ("GET", "/api/chat/sessions"),
    ):  # fmt: skip
        body = {"json": {"message": "x"}} if path == "/api/chat/session" else {}
        response = client.open(path, method=method, headers=headers, **body)
        assert_problem(response, 401, "unauthorized")
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", ""])
def test_without_a_secret_loopback_is_served(client: FlaskClient, address: str) -> None:
    response = client.get("/api/chat/sessions", environ_overrides={"REMOTE_ADDR": address})

    assert response.status_code == 200


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "::ffff:10.0.0.1", "2001:db8::1", "0.0.0.0", "garbage"])
def test_without_a_secret_no_other_host_is_served(client: FlaskClient, address: str) -> None:
    for method, path in (("GET", "/api/chat/sessions"), ("POST", "/api/chat/session/x/cancel")):
        response = client.open(path, method=method, environ_overrides={"REMOTE_ADDR": address})
        assert_problem(response, 401, "unauthorized")


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:8000", 200), ("a.localhost", 200),
     ("rebound.example", 401), ("10.0.0.1:8000", 401), ("localhost.evil.example", 401)],
)  # fmt: skip
def test_without_a_secret_no_foreign_name_is_served(client: FlaskClient, host: str, status: int) -> None:
    response = client.get("/api/chat/sessions", headers={"Host": host})

    assert response.status_code == status


# health and documents


def test_health_readiness_and_metrics(client: FlaskClient) -> None:
    assert client.get("/healthz").json == {"status": "ok"}
    assert client.get("/readyz").json == {"status": "ok", "database": "ok", "broker": "ok"}
    metrics = client.get("/metrics")
    assert metrics.status_code == 200
    assert "# HELP" in metrics.text


def test_the_documentation_loads_nothing_from_another_host(client: FlaskClient) -> None:
    page = client.get("/docs").text
    assets = re.findall(r'(?:src|href)="([^"]+)"', page)

    assert assets
    for asset in assets:
        assert asset.startswith("/"), asset
        assert not asset.startswith("//")
        if asset.startswith("/docs/assets"):
            with client.get(asset) as response:
                assert response.status_code == 200
    assert not re.search(r"""(?:url|src|href)\s*[(=:]\s*["'](?:https?:)?//""", page)


def test_the_document_names_every_route_of_the_api(client: FlaskClient) -> None:
    document = client.get("/openapi.json").json

    assert document["openapi"].startswith("3.1")
    # Routes of other people's clients are described by those who made them.
    others = {blueprint.name for blueprint in compat.FAMILIES.values()}
    described = {
        (method.upper(), re.sub(r"{\w+}", "<>", path))
        for path, operations in document["paths"].items()
        for method in operations
        if method in ("get", "post", "patch", "delete", "put")
    }
    routes = {
        (method, re.sub(r"<[^>]+>", "<>", rule.rule))
        for rule in client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/") and rule.endpoint.split(".")[0] not in others
    }
    assert routes <= described
