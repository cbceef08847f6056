"""Merges the small deltas of a streamed model answer while they are still bytes.

SDK and engine spend about a millisecond on each delta, however short. What arrived together is therefore
joined before they see it: neighbouring deltas of one kind become one, everything else stays as the server sent it.
Both streaming APIs of OpenAI-compatible servers are understood; what clients do not expect of them is put right on
the way (`chat_chunks`, `responses_events`); what is not understood is passed on untouched.
"""

from __future__ import annotations

import json
from typing import Any

from .chat_chunks import ChatChunks
from .deltas import join, kind_of, text_of
from .responses_events import ENDS, ResponsesEvents
from .sse_frames import SseFrames


class SseMerger:
    """Takes the bytes of one stream as the network cut them and gives whole events back, merged.

    Attributes:
        spoke: A delta with content came by.
        ended: The server said that the answer is complete (or failed).
        moved: What was fed last said something; comments and empty deltas say only that the server is there.
    """

    def __init__(self) -> None:
        self.spoke = False
        self.ended = False
        self.moved = False
        self._frames = SseFrames()
        self._chunks = ChatChunks()
        self._events = ResponsesEvents()
        self._out: list[bytes] = []
        # The delta that the next one may join: its first line (`event: …` or nothing), its JSON, what it joins by.
        self._head = b""
        self._open: dict[str, Any] | None = None
        self._kind: object = None
        # The bytes of the open delta as they came, while nothing has joined it.
        self._raw = b""
        # The first half of a character that its server escaped apart, and what it belongs to.
        self._half = ""
        self._half_kind: object = None

    def feed(self, data: bytes) -> bytes:
        """The events that *data* completes.

        Raises:
            EventTooLarge: one does not end.
        """
        return self._merged(self._frames.feed(data))

    def finish(self) -> bytes:
        """What is left when the stream ends without the blank line after its last event."""
        out = self._merged(self._frames.finish())
        self._say_usage()
        out += b"".join(self._out)
        self._out = []
        return out

    def whole(self, body: dict[str, Any]) -> bytes:
        """The events of an answer that came in one piece, although a stream was asked for."""
        if body.get("object") == "response":
            status = body.get("status") if body.get("status") in ("incomplete", "failed") else "completed"
            body = {"type": f"response.{status}", "sequence_number": 0, "response": body}
        event = b"data: " + json.dumps(body).encode()
        return self._merged([event, b"data: [DONE]"])

    def _merged(self, events: list[bytes]) -> bytes:
        self.moved = False
        for event in events:
            self._take(event)
        self._flush()
        out, self._out = b"".join(self._out), []
        return out

    def _take(self, event: bytes) -> None:
        head, data = b"", event
        while data.startswith((b"event:", b"id:", b"retry:")):
            line, _, data = data.partition(b"\n")
            head += line + b"\n"
        if data.startswith(b"data:") and b"\n" not in data:
            payload = data[5:].strip()
            if payload.startswith(b"[DONE]"):
                self.ended = self.moved = True
                self._flush()
                self._say_usage()
            elif payload.startswith(b"{"):
                body, is_text = _read(payload)
                if body is not None:
                    self._mend(head, event if is_text else head + _data(body), body)
                    return
            elif not payload:
                return
        if _says_error(head):
            event = _data({"error": data.removeprefix(b"data:").strip().decode("utf-8", "replace")})
            self.ended = True
        self.moved = True
        self._flush()
        self._out.append(event + b"\n\n")

    def _mend(self, head: bytes, event: bytes, body: dict[str, Any]) -> None:
        kind = body.get("type")
        if isinstance(kind, str) and (kind.startswith("response.") or kind in ("error", "keepalive", "ping")):
            right = self._events.mend(body)
            for each in [body] if right is None else right:
                self._join(head, event if right is None else _named(each), each)
        else:
            changed = self._chunks.mend(body, named_error=_says_error(head))
            self._join(head, _data(body) if changed else event, body)

    def _join(self, head: bytes, event: bytes, body: dict[str, Any]) -> None:
        kind = kind_of(body)
        if kind is None:
            self._flush()
            self._out.append(event + b"\n\n")
            self.ended = self.ended or _says_end(body)
            self.moved = self.moved or not _is_empty(body)
            return
        self.spoke = self.moved = True
        if self._half:
            self._complete(body, kind)
            event = head + _data(body)
        if self._open is not None and kind == self._kind:
            self._raw = b""
            join(self._open, body)
            return
        self._flush()
        self._head, self._open, self._kind, self._raw = head, body, kind, event

    def _flush(self) -> None:
        if self._open is None:
            return
        texts, field = text_of(self._open, self._kind)
        if field and "\ud800" <= texts[field][-1] <= "\udbff":
            # Half a character: no request can hold it, and the other half is still to come.
            self._half, self._half_kind = texts[field][-1], self._kind
            texts[field] = texts[field][:-1]
            self._raw = b""
        if self._raw:
            self._out.append(self._raw + b"\n\n")
        else:
            self._out.append(self._head + _data(self._open) + b"\n\n")
        self._open = None

    def _complete(self, body: dict[str, Any], kind: object) -> None:
        """Put half a character that was held back before its other half, if *body* goes on with the same text."""
        texts, field = text_of(body, kind)
        if field and kind == self._half_kind:
            texts[field] = self._half + texts[field]
        self._half = ""

    def _say_usage(self) -> None:
        usage = self._chunks.last_usage()
        if usage is not None:
            self._out.append(_data(usage) + b"\n\n")


def _data(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode()


def _named(body: dict[str, Any]) -> bytes:
    """An event as the responses API says it."""
    return (f"event: {body['type']}\n".encode() if "type" in body else b"") + _data(body)


def _says_error(head: bytes) -> bool:
    return b"event: error\n" in head or b"event:error\n" in head


def _read(payload: bytes) -> tuple[dict[str, Any] | None, bool]:
    """The object that *payload* is (None: it is none), and whether it is the UTF-8 that a client insists on."""
    try:
        return json.loads(payload.decode()), True
    except UnicodeDecodeError:
        pass
    except ValueError:
        return None, True
    for errors in ("surrogatepass", "replace"):
        try:
            return json.loads(payload.decode("utf-8", errors)), False
        except ValueError:
            continue
    return None, True


def _is_empty(body: dict[str, Any]) -> bool:
    """An event that says nothing: some servers send them to keep the connection."""
    if "type" in body or "error" in body or body.get("usage"):
        return body.get("type") == "response.in_progress"
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or choice.get("finish_reason"):
        return choice is None
    delta = choice.get("delta")
    return isinstance(delta, dict) and not any(value for key, value in delta.items() if key != "role")


def _says_end(body: dict[str, Any]) -> bool:
    if body.get("type") in ENDS or body.get("error"):
        return True
    choices = body.get("choices")
    return isinstance(choices, list) and any(
        isinstance(choice, dict) and choice.get("finish_reason") for choice in choices
    )
