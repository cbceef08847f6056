"""Options: what a caller says of a session beside its message. One row for each session that has any.

Apart from the session's own row, which every claim and every list reads: a history that a client sends along may have
megabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from app import db
from app.db.models import SessionOptions
from app.events.log import text_of
from app.parameters import Parameters


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a history that the caller sends along."""

    #: `system`, `user` or `assistant`.
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Options:
    """What is not said of a session is empty."""

    #: In place of the conversation's history, oldest first; None: the conversation's.
    messages: tuple[Said, ...] | None = None
    #: In addition to the agent's.
    instructions: str = ""
    parameters: Parameters = field(default_factory=Parameters)
    #: The caller's own notes.
    metadata: dict[str, str] = field(default_factory=dict)


def add(session_id: str, options: Options) -> None:
    """Store *options* in the transaction that makes the session; nothing is stored where nothing was said."""
    if options == Options():
        return
    said = options.messages
    SessionOptions.insert(
        session_id=session_id,
        messages=None if said is None else [[each.role, each.content] for each in said],
        instructions=text_of(options.instructions) or None,
        parameters=options.parameters.given() or None,
        metadata=options.metadata or None,
    ).execute()


def of(session_id: str) -> Options:
    """The options of a session. Runs inside the caller's connection or transaction."""
    row = SessionOptions.select().where(SessionOptions.session_id == session_id).first()
    if row is None:
        return Options()
    return Options(
        messages=None if row.messages is None else tuple(Said(role, content) for role, content in row.messages),
        instructions=row.instructions or "",
        parameters=Parameters.of(row.parameters or {}),
        metadata=row.metadata or {},
    )


def read(session_id: str) -> Options:
    """The options of a session. Raises DatabaseUnavailable."""
    return db.reading(lambda: of(session_id))


def forget(session_ids: Sequence[str]) -> None:
    """Delete the options of these sessions, in the transaction that deletes them."""
    SessionOptions.delete().where(SessionOptions.session_id.in_(list(session_ids))).execute()
