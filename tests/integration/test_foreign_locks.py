"""A row that somebody else has locked holds up its own session alone: flush, claim, cancel and reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pymysql
import pytest

from app import db, sessions
from app.broker.client import open_redis
from app.broker.heads import Heads
from app.broker.queue import TurnQueue
from app.errors import DatabaseBusy
from app.events import Delta, Done, Error, Thinking, log
from app.sessions import claims, commit
from app.sessions.commit import Batch
from app.sessions.doorbell import Doorbell
from app.settings import Settings
from tests.factories import (
    OWNER,
    assert_sound,
    events_of,
    eventually,
    make_claim,
    make_session,
    orphan,
    record,
    row,
    write,
)
from tests.integration.test_runs import play, settings, working  # noqa: F401 - the fixture
from tests.stage import Stage
from worker.process.sweeper import Sweeper

pytestmark = [pytest.mark.usefixtures("store"), pytest.mark.parametrize("store", ["mariadb"], indirect=True)]

CANCELLED = Error("cancelled", "…")


@contextmanager
def foreign(*statements: str) -> Iterator[Any]:
    """A connection of somebody else's that has run *statements* and keeps their locks within the block."""
    options = {name: db.database.connect_params[name] for name in ("host", "port", "user", "password")}
    connection = pymysql.connect(database=db.database.database, **options)
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        yield connection
    finally:
        # A server notices only later that a connection was closed, and keeps its locks until then.
        with suppress(pymysql.err.Error), connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
            cursor.execute("UNLOCK TABLES")
        connection.close()


def locking_session(session_id: str) -> str:
    return f"SELECT * FROM chatSessions WHERE sessionId = '{session_id}' FOR UPDATE"


def locking_conversation(session_id: str) -> str:
    wanted = f"SELECT conversationId FROM chatSessions WHERE sessionId = '{session_id}'"
    return f"SELECT * FROM chatConversations WHERE conversationId = ({wanted}) FOR UPDATE"


def test_a_flush_leaves_out_the_session_whose_row_is_locked_and_stores_the_others() -> None:
    before, held, after = made = [make_claim() for _ in range(3)]
    batches = [Batch(claim, 0, [Delta("text")]) for claim in made]

    with foreign("BEGIN", locking_session(held.session_id)):
        started = time.monotonic()
        outcomes = commit.commit(batches)
        took_s = time.monotonic() - started

    assert [(outcome.current, outcome.held_up, outcome.last_seq) for outcome in outcomes] == [
        (True, False, 1),
        (False, True, 0),
        (True, False, 1),
    ]
    assert took_s < 1.5
    assert record(batches[1]).last_seq == 1
    for claim in (before, held, after):
        assert [event["content"] for event in events_of(claim.session_id)] == ["text"]


@pytest.mark.parametrize("locking", [locking_session, locking_conversation])
def test_an_end_waits_for_its_lock_while_others_end(store: str, locking: Any) -> None:
    held, other = make_claim(), make_claim()
    batches = [Batch(claim, 0, [Done("answer")]) for claim in (held, other)]

    with foreign("BEGIN", locking(held.session_id)):
        outcomes = commit.commit(batches)

        assert [outcome.held_up for outcome in outcomes] == [True, False]
        assert (row(held.session_id).status, row(other.session_id).status) == ("running", "done")
    assert record(batches[0]).status == "done"
    assert_sound(held.session_id)


def test_a_row_that_is_gone_is_no_row_that_is_locked() -> None:
    claim = make_claim()
    db.transaction(lambda: db.sql("DELETE FROM chatSessions WHERE sessionId = ?", [claim.session_id]))

    assert not record(Batch(claim, 0, [Delta("text")])).current


