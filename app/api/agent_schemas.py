"""Parameters, answers and examples of agents and their history."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from app.db.times import within_reach
from app.history.entries import HISTORY_TYPES, HistoryType

from ..errors import Invalid
from .schemas import UUID, Camel, Shown, Uuid

#: The first deployment's clients write it before the types of events.
PREFIX = "agent:"
#: What a page passes over is read; further ones are reached by cursors.
MOST_OFFSET = 100_000

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_SPACE_FOR_PLUS = re.compile(r" (?=\d\d(:?\d\d)?$)")


def moment_of(text: str) -> datetime:
    """A time in ISO 8601; without a zone it is UTC.

    Raises:
        ValueError: it is none.
    """
    # An unescaped plus arrives as a space.
    candidate = _SPACE_FOR_PLUS.sub("+", text) if "T" in text else text
    try:
        parsed = datetime.fromisoformat(candidate)
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=UTC)
        return within_reach(parsed.astimezone(UTC))
    except (ValueError, OverflowError):
        raise ValueError("must be a time such as 2026-03-01T12:00:00Z") from None


Moment = Annotated[
    datetime, BeforeValidator(moment_of), Field(json_schema_extra={"examples": ["2026-03-01T12:00:00Z"]})
]


def _session_ref(text: str) -> str:
    if not _NUMBER.fullmatch(text) and not UUID.fullmatch(text):
        raise ValueError("must be a session's id or a number from 1")
    return text.lower()


SessionRef = Annotated[str, AfterValidator(_session_ref)]


class McpServerOut(Shown):
    name: str
    transport: Literal["stdio", "http"]


class AgentOut(Shown):
    """What is configured; no commands, addresses, headers or instructions."""

    id: int
    name: str
    description: str
    model: str = Field(description="Its own, or that of the deployment.")
    tools: list[str]
    mcp_servers: list[McpServerOut]
    context_tokens: int


class AgentsOut(Shown):
    agents: list[AgentOut]


class HistoryQuery(Camel):
    # These names are snake_case in the contract.
    model_config = ConfigDict(alias_generator=None)

    limit: int = Field(100, ge=1, le=500)
    before: str | None = Field(
        None, min_length=1, max_length=128, description="A cursor or a time, exclusive: the page just before it."
    )
    after: str | None = Field(
        None, min_length=1, max_length=128, description="A cursor or a time, exclusive: the page just after it."
    )
    offset: int | None = Field(
        None, ge=0, le=MOST_OFFSET, description="Rows to pass over; not with `before` or `after`."
    )
    event_type: str | None = Field(
        None,
        description="One or more types, separated by commas or repeated; each also as `agent:TYPE`.",
        examples=["tool_use,result"],
    )
    session: SessionRef | None = Field(
        None, description="A session's id, or the number of a context (`sessionNumber`)."
    )
    conversation: Uuid | None = Field(None, description="A conversation's id.")
    since: Moment | None = Field(None, description="Inclusive.")
    until: Moment | None = Field(None, description="Exclusive.")
    order: Literal["asc", "desc"] = Field("asc", description="Oldest first, or newest first.")


class HistoryEventOut(Shown):
    """One step of an agent; what `content` and `metadata` hold depends on `eventType`."""

    id: str
    agent_id: int
    conversation_id: str
    session_id: str | None
    seq: int = Field(description="1, 2, … within the conversation; never reused.")
    session_number: int = Field(description="1, 2, … within the conversation; a clear of the context starts the next.")
    event_type: HistoryType
    content: str | None
    metadata: dict[str, Any]
    created_at: str


class HistoryOut(Shown):
    events: list[HistoryEventOut]
    total: int = Field(
        description="Rows that match the filters, on all pages. With `totalIsExact: false` there are more, which were "
        "not counted."
    )
    has_more: bool
    next_cursor: str | None = Field(
        description="For the parameter that this page was asked with, `before` or `after`; with neither it is `after` "
        "when the order is `asc`, else `before`."
    )


class SummaryOut(Shown):
    agent_id: int
    total_events: int
    event_counts: dict[str, int]
    session_count: int = Field(
        description="Numbers of contexts (`sessionNumber`) that the history has rows of. Also as `session_count`."
    )
    first_event_at: str | None
    last_event_at: str | None


def types_of(values: list[str]) -> frozenset[HistoryType] | None:
    """The types named by `event_type`, given any number of times; None: it was not given.

    Raises:
        Invalid: one of them is none.
    """
    if not values:
        return None
    named = [name.strip().removeprefix(PREFIX) for value in values for name in value.split(",")]
    unknown = sorted(set(named) - set(HISTORY_TYPES))
    if unknown:
        known = ", ".join(HISTORY_TYPES)
        raise Invalid(f"event_type: no such type: {unknown[0]!r}; there are {known}", parameter="event_type")
    return frozenset(HISTORY_TYPES) & frozenset(named)


_EVENT = {
    "id": "6d0a9c0e-54a5-4c4b-8f5e-0a7cf5a2a9b1",
    "agentId": 1,
    "conversationId": "2f1c0a3e-8d5b-4c0e-9a67-5b1f0f6a7c21",
    "sessionId": "0b9f9a52-7c1b-4f0e-9d0e-3c6f8f6d2f11",
    "seq": 3,
    "sessionNumber": 1,
    "eventType": "tool_use",
    "content": "calculate",
    "metadata": {
        "toolCallId": "call_1",
        "toolName": "calculate",
        "input": {"expression": "2340 * 0.17"},
        "result": "397.8",
        "ok": True,
        "durationMs": 2,
        "truncated": False,
        "startedAt": "2026-03-01T12:00:01.400Z",
    },
    "createdAt": "2026-03-01T12:00:03.120Z",
}
EVENT: dict[str, Any] = _EVENT
HISTORY = {
    "events": [_EVENT],
    "total": 7,
    "hasMore": True,
    "nextCursor": "aDE3NzIzNjY0MDMxMjAuMw",
}
SUMMARY = {
    "agentId": 1,
    "totalEvents": 7,
    "eventCounts": {
        "prompt_sent": 1,
        "activity_changed": 2,
        "thinking": 0,
        "tool_use": 1,
        "output": 1,
        "result": 1,
        "usage_update": 1,
        "context_cleared": 0,
    },
    "sessionCount": 1,
    "firstEventAt": "2026-03-01T12:00:00.020Z",
    "lastEventAt": "2026-03-01T12:00:03.120Z",
}
AGENT = {
    "id": 1,
    "name": "Assistant",
    "description": "Answers questions and uses tools.",
    "model": "openai:gpt-5-mini",
    "tools": ["current_time", "calculate", "search_conversation"],
    "mcpServers": [{"name": "files", "transport": "stdio"}],
    "contextTokens": 128000,
}
