"""What a session did, folded from its events: for its message and for the history of its agent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from . import database
from .models import Event

#: A tool's result is kept up to so many characters; the event itself has all of it.
KEPT_RESULT_CHARACTERS = 64 * 1024


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
    args: Any
    started_at: datetime
    #: Cut at `KEPT_RESULT_CHARACTERS`; None: the session ended before it.
    result: str | None = None
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
        """Every call with a result; the shape of a message's `metadata.toolCalls`."""
        return [
            {"toolCallId": step.tool_call_id, "toolName": step.tool_name, "args": step.args, "isError": not step.ok}
            for step in self.steps
            if isinstance(step, ToolUse) and step.ok is not None
        ]


@dataclass(frozen=True, slots=True)
class _Row:
    seq: int
    kind: str
    content: str | None
    supersedes_from: int | None
    tool_call_id: str | None
    tool_name: str | None
    #: As the database gives them.
    tool_args: Any
    tool_result: str | None
    tool_success: int | None
    duration_ms: int | None
    created_at: Any


def read(session_ids: Sequence[str]) -> dict[str, Steps]:
    """What each of these sessions did so far. Runs inside the caller's connection or transaction."""
    statement = _READ.format(marks=database.marks(len(session_ids)))
    rows: dict[str, list[_Row]] = {session_id: [] for session_id in session_ids}
    for session_id, *columns in database.sql(statement, [KEPT_RESULT_CHARACTERS + 1, *session_ids]).fetchall():
        rows[session_id].append(_Row(*columns))
    return {session_id: _fold(_counting(each)) for session_id, each in rows.items()}


_READ = (
    "SELECT sessionId, seq, eventType, content, supersedesFrom, toolCallId, toolName, toolArgs,"
    " SUBSTR(toolResult, 1, ?), toolSuccess, durationMs, createdAt FROM chatEvents"
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
            if isinstance(last, Thought) and row.seq == thought_seq + 1:
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
    return ToolUse(row.tool_call_id, row.tool_name, Event.tool_args.python_value(row.tool_args), _time(row))


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
    use.truncated = len(result) > KEPT_RESULT_CHARACTERS
    use.result = result[:KEPT_RESULT_CHARACTERS]
    use.ok = bool(row.tool_success)
    use.duration_ms = row.duration_ms
