"""The MCP servers of an agent: their connections, which turns share, and their tools as a model sees them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import Tool
from pydantic_ai import RunContext
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool

from app.agents import McpServer
from worker.orchestrator import Turn
from worker.tool_names import offered_name

from .calls import ARGUMENTS, call, what_happened
from .connection import Connection
from .http import OURS

logger = logging.getLogger(__name__)

#: A server that failed a call and does not answer a ping for this long is asked again by the next turn.
PING_S = 5.0
#: A server that did not answer is left out of the turns of this time, where they can do without it.
REST_S = 60.0
#: What is said once is remembered up to here: a server may invent new tools for ever.
_MAX_TOLD = 5_000


class Unavailable(Exception):
    """A server can't be used; the message is a sentence for the user, and the cause has the details."""


class Server:
    """One of an *agent*'s servers; a connection that broke is replaced, however many turns still hold it."""

    def __init__(
        self, servers: Sequence[McpServer], index: int, agent: int, functions: Collection[str], max_bytes: int
    ) -> None:
        self._server = servers[index]
        self._names = [server.name for server in servers]
        self._index = index
        self._agent = agent
        self._functions = functions
        self._max_bytes = max_bytes
        self._made: list[Connection] = []
        self._lock = asyncio.Lock()
        #: It may speak a protocol without a handshake, which old servers may not even refuse.
        self._probe = True
        #: A call failed, and not because of its tool.
        self.suspect = False
        #: It was there at least once.
        self._reached = False
        self._rests_until = 0.0
        self._told: set[tuple[str, str, str]] = set()

    @property
    def required(self) -> bool:
        return self._server.required

    async def enter(self, stack: contextlib.AsyncExitStack, start_s: float, may_rest: bool) -> AbstractToolset[Turn]:
        """The tools for one turn, which holds the server until *stack* is closed.

        Raises:
            Unavailable: it can't be used.
        """
        now = asyncio.get_running_loop().time()
        if may_rest and now < self._rests_until:
            raise Unavailable(f'The server of tools "{self._server.name}" did not answer a moment ago.')
        try:
            # Turns wait for each other's start of a server: the limit is for all of that.
            async with asyncio.timeout(start_s):
                return await self._enter_again(stack)
        except Exception as error:
            if isinstance(error, TimeoutError):
                self._rests_until = asyncio.get_running_loop().time() + REST_S
            raise Unavailable(f'The server of tools "{self._server.name}" {_why(error, start_s)}.') from error

    async def _enter_again(self, stack: contextlib.AsyncExitStack) -> AbstractToolset[Turn]:
        try:
            return await self._enter(stack)
        except Exception as error:
            if not self._reached or isinstance(error, TimeoutError):
                raise
            # One that died a moment ago looks alive until it is asked.
            logger.info("MCP server asked again", extra={"server": self._server.name}, exc_info=error)
            self.suspect = True
            return await self._enter(stack)

    async def _enter(self, stack: contextlib.AsyncExitStack) -> AbstractToolset[Turn]:
        async with contextlib.AsyncExitStack() as entered:
            connection = await entered.enter_async_context(self.held())
            try:
                tools = await connection.tools()
            except BaseException:
                connection.is_useless = connection.users == 1
                raise
            stack.push_async_exit(entered.pop_all())
        self._reached = True
        return _ServerTools(self, connection, self._offered(tools), self._server.repeatable)

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[Connection]:
        """A connection that is open as long as the context lasts."""
        connection = await self._current()
        try:
            yield connection
        finally:
            connection.users -= 1
            # A process goes on to be there for the next turn; a session over HTTP is made quickly.
            kept = self._server.url is None and connection in self._made[-1:] and connection.is_usable
            if not connection.users:
                # The next turn asks anew, and so finds out whether the server is still there.
                connection.forget()
                if not kept:
                    await self._close(connection)

    async def _current(self) -> Connection:
        async with self._lock:
            last = self._made[-1] if self._made else None
            if last is None or not last.is_usable or (self.suspect and await self._is_gone(last)):
                last = await self._opened()
                self._made.append(last)
            self.suspect = False
            last.users += 1
            try:
                for left in [made for made in self._made if made is not last and not made.users]:
                    await self._close(left)
            except BaseException:
                last.users -= 1
                raise
            return last

    async def _opened(self) -> Connection:
        connection = Connection(self._server, self._max_bytes, self._tell)
        try:
            self._probe = await connection.open(self._probe)
            return connection
        except OSError:
            raise
        except Exception:
            probed, self._probe = self._probe, True
            if not probed or self._server.url is not None:
                raise
        # Some end when the first thing that they are told is no handshake.
        connection = Connection(self._server, self._max_bytes, self._tell)
        await connection.open(probe=False)
        self._probe = False
        return connection

    async def _is_gone(self, connection: Connection) -> bool:
        try:
            await asyncio.wait_for(connection.ping(), PING_S)
        except TimeoutError:
            # Busy with a tool, it may be: another server beside it would not be the same.
            return False
        except Exception as error:
            logger.warning("MCP server connected anew", extra={"server": self._server.name}, exc_info=error)
            return True
        return False

    async def _close(self, connection: Connection) -> None:
        if connection in self._made:
            self._made.remove(connection)
        await connection.close()

    async def aclose(self) -> None:
        for connection in list(self._made):
            await self._close(connection)

    def _offered(self, tools: Sequence[Tool]) -> dict[str, Tool]:
        """*tools* by the names that the model sees."""
        offered: dict[str, Tool] = {}
        for tool in tools:
            name = offered_name(self._names, self._index, tool.name, self._functions)
            if name in offered or name in self._functions:
                self._tell(tool.name, "left out", f"another tool is called {name}")
                continue
            offered[name] = tool
            if not name.endswith(f"_{tool.name}"):
                self._tell(tool.name, f"renamed to {name}", "models can't be told its name, or it is another tool's")
        return offered

    def _tell(self, tool: str, what: str, why: str) -> None:
        """Say in the log, once, what was done with a *tool*."""
        if (tool, what, why) in self._told or len(self._told) > _MAX_TOLD:
            return
        self._told.add((tool, what, why))
        known = {"agent": self._agent, "server": self._server.name, "tool": tool[:200]}
        logger.warning("MCP tool %s", what, extra=known | {"why": why})


