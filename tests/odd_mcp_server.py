"""An MCP server on bare JSON-RPC that misbehaves as its mode, or the tool that is called, says.

`python tests/odd_mcp_server.py MODE` over stdio; `tests.odd_mcp_http` is the same over HTTP. It imports little: it is
started often.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
HANG, DIE = "hang", "die"
#: What the server asks of the client.
ASKED = ("sampling/createMessage", "roots/list", "elicitation/create", "ping", "no/such/method")

#: Tools whose call is odd, and the content of what they answer.
CONTENT: dict[str, list[Any]] = {
    "picture": [
        {"type": "text", "text": "a cat"},
        {"type": "image", "data": base64.b64encode(PNG).decode(), "mimeType": "image/png"},
    ],
    "sound": [{"type": "audio", "data": "AAEC", "mimeType": "audio/wav"}],
    "blob": [{"type": "resource", "resource": {"uri": "a:b", "blob": "AAEC", "mimeType": "application/zip"}}],
    "link": [{"type": "resource_link", "uri": "a:b", "name": "report"}],
    "hologram": [{"type": "hologram", "data": "AAEC"}],
    "empty": [],
    "nul": [{"type": "text", "text": "nul \x00"}],
    "large": [{"type": "text", "text": "y" * 100_000}],
    "huge": [{"type": "text", "text": "y" * 300_000}],
}
#: Raw results.
RESULTS: dict[str, bytes] = {
    "bad_utf8": b'{"content":[{"type":"text","text":"caf\xe9"}]}',
    "half": rb'{"content":[{"type":"text","text":"half \ud83d of it"}]}',
    "deep": b'{"content":[],"structuredContent":{"a":%s1%s}}' % (b"[" * 500, b"]" * 500),
    "structured": b'{"content":[],"structuredContent":{"n":"many"}}',
    "no_content": b"{}",
    "is_error": b'{"isError":true,"content":[{"type":"text","text":"disk on fire"}]}',
    "no_result": b"null",
    "no_json": b'{"content":tru}',
}
PLAIN = ["plain", "bad_notification", "noise", "progress", "twice", "unknown_ids", "asks", "list_changed"]
PLAIN += ["rpc_error", "wrong_arguments", HANG, DIE]


def raw(**message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0"} | message).encode()


def tool(name: Any, schema: Any = None) -> dict[str, Any]:
    return {"name": name, "inputSchema": schema or {"type": "object", "properties": {}}}


class Odd:
    """One server; *mode* is how it starts and what it lists."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._first = True
        self._changed = False
        #: What the client answered to what it was asked.
        self.told: dict[str, str] = {}
        self.was_told = threading.Condition()

    def replies(self, message: dict[str, Any]) -> Iterator[bytes | str]:
        """What is said to *message*: raw messages, or an end."""
        method, number = message.get("method", ""), message.get("id")
        first, self._first = self._first, False
        if not method:
            with self.was_told:
                self.told[str(number)] = "error" if "error" in message else "ok"
                self.was_told.notify_all()
        elif number is None:
            pass
        elif method == "initialize":
            yield from self._handshake(number, message["params"]["protocolVersion"])
        elif first and self._mode == "handshake_first":
            yield DIE
        elif method == "tools/list":
            yield from self._tools(number, message.get("params") or {})
        elif method == "tools/call":
            yield from self._call(number, message["params"]["name"])
        elif method == "ping":
            yield raw(id=number, result={})
        else:
            yield raw(id=number, error={"code": -32601, "message": "no such method"})

    def _handshake(self, number: object, version: str) -> Iterator[bytes | str]:
        result: dict[str, Any] = {
            "protocolVersion": {"old": "2024-11-05", "odd": "1999-01-01"}.get(self._mode, version),
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "odd", "version": "0"},
        }
        if self._mode in ("hang_init", "die_init"):
            yield self._mode.partition("_")[0]
        elif self._mode == "bare":
            yield raw(id=number, result={"protocolVersion": version, "capabilities": None})
        else:
            yield raw(id=number, result=result)

    def _tools(self, number: object, params: dict[str, Any]) -> Iterator[bytes | str]:
        tools = [tool(name) for name in (*PLAIN, *CONTENT, *RESULTS)]
        more: dict[str, Any] = {}
        if self._mode in ("hang_list", "die_list"):
            yield self._mode.partition("_")[0]
            return
        if self._mode == "error_list":
            yield raw(id=number, error={"code": -32603, "message": "key=hidden"})
            return
        if self._mode == "pages":
            tools, more = ([tool("second")], {}) if params.get("cursor") else ([tool("first")], {"nextCursor": "2"})
        elif self._mode == "pages_forever":
            page = int(params.get("cursor", 0))
            tools, more = [tool(f"tool{page}")], {"nextCursor": str(page + 1)}
        elif self._mode == "same_page":
            more = {"nextCursor": "again"}
        elif self._mode == "names":
            tools = [tool(name) for name in ("ok", "a.b", "a/b", "größe", "x" * 90, "with space", "", 7, "ok")]
        elif self._mode == "schemas":
            tools = [
                tool("ok"),
                {"name": "none"},
                tool("text", {"type": "string"}),
                tool("odd", {"required": "x"}),
                None,
            ]
        elif self._changed:
            tools = [tool("new")]
        yield raw(id=number, result={"tools": tools} | more)

    def _call(self, number: object, name: str) -> Iterator[bytes | str]:
        if name in (HANG, DIE):
            yield name
            return
        if name == "rpc_error":
            yield raw(id=number, error={"code": -32603, "message": "boom"})
            return
        if name == "wrong_arguments":
            yield raw(id=number, error={"code": -32602, "message": "x is missing"})
            return
        said = f"{name} says hello"
        if name == "bad_notification":
            yield b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"caf\xe9"}}'
        elif name == "noise":
            yield from (b"DEBUG calling", b'{"level":"info","id":1}', b"", b"[1, 2", b"\xff\xfe\x00")
        elif name == "progress":
            for n in range(1_000):
                yield raw(method="notifications/progress", params={"progressToken": "x", "progress": n})
        elif name == "unknown_ids":
            yield from (raw(id=other, result={"content": "wrong"}) for other in (999, "x"))
        elif name == "list_changed":
            self._changed = True
            yield raw(method="notifications/tools/list_changed")
        elif name == "asks":
            for n, method in enumerate(ASKED):
                yield raw(id=f"asked-{n}", method=method, params=ASK_PARAMS.get(method, {}))
            with self.was_told:
                self.was_told.wait_for(lambda: len(self.told) == len(ASKED), 20)
            said = " ".join(self.told[f"asked-{n}"] for n in range(len(ASKED)))
        result = RESULTS.get(name)
        if result is None:
            result = json.dumps({"content": CONTENT.get(name, [{"type": "text", "text": said}])}).encode()
        answer = b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (json.dumps(number).encode(), result)
        yield answer
        if name == "twice":
            yield answer


