"""An interrupt commits its own session and a mark; what stood before it ends in chunks afterwards."""

from __future__ import annotations

from uuid import uuid4

import pytest

from app.errors import Busy
from app.events import Delta, Thinking
from app.sessions import interrupts
from app.settings import Settings
from tests.factories import assert_sound, make_claim, make_created, make_session, row, try_claim, write
from tests.integration.test_foreign_locks import foreign, locking_session
from tests.integration.test_runs import jobs, settings, sweeper  # noqa: F401 - the fixture

pytestmark = pytest.mark.usefixtures("store")


def test_what_was_interrupted_is_claimed_by_nobody_and_the_sweeper_ends_it(
    settings: Settings,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = make_claim()
    write(running, Thinking(""), Delta("half"))
    conversation = row(running.session_id).conversation_id
    waiting = [make_session(conversation_id=conversation) for _ in range(interrupts.CHUNK * 2)]
    with monkeypatch.context() as patch:
        # Whoever interrupts dies after the commit.
        patch.setattr(interrupts, "end_for_a_while", lambda *_: ())
        created = make_created(conversation_id=conversation, on_busy="interrupt")

    assert created.interrupted == ()
    assert try_claim(waiting[0]) is None
    assert {row(each).status for each in (running.session_id, *waiting)} == {"running"}
    with pytest.raises(Busy) as busy:
        make_created(conversation_id=conversation, on_busy="reject")
    assert busy.value.extra["sessionId"] == created.session_id
    sweeper(settings).sweep()

    assert interrupts.pending() == []
    for session_id in (running.session_id, *waiting):
        assert (row(session_id).status, row(session_id).error_code) == ("error", "cancelled")
        assert_sound(session_id)
    assert row(running.session_id).final_response == "half"
    assert jobs(settings) == [f"{created.session_id}-0"]
    assert try_claim(created.session_id) is not None


def test_only_what_stood_before_the_mark_ends() -> None:
    conversation = str(uuid4())
    before = make_session(conversation_id=conversation)

    created = make_created(conversation_id=conversation, on_busy="interrupt")
    after = make_session(conversation_id=conversation)

    assert [each.session_id for each in created.interrupted] == [before]
    assert interrupts.end_for_a_while("local", conversation) == ()
    assert [row(each).status for each in (before, created.session_id, after)] == ["error", "running", "running"]


def test_a_conversation_that_is_deleted_meanwhile_leaves_nothing_to_end() -> None:
    assert interrupts.end_for_a_while("local", str(uuid4())) == ()


@pytest.mark.parametrize("store", ["mariadb"], indirect=True)
def test_a_session_whose_row_is_locked_holds_up_neither_the_others_nor_the_request() -> None:
    conversation = str(uuid4())
    held, other = (make_session(conversation_id=conversation) for _ in range(2))

    with foreign("BEGIN", locking_session(held)):
        created = make_created(conversation_id=conversation, on_busy="interrupt")

    assert [each.session_id for each in created.interrupted] == [other]
    assert interrupts.pending() == [("local", conversation)]
    assert [each.session_id for each in interrupts.end_for_a_while("local", conversation)] == [held]


def test_a_session_that_can_not_be_ended_with_others_is_ended_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = str(uuid4())
    before = [make_session(conversation_id=conversation) for _ in range(3)]
    end_locked, tried = interrupts.lifecycle.end_locked, []

    def refuse_once(*arguments: object, **named: object) -> object:
        tried.append(arguments)
        if len(tried) == 2:
            raise ValueError("refused")
        return end_locked(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(interrupts.lifecycle, "end_locked", refuse_once)
    make_created(conversation_id=conversation, on_busy="interrupt")

    assert {row(each).status for each in before} == {"error"}
    for session_id in before:
        assert_sound(session_id)