class _ServerTools(AbstractToolset[Turn]):
    """The tools of a server for one turn."""

    def __init__(self, server: Server, connection: Connection, tools: dict[str, Tool], repeatable: bool) -> None:
        self._server = server
        self._connection = connection
        self._tools = tools
        self._repeatable = repeatable

    @property
    def id(self) -> None:
        return None

    async def get_tools(self, ctx: RunContext[Turn]) -> dict[str, ToolsetTool[Turn]]:
        return {name: self._tool(name, tool) for name, tool in self._tools.items()}

    def _tool(self, name: str, tool: Tool) -> ToolsetTool[Turn]:
        definition = ToolDefinition(
            name=name,
            description=tool.description,
            parameters_json_schema=tool.input_schema,
            metadata={"repeatable": self._repeatable},
        )
        return ToolsetTool(toolset=self, tool_def=definition, max_retries=0, args_validator=ARGUMENTS)

    async def call_tool(
        self, name: str, tool_args: dict[str, Any] | None, ctx: RunContext[Turn], tool: ToolsetTool[Turn]
    ) -> Any:
        return await call(self._server, self._connection, self._tools[name].name, tool_args or {})


def _why(error: BaseException, start_s: float) -> str:
    """What happened to a server, without its own words: they may hold secrets."""
    if isinstance(error, TimeoutError):
        return f"did not answer within {start_s:g} s"
    if isinstance(error, OSError):
        return f"can't be started: {error.strerror or type(error).__name__}"
    if isinstance(error, MCPError):
        if error.error.data == OURS:
            return f"can't be used: {error.error.message.rstrip('.')}"
        return what_happened(error) or "answered with an error"
    if isinstance(error, RuntimeError) and "protocol version" in str(error):
        return "speaks a version of MCP that is not supported"
    return "sent what is not understood"