def test_a_group_of_claims_leaves_out_the_session_whose_row_is_locked() -> None:
    before, held, after = made = [make_session() for _ in range(3)]
    limits: dict[str, Any] = {"max_attempts": 3, "turn_timeout_s": 900, "wait": False}

    with foreign("BEGIN", locking_session(held)):
        taken, held_up = claims.take(made, "worker-1", **limits)

    assert ([claim.session_id for claim in taken], held_up) == ([before, after], [held])


@pytest.mark.parametrize("locking", [locking_session, locking_conversation])
def test_a_cancel_that_does_not_get_its_row_is_busy_within_two_seconds_and_leaves_nothing(
    stage: Stage, locking: Any
) -> None:
    claim = make_claim()
    write(claim, Thinking(""), Delta("half"))

    with foreign("BEGIN", locking(claim.session_id)):
        started = time.monotonic()
        response = stage.client.post(f"/api/chat/session/{claim.session_id}/cancel")
        took_s = time.monotonic() - started

    assert (response.status_code, response.json["code"]) == (503, "busy")  # type: ignore[index]
    assert int(response.headers["Retry-After"]) > 0
    assert took_s < 3
    assert (row(claim.session_id).status, row(claim.session_id).last_seq) == ("running", 2)
    assert stage.cancel(claim.session_id)["errorCode"] == "cancelled"
    assert_sound(claim.session_id)


def test_a_cancel_gets_a_row_that_is_let_go_in_time() -> None:
    claim = make_claim()

    async def cancel() -> None:
        with foreign("BEGIN", locking_session(claim.session_id)) as connection:
            ending = asyncio.create_task(asyncio.to_thread(sessions.end, claim.session_id, CANCELLED))
            await asyncio.sleep(0.2)
            connection.rollback()
            assert (await ending).changed

    asyncio.run(cancel())


def test_a_sweep_does_not_stop_at_a_session_whose_row_is_locked(settings: Settings) -> None:  # noqa: F811
    lost = []
    for _ in range(3):
        session_id = make_session()
        claim = make_claim(session_id, worker="dead")
        orphan(claim.session_id)
        lost.append(session_id)
    queue = TurnQueue(settings.redis_url)
    limited = replace(settings, max_attempts=1)
    sweeper = Sweeper("sweeper-1", limited, queue, Doorbell(Heads(open_redis(settings.redis_url)), queue))

    with foreign("BEGIN", locking_session(lost[0])):
        started = time.monotonic()
        assert sweeper.sweep() == 2
        assert time.monotonic() - started < 2

    assert [row(session_id).status for session_id in lost] == ["running", "error", "error"]
    assert sweeper.sweep() == 1


def test_a_table_that_is_locked_is_a_busy_database_and_no_wait_without_an_end() -> None:
    session_id = make_session()

    with foreign("LOCK TABLES chatSessions WRITE"):
        started = time.monotonic()
        with pytest.raises(DatabaseBusy):
            log.read(OWNER, session_id, 0, 100)
        assert time.monotonic() - started < 6

    assert log.read(OWNER, session_id, 0, 100).status == "running"


def test_sessions_beside_a_locked_one_stream_on_and_all_of_them_end(settings: Settings) -> None:  # noqa: F811
    made = [make_session() for _ in range(5)]
    held = made[0]
    let_go = asyncio.Event()

    async def answer(turn: Any) -> Any:
        yield "begun"
        await let_go.wait()
        yield ", ended"

    async def run() -> None:
        async with working(settings, answer) as runtime:
            runs = [asyncio.create_task(runtime.run(each)) for each in made]
            await eventually(lambda: all(row(each).last_seq >= 2 for each in made), "the first words")
            with foreign("BEGIN", locking_session(held)):
                started = time.monotonic()
                let_go.set()
                await asyncio.wait(runs[1:])
                assert time.monotonic() - started < 1.5
                assert row(held).status == "running"
            await asyncio.wait(runs)

    play(run())

    for session_id in made:
        assert (row(session_id).final_response, row(session_id).attempt) == ("begun, ended", 1)
        assert_sound(session_id)
