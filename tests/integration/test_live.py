"""Held polls, streams and idle polls of a real web process, on both databases."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest

from app import db, sessions
from app.api.polling.hub import LOOK_S
from app.broker.client import open_redis
from app.broker.heads import Head, Heads
from app.broker.queue import TurnQueue
from app.db import schema
from app.events import Delta, Done, Error
from app.sessions import removal
from app.sessions.claims import Claim
from app.sessions.doorbell import Doorbell
from tests.factories import OWNER, make_claim, make_session, row, write
from tests.servers import Process, RedisServer, free_port, wait_until


class Web:
    """A web process under gunicorn and gevent, and what a worker beside it would do."""

    def __init__(self, process: Process, port: int, redis_url: str) -> None:
        self.process = process
        self.port = port
        self.heads = Heads(open_redis(redis_url))
        self.doorbell = Doorbell(self.heads, TurnQueue(redis_url))

    def get(self, path: str, **headers: str) -> tuple[HTTPResponse, bytes]:
        with closing(self.ask(path, **headers)) as connection:
            response = connection.getresponse()
            return response, response.read()

    def json(self, path: str, **headers: str) -> Any:
        _, body = self.get(path, **headers)
        return json.loads(body)

    def ask(self, path: str, **headers: str) -> HTTPConnection:
        """A connection on which *path* has been asked for."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return connection

    def write(self, claim: Claim, *events: Delta | Done | Error) -> None:
        """Commit *events* and publish the head, as the event writer does."""
        outcome = write(claim, *events)
        self.heads.publish([Head(claim.session_id, claim.owner, outcome.last_seq, outcome.status, time.time())])

    def wait_for_held(self, count: int) -> None:
        """Return when so many requests are held."""
        line = f"backchat_held_requests {float(count)}"
        wait_until(lambda: line in self.get("/metrics")[1].decode().splitlines(), f"{count} requests to be held")


class Held:
    """A request in a thread of its own, with when and how it was answered."""

    def __init__(self, web: Web, path: str, **headers: str) -> None:
        self._connection = web.ask(path, **headers)
        self._thread = threading.Thread(target=self._read)
        self.response: HTTPResponse | None = None
        self.body = b""
        self.answered_at = 0.0
        self._thread.start()

    def _read(self) -> None:
        with closing(self._connection):
            self.response = self._connection.getresponse()
            self.body = self.response.read()
            self.answered_at = time.monotonic()

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def answer(self) -> Any:
        self._thread.join(30)
        assert not self.waits
        return json.loads(self.body)


def start_web(make: Callable[..., Process], database_url: str, redis_url: str, **environment: str) -> Web:
    db.open_database(database_url)
    schema.migrate()
    port = free_port()
    process = make(
        *("-m", "gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:app"),
        DATABASE_URL=database_url,
        REDIS_URL=redis_url,
        PORT=str(port),
        **environment,
    )
    process.wait_for_line("Booting worker")
    return Web(process, port, redis_url)


@pytest.fixture
def make_web(database_url: str, make_process: Callable[..., Process]) -> Callable[..., Web]:
    """Starts a web process of the test's own."""
    return partial(start_web, make_process, database_url)


@pytest.fixture(scope="module", params=["sqlite", "mariadb"])
def shared_web(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer
) -> Iterator[tuple[Web, str]]:
    """One web process for all tests that do it no harm, and the URL of its database."""
    folder = tmp_path_factory.mktemp("web")
    url = f"sqlite:///{folder / 'backchat.db'}"
    if request.param == "mariadb":
        url = request.getfixturevalue("mariadb").create_database("live")
    with ExitStack() as stack:

        def make(*arguments: str, **environment: str) -> Process:
            return stack.enter_context(Process.python(*arguments, log=folder / "web.log", environment=environment))

        yield start_web(make, url, redis_server.url), url


@pytest.fixture
def web(shared_web: tuple[Web, str]) -> Web:
    web, url = shared_web
    db.open_database(url)
    return web


def events_path(session_id: str, query: str = "") -> str:
    return f"/api/chat/session/{session_id}/events?{query}"


