"""Threads: a conversation's row, which is the lock of its order, its counts and its title.

The conversation's row is the lock of its order: whoever adds a session or ends one locks it first, then sessions
in id order. That one order everywhere is what keeps these transactions from deadlocking.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import peewee

from app import db
from app.db.models import Conversation, Message, Session
from app.db.statements import Select, insert_one
from app.db.times import utc_now
from app.errors import NotFound
from app.history import entries
from app.history.entries import Entry

from . import search as message_search
from .search import Text

#: The owner of a conversation and its id.
Key = tuple[str, str | None]

_TITLE_CHARACTERS = 80
_STORED_AT_ONCE = 100


def begin(
    owner: str, conversation_id: str, agent_id: int, first_message: str, *, ephemeral: bool = False
) -> Conversation:
    """A conversation with an id that nobody has used; `store` stores it."""
    return Conversation(
        conversation_id=conversation_id,
        owner=owner,
        agent_id=agent_id,
        title=title_of(first_message),
        ephemeral=int(ephemeral),
    )


def begins(conversation: Conversation) -> bool:
    """It is not stored yet."""
    row_id: int | None = conversation.id
    return row_id is None


def lock_or_create(
    owner: str, conversation_id: str, agent_id: int, first_message: str, *, ephemeral: bool = False
) -> Conversation:
    """The conversation, locked until the transaction ends; created when it does not exist."""
    found = _lock(owner, conversation_id)
    if found is None:
        created = False
        try:
            with db.database.atomic():
                Conversation.insert(
                    conversation_id=conversation_id,
                    owner=owner,
                    agent_id=agent_id,
                    title=title_of(first_message),
                    ephemeral=int(ephemeral),
                ).execute()
            created = True
        except peewee.IntegrityError:
            # Another request created it between the look and the insert.
            pass
        found = _lock(owner, conversation_id)
        if created and found is not None:
            message_search.add([Text(found, found.title)])
    if found is None:
        raise NotFound("no such conversation")  # deleted since
    return found


def _lock(owner: str, conversation_id: str) -> Conversation | None:
    mine = (Conversation.conversation_id == conversation_id) & (Conversation.owner == owner)
    return db.locked(Conversation.select().where(mine)).first()  # type: ignore[no-any-return]


def lock(owner: str, conversation_id: str) -> Conversation:
    """The conversation, locked until the transaction ends.

    Raises:
        NotFound: no such conversation for this owner.
    """
    found = _lock(owner, conversation_id)
    if found is None:
        raise NotFound("no such conversation")
    return found


def lock_many(keys: Iterable[Key], *, wait: bool = True) -> dict[Key, Conversation]:
    """Lock these conversations in id order; None is passed over (adopted sessions have no conversation).

    Without *wait* those that others have locked are left out.
    """
    wanted = {key for key in keys if key[1] is not None}
    if not wanted:
        return {}
    owners, ids = sorted({owner for owner, _ in wanted}), sorted({each for _, each in wanted if each is not None})
    rest = (
        f"{db.only_by('conversations_of_owner')} WHERE conversationId IN ({db.marks(len(ids))})"
        f" AND owner IN ({db.marks(len(owners))}) ORDER BY conversationId, owner{db.for_update(wait=wait)}"
    )
    found = {(row.owner, row.conversation_id): row for row in _select(rest, [*ids, *owners])}
    # Two owners may use the same id.
    return {key: row for key, row in found.items() if key in wanted}


def exists(key: Key) -> bool:
    """Whether there is this conversation, also one that somebody else has locked."""
    owner, conversation_id = key
    wanted = (Conversation.owner == owner) & (Conversation.conversation_id == conversation_id)
    return conversation_id is not None and bool(Conversation.select().where(wanted).exists())


_select = Select(*Conversation._meta.sorted_fields)


def title_of(message: str) -> str:
    """The title that a first message gives: its first line, cut at 80 characters."""
    line = next((line.strip() for line in message.splitlines() if line.strip()), "")
    return line if len(line) <= _TITLE_CHARACTERS else line[: _TITLE_CHARACTERS - 1].rstrip() + "…"


def now_in(conversation: Conversation) -> datetime:
    """The time of what is stored next in a locked conversation: never before what was stored last."""
    # Clocks of processes differ, and a history that is read by time must not go backwards.
    last: datetime = conversation.updated_at
    return max(utc_now(), last)


def store(changed: Iterable[Conversation]) -> None:
    """Store what was counted in locked conversations: messages, history, context, and when they changed."""
    rows = {}
    for conversation in changed:
        if begins(conversation):
            conversation.id = insert_one(Conversation, **_begun(conversation))
        else:
            rows[conversation.id] = _counted(conversation)
    ids = list(rows)
    for start in range(0, len(ids), _STORED_AT_ONCE):
        some = ids[start : start + _STORED_AT_ONCE]
        sets: list[str] = []
        values: list[Any] = []
        for column in rows[some[0]]:
            value, parameters = db.by_id({row_id: rows[row_id][column] for row_id in some})
            sets.append(f"{column} = {value}")
            values += parameters
        where = f"WHERE id IN ({db.marks(len(some))})"
        db.sql(f"UPDATE chatConversations SET {', '.join(sets)} {where}", [*values, *some])


def _begun(conversation: Conversation) -> dict[str, Any]:
    values: dict[str, Any] = conversation.__data__
    return {name: value for name, value in values.items() if name != "id"}


def _counted(conversation: Conversation) -> dict[str, Any]:
    return {
        "messageCount": conversation.message_count,
        "historySeq": conversation.history_seq,
        "sessionNumber": conversation.session_number,
        "contextAfter": conversation.context_after,
        "interruptedBefore": conversation.interrupted_before,
        "updatedAt": Conversation.updated_at.db_value(conversation.updated_at),
    }


def rename(owner: str, conversation_id: str, title: str) -> None:
    """Give a conversation another title.

    Raises:
        NotFound: no such conversation for this owner.
        DatabaseUnavailable: no connection.
    """

    def work() -> None:
        conversation = lock(owner, conversation_id)
        Conversation.update(title=title).where(Conversation.id == conversation.id).execute()
        message_search.rename(conversation, title)

    db.transaction(work)


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
    conversation = lock(owner, conversation_id)
    of_it = (Session.conversation_id == conversation_id) & (Session.owner == owner)
    running = db.tuples(
        Session.select(Session.id, Session.session_id).where(of_it & (Session.status == "running")).order_by(Session.id)
    )
    running_ids = [session_id for _, session_id in running]
    mine = (Message.conversation_id == conversation_id) & (Message.owner == owner)
    said = mine & Message.session_id.not_in(running_ids)
    cleared = Message.delete().where(said).execute()
    if not cleared:
        return
    message_search.forget_all_but(conversation, running_ids)
    ((last,),) = db.tuples(Session.select(peewee.fn.MAX(Session.id)).where(of_it))
    conversation.context_after = running[0][0] - 1 if running else last
    conversation.session_number += 1
    conversation.message_count -= cleared
    now = conversation.updated_at = now_in(conversation)
    entry = Entry("context_cleared", None, {"messages": cleared})
    entries.insert(entries.number(conversation, [entry], now, agent_id=conversation.agent_id, session_id=None))
    store([conversation])
