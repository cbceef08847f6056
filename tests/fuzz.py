"""Whatever is sent, every answer is one that the OpenAPI document declares, and none is a 500.

    python -m tests.fuzz --seed 1     # the long form: all phases of schemathesis, 100,000 tokens and cursors

The tests run the short one. `make fuzz` is this module.
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import schemathesis
from apiflask import APIFlask
from schemathesis.engine import Status, events, from_schema

from app import access
from app.api import create_app
from app.events import Delta, Done, Thinking, ToolCall
from app.settings import Settings
from tests import json_web_tokens as issuer
from tests.conftest import opened
from tests.factories import make_claim, make_created, write

SECRET = "main:0123456789abcdef0123456789abcdef"
OWNER = "anna"
#: Nobody listens there: sessions are accepted all the same.
NO_REDIS = "redis://127.0.0.1:1/0"
#: Others expect that every text is a cursor, and that what was cleared is gone as a path.
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
    "response_headers_conformance", "negative_data_rejection",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A session that is done and its conversation."""

    session: str
    conversation: str


def make_place(owner: str = OWNER) -> Place:
    """Sessions of every state, so that all lists have several pages."""
    created = make_created(owner=owner, message="secret plans")
    for conversation in (created.conversation_id, created.conversation_id, None):
        make_created(owner=owner, conversation_id=conversation, message="secret plans")
    claim = make_claim(created.session_id)
    call = ToolCall("c", "tool", {"a": 1})
    write(claim, Thinking(""), Delta("x"), call, ToolCall("c", "tool", {"a": 1}, "r", True, 1), Done("secret plans"))
    return Place(created.session_id, created.conversation_id)


# documented requests, and requests that the document forbids


