"""Erase all that an owner has, in pieces, while everybody else goes on.

From the first moment on nothing new is stored for it (`app.access.erasures`). A request that had begun before may still
commit: passes follow until one that began after the last of these could commit finds nothing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from app import db, sessions
from app.access import erasures, pseudonym, revoke_owner
from app.accounts import ledger
from app.broker.queue import TurnQueue
from app.conversations import search_purge
from app.db.base import Base
from app.db.fields import Owned
from app.db.models import Conversation, Session
from app.errors import DatabaseBusy, NotFound
from app.events import Error
from app.sessions.doorbell import Doorbell

from . import rows

#: What had begun before the erasure has committed by then, and workers have let go of what they ran.
SETTLE_S = 30.0
#: Of the time that passes, one part in this many is spent on deleting.
_SHARE = 3


@dataclass
class Erased:
    """What was erased."""

    #: Rows by table.
    rows: dict[str, int] = field(default_factory=dict)
    #: False: the index of search words still has some; see `search_purge.purge`.
    words_purged: bool = True


def erase(owner: str, secret: str, queue: TurnQueue, doorbell: Doorbell, *, settle_s: float | None = None) -> Erased:
    """Revoke the tokens of *owner*, cancel what runs, and delete its rows, jobs and search words.

    Call it again when it was interrupted.

    Args:
        secret: `CHAT_SECRET`. Rows that outlive their owner name it by a hash under its first key; without one they
            are deleted as well.
        settle_s: Time between the first pass and the next; None: `SETTLE_S`.

    Raises:
        DatabaseBusy: another process erases this owner, or somebody held a row for too long.
        DatabaseUnavailable, QueueUnavailable: what was erased until then stays erased.
    """
    erasure = _Erasure(owner, secret, queue, doorbell)
    erasure.keep()
    if secret:
        revoke_owner(secret, owner)
    with db.connected():
        search_purge.overwrite_deleted()
        erasure.pass_over()
        erasure.wait(SETTLE_S if settle_s is None else settle_s)
        while erasure.pass_over():
            continue
        erasure.forget()
        erasure.erased.words_purged = search_purge.purge(erasure.keep)
    erasures.end(owner, erasure.holder)
    return erasure.erased


class _Erasure:
    def __init__(self, owner: str, secret: str, queue: TurnQueue, doorbell: Doorbell) -> None:
        self.holder = uuid.uuid4().hex
        self._session_ids: set[str] = set()
        self._queue = queue
        self.erased = Erased()
        self._owner = owner
        self._secret = secret
        self._doorbell = doorbell
        self._kept_at = float("-inf")

    def keep(self) -> None:
        """Hold on to the owner; call it at least every `LEASE_S`."""
        if time.monotonic() - self._kept_at < erasures.LEASE_S / 4:
            return
        if not erasures.begin(self._owner, self.holder):
            raise DatabaseBusy("another process is erasing this owner; try again in a minute")
        self._kept_at = time.monotonic()

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            self.keep()

    def pass_over(self) -> int:
        """Delete what there is now; returns how many rows."""
        before = sum(self.erased.rows.values())
        self._cancel()
        for session_ids in rows.sessions(self._owner):
            self._session_ids.update(session_ids)
            for model in rows.tables(Owned.BY_SESSION):
                for some in rows.keys_of_sessions(session_ids, model):
                    self._delete(model, some)
        # Also now: should this process die, nobody knows the ids afterwards.
        self.forget()
        # Sessions and conversations last: until then another try finds what belongs to them.
        last: tuple[type[Base], ...] = (Session, Conversation)
        first = tuple(each for each in rows.tables(Owned.BY_OWNER) if each not in last)
        for model in first + last:
            # One that a request of before has made since is cancelled by the next pass.
            ended = Session.status != "running" if model is Session else None
            for some in rows.keys(self._owner, model, also=ended):
                self._delete(model, some)
        for model in rows.tables(Owned.HASHED):
            for some in rows.keys(self._owner, model):
                self._rename(model, some)
        return sum(self.erased.rows.values()) - before

    def forget(self) -> None:
        """Have Redis forget the sessions that were found."""
        self._queue.forget(self._session_ids)

    def _cancel(self) -> None:
        ended = []
        for row_ids in rows.keys(self._owner, Session, also=Session.status == "running"):
            query = Session.select(Session.session_id).where(Session.id.in_(row_ids))
            for (session_id,) in db.reading(partial(db.tuples, query)):
                self.keep()
                try:
                    ended.append(sessions.end(session_id, Error("cancelled", "its owner is being erased")))
                except NotFound:
                    continue
        # All have ended by now: nothing that waited behind one is rung for.
        for each in ended:
            self._doorbell.ended(each)

    def _delete(self, model: type[Base], some: list[Any]) -> None:
        self._change(model, some, lambda: model.delete().where(rows.having(model, some)).execute())

    def _rename(self, model: Any, some: list[Any]) -> None:
        if not self._secret:
            self._delete(model, some)
            return
        name = pseudonym(self._secret, self._owner)
        self._change(model, some, lambda: ledger.rename(some, name))

    def _change(self, model: type[Base], some: list[Any], work: Callable[[], int]) -> None:
        if not some:
            return
        self.keep()
        started = time.monotonic()
        changed = db.transaction(work)
        table = model._meta.table_name
        self.erased.rows[table] = self.erased.rows.get(table, 0) + changed
        # Leave the database to others.
        time.sleep((time.monotonic() - started) * (_SHARE - 1))