def stream_path(session_id: str) -> str:
    return f"/api/chat/session/{session_id}/stream"


def blocks(response: HTTPResponse) -> Iterator[list[str]]:
    """The server-sent events of a stream as lines, each as soon as it has come."""
    lines: list[str] = []
    for line in response:
        text = line.decode().rstrip("\n")
        if text:
            lines.append(text)
        else:
            yield lines
            lines = []


def next_event(stream: Iterator[list[str]]) -> tuple[int, dict[str, Any]]:
    for lines in stream:
        fields = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
        if "data" in fields:
            return int(fields["id"]), json.loads(fields["data"])
    raise AssertionError("the stream has ended")


def test_a_held_poll_is_answered_soon_after_the_commit(web: Web) -> None:
    claim = make_claim()
    web.write(claim, Delta("old"))
    held = Held(web, events_path(claim.session_id, "after=1&wait=20"))
    web.wait_for_held(1)
    assert held.waits

    web.write(claim, Delta("new"))
    committed_at = time.monotonic()

    page = held.answer()
    assert [event["content"] for event in page["events"]] == ["new"]
    assert page["status"] == "running"
    assert page["nextAfter"] == 2
    assert held.answered_at - committed_at < LOOK_S / 2, "found by the look, not by the news"


def test_a_held_poll_of_a_waiting_session_hears_of_its_end(web: Web) -> None:
    session_id = make_session()
    held = Held(web, events_path(session_id, "wait=20"))
    web.wait_for_held(1)

    web.doorbell.ended(sessions.end(session_id, Error("cancelled", "enough")))

    page = held.answer()
    assert page["status"] == "error"
    assert [event["errorCode"] for event in page["events"]] == ["cancelled"]


def test_a_held_poll_without_news_ends_empty_when_its_time_has_passed(web: Web) -> None:
    session_id = make_session()
    began = time.monotonic()

    page = web.json(events_path(session_id, "after=0&wait=1"))

    assert 1 <= time.monotonic() - began < 10
    assert (page["events"], page["status"], page["nextAfter"]) == ([], "running", 0)


def test_a_held_poll_of_a_deleted_session_is_a_404(web: Web) -> None:
    session_id = make_session()
    held = Held(web, events_path(session_id, "wait=20"))
    web.wait_for_held(1)

    web.doorbell.deleted(removal.delete(OWNER, session_id))

    assert held.answer()["code"] == "not_found"
    assert held.response is not None
    assert held.response.status == 404
    assert held.response.headers["Content-Type"] == "application/problem+json"


def test_an_unknown_session_is_a_404_however_it_is_asked_for(web: Web) -> None:
    make_session()

    for path in (events_path("unknown"), events_path("unknown", "wait=20"), stream_path("unknown")):
        response, body = web.get(path)

        assert response.status == 404, path
        assert json.loads(body)["code"] == "not_found"


def test_what_was_committed_before_a_held_poll_is_answered_at_once(web: Web) -> None:
    claim = make_claim()
    web.write(claim, Delta("a"), Delta("b"), Done("ab"))

    first = web.json(events_path(claim.session_id, "wait=20&limit=2"))
    second = web.json(events_path(claim.session_id, "wait=20&after=2"))
    after_the_end = web.json(events_path(claim.session_id, "wait=20&after=3"))

    assert (first["status"], first["hasMore"], first["pollAfterMs"]) == ("running", True, 0)
    assert (second["status"], [event["eventType"] for event in second["events"]]) == ("done", ["done"])
    assert (after_the_end["status"], after_the_end["events"]) == ("done", [])


def test_readers_that_are_held_at_different_seqs_each_get_what_they_miss(web: Web) -> None:
    claim = make_claim()
    web.write(claim, Delta("a"), Delta("b"))
    ahead = Held(web, events_path(claim.session_id, "wait=20&after=7"))
    held = [Held(web, events_path(claim.session_id, "wait=20&after=2")) for _ in range(20)]
    web.wait_for_held(21)

    web.write(claim, Delta("c"))
    pages = [each.answer() for each in held]
    assert ahead.waits
    web.write(claim, *(Delta(str(number)) for number in range(5)))

    assert {json.dumps(page) for page in pages} == {json.dumps(pages[0])}
    assert [event["content"] for event in pages[0]["events"]] == ["c"]
    assert [event["seq"] for event in ahead.answer()["events"]] == [8]


