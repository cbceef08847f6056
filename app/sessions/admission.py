"""Admission: whether a new session may be made, decided in the transaction that would make it.

One statement for everybody; owners with an account take one or two more. Requests that come at the same moment don't
see each other: a limit of an owner may be passed by as many as are decided at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from app import db
from app.access.principal import LOCAL_OWNER
from app.errors import BalanceExhausted, ConversationFull, QueueFull, TooManySessions
from app.settings import Settings

from . import spending

#: After so long it makes sense to ask again.
_RETRY_S = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be at once; 0: any number."""

    #: Sessions of one owner that run and wait.
    sessions_per_owner: int = 0
    #: … in one conversation.
    sessions_per_conversation: int = 0
    #: … in all.
    sessions: int = 0
    #: Sessions of one owner that run.
    running_per_owner: int = 0
    #: In each web process: messages of an owner, and requests of an owner that are held.
    posts_per_minute: int = 0
    held_per_owner: int = 0

    @classmethod
    def of(cls, settings: Settings, owner: str) -> Limits:
        """The limits of *owner* by the settings."""
        if owner == LOCAL_OWNER:
            # There is no other one whom they would protect.
            return cls(sessions=settings.max_sessions)
        return cls(
            sessions_per_owner=settings.max_sessions_per_owner,
            sessions_per_conversation=settings.max_sessions_per_conversation,
            sessions=settings.max_sessions,
            running_per_owner=settings.max_running_per_owner,
            posts_per_minute=settings.posts_per_minute,
            held_per_owner=settings.max_held_per_owner,
        )


def admit(owner: str, conversation_id: str | None, limits: Limits) -> None:
    """Return if *owner* may have one more session.

    Runs inside the caller's transaction.

    Args:
        conversation_id: None: the session begins one.

    Raises:
        BalanceExhausted: nothing is left on the account of the owner.
        TooManySessions, ConversationFull, QueueFull: as many run and wait as may.
    """
    anybodys = "status = 'running'"
    mine = f"owner = ? AND {anybodys}"
    of_it = f"conversationId = ? AND {mine}"
    of_owner, in_all = limits.sessions_per_owner, limits.sessions
    in_conversation = limits.sessions_per_conversation if conversation_id is not None else 0
    account_id, own, too_many, full, queue_full = db.sql(
        "SELECT (SELECT id FROM chatAccounts WHERE owner = ?), (SELECT maxSessions FROM chatAccounts WHERE owner = ?),"
        f" {_has(mine, of_owner)}, {_has(of_it, in_conversation)}, {_has(anybodys, in_all)}",
        [owner, owner, *([owner] if of_owner else []), *([conversation_id, owner] if in_conversation else [])],
    ).fetchone()
    if account_id is not None:
        funds = spending.funds(account_id, owner)
        if funds is not None and funds.left <= 0:
            raise BalanceExhausted("nothing is left on your account")
    if own is not None:
        of_owner = own
        too_many = own and db.sql(f"SELECT {_has(mine, own)}", [owner]).fetchone()[0]
    if too_many:
        raise TooManySessions(f"{of_owner} of your sessions run and wait; wait until one has ended", retry_s=_RETRY_S)
    if full:
        raise ConversationFull(f"{in_conversation} messages wait in this conversation", retry_s=_RETRY_S)
    if queue_full:
        raise QueueFull("too many sessions wait for a worker; try again in a moment", retry_s=_RETRY_S)


def _has(which: str, limit: int) -> str:
    """SQL for whether there are *limit* sessions of this kind; it reads no more of the index than that."""
    return f"(SELECT 1 FROM chatSessions WHERE {which} LIMIT 1 OFFSET {int(limit) - 1})" if limit else "NULL"
