"""Whatever is sent, every answer is one that the document declares, and none is a 500. `make fuzz` sends more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app import access
from tests import fuzz
from tests import json_web_tokens as issuer

only_on_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def jwks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("issuer") / "jwks.json"
    path.write_text(json.dumps(issuer.published()))
    return path


@pytest.fixture
def app(make_client: Callable[..., FlaskClient], jwks: Path) -> Any:
    trusted = {"jwt_jwks": str(jwks), "jwt_issuer": issuer.ISSUER, "jwt_audience": issuer.AUDIENCE}
    return make_client(chat_secret=fuzz.SECRET, **trusted).application


@pytest.fixture
def place(app: APIFlask) -> fuzz.Place:
    return fuzz.make_place()


@pytest.mark.timeout(400)
def test_every_answer_is_declared(app: APIFlask, place: fuzz.Place) -> None:
    token = access.issue(fuzz.SECRET, fuzz.OWNER)

    assert fuzz.failures_of_schema(app, token, examples=8, seed=1) == []


@only_on_sqlite
def test_so_is_every_answer_to_who_has_no_token(app: APIFlask) -> None:
    assert fuzz.failures_of_schema(app, None, examples=1, seed=1) == []


@only_on_sqlite
def test_what_the_checks_are_for_is_found(app: APIFlask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.conversations.queries.list_recent", lambda *_, **__: 1 / 0)

    found = fuzz.failures_of_schema(app, access.issue(fuzz.SECRET, fuzz.OWNER), examples=1, seed=1)

    assert any("GET /api/conversations: not_a_server_error" in each for each in found)


@only_on_sqlite
def test_no_changed_token_of_others_leads_to_a_session(app: APIFlask, place: fuzz.Place) -> None:
    assert fuzz.failures_of_tokens(app, place, count=600, seed=1) == []


def test_a_changed_cursor_is_refused_or_leads_to_a_page(app: APIFlask, place: fuzz.Place) -> None:
    assert fuzz.failures_of_cursors(app, place, count=300, seed=1) == []
