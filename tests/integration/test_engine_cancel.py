"""Closing a turn stops it wherever it is, and the model with it."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.events import Delta
from tests import sample_tools
from tests.model_server import ModelServer
from tests.turns import answer, make_agent, make_settings, make_turn, record, with_engine
from worker.orchestrator import Checkpoint

APIS = ["openai-chat", "openai"]
STREAMING = {"steps": [{"repeat": {"text": "word ", "count": 1000, "every": 0.02}}]}
WAITING = {"fault": {"stall": True}}


@pytest.fixture
def _release() -> Iterator[None]:
    sample_tools.release.clear()
    yield
    sample_tools.release.set()


async def until_true(holds: Callable[[], Any], timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.01)


async def cancel(task: asyncio.Task[Any]) -> float:
    """Cancel *task*; how long it took to end, in seconds."""
    started = time.monotonic()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    return time.monotonic() - started


@pytest.mark.parametrize("api", APIS)
def test_closing_a_streaming_turn_closes_the_model_connection(model_server: ModelServer, api: str) -> None:
    settings = make_settings(model_server)
    model = model_server.add({"answers": [STREAMING]})

    async def close(engine: Any) -> float:
        await record(engine(make_turn(settings, f"{api}:{model}")), lambda event: isinstance(event, Delta))
        return time.time()

    closed_at = with_engine(settings, close)

    [request] = model_server.wait_closed(model)
    assert request["how"] == "client_closed"
    assert abs(request["closed_at"] - closed_at) < 2


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("script", [STREAMING, WAITING], ids=["streaming", "waiting"])
def test_cancelling_the_task_of_a_turn_closes_the_model_connection(
    model_server: ModelServer, api: str, script: dict[str, Any]
) -> None:
    settings = make_settings(model_server)
    model = model_server.add({"answers": [script]})

    async def close(engine: Any) -> tuple[float, float]:
        task = asyncio.create_task(record(engine(make_turn(settings, f"{api}:{model}"))))
        await until_true(lambda: model_server.requests(model))
        await asyncio.sleep(0.1)
        cancelled_at = time.time()
        return cancelled_at, await cancel(task)

    cancelled_at, took = with_engine(settings, close)

    [request] = model_server.wait_closed(model)
    assert request["how"] == "client_closed"
    assert request["closed_at"] - cancelled_at < 2
    assert took < 2


def test_a_hundred_cancels_all_close_their_connections_within_a_second(model_server: ModelServer) -> None:
    settings = make_settings(model_server)
    # Slow streams: the time that the server needs to notice is part of what is measured.
    slowly = {"steps": [{"repeat": {"text": "word ", "count": 1000, "every": 0.25}}]}
    models = [model_server.add({"answers": [slowly]}) for _ in range(100)]

    async def close(engine: Any) -> list[float]:
        streaming: list[Any] = []

        async def stream(model: str) -> None:
            turn = make_turn(settings, f"openai-chat:{model}")
            await record(engine(turn), lambda event: (isinstance(event, Delta) and streaming.append(event)) or False)

        tasks = [asyncio.create_task(stream(model)) for model in models]
        await until_true(lambda: len(streaming) >= len(models), timeout_s=30)
        cancelled_at = []
        for task in tasks:
            task.cancel()
            cancelled_at.append(time.time())
            await asyncio.sleep(0.02)
        await asyncio.wait(tasks)
        return cancelled_at

    cancelled_at = with_engine(settings, close)

    waits = [
        model_server.wait_closed(model)[0]["closed_at"] - at for model, at in zip(models, cancelled_at, strict=True)
    ]
    assert statistics.quantiles(waits, n=100)[98] < 1.0


@pytest.mark.usefixtures("_release")
@pytest.mark.parametrize("tool", ["slow", "blocking"])
def test_a_turn_inside_a_tool_stops_at_once(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    runs = sample_tools.count_runs(monkeypatch)
    settings = make_settings(model_server)
    steps = [{"tool": {"index": 0, "id": "a", "name": tool, "arguments": '{"name": "x"}'}}]
    model = model_server.add({"answers": [{"steps": steps}]})
    agent = make_agent(tools=(f"tests.sample_tools:{tool}",))

    async def close(engine: Any) -> float:
        task = asyncio.create_task(record(engine(make_turn(settings, f"openai-chat:{model}", agent=agent))))
        await until_true(lambda: runs)
        return await cancel(task)

    # It would last 10 s or longer.
    assert with_engine(settings, close) < 5


def test_a_turn_that_waits_to_try_again_stops_at_once(model_server: ModelServer) -> None:
    settings = make_settings(model_server)
    model = model_server.add({"answers": [{"fault": {"status": 429, "headers": {"Retry-After": "20"}}}]})

    async def close(engine: Any) -> float:
        task = asyncio.create_task(record(engine(make_turn(settings, f"openai-chat:{model}"))))
        await until_true(lambda: model_server.requests(model))
        return await cancel(task)

    # It would last 10 s or longer.
    assert with_engine(settings, close) < 5


def test_a_turn_may_be_taken_and_closed_from_different_tasks(model_server: ModelServer) -> None:
    settings = make_settings(model_server)
    steps = [{"tool": {"index": 0, "id": "a", "name": "calculate", "arguments": '{"expression": "1"}'}}]
    model = model_server.add({"answers": [{"steps": steps}, STREAMING]})

    async def close(engine: Any) -> list[Any]:
        turn = engine(make_turn(settings, f"openai-chat:{model}"))
        events: list[Any] = []
        while not events or not isinstance(events[-1], Delta):
            events.append(await asyncio.create_task(anext(turn)))
        await asyncio.create_task(turn.aclose())
        return events

    events = with_engine(settings, close)

    assert sum(isinstance(event, Checkpoint) for event in events) == 2
    assert model_server.wait_closed(model, count=2)[1]["how"] == "client_closed"


def test_a_turn_that_fails_after_it_was_closed_leaves_no_complaint(model_server: ModelServer) -> None:
    settings = make_settings(model_server)
    steps = [{"text": "Half"}, {"delay": 0.2}, {"cut": True}]
    model = model_server.add({"answers": [{"steps": steps}]})
    complaints: list[Any] = []

    async def close_late(engine: Any) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        turn = engine(make_turn(settings, f"openai-chat:{model}"))
        await anext(turn)
        await asyncio.sleep(0.7)
        await turn.aclose()

    with_engine(settings, close_late)
    gc.collect()

    assert complaints == []


def test_a_turn_that_nobody_stopped_does_not_end_as_cancelled(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancelled(self: Any) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr("worker.engine.turn.EngineTurn.go_on", cancelled)

    with pytest.raises(RuntimeError, match="from within"):
        answer(make_settings(model_server), "openai-chat:any")
