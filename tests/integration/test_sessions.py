"""Every state change of a session, its guards, and what happens when two come at once."""

from __future__ import annotations

import pkgutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import peewee
import pytest

from app import db, sessions
from app.conversations import threads
from app.db import times
from app.db.models import Conversation, Session
from app.db.times import utc_now
from app.errors import Busy, DatabaseUnavailable, IdempotencyConflict, NotFound
from app.events import Delta, Done, Error, Thinking, Usage
from app.sessions import Created, Ended, commit, removal
from app.sessions import queries as session_queries
from app.sessions.commit import Batch
from tests.factories import (
    OWNER,
    assert_sound,
    at_once,
    change,
    events_of,
    exists,
    failures,
    kinds_of,
    make_claim,
    make_created,
    make_new,
    make_session,
    messages_of,
    record,
    row,
    shown,
    try_claim,
    write,
)
from tests.servers import wait_until

pytestmark = pytest.mark.usefixtures("store")

CANCELLED = Error("cancelled", "cancelled by the user")


# create


def test_a_new_session_waits_with_its_user_message_in_a_conversation_of_its_own() -> None:
    created = make_created(message="Привет 🙂\nsecond line")

    session = row(created.session_id)
    assert created.new
    assert (session.status, session.attempt, session.last_seq, session.lease_until_ms) == ("running", 0, 0, None)
    assert session.started_at is None
    assert messages_of(created.session_id) == [("user", "Привет 🙂\nsecond line")]
    [conversation] = db.reading(lambda: list(Conversation.select()))
    assert (conversation.conversation_id, conversation.title) == (created.conversation_id, "Привет 🙂")


def test_sessions_of_one_conversation_share_it() -> None:
    conversation = str(uuid4())

    outcomes = at_once([lambda: make_created(conversation_id=conversation) for _ in range(20)])

    assert failures(outcomes) == []
    assert db.reading(lambda: Conversation.select().count()) == 1
    assert db.reading(lambda: Session.select().where(Session.conversation_id == conversation).count()) == 20


def test_an_id_that_another_owner_uses_is_as_free_as_any() -> None:
    theirs = make_created(owner="alice")

    mine = make_created(owner="mallory", conversation_id=theirs.conversation_id)

    assert (mine.new, mine.conversation_id) == (True, theirs.conversation_id)
    assert mine.session_id != theirs.session_id


def test_a_refused_session_leaves_nothing_behind() -> None:
    first = make_created()

    with pytest.raises(Busy) as refused:
        make_created(conversation_id=first.conversation_id, on_busy="reject")

    assert refused.value.extra == {"sessionId": first.session_id}
    assert db.reading(lambda: Session.select().count()) == 1


def test_an_ended_session_does_not_make_a_conversation_busy() -> None:
    first = make_created()
    sessions.end(first.session_id, CANCELLED)

    second = make_created(conversation_id=first.conversation_id, on_busy="reject")

    assert second.new


def test_reject_lets_exactly_one_through_when_many_come_at_once() -> None:
    conversation = str(uuid4())

    outcomes = at_once([lambda: make_created(conversation_id=conversation, on_busy="reject") for _ in range(20)])

    assert len([each for each in outcomes if isinstance(each, Created)]) == 1
    assert {type(each) for each in failures(outcomes)} == {Busy}


def test_interrupt_ends_what_runs_and_what_waits_and_keeps_the_partial_answer() -> None:
    first = make_created()
    claim = make_claim(first.session_id)
    write(claim, Thinking(""), Delta("half"))
    waiting = make_session(conversation_id=first.conversation_id)

    created = make_created(conversation_id=first.conversation_id, on_busy="interrupt")

    assert [each.session_id for each in created.interrupted] == [first.session_id, waiting]
    assert [each.worker for each in created.interrupted] == ["worker-1", None]
    assert (row(first.session_id).error_code, row(first.session_id).final_response) == ("cancelled", "half")
    assert row(waiting).status == "error"
    for session_id in (first.session_id, waiting, created.session_id):
        assert_sound(session_id)
    assert try_claim(created.session_id) is not None


