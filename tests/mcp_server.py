"""A server of tools for tests: `python -m tests.mcp_server` over stdio, `… --http [port]` on a port that it prints."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

import anyio
import uvicorn
from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("sample", log_level="WARNING")


@server.tool()
def shout(text: str) -> str:
    """Says it loudly."""
    return text.upper()


@server.tool()
def fail(reason: str) -> str:
    """Always fails."""
    raise ToolError(reason)


@server.tool()
async def wait() -> str:
    """Never returns."""
    await anyio.sleep_forever()
    return "never"


@server.tool()
def die() -> str:
    """Ends the server."""
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@server.tool(structured_output=False)
def picture() -> list[object]:
    """A picture and what it shows."""
    return [Image(data=b"\x89PNG\r\n\x1a\n", format="png"), "a cat"]


@server.tool()
def whoami() -> str:
    """The process of the server, and a variable of its environment."""
    return f"{os.getpid()} {os.environ.get('SAMPLE', '')}"


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    if "--http" not in sys.argv:
        server.run("stdio")
        return
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0))
    # Before the port is told: whoever reads it may connect at once.
    sock.listen(64)
    print(sock.getsockname()[1], flush=True)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    config = uvicorn.Config(server.streamable_http_app(), log_level="error", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run([sock])


if __name__ == "__main__":
    main()
