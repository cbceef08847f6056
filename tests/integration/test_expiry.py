"""Conversations that have not been used for long go, and what was debited for them stays."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from app import db
from app.accounts import ledger
from app.db.models import MODELS, Conversation
from app.db.times import utc_now
from app.history.retention import Pruner
from app.sessions import expiry
from app.settings import Settings
from tests.factories import OWNER, make_claim
from tests.stage import Echo, Stage, working

NEVER = 36_500
#: What stays when a conversation goes: accounts, what belongs to no conversation, and counts, which are 0 then.
STAYS = {
    "chatAccounts",
    "chatLedger",
    "chatAgentCounts",
    "chatLeases",
    "chatRevocations",
    "chatHeartbeats",
    "chatErasures",
}


def prune(**fields: Any) -> None:
    settings = Settings(
        **({"retention_days": NEVER, "event_retention_days": NEVER, "max_events_per_agent": 10**9} | fields)
    )
    assert Pruner("me", settings, expire=expiry.delete_some).prune()


def age(conversation_id: str, **span: float) -> None:
    at: datetime = utc_now() - timedelta(**span)
    mine = Conversation.conversation_id == conversation_id
    db.transaction(lambda: Conversation.update(updated_at=at).where(mine).execute())


def rows() -> dict[str, int]:
    """How many rows each table has that has any."""
    counts = {model._meta.table_name: db.reading(lambda model=model: model.select().count()) for model in MODELS}  # type: ignore[misc]
    return {name: count for name, count in counts.items() if count}


def talked(stage: Stage, *messages: str, **fields: Any) -> str:
    """The id of a conversation with these messages and their answers."""
    with working(stage.settings, Echo()) as worker:
        conversation_id = stage.ask(worker, messages[0], **fields)["conversationId"]
        for message in messages[1:]:
            stage.ask(worker, message, conversationId=conversation_id)
    return str(conversation_id)


def left(stage: Stage) -> set[str]:
    return {each["conversationId"] for each in stage.get("/api/conversations")["conversations"]}


def test_conversations_are_kept_for_ever_unless_it_is_said_for_how_long(stage: Stage) -> None:
    old = talked(stage, "one")
    age(old, days=3_000)

    prune()

    assert left(stage) == {old}


def test_a_conversation_that_was_not_used_for_long_goes_with_all_that_it_has_but_its_debits(stage: Stage) -> None:
    ledger.add(OWNER, "credit", 1_000, unit="tokens")
    old = talked(stage, "one", "two", "three", metadata={"note": "x"}, instructions="Be brief.")
    age(old, days=31)

    prune(conversation_retention_days=30)

    assert left(stage) == set()
    assert rows().keys() <= STAYS
    assert stage.get("/api/account")["balance"] == 1_000 - 3 * 15
    assert len(stage.get("/api/account")["ledger"]) == 4


def test_a_conversation_in_use_stays(stage: Stage) -> None:
    recent, running = talked(stage, "one"), talked(stage, "two")
    stage.post("again", conversationId=running)
    age(recent, days=29)
    age(running, days=31)

    prune(conversation_retention_days=30)

    assert left(stage) == {recent, running}


def test_an_ephemeral_conversation_goes_after_a_day(stage: Stage) -> None:
    kept, fresh = talked(stage, "kept"), talked(stage, "fresh", ephemeral=True)
    named = "0b6f3f0e-2f55-4a8e-9d5d-3a3c9b1f7c10"
    gone = [talked(stage, "gone", ephemeral=True), talked(stage, "named", conversationId=named, ephemeral=True)]
    talked(stage, "a second message changes nothing", conversationId=kept, ephemeral=True)
    for each in (kept, *gone):
        age(each, hours=25)
    assert stage.get(f"/api/conversations/{named}")["ephemeral"] is True

    prune()

    assert left(stage) == {kept, fresh}


def test_a_conversation_that_is_used_again_while_it_is_looked_at_stays(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = talked(stage, "one")
    age(old, days=31)
    lock = expiry.threads.lock

    def lock_late(owner: str, conversation_id: str) -> Conversation:
        monkeypatch.setattr(expiry.threads, "lock", lock)
        age(old, days=0)
        return lock(owner, conversation_id)

    monkeypatch.setattr(expiry.threads, "lock", lock_late)

    prune(conversation_retention_days=30)

    assert left(stage) == {old}


def test_a_long_conversation_goes_in_pieces(stage: Stage) -> None:
    old = talked(stage, *[f"message {n}" for n in range(6)])
    age(old, days=31)
    settings = Settings(conversation_retention_days=30)

    pieces = []
    while deleted := db.transaction(partial(expiry.delete_some, settings, 20, utc_now())):
        pieces.append(deleted)
        assert left(stage) <= {old}

    assert len(pieces) >= 4
    assert rows().keys() <= STAYS


def test_what_was_claimed_just_now_keeps_its_conversation(stage: Stage) -> None:
    claim = make_claim()
    age(claim.conversation_id or "", days=31)

    settings = Settings(conversation_retention_days=30)
    assert db.transaction(partial(expiry.delete_some, settings, 100, utc_now())) == 0
