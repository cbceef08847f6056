"""The log of a session's events: number and store them, read them after a seq.

Whoever inserts holds the lock on the session's row and sets its `lastSeq` in the same transaction (`app.sessions`);
that is what makes the numbers gapless and their order the order of commits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app import db, events
from app.db.models import Event, Session
from app.db.statements import Insert, Row, Select
from app.db.times import iso_of, utc_now
from app.errors import Gone, NotFound

from .fold import fold

#: A page stops growing past this many characters, whatever its limit says.
PAGE_CHARACTERS = 4 * 1024 * 1024
#: Rows that are read at first; of short ones the rest of a page is read at once.
_FIRST_ROWS = 100
_SHORT_CHARACTERS = 64 * 1024
#: JSON that is nested deeper is stored as a string: a reader may have less stack left than the writer had.
DEEPEST_JSON = 500


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
    if isinstance(value, events.JsonText):
        return text_of(value.text)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(json.dumps(value, ensure_ascii=False), ensure_ascii=False)
    if _is_deep(text):
        text = json.dumps(text, ensure_ascii=False)
    return text_of(text)


def _is_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= DEEPEST_JSON:
        return False
    depth = deepest = 0
    for sign in _STRING_OR_BRACKET.findall(text):
        depth += (sign in "[{") - (sign in "]}")
        deepest = max(deepest, depth)
    return deepest > DEEPEST_JSON


# Possessive: a string of megabytes must not be remembered character by character.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"|[][{}]')


#: In the order of the tuples that `rows` makes.
_STORED = (
    Event.session_id, Event.seq, Event.event_type, Event.attempt, Event.created_at, Event.content,
    Event.supersedes_from, Event.tool_call_id, Event.tool_name, Event.tool_args, Event.tool_result, Event.tool_success,
    Event.duration_ms, Event.model, Event.usage_json, Event.error_msg, Event.error_code, Event.finish_reason,
    Event.cause,
)  # fmt: skip
#: Store rows made by `rows`, many in a statement.
insert = Insert(*_STORED)

# Written by hand: every poll with news and every commit that somebody waits for reads a page.
_READ = (Event.id, *_STORED[1:])
_NAMES = tuple(field.name for field in _READ)
#: Columns of the session, before those of the event.
_OF_SESSION = 4
# Session and events in one statement, which is one round trip and one snapshot.
_HEAD = (
    "SELECT s.status, s.lastSeq, s.updatedAt, s.eventsPrunedAt IS NOT NULL,"
    f" {', '.join(f'e.{field.column_name}' for field in _READ)}"
    " FROM chatSessions AS s LEFT JOIN chatEvents AS e ON e.sessionId = ? AND e.seq > ? AND e.seq <= s.lastSeq"
    " WHERE s.sessionId = ? AND s.owner = ? ORDER BY e.seq LIMIT ?"
)
_LARGE = ("content", "tool_args", "tool_result", "error_msg")
_ABOVE = f"{Select(*_READ).text} WHERE sessionId = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"


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
            return (text_of(event.content), *(None,) * 13)
        case events.Thinking():
            return (text_of(event.content), event.supersedes_from, *(None,) * 11, event.cause)
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
                *(None,) * 6,
            )
        case events.Done():
            return (
                text_of(event.content),
                *(None,) * 6,
                event.duration_ms,
                text_of(event.model[:128]),
                _usage_of(event),
                None,
                None,
                event.finish_reason and text_of(event.finish_reason[:32]),
                None,
            )
        case events.Error():
            return (
                text_of(event.content),
                *(None,) * 6,
                event.duration_ms,
                None,
                _usage_of(event),
                text_of(event.error_msg),
                text_of(event.error_code[:64]),
                None,
                None,
            )


def _usage_of(event: events.Terminal) -> str | None:
    return None if event.usage is None else str(Event.usage_json.db_value(event.usage.to_json()))


def read(owner: str, session_id: str, after: int, limit: int) -> EventPage:
    """Events of a session above *after*, oldest first, at most *limit* (fewer when they are large).

    Raises:
        NotFound: no such session for this owner.
        Gone: retention has deleted its events; `extra["finalAnswer"]` is the place of the answer.
        DatabaseUnavailable: no connection.
    """

    def look() -> EventPage:
        rows = db.sql(_HEAD, (session_id, after, session_id, owner, min(limit, _FIRST_ROWS))).fetchall()
        if not rows:
            raise NotFound("no such session")
        status, last_seq, updated_at, is_pruned = rows[0][:_OF_SESSION]
        if is_pruned:
            raise _pruned(session_id)
        found = [_event(row[_OF_SESSION:]) for row in rows if row[_OF_SESSION] is not None]
        size = sum(map(_size, found))
        if len(found) == _FIRST_ROWS < limit and found[-1]["seq"] < last_seq and size < _SHORT_CHARACTERS:
            rest = (session_id, found[-1]["seq"], last_seq, limit - _FIRST_ROWS)
            found += map(_event, db.sql(_ABOVE, rest).fetchall())
        events = _within_a_page(found)
        next_after = events[-1]["seq"] if events else after
        if next_after != after + len(events):
            # Retention began between the two statements.
            raise _pruned(session_id)
        has_more = next_after < last_seq
        return EventPage(
            session_id,
            # Clients stop at a terminal status: it must not arrive before the event that explains it.
            "running" if has_more else status,
            [to_json(session_id, event) for event in events],
            next_after,
            has_more,
            Session.updated_at.python_value(updated_at).timestamp(),
        )

    return db.reading(look)


def _pruned(session_id: str) -> Gone:
    return Gone(
        "the events of this session are no longer kept; `finalAnswer` is the place of its answer",
        finalAnswer=f"/api/chat/session/{session_id}",
        messages=f"/api/sessions/{session_id}/messages",
    )


def _event(row: Row) -> dict[str, Any]:
    return dict(zip(_NAMES, row, strict=True))


def _size(event: dict[str, Any]) -> int:
    return sum(len(event[name] or "") for name in _LARGE)


def _within_a_page(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first of them, up to the one with which a page is full."""
    size = 0
    for number, event in enumerate(found, start=1):
        size += _size(event)
        if size >= PAGE_CHARACTERS:
            return found[:number]
    return found


def to_json(session_id: str, event: dict[str, Any]) -> dict[str, Any]:
    """An event row as the API shows it: what all events carry, then the fields of its type."""
    kind = event["event_type"]
    out: dict[str, Any] = {
        "id": event["id"],
        "sessionId": session_id,
        "seq": event["seq"],
        "eventType": kind,
        "attempt": event["attempt"],
        "createdAt": iso_of(event["created_at"]),
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
    if event["cause"] is not None:
        out["cause"] = event["cause"]
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
            "usageJson": Event.usage_json.python_value(event["usage_json"]),
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
    names = ("seq", "eventType", "content", "supersedesFrom")
    found = db.tuples(query.order_by(Event.seq))
    return fold({**dict(zip(names, row, strict=True)), "content": row[2] or ""} for row in found).text
