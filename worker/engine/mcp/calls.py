"""One call of a tool of an MCP server: what it gives to the model, and what its failures mean."""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS, CallToolResult, ImageContent, TextContent
from pydantic_ai import BinaryImage
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_core import SchemaValidator, core_schema

from worker.engine.whole_text import whole

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from .connection import Connection
    from .servers import Server

#: A call may take this long to answer.
CALL_S = 600.0
#: What the client says when an HTTP server does not know its session any more.
_SESSION_OVER = "Session terminated"

#: An object, which some models leave out when there is nothing in it.
ARGUMENTS = SchemaValidator(core_schema.nullable_schema(core_schema.dict_schema(core_schema.str_schema())))


def is_closed(error: MCPError) -> bool:
    """*error* says that the connection is closed; servers use its code for other things."""
    return error.error.code == CONNECTION_CLOSED and error.error.message == "Connection closed"


def what_happened(error: MCPError) -> str | None:
    """Where *error* is the client's own, what the server did."""
    if is_closed(error) or error.error.message.startswith("SSE stream "):
        return "ended, or closed the connection, before it answered"
    if error.error.message.startswith("Redirect to "):
        # It names the address.
        return "redirects to another address"
    return None


async def call(server: Server, connection: Connection, tool: str, arguments: dict[str, Any]) -> Any:
    """What the *tool* answers: text, or a list with pictures.

    Raises:
        ToolFailed: the tool or its server failed.
        ModelRetry: it was called wrongly.
    """
    try:
        async with asyncio.timeout(CALL_S):
            result = await _asked(server, connection, tool, whole(arguments))
    except MCPError as error:
        server.suspect = True
        if error.error.code == INVALID_PARAMS:
            raise ModelRetry(error.error.message) from error
        happened = what_happened(error)
        raise ToolFailed(f"The server of tools {happened}." if happened else error.error.message) from error
    except TimeoutError as error:
        server.suspect = True
        raise ToolFailed(f"The tool did not answer within {CALL_S:g} s.") from error
    except Exception as error:
        server.suspect = True
        logger.warning("MCP answer can't be read", extra={"tool": tool}, exc_info=error)
        raise ToolFailed("The tool's answer can't be read.") from error
    content = _content(result)
    if result.is_error:
        parts = content if isinstance(content, list) else [content]
        said = "\n".join(part for part in parts if isinstance(part, str))
        raise ToolFailed(said or "The tool failed and did not say why.")
    return content


async def _asked(server: Server, connection: Connection, tool: str, arguments: Any) -> CallToolResult:
    if connection.is_usable:
        try:
            return await connection.call(tool, arguments)
        except MCPError as error:
            if error.error.message != _SESSION_OVER:
                raise
            # It did not look at the call.
            connection.is_useless = True
    async with server.held() as fresh:
        return await fresh.call(tool, arguments)


def _content(result: CallToolResult) -> str | list[str | BinaryImage]:
    texts: list[str] = []
    parts: list[str | BinaryImage] = []
    for block in result.content:
        if isinstance(block, ImageContent):
            parts.append(BinaryImage(data=base64.b64decode(block.data), media_type=block.mime_type))
        elif isinstance(block, TextContent):
            texts.append(block.text)
            parts.append(block.text)
    return "\n".join(texts) if len(texts) == len(parts) else parts
