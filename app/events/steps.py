"""What a session did: its thoughts and tool calls, for its message and for the history of its agent."""

from __future__ import annotations

import json
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from app import db
from app.db.models import Event

from .fold import Part, fold

#: A tool's result is kept up to so many characters, its arguments as so much JSON; the event itself has all of it.
KEPT_CHARACTERS = 64 * 1024
#: Reasoning without anything in between that is longer becomes several steps.
THOUGHT_CHARACTERS = 1024 * 1024
#: Of one session so many bytes of all this are kept, the first ones: ending it depends on the size of its answer only.
KEPT_BYTES = 8 * 1024 * 1024
#: A session of fewer events can't have much more.
_FEW_EVENTS = 64
#: The tool calls of a message are no longer, as JSON.
# What does not fit `max_allowed_packet` would keep its session from ever ending.
SUMMARY_CALL_CHARACTERS = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Thought:
    """Reasoning without anything in between."""

    content: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One call of a tool."""

    tool_call_id: str | None
    tool_name: str | None
    #: Over `KEPT_CHARACTERS` it is a string, the beginning of its JSON.
    args: Any
    started_at: datetime
    #: Cut at `KEPT_CHARACTERS`; None: the session ended before it.
    result: str | None
    #: The arguments or the result were cut or left out.
    truncated: bool
    ok: bool | None
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class Steps:
    """Thoughts and tool calls in the order in which they began; superseded ones are left out."""

    steps: list[Thought | ToolUse] = field(default_factory=list)
    #: How often the model asked for tools; several calls at once are one time.
    rounds: int = 0
    #: The same with the runs of text between them, each with the seqs (`seq` to `last`) in which its deltas lie.
    parts: Sequence[Part] = ()

    @property
    def summary(self) -> list[dict[str, Any]]:
        """Every call with a result; the shape of a message's `metadata.toolCalls`.

        When they are large, later ones have null for their arguments; what does not fit even so is left out.
        """
        calls: list[dict[str, Any]] = []
        room = SUMMARY_CALL_CHARACTERS
        for step in self.steps:
            if not isinstance(step, ToolUse) or step.ok is None:
                continue
            call = {"toolCallId": step.tool_call_id, "toolName": step.tool_name, "args": step.args}
            call["isError"] = not step.ok
            if _size(call) > room:
                call["args"] = None
            room -= _size(call)
            if room < 0:
                break
            calls.append(call)
        return calls


def _size(call: dict[str, Any]) -> int:
    return len(json.dumps(call))


def read(last_seqs: Mapping[str, int]) -> dict[str, Steps]:
    """What each of these sessions did up to its last seq. Runs inside the caller's connection or transaction."""
    few = [session_id for session_id, last_seq in last_seqs.items() if last_seq <= _FEW_EVENTS]
    many = [session_id for session_id, last_seq in last_seqs.items() if last_seq > _FEW_EVENTS]
    found: dict[str, Steps] = {}
    for session_ids, source, kept in ((few, _ALL, "1"), (many, _MEASURED, "room > 0")):
        if session_ids:
            found |= _read({each: last_seqs[each] for each in session_ids}, source, kept)
    return {session_id: found.get(session_id, Steps()) for session_id in last_seqs}


def _read(last_seqs: Mapping[str, int], source: str, kept: str) -> dict[str, Steps]:
    # SQLite's SUBSTR of a text ends at the first NUL; of bytes it gives enough for so many characters.
    result = "SUBSTR(CAST(toolResult AS BLOB), 1, 4 * {n})" if db.is_sqlite() else "SUBSTR(toolResult, 1, {n})"
    large = ("content", f"SUBSTR(toolArgs, 1, {KEPT_CHARACTERS + 1})", result.format(n=KEPT_CHARACTERS + 1))
    content, args, result = (f"CASE WHEN {kept} THEN {column} END" for column in large)
    statement = (
        f"SELECT e.sessionId, e.seq, eventType, {content}, supersedesFrom, toolCallId, toolName, {args}, {result},"
        f" toolSuccess, durationMs, createdAt, {kept} FROM {source.format(wanted=_WANTED)}"
        " ORDER BY e.sessionId, e.seq"
    ).format(marks=db.marks(len(last_seqs)))
    rows = db.sql(statement, list(last_seqs)).fetchall()
    return {
        session_id: _steps(fold(_events(list(some), last_seqs[session_id])).parts)
        for session_id, some in groupby(rows, itemgetter(0))
    }


