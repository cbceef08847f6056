"""The parts of an answer as its message keeps them: reasoning, text and tool calls in the order in which they came.

What was shown live can be shown again after the events are pruned. Text is kept once, as the message's content: a part
of it is stored as a length and gets its text when the message is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app import db
from app.db.models import Event

from .fold import Part
from .steps import KEPT_CHARACTERS, Steps, use_of

#: All parts of one message together, as JSON without the text; what does not fit is left out and says so.
PARTS_CHARACTERS = 1024 * 1024
#: More parts than this are not kept apart: the text of the others is one part.
MOST_PARTS = 1000

#: (first seq, last seq) → the deltas in between, joined.
_ReadText = Callable[[int, int], str]


def stored(session_id: str, steps: Steps, answer: str) -> list[dict[str, Any]]:
    """What a message keeps of its session. Runs inside the caller's connection or transaction.

    Args:
        answer: The text of the message; empty: there is none.
    """

    def read(first: int, last: int) -> str:
        wanted = (Event.session_id == session_id) & (Event.event_type == "delta") & Event.seq.between(first, last)
        deltas = Event.select(Event.content).where(wanted).order_by(Event.seq)
        return "".join(content or "" for (content,) in db.tuples(deltas))

    return _bounded(*_with_texts(steps.parts, answer, read))


def shown(parts: Sequence[Mapping[str, Any]] | None, content: str) -> list[dict[str, Any]] | None:
    """The parts of a message with the text that they have of its *content*; None: it keeps none."""
    if parts is None:
        return None
    out: list[dict[str, Any]] = []
    start = 0
    for part in parts:
        if part["kind"] == "text":
            out.append({"kind": "text", "text": content[start : start + part["length"]]})
            start += part["length"]
        else:
            out.append(dict(part))
    return out


def _with_texts(parts: Sequence[Part], answer: str, read: _ReadText) -> tuple[list[Part], dict[int, str]]:
    """The parts that make *answer*, and the texts by number; as the end of a session settles its text."""
    texts = [part for part in parts if part.kind == "text"]
    # The run that the answer ends with needs no reading, and most answers are one run.
    *earlier, last = [*texts, None] if not texts or texts[-1] is not parts[-1] else texts
    said = {part.n: "".join(read(event["seq"], event["last"]) for event in part.events) for part in earlier if part}
    before = "".join(said.values())
    if last is not None and answer.startswith(before) and len(answer) > len(before):
        return list(parts), said | {last.n: answer[len(before) :]}
    if last is None and answer == before:
        return list(parts), said
    others = [part for part in parts if part.kind != "text"]
    if not answer:
        return others, {}
    n = max((part.n for part in parts), default=-1) + 1
    return [*others, Part("text", n, [])], {n: answer}


def _bounded(parts: Sequence[Part], texts: Mapping[int, str]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    room = PARTS_CHARACTERS
    for part in parts[:MOST_PARTS]:
        if part.kind == "text":
            out.append({"kind": "text", "length": len(texts[part.n])})
            continue
        kept = _reasoning(part) if part.kind == "reasoning" else _tool(part)
        size = len(json.dumps(kept))
        if size > room:
            kept = {name: value for name, value in kept.items() if name not in ("text", "toolArgs", "toolResult")}
            kept |= {"text": ""} if part.kind == "reasoning" else {"toolArgs": None, "toolResult": None}
            kept["truncated"] = True
            size = 0
        room -= size
        out.append(kept)
    if rest := sum(len(texts[part.n]) for part in parts[MOST_PARTS:] if part.kind == "text"):
        out.append({"kind": "text", "length": rest})
    return out


def _reasoning(part: Part) -> dict[str, Any]:
    text = part.text
    kept = {"kind": "reasoning", "text": text[:KEPT_CHARACTERS]}
    return kept if len(text) <= KEPT_CHARACTERS else kept | {"truncated": True}


def _tool(part: Part) -> dict[str, Any]:
    use = use_of(part)
    kept = {
        "kind": "tool",
        "toolCallId": part.tool_call_id,
        "toolName": use.tool_name,
        "toolArgs": use.args,
        "toolResult": use.result,
        "toolSuccess": use.ok,
        "durationMs": use.duration_ms,
    }
    return kept | {"truncated": True} if use.truncated else kept
