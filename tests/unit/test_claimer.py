"""The claimer gathers what is asked for at the same time: with a `take` that can be held or broken."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from app.errors import DatabaseUnavailable
from app.sessions.claims import Claim
from app.settings import Settings
from worker.process.claimer import AT_ONCE, Claimer

THREADS = 4


class Sessions:
    """Those that can be taken, once each; a test may hold the answer or have some refused."""

    def __init__(self, *session_ids: str) -> None:
        self.free = set(session_ids)
        self.refused: dict[str, Exception] = {}
        #: Left out, or waited for until the event.
        self.locked: dict[str, threading.Event] = {}
        self.calls: list[list[str]] = []
        self.handed_back: list[str] = []
        self.open = threading.Event()
        self.open.set()

    def take(self, session_ids: Sequence[str], worker: str, **limits: Any) -> tuple[list[Claim], list[str]]:
        self.calls.append(list(session_ids))
        assert self.open.wait(30)
        for session_id in session_ids:
            if session_id in self.refused:
                raise self.refused[session_id]
        if limits["wait"] and session_ids[0] in self.locked:
            assert self.locked[session_ids[0]].wait(30)
            del self.locked[session_ids[0]]
        held_up = [session_id for session_id in session_ids if session_id in self.locked]
        taken = [session_id for session_id in session_ids if session_id in self.free - set(held_up)]
        self.free -= set(taken)
        claims = [
            Claim(n, session_id, None, "local", 1, "demo", "Hello?", 1, 0, None, 0, float(limits["turn_timeout_s"]))
            for n, session_id in enumerate(taken)
        ]
        return claims, held_up

    def hand_back(self, claim: Claim) -> bool:
        self.handed_back.append(claim.session_id)
        return True

    @contextmanager
    def held(self) -> Iterator[None]:
        self.open.clear()
        try:
            yield
        finally:
            self.open.set()


def run(sessions: Sessions, script: Callable[[Claimer], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        with ThreadPoolExecutor(THREADS) as threads:

            async def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
                return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)

            claimer = Claimer("worker-1", Settings(), in_thread, take=sessions.take, hand_back=sessions.hand_back)
            async with asyncio.timeout(30):
                await script(claimer)
                await claimer.close()

    asyncio.run(main())


async def called(sessions: Sessions, times: int) -> None:
    while len(sessions.calls) < times:
        await asyncio.sleep(0.001)


def test_what_is_asked_for_meanwhile_goes_into_the_next_transaction() -> None:
    sessions = Sessions("a", "b", "c")

    async def script(claimer: Claimer) -> None:
        with sessions.held():
            asked = [asyncio.create_task(claimer.claim("a"))]
            await called(sessions, 1)
            asked += [asyncio.create_task(claimer.claim(each)) for each in ("b", "unknown", "c")]
            await asyncio.sleep(0)
        claims = await asyncio.gather(*asked)
        assert [claim and claim.session_id for claim in claims] == ["a", "b", None, "c"]

    run(sessions, script)

    assert sessions.calls == [["a"], ["b", "unknown", "c"]]


def test_a_session_that_two_ask_for_is_given_to_one_of_them() -> None:
    sessions = Sessions("a")

    async def script(claimer: Claimer) -> None:
        claims = await asyncio.gather(*(claimer.claim("a") for _ in range(3)))
        assert [claim and claim.session_id for claim in claims] == ["a", None, None]
        assert await claimer.claim("a") is None

    run(sessions, script)

    assert sessions.calls == [["a"], ["a"]]
    assert sessions.handed_back == []


def test_one_transaction_takes_a_limited_number() -> None:
    names = [f"session-{n}" for n in range(AT_ONCE * 2 + 1)]
    sessions = Sessions(*names)

    async def script(claimer: Claimer) -> None:
        claims = await asyncio.gather(*(claimer.claim(name) for name in names))
        assert [claim and claim.session_id for claim in claims] == names

    run(sessions, script)

    assert [len(call) for call in sessions.calls] == [AT_ONCE, AT_ONCE, 1]


@pytest.mark.parametrize("error", [ValueError("refused"), DatabaseUnavailable("the database is busy")])
def test_one_that_can_not_be_taken_does_not_keep_the_others_from_it(error: Exception) -> None:
    sessions = Sessions("a", "b", "c")
    sessions.refused["b"] = error

    async def script(claimer: Claimer) -> None:
        asked = (claimer.claim(each) for each in ("a", "b", "c"))
        first, second, third = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(first, Claim)
        assert second is error
        assert isinstance(third, Claim)
        del sessions.refused["b"]
        assert await claimer.claim("b") is not None

    run(sessions, script)


def test_nobody_else_waits_for_one_that_somebody_has_locked() -> None:
    sessions = Sessions("a", "b", "c")
    unlocked = sessions.locked["b"] = threading.Event()

    async def script(claimer: Claimer) -> None:
        first, locked = (asyncio.create_task(claimer.claim(each)) for each in ("a", "b"))
        assert await first is not None
        await called(sessions, 2)
        assert await claimer.claim("c") is not None
        assert not locked.done()
        unlocked.set()
        assert await locked is not None

    run(sessions, script)

    assert sessions.calls == [["a", "b"], ["b"], ["c"]]


def test_nobody_waits_for_one_that_was_asked_for_alone_and_is_locked() -> None:
    sessions = Sessions("a", "b")
    unlocked = sessions.locked["a"] = threading.Event()

    async def script(claimer: Claimer) -> None:
        locked = asyncio.create_task(claimer.claim("a"))
        await called(sessions, 2)
        assert await claimer.claim("b") is not None
        assert not locked.done()
        unlocked.set()
        assert await locked is not None

    run(sessions, script)

    assert sessions.calls == [["a"], ["a"], ["b"]]


def test_one_that_somebody_has_locked_is_handed_back_when_nobody_waits_for_it_any_more() -> None:
    sessions = Sessions("a", "b")
    unlocked = sessions.locked["b"] = threading.Event()

    async def script(claimer: Claimer) -> None:
        first, locked = (asyncio.create_task(claimer.claim(each)) for each in ("a", "b"))
        await first
        await called(sessions, 2)
        locked.cancel()
        await asyncio.wait([locked])
        unlocked.set()

    run(sessions, script)

    assert sessions.handed_back == ["b"]


def test_a_worker_that_stops_does_not_wait_for_locks_that_it_had_not_waited_for_yet() -> None:
    names = [f"session-{n}" for n in range(THREADS + 2)]
    sessions = Sessions(*names)
    unlocked = threading.Event()
    sessions.locked = dict.fromkeys(names, unlocked)

    async def script(claimer: Claimer) -> None:
        asked = [asyncio.create_task(claimer.claim(name)) for name in names]
        await called(sessions, 1 + THREADS)
        for each in asked:
            each.cancel()
        await asyncio.wait(asked)
        unlocked.set()

    run(sessions, script)

    # Each on a thread of its own: which of them is first is the system's choice.
    assert sorted(call for call in sessions.calls if len(call) == 1) == [[name] for name in names[:THREADS]]
    assert sorted(sessions.handed_back) == names[:THREADS]


def test_a_claim_that_nobody_waits_for_any_more_is_handed_back() -> None:
    sessions = Sessions("a", "b")

    async def script(claimer: Claimer) -> None:
        with sessions.held():
            first, second = (asyncio.create_task(claimer.claim(each)) for each in ("a", "b"))
            await called(sessions, 1)
            first.cancel()
            await asyncio.wait([first])
        assert (await second) is not None

    run(sessions, script)

    assert sessions.handed_back == ["a"]


def test_a_claim_given_to_somebody_who_is_stopped_in_that_moment_is_handed_back() -> None:
    sessions = Sessions("a", "b", "c")

    async def script(claimer: Claimer) -> None:
        async def stop_the_others() -> None:
            assert await claimer.claim("a") is not None
            # They have their answers as well, and have not gone on.
            for other in others:
                other.cancel()

        first = asyncio.create_task(stop_the_others())
        others = [asyncio.create_task(claimer.claim(each)) for each in ("b", "unknown")]
        await asyncio.wait([first, *others])
        assert all(other.cancelled() for other in others)
        assert await claimer.claim("c") is not None

    run(sessions, script)

    assert sessions.calls[0] == ["a", "b", "unknown"]
    assert sessions.handed_back == ["b"]


def test_whoever_was_stopped_before_the_look_costs_nothing() -> None:
    sessions = Sessions("a", "b")

    async def script(claimer: Claimer) -> None:
        with sessions.held():
            first = asyncio.create_task(claimer.claim("a"))
            await called(sessions, 1)
            second = asyncio.create_task(claimer.claim("b"))
            await asyncio.sleep(0)
            second.cancel()
            await asyncio.wait([second])
        await first

    run(sessions, script)

    assert sessions.calls == [["a"]]


@pytest.mark.parametrize("error", [ValueError("refused"), DatabaseUnavailable("the database can't be reached")])
def test_a_hand_back_that_fails_ends_nothing(error: Exception) -> None:
    sessions = Sessions("a", "b")

    def away(claim: Claim) -> bool:
        raise error

    sessions.hand_back = away  # type: ignore[method-assign]

    async def script(claimer: Claimer) -> None:
        with sessions.held():
            first = asyncio.create_task(claimer.claim("a"))
            await called(sessions, 1)
            first.cancel()
            await asyncio.wait([first])
        assert (await claimer.claim("b")) is not None

    run(sessions, script)
