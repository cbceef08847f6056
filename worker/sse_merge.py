"""Merges the small deltas of a streamed model answer while they are still bytes.

SDK and engine spend about a millisecond on each delta, however short. What arrived together is therefore
joined before they see it: neighbouring deltas of one kind become one, everything else stays as the server sent it.
Both streaming APIs of OpenAI-compatible servers are understood; what is not understood is passed on untouched.
"""

from __future__ import annotations

import json
from typing import Any

#: Text fields of a chat delta that may be joined with the same field of the next one.
_CHAT_TEXTS = frozenset({"content", "reasoning_content", "reasoning"})
#: Top-level fields of a chat chunk that may differ between two chunks that are joined.
_CHAT_KNOWN = frozenset({"id", "object", "created", "model", "choices", "usage", "obfuscation"})
_CHOICE_KNOWN = frozenset({"index", "delta", "finish_reason"})
_FRAGMENT_KNOWN = frozenset({"index", "id", "type", "function"})
#: Events of the responses API whose `delta` may be joined with that of the next one.
_RESPONSES_TEXTS = frozenset(
    {
        "response.output_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_text.delta",
        "response.refusal.delta",
        "response.function_call_arguments.delta",
    }
)
_RESPONSES_IGNORED = frozenset({"sequence_number", "obfuscation", "delta"})
_RESPONSES_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})


class SseMerger:
    """Takes the bytes of one stream as the network cut them and gives whole events back, merged.

    Attributes:
        spoke: A delta with content came by.
        ended: The server said that the answer is complete (or failed).
    """

    def __init__(self) -> None:
        self.spoke = False
        self.ended = False
        self._tail = b""
        self._out: list[bytes] = []
        # The delta that the next one may join: its first line (`event: …` or nothing), its JSON, what it joins by.
        self._head = b""
        self._open: dict[str, Any] | None = None
        self._kind: object = None
        # The bytes of the open delta as they came, while nothing has joined it.
        self._raw = b""

    def feed(self, data: bytes) -> bytes:
        """The events that *data* completes."""
        buffer = self._tail + data
        if b"\r" in buffer:
            buffer = buffer.replace(b"\r\n", b"\n")
        end = buffer.rfind(b"\n\n")
        if end < 0:
            self._tail = buffer
            return b""
        self._tail = buffer[end + 2 :]
        for event in buffer[:end].split(b"\n\n"):
            self._take(event.strip(b"\n"))
        self._flush()
        out, self._out = b"".join(self._out), []
        return out

    def finish(self) -> bytes:
        """What is left when the stream ends without the blank line after its last event."""
        return self.feed(b"\n\n") if self._tail.strip() else b""

    def _take(self, event: bytes) -> None:
        if not event or event.startswith(b":"):
            # Comments keep connections alive; they say nothing.
            return
        head, data = b"", event
        if event.startswith(b"event:"):
            name, _, data = event.partition(b"\n")
            head = name + b"\n"
        if data.startswith(b"data:") and b"\n" not in data:
            payload = data[5:].lstrip()
            if payload.startswith(b"[DONE]"):
                self.ended = True
            elif payload.startswith(b"{"):
                try:
                    self._join(head, event, json.loads(payload))
                    return
                except ValueError:
                    pass
        self._flush()
        self._out.append(event + b"\n\n")

    def _join(self, head: bytes, event: bytes, body: dict[str, Any]) -> None:
        kind = _responses_kind(body) if "type" in body else _chat_kind(body)
        if kind is None:
            self._flush()
            self._out.append(event + b"\n\n")
            self.ended = self.ended or _says_end(body)
            return
        self.spoke = True
        if self._open is not None and kind == self._kind:
            self._raw = b""
            if "type" in body:
                self._open["delta"] += body["delta"]
            else:
                _join_chat(self._open["choices"][0]["delta"], body["choices"][0]["delta"])
            return
        self._flush()
        self._head, self._open, self._kind, self._raw = head, body, kind, event

    def _flush(self) -> None:
        if self._open is None:
            return
        if self._raw:
            self._out.append(self._raw + b"\n\n")
        else:
            body = json.dumps(self._open, separators=(",", ":")).encode()
            self._out.append(self._head + b"data: " + body + b"\n\n")
        self._open = None


def _chat_kind(body: dict[str, Any]) -> object:
    """What a chat chunk may be joined by: equal kinds join; None joins nothing."""
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or body.get("usage"):
        return None
    choice = choices[0]
    delta = choice.get("delta")
    if not isinstance(delta, dict) or choice.get("finish_reason") is not None:
        return None
    if any(choice[key] for key in choice.keys() - _CHOICE_KNOWN):
        return None
    spoken = [key for key, value in delta.items() if value and key != "role"]
    if len(spoken) != 1:
        return None
    field = spoken[0]
    if field in _CHAT_TEXTS:
        if not isinstance(delta[field], str):
            return None
    elif field != "tool_calls" or not all(isinstance(call, dict) for call in delta[field]):
        return None
    others = tuple((key, json.dumps(body[key])) for key in sorted(body.keys() - _CHAT_KNOWN) if body[key])
    return (field, choice.get("index"), body.get("id"), others)


def _join_chat(into: dict[str, Any], delta: dict[str, Any]) -> None:
    """Append the one spoken field of *delta* to the same field of *into*."""
    calls = delta.get("tool_calls")
    if not calls:
        for field in _CHAT_TEXTS:
            if delta.get(field):
                into[field] += delta[field]
        return
    for fragment in calls:
        before = [call for call in into["tool_calls"] if call.get("index") == fragment.get("index")]
        if before and _goes_on(fragment):
            function = before[-1].setdefault("function", {})
            function["arguments"] = (function.get("arguments") or "") + (fragment["function"].get("arguments") or "")
        else:
            into["tool_calls"].append(fragment)


def _goes_on(fragment: dict[str, Any]) -> bool:
    """The fragment holds nothing but more arguments of a call that was opened before."""
    function = fragment.get("function")
    if not isinstance(fragment.get("index"), int) or not isinstance(function, dict):
        return False
    if fragment.get("id") or any(fragment[key] for key in fragment.keys() - _FRAGMENT_KNOWN):
        return False
    return not any(value for key, value in function.items() if key != "arguments")


def _responses_kind(body: dict[str, Any]) -> object:
    """What an event of the responses API may be joined by, as for chat chunks."""
    if body["type"] not in _RESPONSES_TEXTS or not isinstance(body.get("delta"), str) or not body["delta"]:
        return None
    # `logprobs` are an empty list unless asked for; lists can't be compared by hash, so they are left out when empty.
    rest = tuple((key, body[key]) for key in sorted(body.keys() - _RESPONSES_IGNORED) if body[key] not in ([], None))
    return None if any(isinstance(value, (list, dict)) for _, value in rest) else rest


def _says_end(body: dict[str, Any]) -> bool:
    if body.get("type") in _RESPONSES_ENDS or body.get("error"):
        return True
    choices = body.get("choices")
    return isinstance(choices, list) and any(choice.get("finish_reason") for choice in choices)
