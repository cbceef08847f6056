"""Moves of the fold as events of OpenAI's responses, numbered from 0; and the object that they make.

move            events
(first)         response.created, response.in_progress
open            output_item.added, and its part
piece           output_text.delta or reasoning_summary_text.delta
close           the text done, the part done, output_item.done
tool, tool_end  an mcp_call: it has been run by the server by definition, and no SDK runs it again
reset           output_item.done, `incomplete`, of open items that are lost; what survives in part is a new item
end             response.completed, .incomplete or .failed, with the object: only what survived is in its output
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.errors import BackchatError
from app.events.fold import Fold, Move, Part

from ..polling.pages import SharedPage, encode
from .openai_input import usage_of

Json = dict[str, Any]
_PREFIX = {"text": "msg", "reasoning": "rs", "tool": "mcp"}


@dataclass(slots=True, eq=False)
class _Item:
    """What the stream has said of a part. A part that goes on after a reset is another item."""

    id: str
    index: int
    part: Part
    pieces: list[str] = field(default_factory=list)
    is_done: bool = False
    #: The end of a delta's JSON before its text; made once.
    before: bytes = b""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class ResponseEvents:
    """Renders one response.

    Args:
        base: The object of a response that nobody has begun to answer. Nothing in it changes later.
        above: Events up to this number are not said; None: all are.
    """

    def __init__(self, base: Json, *, above: int | None = None) -> None:
        self._base = base
        self._hex = str(base["id"]).partition("_")[2]
        self._above = -1 if above is None else above
        self._number = 0
        self._fold = Fold()
        self._items: dict[int, _Item] = {}
        self._indexes = 0
        self._out: list[bytes] = []

    def page(self, shared: SharedPage) -> bytes:
        self.take(shared.page.events)
        said, self._out = b"".join(self._out), []
        return said

    def take(self, events: Sequence[Mapping[str, Any]]) -> None:
        for event in events:
            if self._number == 0:
                self._say("response.created", response=self._base)
                self._say("response.in_progress", response=self._base | {"status": "in_progress"})
            for move in self._fold.moves(event):
                self._move(move)

    def broken(self, error: BackchatError) -> bytes:
        self._say("error", code=error.code, message=error.detail or error.code, param=None)
        return b"".join(self._out)

    def object(self, *, begun: bool = True) -> Json:
        """The response as it is after the events so far."""
        status: Json = (
            {"status": "in_progress" if begun else "queued"} if self._fold.end is None else _ended(self._fold.end)
        )
        return self._base | status | {"output": [self._shown(part) for part in self._fold.parts]}

    def _move(self, move: Move) -> None:
        part = move.part
        if move.kind == "reset":
            self._reset()
        elif move.kind == "end":
            self._end()
        elif part is None:
            return
        elif move.kind == "open":
            self._open(part)
        elif move.kind == "piece":
            self._piece(part, move.text)
        elif move.kind == "close":
            self._close(part)
        elif move.kind == "tool":
            self._open(part)
        else:
            self._tool_end(part)

    def _open(self, part: Part) -> _Item:
        earlier = self._items.get(part.n)
        again = f"_{int(earlier.id.rpartition('_')[2]) + 1}" if earlier is not None else "_0"
        item = self._items[part.n] = _Item(f"{_PREFIX[part.kind]}_{self._hex}_{part.n}{again}", self._indexes, part)
        self._indexes += 1
        self._say("response.output_item.added", output_index=item.index, item=self._json(item, "in_progress"))
        place = {"item_id": item.id, "output_index": item.index}
        if part.kind == "text":
            self._say("response.content_part.added", **place, content_index=0, part=output_text(""))
        elif part.kind == "reasoning":
            self._say("response.reasoning_summary_part.added", **place, summary_index=0, part=_summary(""))
        else:
            self._say("response.mcp_call.in_progress", **place)
            self._say("response.mcp_call_arguments.done", **place, arguments=_arguments(part))
        return item

    def _piece(self, part: Part, text: str) -> None:
        item = self._items.get(part.n)
        if item is None or item.is_done:
            # It goes on after a reset: what survived of it first.
            item = self._open(part)
            text = part.text
        item.pieces.append(text)
        self._number += 1
        if self._number - 1 <= self._above:
            return
        if not item.before:
            kind = "output_text" if part.kind == "text" else "reasoning_summary_text"
            more: Json = {"content_index": 0, "logprobs": []} if part.kind == "text" else {"summary_index": 0}
            head = {"type": f"response.{kind}.delta", "item_id": item.id, "output_index": item.index} | more
            item.before = f"event: response.{kind}.delta\ndata: ".encode() + encode(head)[:-1] + b',"delta":'
        said = json.dumps(text, ensure_ascii=False).encode()
        self._out.append(b'%b%b,"sequence_number":%d}\n\n' % (item.before, said, self._number - 1))

    def _close(self, part: Part) -> None:
        item = self._items.get(part.n)
        if item is None or item.is_done:
            return
        place = {"item_id": item.id, "output_index": item.index}
        if part.kind == "text":
            self._say("response.output_text.done", **place, content_index=0, text=item.text, logprobs=[])
            self._say("response.content_part.done", **place, content_index=0, part=output_text(item.text))
        else:
            self._say("response.reasoning_summary_text.done", **place, summary_index=0, text=item.text)
            self._say("response.reasoning_summary_part.done", **place, summary_index=0, part=_summary(item.text))
        self._done(item, "completed")

    def _tool_end(self, part: Part) -> None:
        item = self._items.get(part.n)
        if item is None or item.is_done:
            item = self._open(part)
        how = "completed" if part.result is not None and part.result["toolSuccess"] else "failed"
        self._say(f"response.mcp_call.{how}", item_id=item.id, output_index=item.index)
        self._done(item, how)

    def _done(self, item: _Item, status: str) -> None:
        item.is_done = True
        self._say("response.output_item.done", output_index=item.index, item=self._json(item, status))

    def _reset(self) -> None:
        parts = {part.n: part for part in self._fold.parts}
        for n, item in self._items.items():
            part = parts.get(n)
            whole = part is not None and (part.kind == "tool" or part.text == item.text)
            if not whole and not item.is_done:
                self._done(item, "incomplete")

    def _end(self) -> None:
        for part in self._fold.parts:
            item = self._items.get(part.n)
            if part.kind == "tool":
                if item is not None and not item.is_done:
                    self._done(item, "incomplete")
                elif item is None or (part.result is None and item.is_done):
                    self._done(self._open(part), "incomplete")
            elif item is None or item.text != part.text:
                # A reset cut it, and nothing came after that.
                self._piece(part, "")
                self._close(part)
        ended = self.object()
        kind = {"completed": "completed", "failed": "failed"}.get(ended["status"], "incomplete")
        self._say(f"response.{kind}", response=ended)

    def _shown(self, part: Part) -> Json:
        """A part of the object's output."""
        item = self._items[part.n]
        if part.kind == "tool":
            status = "in_progress" if self._fold.end is None else "incomplete"
            if part.result is not None:
                status = "completed" if part.result["toolSuccess"] else "failed"
            return self._json(item, status)
        status = "completed" if item.is_done or self._fold.end is not None else "in_progress"
        return self._json(item, status, part.text)

    def _json(self, item: _Item, status: str, text: str | None = None) -> Json:
        """An item with what was said of it, or with *text*."""
        part = item.part
        text = item.text if text is None else text
        if part.kind == "reasoning":
            return {"id": item.id, "type": "reasoning", "summary": [_summary(text)] if text else []}
        if part.kind == "text":
            content = [output_text(text)] if text else []
            return {"id": item.id, "type": "message", "role": "assistant", "status": status, "content": content}
        result = part.result or {}
        failed = result.get("toolSuccess") is False
        return {
            "id": item.id,
            "type": "mcp_call",
            "server_label": "backchat",
            "name": part.events[0]["toolName"] or "",
            "arguments": _arguments(part),
            "output": None if failed else result.get("toolResult"),
            "error": result.get("toolResult") if failed else None,
            "status": status,
        }

    def _say(self, kind: str, **fields: Any) -> None:
        self._number += 1
        if self._number - 1 <= self._above:
            return
        body = {"type": kind} | fields | {"sequence_number": self._number - 1}
        self._out.append(f"event: {kind}\ndata: ".encode() + encode(body) + b"\n\n")


def _ended(end: Mapping[str, Any]) -> Json:
    """What the end changes of the object."""
    if end["type"] == "error":
        code = end["errorCode"] or "error"
        if code == "cancelled":
            return {"status": "cancelled"}
        error = {"code": "server_error", "message": f"{code}: {end['errorMsg'] or ''}"}
        return {"status": "failed", "error": error}
    usage = {"usage": usage_json(end["usageJson"])}
    if end.get("finishReason") == "length":
        return usage | {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    return usage | {"status": "completed"}


def usage_json(counts: Mapping[str, Any] | None) -> Json:
    usage = usage_of(counts)
    return {
        "input_tokens": usage["inputTokens"],
        "input_tokens_details": {"cached_tokens": usage["cacheReadTokens"]},
        "output_tokens": usage["outputTokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["totalTokens"],
    }


def output_text(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _summary(text: str) -> Json:
    return {"type": "summary_text", "text": text}


def _arguments(part: Part) -> str:
    return json.dumps(part.events[0]["toolArgs"], ensure_ascii=False)