def test_interrupts_at_once_leave_only_the_last_one_running() -> None:
    conversation = str(uuid4())

    outcomes = at_once([lambda: make_created(conversation_id=conversation, on_busy="interrupt") for _ in range(15)])

    assert failures(outcomes) == []
    running = db.reading(lambda: list(Session.select().where(Session.status == "running")))
    assert [each.id for each in running] == [db.reading(lambda: Session.select().order_by(-Session.id).get()).id]
    for session in db.reading(lambda: list(Session.select())):
        assert_sound(session.session_id)


# idempotency keys


def test_fifty_requests_with_one_key_at_once_make_one_session() -> None:
    new = make_new(idempotency_key="key", request_hash="hash")

    outcomes = at_once([lambda: sessions.create(new) for _ in range(50)])

    assert failures(outcomes) == []
    assert len({each.session_id for each in outcomes if isinstance(each, Created)}) == 1
    assert [each.new for each in outcomes if isinstance(each, Created)].count(True) == 1
    assert db.reading(lambda: Session.select().count()) == 1
    assert db.reading(lambda: Conversation.select().count()) == 1


@pytest.mark.parametrize("on_busy", ["enqueue", "reject", "interrupt"])
def test_one_key_is_one_session_whatever_it_does_when_the_conversation_is_busy(on_busy: str) -> None:
    new = make_new(conversation_id=str(uuid4()), idempotency_key="key", request_hash="hash", on_busy=on_busy)

    outcomes = at_once([lambda: sessions.create(new) for _ in range(20)])

    assert failures(outcomes) == []
    assert len({each.session_id for each in outcomes if isinstance(each, Created)}) == 1
    [session] = db.reading(lambda: list(Session.select()))
    assert session.status == "running"


def test_a_request_that_waits_for_its_own_twin_is_that_session_and_finds_nothing_busy(store: str) -> None:
    created = make_created()
    sessions.end(created.session_id, CANCELLED)
    new = make_new(
        conversation_id=created.conversation_id, idempotency_key="key", request_hash="hash", on_busy="reject"
    )
    locked, release = threading.Event(), threading.Event()

    def hold() -> None:
        threads.lock_many([(OWNER, created.conversation_id)])
        locked.set()
        assert release.wait(30)

    with ThreadPoolExecutor(5) as pool:
        holding = pool.submit(db.transaction, hold)
        locked.wait(30)
        twins = [pool.submit(sessions.create, new) for _ in range(4)]
        # On SQLite they wait before they have looked at anything.
        wait_until(lambda: store.startswith("sqlite") or locking_reads() == 4, "all twins to wait")
        release.set()
        made = {twin.result(30).session_id for twin in twins}
        holding.result(30)

    assert len(made) == 1


def locking_reads() -> int:
    """How many locking reads are under way: all of them wait; MariaDB only."""
    running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%%FOR UPDATE' AND command = 'Query'"
    return int(db.reading(lambda: db.database.execute_sql(running).fetchone()[0]))


def test_a_key_with_another_body_is_a_conflict() -> None:
    make_created(idempotency_key="key", request_hash="one")

    with pytest.raises(IdempotencyConflict):
        make_created(idempotency_key="key", request_hash="two")

    assert db.reading(lambda: Session.select().count()) == 1


def test_the_same_key_of_another_owner_or_in_other_case_is_another_key() -> None:
    fields = {"idempotency_key": "key", "request_hash": "hash"}

    made = {
        make_session(**fields),
        make_session(**fields, owner="alice"),
        make_session(**(fields | {"idempotency_key": "KEY"})),
        make_session(**(fields | {"idempotency_key": "k\u00e9y"})),
    }

    assert len(made) == 4


