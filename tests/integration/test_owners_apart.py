"""Owners and ids are what they are, to the last character; ids that clients choose belong to one owner each."""

from __future__ import annotations

from uuid import uuid4

import pytest

from app import db, sessions
from app.conversations import exchanges, messages, search, threads
from app.conversations import queries as conversation_queries
from app.db.models import AgentEvent, Conversation, Message, Session
from app.errors import NotFound
from app.events import Done, Error
from app.history import queries as history
from app.history.queries import Wanted
from app.sessions import queries as session_queries
from app.sessions import removal
from tests.factories import make_claim, make_created, make_session, row, try_claim, write

pytestmark = pytest.mark.usefixtures("store")

#: What a database may take for the same.
ALIKE = ["anna", "anna ", "Anna", "ANNA", "änna", "anna\u00a0", "ａｎｎａ"]


def test_owners_that_look_alike_see_nothing_of_each_other() -> None:
    made = {owner: make_created(owner=owner, message=owner) for owner in ALIKE}

    for owner, created in made.items():
        assert [each["userMessage"] for each in session_queries.list_recent(owner).rows] == [owner]
        assert [each["title"] for each in conversation_queries.list_recent(owner).rows] == [owner.strip()]
        for other in set(ALIKE) - {owner}:
            with pytest.raises(NotFound):
                session_queries.get(other, created.session_id)
            with pytest.raises(NotFound):
                conversation_queries.get(other, created.conversation_id)


@pytest.mark.parametrize("change", [str.upper, lambda each: each + " ", lambda each: each + "\t"])
def test_an_id_is_found_as_it_is_and_not_otherwise(change) -> None:  # type: ignore[no-untyped-def]
    claim = make_claim()
    write(claim, Done("said"))
    event_id = AgentEvent.select(AgentEvent.id).first().id

    session_queries.get("local", claim.session_id)
    for call in (
        lambda: session_queries.get("local", change(claim.session_id)),
        lambda: messages.of_session("local", change(claim.session_id)),
        lambda: removal.delete("local", change(claim.session_id)),
        lambda: history.get("local", 1, change(event_id)),
        lambda: conversation_queries.get("local", change(str(claim.conversation_id))),
    ):
        with pytest.raises(NotFound):
            call()


def test_keys_that_look_alike_are_different_keys() -> None:
    made = {make_session(idempotency_key=key, request_hash="h") for key in ("key", "key ", "KEY", "kéy")}

    assert len(made) == 4
    assert make_session(idempotency_key="key", request_hash="h") in made


# one id, two owners


@pytest.fixture
def shared() -> str:
    """A conversation's id that two owners use: each has said something in it, and got an answer."""
    conversation = str(uuid4())
    for owner in ("anna", "bert"):
        created = make_created(owner=owner, conversation_id=conversation, message=f"question of {owner}")
        write(make_claim(created.session_id), Done(f"answer to {owner}"))
    return conversation


def test_each_owner_has_a_conversation_of_that_id(shared: str) -> None:
    for owner in ("anna", "bert"):
        said = [message["content"] for message in messages.of_conversation(owner, shared).rows]
        assert said == [f"question of {owner}", f"answer to {owner}"]
        assert conversation_queries.get(owner, shared)["messageCount"] == 2
        told = history.page(Wanted(owner, 1, conversation_id=shared)).rows
        assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
        assert {event["content"] for event in told if event["eventType"] == "output"} == {f"answer to {owner}"}
        [found] = search.search(owner, "question").rows
        assert (found["conversationId"], found["title"]) == (shared, f"question of {owner}")
        assert [each.content for each in messages.containing(owner, shared, "question", 9)] == [f"question of {owner}"]


def test_the_model_is_told_what_its_owner_said(shared: str) -> None:
    claim = make_claim(make_session(owner="anna", conversation_id=shared))

    assert [each.user for each in exchanges.newest_first("anna", shared, claim.row_id)] == ["question of anna"]
    assert exchanges.count("anna", shared, claim.row_id) == 1


def test_owners_do_not_wait_for_each_other(shared: str) -> None:
    annas = [make_session(owner="anna", conversation_id=shared) for _ in range(2)]
    berts = make_session(owner="bert", conversation_id=shared)

    assert try_claim(annas[0]) is not None
    assert try_claim(annas[1]) is None
    assert session_queries.next_waiting("anna", shared) is None
    assert session_queries.next_waiting("bert", shared) == (berts, 0)
    assert {each.session_id for each in session_queries.unattended()} == {berts}
    assert try_claim(berts) is not None
    assert conversation_queries.get("anna", shared)["runningSessionId"] == annas[0]
    assert conversation_queries.get("bert", shared)["runningSessionId"] == berts


def test_to_interrupt_is_to_end_ones_own(shared: str) -> None:
    berts = make_session(owner="bert", conversation_id=shared)

    created = make_created(owner="anna", conversation_id=shared, on_busy="interrupt")

    assert created.interrupted == ()
    assert row(berts).status == "running"


@pytest.mark.parametrize("what", ["clear", "rename", "delete", "delete a session", "cancel"])
def test_what_one_owner_does_leaves_the_other_one_alone(shared: str, what: str) -> None:
    mine = session_queries.list_recent("anna").rows[0]["sessionId"]
    before = everything_of("bert")

    {
        "clear": lambda: threads.clear("anna", shared),
        "rename": lambda: threads.rename("anna", shared, "Another"),
        "delete": lambda: removal.delete_conversation("anna", shared),
        "delete a session": lambda: removal.delete("anna", mine),
        "cancel": lambda: sessions.end(mine, Error("cancelled", "x"), owner="anna"),
    }[what]()

    assert everything_of("bert") == before


def everything_of(owner: str) -> list[object]:
    tables = (Session, Conversation, Message, AgentEvent)
    rows = [
        db.reading(lambda table=table: list(table.select().where(table.owner == owner).dicts())) for table in tables
    ]
    return [*rows, search.search(owner, "question").rows, history.summary(owner, 1)]
