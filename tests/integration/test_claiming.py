"""Claims: who may take a session, alone or with others, keep it, and give it back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from app import db, sessions
from app.conversations import threads
from app.db.models import AgentEvent, Conversation, Session
from app.events import Delta, Done, Error, Thinking
from app.sessions import claims, commit, removal
from app.sessions import queries as session_queries
from app.sessions.claims import Claim
from app.sessions.commit import Batch
from tests.factories import (
    OWNER,
    assert_sound,
    at_once,
    change,
    failures,
    make_claim,
    make_session,
    orphan,
    row,
    shown,
    statements,
    try_claim,
    write,
)

pytestmark = pytest.mark.usefixtures("store")

CANCELLED = Error("cancelled", "cancelled by the user")


# claim


def test_a_claim_raises_the_attempt_and_holds_the_session() -> None:
    session_id = make_session(message="What?")

    claim = make_claim(session_id, worker="w", turn_timeout_s=60)

    session = row(session_id)
    assert (claim.attempt, claim.message, claim.last_seq, claim.checkpoint) == (1, "What?", 0, None)
    assert (session.attempt, session.worker, session.status) == (1, "w", "running")
    assert session.lease_until_ms == claims.HELD
    assert session.started_at is not None
    assert 59 < claim.remaining_s <= 60


def test_of_many_claims_at_once_one_gets_the_session() -> None:
    session_id = make_session()

    outcomes = at_once([lambda: try_claim(session_id) for _ in range(20)])

    assert failures(outcomes) == []
    assert len([each for each in outcomes if each is not None]) == 1
    assert row(session_id).attempt == 1


def test_an_orphan_is_taken_over_once_with_the_next_attempt() -> None:
    first = make_claim(turn_timeout_s=900)
    write(first, Thinking(""), Delta("kept"), checkpoint='{"step": 1}')
    orphan(first.session_id)

    outcomes = at_once([lambda: try_claim(first.session_id) for _ in range(10)])

    [second] = [each for each in outcomes if each is not None]
    assert not isinstance(second, Exception)
    assert (second.attempt, second.last_seq, second.checkpoint, second.checkpoint_seq) == (2, 2, '{"step": 1}', 2)


def test_a_held_an_ended_and_an_unknown_session_can_not_be_claimed() -> None:
    held = make_claim().session_id
    ended = make_session()
    sessions.end(ended, CANCELLED)

    assert try_claim(held) is None
    assert try_claim(ended) is None
    assert try_claim(str(uuid4())) is None


def test_the_deadline_is_set_by_the_first_claim_and_stays() -> None:
    first = make_claim(turn_timeout_s=100)
    change(first.session_id, deadline_ms=db.now_ms(40_000))
    orphan(first.session_id)

    second = try_claim(first.session_id, turn_timeout_s=100)

    assert second is not None
    assert 39 < second.remaining_s <= 40


def test_a_session_out_of_attempts_is_not_claimed() -> None:
    session_id = make_session()
    for attempt in (1, 2):
        assert make_claim(session_id, max_attempts=2).attempt == attempt
        orphan(session_id)

    assert try_claim(session_id, max_attempts=2) is None
    assert [each.failures for each in session_queries.unattended()] == [2]


def test_orphans_are_found_before_those_that_wait_longer() -> None:
    waiting = [make_session() for _ in range(2)]
    lost = make_claim().session_id
    orphan(lost)

    assert [each.session_id for each in session_queries.unattended()] == [lost, *waiting]
    assert [each.session_id for each in session_queries.unattended(limit=1)] == [lost]


def test_an_attempt_that_was_handed_back_does_not_count() -> None:
    session_id = make_session()

    for attempt in range(1, 8):
        claim = make_claim(session_id, max_attempts=2)
        assert claim.attempt == attempt
        assert claims.hand_back(claim)

    assert row(session_id).handbacks == 7
    [waiting] = session_queries.unattended()
    assert (waiting.failures, waiting.orphaned) == (0, False)


def test_a_session_waits_for_the_earlier_ones_of_its_conversation_in_order() -> None:
    conversation = str(uuid4())
    first, second, third = (make_session(conversation_id=conversation) for _ in range(3))

    assert try_claim(third) is None
    assert try_claim(second) is None
    claim = make_claim(first)
    assert try_claim(second) is None
    write(claim, Thinking(""), Done("answer"))

    assert session_queries.next_waiting(OWNER, conversation) == (second, 0)
    assert try_claim(third) is None
    assert try_claim(second) is not None
    assert session_queries.next_waiting(OWNER, conversation) is None


def test_a_session_does_not_wait_for_other_conversations_or_later_sessions() -> None:
    make_claim(make_session(conversation_id=str(uuid4())))
    conversation = str(uuid4())
    first = make_session(conversation_id=conversation)
    make_session(conversation_id=conversation)

    assert try_claim(first) is not None


def test_of_many_claims_on_a_whole_conversation_the_first_session_runs_alone() -> None:
    conversation = str(uuid4())
    made = [make_session(conversation_id=conversation) for _ in range(6)]

    outcomes = at_once([lambda each=each: try_claim(each) for each in made * 3])

    assert failures(outcomes) == []
    assert [each.session_id for each in outcomes if each is not None] == [made[0]]  # type: ignore[union-attr]


# claim many


def take_or_leave_out(*session_ids: str, worker: str = "worker-1") -> tuple[list[Claim], list[str]]:
    return claims.take(session_ids, worker, max_attempts=3, turn_timeout_s=900, wait=False)


def take(*session_ids: str, worker: str = "worker-1") -> list[Claim]:
    held, held_up = take_or_leave_out(*session_ids, worker=worker)
    assert held_up == []
    return held


def test_of_several_sessions_those_are_taken_that_are_free() -> None:
    new, lost, held, ended = make_session(), make_claim().session_id, make_claim().session_id, make_session()
    orphan(lost)
    sessions.end(ended, CANCELLED)
    first, second = (make_session(conversation_id=conversation) for conversation in [str(uuid4())] * 2)

    taken = take(second, ended, held, str(uuid4()), lost, new, first)

    assert {claim.session_id: claim.attempt for claim in taken} == {new: 1, lost: 2, first: 1}
    for claim in taken:
        session = row(claim.session_id)
        assert (session.attempt, session.worker, session.id) == (claim.attempt, "worker-1", claim.row_id)
        assert shown(claim.session_id)["startedAt"] is not None
    assert row(held).attempt == 1
    assert row(second).attempt == 0
    assert take(new, lost, first) == []


def test_each_session_of_a_group_has_its_own_number_deadline_and_history() -> None:
    conversation = str(uuid4())
    write(make_claim(make_session(conversation_id=conversation)), Thinking(""), Done("answer"))
    db.transaction(lambda: Conversation.update(session_number=7).execute())
    follows, begins = make_session(conversation_id=conversation, message="And?"), make_session(message="What?")
    change(follows, deadline_ms=db.now_ms(40_000))

    held = {claim.session_id: claim for claim in take(begins, follows)}

    assert (held[follows].message, held[begins].message) == ("And?", "What?")
    assert (held[follows].has_history, held[begins].has_history) == (True, False)
    assert (row(follows).session_number, row(begins).session_number) == (7, 1)
    assert 39 < held[follows].remaining_s <= 40
    assert 899 < held[begins].remaining_s <= 900


def test_the_start_of_each_session_of_a_group_is_told_once() -> None:
    made = [make_session(message=f"message {n}") for n in range(3)]
    resumed = make_claim(made[0]).session_id
    orphan(resumed)

    take(*made)

    told = [prompts_of(session_id) for session_id in made]
    assert told == [[f"message {n}"] for n in range(3)]


def test_the_time_of_a_group_begins_when_its_large_messages_are_stored() -> None:
    made = [make_session() for _ in range(3)]

    with statements() as asked:
        take(*made)

    changes = [statement.split()[:3] for statement in asked if statement.startswith(("INSERT", "UPDATE"))]
    assert changes.index(["INSERT", "INTO", "chatAgentEvents"]) < changes.index(["UPDATE", "chatSessions", "SET"])


def prompts_of(session_id: str) -> list[str]:
    query = AgentEvent.select(AgentEvent.content).where(
        (AgentEvent.session_id == session_id) & (AgentEvent.event_type == "prompt_sent")
    )
    return [content for (content,) in db.reading(lambda: db.tuples(query))]


def test_groups_that_overlap_share_the_sessions_between_them() -> None:
    made = [make_session() for _ in range(12)]

    outcomes = at_once(
        [lambda n=n: take_or_leave_out(*made[n:], *made[:n], worker=f"worker-{n}") for n in range(8)]  # type: ignore[misc]
    )

    assert failures(outcomes) == []
    taken = [claim for held, _ in outcomes for claim in held]  # type: ignore[union-attr]
    assert sorted(claim.session_id for claim in taken) == sorted(made)
    assert [row(session_id).attempt for session_id in made] == [1] * 12


def test_a_group_may_be_larger_than_what_one_statement_stores() -> None:
    made = [make_session() for _ in range(101)]

    held = take(*made)
    commit.commit([Batch(claim, 0, [Thinking(""), Done("answer")]) for claim in held])

    assert len(held) == len(made)
    for session_id in made:
        assert_sound(session_id)
    stored = db.reading(lambda: list(Conversation.select()))
    assert {(each.message_count, each.session_number) for each in stored} == {(2, 1)}
    assert {each.history_seq for each in stored} == {5}  # prompt, busy, output, result, idle


@pytest.mark.parametrize("store", ["mariadb"], indirect=True)
def test_a_group_does_not_wait_for_sessions_that_are_not_in_it() -> None:
    held, *made = [make_session() for _ in range(70)]
    # So many of so few that reading all of them looks as cheap as looking for each.
    db.transaction(lambda: db.sql("ANALYZE TABLE chatSessions, chatConversations").fetchall())

    def take_beside_it() -> list[Claim]:
        threads.lock(OWNER, row(held).conversation_id)
        db.locked(Session.select().where(Session.session_id == held)).first()
        return thread.submit(take, *made[:40]).result(5)

    with ThreadPoolExecutor(1) as thread:
        taken = db.transaction(take_beside_it)

    assert {claim.session_id for claim in taken} == set(made[:40])


@pytest.mark.parametrize("store", ["mariadb"], indirect=True)
def test_a_group_leaves_out_whose_conversation_somebody_has_locked() -> None:
    before, held, after = made = [make_session() for _ in range(3)]

    def take_beside_it() -> tuple[list[Claim], list[str]]:
        threads.lock(OWNER, row(held).conversation_id)
        return thread.submit(take_or_leave_out, *made).result(5)

    with ThreadPoolExecutor(1) as thread:
        taken, held_up = db.transaction(take_beside_it)

    assert ([claim.session_id for claim in taken], held_up) == ([before, after], [held])
    assert row(held).attempt == 0
    assert [claim.session_id for claim in take(*made)] == [held]


def test_nothing_is_taken_when_nothing_is_asked_for() -> None:
    make_session()

    assert take() == []


# hand back


def test_what_was_orphaned_meanwhile_is_not_handed_back() -> None:
    claim, reserved = make_claim(), make_claim()
    orphan(claim.session_id)
    change(reserved.session_id, lease_until_ms=claims.RESERVED)

    assert not claims.hand_back(claim)
    assert not claims.hand_back(reserved)

    assert row(claim.session_id).handbacks == row(reserved.session_id).handbacks == 0


def test_a_worker_can_ask_what_it_holds() -> None:
    held, ended, handed_back = make_claim(), make_claim(), make_claim()
    make_claim(worker="worker-2")
    sessions.end(ended.session_id, CANCELLED)
    claims.hand_back(handed_back)

    assert claims.held_by("worker-1") == {(held.row_id, 1, held.session_id, None)}


def test_a_session_that_is_no_longer_ours_is_not_handed_back() -> None:
    lost = make_claim()
    orphan(lost.session_id)
    make_claim(lost.session_id, worker="worker-2")
    ended = make_claim()
    sessions.end(ended.session_id, CANCELLED)
    deleted = make_claim()
    removal.delete(OWNER, deleted.session_id)

    assert not claims.hand_back(lost)
    assert not claims.hand_back(ended)
    assert not claims.hand_back(deleted)

    assert row(lost.session_id).handbacks == 0
    assert row(lost.session_id).lease_until_ms is not None
