"""One owner's hundreds keep nobody else waiting: what begins goes round the owners, and none runs more than may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from app import db
from app.accounts import ledger
from app.broker.jobs import job_id
from app.broker.queue import TurnQueue
from app.sessions import queries as session_queries
from app.sessions import turn_order
from app.sessions.doorbell import Doorbell
from app.sessions.turn_order import Judgement
from app.settings import Settings
from tests.factories import OWNER, make_claim, make_created, make_session, orphan, row, statements, try_claim
from tests.servers import wait_until
from tests.stage import Stage, working
from worker.orchestrator import Turn
from worker.process.sweeper import Sweeper
from worker.process.turns import Turns

pytestmark = pytest.mark.usefixtures("store")


def make_waiting(owner: str, count: int = 1) -> list[str]:
    return [make_session(owner=owner) for _ in range(count)]


def make_running(owner: str, count: int = 1) -> list[str]:
    return [make_claim(make_session(owner=owner)).session_id for _ in range(count)]


def judge(*asked: str, places: int = 1, beginning: Sequence[str] = (), most: int = 0) -> Judgement:
    return turn_order.judge(asked, places, beginning, running_per_owner=most)


# whose turn it is


def test_one_owner_alone_begins_whatever_was_rung_for() -> None:
    waiting = make_waiting("anna", 3)

    judgement = judge(waiting[2])

    assert (list(judgement.begin), judgement.later, judgement.first) == ([waiting[2]], {}, [])


def test_an_owner_of_whom_nothing_runs_comes_before_one_of_whom_much_does() -> None:
    make_running("anna", 3)
    of_anna, [of_bob] = make_waiting("anna", 2), make_waiting("bob")

    judgement = judge(of_anna[0])

    assert (judgement.begin, judgement.later, judgement.first) == ({}, {of_anna[0]: "anna"}, [of_bob])
    assert judge(of_bob).begin == {of_bob: "bob"}


def test_places_go_round_the_owners() -> None:
    of_anna, of_bob, of_carl = make_waiting("anna", 6), make_waiting("bob", 2), make_waiting("carl", 1)
    asked = [*of_anna[:4], *of_bob, *of_carl]

    judgement = judge(*asked[:5])

    assert sorted(judgement.begin.values(), key=str) == ["anna", "anna", "bob"]
    assert judgement.first == [of_bob[0], of_carl[0]]


def test_no_more_of_an_owner_begin_than_may_run() -> None:
    make_running("anna", 2)
    of_anna = make_waiting("anna", 3)

    judgement = judge(*of_anna, most=3)

    assert list(judgement.begin) == of_anna[:1]
    assert list(judgement.later) == of_anna[1:]
    assert judge(of_anna[0], beginning=of_anna[1:2], most=3).begin == {}


def test_one_that_begins_and_is_claimed_counts_once() -> None:
    make_running("anna")
    of_anna = make_waiting("anna", 2)
    claimed = try_claim(of_anna[0])
    assert claimed is not None

    assert judge(of_anna[1], beginning=of_anna[:1], most=3).begin == {of_anna[1]: "anna"}


def test_the_only_owner_of_a_machine_and_one_with_a_limit_of_his_own_are_not_held_to_the_settings() -> None:
    make_running(OWNER, 2)
    make_running("anna", 2)
    ledger.add("anna", "credit", 10, unit="tokens")
    account = ledger.find("anna")
    assert account is not None
    ledger.limit(account.id, running=3, sessions=None)
    local, of_anna = make_waiting(OWNER, 2), make_waiting("anna", 2)

    judgement = judge(*local, *of_anna, most=1)

    assert set(judgement.begin) == {*local, of_anna[0]}


def test_what_a_worker_had_begun_has_its_turn() -> None:
    [begun] = make_running("anna")
    orphan(begun)
    make_running("anna", 3)
    make_waiting("bob")

    assert begun in judge(begun, most=1).begin


def test_what_waits_for_its_conversation_takes_no_place_of_others() -> None:
    first = make_created(owner="bob")
    make_claim(first.session_id)
    make_session(owner="bob", conversation_id=first.conversation_id)
    make_running("anna", 3)
    of_anna = make_waiting("anna", 2)

    assert judge(of_anna[0]).first == []


def test_while_there_are_places_for_all_whatever_was_rung_for_begins() -> None:
    make_running("anna", 9)
    of_anna = make_waiting("anna", 3)
    make_waiting("bob", 2)

    judgement = judge(*of_anna, places=5)

    assert (list(judgement.begin), judgement.first) == (of_anna, [])
    assert len(judge(*of_anna, places=4).begin) == 2


def test_a_look_is_two_statements_however_many_wait() -> None:
    make_waiting("anna", 30)
    asked = make_waiting("bob", 20)

    with db.connected(), statements() as made:
        judge(*asked, places=50)

    assert len(made) == 2


def test_unattended_sessions_of_one_owner_do_not_hide_those_of_others() -> None:
    make_waiting("anna", 5)
    [of_bob] = make_waiting("bob")

    assert of_bob in [each.session_id for each in session_queries.unattended(limit=2)]


# rings


class Rings:
    """Rings that were made, and judgements to come."""

    def __init__(self, *judgements: Judgement) -> None:
        self.rung: list[tuple[str, bool]] = []
        self.beginning: list[set[str]] = []
        self._judgements = list(judgements)

    def judge(self, asked: Any, places: int, beginning: Any, *, running_per_owner: int) -> Judgement:
        self.beginning.append(set(beginning))
        return self._judgements.pop(0)

    def ring(self, session_id: str, *, first: bool = False) -> None:
        self.rung.append((session_id, first))

    def turns(self) -> Turns:
        return Turns(Settings(), asyncio.to_thread, (), self.ring, judge=self.judge)


def test_what_has_no_turn_is_rung_for_when_something_has_ended() -> None:
    rings = Rings(Judgement({"b": "bob"}, {"a": "anna"}, ["c"]), Judgement({}, {"a": "anna"}, []))

    async def run() -> None:
        turns = rings.turns()
        assert await asyncio.gather(turns.may_begin("a"), turns.may_begin("b")) == [False, True]
        assert await turns.may_begin("a") is False
        assert rings.beginning == [set(), {"b"}]
        turns.claimed("b")

        assert turns.ended("anna") == "a"
        assert turns.ended("anna") is None

    asyncio.run(run())

    assert rings.rung == [("c", True)]


def test_a_ring_that_is_stopped_while_it_is_judged_begins_nothing() -> None:
    rings = Rings(Judgement({"b": "bob"}, {}, []), Judgement({"c": "bob"}, {}, []))

    async def run() -> None:
        turns = rings.turns()
        asked = asyncio.create_task(turns.may_begin("b"))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        await turns.may_begin("c")

        assert rings.beginning[-1] == set()

    asyncio.run(run())


def test_the_one_who_comes_first_to_the_front_is_next(redis_url: str) -> None:
    queue = TurnQueue(redis_url)
    for session_id in ("a", "b", "c"):
        queue.ring(session_id, 0)

    queue.ring("c", 0, first=True)

    assert queue._queue.get_job_ids() == [job_id(each, 0) for each in ("c", "a", "b")]


async def _until_let_go(turn: Turn) -> AsyncIterator[Any]:
    yield "begun"
    while turn.message == "wait":
        await asyncio.sleep(0.01)


def test_a_worker_begins_another_owner_while_one_waits_for_himself(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(max_running_per_owner=2)
    queue = TurnQueue(stage.settings.redis_url)
    with working(stage.settings, _until_let_go) as worker:
        held = [make_session(owner="anna", message="wait") for _ in range(2)]
        runs = [asyncio.run_coroutine_threadsafe(worker.process.answer(each), worker._loop) for each in held]
        wait_until(lambda: all(row(each).started_at for each in held), "both run")
        [third] = make_waiting("anna")
        worker.do(worker.process.answer(third))
        [of_bob] = make_waiting("bob")
        worker.do(worker.process.answer(of_bob))

        assert row(of_bob).status == "done"
        assert row(third).started_at is None
        _cancel(held[0])
        runs[0].result(30)
        wait_until(lambda: job_id(third, 0) in queue.waiting(), "it is rung for")
        worker.do(worker.process.answer(third))
        assert row(third).status == "done"
        _cancel(held[1])
        runs[1].result(30)


def _cancel(session_id: str) -> None:
    from app import sessions
    from app.events import Error

    sessions.end(session_id, Error("cancelled", "stopped"))


def test_the_sweeper_rings_for_no_more_of_an_owner_than_may_begin(redis_url: str) -> None:
    from app.broker.client import open_redis
    from app.broker.heads import Heads

    queue = TurnQueue(redis_url)
    make_running("anna")
    of_anna, of_bob = make_waiting("anna", 5), make_waiting("bob", 1)
    settings = Settings(max_running_per_owner=3)

    Sweeper("w", settings, queue, Doorbell(Heads(open_redis(redis_url)), queue)).sweep()

    assert queue.waiting() == {job_id(each, 0) for each in [*of_anna[:2], *of_bob]}