def test_a_key_still_holds_after_its_session_has_ended() -> None:
    first = make_session(idempotency_key="key", request_hash="hash")
    sessions.end(first, CANCELLED)

    again = make_created(idempotency_key="key", request_hash="hash")

    assert (again.session_id, again.new) == (first, False)


def test_a_key_is_free_again_after_a_day() -> None:
    first = make_session(idempotency_key="key", request_hash="one")
    change(first, created_at=utc_now() - timedelta(hours=24, seconds=1))

    second = make_created(idempotency_key="key", request_hash="two")

    assert second.new
    assert second.session_id != first
    assert row(first).idempotency_key is None


def test_a_key_a_day_old_makes_one_session_when_many_come_at_once() -> None:
    first = make_session(idempotency_key="key", request_hash="one")
    change(first, created_at=utc_now() - timedelta(hours=25))
    new = make_new(idempotency_key="key", request_hash="one")

    outcomes = at_once([lambda: sessions.create(new) for _ in range(10)])

    assert failures(outcomes) == []
    assert len({each.session_id for each in outcomes if isinstance(each, Created)} - {first}) == 1
    assert db.reading(lambda: Session.select().count()) == 2


# end


def test_a_cancel_of_a_queued_session_is_its_only_event() -> None:
    session_id = make_session()

    ended = sessions.end(session_id, CANCELLED, owner=OWNER)

    assert (ended.changed, ended.status, ended.last_seq, ended.worker) == (True, "error", 1, None)
    [event] = events_of(session_id)
    assert (event["eventType"], event["errorCode"], event["content"]) == ("error", "cancelled", "")
    assert messages_of(session_id)[1][0] == "assistant"
    assert_sound(session_id)


def test_a_cancel_of_a_running_session_keeps_what_was_said_and_names_its_worker() -> None:
    claim = make_claim(worker="worker-7")
    write(claim, Thinking("hm"), Delta("Hello "), Delta("wor"))

    ended = sessions.end(claim.session_id, CANCELLED, owner=OWNER)

    assert (ended.changed, ended.worker, ended.attempt, ended.last_seq) == (True, "worker-7", 1, 4)
    assert events_of(claim.session_id)[-1]["content"] == "Hello wor"
    assert row(claim.session_id).final_response == "Hello wor"
    assert row(claim.session_id).lease_until_ms is None
    assert messages_of(claim.session_id) == [("user", "Hello?"), ("assistant", "Hello wor")]
    assert_sound(claim.session_id)


def test_a_second_cancel_changes_nothing() -> None:
    session_id = make_session()
    sessions.end(session_id, CANCELLED)
    before = events_of(session_id)

    again = sessions.end(session_id, Error("timeout", "too late"))

    assert not again.changed
    assert (again.status, again.last_seq) == ("error", 1)
    assert events_of(session_id) == before


def test_a_session_that_was_left_running_for_months_can_be_ended() -> None:
    # Nothing ran meanwhile; or the clock of the machine that claimed it was wrong.
    claim = make_claim()
    write(claim, Delta("half"))
    change(claim.session_id, started_at=utc_now() - timedelta(days=400))

    assert sessions.end(claim.session_id, CANCELLED).changed

    assert shown(claim.session_id)["finalResponse"] == "half"
    assert shown(claim.session_id)["processingTimeMs"] > 24 * 86_400_000
    assert_sound(claim.session_id)


