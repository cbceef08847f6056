"""The log of a session's events: number and store them, read them after a seq.

Whoever inserts holds the lock on the session's row and sets its `lastSeq` in the same transaction (`app.sessions`);
that is what makes the numbers gapless and their order the order of commits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from app import db, events
from app.db.models import Event, Session
from app.db.times import iso, utc_now
from app.errors import Gone, NotFound

#: A page stops growing past this many characters, whatever its limit says.
PAGE_CHARACTERS = 4 * 1024 * 1024
_CHUNK = 100
#: JSON that is nested deeper is stored as a string: who reads it may have less of the stack left than who wrote it.
_DEEPEST_JSON = 500
#: Rows and characters of one INSERT, so that a batch of large events still fits `max_allowed_packet`.
# SQLite takes 32,766 parameters.
_INSERT_ROWS = 1000
_INSERT_CHARACTERS = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events of one session above a seq, with the status they were read under."""

    session_id: str
    #: Terminal only when the terminal event is in this page or before it.
    status: str
    events: list[dict[str, Any]]
    #: The `after` of the next page.
    next_after: int
    has_more: bool
    #: When the session last changed, in seconds since 1970.
    moved_at: float

    @property
    def is_news(self) -> bool:
        """It has events, or the end."""
        return bool(self.events) or self.status != "running"


def text_of(value: str | None) -> str | None:
    """*value* without lone surrogates, which no database stores as UTF-8."""
    return None if value is None else value.encode("utf-8", "replace").decode("utf-8")


def json_of(value: Any) -> str | None:
    """*value* as JSON text that every reader can parse; what can't be that (NaN, very deep) becomes a string.

    Raises:
        TypeError, ValueError: it holds what no JSON can say.
    """
    if value is None:
        return None
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(json.dumps(value, ensure_ascii=False), ensure_ascii=False)
    if _is_deep(text):
        text = json.dumps(text, ensure_ascii=False)
    return text_of(text)


def _is_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= _DEEPEST_JSON:
        return False
    depth = deepest = 0
    for sign in _STRING_OR_BRACKET.findall(text):
        depth += (sign in "[{") - (sign in "]}")
        deepest = max(deepest, depth)
    return deepest > _DEEPEST_JSON


# Possessive: a string of megabytes must not be remembered character by character.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"|[][{}]')


#: The columns of an insert, in the order of the tuples that `rows` makes.
_COLUMNS = (
    "sessionId", "seq", "eventType", "attempt", "createdAt", "content", "supersedesFrom", "toolCallId", "toolName",
    "toolArgs", "toolResult", "toolSuccess", "durationMs", "model", "usageJson", "errorMsg", "errorCode",
    "finishReason",
)  # fmt: skip
_LARGE = tuple(_COLUMNS.index(name) for name in ("content", "toolArgs", "toolResult", "errorMsg"))
_LARGE_FIELDS = ("content", "tool_args", "tool_result", "error_msg")
_INSERT = f"INSERT INTO chatEvents ({', '.join(_COLUMNS)}) VALUES "
_MARKS = f"({db.marks(len(_COLUMNS))})"

