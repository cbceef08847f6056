"""Full text search over messages and titles: FULLTEXT on MariaDB/MySQL, FTS5 on SQLite, with one result on both.

They index words that `app.conversations.words` prepares: lower case, without accents, compatibility forms folded; runs
of Chinese, Japanese, Thai and the like as pairs of neighbouring characters; each with a mark of its owner. A message is
found when it has all words of the query, the last one also as the beginning of a word. Found are words of any length in
any script; not found are punctuation, emoji, the inside of words, and what stands after the first
`INDEXED_CHARACTERS` of a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from app import db
from app.db.cursors import Cursor
from app.db.models import Conversation, Message, SearchEntry
from app.db.paging import Page, cut
from app.db.statements import Insert
from app.db.times import iso

from .words import UNMARKED_FROM, indexed, marked, wanted, wanted_of

#: Longest query, in characters.
MAX_QUERY = 500

_SNIPPET_CHARACTERS = 160
_SNIPPET_FROM = 100_000
_CURSOR = Cursor("q", 1)


@dataclass(frozen=True, slots=True)
class Text:
    """What is found: a message, or without its ids the title."""

    conversation: Conversation
    text: str
    session_id: str | None = None
    message_id: int | None = None


def add(new: Sequence[Text]) -> None:
    """Index texts, in the transaction that stores them."""
    _insert(
        (
            each.conversation.owner,
            each.conversation.conversation_id,
            each.session_id,
            each.message_id,
            indexed(each.conversation.owner, each.text),
        )
        for each in new
    )


_insert = Insert(
    SearchEntry.owner, SearchEntry.conversation_id, SearchEntry.session_id, SearchEntry.message_id, SearchEntry.words
)


def rename(conversation: Conversation, title: str) -> None:
    """Index another title."""
    words = indexed(conversation.owner, title)
    SearchEntry.update(words=words).where(_of(conversation) & SearchEntry.message_id.is_null()).execute()


def _of(conversation: Conversation) -> Any:
    same_id = SearchEntry.conversation_id == conversation.conversation_id
    return same_id & (SearchEntry.owner == conversation.owner)


def forget(session_ids: Sequence[str]) -> None:
    """Forget the messages of these sessions."""
    SearchEntry.delete().where(SearchEntry.session_id.in_(session_ids)).execute()


def forget_all_but(conversation: Conversation, session_ids: Sequence[str]) -> None:
    """Forget the messages of a conversation, but those of these sessions and the title."""
    others = SearchEntry.message_id.is_null(False) & SearchEntry.session_id.not_in(session_ids)
    SearchEntry.delete().where(_of(conversation) & others).execute()


def forget_conversation(conversation: Conversation) -> None:
    """Forget what is left of a conversation: its title."""
    SearchEntry.delete().where(_of(conversation)).execute()


def search(owner: str, query: str, *, limit: int = 20, cursor: str | None = None) -> Page[dict[str, Any]]:
    """Conversations of *owner* in which a message or the title has all words of *query*; newest match first.

    Raises:
        Invalid: the cursor is not one of ours.
        DatabaseUnavailable: no connection.
    """
    before = None if cursor is None else _CURSOR.decode(cursor)[0]
    words = wanted(query)
    if not words:
        return Page([], None)
    last = peewee.fn.MAX(SearchEntry.id)

    def read() -> Page[dict[str, Any]]:
        forms = [wanted_of(owner, words)]
        if db.tuples(_unmarked(SearchEntry.id).limit(1)):
            forms.append(words)
        matches = SearchEntry.select(last.alias("last_match")).where((SearchEntry.owner == owner) & _have(forms))
        grouped = matches.group_by(SearchEntry.conversation_id)
        if before is not None:
            grouped = grouped.having(last < before)
        found = [entry_id for (entry_id,) in db.tuples(grouped.order_by(last.desc()).limit(limit + 1))]
        shown, next_cursor = cut(found, limit, _CURSOR.encode)
        return Page(_results(shown, query), next_cursor)

    return db.reading(read)


def _have(forms: Sequence[dict[str, bool]]) -> Any:
    """SQL that holds for entries with all words of one of these *forms*."""
    if db.is_sqlite():
        ids = "(SELECT rowid FROM chatSearchWords WHERE chatSearchWords MATCH ?)"
        return SearchEntry.id << peewee.SQL(ids, (_any(forms, '"{}"', " AND "),))
    against = peewee.SQL("AGAINST (%s IN BOOLEAN MODE)", (_any(forms, "+{}", " "),))
    return peewee.NodeList((peewee.fn.MATCH(SearchEntry.words), against))


def _any(forms: Sequence[dict[str, bool]], form: str, joined_by: str) -> str:
    each = [
        joined_by.join(form.format(word) + ("*" if open_end else "") for word, open_end in words.items())
        for words in forms
    ]
    return each[0] if len(each) == 1 else (" OR " if db.is_sqlite() else " ").join(f"({words})" for words in each)


def _unmarked(*columns: Any) -> Any:
    # As the index has it: a parameter in its place would read the whole table on SQLite.
    return SearchEntry.select(*columns).where(peewee.SQL(f"words >= '{UNMARKED_FROM}'"))


def mark(limit: int) -> int:
    """Give up to *limit* entries of older processes the marks of their owners; returns how many.

    Until then a search looks for both forms, and what others have said costs it time.
    """
    columns = (SearchEntry.id, SearchEntry.owner, SearchEntry.words)
    found = db.tuples(db.locked(_unmarked(*columns).limit(limit), wait=False))
    for entry_id, owner, words in found:
        SearchEntry.update(words=marked(owner, words.split())).where(SearchEntry.id == entry_id).execute()
    return len(found)


def _results(entry_ids: Sequence[int], query: str) -> list[dict[str, Any]]:
    if not entry_ids:
        return []
    columns = (
        SearchEntry.id,
        Conversation.conversation_id,
        Conversation.title,
        Conversation.agent_id,
        Conversation.created_at,
        Conversation.updated_at,
        Message.id,
        Message.session_id,
        Message.role,
        peewee.fn.SUBSTR(Message.content, 1, _SNIPPET_FROM),
        Message.created_at,
    )
    rows = db.tuples(
        SearchEntry.select(*columns)
        .join(
            Conversation,
            on=(Conversation.conversation_id == SearchEntry.conversation_id)
            & (Conversation.owner == SearchEntry.owner),
        )
        .switch(SearchEntry)
        .join(Message, peewee.JOIN.LEFT_OUTER, on=(Message.id == SearchEntry.message_id))
        .where(SearchEntry.id.in_(entry_ids))
        .order_by(SearchEntry.id.desc())
    )
    return [
        {
            "conversationId": conversation_id,
            "title": title,
            "agentId": agent_id,
            "messageId": message_id,
            "sessionId": session_id,
            "role": role,
            "snippet": snippet(title if content is None else content, query),
            "createdAt": iso(said_at if said_at is not None else created_at),
            "updatedAt": iso(updated_at),
        }
        for (
            _, conversation_id, title, agent_id, created_at, updated_at, message_id, session_id, role, content, said_at,
        ) in rows
    ]  # fmt: skip


def snippet(text: str, query: str) -> str:
    """The part of *text* around the first word of *query* that stands there as it is, on one line."""
    # Case alone: what is found without its accents gives the beginning of the text.
    lowered = text.lower()
    places = [lowered.find(word) for word in query.lower().split()]
    at = min((place for place in places if place >= 0), default=0)
    start = max(0, at - _SNIPPET_CHARACTERS // 3)
    piece = " ".join(text[start : start + _SNIPPET_CHARACTERS].split())
    return ("…" if start else "") + piece + ("…" if start + _SNIPPET_CHARACTERS < len(text) else "")
