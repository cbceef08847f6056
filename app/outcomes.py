"""What ended sessions leave in their conversations: the assistant's message and their part of the agent's history.

For all sessions that end in one transaction together: a statement each would be most of a flush.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import agent_history, conversations, session_steps
from .conversations import NewMessage
from .models import Conversation, Session


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one session ended."""

    row: Session
    #: Locked; None: adopted sessions have no conversation and leave nothing.
    conversation: Conversation | None
    #: The answer, whole or partial.
    text: str
    #: Of the message; `toolCalls` is added here.
    metadata: dict[str, Any]
    duration_ms: int


def store(outcomes: Sequence[Outcome]) -> agent_history.Counts:
    """Store messages and history; the caller gives what it returns to `agent_history.add_counts` at the very end."""
    counts = agent_history.Counts()
    kept = [(outcome, outcome.conversation) for outcome in outcomes if outcome.conversation is not None]
    if not kept:
        return counts
    steps = session_steps.read([outcome.row.session_id for outcome, _ in kept])
    messages: list[NewMessage] = []
    for outcome, conversation in kept:
        metadata = outcome.metadata
        metadata["toolCalls"] = steps[outcome.row.session_id].tool_calls
        # A row without a word would look like a lost answer.
        said = outcome.text or metadata.get("errorMessage") or metadata.get("errorCode") or ""
        messages.append(NewMessage(conversation, outcome.row.session_id, "assistant", said, metadata))
    conversations.add_messages(messages)
    rows: list[agent_history.Row] = []
    for outcome, conversation in kept:
        row = outcome.row
        entries = agent_history.of_end(
            row,
            text=outcome.text,
            did=steps[row.session_id],
            metadata=outcome.metadata,
            duration_ms=outcome.duration_ms,
        )
        rows += agent_history.number(
            conversation,
            entries,
            conversation.updated_at,
            agent_id=row.agent_id,
            session_id=row.session_id,
            session_number=row.session_number,
        )
        counts.update(agent_history.counts_of(conversation, row.agent_id, entries))
    agent_history.insert(rows)
    for conversation in {conversation.id: conversation for _, conversation in kept}.values():
        conversations.store(conversation)
    return counts
