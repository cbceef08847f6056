"""Turns to give to an orchestrator, and what it yields."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from app.agents import DEFAULT_AGENT, Agent
from app.events import Delta, Done, Thinking, ToolCall
from app.settings import Settings
from tests.model_server import ModelServer
from worker.engine.engine import Engine
from worker.orchestrator import Checkpoint, Turn, TurnFailed


@dataclass
class Recorded:
    """All that a turn yielded, and how it ended."""

    events: list[Any] = field(default_factory=list)
    failure: TurnFailed | None = None

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def text(self) -> str:
        return "".join(event.content for event in self.of(Delta))

    @property
    def thinking(self) -> str:
        return "".join(event.content for event in self.of(Thinking))

    @property
    def done(self) -> Done:
        assert self.failure is None, self.failure
        [done] = self.of(Done)
        assert self.events[-1] is done
        return done

    @property
    def failed(self) -> str:
        assert self.failure is not None
        assert not self.of(Done)
        return self.failure.code

    @property
    def checkpoints(self) -> list[Any]:
        return [checkpoint.state for checkpoint in self.of(Checkpoint)]

    def calls(self, tool_call_id: str) -> list[ToolCall]:
        return [event for event in self.of(ToolCall) if event.tool_call_id == tool_call_id]


async def record(turns: AsyncIterator[Any], until: Callable[[Any], bool] = lambda _: False) -> Recorded:
    """Take everything, or all up to the first event that *until* holds for, and then close the turn."""
    recorded = Recorded()
    try:
        async for event in turns:
            recorded.events.append(event)
            if until(event):
                break
    except TurnFailed as failure:
        recorded.failure = failure
    finally:
        await turns.aclose()  # type: ignore[attr-defined]
    return recorded


def make_settings(server: ModelServer | None = None, **fields: Any) -> Settings:
    if server is not None:
        fields = {"openai_api_key": "secret-key", "openai_base_url": server.url} | fields
    return Settings(**fields)


def make_agent(**fields: Any) -> Agent:
    return DEFAULT_AGENT.model_copy(update=fields)


def make_turn(settings: Settings, model: str = "demo", message: str = "Hello?", **fields: Any) -> Turn:
    fields = {"session_id": "s-1", "conversation_id": "c-1", "agent": DEFAULT_AGENT} | fields
    return Turn(message=message, model=model, settings=settings, **fields)


def with_engine(settings: Settings, use: Callable[[Engine], Awaitable[Any]]) -> Any:
    """Run *use* with an engine of its own, and see that it leaves no task behind."""

    async def run() -> Any:
        engine = Engine(settings)
        try:
            return await use(engine)
        finally:
            await engine.aclose()
            # One that is about to end has until then; one that goes on is a leak.
            if left := asyncio.all_tasks() - {asyncio.current_task()}:
                _, left = await asyncio.wait(left, timeout=1)
            assert not left, left

    return asyncio.run(run())


def answer(settings: Settings, model: str, **fields: Any) -> Recorded:
    """What one turn yields."""
    return with_engine(settings, lambda engine: record(engine(make_turn(settings, model, **fields))))
