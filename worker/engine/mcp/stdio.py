"""MCP over the standard streams of a process that the worker starts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import INVALID_PARAMS, ErrorData, JSONRPCError, JSONRPCMessage, JSONRPCRequest

from app.agents import McpServer

from ..redaction import redacted
from .messages import Lines, is_heard, read, refusal

logger = logging.getLogger(__name__)

_Sent = MemoryObjectSendStream[SessionMessage | Exception]
_Received = MemoryObjectReceiveStream[SessionMessage | Exception]

_CHUNK_BYTES = 64 * 1024
#: What a server prints on stderr is read so often, and so many lines of it go into the log each time.
_TOLD_EVERY_S = 0.1
_TOLD_LINES = 50
#: A server that should end has this long, twice: after its input was closed, and after SIGTERM.
END_S = 2.0


@contextlib.asynccontextmanager
async def stdio_streams(
    server: McpServer, max_bytes: int
) -> AsyncIterator[tuple[_Received, MemoryObjectSendStream[SessionMessage]]]:
    """Start *server*, and end it with all of its children. An answer over *max_bytes* is refused.

    The client's own transport ends a connection, or lets a request wait for ever, over a line that is not UTF-8.

    Raises:
        OSError: it can't be started.
    """
    process = await asyncio.create_subprocess_exec(
        server.command or "",
        *server.args,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=get_default_environment() | server.env,
        start_new_session=True,
    )
    incoming, heard = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    say, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    reading = asyncio.create_task(_read(process, incoming, max_bytes, server.name))
    writing = asyncio.create_task(_write(process, outgoing, incoming))
    telling = asyncio.create_task(_tell(process, server.name))
    try:
        yield heard, say
    finally:
        heard.close()
        say.close()
        # A process must not be left behind because the caller is cancelled.
        with anyio.CancelScope(shield=True):
            for task in (reading, writing, telling):
                task.cancel()
            await asyncio.wait({reading, writing, telling})
            await _end(process)


async def _read(process: Process, incoming: _Sent, max_bytes: int, name: str) -> None:
    assert process.stdout is not None
    lines, noise = Lines(max_bytes), False
    with incoming:
        while True:
            chunk = await process.stdout.read(_CHUNK_BYTES)
            for line, too_long in lines.feed(chunk) if chunk else lines.flush():
                messages = refusal(line, f"The answer is larger than {max_bytes} bytes.") if too_long else read(line)
                if not messages and line.strip() and not noise:
                    noise = True
                    logger.info("MCP server prints what is no message", extra={"server": name})
                for message in filter(is_heard, messages):
                    try:
                        await incoming.send(SessionMessage(message))
                    except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                        return
            if not chunk:
                return


async def _tell(process: Process, name: str) -> None:
    """Log what it prints on stderr: a flood on the worker's own would stop the worker at its next line of log."""
    assert process.stderr is not None
    rest = b""
    while chunk := await process.stderr.read(_CHUNK_BYTES):
        # Whole lines only: a key that is cut in two is not known as one.
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[:_CHUNK_BYTES]
        for line in lines[:_TOLD_LINES]:
            said = redacted(line.decode("utf-8", "replace").strip())
            logger.info("MCP server says", extra={"server": name, "text": said})
        # Meanwhile one that floods waits.
        await asyncio.sleep(_TOLD_EVERY_S)


async def _write(process: Process, outgoing: MemoryObjectReceiveStream[SessionMessage], incoming: _Sent) -> None:
    assert process.stdin is not None
    with outgoing:
        async for item in outgoing:
            try:
                text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
            except ValueError as error:
                await _refuse(item.message, str(error), incoming)
                continue
            try:
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()
            except OSError:
                # It closed its input. What it still says is read; its end is seen there.
                return


async def _refuse(message: JSONRPCMessage, why: str, incoming: _Sent) -> None:
    if isinstance(message, JSONRPCRequest):
        error = ErrorData(code=INVALID_PARAMS, message=why)
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            await incoming.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=message.id, error=error)))


async def _end(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    # A server that is stuck in a write can't see that its input was closed.
    draining = {asyncio.create_task(_drain(stream)) for stream in (process.stdout, process.stderr)}
    if not await _has_ended(process):
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            if not await _has_ended(process) and number == signal.SIGKILL:
                logger.warning("MCP server does not end", extra={"pid": process.pid})
    for task in draining:
        task.cancel()
    await asyncio.wait(draining)
    # A child that left its group may hold the other ends of the pipes.
    process._transport.close()  # type: ignore[attr-defined]


async def _drain(stream: asyncio.StreamReader | None) -> None:
    assert stream is not None
    while await stream.read(_CHUNK_BYTES):
        pass


async def _has_ended(process: Process) -> bool:
    # Not by process.wait(): that waits for the pipes as well, which a child of it may hold.
    deadline = asyncio.get_running_loop().time() + END_S
    while process.returncode is None and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - no other event
        await asyncio.sleep(0.01)
    return process.returncode is not None