def failures_of_schema(app: APIFlask, token: str | None, *, examples: int, seed: int) -> list[str]:
    """What all phases of schemathesis find wrong with *app*, for a caller with *token*."""
    document = schemathesis.openapi.from_wsgi("/openapi.json", app)
    config = document.config
    config.seed = seed
    # Unpacking is the client's work, and this one's does none.
    config.headers = {"Accept-Encoding": "identity"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    config.generation.update(max_examples=examples, database="none")
    # Who is not known is not told which methods there are.
    config.checks.update(included_check_names=[*CHECKS, *(() if token is None else ("unsupported_method",))])
    # A message may be refused for its length by its body's length.
    config.checks.negative_data_rejection.expected_statuses = ["400", "401", "403", "404", "405", "413", "415", "422"]
    found = []
    # No worker ends what is started here, so that a stream would never end.
    for event in from_schema(document.exclude(path_regex="/stream$")).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.append(str(getattr(event, "info", event)))
        if isinstance(event, events.ScenarioFinished):
            found += _failures(event)
    return found


@schemathesis.hook
def before_call(_: Any, case: schemathesis.Case, __: dict[str, Any]) -> None:
    """Nobody waits for news: there is none. What the document forbids is sent as it is."""
    wait = (case.query or {}).get("wait")
    if isinstance(wait, int | float) and not isinstance(wait, bool) and 0 < wait <= 25:
        case.query["wait"] = 0


def _failures(event: events.ScenarioFinished) -> Iterator[str]:
    for case_id, checks in event.recorder.checks.items():
        case = event.recorder.cases[case_id].value
        for check in checks:
            if check.status == Status.FAILURE:
                yield f"{case.operation.label}: {check.name}: {check.failure_info.failure}"


# tokens and cursors that nobody made


class Mutations:
    """Changes of valid texts, at random but the same for each seed."""

    _SIGNS = "abcXYZ019-_=.+/ %~\"'{}[]:,\t\xe9"

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def of(self, texts: list[str]) -> Iterator[str]:
        while True:
            text = self._random.choice(texts)
            for _ in range(self._random.choice((1, 1, 1, 2, 5))):
                text = self._changed(text, texts)
            yield text

    def _changed(self, text: str, others: list[str]) -> str:
        pick = self._random
        at, to = sorted((pick.randint(0, len(text)), pick.randint(0, len(text))))
        other = pick.choice(others)
        match pick.randrange(9):
            case 0:
                return text[:at] + pick.choice(self._SIGNS) + text[at + 1 :]
            case 1:
                return text[:at] + pick.choice(self._SIGNS) * pick.choice((1, 1, 3, 300)) + text[at:]
            case 2:
                return text[:at] + text[to:]
            case 3:
                return text[:at] + other[min(at, len(other)) :]
            case 4:
                return text[:at] + text[at:to] * pick.choice((2, 3)) + text[to:]
            case 5:
                return text.swapcase() if pick.random() < 0.5 else text[::-1]
            case 6:
                return pick.choice(
                    (f'"{text}"', f"{text} {other}", f"{text},{other}", f"{text}.{other}", "", "null", "-1")
                )
            case _:
                return self._decoded_and_changed(text)

    def _decoded_and_changed(self, text: str) -> str:
        """What is packed in it changes, so that it is still base64."""
        pick = self._random
        parts = text.split(".")
        chosen = pick.randrange(len(parts))
        try:
            raw = bytearray(base64.urlsafe_b64decode(parts[chosen] + "=" * (-len(parts[chosen]) % 4)))
        except ValueError:
            return text[1:]
        for _ in range(pick.choice((1, 1, 4))):
            if raw:
                raw[pick.randrange(len(raw))] = pick.choice((0, 32, 48, 57, 34, 123, 255, pick.randrange(256)))
        if pick.random() < 0.2:
            raw += pick.choice((b"\n", b"0000", b"0010cid can=all\n", b'"}', b"\xff" * 40))
        parts[chosen] = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
        return ".".join(parts)


def failures_of_tokens(app: APIFlask, place: Place, *, count: int, seed: int) -> list[str]:
    """What goes wrong with *count* changed tokens of others, which ask for *place*: none of them may see it."""
    tokens = [
        access.issue(SECRET, "mallory"),
        access.issue(SECRET, "mallory", can=["read"], session=place.session, expires=4102444800),
        access.issue(SECRET, None),
        access.issue(SECRET, OWNER, conversation="00000000-0000-4000-8000-000000000000"),
        access.issue("another:fedcba9876543210fedcba9876543210", OWNER),
        access.issue_for_session(SECRET, access.Principal(OWNER), "another-session"),
        issuer.token("RS256", sub="mallory"),
        issuer.token("ES256", sub="mallory", session=place.session),
        issuer.token("RS256", sub=OWNER, exp=1),
        issuer.unsigned(),
    ]
    client = app.test_client()
    paths = [f"/api/chat/session/{place.session}", f"/api/chat/session/{place.session}/events?after=0"]
    found: Counter[str] = Counter()
    for number, token in enumerate(islice(Mutations(seed).of(tokens), count)):
        scheme = ("Bearer ", "bearer ", "Bearer  ", "Basic ", "")[0 if number % 8 else number // 8 % 5]
        environ = {"HTTP_AUTHORIZATION": scheme + token}
        response = client.get(paths[number % 2], environ_overrides=environ)
        if response.status_code not in (401, 403, 404):
            found[f"{response.status_code} for {environ}: {response.text[:300]}"] += 1
    return list(found)


#: Lists whose pages have cursors, and where a page says the next one.
LISTS = {
    "/api/chat/sessions?limit=1": "cursor",
    "/api/conversations?limit=1": "cursor",
    "/api/conversations/search?q=plans&limit=1": "cursor",
    "/api/conversations/{C}/messages?limit=1": "cursor",
    "/api/agents/1/conversation?limit=1&order=asc": "after",
    "/api/agents/1/conversation?limit=1&order=desc": "before",
}


def failures_of_cursors(app: APIFlask, place: Place, *, count: int, seed: int) -> list[str]:
    """What goes wrong with *count* changed cursors: each is refused, or leads to a page."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {access.issue(SECRET, OWNER)}"
    lists = [(path.replace("{C}", place.conversation), name) for path, name in LISTS.items()]
    cursors = []
    for path, _ in lists:
        page: Any = client.get(path).json
        cursors.append(page["nextCursor"])
        assert cursors[-1], f"{path} has one page only"
    found: Counter[str] = Counter()
    for number, cursor in enumerate(islice(Mutations(seed).of(cursors), count)):
        path, name = lists[number % len(lists)]
        response = client.get(f"{path}&{name}={quote(cursor, encoding='latin-1')}")
        if response.status_code not in (200, 400):
            found[f"{response.status_code} for {path} and {cursor!r}: {response.text[:300]}"] += 1
    return list(found)


def main() -> None:
    """Print what is wrong; exit status 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=300, help="of each operation")
    parser.add_argument("--count", type=int, default=100_000, help="tokens and cursors together")
    options = parser.parse_args()
    # That nobody rings, for each session.
    logging.disable(logging.WARNING)
    found: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        jwks = Path(folder) / "jwks.json"
        jwks.write_text(json.dumps(issuer.published()))
        url = f"sqlite:///{folder}/backchat.db"
        with opened(url):
            place = make_place()
            app = create_app(
                Settings(
                    database_url=url,
                    redis_url=NO_REDIS,
                    chat_secret=SECRET,
                    jwt_jwks=str(jwks),
                    jwt_issuer=issuer.ISSUER,
                    jwt_audience=issuer.AUDIENCE,
                )
            )
            half = options.count // 2
            for what, failures in (
                ("tokens", lambda: failures_of_tokens(app, place, count=half, seed=options.seed)),
                ("cursors", lambda: failures_of_cursors(app, place, count=options.count - half, seed=options.seed)),
                ("without a token", lambda: _of_schema(app, None, options)),
                ("with a token", lambda: _of_schema(app, access.issue(SECRET, OWNER), options)),
            ):
                told = failures()
                print(f"{what}: {len(told)} wrong", *told, sep="\n  ", flush=True)
                found += told
    sys.exit(bool(found))


def _of_schema(app: APIFlask, token: str | None, options: argparse.Namespace) -> list[str]:
    return failures_of_schema(app, token, examples=options.examples, seed=options.seed)


if __name__ == "__main__":
    main()
