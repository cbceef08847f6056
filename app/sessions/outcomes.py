"""Outcomes: how sessions ended, and what they leave: the assistant's message and their part of the history.

For all sessions that end in one transaction together: a statement each would be most of a flush.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.conversations import messages, threads
from app.conversations.messages import NewMessage
from app.db.models import Conversation, Session
from app.db.statements import Row
from app.events import Done, Terminal, log, parts, steps
from app.history import entries

from . import spending

#: Some 24 days, the largest INT.
# A session that a shut-down deployment left running for longer could never be ended.
_MOST_MS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one session ended."""

    row: Session
    #: Locked; None: adopted sessions have no conversation and leave nothing.
    conversation: Conversation | None
    #: The answer, whole or partial.
    text: str
    duration_ms: int
    #: Of its terminal event.
    last_seq: int
    #: New values of the session's row, by field.
    columns: dict[str, Any]
    #: Of the message; `store` adds `toolCalls`.
    metadata: dict[str, Any]


def of(
    row: Session,
    conversation: Conversation | None,
    terminal: Terminal,
    *,
    attempt: int,
    last_seq: int,
    now: datetime,
) -> Outcome:
    """The outcome of *terminal*: new values of the row, and the metadata of the message."""
    text = log.text_of(terminal.content) or ""
    duration_ms = elapsed_ms(row, now)
    columns: dict[str, Any] = {"final_response": text, "processing_time_ms": duration_ms}
    metadata: dict[str, Any] = {
        "status": terminal.type,
        "model": row.model,
        "provider": provider_of(row.model),
        "attempt": attempt,
        "tokenUsage": None,
    }
    usage = terminal.usage
    if usage is not None:
        columns |= spending.columns(usage)
        metadata["tokenUsage"] = {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cacheRead": usage.cache_read_tokens,
            "cacheWrite": usage.cache_write_tokens,
            "total": usage.total_tokens,
        }
        if usage.cost:
            metadata["cost"] = usage.cost
    if isinstance(terminal, Done):
        if terminal.model:
            columns["model"] = metadata["model"] = log.text_of(terminal.model[:128])
        if terminal.finish_reason:
            columns["finish_reason"] = metadata["finishReason"] = log.text_of(terminal.finish_reason[:32])
    else:
        code, message = log.text_of(terminal.error_code[:64]), log.text_of(terminal.error_msg)
        columns |= {"error_code": code, "error_message": message}
        if terminal.provider_said is not None:
            columns["provider_said"] = log.text_of(terminal.provider_said)
        metadata |= {"errorCode": code, "errorMessage": message}
    return Outcome(row, conversation, text, duration_ms, last_seq, columns, metadata)


def provider_of(model: str | None) -> str | None:
    """`openai` of `openai:gpt-5-mini`; the demo model is its own; None: the name does not say."""
    name, colon, _ = (model or "").partition(":")
    return name if colon or name == "demo" else None


def elapsed_ms(row: Session, now: datetime) -> int:
    """Milliseconds since the session was first claimed, as many as a column holds; 0: it never was."""
    passed = 0 if row.started_at is None else int((now - row.started_at).total_seconds() * 1000)
    return min(max(0, passed), _MOST_MS)


def store(outcomes: Sequence[Outcome]) -> None:
    """Store the assistant's messages and what the history of the agents gets."""
    kept = [(outcome, outcome.conversation) for outcome in outcomes if outcome.conversation is not None]
    if not kept:
        return
    by_session = steps.read({outcome.row.session_id: outcome.last_seq for outcome, _ in kept})
    answers: list[NewMessage] = []
    for outcome, conversation in kept:
        metadata = outcome.metadata
        metadata["toolCalls"] = by_session[outcome.row.session_id].summary
        # An empty message would look like a lost answer.
        said = outcome.text or metadata.get("errorMessage") or metadata.get("errorCode") or ""
        in_order = parts.stored(outcome.row.session_id, by_session[outcome.row.session_id], outcome.text)
        answers.append(NewMessage(conversation, outcome.row.session_id, "assistant", said, metadata, in_order))
    messages.add(answers)
    rows: list[Row] = []
    for outcome, conversation in kept:
        row = outcome.row
        new = entries.of_end(
            row,
            text=outcome.text,
            steps=by_session[row.session_id],
            metadata=outcome.metadata,
            duration_ms=outcome.duration_ms,
        )
        rows += entries.number(
            conversation,
            new,
            conversation.updated_at,
            agent_id=row.agent_id,
            session_id=row.session_id,
            session_number=row.session_number,
        )
    entries.insert(rows)
    threads.store(conversation for _, conversation in kept)
