"""Workers that die: who says so, and what becomes of what they held."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count
from typing import Any

import peewee
import pytest

from app import db, sessions
from app.db import heartbeats
from app.db.models import Worker
from app.errors import DatabaseUnavailable
from app.events import Delta, Error, Thinking
from app.sessions import claims, takeover
from app.sessions import queries as session_queries
from app.settings import Settings
from tests.factories import (
    assert_sound,
    change,
    events_of,
    eventually,
    make_claim,
    make_session,
    orphan,
    row,
    try_claim,
    write,
)
from tests.integration.test_foreign_locks import foreign, locking_session
from tests.integration.test_runs import play, settings, sweeper, working  # noqa: F401 - the fixture
from worker.orchestrator import Turn

pytestmark = pytest.mark.usefixtures("store")


_numbers = count(1)


def workers() -> dict[str, tuple[str | None, int | None]]:
    """Cause of death and number of sessions of each worker that has a row."""
    query = Worker.select(Worker.name, Worker.cause, Worker.sessions)
    return {name: (cause, held) for name, cause, held in db.reading(lambda: db.tuples(query))}


def take_over(worker: str, *, groups: bool = True, max_attempts: int = 3) -> list[str]:
    new_name = (lambda: f"{worker}+{next(_numbers)}") if groups else None
    return takeover.take_over(worker, max_attempts=max_attempts, new_name=new_name)


def state(session_id: str) -> tuple[int, int, str | None]:
    """Attempts, those that don't count, and why the last one ended."""
    session = row(session_id)
    return session.attempt, session.handbacks, session.cause


def test_what_a_dead_worker_held_is_reserved_in_groups_and_no_attempt_counts() -> None:
    held = [make_claim() for _ in range(8)]
    beside = make_claim(worker="worker-2")
    assert heartbeats.mark_dead("worker-1", "worker died")

    names = take_over("worker-1")

    assert len(names) == 4
    assert workers() == {"worker-2": (None, None), **dict.fromkeys(names, (None, 2))}
    for claim in held:
        assert state(claim.session_id) == (1, 1, "worker died")
        assert try_claim(claim.session_id) is None
    assert session_queries.unattended() == []
    assert (row(beside.session_id).worker, row(beside.session_id).lease_until_ms) == ("worker-2", claims.HELD)
    mine = [claim.session_id for claim in held if row(claim.session_id).worker == names[0]]
    resumed = try_claim(mine[0], worker=names[0])
    assert resumed is not None
    assert (resumed.attempt, resumed.cause) == (2, "worker died")


def test_the_one_suspect_resumes_alone_and_its_attempt_counts() -> None:
    held = [make_claim() for _ in range(5)]
    heartbeats.mark_dead("worker-1", "worker died", suspects=[held[2].row_id])

    names = take_over("worker-1")

    assert [row(claim.session_id).handbacks for claim in held] == [1, 1, 0, 1, 1]
    assert row(held[2].session_id).worker == names[0]
    assert workers()[names[0]] == (None, 1)


def test_a_session_that_has_used_up_its_attempts_is_left_to_the_sweeper(settings: Settings) -> None:  # noqa: F811
    session_id = make_session()
    for attempt in range(1, 4):
        claim = make_claim(session_id, worker=f"worker-{attempt}")
        write(claim, Thinking("", None if attempt == 1 else 1), Delta("half"))
        heartbeats.mark_dead(f"worker-{attempt}", "worker died")
        names = take_over(f"worker-{attempt}")
        if names:
            orphan(session_id)

    assert names == []
    assert sweeper(settings).sweep() == 1
    assert (row(session_id).error_code, row(session_id).final_response) == ("worker_lost", "half")
    assert_sound(session_id)


def test_a_group_that_never_started_costs_nobody_an_attempt_and_is_halved() -> None:
    held = [make_claim() for _ in range(8)]
    heartbeats.mark_dead("worker-1", "worker died")
    first = take_over("worker-1")[0]
    mine = [claim.session_id for claim in held if row(claim.session_id).worker == first]
    heartbeats.mark_dead(first, "worker frozen", beat=0)

    assert [workers()[name] for name in take_over(first)] == [(None, 1), (None, 1)]
    assert [state(session_id) for session_id in mine] == [(1, 1, "worker frozen")] * 2


