"""What answers plain polls in front of the framework: the same bytes, and nothing that the framework would refuse."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import access
from app.api.polling.front import Front
from app.api.polling.pages import POLL_STILL_MS
from app.errors import DatabaseBusy
from app.events import Delta, Thinking
from app.sessions.claims import Claim
from tests.counted import moved
from tests.factories import change, make_claim, statements, write

# What it does has nothing to do with the database.
pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)

SECRET = "k1:a root key for tests of 32 bytes and more"


class Counted:
    """How many requests the front answered and how many went on to the framework."""

    def __init__(self) -> None:
        self.answered = self.passed_on = 0
        self.off = False


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Counts what the front does, and switches it off."""
    counted, answer = Counted(), Front._answer

    def count(self: Front, environ: Any) -> Any:
        made = None if counted.off else answer(self, environ)
        counted.answered += made is not None
        counted.passed_on += made is None
        return made

    monkeypatch.setattr(Front, "_answer", count)
    return counted


def make_idle() -> Claim:
    """A running session with two events, of which the second is worth compressing."""
    claim = make_claim()
    write(claim, Thinking(""), Delta("words " * 500))
    return claim


def of(response: TestResponse) -> tuple[str, list[tuple[str, str]], bytes]:
    return response.status, list(response.headers), response.data


def events(claim: Claim, query: str = "after=2") -> str:
    return f"/api/chat/session/{claim.session_id}/events?{query}"


CORS = {"cors_origins": "https://one.example"}
PREFIX = {"url_prefix": "/chat"}


@pytest.mark.parametrize(
    ("settings", "query", "headers"),
    [
        ({}, "after=2", {}),
        ({}, "after=2&limit=500", {"Accept-Encoding": "gzip"}),
        ({}, "after=2&limit=1000&wait=0", {"If-None-Match": 'W/"running-1-0-0"'}),
        ({}, "after=7&limit=1", {"Sec-Fetch-Site": "same-origin"}),
        ({}, "after=2", {"If-None-Match": '"running-2-0-0"'}),
        ({"chat_secret": SECRET}, "after=2", {}),
        ({"chat_secret": SECRET}, "after=2", {"If-None-Match": 'W/"running-2-0-0"'}),
        (CORS, "after=2", {}),
        (CORS, "after=2", {"If-None-Match": 'W/"running-2-0-0"'}),
        (PREFIX, "after=2", {}),
        ({}, "after=0", {}),
        ({}, "after=1&limit=1", {"Accept-Encoding": "gzip, br"}),
        ({}, "after=0&limit=1", {"Accept-Encoding": "gzip;q=0"}),
        (CORS, "after=0", {"Accept-Encoding": "gzip"}),
        (CORS, "after=0", {}),
    ],
    ids=str,
)
def test_a_plain_poll_has_the_bytes_that_the_framework_would_send(
    make_client: Callable[..., FlaskClient],
    front: Counted,
    settings: dict[str, str],
    query: str,
    headers: dict[str, str],
) -> None:
    client, claim = make_client(**settings), make_idle()
    headers = headers | {"X-Request-Id": "one-of-ours"}
    if "chat_secret" in settings:
        headers = headers | {"Authorization": f"Bearer {access.issue(SECRET, 'local')}"}
    url = settings.get("url_prefix", "") + events(claim, query)

    ours = client.get(url, headers=headers)

    assert front.answered == 1
    front.off = True
    assert of(ours) == of(client.get(url, headers=headers))


