"""Tools that live in MCP servers, over stdio and streamable HTTP: whatever a server sends costs no more than itself.

    servers      the servers of an agent, which turns share, and their tools as a model sees them
    calls        one call of a tool
    connection   the client of MCP over `stdio` or `http`
    messages     what comes in, read as far as it can be understood
    results      what is answered, and the `schemas` of tools, mended before the client reads them

Nothing is imported here: only agents with servers need it.
"""
