"""Chunks of the AI SDK: the index is a cursor, and whoever applies them is left with the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.compat.chat_chunks import AGAIN
from app.api.compat.ui_chunks import UiChunks
from app.events.fold import fold
from tests.unit.test_fold import logs
from tests.unit.test_response_events import complete


def said(events: list[dict[str, Any]], *, can_reset: bool, above: int = 0, at_once: int = 1) -> list[dict[str, Any]]:
    render = UiChunks("s-1", can_reset=can_reset, above=above)
    body = b""
    for start in range(0, len(events), at_once):
        render.take(events[start : start + at_once])
        body += b"".join(render._out)
        render._out = []
    frames = [frame.removeprefix("data: ") for frame in body.decode().split("\n\n") if frame]
    return [json.loads(frame) for frame in frames if frame != "[DONE]"]


class Message:
    """What a page shows, as the SDK's own reducer does it; it fails at what that one refuses."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []
        self._open: dict[str, dict[str, Any]] = {}

    def apply(self, chunk: dict[str, Any]) -> None:
        kind, _, what = chunk["type"].partition("-")
        if kind in ("text", "reasoning") and what == "start":
            assert chunk["id"] not in self._open
            self._open[chunk["id"]] = {"kind": kind, "text": ""}
            self.parts.append(self._open[chunk["id"]])
        elif kind in ("text", "reasoning") and what == "delta":
            self._open[chunk["id"]]["text"] += chunk["delta"]
        elif kind in ("text", "reasoning"):
            del self._open[chunk["id"]]
        elif chunk["type"] == "tool-input-available":
            self.parts.append({"kind": "tool", "id": chunk["toolCallId"], "done": False})
        elif kind == "tool":
            calls = [part for part in self.parts if part.get("id") == chunk["toolCallId"]]
            calls[-1]["done"] = True
        elif chunk["type"] == "reset-step":
            self.parts, self._open = [], {}

    def text(self, kind: str = "text") -> str:
        return "".join(part["text"] for part in self.parts if part["kind"] == kind)


def shown(chunks: list[dict[str, Any]]) -> Message:
    message = Message()
    for chunk in chunks:
        message.apply(chunk)
    return message


@given(logs(), st.booleans())
def test_the_index_of_a_chunk_is_a_cursor(log: list[dict[str, Any]], can_reset: bool) -> None:
    log = complete(log)
    whole = said(log, can_reset=can_reset)

    assert said(log, can_reset=can_reset, at_once=3) == whole
    for index in range(len(whole) + 1):
        assert said(log, can_reset=can_reset, above=index) == whole[index:]


@given(logs())
def test_a_client_that_knows_resets_shows_the_parts_of_the_fold(log: list[dict[str, Any]]) -> None:
    log = complete(log)
    chunks = said(log, can_reset=True)
    folded = fold(log)
    message = shown(chunks)

    assert [part["kind"] for part in message.parts] == [part.kind for part in folded.parts]
    for kind in ("text", "reasoning"):
        assert message.text(kind) == "".join(part.text for part in folded.parts if part.kind == kind)
    if folded.ended_by is not None:
        assert chunks[-1]["type"] == "finish"


@given(logs())
def test_a_client_that_does_not_ends_with_the_answer(log: list[dict[str, Any]]) -> None:
    log = complete(log)
    chunks = said(log, can_reset=False)
    folded = fold(log)

    assert "reset-step" not in {chunk["type"] for chunk in chunks}
    if folded.ended_by is not None:
        assert shown(chunks).text().split(AGAIN)[-1] == folded.text


@pytest.mark.parametrize(
    ("code", "types"), [("cancelled", ["start", "abort", "finish"]), ("timeout", ["start", "error", "finish"])]
)
def test_whatever_the_end_there_is_a_finish(code: str, types: list[str]) -> None:
    end = {"eventType": "error", "seq": 1, "content": "", "errorCode": code, "errorMsg": "no", "durationMs": 1}

    assert [chunk["type"] for chunk in said([end], can_reset=True)] == types
