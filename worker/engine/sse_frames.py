"""Cuts the bytes of a stream into server-sent events, whatever its server does with line ends, marks and comments."""

from __future__ import annotations

import json

_BOM = b"\xef\xbb\xbf"
#: Larger events are not what a model says.
MAX_EVENT_BYTES = 32 * 1024 * 1024


class EventTooLarge(Exception):
    """A server sent more than `MAX_EVENT_BYTES` without an end."""


class SseFrames:
    """Takes the bytes of one stream as the network cut them and gives whole events back, without comments."""

    def __init__(self) -> None:
        self._tail = b""
        self._began = False

    def feed(self, data: bytes) -> list[bytes]:
        """The events that *data* completes: their lines, joined by `\\n`.

        Raises:
            EventTooLarge: it does not end.
        """
        buffer = self._tail + data
        if not self._began:
            if _BOM.startswith(buffer[:3]) and len(buffer) < 3:
                self._tail = buffer
                return []
            self._began = True
            buffer = buffer.removeprefix(_BOM)
        half = b""
        if b"\r" in buffer:
            # A line ends with either or both; the other half of the last one may be still to come.
            half = b"\r" if buffer.endswith(b"\r") else b""
            buffer = buffer.removesuffix(half).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = buffer.rfind(b"\n\n")
        if end < 0:
            end = _end_of_lines(buffer)
        if end < 0:
            self._tail = buffer + half
            if len(self._tail) > MAX_EVENT_BYTES:
                raise EventTooLarge
            return []
        self._tail = buffer[end:].lstrip(b"\n") + half
        events: list[bytes] = []
        for block in buffer[:end].split(b"\n\n"):
            events += _events(block.strip(b"\n"))
        return events

    def finish(self) -> list[bytes]:
        """What is left when the stream ends without the blank line after its last event."""
        return self.feed(b"\n\n") if self._tail.strip() else []


def _end_of_lines(buffer: bytes) -> int:
    """Where the last event of a server begins that ends its events with one line end; -1: it does not."""
    end = buffer.rfind(b"\ndata:")
    return end if end >= 0 and _is_whole(buffer.partition(b"\n")[0]) else -1


def _events(block: bytes) -> list[bytes]:
    if block.startswith(b":") or b"\n:" in block:
        # Comments keep connections alive; they say nothing.
        block = b"\n".join(line for line in block.split(b"\n") if not line.startswith(b":"))
    if not block.startswith(b"data") and b"\ndata" not in block:
        # Nor does an event without data, but the SDK would take it for JSON.
        return []
    if b"\ndata" in block:
        lines = block.split(b"\n")
        if len(lines) > 1 and all(map(_is_whole, lines)):
            return lines
    return [block]


def _is_whole(line: bytes) -> bool:
    """The line is an event of its own that lacks only the blank line after it."""
    payload = line[5:].strip() if line.startswith(b"data:") else b""
    if payload == b"[DONE]":
        return True
    if not (payload.startswith(b"{") and payload.endswith(b"}") and len(payload) > len(b"{}")):
        return False
    try:
        json.loads(payload)
    except ValueError:
        return False
    return True
