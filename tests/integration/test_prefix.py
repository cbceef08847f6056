"""The API below a path of a proxy's."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient

from app.errors import Invalid
from tests.factories import OWNER, change, make_session
from tests.integration.test_api import post

# What it does has nothing to do with the database.
pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@pytest.fixture
def client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    return make_client(url_prefix="/team/chat/")


@pytest.mark.parametrize("left", ["/team/chat", ""], ids=["the proxy leaves it on", "the proxy takes it off"])
def test_a_location_is_below_the_path(client: FlaskClient, left: str) -> None:
    started = client.post(f"{left}/api/chat/session", json={"message": "Hello"})

    location = started.headers["Location"]
    assert location == f"/team/chat/api/chat/session/{started.json['sessionId']}"
    assert client.get(location).json["sessionId"] == started.json["sessionId"]


def test_the_place_of_an_answer_whose_events_are_gone_is_below_the_path(client: FlaskClient) -> None:
    session_id = make_session()
    change(session_id, status="done", events_pruned_at=datetime.now(UTC))

    gone = client.get(f"/team/chat/api/chat/session/{session_id}/events?after=0")

    assert gone.status_code == 410
    assert gone.json["finalAnswer"] == f"/team/chat/api/chat/session/{session_id}"
    assert gone.json["messages"] == f"/team/chat/api/sessions/{session_id}/messages"


def test_without_its_slash_the_page_is_somewhere_else(client: FlaskClient) -> None:
    moved = client.get("/team/chat?a=b")

    assert (moved.status_code, moved.headers["Location"]) == (308, "/team/chat/?a=b")
    with client.get("/team/chat/") as page:
        assert "<title>Backchat" in page.text
    assert client.get("/team/chatter/api/chat/sessions").status_code == 404


@pytest.mark.parametrize("page", ["/team/chat/", "/team/chat/docs"])
def test_what_a_page_loads_is_below_the_path(client: FlaskClient, page: str) -> None:
    with client.get(page) as response:
        text = response.text
    named = re.findall(r'(?:src|href)="([^"#][^"]*)"', text) + re.findall(r'url: "([^"]+)"', text)
    places = [urljoin(f"http://localhost{page}", name) for name in named]

    assert len(places) >= 4
    for place in places:
        path = place.removeprefix("http://localhost")
        assert path.startswith("/team/chat/")
        with client.get(path) as loaded:
            assert loaded.status_code == 200


def test_the_document_names_the_path(client: FlaskClient) -> None:
    assert client.get("/team/chat/openapi.json").json["servers"] == [{"url": "/team/chat"}]


def test_without_the_setting_there_is_no_path(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client()

    assert post(client).headers["Location"].startswith("/api/chat/session/")
    assert client.get("/team/chat/healthz").status_code == 404


@pytest.mark.parametrize(
    "prefix", ["chat", "//chat", "/chat//two", "/chat?", "/ch at", "/../chat", "/chät", "https://host/chat", "/%2e"]
)
def test_a_prefix_that_is_no_path_is_refused(make_client: Callable[..., FlaskClient], prefix: str) -> None:
    with pytest.raises(Invalid, match="URL_PREFIX must be a path"):
        make_client(url_prefix=prefix)


@pytest.mark.parametrize("prefix", ["/api", "/web", "/docs", "/api/chat", "/healthz/"])
def test_a_prefix_that_the_application_has_itself_is_refused(
    make_client: Callable[..., FlaskClient], prefix: str
) -> None:
    with pytest.raises(Invalid, match="the application has that path itself"):
        make_client(url_prefix=prefix)


def test_a_prefix_that_only_begins_as_a_path_of_the_application_is_none_of_them(
    make_client: Callable[..., FlaskClient],
) -> None:
    client = make_client(url_prefix="/apiary")

    assert client.get("/apiary/healthz").json == {"status": "ok"}
    assert make_session(owner=OWNER) in client.get("/apiary/api/chat/sessions").text