_WANTED = "sessionId IN ({marks}) AND eventType IN ('thinking', 'tool_call')"
_ALL = "chatEvents AS e WHERE {wanted}"
_SIZE = " + ".join(
    f"CASE WHEN LENGTH({column}) > {KEPT_CHARACTERS} THEN {KEPT_CHARACTERS} ELSE COALESCE(LENGTH({column}), 0) END"
    for column in ("content", "toolArgs", "toolResult")
)
# The sizes apart from the texts: a database that sorts or sums carries along what it selects.
_MEASURED = (
    f"(SELECT sessionId, seq, {KEPT_BYTES} - SUM(size) OVER (PARTITION BY sessionId ORDER BY seq) + size AS room FROM"
    f" (SELECT sessionId, seq, {_SIZE} AS size FROM chatEvents WHERE {{wanted}}) AS sized) AS measured"
    " JOIN chatEvents AS e ON e.sessionId = measured.sessionId AND e.seq = measured.seq"
)
_FIELDS = (
    "seq", "eventType", "content", "supersedesFrom", "toolCallId", "toolName", "toolArgs", "toolResult", "toolSuccess",
    "durationMs", "createdAt", "kept",
)  # fmt: skip


def _events(rows: Sequence[tuple[Any, ...]], last_seq: int) -> Iterator[dict[str, Any]]:
    """The events of these rows; arguments and results are text that may be cut.

    Seqs have no gap: what was not read up to the terminal event, *last_seq*, is text of the answer, and thoughts before
    and after it are two.
    """
    events = [dict(zip(_FIELDS, values, strict=True)) for _, *values in rows]
    # Text that is superseded in part is in two pieces.
    cuts = sorted({event["supersedesFrom"] for event in events} - {None})
    next_seq = 1
    for event in events:
        yield from _text_between(next_seq, event["seq"], cuts)
        next_seq = event["seq"] + 1
        event["content"] = event["content"] or ""
        yield event
    yield from _text_between(next_seq, last_seq, cuts)


def _text_between(first: int, end: int, cuts: Sequence[int]) -> Iterator[dict[str, Any]]:
    for before in [*(cut for cut in cuts if first < cut < end), end]:
        if first < before:
            yield {"seq": first, "last": before - 1, "eventType": "delta", "content": "…"}
        first = before


def _steps(parts: Sequence[Part]) -> Steps:
    steps: list[Thought | ToolUse] = []
    for part in parts:
        if part.kind == "reasoning":
            steps += _thoughts(part)
        elif part.kind == "tool":
            steps.append(use_of(part))
    return Steps(steps, _rounds(parts), parts)


def _thoughts(part: Part) -> Iterator[Thought]:
    pieces: list[str] = []
    started_at, size = part.events[0]["createdAt"], 0
    for event in part.events:
        if size >= THOUGHT_CHARACTERS:
            yield Thought("".join(pieces), _time(started_at))
            pieces, started_at, size = [], event["createdAt"], 0
        pieces.append(event["content"])
        size += len(event["content"])
    yield Thought("".join(pieces), _time(started_at))


def use_of(part: Part) -> ToolUse:
    """The call of a part that `read` gave."""
    begun, ended = part.events[0], part.result
    args = begun["toolArgs"] or ""
    cut = len(args) > KEPT_CHARACTERS
    result = None if ended is None else _text(ended["toolResult"])
    return ToolUse(
        tool_call_id=begun["toolCallId"],
        tool_name=begun["toolName"],
        args=args[:KEPT_CHARACTERS] if cut else Event.tool_args.python_value(begun["toolArgs"]),
        started_at=_time(begun["createdAt"]),
        result=None if result is None else result[:KEPT_CHARACTERS],
        truncated=cut or len(result or "") > KEPT_CHARACTERS or not (begun["kept"] and (ended or begun)["kept"]),
        ok=None if ended is None else bool(ended["toolSuccess"]),
        duration_ms=None if ended is None else ended["durationMs"],
    )


def _text(value: str | bytes | None) -> str:
    return value.decode("utf-8", "ignore") if isinstance(value, bytes) else value or ""


def _time(value: Any) -> datetime:
    moment: datetime = Event.created_at.python_value(value)
    return moment


def _rounds(parts: Sequence[Part]) -> int:
    """Calls belong to one round while nothing but calls began between them."""
    results = sorted(part.result["seq"] for part in parts if part.result is not None)
    rounds, last = 0, None
    for part in parts:
        if part.kind != "tool" or part.events[0]["toolSuccess"] is not None:
            last = None if part.kind != "text" else last
            continue
        if last is None or bisect(results, last) != bisect(results, part.seq):
            rounds += 1
        last = part.seq
    return rounds
