"""The tools of an agent: Python functions, and MCP servers that its turns share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from typing import TYPE_CHECKING, Any

from pydantic_ai import FunctionToolset, RunContext
from pydantic_ai.exceptions import ToolFailed, UserError
from pydantic_ai.toolsets import AbstractToolset, CombinedToolset, ToolsetTool, WrapperToolset

from app.agents import Agent, McpServer
from app.errors import Invalid
from worker.orchestrator import Turn, TurnFailed
from worker.tools import load_tool

if TYPE_CHECKING:
    from pydantic_ai.mcp import MCPToolset

logger = logging.getLogger(__name__)

#: A server of tools may take this long to start, and a call of one of its tools to answer.
MCP_START_S = 30.0
MCP_CALL_S = 600.0
#: A server that failed a call and does not answer a ping for this long is asked again by the next turn.
MCP_PING_S = 5.0


class AgentTools:
    """One for each agent of a process.

    Raises:
        TurnFailed: `agent_misconfigured`.
    """

    def __init__(self, agent: Agent) -> None:
        try:
            self._functions: AbstractToolset[Turn] = FunctionToolset([load_tool(name) for name in agent.tools])
        except (Invalid, UserError) as error:
            raise TurnFailed(
                "agent_misconfigured", error.detail if isinstance(error, Invalid) else str(error)
            ) from error
        self._servers = [_Server(server) for server in agent.mcp_servers]

    async def enter(self, stack: contextlib.AsyncExitStack) -> AbstractToolset[Turn]:
        """The tools for one turn, which holds their servers until *stack* is closed.

        Raises:
            Exception: a server can't be reached; each transport has errors of its own.
        """
        try:
            return await self._enter(stack)
        except Exception as error:
            if not any(server.reached for server in self._servers):
                raise
            # One that died a moment ago looks alive until it is asked.
            logger.info("MCP server asked again", exc_info=error)
            for server in self._servers:
                server.suspect = True
            return await self._enter(stack)

    async def _enter(self, stack: contextlib.AsyncExitStack) -> AbstractToolset[Turn]:
        async with contextlib.AsyncExitStack() as entered:
            servers = [await server.enter(entered) for server in self._servers]
            stack.push_async_exit(entered.pop_all())
        # Of its own for each turn: one that two turns enter would be left by the last of them only.
        return CombinedToolset([self._functions, *servers])

    async def aclose(self) -> None:
        for server in self._servers:
            await server.aclose()


class _Server:
    """A server of tools; a connection that broke is replaced, however many turns still hold it."""

    def __init__(self, server: McpServer) -> None:
        self._server = server
        # Two servers may both have a `search`.
        self._prefix = re.sub(r"[^A-Za-z0-9_-]", "_", server.name)
        self._made: list[MCPToolset[Turn]] = []
        #: A call failed, and not because of its tool.
        self.suspect = False
        #: It was there at least once.
        self.reached = False
        self._lock = asyncio.Lock()

    async def enter(self, stack: contextlib.AsyncExitStack) -> AbstractToolset[Turn]:
        toolset = await self._current()
        await stack.enter_async_context(toolset)
        await toolset.list_tools()
        self.reached = True
        watched: AbstractToolset[Turn] = _Watched(toolset, self)
        return watched.prefixed(self._prefix).with_metadata(repeatable=self._server.repeatable)

    async def _current(self) -> MCPToolset[Turn]:
        async with self._lock:
            if not self._made or (self.suspect and await self._is_gone(self._made[-1])):
                self._made.append(_mcp_toolset(self._server))
            self.suspect = False
            for left in [made for made in self._made[:-1] if not made.is_running]:
                self._made.remove(left)
                await _close(left)
            return self._made[-1]

    async def _is_gone(self, toolset: MCPToolset[Turn]) -> bool:
        if not toolset.is_running:
            # It connects anew by itself.
            return False
        try:
            await asyncio.wait_for(toolset.client.ping(), MCP_PING_S)
        except TimeoutError:
            # Busy with a tool, it may be: another server beside it would not be the same.
            return False
        except Exception as error:
            logger.warning("MCP server connected anew", extra={"server": self._server.name}, exc_info=error)
            return True
        return False

    async def aclose(self) -> None:
        for toolset in self._made:
            await _close(toolset)


async def _close(toolset: MCPToolset[Turn]) -> None:
    # A client that failed to connect raises that again when it is closed, and then leaves its process behind.
    for close in (toolset.client.close, toolset.client.transport.close):
        with contextlib.suppress(Exception):
            await close()


class _Watched(WrapperToolset[Turn]):
    """Tells the server which of its calls failed for another reason than the tool's own."""

    def __init__(self, wrapped: AbstractToolset[Turn], server: _Server) -> None:
        super().__init__(wrapped)
        self._server = server

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Turn], tool: ToolsetTool[Turn]
    ) -> Any:
        try:
            return await super().call_tool(name, tool_args, ctx, tool)
        except ToolFailed:
            raise
        except Exception:
            self._server.suspect = True
            raise


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
