"""Pages of other origins call the API, where a setting allows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app import access, db
from app.api import create_app
from app.db import schema
from app.settings import Settings
from tests.servers import RedisServer

SECRET = "main:0123456789abcdef0123456789abcdef"
ORIGIN = {"Origin": "https://chat.example"}
PREFLIGHT = ORIGIN | {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
}


@pytest.fixture
def make_client(tmp_path: Path, redis_server: RedisServer) -> Callable[..., FlaskClient]:
    def make(origins: str, secret: str = "") -> FlaskClient:
        url = f"sqlite:///{tmp_path / 'backchat.db'}"
        db.open_database(url)
        schema.migrate()
        settings = Settings(database_url=url, redis_url=redis_server.url, cors_origins=origins, chat_secret=secret)
        return create_app(settings).test_client()

    return make


def test_an_allowed_origin_may_send_what_the_client_sends_and_see_what_it_reads(
    make_client: Callable[..., FlaskClient],
) -> None:
    client = make_client("https://other.example, https://chat.example/")

    preflight = client.options("/api/chat/session", headers=PREFLIGHT)
    started = client.post("/api/chat/session", json={"message": "Hello"}, headers=ORIGIN)
    failed = client.get("/api/chat/session/unknown/events", headers=ORIGIN)

    assert preflight.status_code == 204
    allowed = {name.strip().lower() for name in preflight.headers["Access-Control-Allow-Headers"].split(",")}
    assert allowed >= {"authorization", "content-type", "idempotency-key", "if-none-match", "last-event-id"}
    assert {"GET", "POST", "DELETE"} <= set(preflight.headers["Access-Control-Allow-Methods"].split(", "))
    for response in (preflight, started, failed):
        assert response.headers["Access-Control-Allow-Origin"] == "https://chat.example"
        assert "Access-Control-Allow-Credentials" not in response.headers
        assert "Origin" in response.headers["Vary"]
    assert {"ETag", "Location", "Retry-After"} <= set(
        started.headers["Access-Control-Expose-Headers"].replace(" ", "").split(",")
    )


@pytest.mark.parametrize("origin", ["chat.example", "https://chat.example/page", "https://*.example", "https://"])
def test_what_is_no_origin_is_named_in_the_log(
    make_client: Callable[..., FlaskClient], origin: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(f"{origin}, https://chat.example")

    [warning] = [record for record in caplog.records if record.name == "app.api.cross_origin"]
    assert warning.__dict__["setting"] == f"CORS_ORIGINS: {origin}".rstrip("/")
    assert client.options("/api/chat/session", headers=PREFLIGHT).status_code == 204


@pytest.mark.parametrize("origins", ["", "https://other.example", "chat.example"])
def test_another_origin_is_told_nothing(make_client: Callable[..., FlaskClient], origins: str) -> None:
    client = make_client(origins)

    for response in (
        client.options("/api/chat/session", headers=PREFLIGHT),
        client.get("/api/chat/sessions", headers=ORIGIN),
    ):
        assert not [name for name, _ in response.headers if name.startswith("Access-Control-")]


def test_any_origin_can_be_allowed(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client("*", SECRET)
    token = access.issue(SECRET, "alice")

    response = client.get("/api/chat/sessions", headers=ORIGIN | {"Authorization": f"Bearer {token}"})

    assert response.status_code == 200

    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Origin" not in response.headers.get("Vary", "")