def test_a_client_that_goes_away_gives_its_place_back(web: Web) -> None:
    session_id = make_session()
    connections = [web.ask(events_path(session_id, "wait=25")), web.ask(stream_path(session_id))]
    web.wait_for_held(2)

    for connection in connections:
        connection.close()

    web.wait_for_held(0)


def test_without_redis_held_requests_are_answered_from_the_database(
    make_web: Callable[..., Web], make_redis: Callable[..., RedisServer]
) -> None:
    redis = make_redis()
    web = make_web(redis.url)
    claim = make_claim()
    held = Held(web, events_path(claim.session_id, "wait=20"))
    web.wait_for_held(1)
    redis.kill9()

    write(claim, Delta("unheard"))
    first = held.answer()
    held = Held(web, events_path(claim.session_id, "wait=20&after=1"))
    web.wait_for_held(1)
    write(claim, Done("unheard"))

    assert [event["content"] for event in first["events"]] == ["unheard"]
    assert held.answer()["status"] == "done"


def test_a_stream_shows_each_event_once_and_ends_after_the_last(web: Web) -> None:
    claim = make_claim()
    web.write(claim, Delta("before"))
    with closing(web.ask(stream_path(claim.session_id))) as connection:
        response = connection.getresponse()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["X-Accel-Buffering"] == "no"
        assert "Content-Encoding" not in response.headers
        stream = blocks(response)
        seen = [next_event(stream)]

        for text in ("one\ntwo", "Привет 🎈"):
            web.write(claim, Delta(text))
            seen.append(next_event(stream))
        web.write(claim, Delta("end"), Done("all of it"))
        seen += [next_event(stream), next_event(stream)]

        assert list(stream) == []
    assert [seq for seq, _ in seen] == [1, 2, 3, 4, 5]
    assert [event["content"] for _, event in seen] == ["before", "one\ntwo", "Привет 🎈", "end", "all of it"]


def test_a_stream_resumes_after_the_last_event_that_the_client_has(web: Web) -> None:
    claim = make_claim()
    web.write(claim, *(Delta(str(number)) for number in range(1, 1201)), Done("all"))

    _, body = web.get(stream_path(claim.session_id), Last_Event_ID="3", Accept_Encoding="gzip")

    seqs = [int(line[4:]) for line in body.decode().splitlines() if line.startswith("id: ")]
    assert seqs == list(range(4, 1202))


def test_a_client_that_has_all_of_a_stream_is_told_to_stop(web: Web) -> None:
    claim = make_claim()
    web.write(claim, Done("all"))

    response, body = web.get(stream_path(claim.session_id), Last_Event_ID="1")
    bad, _ = web.get(stream_path(claim.session_id), Last_Event_ID="-1")

    assert (response.status, body) == (204, b"")
    assert bad.status == 400


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri_too_long"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 9000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400, "invalid_request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n", 400, "invalid_request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: odd\r\n\r\n", 501, "unsupported_transfer_coding"),
        (b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n", 400, "invalid_request"),
    ],
    ids=["line", "many headers", "long header", "no header", "length", "coding", "TLS"],
)
def test_what_is_no_request_is_refused_with_a_problem(web: Web, request_bytes: bytes, status: int, code: str) -> None:
    with closing(socket.create_connection(("127.0.0.1", web.port), timeout=30)) as connection:
        connection.sendall(request_bytes)
        response = HTTPResponse(connection)
        response.begin()
        problem = json.loads(response.read())

    assert (response.status, problem["status"], problem["code"]) == (status, status, code)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["detail"]
    assert web.json("/healthz")


