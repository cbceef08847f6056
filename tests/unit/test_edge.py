"""The edge: every route of the application against every kind of caller, and what is no caller of this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from pymacaroons import Macaroon
from werkzeug.test import TestResponse

from app import access, db
from app.access import revoke_owner, revoke_token
from app.api import create_app
from app.api.access import require_every_route_declared
from app.db import schema
from app.db.models import AgentEvent, Revocation
from app.errors import Invalid, Unauthorized
from app.events import Done
from app.settings import Settings
from tests import json_web_tokens as issuer
from tests.conftest import close_all
from tests.factories import make_claim, make_created, statements, write

KEY, RETIRED = "now:0123456789abcdef0123456789abcdef", "before:fedcba9876543210fedcba9876543210"
#: Nobody listens there: a session is accepted all the same.
NO_REDIS = "redis://127.0.0.1:1/0"
OWNER = "anna"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    url = f"sqlite:///{tmp_path_factory.mktemp('edge') / 'backchat.db'}"
    bound = db.database.obj
    made = db.open_database(url)
    schema.migrate()
    yield url
    close_all(made)
    db.database.initialize(bound)


@pytest.fixture(scope="module")
def guarded(url: str, tmp_path_factory: pytest.TempPathFactory) -> APIFlask:
    jwks = tmp_path_factory.mktemp("issuer") / "jwks.json"
    jwks.write_text(json.dumps(issuer.published()))
    trusts = {"jwt_jwks": str(jwks), "jwt_issuer": issuer.ISSUER, "jwt_audience": issuer.AUDIENCE}
    return create_app(Settings(database_url=url, redis_url=NO_REDIS, chat_secret=KEY, models="other", **trusts))


@pytest.fixture(scope="module")
def local(url: str) -> FlaskClient:
    """The application without a secret."""
    return create_app(Settings(database_url=url, redis_url=NO_REDIS)).test_client()


# every route, every caller


@dataclass(frozen=True)
class Row:
    """What a route needs, and what it answers to who may call it."""

    #: None: it is for everybody.
    right: str | None
    status: int = 200
    body: Any = None
    #: Scopes that it keeps to; a token with another one is refused.
    scopes: frozenset[str] = frozenset()
    #: What it needs beside its right.
    also: str = ""

    @property
    def rights(self) -> str:
        """All that it needs, as a caveat says it."""
        return f"{self.right} {self.also}".strip()


EVERYBODY = Row(None)
READS = Row("read", scopes=frozenset({"session", "conversation", "agent"}))
#: Method and rule → its row. {S}, {C} and {E} are a session, its conversation and a row of its history.
ROUTES: dict[str, Row] = {
    "GET /": EVERYBODY,
    "GET /web/page.js": EVERYBODY,
    "GET /docs": EVERYBODY,
    "GET /docs/oauth2-redirect": EVERYBODY,
    "GET /docs/assets/swagger-ui.css": EVERYBODY,
    "GET /openapi.json": EVERYBODY,
    "GET /healthz": EVERYBODY,
    "GET /readyz": EVERYBODY,
    "GET /metrics": EVERYBODY,
    "POST /api/chat/session": Row("write", 202, {"message": "x", "conversationId": "{C}"},
                                  frozenset({"conversation", "agent"})),
    "GET /api/chat/session/{S}": READS,
    "GET /api/chat/session/{S}/events": READS,
    # As it is answered in front of the framework.
    "GET /api/chat/session/{S}/events?after=0": READS,
    "GET /api/chat/session/{S}/stream": READS,
    "POST /api/chat/session/{S}/cancel": Row("cancel", scopes=READS.scopes),
    "DELETE /api/chat/session/{S}": Row("write", 204, scopes=READS.scopes),
    "GET /api/chat/sessions": READS,
    "GET /api/sessions/{S}/messages": READS,
    "GET /api/account": Row("read"),
    "GET /api/conversations": Row("read", scopes=frozenset({"conversation", "agent"})),
    "GET /api/conversations/search?q=plans": Row("read"),
    "GET /api/conversations/{C}": Row("read", scopes=frozenset({"conversation", "agent"})),
    "PATCH /api/conversations/{C}": Row("write", 200, {"title": "x"}, frozenset({"conversation", "agent"})),
    "DELETE /api/conversations/{C}": Row("write", 204, scopes=frozenset({"conversation", "agent"})),
    "GET /api/conversations/{C}/messages": Row("read", scopes=frozenset({"conversation", "agent"})),
    "DELETE /api/conversations/{C}/messages": Row("write", 204, scopes=frozenset({"conversation", "agent"})),
    "GET /api/agents": READS,
    "GET /api/agents/1": READS,
    "GET /api/agents/1/conversation": Row("read", scopes=frozenset({"agent"})),
    "DELETE /api/agents/1/conversation": Row("write", 204, scopes=frozenset({"agent"})),
    "GET /api/agents/1/conversation/summary": Row("read", scopes=frozenset({"agent"})),
    "GET /api/agents/1/conversation/{E}": Row("read", scopes=frozenset({"agent"})),
    "GET /api/trpc/orchestrator.getSession?input=%7B%22sessionId%22:%22{S}%22%7D": READS,
    "POST /api/trpc/orchestrator.startSession": Row("write", 200, {"message": "x", "conversationId": "{C}"},
                                                    frozenset({"conversation", "agent"})),
    "GET /api/orchestrator/getEvents?sessionId={S}": READS,
    "GET /v1/models": READS,
    "GET /v1/models/agent-1": READS,
    "POST /v1/responses": Row("write", 404, {"model": "none", "input": "x"}, frozenset({"conversation", "agent"}),
                              also="read"),
    "GET /v1/responses/{R}": READS,
    "POST /v1/responses/{R}/cancel": Row("cancel", scopes=READS.scopes),
    "DELETE /v1/responses/{R}": Row("write", scopes=READS.scopes),
    "GET /v1/responses/{R}/input_items": READS,
    "POST /api/ai/chat": Row("write", 400, {"id": "{C}", "messages": [], "model": "none"},
                             frozenset({"conversation", "agent"}), also="read"),
    "GET /api/ai/chat/{S}/stream": READS,
    "POST /api/ai/chat/{S}/stop": Row("cancel", 204, scopes=READS.scopes),
    "GET /api/ai/chat/{C}/messages": Row("read", scopes=frozenset({"conversation", "agent"})),
    # What is there would be answered by a worker; that it is not there is told to those alone who may ask.
    "POST /v1/chat/completions": Row("write", 404, {"model": "none", "messages": [{"role": "user", "content": "x"}]},
                                     frozenset({"conversation", "agent"}), also="read"),
}  # fmt: skip
PRIVATE = [route for route, row in ROUTES.items() if row.right is not None]


def rules(app: APIFlask) -> set[tuple[str, str]]:
    return {
        (method, re.sub(r"<[^>]+>", "<>", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_every_route_has_a_row(guarded: APIFlask) -> None:
    adapter = guarded.url_map.bind("localhost")
    described = set()
    for route in ROUTES:
        method, path = route.split(" ")
        rule, _ = adapter.match(
            path.split("?")[0].replace("{R}", f"resp_{'0' * 32}").replace("{", "").replace("}", ""),
            method,
            return_rule=True,
        )
        described.add((method, re.sub(r"<[^>]+>", "<>", rule.rule)))

    assert described == rules(guarded)


@dataclass(frozen=True)
class Place:
    """A session that is done, its conversation and a row of its history."""

    session: str
    conversation: str
    event: str

    def of(self, route: str) -> tuple[str, str]:
        method, path = route.split(" ")
        return method, self.fill(path)

    def fill(self, text: str) -> str:
        # The id of a response has 32 digits, also of one that is not there.
        text = text.replace("{R}", f"resp_{self.session.replace('-', '').zfill(32)[:32]}".replace("nothing", "0" * 7))
        return text.replace("{S}", self.session).replace("{C}", self.conversation).replace("{E}", self.event)


def make_place(owner: str = OWNER) -> Place:
    created = make_created(owner=owner, message="secret plans")
    write(make_claim(created.session_id), Done("said"))
    row = AgentEvent.select().where(AgentEvent.session_id == created.session_id).first()
    return Place(created.session_id, created.conversation_id, row.id)


def call(app: APIFlask, route: str, place: Place, token: str | None) -> TestResponse:
    method, path = place.of(route)
    body = ROUTES[route].body
    if body is not None:
        body = json.loads(place.fill(json.dumps(body)))
    headers = {"X-Request-Id": "the-same"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    # As behind a proxy: nothing is allowed for being on this machine.
    with app.test_client().open(
        path, method=method, json=body, headers=headers, environ_overrides={"REMOTE_ADDR": "203.0.113.9"}
    ) as response:
        response.get_data()
        return response


def narrowed(token: str, *caveats: str) -> str:
    macaroon = Macaroon.deserialize(token)
    for caveat in caveats:
        macaroon.add_first_party_caveat(caveat)
    return str(macaroon.serialize())


def bad_signature() -> str:
    macaroon = Macaroon.deserialize(access.issue(KEY, OWNER))
    macaroon.signature = "0" * 64
    return str(macaroon.serialize())


def revoked(make: Callable[[str], str]) -> str:
    revoke_token("a-revoked-one")
    return make("a-revoked-one")


#: Callers that no route of an owner knows.
UNKNOWN: dict[str, Callable[[], str | None]] = {
    "no token": lambda: None,
    "garbage": lambda: "abc",
    "bad signature": bad_signature,
    "expired": lambda: access.issue(KEY, OWNER, expires=time.time() - 1),
    "widened expires": lambda: narrowed(access.issue(KEY, OWNER, expires=time.time() - 1), "expires = 4102444800"),
    "revoked": lambda: revoked(lambda token_id: access.issue(KEY, OWNER, token_id=token_id)),
    "retired key": lambda: access.issue(RETIRED, OWNER),
    "appended owner": lambda: narrowed(access.issue(KEY, "mallory"), f"owner = {OWNER}"),
    "unknown caveat": lambda: narrowed(access.issue(KEY, OWNER), "planet = mars"),
    "JWT, alg none": issuer.unsigned,
    "JWT, HS256 with the public key": issuer.signed_with_the_public_key,
    "JWT, HS256 with the secret": lambda: issuer.token("HS256", key=KEY),
    "JWT, wrong audience": lambda: issuer.token(aud="another"),
    "JWT, wrong issuer": lambda: issuer.token(iss="https://another.example/"),
    "JWT, unknown key": lambda: issuer.token(kid="retired"),
    "JWT, no expiry": lambda: issuer.token(exp=None),
    "JWT, expired": lambda: issuer.token(exp=int(time.time()) - 1),
    "JWT, revoked": lambda: revoked(lambda token_id: issuer.token(jti=token_id)),
}


@pytest.mark.parametrize("route", ROUTES)
def test_who_is_not_known_gets_nothing(guarded: APIFlask, route: str) -> None:
    place = Place("x", str(uuid4()), "x")

    answers = {name: call(guarded, route, place, make()).status_code for name, make in UNKNOWN.items()}

    expected = 401 if ROUTES[route].right is not None or route == "GET /metrics" else 200
    assert answers == dict.fromkeys(UNKNOWN, expected)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_nor_by_the_methods_that_the_framework_adds(guarded: APIFlask, method: str) -> None:
    place = Place("x", str(uuid4()), "x")
    paths = sorted({place.of(route)[1] for route in PRIVATE})
    elsewhere = {"REMOTE_ADDR": "203.0.113.9"}

    answers = {path: guarded.test_client().open(path, method=method, environ_overrides=elsewhere) for path in paths}

    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(paths, 401)


@pytest.mark.parametrize("route", PRIVATE)
def test_a_caller_does_what_their_rights_say_and_nothing_else(guarded: APIFlask, route: str) -> None:
    row = ROUTES[route]
    owner, of_issuer = access.issue(KEY, OWNER), access.issue(KEY, None)
    others = access.issue(KEY, OWNER, can=access.RIGHTS - {row.right})
    callers = {
        "issuer without owner": of_issuer,
        "all rights but this": others,
        "widened can": narrowed(others, f"can = {row.right}"),
        "read only": narrowed(owner, "can = read"),
        "narrowed by an issuer": narrowed(of_issuer, f"owner = {OWNER}", f"can = {row.rights}"),
        "JWT": issuer.token("ES256", can=row.rights.split()),
        "JWT, all rights but this": issuer.token(can=list(access.RIGHTS - {row.right})),
    }

    # Each at a place of its own: some of them delete it.
    answers = {name: call(guarded, route, make_place(), token).status_code for name, token in callers.items()}

    read_only = row.status if row.right == "read" else 403
    assert answers == {
        "issuer without owner": 403,
        "all rights but this": 403,
        "widened can": 403,
        "read only": read_only,
        "narrowed by an issuer": row.status,
        "JWT": row.status,
        "JWT, all rights but this": 403,
    }


@pytest.mark.parametrize("route", PRIVATE)
def test_what_is_anothers_looks_as_what_does_not_exist(guarded: APIFlask, route: str) -> None:
    place, nowhere = make_place(), Place("nothing", str(uuid4()), "nothing")
    token = access.issue(KEY, "mallory")

    foreign, absent = (call(guarded, route, each, token) for each in (place, nowhere))

    assert alike(foreign, absent)
    assert place.session not in foreign.text
    assert "secret plans" not in foreign.text
    assert call(guarded, "GET /api/chat/session/{S}", place, access.issue(KEY, OWNER)).status_code == 200


def alike(one: TestResponse, other: TestResponse) -> bool:
    """The same to the last byte and header, but for what a new session is given."""
    started = [
        answer.json.get("result", {}).get("data", answer.json)
        for answer in (one, other)
        if answer.data and answer.is_json
    ]
    if one.status_code == other.status_code and all("sessionId" in each for each in started) and len(started) == 2:
        return set(started[0]) == set(started[1]) and set(one.headers.keys()) == set(other.headers.keys())
    return (one.status_code, one.data, list(one.headers)) == (other.status_code, other.data, list(other.headers))


SCOPES = {
    "session": lambda place: f"session = {place.session}",
    "conversation": lambda place: f"conversation = {place.conversation}",
    "agent": lambda place: "agent = 1",
}
OTHER_SCOPES = {
    "session": f"session = {uuid4()}",
    "conversation": f"conversation = {uuid4()}",
    "agent": "agent = 2",
}


@pytest.mark.parametrize("kind", SCOPES)
@pytest.mark.parametrize("route", PRIVATE)
def test_a_token_reaches_what_its_scope_names(guarded: APIFlask, route: str, kind: str) -> None:
    place = make_place()

    response = call(guarded, route, place, narrowed(access.issue(KEY, OWNER), SCOPES[kind](place)))

    assert response.status_code == (ROUTES[route].status if kind in ROUTES[route].scopes else 403)


@pytest.mark.parametrize("kind", OTHER_SCOPES)
@pytest.mark.parametrize("route", PRIVATE)
def test_what_is_outside_of_a_scope_looks_as_what_does_not_exist(guarded: APIFlask, route: str, kind: str) -> None:
    place, nowhere = make_place(), Place("nothing", str(uuid4()), "nothing")
    token = narrowed(access.issue(KEY, OWNER), OTHER_SCOPES[kind])

    outside, absent = (call(guarded, route, each, token) for each in (place, nowhere))

    assert alike(outside, absent)
    assert outside.status_code in (400, 403, 404) or place.session not in outside.text


@pytest.mark.parametrize(("model", "status"), [("demo", 202), ("other", 400), ("nonsense", 400), (None, 202)])
def test_a_token_for_a_model_starts_sessions_with_it_alone(guarded: APIFlask, model: str | None, status: int) -> None:
    token = narrowed(access.issue(KEY, OWNER), "model = demo")
    body = {"message": "x"} | ({} if model is None else {"model": model})

    response = guarded.test_client().post("/api/chat/session", json=body, headers={"Authorization": f"Bearer {token}"})

    assert response.status_code == status
    if status == 400:
        assert response.get_json(force=True)["code"] == "unknown_model"


def test_a_token_for_a_conversation_says_which_one_it_starts_in(guarded: APIFlask) -> None:
    place = make_place()
    token = narrowed(access.issue(KEY, OWNER), f"conversation = {place.conversation.upper()}")
    headers = {"Authorization": f"Bearer {token}"}

    unnamed = guarded.test_client().post("/api/chat/session", json={"message": "x"}, headers=headers)

    assert unnamed.status_code == 403
    assert call(guarded, "POST /api/chat/session", place, token).status_code == 202


def test_a_start_gives_a_token_for_its_session_alone(guarded: APIFlask) -> None:
    place, owner = make_place(), {"Authorization": f"Bearer {access.issue(KEY, OWNER)}"}
    started = guarded.test_client().post("/api/chat/session", json={"message": "x"}, headers=owner).json
    mine = Place(started["sessionId"], started["conversationId"], "x")

    # A stream would wait for the end.
    in_order = sorted(PRIVATE, key=lambda route: "cancel" not in route)
    answers = {route: call(guarded, route, mine, started["token"]).status_code for route in in_order}

    assert {route for route, status in answers.items() if status in (200, 204)} == {
        "GET /api/chat/session/{S}",
        "GET /api/chat/session/{S}/events",
        "GET /api/chat/session/{S}/events?after=0",
        "GET /api/chat/session/{S}/stream",
        "POST /api/chat/session/{S}/cancel",
        "GET /api/chat/sessions",
        "GET /api/sessions/{S}/messages",
        "GET /api/agents",
        "GET /api/agents/1",
        "GET /api/orchestrator/getEvents?sessionId={S}",
        "GET /v1/models",
        "GET /v1/models/agent-1",
        "GET /v1/responses/{R}",
        "POST /v1/responses/{R}/cancel",
        "GET /v1/responses/{R}/input_items",
        "GET /api/ai/chat/{S}/stream",
        "POST /api/ai/chat/{S}/stop",
        "GET /api/trpc/orchestrator.getSession?input=%7B%22sessionId%22:%22{S}%22%7D",
    }
    assert set(answers.values()) == {200, 204, 403}
    assert call(guarded, "GET /api/chat/session/{S}", place, started["token"]).status_code == 404
    listed = call(guarded, "GET /api/chat/sessions", mine, started["token"]).json["sessions"]
    assert [each["sessionId"] for each in listed] == [started["sessionId"]]


def test_without_a_secret_there_is_no_token(local: FlaskClient) -> None:
    assert "token" not in local.post("/api/chat/session", json={"message": "x"}).json


def test_an_application_with_a_route_that_declares_nothing_does_not_start(url: str) -> None:
    app = create_app(Settings(database_url=url, redis_url=NO_REDIS))
    app.add_url_rule("/api/planted", view_func=lambda: "all of it")

    with pytest.raises(Invalid, match="/api/planted"):
        require_every_route_declared(app)
    assert app.test_client().get("/api/planted").status_code == 403


def test_a_path_that_does_not_exist_is_told_to_who_is_known(guarded: APIFlask) -> None:
    client = guarded.test_client()
    known = {"Authorization": f"Bearer {access.issue(KEY, OWNER)}"}

    assert client.get("/api/nothing").status_code == client.put("/api/chat/sessions").status_code == 401
    assert client.get("/api/nothing", headers=known).status_code == 404
    assert client.put("/api/chat/sessions", headers=known).status_code == 405
    assert client.get("/nothing").status_code == 404


def test_the_metrics_are_for_operators_and_this_machine(guarded: APIFlask) -> None:
    client = guarded.test_client()
    place = Place("x", "x", "x")

    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", headers={"X-Forwarded-For": "10.1.1.1"}).status_code == 401
    assert client.get("/metrics", headers={"Host": "rebound.example"}).status_code == 401
    assert call(guarded, "GET /metrics", place, access.issue(KEY, OWNER)).status_code == 403
    assert call(guarded, "GET /metrics", place, access.issue(KEY, "ops", can=["operate"])).status_code == 200


# who is decided before the body


class Unread:
    """A body that must not be looked at."""

    def read(self, *_: object) -> bytes:
        raise AssertionError("the body was read")

    readline = readinto = read


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer abc"}])
@pytest.mark.parametrize("length", [{"CONTENT_LENGTH": "1000000"}, {"HTTP_TRANSFER_ENCODING": "chunked"}])
def test_the_body_of_who_is_not_known_is_not_read(guarded: APIFlask, headers: dict[str, str], length: Any) -> None:
    response = guarded.test_client().post(
        "/api/chat/session",
        headers=headers,
        content_type="application/json",
        environ_overrides=length | {"wsgi.input": Unread(), "wsgi.input_terminated": True},
    )

    assert response.status_code == 401


# this machine, where there is no secret


LOCAL_NAMES = st.sampled_from(
    ["localhost", "LOCALHOST", "a.localhost", "a-b.c.localhost", "127.0.0.1", "127.255.0.9", "[::1]"]
)
LABELS = st.text("abcxyz019-_", min_size=1, max_size=8)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
PORTS = st.one_of(st.just(""), st.integers(0, 99999).map(lambda port: f":{port}"))
AFTER = [".evil.com", "@evil.com", "_", "/", "?x", "#", " x", ",evil.com", "\t", "%00", ":80:80", ":x", "."]
BEFORE = ["evil.com@", "x ", "a_b.", ".", "-.", "%6c"]
ODD = [
    "a_b.evil.com", "[::1", "::1", "[::1]x", "0", "127.1", "2130706433", "0x7f.1", "127.0.0.256", "[", "]", ":", "",
    "[::ffff:10.0.0.1]", "ⓛocalhost", "localhost\u3002evil.com",
]  # fmt: skip
FOREIGN = st.one_of(
    # Names, also those that the framework takes for none: with underscores, empty labels, hyphens at an end.
    st.tuples(NAMES, st.sampled_from([".example", ".evil.com", "", ".", "._"])).map("".join),
    st.tuples(st.sampled_from(["localhost", "127.0.0.1", "[::1]"]), st.sampled_from(AFTER)).map("".join),
    st.tuples(st.sampled_from(BEFORE), st.just("localhost")).map("".join),
    st.ip_addresses(v=4).filter(lambda address: not address.is_loopback).map(str),
    st.ip_addresses(v=6).filter(lambda address: not address.is_loopback).map(lambda address: f"[{address}]"),
    st.sampled_from(ODD),
)


@given(host=LOCAL_NAMES, port=PORTS)
def test_a_name_of_this_machine_is_served(local: FlaskClient, host: str, port: str) -> None:
    response = local.get("/api/agents", environ_overrides={"HTTP_HOST": host + port})

    assert response.status_code == 200


@given(host=FOREIGN, port=PORTS)
def test_no_other_host_name_is_served(local: FlaskClient, host: str, port: str) -> None:
    sent = (host + port).encode().decode("latin1")

    for path in ("/api/agents", "/api/chat/session/0/events?after=0"):
        response = local.get(path, environ_overrides={"HTTP_HOST": sent})

        assert response.status_code in (400, 401), sent


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 401), ("::1", 401), ("", 200)])
def test_a_request_without_a_host_is_local_only_without_an_address(
    local: FlaskClient, address: str, status: int
) -> None:
    environ = {"HTTP_HOST": "", "REMOTE_ADDR": address}

    assert local.get("/api/agents", environ_overrides=environ).status_code == status


@pytest.mark.parametrize(
    "header",
    ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
     "X-Forwarded-Prefix", "X-Forwarded", "X-Real-Ip", "X-Client-Ip", "X-Original-Host", "CF-Connecting-IP"],
)  # fmt: skip
def test_without_a_secret_what_came_through_a_proxy_is_refused_with_the_reason(local: FlaskClient, header: str) -> None:
    response = local.get("/api/agents", headers={header: "x"})

    assert response.status_code == 401
    assert header.lower() in response.get_json(force=True)["detail"].lower()
    assert "CHAT_SECRET" in response.get_json(force=True)["detail"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "chat.example", "*", ""])
def test_a_server_for_others_does_not_start_without_a_secret(url: str, host: str) -> None:
    with pytest.raises(Invalid, match="CHAT_SECRET"):
        create_app(Settings(database_url=url, redis_url=NO_REDIS, host=host))


@pytest.mark.parametrize("origins", ["*", "https://a.example, *"])
def test_a_server_for_every_site_does_not_start_without_a_secret(url: str, origins: str) -> None:
    with pytest.raises(Invalid, match="CHAT_SECRET"):
        create_app(Settings(database_url=url, redis_url=NO_REDIS, cors_origins=origins))


def test_both_start_with_a_secret(url: str) -> None:
    create_app(Settings(database_url=url, redis_url=NO_REDIS, host="0.0.0.0", cors_origins="*", chat_secret=KEY))


# other sites

#: What is answered in front of the framework.
EVENTS = "/api/chat/session/0/events?after=0"


@pytest.mark.parametrize("site", ["cross-site", "Cross-Site"])
@pytest.mark.parametrize("headers", [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": ""}])
@pytest.mark.parametrize("path", ["/api/agents", "/api/chat/sessions", "/api/nothing", EVENTS])
def test_pages_of_other_sites_are_refused(local: FlaskClient, path: str, headers: dict[str, str], site: str) -> None:
    response = local.get(path, headers={"Sec-Fetch-Site": site} | headers)

    assert response.status_code == 403
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize("route", [route for route in PRIVATE if "/v1/" in route or "trpc" in route])
def test_so_are_they_where_others_clients_are_answered_in_their_own_words(local: FlaskClient, route: str) -> None:
    method, path = Place("x", str(uuid4()), "x").of(route)

    assert local.open(path, method=method, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


@pytest.mark.parametrize("site", ["same-origin", "same-site", "none", ""])
def test_pages_of_this_site_are_served(local: FlaskClient, site: str) -> None:
    assert local.get("/api/agents", headers={"Sec-Fetch-Site": site}).status_code == 200


def test_pages_of_an_allowed_origin_are_served(url: str) -> None:
    app = create_app(Settings(database_url=url, redis_url=NO_REDIS, cors_origins="https://chat.example"))
    sent = {"Sec-Fetch-Site": "cross-site", "Origin": "https://chat.example"}

    assert app.test_client().get("/api/agents", headers=sent).status_code == 200
    assert app.test_client().get("/api/agents", headers=sent | {"Origin": "https://other.example"}).status_code == 403


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "text/json", ""])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/api/chat/session", "/api/chat/session/x/cancel"])
def test_a_body_that_is_not_json_is_refused(local: FlaskClient, path: str, chunked: bool, content_type: str) -> None:
    headers = {"Transfer-Encoding": "chunked"} if chunked else {}
    environ = {"wsgi.input_terminated": True} | ({"CONTENT_LENGTH": ""} if chunked else {})

    response = local.post(
        path, data=b'{"message": "x"}', content_type=content_type, headers=headers, environ_overrides=environ
    )

    assert response.status_code == 415


# models


@pytest.mark.parametrize(
    "model",
    ["huggingface:http://127.0.0.1:9/x", "openai-codex:gpt-5", "openai:gpt-5", "test", "function", "demo:x", "Demo",
     "gateway/openai:x", "bedrock:x", "google-gla:x"],
)  # fmt: skip
def test_a_model_that_is_not_offered_is_not_accepted(local: FlaskClient, model: str) -> None:
    response = local.post("/api/chat/session", json={"message": "x", "model": model})

    assert (response.status_code, response.get_json(force=True)["code"]) == (400, "unknown_model")


def test_models_that_a_setting_names_are_accepted(guarded: APIFlask) -> None:
    headers = {"Authorization": f"Bearer {access.issue(KEY, OWNER)}"}

    assert (
        guarded.test_client()
        .post("/api/chat/session", json={"message": "x", "model": "other"}, headers=headers)
        .status_code
        == 202
    )


# what every answer says


@pytest.mark.parametrize(
    "path", ["/api/agents", "/api/nothing", "/openapi.json", "/docs", "/healthz", "/api/chat/sessions"]
)
def test_an_answer_is_kept_by_nobody_and_taken_for_nothing_else(local: FlaskClient, path: str) -> None:
    headers = local.get(path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers.getlist("Cache-Control") == ["no-store"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"].replace("style-src 'self' 'unsafe-inline'", "")


def test_the_documentation_runs_the_scripts_that_it_has(local: FlaskClient) -> None:
    page = local.get("/docs")

    inline = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in inline]
    assert digests
    assert all(f"'sha256-{digest}'" in page.headers["Content-Security-Policy"] for digest in digests)
    assert not re.search(r"<[^>]+ on\w+=", page.text)


def test_polls_and_streams_say_so_once(local: FlaskClient) -> None:
    place = make_place("local")

    for rest in ("events", "events?wait=1", "stream"):
        with local.get(f"/api/chat/session/{place.session}/{rest}") as response:
            assert response.headers.getlist("Cache-Control") == ["no-store"]
            assert response.headers.getlist("X-Content-Type-Options") == ["nosniff"]


def test_at_most_ten_faults_are_told(local: FlaskClient) -> None:
    few = local.post("/api/chat/session", json={"message": ""} | {f"x{n}": 1 for n in range(9)}).get_json(force=True)
    started = time.process_time()
    many = local.post("/api/chat/session", json={f"x{n}": 1 for n in range(80_000)})

    assert len(few["errors"]) == 10
    assert (many.status_code, len(many.data) < 1000) == (400, True)
    assert time.process_time() - started < 1
    query = local.get("/api/chat/sessions?" + "&".join(f"x{n}=1" for n in range(500))).get_json(force=True)
    assert query["errors"] == {"query": ["must be parameters of the document"]}


# revocation


def test_a_revocation_is_heard_within_seconds_and_asks_nothing_in_between(url: str) -> None:
    now = [1000.0]
    revocations = access.Revocations(KEY, clock=lambda: now[0])
    authenticator = access.Authenticator(KEY, revocations)
    token, other = (access.issue(KEY, owner, token_id=f"of-{owner}") for owner in ("olga", "pavel"))
    authenticator.principal(token)

    revoke_token("of-olga")
    with statements() as asked:
        now[0] += 4
        authenticator.principal(token)
    now[0] += 20

    assert asked == []
    with pytest.raises(Unauthorized, match="revoked"):
        authenticator.principal(token)
    assert authenticator.principal(other).owner == "pavel"


def test_tokens_of_an_owner_from_before_a_moment_are_revoked_together(url: str) -> None:
    of_issuer = access.issue(KEY, None)
    old = [access.issue(KEY, "rosa"), narrowed(of_issuer, "owner = rosa")]
    time.sleep(0.005)  # times of issue are in milliseconds

    revoke_owner(KEY, "rosa")

    authenticator = access.Authenticator(KEY, access.Revocations(KEY))
    for token in old:
        with pytest.raises(Unauthorized, match="revoked"):
            authenticator.principal(token)
    assert authenticator.principal(access.issue(KEY, "rosa")).owner == "rosa"
    assert authenticator.principal(narrowed(of_issuer, "owner = sven")).owner == "sven"
    assert "rosa" not in str(list(Revocation.select().dicts()))