# Written by hand: every poll with news and every commit that somebody waits for reads a page.
_STANDING = "SELECT status, lastSeq, updatedAt, eventsPrunedAt FROM chatSessions WHERE sessionId = ? AND owner = ?"
_FIELDS = (
    "id", "session_id", "seq", "event_type", "attempt", "created_at", "content", "supersedes_from", "tool_call_id",
    "tool_name", "tool_args", "tool_result", "tool_success", "duration_ms", "model", "usage_json", "error_msg",
    "error_code", "finish_reason",
)  # fmt: skip
_ABOVE = (
    f"SELECT id, {_COLUMNS[0]}, seq, eventType, attempt, createdAt, {', '.join(_COLUMNS[5:])} FROM chatEvents"
    " WHERE sessionId = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)

Row = tuple[Any, ...]


def rows(session_id: str, attempt: int, after: int, numbered: Sequence[events.Event]) -> list[Row]:
    """The rows of *numbered*, with seqs from *after* + 1."""
    now = Event.created_at.db_value(utc_now())
    return [
        (session_id, after + offset, event.type, attempt, now, *_fields(event))
        for offset, event in enumerate(numbered, start=1)
    ]


def _fields(event: events.Event) -> Row:
    match event:
        case events.Delta():
            return (text_of(event.content), *(None,) * 12)
        case events.Thinking():
            return (text_of(event.content), event.supersedes_from, *(None,) * 11)
        case events.ToolCall():
            return (
                None,
                None,
                text_of(event.tool_call_id[:128]),
                text_of(event.tool_name[:128]),
                json_of(event.tool_args),
                text_of(event.tool_result),
                None if event.tool_success is None else int(event.tool_success),
                event.duration_ms,
                *(None,) * 5,
            )
        case events.Done():
            usage = None if event.usage is None else event.usage.to_json()
            return (
                text_of(event.content),
                *(None,) * 6,
                event.duration_ms,
                text_of(event.model[:128]),
                Event.usage_json.db_value(usage),
                None,
                None,
                event.finish_reason and text_of(event.finish_reason[:32]),
            )
        case events.Error():
            return (
                text_of(event.content),
                *(None,) * 6,
                event.duration_ms,
                None,
                None,
                text_of(event.error_msg),
                text_of(event.error_code[:64]),
                None,
            )


def insert(new: Iterable[Row]) -> None:
    """Insert rows made by `rows`, many in a statement."""
    chunk: list[Row] = []
    size = 0
    for row in new:
        length = sum(len(row[column] or "") for column in _LARGE)
        if chunk and (len(chunk) >= _INSERT_ROWS or size + length > _INSERT_CHARACTERS):
            _insert(chunk)
            chunk, size = [], 0
        chunk.append(row)
        size += length
    if chunk:
        _insert(chunk)


def _insert(chunk: Sequence[Row]) -> None:
    db.sql(_INSERT + ",".join((_MARKS,) * len(chunk)), [value for row in chunk for value in row])


def read(owner: str, session_id: str, after: int, limit: int) -> EventPage:
    """Events of a session above *after*, oldest first, at most *limit* (fewer when they are large).

    Raises:
        NotFound: no such session for this owner.
        Gone: retention has deleted its events; `extra["finalAnswer"]` is the place of the answer.
        DatabaseUnavailable: no connection.
    """

    def look() -> EventPage:
        # The row first: all events up to its lastSeq were committed with it or before, so none can be missing below.
        row = db.sql(_STANDING, (session_id, owner)).fetchone()
        if row is None:
            raise NotFound("no such session")
        status, last_seq, updated_at, pruned_at = row
        if pruned_at is not None:
            raise _pruned(session_id)
        found = _page(session_id, after, last_seq, limit)
        if found and found[-1]["seq"] != after + len(found):
            # Retention began between the two looks.
            raise _pruned(session_id)
        next_after = found[-1]["seq"] if found else after
        has_more = next_after < last_seq
        # Clients stop at a terminal status: it must not arrive before the event that explains it.
        shown = "running" if has_more else status
        events = [to_json(event) for event in found]
        return EventPage(
            session_id, shown, events, next_after, has_more, Session.updated_at.python_value(updated_at).timestamp()
        )

    return db.reading(look)


def _pruned(session_id: str) -> Gone:
    return Gone(
        "the events of this session are no longer kept; `finalAnswer` is the place of its answer",
        finalAnswer=f"/api/chat/session/{session_id}",
        messages=f"/api/sessions/{session_id}/messages",
    )


def _page(session_id: str, after: int, last_seq: int, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    size = 0
    while len(found) < limit and after < last_seq and size < PAGE_CHARACTERS:
        rows = db.sql(_ABOVE, (session_id, after, last_seq, min(_CHUNK, limit - len(found)))).fetchall()
        if not rows:
            break
        for row in rows:
            event = dict(zip(_FIELDS, row, strict=True))
            found.append(event)
            size += sum(len(event[name] or "") for name in _LARGE_FIELDS)
            if size >= PAGE_CHARACTERS:
                break
        after = found[-1]["seq"]
    return found


def to_json(event: dict[str, Any]) -> dict[str, Any]:
    """An event row as the API shows it: what all events carry, then the fields of its type."""
    kind = event["event_type"]
    out: dict[str, Any] = {
        "id": event["id"],
        "sessionId": event["session_id"],
        "seq": event["seq"],
        "eventType": kind,
        "attempt": event["attempt"],
        "createdAt": iso(Event.created_at.python_value(event["created_at"])),
    }
    if kind == "tool_call":
        success = event["tool_success"]
        return out | {
            "toolCallId": event["tool_call_id"],
            "toolName": event["tool_name"],
            "toolArgs": Event.tool_args.python_value(event["tool_args"]),
            "toolResult": event["tool_result"],
            "toolSuccess": None if success is None else bool(success),
            "durationMs": event["duration_ms"],
        }
    out["content"] = event["content"] or ""
    if event["supersedes_from"] is not None:
        out["supersedesFrom"] = event["supersedes_from"]
    if kind == "done":
        out |= {
            "model": event["model"],
            "usageJson": Event.usage_json.python_value(event["usage_json"]),
            "durationMs": event["duration_ms"],
            "finishReason": event["finish_reason"],
        }
    elif kind == "error":
        out |= {
            "errorMsg": event["error_msg"],
            "errorCode": event["error_code"],
            "durationMs": event["duration_ms"],
        }
    return out


def answer_text(session_id: str, up_to: int | None = None) -> str:
    """The deltas that still count, joined; of events up to seq *up_to* when given.

    Runs inside the caller's connection or transaction.
    """
    query = Event.select(Event.seq, Event.event_type, Event.content, Event.supersedes_from).where(
        (Event.session_id == session_id) & ((Event.event_type == "delta") | (Event.supersedes_from.is_null(False)))
    )
    if up_to is not None:
        query = query.where(Event.seq <= up_to)
    counting: list[tuple[int, str]] = []
    for seq, kind, content, supersedes_from in db.tuples(query.order_by(Event.seq)):
        if supersedes_from is not None:
            while counting and counting[-1][0] >= supersedes_from:
                counting.pop()
        if kind == "delta":
            counting.append((seq, content or ""))
    return "".join(content for _, content in counting)
