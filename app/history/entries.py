"""The history of an agent: a compact log beside the events, kept longer. This module writes it.

Each row has a `seq` of its conversation, given under the conversation's lock in the transaction that it records:
when a worker first claims a session    prompt_sent, activity_changed (busy)
when a session ends                     thinking and tool_use as they came, output, usage_update, result,
                                        activity_changed (idle)
when a context is cleared               context_cleared
A session that ends before any worker claimed it has its prompt_sent and result, and was never busy.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from app import db
from app.db.ids import new_id
from app.db.models import AgentCount, AgentEvent, Conversation, Session
from app.db.statements import Insert, Row
from app.db.times import iso
from app.events.steps import Steps, Thought

HistoryType = Literal[
    "prompt_sent",
    "activity_changed",
    "thinking",
    "tool_use",
    "output",
    "result",
    "usage_update",
    "context_cleared",
]
HISTORY_TYPES: tuple[HistoryType, ...] = get_args(HistoryType)

_SHARDS = 8
_insert_rows = Insert(
    AgentEvent.agent_id, AgentEvent.owner, AgentEvent.conversation_id, AgentEvent.session_id,
    AgentEvent.session_number, AgentEvent.created_at, AgentEvent.id, AgentEvent.seq, AgentEvent.event_type,
    AgentEvent.content, AgentEvent.metadata,
)  # fmt: skip

#: Rows added, or removed when negative, by (agent, owner, shard, type).
_Counts = Counter[tuple[int, str, int, str]]


@dataclass(frozen=True, slots=True)
class Entry:
    """The content of one row."""

    type: HistoryType
    content: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def of_start(message: str, model: str | None) -> list[Entry]:
    """The entries of a session's first claim."""
    return [_prompt(message, model), _activity("busy")]


def of_end(row: Session, *, text: str, steps: Steps, metadata: dict[str, Any], duration_ms: int) -> list[Entry]:
    """The entries of a session's end.

    Args:
        text: The answer, whole or partial.
        metadata: That of its assistant message.
    """
    ok = metadata["status"] == "done"
    entries = [] if row.started_at is not None else [_prompt(row.user_message, row.model)]
    entries += [_of_step(step) for step in steps.steps]
    model = {"model": metadata["model"], "provider": metadata["provider"]}
    if text:
        entries.append(Entry("output", text, model | {"partial": not ok}))
    usage = metadata["tokenUsage"]
    if usage is not None:
        entries.append(Entry("usage_update", None, model | {"tokenUsage": usage}))
    result = {
        "ok": ok,
        "status": metadata["status"],
        "errorCode": metadata.get("errorCode"),
        "errorMessage": metadata.get("errorMessage"),
        "tokenUsage": usage,
        # Without prices null says that it is not known, which 0 would not.
        "cost": metadata.get("cost"),
        "durationMs": duration_ms,
        "turns": 0 if row.started_at is None else steps.rounds + 1,
    }
    entries.append(Entry("result", "ok" if ok else "error", model | result))
    return entries if row.started_at is None else [*entries, _activity("idle")]


def _prompt(message: str, model: str | None) -> Entry:
    return Entry("prompt_sent", message, {"model": model})


def _activity(state: Literal["busy", "idle"]) -> Entry:
    return Entry("activity_changed", state, {"activity": state})


def _of_step(step: Any) -> Entry:
    started = {"startedAt": iso(step.started_at)}
    if isinstance(step, Thought):
        return Entry("thinking", step.content, started)
    return Entry(
        "tool_use",
        step.tool_name,
        {
            "toolCallId": step.tool_call_id,
            "toolName": step.tool_name,
            "input": step.args,
            "result": step.result,
            "ok": step.ok,
            "durationMs": step.duration_ms,
            "truncated": step.truncated,
        }
        | started,
    )


def number(
    conversation: Conversation,
    entries: Sequence[Entry],
    now: datetime,
    *,
    agent_id: int,
    session_id: str | None,
    session_number: int | None = None,
) -> list[Row]:
    """Rows of *entries* with their seqs. The caller holds the conversation's lock and stores its `history_seq`."""
    at = AgentEvent.created_at.db_value(now)
    first = conversation.history_seq + 1
    conversation.history_seq += len(entries)
    return [
        (
            agent_id,
            conversation.owner,
            conversation.conversation_id,
            session_id,
            session_number or conversation.session_number,
            at,
            new_id(),
            seq,
            entry.type,
            entry.content,
            AgentEvent.metadata.db_value(entry.metadata),
        )
        for seq, entry in enumerate(entries, start=first)
    ]


def insert(rows: Sequence[Row]) -> None:
    """Store rows made by `number`, and count them."""
    _insert_rows(rows)
    _counts().update((agent_id, owner, _shard(thread), kind) for agent_id, owner, thread, *_, kind, _, _ in rows)


def _counts() -> _Counts:
    """Counts that the current transaction adds before its commit."""
    return db.before_commit(Counter, _add_counts)


def _shard(conversation_id: str) -> int:
    return zlib.crc32(conversation_id.encode()) % _SHARDS


def _add_counts(counts: _Counts) -> None:
    changed = sorted((key, n) for key, n in counts.items() if n)
    if not changed:
        return
    # In one order everywhere: two transactions can't wait for each other.
    values = [value for key, n in changed for value in (*key, n)]
    rows = ",".join((f"({db.marks(5)})",) * len(changed))
    added = (
        "ON CONFLICT (agentId, owner, shard, eventType) DO UPDATE SET n = n + excluded.n"
        if db.is_sqlite()
        else "ON DUPLICATE KEY UPDATE n = n + VALUES(n)"
    )
    db.sql(f"INSERT INTO chatAgentCounts (agentId, owner, shard, eventType, n) VALUES {rows} {added}", values)


def total_of_agent(agent_id: int) -> int:
    """Rows of an agent, of all owners."""
    found = db.tuples(AgentCount.select(AgentCount.n).where(AgentCount.agent_id == agent_id))
    return int(sum(n for (n,) in found))


def delete_rows(where: Any, limit: int | None = None) -> int:
    """Delete up to *limit* rows (None: all), oldest first; returns how many."""
    columns = (
        AgentEvent.row_id,
        AgentEvent.agent_id,
        AgentEvent.owner,
        AgentEvent.conversation_id,
        AgentEvent.event_type,
    )
    found = db.tuples(db.locked(AgentEvent.select(*columns).where(where).order_by(AgentEvent.row_id).limit(limit)))
    if found:
        AgentEvent.delete().where(AgentEvent.row_id.in_([row_id for row_id, *_ in found])).execute()
        _counts().subtract((agent_id, owner, _shard(thread), kind) for _, agent_id, owner, thread, kind in found)
    return len(found)
