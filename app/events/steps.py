"""What a session did, folded from its events: for its message and for the history of its agent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app import db
from app.db.models import Event

#: A tool's result is kept up to so many characters, its arguments as so much JSON; the event itself has all of it.
KEPT_CHARACTERS = 64 * 1024
#: Reasoning without anything in between that is longer is told in pieces.
THOUGHT_CHARACTERS = 1024 * 1024
#: What a message tells of tool calls is no longer, as JSON.
# What does not fit `max_allowed_packet` would keep its session from ever ending.
TOLD_CALLS_CHARACTERS = 1024 * 1024


@dataclass(slots=True)
class Thought:
    """Reasoning without anything in between."""

    content: str
    started_at: datetime


@dataclass(slots=True)
class ToolUse:
    """One call of a tool."""

    tool_call_id: str | None
    tool_name: str | None
    #: What is over `KEPT_CHARACTERS` is a string, the beginning of its JSON.
    args: Any
    started_at: datetime
    #: Cut at `KEPT_CHARACTERS`; None: the session ended before it.
    result: str | None = None
    #: The arguments or the result were cut.
    truncated: bool = False
    ok: bool | None = None
    duration_ms: int | None = None


@dataclass(slots=True)
class Steps:
    """Thoughts and tool calls in the order in which they began; superseded ones are left out."""

    steps: list[Thought | ToolUse] = field(default_factory=list)
    #: How often the model asked for tools; several calls at once are one time.
    rounds: int = 0

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """Every call with a result; the shape of a message's `metadata.toolCalls`.

        When they are large, later ones have null for their arguments; what does not fit even so is left out.
        """
        told: list[dict[str, Any]] = []
        room = TOLD_CALLS_CHARACTERS
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
            told.append(call)
        return told


def _size(call: dict[str, Any]) -> int:
    return len(json.dumps(call))


@dataclass(frozen=True, slots=True)
class _Row:
    seq: int
    kind: str
    content: str | None
    supersedes_from: int | None
    tool_call_id: str | None
    tool_name: str | None
    #: JSON, cut as the result is.
    tool_args: str | None
    tool_result: str | bytes | None
    tool_success: int | None
    duration_ms: int | None
    created_at: Any


def read(session_ids: Sequence[str]) -> dict[str, Steps]:
    """What each of these sessions did so far. Runs inside the caller's connection or transaction."""
    # SQLite's SUBSTR of a text ends at the first NUL; of bytes it gives enough for so many characters.
    result = "SUBSTR(CAST(toolResult AS BLOB), 1, 4 * ?)" if db.is_sqlite() else "SUBSTR(toolResult, 1, ?)"
    statement = _READ.format(result=result, marks=db.marks(len(session_ids)))
    rows: dict[str, list[_Row]] = {session_id: [] for session_id in session_ids}
    for session_id, *columns in db.sql(statement, [*(KEPT_CHARACTERS + 1,) * 2, *session_ids]).fetchall():
        rows[session_id].append(_Row(*columns))
    return {session_id: _fold(_counting(each)) for session_id, each in rows.items()}


_READ = (
    "SELECT sessionId, seq, eventType, content, supersedesFrom, toolCallId, toolName, SUBSTR(toolArgs, 1, ?),"
    " {result}, toolSuccess, durationMs, createdAt FROM chatEvents"
    " WHERE sessionId IN ({marks}) AND eventType IN ('thinking', 'tool_call') ORDER BY sessionId, seq"
)


def _counting(rows: Iterable[_Row]) -> list[_Row]:
    counting: list[_Row] = []
    for row in rows:
        if row.supersedes_from is not None:
            while counting and counting[-1].seq >= row.supersedes_from:
                counting.pop()
        counting.append(row)
    return counting


def _fold(rows: Iterable[_Row]) -> Steps:
    did = Steps()
    thought_seq = -1
    asking = False
    for row in rows:
        if row.kind == "thinking":
            if not row.content:
                continue
            last = did.steps[-1] if did.steps else None
            goes_on = row.seq == thought_seq + 1
            if isinstance(last, Thought) and goes_on and len(last.content) < THOUGHT_CHARACTERS:
                last.content += row.content
            else:
                did.steps.append(Thought(row.content, _time(row)))
            thought_seq = row.seq
            asking = False
        elif row.tool_success is None:
            did.steps.append(_use(row))
            did.rounds += not asking
            asking = True
        else:
            _finish_call(did, row)
            asking = False
    return did


def _use(row: _Row) -> ToolUse:
    text = row.tool_args or ""
    cut = len(text) > KEPT_CHARACTERS
    args = text[:KEPT_CHARACTERS] if cut else Event.tool_args.python_value(row.tool_args)
    return ToolUse(row.tool_call_id, row.tool_name, args, _time(row), truncated=cut)


def _time(row: _Row) -> datetime:
    moment: datetime = Event.created_at.python_value(row.created_at)
    return moment


def _finish_call(did: Steps, row: _Row) -> None:
    use = next(
        (
            step
            for step in did.steps
            # The oldest open one: some models use the same ids in each answer.
            if isinstance(step, ToolUse) and step.ok is None and step.tool_call_id == row.tool_call_id
        ),
        None,
    )
    if use is None:
        use = _use(row)
        did.steps.append(use)
    result = row.tool_result or ""
    if isinstance(result, bytes):
        result = result.decode("utf-8", "ignore")
    use.truncated |= len(result) > KEPT_CHARACTERS
    use.result = result[:KEPT_CHARACTERS]
    use.ok = bool(row.tool_success)
    use.duration_ms = row.duration_ms
