"""The tools of an agent: Python functions, and MCP servers that its turns share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from pydantic_ai import FunctionToolset
from pydantic_ai.exceptions import UserError
from pydantic_ai.toolsets import AbstractToolset, CombinedToolset

from app.agents import Agent
from app.errors import Invalid
from worker.orchestrator import Turn, TurnFailed
from worker.tools import load_tool

if TYPE_CHECKING:
    from .mcp.servers import Server, Unavailable

logger = logging.getLogger(__name__)

#: A server of tools may take this long to start.
MCP_START_S = 30.0


class AgentTools:
    """One for each agent of a process. Results of its servers may have *max_bytes*.

    Raises:
        TurnFailed: `agent_misconfigured`.
    """

    def __init__(self, agent: Agent, max_bytes: int) -> None:
        try:
            functions = [load_tool(name) for name in agent.tools]
            self._functions: AbstractToolset[Turn] = FunctionToolset(functions)
        except (Invalid, UserError) as error:
            raise TurnFailed(
                "agent_misconfigured", error.detail if isinstance(error, Invalid) else str(error)
            ) from error
        names = [server.name for server in agent.mcp_servers]
        if len(names) != len(set(names)):
            raise TurnFailed("agent_misconfigured", "Two servers of tools have the same name.")
        self._agent = agent
        self._servers: list[Server] = []
        if agent.mcp_servers:
            # A quarter of the engine's import time: only for agents that use it.
            from .mcp.servers import Server

            taken = {function.name for function in functions}
            self._servers = [Server(agent.mcp_servers, n, agent.id, taken, max_bytes) for n in range(len(names))]

    async def enter(self, stack: contextlib.AsyncExitStack) -> AbstractToolset[Turn]:
        """The tools for one turn, which holds their servers until *stack* is closed.

        Servers that can't be used are left out, unless none can or one of them is required.

        Raises:
            TurnFailed: `tools_unavailable`.
        """
        if not self._servers:
            return self._functions
        found: dict[int, AbstractToolset[Turn]] = {}
        failed: dict[int, Unavailable] = {}
        async with asyncio.TaskGroup() as tasks:
            for number, server in enumerate(self._servers):
                tasks.create_task(self._enter(number, server, stack, found, failed))
        if failed and (not found or any(self._servers[number].required for number in failed)):
            raise TurnFailed("tools_unavailable", " ".join(str(failed[number]) for number in sorted(failed)))
        # Of its own for each turn: one that two turns enter would be left by the last of them only.
        return CombinedToolset([self._functions, *(found[number] for number in sorted(found))])

    async def _enter(
        self,
        number: int,
        server: Server,
        stack: contextlib.AsyncExitStack,
        found: dict[int, AbstractToolset[Turn]],
        failed: dict[int, Unavailable],
    ) -> None:
        from .mcp.servers import Unavailable

        may_rest = not server.required and len(self._servers) > 1
        try:
            found[number] = await server.enter(stack, MCP_START_S, may_rest)
        except Unavailable as error:
            failed[number] = error
            logger.warning("MCP server unavailable", extra={"agent": self._agent.id}, exc_info=error)

    async def aclose(self) -> None:
        for server in self._servers:
            await server.aclose()