def test_head_is_not_held(web: Web) -> None:
    session_id = make_session()

    for path in (events_path(session_id, "wait=25"), stream_path(session_id)):
        with closing(HTTPConnection("127.0.0.1", web.port, timeout=5)) as connection:
            connection.request("HEAD", path)

            assert connection.getresponse().status == 200
    web.wait_for_held(0)


def test_a_stream_of_a_deleted_session_ends(web: Web) -> None:
    session_id = make_session()
    with closing(web.ask(stream_path(session_id))) as connection:
        stream = blocks(connection.getresponse())
        next(stream)

        web.doorbell.deleted(removal.delete(OWNER, session_id))

        assert list(stream) == []


def test_an_answer_that_the_client_has_is_a_304(web: Web) -> None:
    claim = make_claim()
    web.write(claim, Delta("a"))
    first, _ = web.get(events_path(claim.session_id, "after=1"))
    etag = first.headers["ETag"]

    again, body = web.get(events_path(claim.session_id, "after=1"), If_None_Match=etag)
    held, _ = web.get(events_path(claim.session_id, "after=1&wait=0.2"), If_None_Match=etag)
    web.write(claim, Delta("b"))
    new, _ = web.get(events_path(claim.session_id, "after=1"), If_None_Match=etag)

    assert (again.status, body, again.headers["ETag"]) == (304, b"", etag)
    assert held.status == 304
    assert new.status == 200


def test_long_answers_are_compressed_for_who_takes_it(web: Web) -> None:
    claim = make_claim()
    held = Held(web, events_path(claim.session_id, "wait=20"), Accept_Encoding="gzip")
    web.wait_for_held(1)
    web.write(claim, Delta("long " * 1000))

    zipped, body = web.get(events_path(claim.session_id), Accept_Encoding="br, gzip")
    plain, whole = web.get(events_path(claim.session_id))
    short, _ = web.get(events_path(claim.session_id, "after=1"), Accept_Encoding="gzip")
    row_zipped, row_body = web.get("/openapi.json", Accept_Encoding="gzip")
    held._thread.join(30)

    assert zipped.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == whole
    assert len(body) < len(whole) / 10
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["Vary"] == zipped.headers["Vary"] == "Accept-Encoding"
    assert "Content-Encoding" not in short.headers
    assert row_zipped.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(row_body))["openapi"].startswith("3.1")
    assert held.response is not None
    assert held.response.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(held.body))["events"] == json.loads(whole)["events"]


def test_a_held_answer_and_a_stream_carry_the_headers_of_cross_origin_calls(
    make_web: Callable[..., Web], redis_server: RedisServer
) -> None:
    web = make_web(redis_server.url, CORS_ORIGINS="https://chat.example")
    claim = make_claim()
    held = Held(web, events_path(claim.session_id, "wait=20"), Origin="https://chat.example")
    web.wait_for_held(1)

    web.write(claim, Done("all"))
    held.answer()
    stream, _ = web.get(stream_path(claim.session_id), Origin="https://chat.example")

    assert held.response is not None
    for response in (held.response, stream):
        assert response.headers["Access-Control-Allow-Origin"] == "https://chat.example"
        assert "ETag" in response.headers["Access-Control-Expose-Headers"]


def test_news_of_a_polled_session_without_a_head_is_found(web: Web) -> None:
    session_id = make_session()
    assert web.json(events_path(session_id))["status"] == "running"

    # Behind the server's back: nobody tells it. That such polls share their looks is tested with a clock of its own.
    write(make_claim(session_id), Delta("news"))

    wait_until(lambda: web.json(events_path(session_id))["events"], "the news to be found", timeout_s=5)


def test_a_poll_right_after_a_cancel_or_a_delete_shows_it(web: Web) -> None:
    cancelled, deleted = make_session(), make_session()
    for session_id in (cancelled, deleted):
        web.json(events_path(session_id))

    web.doorbell.ended(sessions.end(cancelled, Error("cancelled", "enough")))
    web.doorbell.deleted(removal.delete(OWNER, deleted))

    assert web.json(events_path(cancelled))["status"] == "error"
    assert web.get(events_path(deleted))[0].status == 404
    assert row(cancelled).status == "error"
