"""Any generator can answer; it is stopped and it fails as its reader expects."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from app.errors import Invalid
from app.events import Delta, Done
from tests.turns import Recorded, make_settings, make_turn, record
from worker.callable_orchestrator import CallableOrchestrator
from worker.orchestrator import Checkpoint, Turn, TurnFailed
from worker.process.orchestrators import load


def run(function: Callable[[Turn], Any], until: Callable[[Any], bool] = lambda _: False) -> Recorded:
    return asyncio.run(_run(function, make_turn(make_settings()), until))


async def _run(function: Callable[[Turn], Any], turn: Turn, until: Callable[[Any], bool]) -> Recorded:
    return await record(CallableOrchestrator(function)(turn), until)


def no_turn_threads() -> bool:
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("turn-") for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


async def say_async(turn: Turn) -> AsyncIterator[Any]:
    yield "a"
    yield Delta("b")
    yield Done(model="mine")


def say(turn: Turn) -> Iterator[Any]:
    yield "a"
    yield Delta("b")
    yield Done(model="mine")


async def returns_a_generator(turn: Turn) -> AsyncIterator[Any]:
    return say_async(turn)


@pytest.mark.parametrize(
    "function", [say_async, say, returns_a_generator, lambda turn: ["a", Delta("b"), Done(model="mine")]]
)
def test_strings_are_deltas_and_everything_else_passes(function: Callable[[Turn], Any]) -> None:
    assert run(function).events == [Delta("a"), Delta("b"), Done(model="mine")]
    assert no_turn_threads()


@pytest.mark.parametrize("value", [None, "text", 7])
def test_a_function_that_returns_no_iterator_is_told_apart(value: Any) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        run(lambda turn: value)


def test_a_plain_generator_runs_on_one_thread_that_is_not_the_loops() -> None:
    seen: list[int] = []

    def answer(turn: Turn) -> Iterator[str]:
        for _ in range(3):
            seen.append(threading.get_ident())
            yield "x"

    run(answer)

    assert len(set(seen)) == 1
    assert threading.get_ident() not in seen


def test_a_plain_generator_waits_for_its_reader() -> None:
    made: list[int] = []

    def answer(turn: Turn) -> Iterator[str]:
        for n in range(100):
            made.append(n)
            yield "x"

    async def read_slowly() -> int:
        turn = CallableOrchestrator(answer)(make_turn(make_settings()))
        for _ in range(3):
            await anext(turn)
        await asyncio.sleep(0.1)
        so_far = len(made)
        await turn.aclose()  # type: ignore[attr-defined]
        return so_far

    assert asyncio.run(read_slowly()) == 3
    assert no_turn_threads()


def test_a_plain_generator_goes_on_after_a_checkpoint_only_when_its_reader_does() -> None:
    after: list[str] = []

    def answer(turn: Turn) -> Iterator[Any]:
        yield Checkpoint({"n": 1})
        after.append("went on")
        yield "x"

    run(answer, until=lambda event: isinstance(event, Checkpoint))

    assert after == []


def test_a_closed_plain_generator_cleans_up_on_its_thread() -> None:
    cleaned: list[int] = []

    def answer(turn: Turn) -> Iterator[str]:
        try:
            while True:
                yield "x"
        finally:
            cleaned.append(threading.get_ident())

    run(answer, until=lambda event: True)

    assert no_turn_threads()
    assert len(cleaned) == 1
    assert cleaned[0] != threading.get_ident()


def test_a_blocked_plain_generator_learns_of_a_cancel() -> None:
    took: list[float] = []

    def answer(turn: Turn) -> Iterator[str]:
        yield "x"
        started = time.monotonic()
        assert turn.cancel.wait(10)
        took.append(time.monotonic() - started)
        yield "never seen"

    async def cancel() -> float:
        started = asyncio.Event()

        async def read() -> None:
            async for _ in CallableOrchestrator(answer)(make_turn(make_settings())):
                started.set()

        task = asyncio.create_task(read())
        await started.wait()
        await asyncio.sleep(0.05)
        cancelled_at = time.monotonic()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        return time.monotonic() - cancelled_at

    # Unheard, it would wait for 10 s.
    assert asyncio.run(cancel()) < 5
    assert no_turn_threads()
    assert took[0] < 5


def test_a_thread_that_does_not_stop_is_left_to_itself(caplog: pytest.LogCaptureFixture) -> None:
    inside, release = threading.Event(), threading.Event()

    def answer(turn: Turn) -> Iterator[str]:
        yield "x"
        inside.set()
        release.wait(10)
        yield "never seen"

    async def cancel() -> float:
        turn = CallableOrchestrator(answer)(make_turn(make_settings()))
        await anext(turn)
        waiting = asyncio.create_task(anext(turn))
        assert await asyncio.to_thread(inside.wait, 10)
        started = time.monotonic()
        waiting.cancel()
        await asyncio.wait({waiting})
        return time.monotonic() - started

    try:
        assert asyncio.run(cancel()) < 5
        assert [record.message for record in caplog.records if record.name == "worker.callable_orchestrator"] == [
            "orchestrator thread does not stop"
        ]
    finally:
        release.set()
    assert no_turn_threads()


def raising(kind: str, error: BaseException | type[BaseException]) -> Callable[[Turn], Any]:
    """A generator, async or plain, that says something and then raises *error*."""

    def plain(turn: Turn) -> Iterator[str]:
        yield "said"
        raise error

    async def asynchronous(turn: Turn) -> AsyncIterator[str]:
        yield "said"
        raise error

    return plain if kind == "plain" else asynchronous


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("error", [TurnFailed("mine", "Mine."), OSError("rust")])
def test_what_it_raises_reaches_the_reader_after_what_it_said(kind: str, error: Exception) -> None:
    async def read() -> list[Any]:
        said: list[Any] = []
        try:
            async for event in CallableOrchestrator(raising(kind, error))(make_turn(make_settings())):
                said.append(event)
        except (TurnFailed, OSError) as raised:
            said.append(raised)
        return said

    assert asyncio.run(read()) == [Delta("said"), error]
    assert no_turn_threads()


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError])
def test_what_would_end_the_worker_or_look_like_a_cancel_is_a_failure(kind: str, error: type[BaseException]) -> None:
    with pytest.raises(RuntimeError, match=error.__name__):
        run(raising(kind, error))
    assert no_turn_threads()


def test_a_plain_generator_that_raises_stop_iteration_of_its_own_fails() -> None:
    def answer(turn: Turn) -> Iterator[str]:
        yield next(iter([]))

    with pytest.raises(RuntimeError, match="StopIteration"):
        run(answer)


def test_the_name_in_orchestrator_is_loaded() -> None:
    orchestrator = load(make_settings(orchestrator="tests.unit.test_callable_orchestrator:say"))

    assert isinstance(orchestrator, CallableOrchestrator)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "package.module:function"),
        ("no_such_module:answer", "no_such_module"),
        ("tests.turns:no_such_function", "no_such_function"),
        ("tests.turns:DEFAULT_AGENT", "not a function"),
    ],
)
def test_a_name_that_leads_nowhere_says_so(name: str, says: str) -> None:
    with pytest.raises(Invalid, match=says) as raised:
        load(make_settings(orchestrator=name))

    assert raised.value.detail.startswith("ORCHESTRATOR: ")
