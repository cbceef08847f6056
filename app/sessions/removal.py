"""Delete sessions and conversations with all that they left.

Locks as everywhere: the conversation, then its sessions in id order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app import accounts, db
from app.accounts import Charge
from app.conversations import search as message_search
from app.conversations import threads
from app.db.models import AgentEvent, Conversation, Event, Message, Session
from app.history import entries

from . import Ended, options, spending
from .lifecycle import ended
from .locking import lock_with_conversation

#: Events and messages that one transaction deletes, about.
_ROWS_AT_ONCE = 2000


def delete(owner: str, session_id: str) -> Ended:
    """Delete a session with all that it left, also while it runs: its worker is fenced.

    Raises:
        NotFound: no such session for this owner.
        DatabaseUnavailable: no connection.
    """

    def work() -> Ended:
        row, conversation = lock_with_conversation(session_id, owner)
        [removed] = remove([row], conversation)
        return removed

    return db.transaction(work)


def remove(rows: Sequence[Session], conversation: Conversation | None) -> list[Ended]:
    """Delete sessions of one conversation: events, messages and history with them.

    Runs inside the caller's transaction, which holds the locks of the conversation and of the rows.
    """
    session_ids = [row.session_id for row in rows]
    # Those that have ended were charged then.
    accounts.debit(
        [Charge(row.account_id, row.session_id, spending.of(row)) for row in rows if row.status == "running"]
    )
    Event.delete().where(Event.session_id.in_(session_ids)).execute()
    deleted = Message.delete().where(Message.session_id.in_(session_ids)).execute()
    options.forget(session_ids)
    Session.delete().where(Session.id.in_([row.id for row in rows])).execute()
    if conversation is not None:
        message_search.forget(session_ids)
        conversation.message_count -= deleted
        threads.store([conversation])
        entries.delete_rows(_history_of(conversation) & AgentEvent.session_id.in_(session_ids))
    return [ended(row, row.last_seq, changed=True) for row in rows]


def _history_of(conversation: Conversation) -> Any:
    same_id = AgentEvent.conversation_id == conversation.conversation_id
    return same_id & (AgentEvent.owner == conversation.owner)


def _sessions_of(conversation: Conversation) -> Any:
    return (Session.conversation_id == conversation.conversation_id) & (Session.owner == conversation.owner)


def delete_conversation(owner: str, conversation_id: str) -> list[Ended]:
    """Delete a conversation with all that it has, also while it runs; returns the sessions that were running.

    In pieces, so that nobody waits long; when it is interrupted, call it again.

    Raises:
        NotFound: no such conversation for this owner.
        DatabaseUnavailable: no connection.
    """
    while db.transaction(lambda: _delete_some_ended(threads.lock(owner, conversation_id), _ROWS_AT_ONCE)):
        continue
    return db.transaction(lambda: _delete_rest(threads.lock(owner, conversation_id)))


def delete_piece(conversation: Conversation, rows: int) -> int:
    """Delete some ended sessions of a locked conversation, about *rows* rows; the conversation once it has none.

    Returns:
        How many sessions; 0: the conversation is gone.
    """
    deleted = _delete_some_ended(conversation, rows)
    if not deleted:
        _delete_rest(conversation)
    return deleted


def _delete_some_ended(conversation: Conversation, at_once: int) -> int:
    ended = _sessions_of(conversation) & (Session.status != "running")
    rows = list(db.locked(Session.select().where(ended).order_by(Session.id).limit(max(1, at_once // 10))))
    few: list[Session] = []
    for row in rows:
        few.append(row)
        if sum(each.last_seq + 10 for each in few) >= at_once:
            break
    if few:
        remove(few, conversation)
    return len(few)


def _delete_rest(conversation: Conversation) -> list[Ended]:
    rows: Sequence[Session] = list(db.locked(Session.select().where(_sessions_of(conversation)).order_by(Session.id)))
    running = {row.id for row in rows if row.status == "running"}
    removed = remove(rows, conversation)
    message_search.forget_conversation(conversation)
    entries.delete_rows(_history_of(conversation))
    Conversation.delete().where(Conversation.id == conversation.id).execute()
    return [each for each in removed if each.row_id in running]