ASK_PARAMS: dict[str, Any] = {
    "sampling/createMessage": {"messages": [], "maxTokens": 5},
    "elicitation/create": {"message": "Name?", "requestedSchema": {"type": "object", "properties": {}}},
}


#: Modes in which it prints as fast as it can, beside its answers.
FLOODS = {
    "floods_stderr": b"password=hunter2 and more and more\n" * 1000,
    "floods_messages": raw(method="notifications/progress", params={"progressToken": "x", "progress": 1}) + b"\n",
}


def flood(mode: str, lock: threading.Lock) -> None:
    out = sys.stderr.buffer if mode == "floods_stderr" else sys.stdout.buffer
    while True:
        # No answer comes in between two halves of this.
        with lock:
            out.write(FLOODS[mode])
            out.flush()


def main(mode: str) -> None:
    if mode == "exit":
        sys.exit(3)
    odd, lock = Odd(mode), threading.Lock()
    if mode in FLOODS:
        threading.Thread(target=flood, args=(mode, lock), daemon=True).start()
    if mode == "noisy":
        sys.stdout.buffer.write(b"d\xe9marrage\nServer started\n{\n")

    def say(line: bytes) -> None:
        message = json.loads(line)
        for reply in odd.replies(message):
            if isinstance(reply, str):
                if reply == DIE:
                    os._exit(1)
                return
            with lock:
                # In two writes: a reader must not rely on whole lines.
                for part in (reply[: len(reply) // 2], reply[len(reply) // 2 :] + b"\n"):
                    sys.stdout.buffer.write(part)
                    sys.stdout.buffer.flush()

    for line in sys.stdin.buffer:
        threading.Thread(target=say, args=(line,), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
