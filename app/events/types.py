"""The five events of a session: types, JSON and how they fold into an answer.

Orchestrators yield them, the event writer numbers and stores them, clients poll them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .usage import Usage

EventType = Literal["thinking", "tool_call", "delta", "done", "error"]
Status = Literal["running", "done", "error"]

#: Largest text of one event, in bytes of UTF-8; longer text becomes several events.
MAX_EVENT_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class JsonText:
    """A JSON value as its text: checked, and stored as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """First of every attempt, then the model's reasoning as it streams. Does not end the session."""

    content: str = ""
    #: On the first event of a resumed attempt: earlier events with this seq or above no longer count.
    supersedes_from: int | None = None
    #: On the first event of a resumed attempt: why the one before ended; None: nobody knows.
    cause: str | None = None

    type: EventType = field(default="thinking", init=False)
    terminal: bool = field(default=False, init=False)


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer. Does not end the session."""

    content: str

    type: EventType = field(default="delta", init=False)
    terminal: bool = field(default=False, init=False)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool is about to run (`tool_success` is None) or has run. Does not end the session."""

    tool_call_id: str
    tool_name: str
    #: Any JSON value, or its `JsonText`; a string when the model sent arguments that are no JSON.
    tool_args: Any = None
    tool_result: str | None = None
    tool_success: bool | None = None
    duration_ms: int | None = None

    type: EventType = field(default="tool_call", init=False)
    terminal: bool = field(default=False, init=False)


@dataclass(frozen=True, slots=True)
class Done:
    """The turn is answered. Ends the session."""

    #: The whole answer; None: the deltas joined.
    content: str | None = None
    model: str = ""
    #: Of the whole turn; None: none was told. What was counted on the way is never taken back.
    usage: Usage | None = None
    duration_ms: int | None = None
    #: Why the model stopped: `stop`, or `length` at the limit of its output; None: unknown.
    finish_reason: str | None = None

    type: EventType = field(default="done", init=False)
    terminal: bool = field(default=True, init=False)


@dataclass(frozen=True, slots=True)
class Error:
    """The turn failed or was stopped. Ends the session."""

    error_code: str
    error_msg: str
    #: The partial answer.
    content: str | None = None
    duration_ms: int | None = None
    #: What a provider said of it: kept with the session for whoever runs the deployment, never in the event.
    provider_said: str | None = None
    #: What the turn had used by then; None: nothing.
    usage: Usage | None = None

    type: EventType = field(default="error", init=False)
    terminal: bool = field(default=True, init=False)


Event = Thinking | Delta | ToolCall | Done | Error
Terminal = Done | Error


def split_text(text: str, limit: int = MAX_EVENT_BYTES) -> Iterator[str]:
    """*text* in pieces of at most *limit* bytes of UTF-8 (at least 4), never inside a character."""
    encoded = text.encode("utf-8", "surrogatepass")
    start = 0
    while len(encoded) - start > limit:
        end = start + limit
        # A continuation byte (10xxxxxx) must not open the next piece.
        while encoded[end] & 0xC0 == 0x80:
            end -= 1
        yield encoded[start:end].decode("utf-8", "surrogatepass")
        start = end
    yield encoded[start:].decode("utf-8", "surrogatepass")


def coalesce(events: Iterable[Event], limit: int = MAX_EVENT_BYTES) -> list[Event]:
    """Join neighbouring deltas (and neighbouring thinking), then split what is over *limit* bytes.

    The joined text of each kind, and the order between kinds, stay as they were.
    """
    joined: list[tuple[Thinking | Delta, list[str]] | Event] = []
    for event in events:
        if not isinstance(event, (Thinking, Delta)):
            joined.append(event)
            continue
        last = joined[-1] if joined else None
        # The first event of an attempt carries supersedesFrom: text may join it, it may join nothing before.
        opens = isinstance(event, Thinking) and event.supersedes_from is not None
        if isinstance(last, tuple) and type(last[0]) is type(event) and not opens:
            last[1].append(event.content)
        else:
            joined.append((event, [event.content]))
    out: list[Event] = []
    for item in joined:
        if not isinstance(item, tuple):
            out.append(item)
            continue
        head, parts = item
        pieces = list(split_text("".join(parts), limit))
        out.append(replace(head, content=pieces[0]))
        out.extend(type(head)(content=piece) for piece in pieces[1:])
    return out