def test_without_groups_anybody_may_claim_what_a_dead_worker_held() -> None:
    alone, reserved = make_claim(), make_claim()
    change(reserved.session_id, lease_until_ms=claims.RESERVED)
    heartbeats.mark_dead("worker-1", "worker died")

    assert take_over("worker-1", groups=False) == []

    assert {each.session_id for each in session_queries.unattended()} == {alone.session_id, reserved.session_id}
    assert (state(alone.session_id), state(reserved.session_id)) == ((1, 1, "worker died"), (1, 0, "worker died"))
    claim = try_claim(alone.session_id)
    assert claim is not None
    assert claim.cause == "worker died"
    assert workers() == {}


def test_nothing_is_taken_from_a_worker_that_is_not_marked_dead() -> None:
    claim = make_claim()

    assert take_over("worker-1") == take_over("nobody") == []

    assert row(claim.session_id).lease_until_ms == claims.HELD
    assert workers() == {"worker-1": (None, None)}


def test_a_mark_of_death_holds_only_if_the_heartbeat_still_stands_where_it_was_seen() -> None:
    heartbeats.register("worker-1")
    assert heartbeats.beat("worker-1")[0]

    assert not heartbeats.mark_dead("worker-1", "worker frozen", beat=0)
    assert heartbeats.beat("worker-1")[0]
    assert heartbeats.mark_dead("worker-1", "worker frozen", beat=2)
    assert not heartbeats.mark_dead("worker-1", "worker died")
    assert not heartbeats.beat("worker-1")[0]
    heartbeats.leave("worker-1")
    assert workers() == {"worker-1": ("worker frozen", None)}


@pytest.mark.parametrize("store", ["mariadb"], indirect=True)
def test_a_session_whose_row_is_locked_is_taken_over_later_and_holds_up_nobody() -> None:
    held = [make_claim() for _ in range(3)]
    heartbeats.mark_dead("worker-1", "worker died")

    with foreign("BEGIN", locking_session(held[1].session_id)):
        started = time.monotonic()
        assert len(take_over("worker-1")) == 2
        assert take_over("worker-1") == []
        assert time.monotonic() - started < 2

    assert [row(claim.session_id).lease_until_ms for claim in held] == [claims.RESERVED, claims.HELD, claims.RESERVED]
    assert len(take_over("worker-1")) == 1
    assert state(held[1].session_id) == (1, 1, "worker died")


@pytest.mark.parametrize("store", ["mariadb"], indirect=True)
def test_a_worker_whose_row_somebody_else_has_locked_is_not_marked_and_nobody_waits() -> None:
    heartbeats.register("worker-1")

    with foreign("BEGIN", "SELECT * FROM chatWorkers FOR UPDATE"):
        started = time.monotonic()
        assert not heartbeats.mark_dead("worker-1", "worker frozen", beat=0)
        with pytest.raises(DatabaseUnavailable):
            heartbeats.beat("worker-1")
        assert time.monotonic() - started < 6

    assert heartbeats.beat("worker-1")[0]


def test_what_a_worker_held_that_has_stopped_is_freed_and_its_attempts_do_not_count(
    settings: Settings,  # noqa: F811
) -> None:
    claim, beside = make_claim(), make_claim(worker="worker-2")
    heartbeats.leave("worker-1")

    assert sweeper(settings).sweep() == 1

    assert state(claim.session_id) == (1, 1, "worker stopped")
    assert row(claim.session_id).lease_until_ms == claims.ORPHANED
    assert row(beside.session_id).lease_until_ms == claims.HELD


