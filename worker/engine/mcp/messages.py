"""The messages of MCP servers as they come in: whatever can be understood is, and the rest hurts nobody."""

from __future__ import annotations

import json
import re

from mcp_types import (
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    jsonrpc_message_adapter,
)

from worker.engine.whole_text import whole_text

#: JSON that is nested deeper is cut there: readers of JSON give up on it.
MAX_DEPTH = 150
#: To cut takes a second for each 5 MB.
_MAX_DEEP_BYTES = 1024 * 1024
#: Of a line that is too long, this much of its start and of its end is kept.
_KEPT_BYTES = 4096
#: Notifications that mean something to us; servers may send any number of the others.
_HEARD = frozenset({"notifications/tools/list_changed", "notifications/cancelled"})

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)
_KEY = re.compile(rb'"(id|result|error|method|params)"\s*:\s*(\d{1,18}\b|"[^"\\]{1,100}")?')
_LAST_ID = re.compile(rb'"id"\s*:\s*(\d{1,18}|"[^"\\]{1,100}")\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?}\s*$')


class Lines:
    """Cuts bytes into lines. Of a line over *limit* bytes the start and the end are kept, and that it was longer."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._end = b""

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        """The lines that *chunk* ends, and whether each was too long."""
        lines = []
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            self._add(part)
            lines.append(self._take())
        self._add(rest)
        return lines

    def flush(self) -> list[tuple[bytes, bool]]:
        """What followed the last end of a line."""
        return [self._take()] if self._size else []

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self._limit:
            self._parts.append(part)
            return
        if self._parts and len(self._parts[0]) != _KEPT_BYTES:
            whole = b"".join(self._parts) + part
            self._parts, part = [whole[:_KEPT_BYTES]], whole[_KEPT_BYTES:]
        elif not self._parts:
            self._parts, part = [part[:_KEPT_BYTES]], part[_KEPT_BYTES:]
        self._end = (self._end + part)[-_KEPT_BYTES:]

    def _take(self) -> tuple[bytes, bool]:
        line, too_long = b"".join(self._parts) + self._end, self._size > self._limit
        self._parts, self._size, self._end = [], 0, b""
        return line.rstrip(b"\r"), too_long


def read(raw: bytes) -> list[JSONRPCMessage]:
    """The messages that *raw* holds: none if it is noise, several if it is a batch.

    An answer that makes no sense is the answer that it makes none: its request must not wait for another.
    """
    try:
        return [jsonrpc_message_adapter.validate_json(raw, by_name=False)]
    except ValueError as error:
        is_deep = "recursion limit" in str(error)
    if not raw.strip() or raw.lstrip(b" \t\r\xef\xbb\xbf")[:1] not in (b"{", b"["):
        return []
    if is_deep and len(raw) > _MAX_DEEP_BYTES:
        return refusal(raw, "The server's answer is nested too deeply.")
    text = raw.decode("utf-8", "replace").lstrip("\ufeff")
    text = _without_depths(text) if is_deep else text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return refusal(raw, "The server's answer is no JSON.")
    items = value if isinstance(value, list) else [value]
    try:
        return [message for item in items if (message := _message(item)) is not None]
    except (ValueError, RecursionError):
        return refusal(raw, "The server's answer is nested too deeply.")


def refusal(raw: bytes, why: str) -> list[JSONRPCMessage]:
    """An error in place of the answer that *raw*, or what is left of it, seems to be."""
    if b'"jsonrpc"' not in raw:
        return []
    first = _KEY.search(raw)
    if first is None or first[1] in (b"method", b"params"):
        return []
    last = _LAST_ID.search(raw[-_KEPT_BYTES:])
    asked = first[2] if first[1] == b"id" else last[1] if last else None
    if not asked:
        return []
    return [JSONRPCError(jsonrpc="2.0", id=json.loads(asked), error=ErrorData(code=PARSE_ERROR, message=why))]


def is_heard(message: JSONRPCMessage) -> bool:
    """*message* means something to us."""
    return not isinstance(message, JSONRPCNotification) or message.method in _HEARD


def _message(item: object) -> JSONRPCMessage | None:
    if not isinstance(item, dict):
        return None
    number, method, result, error = (item.get(key) for key in ("id", "method", "result", "error"))
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    known = isinstance(number, (int, str)) and not isinstance(number, bool)
    message: dict[str, object] = {"jsonrpc": "2.0"} | ({"id": number} if known else {})
    if isinstance(method, str):
        params = item.get("params")
        message |= {"method": method} | ({"params": params} if isinstance(params, dict) else {})
    elif not known or ("jsonrpc" not in item and not isinstance(result, dict)):
        # A line of a log, it may be.
        return None
    elif isinstance(error, (dict, str)):
        said = error if isinstance(error, dict) else {"message": error}
        code = said.get("code")
        message["error"] = {
            "code": code if isinstance(code, int) and not isinstance(code, bool) else PARSE_ERROR,
            "message": str(said.get("message") or "The server answered with an error."),
        }
    elif isinstance(result, dict):
        message["result"] = result
    else:
        message["error"] = {"code": PARSE_ERROR, "message": "The server's answer holds no result."}
    # Halves of characters: nothing that is sent or stored can hold them.
    text = whole_text(json.dumps(message, ensure_ascii=False))
    return jsonrpc_message_adapter.validate_json(text, by_name=False)


def _without_depths(text: str) -> str:
    """*text*, which is JSON, with null in place of what is nested too deeply."""
    kept, depth, start = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in ("{", "["):
            depth += 1
            if depth == MAX_DEPTH:
                kept += [text[start : token.start()], "null"]
        elif token[0] in ("}", "]"):
            if depth == MAX_DEPTH:
                start = token.end()
            depth -= 1
    return "".join([*kept, text[start:]]) if kept else text
