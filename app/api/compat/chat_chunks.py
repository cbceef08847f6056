"""Moves of the fold as chunks of a chat completion.

move              chunk
piece of text     delta.content
piece of thought  delta.reasoning_content, which most clients show
tool, tool_end    none: tools run here
reset             none; see `append_only`
end               finish_reason, usage if asked for, [DONE]; or an error
"""

from __future__ import annotations

import json
from typing import Any

from app.errors import BackchatError
from app.events.fold import Fold, Move

from ..polling.pages import SharedPage, encode
from .append_only import AppendOnly
from .openai_input import usage_of

AGAIN = "\n\n[The run was interrupted. Again from here:]\n\n"
DONE = b"data: [DONE]\n\n"


class ChatChunks:
    """Renders one stream.

    Args:
        head: What all chunks of it have: `id`, `created`, `model`.
        with_usage: A last chunk tells the usage.
    """

    def __init__(self, head: dict[str, Any], *, with_usage: bool) -> None:
        self._head = {"object": "chat.completion.chunk"} | head
        self._with_usage = with_usage
        self._fold = Fold()
        self._shown = {"text": AppendOnly(AGAIN), "reasoning": AppendOnly("\n\n")}
        self._begun = False
        # Made once: what surrounds the text of each chunk.
        opening = encode(self._head | {"choices": []})[:-2]
        rest = {"text": b"content", "reasoning": b"reasoning_content"}
        self._before = {
            kind: b"data: " + opening + b'{"index":0,"delta":{"' + name + b'":' for kind, name in rest.items()
        }
        self._after = b'},"logprobs":null,"finish_reason":null}]' + (b',"usage":null' if with_usage else b"") + b"}\n\n"

    def page(self, shared: SharedPage) -> bytes:
        out: list[bytes] = []
        if not self._begun:
            self._begun = True
            out.append(self._chunk({"role": "assistant", "content": ""}))
        for event in shared.page.events:
            for move in self._fold.moves(event):
                out += self._of(move)
        return b"".join(out)

    def broken(self, error: BackchatError) -> bytes:
        return b"data: " + encode({"error": failure({"errorCode": error.code, "errorMsg": error.detail})}) + b"\n\n"

    def _of(self, move: Move) -> list[bytes]:
        if move.kind == "piece" and move.part is not None:
            kind = move.part.kind
            return self._text(kind, self._shown[kind].add(move.text, lambda: self._said(kind)))
        if move.kind == "reset":
            said = {kind: shown.reset(self._said(kind)) for kind, shown in self._shown.items()}
            return [chunk for kind, text in said.items() for chunk in self._text(kind, text)]
        return self._end() if move.kind == "end" else []

    def _said(self, kind: str) -> str:
        return "".join(part.text for part in self._fold.parts if part.kind == kind)

    def _text(self, kind: str, text: str) -> list[bytes]:
        return [self._before[kind] + json.dumps(text, ensure_ascii=False).encode() + self._after] if text else []

    def _end(self) -> list[bytes]:
        out = self._text("text", self._shown["text"].finish(self._fold.text))
        end = self._fold.end or {}
        if end["type"] == "error":
            return [*out, b"data: " + encode({"error": failure(end)}) + b"\n\n"]
        out.append(self._chunk({}, finish_reason_of(end)))
        if self._with_usage:
            last = self._head | {"choices": [], "usage": usage_json(end["usageJson"])}
            out.append(b"data: " + encode(last) + b"\n\n")
        return [*out, DONE]

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self._with_usage else {}
        return b"data: " + encode(self._head | {"choices": [choice]} | usage) + b"\n\n"


def failure(end: dict[str, Any]) -> dict[str, Any]:
    """How a run failed, as an error."""
    code = end["errorCode"] or "error"
    return {"message": f"{code}: {end['errorMsg'] or ''}", "type": "server_error", "param": None, "code": code}


def finish_reason_of(end: dict[str, Any]) -> str:
    return "length" if end.get("finishReason") == "length" else "stop"


def usage_json(counts: dict[str, Any] | None) -> dict[str, Any]:
    usage = usage_of(counts)
    return {
        "prompt_tokens": usage["inputTokens"],
        "completion_tokens": usage["outputTokens"],
        "total_tokens": usage["totalTokens"],
        "prompt_tokens_details": {"cached_tokens": usage["cacheReadTokens"]},
    }