@pytest.mark.parametrize(
    ("refused", "times", "answer", "messages"),
    [
        ("app.conversations.messages.add", 1, "half", [("user", "Hello?"), ("assistant", "half")]),
        ("app.conversations.messages.add", 9, "half", [("user", "Hello?")]),
        ("app.events.log.answer_text", 9, "", [("user", "Hello?")]),
    ],
)
def test_a_session_ends_with_as_much_as_the_database_takes(
    monkeypatch: pytest.MonkeyPatch, refused: str, times: int, answer: str, messages: list[tuple[str, str]]
) -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("half"))
    stores = pkgutil.resolve_name(refused)
    calls = iter(range(100))

    def refuse(*arguments: object) -> object:
        if next(calls) < times:
            raise peewee.DataError("refused")
        return stores(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(refused, refuse)
        ended = sessions.end(claim.session_id, CANCELLED)

    assert (ended.changed, ended.last_seq) == (True, 3)
    session = shown(claim.session_id)
    assert (session["status"], session["errorCode"], session["finalResponse"]) == ("error", "cancelled", answer)
    assert kinds_of(claim.session_id) == ["thinking", "delta", "error"]
    assert messages_of(claim.session_id) == messages
    assert not sessions.end(claim.session_id, CANCELLED).changed


def test_a_session_whose_end_does_not_reach_the_database_is_still_running(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = make_claim()

    def away(*_: object) -> None:
        raise DatabaseUnavailable("the database can't be reached")

    with monkeypatch.context() as patch:
        patch.setattr("app.conversations.messages.add", away)
        with pytest.raises(DatabaseUnavailable):
            sessions.end(claim.session_id, CANCELLED)

    assert kinds_of(claim.session_id) == []
    assert sessions.end(claim.session_id, CANCELLED).changed


def test_a_done_session_can_not_be_cancelled() -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("all"), Done("all", "m", Usage(1, 2)))

    ended = sessions.end(claim.session_id, CANCELLED)

    assert (ended.changed, ended.status) == (False, "done")
    assert row(claim.session_id).final_response == "all"
    assert_sound(claim.session_id)


def test_an_end_whose_condition_no_longer_holds_does_nothing() -> None:
    claim = make_claim()

    error = Error("worker_lost", "…")
    of_a_living_worker = sessions.end_orphaned(claim.session_id, claim.attempt, error)
    of_a_young_turn = sessions.end_overdue(claim.session_id, claim.attempt, error)
    of_another_attempt = sessions.end_attempt(claim.session_id, claim.attempt - 1, error)

    assert not any(ended.changed for ended in (of_a_living_worker, of_a_young_turn, of_another_attempt))
    assert row(claim.session_id).status == "running"


def test_a_session_of_another_owner_can_not_be_ended_or_deleted() -> None:
    session_id = make_session(owner="alice")

    with pytest.raises(NotFound):
        sessions.end(session_id, CANCELLED, owner="mallory")
    with pytest.raises(NotFound):
        removal.delete("mallory", session_id)

    assert row(session_id).status == "running"


def test_of_many_cancels_at_once_one_changes_the_session() -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("x"))

    outcomes = at_once([lambda: sessions.end(claim.session_id, CANCELLED, owner=OWNER) for _ in range(15)])

    assert failures(outcomes) == []
    assert [each.changed for each in outcomes if isinstance(each, Ended)].count(True) == 1
    assert_sound(claim.session_id)


@pytest.mark.parametrize("round_", range(5))
def test_a_claim_and_a_cancel_at_once_leave_a_cancelled_session(round_: int) -> None:
    session_id = make_session()

    outcomes = at_once([lambda: try_claim(session_id), lambda: sessions.end(session_id, CANCELLED)] * 2)

    assert failures(outcomes) == []
    assert row(session_id).status == "error"
    assert row(session_id).lease_until_ms is None
    assert kinds_of(session_id) == ["error"]
    assert try_claim(session_id) is None
    assert_sound(session_id)


@pytest.mark.parametrize("round_", range(5))
def test_a_cancel_and_the_last_flush_at_once_leave_one_terminal_event(round_: int) -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("text"))
    last = Batch(claim, 2, [Delta(" end"), Done("text end")])

    recorded, ended = at_once([lambda: record(last), lambda: sessions.end(claim.session_id, CANCELLED)])

    assert isinstance(recorded, commit.Committed)
    assert isinstance(ended, Ended)
    assert recorded.current is not ended.changed
    assert row(claim.session_id).status == ("done" if recorded.current else "error")
    assert len(messages_of(claim.session_id)) == 2
    assert_sound(claim.session_id)