def test_the_advice_for_the_next_poll_is_the_framework_s(client: FlaskClient, front: Counted) -> None:
    claim = make_idle()
    change(claim.session_id, updated_at="2020-01-01 00:00:00.000")

    ours = client.get(events(claim), headers={"X-Request-Id": "ours"})

    assert (front.answered, ours.json["pollAfterMs"]) == (1, POLL_STILL_MS)
    front.off = True
    assert of(ours) == of(client.get(events(claim), headers={"X-Request-Id": "ours"}))


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("after=-1", {}, 400),
        ("after=x", {}, 400),
        ("after=2&limit=0", {}, 400),
        ("after=2&limit=1001", {}, 400),
        ("after=99999999999", {}, 400),
        ("after=2&after=x", {}, None),
        ("after=2&limit=500&unknown=1", {}, None),
        ("after=2&wait=0.01", {}, 200),
        ("after=2", {"Host": "evil.example"}, 401),
        ("after=2", {"X-Forwarded-For": "127.0.0.1"}, 401),
        ("after=2", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("after=2", {"Origin": "https://evil.example"}, None),
        ("after=2", {"Transfer-Encoding": "chunked"}, 415),
        ("after=2", {"If-None-Match": "*"}, None),
        ("after=2", {"If-None-Match": 'W/"a", W/"running-2-0-0"'}, 304),
    ],
    ids=str,
)
def test_what_is_not_plainly_a_poll_is_for_the_framework(
    client: FlaskClient, front: Counted, query: str, headers: dict[str, str], status: int | None
) -> None:
    claim = make_idle()

    response = client.get(events(claim, query), headers=headers)

    assert front.answered == 0
    if status is not None:
        assert response.status_code == status


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS", "DELETE"])
def test_only_gets_are_answered(client: FlaskClient, front: Counted, method: str) -> None:
    claim = make_idle()

    client.open(events(claim), method=method)

    assert front.answered == 0


TOKENS: dict[str, Callable[[Claim], str]] = {
    "none": lambda claim: "",
    "garbage": lambda claim: "x",
    "foreign": lambda claim: access.issue(SECRET, "somebody else"),
    "cannot read": lambda claim: access.issue(SECRET, "local", can=["cancel"]),
    "another key": lambda claim: access.issue("another root key of more than 32 bytes", "local"),
    "of another session": lambda claim: access.issue(SECRET, "local", session="other"),
}


@pytest.mark.parametrize("make_token", TOKENS.values(), ids=TOKENS.keys())
def test_only_who_may_read_the_session_is_answered(
    make_client: Callable[..., FlaskClient], front: Counted, make_token: Callable[[Claim], str]
) -> None:
    client, claim = make_client(chat_secret=SECRET), make_idle()

    refused = client.get(events(claim), headers={"Authorization": f"Bearer {make_token(claim)}"})

    assert front.answered == 0
    assert refused.status_code in (401, 403, 404)


def test_an_idle_poll_asks_nobody(client: FlaskClient, front: Counted) -> None:
    claim = make_idle()
    client.get(events(claim))

    with statements() as asked:
        client.get(events(claim))

    assert (front.answered, asked) == (2, [])


def test_polls_are_counted_with_all_other_requests(client: FlaskClient, front: Counted) -> None:
    claim = make_idle()

    with moved() as changes:
        for _ in range(3):
            client.get(events(claim), buffered=True)

    assert front.answered == 3
    assert changes["backchat_http_requests_total{GET,/api/chat/session/<session_id>/events,200}"] == 3


@pytest.mark.parametrize("status", [404, 410])
def test_what_fails_is_told_by_the_framework(client: FlaskClient, front: Counted, status: int) -> None:
    claim = make_idle()
    if status == 404:
        client.delete(f"/api/chat/session/{claim.session_id}")
    else:
        change(claim.session_id, status="done", events_pruned_at=datetime.now(UTC))

    response = client.get(events(claim))

    assert (front.answered, response.status_code) == (0, status)


def test_a_database_that_is_busy_is_waited_for_once(
    client: FlaskClient, front: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, waits = make_idle(), 0

    def be_busy(*_: Any) -> NoReturn:
        nonlocal waits
        waits += 1
        raise DatabaseBusy("the database is busy")

    monkeypatch.setattr("app.events.log.read", be_busy)
    response = client.get(events(claim))

    assert (front.answered, response.status_code, response.json["code"]) == (0, 503, "busy")  # type: ignore[index]
    assert waits == 1