def test_a_step_of_the_databases_clock_orphans_nothing(
    settings: Settings,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim = make_claim()
    now_ms = db.now_ms

    for step_ms in (15_000, -15_000):

        def stepped(plus: int = 0, step_ms: int = step_ms) -> peewee.SQL:
            return now_ms(plus + step_ms)

        with monkeypatch.context() as patch:
            patch.setattr(db, "now_ms", stepped)
            assert sweeper(settings, f"sweeper-{step_ms}").sweep() == 0
            assert try_claim(claim.session_id) is None

    assert row(claim.session_id).attempt == 1


# beside older processes, which renew leases of sessions


def test_older_processes_leave_alone_what_is_held_and_take_what_is_orphaned() -> None:
    _, lost, reserved = make_claim(), make_claim(), make_claim()
    change(reserved.session_id, lease_until_ms=claims.RESERVED, worker="group")
    orphan(lost.session_id)

    # What they ask, in their claims, sweeps and ends.
    free = f"status = 'running' AND (leaseUntilMs IS NULL OR leaseUntilMs < {db.now_ms().sql})"
    found = db.reading(lambda: db.sql(f"SELECT sessionId FROM chatSessions WHERE {free}").fetchall())

    assert found in ([(lost.session_id,)], ((lost.session_id,),))


def test_the_sessions_of_older_workers_are_taken_when_their_leases_have_run_out_and_not_before() -> None:
    living, dead = make_claim(), make_claim()
    db.transaction(lambda: Worker.delete().execute())
    change(living.session_id, lease_until_ms=db.now_ms(5_000))
    change(dead.session_id, lease_until_ms=db.now_ms(-1))

    assert takeover.free_abandoned() == 0
    assert [each.session_id for each in session_queries.unattended()] == [dead.session_id]
    assert try_claim(living.session_id) is None
    taken = try_claim(dead.session_id)
    assert taken is not None
    assert (taken.attempt, taken.cause) == (2, None)


# a whole worker


async def hold(turn: Turn) -> AsyncIterator[Any]:
    yield "half"
    await asyncio.Event().wait()


def test_a_worker_that_others_took_for_dead_stops_its_runs_and_hands_back_nothing(
    settings: Settings,  # noqa: F811
) -> None:
    session_id = make_session()
    told: list[Exception] = []

    async def run() -> None:
        async with working(replace(settings, lease_s=1.0), hold) as runtime:
            runtime.when_broken(told.append)
            running = asyncio.create_task(runtime.run(session_id))
            await eventually(lambda: row(session_id).last_seq >= 2, "the first words")
            await asyncio.to_thread(heartbeats.mark_dead, runtime.name, "worker frozen")
            await asyncio.wait_for(running, 10)

    play(run())

    assert [str(error) for error in told] == ["this worker was taken for dead"]
    assert (row(session_id).lease_until_ms, row(session_id).handbacks) == (claims.HELD, 0)


def test_a_worker_takes_over_from_one_whose_heartbeat_stands_still(settings: Settings) -> None:  # noqa: F811
    claim = make_claim(worker="elsewhere")
    write(claim, Thinking(""), Delta("half"))

    async def run() -> None:
        async with working(replace(settings, lease_s=1.0, sweep_s=0.2), hold, sweeps=True) as runtime:
            await eventually(lambda: row(claim.session_id).lease_until_ms == claims.ORPHANED, "the orphan")
            assert runtime.supervision.broken is None

    play(run())

    assert state(claim.session_id) == (1, 0, "worker frozen")
    assert workers() == {}


def test_the_first_event_of_a_resumed_attempt_says_why_the_one_before_ended(settings: Settings) -> None:  # noqa: F811
    lost, handed_back = make_claim(), make_claim()
    heartbeats.mark_dead("worker-1", "worker died", suspects=[lost.row_id])
    claims.hand_back(handed_back)
    take_over("worker-1", groups=False)

    async def answer(turn: Turn) -> AsyncIterator[Any]:
        yield "answer"

    async def run() -> None:
        async with working(settings, answer) as runtime:
            await asyncio.gather(*(runtime.run(each.session_id) for each in (lost, handed_back)))

    play(run())

    first = [next(e for e in events_of(each.session_id) if e["attempt"] == 2) for each in (lost, handed_back)]
    assert [event["cause"] for event in first] == ["worker died", "handed back"]


def test_what_a_worker_holds_and_does_not_run_is_handed_back(settings: Settings) -> None:  # noqa: F811
    session_id = make_session()

    async def run() -> None:
        async with working(replace(settings, lease_s=0.4), hold) as runtime:
            running = asyncio.create_task(runtime.run(make_session()))
            # Its answer was lost on the way.
            await asyncio.to_thread(make_claim, session_id, worker=runtime.name)
            await eventually(lambda: row(session_id).lease_until_ms is None, "the session that is not run")
            assert not running.done()
            running.cancel()
            await asyncio.wait([running])

    play(run())

    assert state(session_id) == (1, 1, "handed back")


def test_an_end_of_an_orphan_needs_its_worker_to_be_dead() -> None:
    claim = make_claim()
    error = Error("worker_lost", "…")

    assert not sessions.end_orphaned(claim.session_id, 1, error).changed
    heartbeats.mark_dead("worker-1", "worker died")
    take_over("worker-1", groups=False)
    assert sessions.end_orphaned(claim.session_id, 1, error).changed
