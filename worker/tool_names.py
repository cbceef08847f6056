"""The names under which a model sees the tools of MCP servers."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Sequence

#: What every model provider takes.
VALID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MAX_CHARS = 64


def prefix(server: str) -> str:
    """What the names of a server's tools begin with: two servers may both have a `search`."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", server)


def offered_name(servers: Sequence[str], index: int, tool: str, functions: Collection[str] = ()) -> str:
    """The name of a *tool* of the *index*-th of an agent's *servers*: `server_tool` where that is possible.

    A name that providers refuse, or that could mean a tool of another server or one of the *functions*, is made
    valid and gets a mark of its own. It depends on nothing that may change between two attempts at a turn, such as
    what else the servers offer: a call in a checkpoint must never reach another tool.
    """
    own = prefix(servers[index])
    plain = f"{own}_{tool}"
    if VALID.fullmatch(plain) and plain not in functions and not _is_of_another(servers, index, plain):
        return plain
    return _marked(f"{own}_{tool}", f"{servers[index]}\0{tool}")


def function_name(name: str) -> str:
    """The name of a Python function as providers take it: `größe` is one as well."""
    return name if VALID.fullmatch(name) else _marked(name, name)


def _marked(name: str, origin: str) -> str:
    """*name* made valid, with a mark that no other *origin* has."""
    mark = hashlib.sha256(origin.encode("utf-8", "replace")).hexdigest()[:8]
    # Letters without their accents can still be read.
    letters = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", letters)
    return f"{readable[: _MAX_CHARS - len(mark) - 1]}_{mark}"


def _is_of_another(servers: Sequence[str], index: int, name: str) -> bool:
    own = prefix(servers[index])
    for at, server in enumerate(servers):
        other = prefix(server)
        if at != index and name.startswith(f"{other}_") and (len(other), -at) > (len(own), -index):
            return True
    return False
