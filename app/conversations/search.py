"""Full text search over messages and titles: FULLTEXT on MariaDB/MySQL, FTS5 on SQLite, with one result on both.

The databases cut text differently (stop words, shortest word, accents, scripts without spaces), so they index words
that are prepared here: lower case, without accents, compatibility forms folded; runs of Chinese, Japanese, Thai and
the like as pairs of neighbouring characters; all of it written in ASCII. A message is found when it has all words of
the query, the last one also as the beginning of a word. Found are words of any length in any script; not found are
punctuation, emoji, the inside of words, and what stands after the first `INDEXED_CHARACTERS` of a message.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import peewee

from app import db
from app.db.cursors import Cursor
from app.db.models import Conversation, Message, SearchEntry
from app.db.paging import Page, cut
from app.db.statements import Insert
from app.db.times import iso

#: Words of a message after this many characters are not indexed.
INDEXED_CHARACTERS = 50_000
#: Longest query, in characters.
MAX_QUERY = 500

# InnoDB passes over words under three characters and its stop words; no word that begins like these is either.
_PLAIN, _CODED = "xx", "yy"
# Its longest word has 84 characters; a coded character takes four.
_PLAIN_CHARACTERS, _CODED_CHARACTERS = 80, 20
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_WORDS_OF_QUERY = 20
_SNIPPET_CHARACTERS = 160
_SNIPPET_FROM = 100_000
_CURSOR = Cursor("q", 1)

# Accents of Latin, Greek and Cyrillic; points of Hebrew and Arabic, which most people don't write.
_ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]")
# Scripts that write without spaces: Thai, Lao, Burmese, Khmer; kana; Han with its extensions.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
# Letters and digits, and the vowel signs of Indian scripts, which are neither.
_RUN = re.compile(f"[{_UNSPACED}]+|(?:[^\\W_{_UNSPACED}]|[\u0900-\u0dff])+")
_STARTS_UNSPACED = re.compile(f"[{_UNSPACED}]")


def words_of(text: str) -> Iterator[str]:
    """The words of *text*, in order and with repetitions."""
    for run in _runs(text):
        if len(run) > 1 and _is_unspaced(run):
            # The last character alone as well: it begins no pair and could not be found.
            yield from (run[index : index + 2] for index in range(len(run)))
        else:
            yield run


def _runs(text: str) -> list[str]:
    if not text.isascii():
        bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
        text = unicodedata.normalize("NFKC", bare)
    found: list[str] = _RUN.findall(text.casefold())
    return found


def _is_unspaced(run: str) -> bool:
    return _STARTS_UNSPACED.match(run) is not None


def _indexed(text: str) -> str:
    return " ".join(dict.fromkeys(map(_ascii, dict.fromkeys(words_of(text[:INDEXED_CHARACTERS])))))


def _ascii(word: str) -> str:
    """*word* as it is indexed: what words begin alike still begins alike."""
    if word.isascii():
        return _PLAIN + word[:_PLAIN_CHARACTERS]
    return _CODED + "".join(map(_code, word[:_CODED_CHARACTERS]))


@cache
def _code(character: str) -> str:
    number, code = ord(character), ""
    for _ in range(4):
        number, digit = divmod(number, len(_DIGITS))
        code = _DIGITS[digit] + code
    return code


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
            _indexed(each.text),
        )
        for each in new
    )


_insert = Insert(
    SearchEntry.owner, SearchEntry.conversation_id, SearchEntry.session_id, SearchEntry.message_id, SearchEntry.words
)


def rename(conversation: Conversation, title: str) -> None:
    """Index another title."""
    SearchEntry.update(words=_indexed(title)).where(_of(conversation) & SearchEntry.message_id.is_null()).execute()


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
    condition = _condition(query)
    if condition is None:
        return Page([], None)
    last = peewee.fn.MAX(SearchEntry.id)
    matches = SearchEntry.select(last.alias("last_match")).where((SearchEntry.owner == owner) & condition)
    grouped = matches.group_by(SearchEntry.conversation_id)
    if before is not None:
        grouped = grouped.having(last < before)
    grouped = grouped.order_by(last.desc()).limit(limit + 1)

    def read() -> Page[dict[str, Any]]:
        found = [entry_id for (entry_id,) in db.tuples(grouped)]
        shown, next_cursor = cut(found, limit, _CURSOR.encode)
        return Page(_results(shown, query), next_cursor)

    return db.reading(read)


def _condition(query: str) -> Any:
    """SQL that holds for entries with all words of *query*; None: it has no words."""
    runs = _runs(query)[:_WORDS_OF_QUERY]
    if not runs:
        return None
    wanted: dict[str, bool] = {}
    for position, run in enumerate(runs, start=1):
        pairs = list(words_of(run))
        if _is_unspaced(run) and len(run) > 1:
            pairs.pop()  # the last character alone: its pair has it already
        for pair in pairs:
            # One character of an unspaced run begins some pair.
            open_end = position == len(runs) if not _is_unspaced(run) else len(run) == 1
            word = _ascii(pair)
            wanted[word] = wanted.get(word, True) and open_end
    if db.is_sqlite():
        matched = " AND ".join(f'"{word}"{"*" if open_end else ""}' for word, open_end in wanted.items())
        ids = peewee.SQL("(SELECT rowid FROM chatSearchWords WHERE chatSearchWords MATCH ?)", (matched,))
        return SearchEntry.id << ids
    matched = " ".join(f"+{word}{'*' if open_end else ''}" for word, open_end in wanted.items())
    return peewee.NodeList((peewee.fn.MATCH(SearchEntry.words), peewee.SQL("AGAINST (%s IN BOOLEAN MODE)", (matched,))))


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
