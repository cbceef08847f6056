"""What the API answers while the database or Redis is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app import db
from app.api import create_app
from app.api.polling.local_heads import FRESH_S
from app.broker.client import open_redis
from app.broker.heads import Head, Heads
from app.errors import DatabaseUnavailable
from app.events import Delta, Thinking
from app.settings import Settings
from tests.conftest import close_all, opened
from tests.factories import assert_sound, at_once, make_claim, make_session, row, seqs_of, write
from tests.integration.test_api import assert_problem, post, queued
from tests.servers import MariaDB, RedisServer, wait_until


@pytest.fixture
def own_mariadb(
    make_mariadb: Callable[[], MariaDB], redis_server: RedisServer
) -> Iterator[tuple[MariaDB, FlaskClient]]:
    """A MariaDB that the test may kill, and a client of an application on it."""
    bound = db.database.obj
    server = make_mariadb()
    url = server.create_database("own")
    with opened(url):
        client = create_app(Settings(database_url=url, redis_url=redis_server.url)).test_client()
        yield server, client
        close_all(db.database.obj)
    db.database.initialize(bound)


@pytest.fixture
def own_redis(make_redis: Callable[..., RedisServer], make_client: Callable[..., FlaskClient]) -> Any:
    """A Redis that the test may kill, and a client of an application on it."""
    server = make_redis()
    return server, make_client(redis_url=server.url)


def sessions_of(client: FlaskClient) -> list[str]:
    return [session["sessionId"] for session in client.get("/api/chat/sessions").json["sessions"]]


# the database


def test_a_start_without_the_database_is_refused_and_leaves_nothing(
    own_mariadb: tuple[MariaDB, FlaskClient],
) -> None:
    server, client = own_mariadb
    before = post(client).json["sessionId"]
    server.kill9()
    started = time.monotonic()

    refused = post(client)

    assert time.monotonic() - started < 5
    assert_problem(refused, 503, "database_unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    server.start()
    assert sessions_of(client) == [before]
    assert post(client).status_code == 202


def test_a_start_with_a_key_that_is_tried_until_the_database_is_back_is_one_session(
    own_mariadb: tuple[MariaDB, FlaskClient],
) -> None:
    server, client = own_mariadb

    def start() -> Any:
        return client.post("/api/chat/session", json={"message": "x"}, headers={"Idempotency-Key": "key"})

    first = start().json
    server.kill9()
    refused = start()
    server.start()
    again = start()

    assert_problem(refused, 503, "database_unavailable")
    assert (again.status_code, again.json) == (202, first)
    assert sessions_of(client) == [first["sessionId"]]


def test_every_route_tells_that_the_database_is_away(own_mariadb: tuple[MariaDB, FlaskClient]) -> None:
    server, client = own_mariadb
    session_id = make_session()
    server.kill9()

    for method, path in (
        ("GET", f"/api/chat/session/{session_id}"), ("GET", f"/api/chat/session/{session_id}/events"),
        ("GET", f"/api/chat/session/{session_id}/stream"), ("POST", f"/api/chat/session/{session_id}/cancel"),
        ("DELETE", f"/api/chat/session/{session_id}"), ("GET", "/api/chat/sessions"), ("GET", "/api/conversations"),
    ):  # fmt: skip
        response = client.open(path, method=method)
        assert_problem(response, 503, "database_unavailable")
        assert response.headers["Retry-After"]
    ready = client.get("/readyz")
    assert_problem(ready, 503, "database_unavailable")
    assert client.get("/healthz").status_code == 200
    server.start()
    assert client.get("/readyz").json["database"] == "ok"
    assert row(session_id).status == "running"


def test_an_idle_poll_is_answered_without_the_database(
    own_mariadb: tuple[MariaDB, FlaskClient], redis_server: RedisServer
) -> None:
    server, client = own_mariadb
    claim = make_claim()
    write(claim, Thinking(""), Delta("x"))
    url = f"/api/chat/session/{claim.session_id}/events?after=2"
    client.get(url)
    # No news: it would have been read, and polls of what changed have to wait for the database.
    heads = Heads(open_redis(redis_server.url))
    server.kill9()
    deadline = time.monotonic() + 2 * FRESH_S
    answers = []

    while time.monotonic() < deadline:
        heads.publish([Head(claim.session_id, "local", 2, "running")], news=False)
        answers.append(client.get(url).status_code)

    assert set(answers) == {200}


def test_requests_during_an_outage_and_a_restart_are_answered_or_refused_and_never_break(
    own_mariadb: tuple[MariaDB, FlaskClient],
) -> None:
    server, client = own_mariadb
    accepted: list[str] = []
    statuses: set[int] = set()
    over = time.monotonic() + 6

    def ask() -> None:
        mine = client.application.test_client()
        while time.monotonic() < over:
            response = post(mine)
            statuses.add(response.status_code)
            if response.status_code == 202:
                accepted.append(response.json["sessionId"])
            time.sleep(0.05)

    def harm() -> None:
        time.sleep(1.0)
        server.kill9()
        time.sleep(1.0)
        server.start()

    outcomes = at_once([ask, ask, ask, harm])

    assert [each for each in outcomes if each is not None] == []
    assert statuses == {202, 503}
    stored = set()
    for session_id in accepted:
        stored.add(row(session_id).session_id)
        assert_sound(session_id)
    assert stored == set(accepted)


def test_a_process_that_is_frozen_in_a_transaction_does_not_hold_the_others_up_for_long(
    own_mariadb: tuple[MariaDB, FlaskClient],
) -> None:
    _, client = own_mariadb
    claim = make_claim()
    outcome: list[object] = []
    frozen, cancelled = threading.Event(), threading.Event()

    def freeze() -> None:
        def work() -> None:
            db.database.execute_sql("SELECT id FROM chatSessions FOR UPDATE")
            frozen.set()
            cancelled.wait(30)  # as a process does that was sent SIGSTOP
            db.database.execute_sql("UPDATE chatSessions SET lastSeq = 99")

        try:
            db.transaction(work)
        except DatabaseUnavailable as error:
            outcome.append(error)

    def cancel() -> float:
        frozen.wait(30)
        started = time.monotonic()
        response = client.post(f"/api/chat/session/{claim.session_id}/cancel")
        while response.status_code == 503:
            response = client.post(f"/api/chat/session/{claim.session_id}/cancel")
        took_s = time.monotonic() - started
        cancelled.set()
        assert response.status_code == 200
        return took_s

    _, took = at_once([freeze, cancel])

    assert isinstance(took, float)
    assert took < 15
    assert len(outcome) == 1
    assert seqs_of(claim.session_id) == [1]
    assert_sound(claim.session_id)


# Redis


def test_without_redis_everything_but_the_ring_works(own_redis: tuple[RedisServer, FlaskClient]) -> None:
    server, client = own_redis
    server.kill9()

    started = post(client)
    path = started.headers["Location"]

    assert started.status_code == 202
    assert client.get(path).json["status"] == "running"
    assert client.get(f"{path}/events").json["events"] == []
    claim = make_claim(started.json["sessionId"])
    write(claim, Thinking(""), Delta("x"))
    wait_until(lambda: client.get(f"{path}/events?after=1").json["nextAfter"] == 2, "news, which may be late", 2)
    assert client.post(f"{path}/cancel").json["errorCode"] == "cancelled"
    wait_until(lambda: client.get(f"{path}/events?after=2").json["status"] == "error", "the end", 2)
    assert client.get(f"{path}/stream").text.count("id: ") == 3
    assert len(sessions_of(client)) == 1
    assert client.delete(path).status_code == 204
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json["status"], ready.json["broker"]) == (200, "degraded", "unreachable")


def test_a_redis_that_comes_back_is_rung_again(own_redis: tuple[RedisServer, FlaskClient]) -> None:
    server, client = own_redis
    post(client)
    server.kill9()
    post(client)
    server.start()

    started = post(client).json

    assert queued(server) == [f"{started['sessionId']}-0".encode()]
    assert client.get("/readyz").json["status"] == "ok"


def test_a_redis_that_does_not_answer_delays_a_start_by_two_seconds_at_most(
    own_redis: tuple[RedisServer, FlaskClient],
) -> None:
    server, client = own_redis
    post(client)
    server.pause()
    started = time.monotonic()

    response = post(client)
    took = time.monotonic() - started
    polls = [client.get(f"{response.headers['Location']}/events").status_code for _ in range(20)]

    assert response.status_code == 202
    assert took < 2.5
    assert polls == [200] * 20
    assert time.monotonic() - started - took < 2.5


def test_a_redis_that_takes_no_writes_is_told_as_missing(own_redis: tuple[RedisServer, FlaskClient]) -> None:
    server, client = own_redis
    with redis.Redis.from_url(server.url) as connection:
        connection.config_set("maxmemory", 1)

        ready = client.get("/readyz").json
        connection.config_set("maxmemory", 0)

    assert (ready["status"], ready["broker"]) == ("degraded", "unreachable")
    assert client.get("/readyz").json["status"] == "ok"
