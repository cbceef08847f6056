"""Clear the context of a conversation; delete a conversation.

Locks as everywhere: the conversation, then its sessions in id order.
"""

from __future__ import annotations

from collections.abc import Sequence

import peewee

from . import db, sessions
from .conversations import search as message_search
from .conversations import threads
from .db.models import AgentEvent, Conversation, Message, Session
from .history import entries
from .history.entries import Entry
from .sessions import Ended

#: Events and messages that one transaction deletes, about.
_ROWS_AT_ONCE = 2000


def clear(owner: str, conversation_id: str) -> None:
    """Clear the context: the model no longer sees what was said, and its messages are deleted.

    Sessions and the history of the agent stay. What is running or waits to be answered stays as well, and begins the
    next context. Nothing happens when there is nothing to clear.

    Raises:
        NotFound: no such conversation for this owner.
        DatabaseUnavailable: no connection.
    """
    db.transaction(lambda: _clear(owner, conversation_id))


def _clear(owner: str, conversation_id: str) -> None:
    conversation = threads.lock(owner, conversation_id)
    of_it = Session.conversation_id == conversation_id
    running = db.tuples(
        Session.select(Session.id, Session.session_id).where(of_it & (Session.status == "running")).order_by(Session.id)
    )
    running_ids = [session_id for _, session_id in running]
    said = (Message.conversation_id == conversation_id) & Message.session_id.not_in(running_ids)
    cleared = Message.delete().where(said).execute()
    if not cleared:
        return
    message_search.forget_all_but(conversation_id, running_ids)
    ((newest,),) = db.tuples(Session.select(peewee.fn.MAX(Session.id)).where(of_it))
    conversation.context_after = running[0][0] - 1 if running else newest
    conversation.session_number += 1
    conversation.message_count -= cleared
    now = conversation.updated_at = threads.now_in(conversation)
    told = [Entry("context_cleared", None, {"messages": cleared})]
    agent_id = conversation.agent_id
    entries.insert(entries.number(conversation, told, now, agent_id=agent_id, session_id=None))
    threads.store([conversation])
    entries.add_counts(entries.counts_of(conversation, agent_id, told))


def delete(owner: str, conversation_id: str) -> list[Ended]:
    """Delete a conversation with all that it has, also while it runs; returns the sessions that were running.

    In pieces, so that nobody waits long; when it is interrupted, call it again.

    Raises:
        NotFound: no such conversation for this owner.
        DatabaseUnavailable: no connection.
    """
    while db.transaction(lambda: _delete_some_ended(owner, conversation_id)):
        continue
    return db.transaction(lambda: _delete_rest(owner, conversation_id))


def _delete_some_ended(owner: str, conversation_id: str) -> int:
    conversation = threads.lock(owner, conversation_id)
    ended = (Session.conversation_id == conversation_id) & (Session.status != "running")
    rows = list(db.locked(Session.select().where(ended).order_by(Session.id).limit(_ROWS_AT_ONCE // 10)))
    few: list[Session] = []
    for row in rows:
        few.append(row)
        if sum(each.last_seq + 10 for each in few) >= _ROWS_AT_ONCE:
            break
    if few:
        sessions.remove(few, conversation)
    return len(few)


def _delete_rest(owner: str, conversation_id: str) -> list[Ended]:
    conversation = threads.lock(owner, conversation_id)
    rows: Sequence[Session] = list(
        db.locked(Session.select().where(Session.conversation_id == conversation_id).order_by(Session.id))
    )
    running = {row.id for row in rows if row.status == "running"}
    removed = sessions.remove(rows, conversation)
    message_search.forget_conversation(conversation_id)
    _, counts = entries.delete_rows(AgentEvent.conversation_id == conversation_id)
    Conversation.delete().where(Conversation.id == conversation.id).execute()
    entries.add_counts(counts)
    return [ended for ended in removed if ended.row_id in running]
