"""Moves of the fold as chunks of the AI SDK's UI message stream.

    move            chunk
    (first)         start
    open, close     text-start, text-end; reasoning-start, reasoning-end
    piece           text-delta, reasoning-delta
    tool, tool_end  tool-input-available, then tool-output-available or tool-output-error: run by the provider
    reset           reset-step and what survived, for clients that know it; else see `append_only`
    end             finish, after error or abort if it was one: clients ask again until they see it

There is no start-step: reset-step takes back everything since the last one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import BackchatError
from app.events.fold import Fold, Move, Part

from ..polling.pages import SharedPage, encode
from .append_only import AppendOnly
from .chat_chunks import AGAIN, DONE, finish_reason_of
from .openai_input import usage_of

Json = dict[str, Any]


class UiChunks:
    """Renders one stream.

    Args:
        can_reset: The client knows `reset-step` (AI SDK 7); others fail at a chunk that they don't know.
        above: So many chunks are not said again.
    """

    def __init__(self, session_id: str, *, can_reset: bool, above: int = 0) -> None:
        self._session_id = session_id
        self._can_reset = can_reset
        self._above = above
        #: Chunks so far.
        self.count = 0
        self._fold = Fold()
        self._shown = {"text": AppendOnly(AGAIN), "reasoning": AppendOnly("\n\n")}
        #: Kind and id of the part that is open at the client.
        self._open: tuple[str, str] | None = None
        self._opened = 0
        self._before = b""
        self._out: list[bytes] = []

    def page(self, shared: SharedPage) -> bytes:
        self.take(shared.page.events)
        said, self._out = b"".join(self._out), []
        return said

    def take(self, events: Sequence[Mapping[str, Any]]) -> None:
        for event in events:
            if self.count == 0:
                self._say("start", messageId=self._session_id, messageMetadata={"sessionId": self._session_id})
            for move in self._fold.moves(event):
                self._move(move)

    def broken(self, error: BackchatError) -> bytes:
        self._say("error", errorText=error.detail or error.code)
        self._say("finish", finishReason="error")
        return b"".join([*self._out, DONE])

    def _move(self, move: Move) -> None:
        part = move.part
        if move.kind == "reset":
            self._reset()
        elif move.kind == "end":
            self._end()
        elif part is None or move.kind == "open":
            return
        elif move.kind == "piece":
            self._piece(part.kind, move.text)
        elif move.kind == "close":
            self._close()
        elif move.kind == "tool":
            self._tool(part)
        else:
            self._tool_end(part)

    def _piece(self, kind: str, text: str) -> None:
        if not self._can_reset:
            text = self._shown[kind].add(text, lambda: self._said(kind))
        self._delta(kind, text)

    def _delta(self, kind: str, text: str) -> None:
        if not text:
            return
        if self._open is None or self._open[0] != kind:
            self._close()
            self._open = (kind, f"{kind}-{self._opened}")
            self._opened += 1
            self._say(f"{kind}-start", id=self._open[1])
            self._before = b"data: " + encode({"type": f"{kind}-delta", "id": self._open[1]})[:-1] + b',"delta":'
        self.count += 1
        if self.count > self._above:
            self._out.append(self._before + json.dumps(text, ensure_ascii=False).encode() + b"}\n\n")

    def _close(self) -> None:
        if self._open is not None:
            kind, name = self._open
            self._open = None
            self._say(f"{kind}-end", id=name)

    def _tool(self, part: Part) -> None:
        self._close()
        begun = part.events[0]
        self._say(
            "tool-input-available",
            toolCallId=part.tool_call_id,
            toolName=begun["toolName"] or "",
            input=begun["toolArgs"],
            dynamic=True,
            providerExecuted=True,
        )

    def _tool_end(self, part: Part) -> None:
        result = part.result or {}
        of_it = {"toolCallId": part.tool_call_id, "dynamic": True, "providerExecuted": True}
        if result.get("toolSuccess"):
            self._say("tool-output-available", **of_it, output=result["toolResult"])
        else:
            self._say("tool-output-error", **of_it, errorText=result.get("toolResult") or "the tool failed")

    def _said(self, kind: str) -> str:
        return "".join(part.text for part in self._fold.parts if part.kind == kind)

    def _reset(self) -> None:
        if not self._can_reset:
            self._close()
            for kind, shown in self._shown.items():
                self._delta(kind, shown.reset(self._said(kind)))
            return
        self._open = None
        self._say("reset-step")
        for part in self._fold.parts:
            if part.kind == "tool":
                self._tool(part)
                if part.result is not None:
                    self._tool_end(part)
            else:
                self._close()
                self._delta(part.kind, part.text)

    def _end(self) -> None:
        if not self._can_reset:
            self._delta("text", self._shown["text"].finish(self._fold.text))
        self._close()
        end = self._fold.end or {}
        if end["type"] == "error":
            if end["errorCode"] == "cancelled":
                self._say("abort", reason="cancelled")
                self._say("finish", finishReason="other", messageMetadata={"errorCode": "cancelled"})
            else:
                self._say("error", errorText=f"{end['errorCode'] or 'error'}: {end['errorMsg'] or ''}")
                self._say("finish", finishReason="error", messageMetadata={"errorCode": end["errorCode"]})
        else:
            about: Json = {"model": end["model"], "usage": usage_of(end["usageJson"])}
            self._say("finish", finishReason=finish_reason_of(end), messageMetadata=about)
        self._out.append(DONE)

    def _say(self, kind: str, **fields: Any) -> None:
        self.count += 1
        if self.count > self._above:
            self._out.append(b"data: " + encode({"type": kind} | fields) + b"\n\n")


def ui_message(message: Mapping[str, Any]) -> Json:
    """A stored message as `useChat` takes it."""
    if message["role"] == "user":
        parts = [{"type": "text", "text": message["content"]}]
        return {"id": str(message["id"]), "role": "user", "parts": parts}
    metadata = message["metadata"]
    kept = message["parts"]
    if kept is None:
        kept = [{"kind": "text", "text": message["content"]}]
    about = {"sessionId": message["sessionId"], "model": metadata.get("model"), "errorCode": metadata.get("errorCode")}
    return {
        "id": message["sessionId"],
        "role": "assistant",
        "parts": [_ui_part(part) for part in kept],
        "metadata": {name: value for name, value in about.items() if value is not None},
    }


def _ui_part(part: Mapping[str, Any]) -> Json:
    if part["kind"] != "tool":
        return {"type": part["kind"], "text": part["text"], "state": "done"}
    called: Json = {
        "type": "dynamic-tool",
        "toolName": part["toolName"] or "",
        "toolCallId": part["toolCallId"] or "",
        "input": part["toolArgs"],
        "providerExecuted": True,
    }
    if part["toolSuccess"] is None:
        return called | {"state": "input-available"}
    if part["toolSuccess"]:
        return called | {"state": "output-available", "output": part["toolResult"]}
    return called | {"state": "output-error", "errorText": part["toolResult"] or "the tool failed"}
