import secrets

from mcp.server.mcpserver import MCPServer

server = MCPServer("dice")


@server.tool()
def roll(sides: int = 6) -> int:
    """Throw one die."""
    return 1 + secrets.randbelow(sides)


if __name__ == "__main__":
    server.run()
