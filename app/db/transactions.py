"""Transactions: run them, again when others are in the way, and do what belongs before and after their commit."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import peewee

from app.errors import DatabaseBusy

from . import errors as database_errors
from .connection import connected
from .dialect import database, is_sqlite

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: How long a transaction waits for locks of others, all tries together.
_PATIENCE_S = 12.0
#: How long one try waits inside SQLite, where a wait holds up every greenlet of a web process.
_SQLITE_WAIT_MS = 50

#: What the current transaction of this thread or greenlet does before its commit, by what stores it, and after it.
_current = threading.local()


def transaction(work: Callable[[], T], *, patience_s: float = _PATIENCE_S) -> T:
    """Run *work* in one write transaction and return what it returns.

    Deadlocks and lock timeouts run it again, so *work* must build all of its state anew at each call.

    Raises:
        DatabaseBusy: others held its locks for *patience_s*.
        DatabaseUnavailable: no connection; when it broke during COMMIT the transaction may have happened or not.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with _afterwards(), connected(), _write(), _committing():
                return work()
        except (peewee.OperationalError, peewee.InternalError) as error:
            if not database_errors.is_retryable(error):
                raise
            if time.monotonic() > deadline:
                raise DatabaseBusy("the database is busy") from error
            # Jitter, so that two transactions that blocked each other don't do so again.
            time.sleep(random.uniform(0, 0.05))  # noqa: S311 - jitter, no secret


def before_commit(gather: Callable[[], T], store: Callable[[T], None]) -> T:
    """What *store* is given at the end of the current transaction; made by *gather* when it is first asked for.

    For rows that many transactions change: they are locked last, so that others wait for no more than the commit.
    """
    gathered: dict[Callable[[Any], None], Any] = _current.gathered
    if store not in gathered:
        gathered[store] = gather()
    return gathered[store]  # type: ignore[no-any-return]


def after_commit(work: Callable[[], None]) -> None:
    """Call *work* once the current transaction is committed; not at all if it is undone or tried again."""
    _current.after.append(work)


@contextmanager
def _afterwards() -> Iterator[None]:
    if getattr(_current, "after", None) is not None:
        # A transaction within another one: that one commits.
        yield
        return
    after: list[Callable[[], None]] = []
    _current.after = after
    try:
        yield
    finally:
        _current.after = None
    for work in after:
        try:
            work()
        except Exception:
            # It is committed: nothing may look as if it were not.
            logger.exception("what follows a commit failed")


@contextmanager
def _committing() -> Iterator[None]:
    outer = getattr(_current, "gathered", None)
    if outer is not None:
        # A transaction within another one: that one commits.
        yield
        return
    _current.gathered = {}
    try:
        yield
        for store, gathered in _current.gathered.items():
            store(gathered)
    finally:
        _current.gathered = None


def _write() -> Any:
    if is_sqlite():
        database.execute_sql(f"PRAGMA busy_timeout = {_SQLITE_WAIT_MS}")
    return database.atomic()
