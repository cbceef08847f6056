"""What owners see of their account, what operators do to it, and the limits of owners."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app import access, cli, db
from app.accounts import ledger
from app.api.limits import Rate
from app.errors import TooManyPosts
from app.events import Done, Thinking, Usage
from app.sessions.commit import Batch
from tests.conftest import close_all
from tests.factories import make_claim, make_session, record, write
from tests.stage import Stage

SECRET = "s" * 32


def of_anna(make_stage: Callable[..., Stage], **fields: Any) -> Stage:
    stage = make_stage(chat_secret=SECRET, **fields)
    stage.become("anna")
    return stage


def test_an_owner_without_an_account_sees_what_runs_and_the_limits(stage: Stage) -> None:
    make_claim()
    make_session()

    account = stage.get("/api/account")

    assert (account["unit"], account["balance"], account["left"], account["ledger"]) == (None, None, None, [])
    assert (account["running"], account["waiting"]) == (1, 1)
    assert set(account["limits"].values()) == {None}


def test_an_owner_sees_what_is_left_and_pages_the_ledger(make_stage: Callable[..., Stage]) -> None:
    stage = of_anna(make_stage)
    ledger.add("anna", "credit", 1_000, unit="tokens", reference="invoice 17", note="for May")
    ended = make_claim(make_session(owner="anna"))
    write(ended, Done("x", usage=Usage(10, 5)))
    running = make_claim(make_session(owner="anna"))
    record(Batch(running, 0, [Thinking("")], used=(Usage(7), None)))
    ledger.add("other", "credit", 5, unit="tokens")

    first = stage.get("/api/account", limit=1)
    second = stage.get("/api/account", limit=1, cursor=first["nextCursor"])

    assert (first["unit"], first["balance"], first["left"]) == ("tokens", 985, 978)
    assert first["limits"] == {
        "running": 100, "sessions": 1000, "sessionsPerConversation": 100, "postsPerMinute": 600, "held": 1000
    }  # fmt: skip
    assert first["hasMore"] is True
    [debit], [credit] = first["ledger"], second["ledger"]
    assert (debit["kind"], debit["amount"], debit["sessionId"]) == ("debit", -15, ended.session_id)
    assert (credit["amount"], credit["reference"], credit["note"]) == (1_000, "invoice 17", "for May")
    assert (second["hasMore"], second["nextCursor"]) == (False, None)


def test_a_token_of_one_conversation_sees_no_account(make_stage: Callable[..., Stage]) -> None:
    stage = of_anna(make_stage)
    token = access.issue(SECRET, "anna", conversation="0b6f3f0e-2f55-4a8e-9d5d-3a3c9b1f7c10")
    stage.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"

    stage.get("/api/account", 403)


@pytest.fixture
def command(store: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("DATABASE_URL", store)
    # It takes the handlers of others away.
    monkeypatch.setattr(cli.logs, "configure", lambda level: None)
    bound = db.database.obj

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(cli.main, ["account", *arguments])
        if db.database.obj is not bound:
            close_all(db.database.obj)
            db.database.initialize(bound)
        return result

    return run


def test_an_operator_credits_limits_and_looks(command: Callable[..., Result]) -> None:
    missing = command("show", "anna")
    unopened = command("credit", "anna", "5")
    for _ in range(2):
        credited = command("credit", "anna", "500", "--unit", "tokens", "--reference", "invoice 17")
    adjusted = command("credit", "anna", "--adjust", "--note", "a mistake", "--", "-20")
    command("limit", "anna", "--running", "3")
    command("limit", "anna", "--sessions", "0")
    shown = json.loads(command("show", "anna", "--json").stdout)
    listed = [json.loads(line) for line in command("ledger", "anna", "--json").stdout.splitlines()]
    text = command("ledger", "anna", "--limit", "1")
    reset = command("limit", "anna", "--default")

    assert (missing.exit_code, unopened.exit_code) == (1, 1)
    assert "account credit" in missing.stderr
    assert (credited.stdout, adjusted.stdout) == ("balance: 500\n", "balance: 480\n")
    assert (shown["balance"], shown["unit"], shown["maxRunning"], shown["maxSessions"]) == (480, "tokens", 3, 0)
    assert [(row["kind"], row["amount"]) for row in listed] == [("adjust", -20), ("credit", 500)]
    assert "a mistake" in text.stdout
    assert "--cursor" in text.stderr
    assert reset.exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("credit", "anna", "-5"),
        ("credit", " anna", "5", "--unit", "tokens"),
        ("limit", "anna"),
        ("limit", "anna", "--default", "--running", "1"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(command: Callable[..., Result], arguments: tuple[str, ...]) -> None:
    assert command(*arguments).exit_code == 2


# limits


def test_a_post_over_a_limit_is_told_which_and_when_to_try_again(make_stage: Callable[..., Stage]) -> None:
    stage = of_anna(make_stage, max_sessions_per_owner=2)
    stage.post("one")
    stage.post("two")

    response = stage.client.post("/api/chat/session", json={"message": "three"})

    assert (response.status_code, response.json["code"]) == (429, "too_many_sessions")
    assert int(response.headers["Retry-After"]) > 0
    stage.become("bob")
    stage.post("mine")


def test_an_account_has_limits_of_its_own(make_stage: Callable[..., Stage]) -> None:
    stage = of_anna(make_stage, max_sessions_per_owner=2)
    ledger.add("anna", "credit", 100, unit="tokens")
    account = ledger.find("anna")
    assert account is not None
    ledger.limit(account.id, running=None, sessions=3)
    for message in ("one", "two", "three"):
        stage.post(message)

    assert stage.post("four", 429)["code"] == "too_many_sessions"
    assert stage.get("/api/account")["limits"]["sessions"] == 3
    ledger.limit(account.id, running=None, sessions=0)
    stage.post("four")


def test_more_posts_in_a_minute_than_may_be_are_refused_before_the_database_is_asked(
    make_stage: Callable[..., Stage],
) -> None:
    stage = of_anna(make_stage, posts_per_minute=3)
    for _ in range(3):
        stage.post("Hello?")

    response = stage.client.post("/api/chat/session", json={"message": "Hello?"})

    assert (response.status_code, response.json["code"]) == (429, "too_many_posts")
    assert 1 <= int(response.headers["Retry-After"]) <= 20
    stage.become("bob")
    stage.post("mine")


def test_an_owner_holds_no_more_polls_than_may_be(make_stage: Callable[..., Stage]) -> None:
    stage = of_anna(make_stage, max_held_per_owner=1)
    session_id = stage.post("Hello?")["sessionId"]
    path = f"/api/chat/session/{session_id}/stream"
    held = stage.client.get(path, buffered=False)
    try:
        refused = stage.client.get(f"/api/chat/session/{session_id}/events?wait=5")
    finally:
        held.close()

    assert (refused.status_code, refused.json["code"]) == (429, "too_many_held")
    assert stage.client.get(f"/api/chat/session/{session_id}/events?wait=0.01").status_code == 200


def test_a_rate_fills_up_again() -> None:
    now = 0.0
    rate = Rate(60, clock=lambda: now)
    for _ in range(60):
        rate.take("anna")

    with pytest.raises(TooManyPosts) as refused:
        rate.take("anna")
    rate.take("bob")
    now = 1.0
    rate.take("anna")

    assert refused.value.retry_s == 1
    with pytest.raises(TooManyPosts):
        rate.take("anna")


def test_a_rate_of_zero_is_none() -> None:
    rate = Rate(0)
    for _ in range(1000):
        rate.take("anna")
