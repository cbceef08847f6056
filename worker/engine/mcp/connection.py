"""One connection to an MCP server: the client of MCP, with what servers answer mended before it reads it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp_types import CallToolResult, PaginatedRequestParams, Tool, ToolListChangedNotification
from pydantic import ValidationError

from app.agents import McpServer

from .calls import CALL_S, is_closed
from .http import TolerantClient
from .results import MAX_PAGES, MAX_TOOLS, Tell, mended
from .stdio import stdio_streams

#: A server may take this long to accept a connection.
_CONNECT_S = 30.0


class Connection:
    """Is open from `open` to `close`; tells a tool that is mended or left out to *tell*."""

    def __init__(self, server: McpServer, max_bytes: int, tell: Tell) -> None:
        self._server = server
        self._max_bytes = max_bytes
        self._tell = tell
        self._session: ClientSession | None = None
        self._tools: list[Tool] | None = None
        self._listing = asyncio.Lock()
        self._changes = 0
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._ended = asyncio.Event()
        #: How many turns use it.
        self.users = 0
        #: It does not say what it offers, or knows its session no more.
        self.is_useless = False

    @property
    def is_usable(self) -> bool:
        return not self._ended.is_set() and not self.is_useless

    async def open(self, probe: bool) -> bool:
        """Connect; whether the server speaks a protocol without a handshake, which is tried first if *probe*.

        Raises:
            Exception: it can't be started or reached, or speaks no MCP.
        """
        started: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(started))
        # Looked at, or asyncio would complain of a connection that broke later.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            both: set[asyncio.Future[Any]] = {self._task, started}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not started.done():
                # It could not be started, and raises why.
                await self._task
            session = await started
            if not (probe and await _is_modern(session)):
                await session.initialize()
            self._session = session
        except BaseException:
            started.cancel()
            await self.close()
            raise
        return session.initialize_result is None

    async def tools(self) -> list[Tool]:
        """What the server offers; asked for anew after it said that the list had changed."""
        async with self._listing:
            if self._tools is None:
                changes, found = self._changes, await self._list()
                if changes != self._changes:
                    return found
                self._tools = found
            return self._tools

    def forget(self) -> None:
        """Ask for the tools anew."""
        self._tools = None
        self._changes += 1

    async def _list(self) -> list[Tool]:
        assert self._session is not None
        found: list[Tool] = []
        params, cursors = None, set[str]()
        for _ in range(MAX_PAGES):
            page = await self._session.list_tools(params=params)
            found += page.tools
            cursor = page.next_cursor
            if cursor is None or cursor in cursors:
                break
            cursors.add(cursor)
            params = PaginatedRequestParams(cursor=cursor)
        else:
            self._tell("", "left out", f"the list has more than {MAX_PAGES} pages")
        if len(found) > MAX_TOOLS:
            self._tell(found[MAX_TOOLS].name, "left out", f"the server has more than {MAX_TOOLS} tools")
        return found[:MAX_TOOLS]

    async def call(self, name: str, arguments: dict[str, Any]) -> CallToolResult:
        """Raises:
        Exception: the server answered with an error, or not at all.
        """
        assert self._session is not None
        return await self._session.call_tool(name, arguments)

    async def ping(self) -> None:
        assert self._session is not None
        await self._session.send_ping()

    async def close(self) -> None:
        self._closing.set()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self, started: asyncio.Future[ClientSession]) -> None:
        # One task opens and closes what it holds: cancel scopes do not go from one task to another.
        async with self._streams() as (read, write):
            dispatcher: Any = _Dispatcher(read, write, self._tell, self._ended)
            async with ClientSession(dispatcher=dispatcher, message_handler=self._heard) as session:
                if not started.done():
                    started.set_result(session)
                ended = asyncio.create_task(self._ended.wait())
                closing = asyncio.create_task(self._closing.wait())
                await asyncio.wait({ended, closing}, return_when=asyncio.FIRST_COMPLETED)
                for task in (ended, closing):
                    task.cancel()
                await asyncio.wait({ended, closing})

    @contextlib.asynccontextmanager
    async def _streams(self) -> AsyncIterator[tuple[Any, Any]]:
        if self._server.url is None:
            async with stdio_streams(self._server, self._max_bytes) as streams:
                yield streams
            return
        timeout = httpx2.Timeout(_CONNECT_S, read=CALL_S)
        async with (
            TolerantClient(self._max_bytes, headers=self._server.headers, timeout=timeout, verify=_tls()) as client,
            streamable_http_client(
                self._server.url, http_client=client, max_sse_event_size=2 * self._max_bytes
            ) as streams,
        ):
            yield streams

    async def _heard(self, message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            self.forget()


@functools.cache
def _tls() -> ssl.SSLContext:
    """Made once: to read the certificates holds up the loop for 25 ms."""
    return httpx2.create_ssl_context()


class _Dispatcher:
    """The client's own, with results mended, and its end told."""

    def __init__(self, read: Any, write: Any, tell: Tell, ended: asyncio.Event) -> None:
        self._dispatcher = JSONRPCDispatcher(read, write)
        self._tell = tell
        self._ended = ended

    async def run(self, *args: Any, **options: Any) -> None:
        try:
            await self._dispatcher.run(*args, **options)
        finally:
            self._ended.set()

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        try:
            result = await self._dispatcher.send_raw_request(method, params, opts)
        except MCPError as error:
            if is_closed(error):
                # Whoever hears it may come before the end of `run`.
                self._ended.set()
            raise
        return mended(method, result, self._tell)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        await self._dispatcher.notify(method, params, opts)


async def _is_modern(session: ClientSession) -> bool:
    """The server speaks a protocol without a handshake."""
    try:
        await session.discover()
    except (MCPError, ValidationError, RuntimeError):
        return False
    return True
