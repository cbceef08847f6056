"""The orchestrator on pydantic-ai: any model it supports, tools as Python functions and MCP servers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from pydantic_ai import Agent as AiAgent

from app.agents import Agent
from app.settings import Settings
from worker.orchestrator import Asked, Checkpoint, Turn, Yielded

from .checkpoint import Progress
from .model_calls import ModelCalls
from .provider_limits import ProviderLimits
from .providers import Providers
from .tool_threads import ToolThreads
from .toolsets import AgentTools
from .turn import EngineTurn

logger = logging.getLogger(__name__)

#: Events that may wait between the model and the caller before the model has to wait as well.
MAX_WAITING = 8

_Say = Callable[[Yielded], Awaitable[None]]


class Engine:
    """One for a process; calling it answers a turn.

    Connections to models and MCP servers are shared by all turns and belong to the loop of the first one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._providers = Providers(settings)
        self._limits = ProviderLimits()
        self._agents: dict[int, tuple[Agent, AgentTools]] = {}
        # Not anyio's: that one has 40 threads, and a cancelled turn would wait for its tool to return.
        self._threads = ToolThreads()

    async def __call__(self, turn: Turn) -> AsyncIterator[Yielded]:
        """Answer *turn*; see `worker.orchestrator` for what is yielded.

        Raises:
            TurnFailed: with the codes of `worker.engine.failures`, `empty_answer`, `tools_unavailable` or
                `agent_misconfigured`.
        """
        channel = _Channel()
        # A task of its own: the caller may take each event in another task, which cancel scopes don't survive.
        task = asyncio.create_task(self._answer(turn, channel.say))
        task.add_done_callback(channel.end)
        try:
            while (item := await channel.take()) is not None:
                yield item
                channel.taken(item)
            if task.cancelled():
                # The caller did not cancel it, so this must not look like a stop.
                raise RuntimeError("the turn was cancelled from within")
            await task
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                # Looked at, or asyncio would complain of a failure that came after the turn was closed.
                task.exception()

    async def aclose(self) -> None:
        """Close connections and end MCP servers. No turn may run any more."""
        for _, built in self._agents.values():
            await built.aclose()
        await self._providers.aclose()

    async def _answer(self, turn: Turn, say: _Say) -> None:
        agent = self._tools(turn.agent)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(AiAgent.using_thread_executor(self._threads))
            tools = await agent.enter(stack)
            progress = Progress.from_state(turn.checkpoint)
            models = ModelCalls(turn, self._providers, self._limits, progress, say)
            await EngineTurn(turn, models, tools, progress, say).go_on()

    def _tools(self, agent: Agent) -> AgentTools:
        known = self._agents.get(agent.id)
        if known is None or known[0] != agent:
            known = self._agents[agent.id] = (agent, AgentTools(agent, self._settings.max_content_bytes))
        return known[1]


class _Channel:
    """Hands what one task says to another, a bounded number of events ahead.

    `say` of a checkpoint returns when the taker asks for the next item: by then it is committed. That of a model
    request does so too: by then it may be made.
    """

    def __init__(self) -> None:
        self._waiting: deque[Yielded] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._taken = asyncio.Event()
        self._ended = False

    async def say(self, item: Yielded) -> None:
        await self._room.wait()
        self._waiting.append(item)
        if len(self._waiting) >= MAX_WAITING:
            self._room.clear()
        self._changed.set()
        if isinstance(item, Checkpoint | Asked):
            self._taken.clear()
            await self._taken.wait()

    async def take(self) -> Yielded | None:
        """The next event, or None after the last one."""
        while not self._waiting:
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        item = self._waiting.popleft()
        self._room.set()
        return item

    def taken(self, item: Yielded) -> None:
        if isinstance(item, Checkpoint | Asked):
            self._taken.set()

    def end(self, _: object) -> None:
        self._ended = True
        self._changed.set()
