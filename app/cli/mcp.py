"""The command line's MCP server: desktop clients and other agents ask, over stdio, and the run is the server's.

A client of the API like the others: what it asks goes on when it, or the program that started it, ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import click
from pydantic import Field

from ..api_client import ApiError, Json, Server, Unreachable

#: Longest that one call waits for a run: clients give up after a minute or so.
MOST_WAIT_S = 50
_Wait = Annotated[float, Field(ge=0, le=MOST_WAIT_S, description="Seconds to wait for its end.")]
_INSTRUCTIONS = (
    "Runs live on the server: they go on when a call ends. While a run's status is 'running' call get_run with its"
    " session_id; cancel_run ends it and keeps what there is of the answer."
)


@click.command()
@click.pass_obj
def mcp(server: Server) -> None:
    """Serve the tools ask, get_run and cancel_run over standard input and output, for MCP clients."""
    # It takes a second to import, which no other command waits for.
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    tools = MCPServer("backchat", instructions=_INSTRUCTIONS, log_level="WARNING")

    async def call(work: Callable[..., Json], *arguments: Any, **fields: Any) -> Json:
        try:
            return await asyncio.to_thread(work, *arguments, **fields)
        except (ApiError, Unreachable) as error:
            # Of any other error the client is told nothing.
            raise ToolError(str(error)) from error

    @tools.tool()
    async def ask(message: str, conversation_id: str | None = None, wait_s: _Wait = MOST_WAIT_S) -> Json:
        """Have the server's agent answer a message; a conversation_id (any UUID) goes on with that conversation."""
        started = await call(server.start, message, conversationId=conversation_id)
        return _shown(await call(server.wait, started["sessionId"], wait_s))

    @tools.tool()
    async def get_run(session_id: str, wait_s: _Wait = 0) -> Json:
        """The status of a run, and its answer when it has ended."""
        return _shown(await call(server.wait, session_id, wait_s))

    @tools.tool()
    async def cancel_run(session_id: str) -> Json:
        """End a run; what there is of its answer is kept."""
        return _shown(await call(server.cancel, session_id))

    tools.run("stdio")


def _shown(row: Json) -> Json:
    names = {
        "session_id": "sessionId",
        "conversation_id": "conversationId",
        "status": "status",
        "answer": "finalResponse",
        "error_code": "errorCode",
        "error_message": "errorMessage",
    }
    return {name: row[field] for name, field in names.items() if row[field] is not None}
