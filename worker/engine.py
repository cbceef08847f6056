"""The orchestrator on pydantic-ai: any model it supports, tools as Python functions and MCP servers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pydantic_ai import Agent as AiAgent
from pydantic_ai import FunctionToolset
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.toolsets import AbstractToolset, CombinedToolset

from app.agents import Agent, McpServer
from app.errors import Invalid
from app.settings import Settings

from .engine_turn import EngineTurn
from .model_failures import pause_before_retry_s, turn_failed
from .orchestrator import Checkpoint, Turn, TurnFailed, Yielded
from .providers import Providers
from .tools import load_tool

if TYPE_CHECKING:
    from pydantic_ai.mcp import MCPToolset

logger = logging.getLogger(__name__)

#: Events that may wait between the model and the caller before the model has to wait as well.
MAX_WAITING = 8
#: A server of tools may take this long to start, and a call of one of its tools to answer.
MCP_START_S = 30.0
MCP_CALL_S = 600.0

_Say = Callable[[Yielded], Awaitable[None]]


class Engine:
    """One for a process; calling it answers a turn.

    Connections to models and MCP servers are shared by all turns and belong to the loop of the first one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._providers = Providers(settings)
        self._agents: dict[int, tuple[Agent, _Agent]] = {}
        # Not anyio's: that one has 40 threads, and a cancelled turn would wait for its tool to return.
        self._threads = ThreadPoolExecutor(settings.worker_concurrency, thread_name_prefix="tool")

    async def __call__(self, turn: Turn) -> AsyncIterator[Yielded]:
        """Answer *turn*; see `worker.orchestrator` for what is yielded.

        Raises:
            TurnFailed: with the codes of `worker.model_failures`, `empty_answer`, `tools_unavailable` or
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
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, turn: Turn, say: _Say) -> None:
        agent = self._agent(turn.agent)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(AiAgent.using_thread_executor(self._threads))
            try:
                await stack.enter_async_context(agent.tools)
            except Exception as error:
                logger.warning("MCP server unavailable", exc_info=error)
                raise TurnFailed("tools_unavailable", "A server of tools can't be reached.") from error
            attempt = EngineTurn(turn, self._providers.model(turn.model), agent.tools, say)
            tries = 1
            while True:
                try:
                    await attempt.go_on()
                    return
                except AgentRunError as error:
                    pause_s = pause_before_retry_s(error, tries)
                    if attempt.shown or pause_s is None:
                        raise turn_failed(error) from error
                    tries += 1
                    await asyncio.sleep(pause_s)

    def _agent(self, agent: Agent) -> _Agent:
        known = self._agents.get(agent.id)
        if known is None or known[0] != agent:
            known = self._agents[agent.id] = (agent, _Agent(agent))
        return known[1]


class _Agent:
    """The tools of an agent."""

    def __init__(self, agent: Agent) -> None:
        try:
            tools: list[AbstractToolset[Turn]] = [FunctionToolset([load_tool(name) for name in agent.tools])]
        except Invalid as error:
            raise TurnFailed("agent_misconfigured", error.detail) from error
        self._mcp = [_mcp_toolset(server) for server in agent.mcp_servers]
        for server, toolset in zip(agent.mcp_servers, self._mcp, strict=True):
            # Two servers may both have a `search`.
            prefix = re.sub(r"[^A-Za-z0-9_-]", "_", server.name)
            tools.append(toolset.prefixed(prefix).with_metadata(repeatable=server.repeatable))
        self.tools: AbstractToolset[Turn] = CombinedToolset(tools)

    async def aclose(self) -> None:
        for toolset in self._mcp:
            # A client that failed to connect raises that again when it is closed, and then leaves its process behind.
            for close in (toolset.client.close, toolset.client.transport.close):
                with contextlib.suppress(Exception):
                    await close()


def _mcp_toolset(server: McpServer) -> MCPToolset[Turn]:
    # Half of the engine's import time and memory: only for agents that use it.
    from pydantic_ai.mcp import MCPToolset

    if server.url is not None:
        from fastmcp.client.transports import StreamableHttpTransport

        transport: Any = StreamableHttpTransport(server.url, headers=dict(server.headers))
    else:
        from fastmcp.client.transports import StdioTransport

        transport = StdioTransport(server.command or "", list(server.args), env=dict(server.env) or None)
    return MCPToolset(
        transport, id=server.name, tool_error_behavior="failed", init_timeout=MCP_START_S, read_timeout=MCP_CALL_S
    )


class _Channel:
    """Hands what one task says to another, a bounded number of events ahead.

    A checkpoint is said when its taker came back for more: by then it is committed.
    """

    def __init__(self) -> None:
        self._waiting: deque[Yielded] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._committed = asyncio.Event()
        self._ended = False

    async def say(self, item: Yielded) -> None:
        await self._room.wait()
        self._waiting.append(item)
        if len(self._waiting) >= MAX_WAITING:
            self._room.clear()
        self._changed.set()
        if isinstance(item, Checkpoint):
            self._committed.clear()
            await self._committed.wait()

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
        if isinstance(item, Checkpoint):
            self._committed.set()

    def end(self, _: object) -> None:
        self._ended = True
        self._changed.set()