# delete


def test_a_deleted_session_takes_its_events_and_messages_with_it() -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("x"))
    other = make_session(conversation_id=claim.conversation_id)

    ended = removal.delete(OWNER, claim.session_id)

    assert ended.worker == "worker-1"
    assert not exists(claim.session_id)
    assert messages_of(claim.session_id) == []
    assert messages_of(other) == [("user", "Hello?")]
    with pytest.raises(NotFound):
        events_of(claim.session_id)
    with pytest.raises(NotFound):
        removal.delete(OWNER, claim.session_id)
    assert session_queries.next_waiting(OWNER, claim.conversation_id) == (other, 0)


def test_a_deleted_conversation_names_what_ran_and_waited_in_it_and_the_worker() -> None:
    ended = make_claim()
    write(ended, Done("x"))
    running = make_claim(make_session(conversation_id=ended.conversation_id))
    waiting = make_session(conversation_id=ended.conversation_id)

    deleted = removal.delete_conversation(OWNER, str(ended.conversation_id))

    assert [(each.session_id, each.worker) for each in deleted] == [
        (running.session_id, "worker-1"),
        (waiting, None),
    ]


@pytest.mark.parametrize("round_", range(3))
def test_a_delete_and_a_flush_at_once_leave_nothing(round_: int) -> None:
    claim = make_claim()

    outcomes = at_once(
        [
            lambda: record(Batch(claim, 0, [Thinking(""), Delta("x"), Done("x")])),
            lambda: removal.delete(OWNER, claim.session_id),
        ]
    )

    assert failures(outcomes) == []
    assert not exists(claim.session_id)
    assert messages_of(claim.session_id) == []


# all at once


def test_everything_at_once_on_the_same_conversations_ends_without_an_error() -> None:
    conversation_ids = [str(uuid4()) for _ in range(4)]
    held = [make_claim(make_session(conversation_id=each)) for each in conversation_ids]
    after = [0] * len(held)

    def flush(order: int) -> None:
        batches = [Batch(claim, seq, [Delta("x")] * 3) for claim, seq in zip(held, after, strict=True)]
        commit.commit(batches[::order])

    def end_all() -> None:
        for claim in held:
            with suppress(NotFound):  # deleted
                sessions.end(claim.session_id, CANCELLED)

    works = [
        lambda: flush(1),
        lambda: flush(-1),
        lambda: commit.commit([Batch(claim, 0, [Done("x")]) for claim in held]),
        lambda: commit.commit([Batch(claim, 0, [Done("x")]) for claim in reversed(held)]),
        end_all,
        lambda: removal.delete(OWNER, held[-1].session_id),
        *(lambda each=each: make_created(conversation_id=each) for each in conversation_ids),
        *(lambda each=each: make_created(conversation_id=each, on_busy="interrupt") for each in conversation_ids[::-1]),
    ]

    outcomes = at_once(works)

    assert failures(outcomes) == []
    for session in db.reading(lambda: list(Session.select())):
        assert_sound(session.session_id)


@pytest.mark.parametrize("store", ["mariadb"], indirect=True)
def test_a_process_whose_clock_is_days_ahead_finds_the_session_of_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_created(idempotency_key="key", request_hash="hash")
    monkeypatch.setattr(times, "_machine_now", lambda: datetime.now(UTC) + timedelta(seconds=200_000))

    second = make_created(idempotency_key="key", request_hash="hash")
    third = make_created()
    monkeypatch.undo()
    db.reading(lambda: None)

    assert (second.new, second.session_id) == (False, first.session_id)
    assert abs((row(third.session_id).created_at - row(first.session_id).created_at).total_seconds()) < 30
