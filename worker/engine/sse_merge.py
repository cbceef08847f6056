"""Merges the small deltas of a streamed model answer while they are still bytes.

SDK and engine spend about a millisecond on each delta, however short. What arrived together is therefore
joined before they see it: neighbouring deltas of one kind become one, everything else stays as the server sent it.
Both streaming APIs of OpenAI-compatible servers are understood; what is not understood is passed on untouched.
"""

from __future__ import annotations

import json
from typing import Any

_BOM = b"\xef\xbb\xbf"
#: Text fields of a chat delta that may be joined with the same field of the next one.
_CHAT_TEXTS = frozenset({"content", "reasoning_content", "reasoning"})
#: Names under which vLLM says the same thoughts, both at once.
_SAID_TWICE = {"reasoning", "reasoning_content"}
#: pydantic-ai tells a model's thoughts from its answer only if these come alone, as the single tokens that they are.
_THINKING_TAGS = frozenset({"<think>", "</think>"})
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
        # Usage of the answer so far, which some servers tell with each chunk: only the last one counts.
        self._usage: dict[str, Any] | None = None
        # The id of the call that each index means, and where it really stands.
        self._calls: dict[int, tuple[str, int]] = {}
        self._began = False
        # The first half of a character that its server escaped apart, and what it belongs to.
        self._half = ""
        self._half_kind: object = None

    def feed(self, data: bytes) -> bytes:
        """The events that *data* completes."""
        buffer = self._tail + data
        if not self._began:
            if _BOM.startswith(buffer[:3]) and len(buffer) < 3:
                self._tail = buffer
                return b""
            self._began = True
            buffer = buffer.removeprefix(_BOM)
        half = b""
        if b"\r" in buffer:
            # A line ends with either or both; the other half of the last one may be still to come.
            half = b"\r" if buffer.endswith(b"\r") else b""
            buffer = buffer.removesuffix(half).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = buffer.rfind(b"\n\n")
        if end < 0:
            self._tail = buffer + half
            return b""
        self._tail = buffer[end + 2 :] + half
        for event in buffer[:end].split(b"\n\n"):
            self._take(event.strip(b"\n"))
        self._flush()
        out, self._out = b"".join(self._out), []
        return out

    def finish(self) -> bytes:
        """What is left when the stream ends without the blank line after its last event."""
        out = self.feed(b"\n\n") if self._tail.strip() else b""
        self._say_usage()
        out += b"".join(self._out)
        self._out = []
        return out

    def _take(self, event: bytes) -> None:
        if event.startswith(b":") or b"\n:" in event:
            # Comments keep connections alive; they say nothing.
            event = b"\n".join(line for line in event.split(b"\n") if not line.startswith(b":"))
        if not event.startswith(b"data") and b"\ndata" not in event:
            # Nor does an event without data, but the SDK would take it for JSON.
            return
        head, data = b"", event
        if event.startswith(b"event:"):
            name, _, data = event.partition(b"\n")
            head = name + b"\n"
        if data.startswith(b"data:") and b"\n" not in data:
            payload = data[5:].lstrip()
            if payload.startswith(b"[DONE]"):
                self.ended = True
                self._flush()
                self._say_usage()
            elif payload.startswith(b"{"):
                try:
                    body = json.loads(payload)
                except ValueError:
                    pass
                else:
                    self._join(head, event, body)
                    return
        self._flush()
        self._out.append(event + b"\n\n")

    def _join(self, head: bytes, event: bytes, body: dict[str, Any]) -> None:
        if "type" in body:
            kind = _responses_kind(body)
        else:
            if self._mend(body):
                event = head + _data(body)
            kind = _chat_kind(body)
        if kind is None:
            self._flush()
            self._out.append(event + b"\n\n")
            self.ended = self.ended or _says_end(body)
            return
        self.spoke = True
        if self._half:
            self._complete(body, kind)
            event = head + _data(body)
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
        texts, field = _text_of(self._open, self._kind)
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
        texts, field = _text_of(body, kind)
        if field and kind == self._half_kind:
            texts[field] = self._half + texts[field]
        self._half = ""

    def _mend(self, body: dict[str, Any]) -> bool:
        """Put right in a chat chunk what some servers send and no client expects; whether anything was."""
        usage, choices = body.get("usage"), body.get("choices")
        if not isinstance(choices, list) or not choices:
            if usage:
                self._usage = None
            return False
        mended = False
        if usage:
            # A client adds up what every chunk tells.
            self._usage, body["usage"], mended = {**body, "choices": []}, None, True
        choice = choices[0]
        delta = choice.get("delta") if isinstance(choice, dict) else None
        calls = delta.get("tool_calls") if isinstance(delta, dict) else None
        if isinstance(calls, list):
            for call in calls:
                mended = (isinstance(call, dict) and self._number(call)) or mended
        return mended

    def _number(self, call: dict[str, Any]) -> bool:
        """Give a fragment of a tool call an index of its own when its server counts all calls as the same one."""
        index, call_id, function = call.get("index"), call.get("id"), call.get("function")
        if not isinstance(index, int):
            return False
        opens = bool(call_id) and isinstance(function, dict) and bool(function.get("name"))
        known = self._calls.get(index)
        if opens and (known is None or known[0] != call_id):
            taken = {place for _, place in self._calls.values()} | self._calls.keys()
            place = index if known is None and index not in taken else max(taken) + 1
            known = self._calls[index] = (str(call_id), place)
        if known is None or known[1] == index:
            return False
        call["index"] = known[1]
        return True

    def _say_usage(self) -> None:
        if self._usage is not None:
            self._out.append(_data(self._usage) + b"\n\n")
            self._usage = None


def _text_of(body: dict[str, Any], kind: Any) -> tuple[dict[str, Any], str]:
    """Where the text of a delta stands: in which object and under which name; no name when it is no text."""
    if "type" in body:
        return body, "delta"
    return body["choices"][0]["delta"], kind[0] if kind[0] in _CHAT_TEXTS else ""


def _data(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode()


def _chat_kind(body: dict[str, Any]) -> object:
    """What a chat chunk may be joined by: equal kinds join; None joins nothing."""
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or body.get("usage"):
        return None
    choice = choices[0]
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(delta, dict) or choice.get("finish_reason"):
        return None
    if any(choice[key] for key in choice.keys() - _CHOICE_KNOWN):
        return None
    spoken = [key for key, value in delta.items() if value and key != "role"]
    field = spoken[0] if len(spoken) == 1 else ""
    if set(spoken) == _SAID_TWICE:
        field = "reasoning twice"
        if not all(isinstance(delta[key], str) for key in spoken):
            return None
    elif field in _CHAT_TEXTS:
        if not isinstance(delta[field], str) or delta[field] in _THINKING_TAGS:
            return None
    elif field != "tool_calls" or not _are_fragments(delta[field]):
        return None
    others = tuple((key, json.dumps(body[key])) for key in sorted(body.keys() - _CHAT_KNOWN) if body[key])
    return (field, choice.get("index"), body.get("id"), others)


def _are_fragments(calls: Any) -> bool:
    """Tool calls as they should be: `arguments` are text, and not there only while a call opens."""
    return isinstance(calls, list) and all(
        isinstance(call, dict)
        and isinstance(function := call.get("function"), dict)
        and isinstance(function.get("arguments"), str | None)
        for call in calls
    )


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
            function = before[-1]["function"]
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
    return isinstance(choices, list) and any(
        isinstance(choice, dict) and choice.get("finish_reason") for choice in choices
    )
